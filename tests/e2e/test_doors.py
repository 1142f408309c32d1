"""The two doors on a real Asterisk: what the phones hear, and what becomes known of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from pbxguard.core.facts import (
    BeatReturned,
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    Objected,
)
from pbxguard.core.ids import PurposeName
from pbxguard.core.memory import Notes
from pbxguard.core.policy import GuardMode, Limits, Policy
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, Purpose
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry
from pbxguard.pbx.agi.server import AgiServer
from pbxguard.pbx.ami.ami import Ami
from pbxguard.pbx.ari.announcer import Announcer
from pbxguard.pbx.ari.connection import AriAddress
from pbxguard.pbx.ari.counters import Counters
from pbxguard.service.clock import SystemClock
from pbxguard.service.doors import CalleeDoor, CallerDoor, Heartbeats, Surroundings
from tests.e2e.conftest import AddPhone
from tests.lab import asterisk_tree, checker
from tests.lab.ami import Ami as LabAmi
from tests.lab.ami import connect
from tests.lab.asterisk import Asterisk
from tests.lab.phone import PhoneCall, Ring
from tests.lab.signals import Tone, write_wav

NOTICE_HZ, KEY_HZ = 700.0, 1100.0
NOTICE_S, KEY_S = 2.0, 1.0
AGENT_HZ, CUSTOMER_HZ = 1900.0, 2300.0
PROOF, TRAINING, CONSENT = (PurposeName(n) for n in ("contract_evidence", "quality_training", "complaint_handling"))
REPO = Path(__file__).resolve().parents[2]

DIALPLAN = f"""\
#include "{REPO}/dialplan/pbxguard.conf"
[from-trunk]
exten => proof,1,Gosub(pbxguard-disclose,s,1(contract_evidence,language=nl,reference=K-1))
 same => n,Goto(ring,1)
exten => training,1,Gosub(pbxguard-disclose,s,1(quality_training,language=nl))
 same => n,Goto(ring,1)
exten => consent,1,Gosub(pbxguard-disclose,s,1(complaint_handling,language=nl))
 same => n,Goto(ring,1)
exten => private,1,Gosub(pbxguard-disclose,s,1(contract_evidence,private=yes))
 same => n,Goto(ring,1)
exten => limited,1,Set(TIMEOUT(absolute)=60)
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Goto(ring,1)
exten => forwarded,1,Dial(Local/proof@from-trunk/n,20)
 same => n,Hangup()
exten => ring,1,Set(left=${{TIMEOUT(absolute)}})
 same => n,UserEvent(LabResult,Result: ${{PBXGUARD_RESULT}},Reason: ${{PBXGUARD_REASON}},Left: ${{left}})
 same => n,Dial(PJSIP/100,20)
 same => n,Hangup()
[internal]
exten => _0X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${{EXTEN}},language=nl))
 same => n,UserEvent(LabResult,Result: ${{PBXGUARD_RESULT}},Reason: ${{PBXGUARD_REASON}},Left: 0)
 same => n,Dial(PJSIP/${{EXTEN}}@trunk-b,20,U(pbxguard-callee^${{PBXGUARD_PROMPT}}^lab-next^7))
 same => n,Hangup()
exten => _8X.,1,Gosub(pbxguard-outbound,s,1(complaint_handling,${{EXTEN}},language=nl))
 same => n,Dial(PJSIP/${{EXTEN}}@trunk-b,20,U(pbxguard-callee^${{PBXGUARD_PROMPT}}))
 same => n,Hangup()
exten => _7X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${{EXTEN}},language=nl))
 same => n,Dial(Local/${{EXTEN}}@lab-out/n,20,U(pbxguard-callee^${{PBXGUARD_PROMPT}}))
 same => n,Hangup()
[lab-out]
exten => _X.,1,Dial(PJSIP/${{EXTEN}}@trunk-b,20)
[lab-next]
exten => s,1,UserEvent(LabNext,Argument: ${{ARG1}})
 same => n,Return()
"""


def disclosures(sounds: Path) -> dict[DisclosureKey, Disclosure]:
    made: dict[DisclosureKey, Disclosure] = {}
    for purpose, mode in ((PROOF, Mode.NOTICE), (TRAINING, Mode.OPT_OUT), (CONSENT, Mode.OPT_IN)):
        for direction in Direction:
            key = DisclosureKey.of((purpose,), "nl", mode, direction)
            asks = mode is not Mode.NOTICE
            made[key] = Disclosure(
                key,
                "text",
                "digest",
                f"{sounds}/notice",
                int(NOTICE_S * 1000),
                f"{sounds}/key" if asks else "",
                int(KEY_S * 1000) if asks else 0,
            )
    return made


@dataclass
class Known:
    """What the core and the audit log were told, in one order."""

    facts: list[Fact] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)
    listener: Callable[[Fact], None] | None = None

    async def put(self, fact: Fact) -> None:
        if not isinstance(fact, BeatReturned):
            self.facts.append(fact)
        if self.listener is not None:
            self.listener(fact)

    async def commit(self, *entries: AuditEntry) -> None:
        self.entries += entries

    async def until(self, kind: type, deadline_s: float = 10.0) -> Fact:
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            for fact in self.facts:
                if isinstance(fact, kind):
                    return fact
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {kind.__name__} in {deadline_s} s")

    def of(self, kind: type) -> list[Fact]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def clear(self) -> None:
        self.facts.clear()
        self.entries.clear()


@dataclass
class Doors:
    """Both doors, as the service will wire them, on an Asterisk of their own."""

    asterisk: Asterisk
    lab: LabAmi
    known: Known
    announcer: Announcer

    async def result(self, since: int) -> tuple[str, str, float]:
        """(PBXGUARD_RESULT, PBXGUARD_REASON, time-out left) as the dialplan sees them afterwards."""
        event = await self.lab.event("UserEvent", lambda e: e["UserEvent"] == "LabResult", since=since)
        return event["Result"], event.get("Reason", ""), float(event["Left"])

    def now(self) -> int:
        """Mark for `result(since)`: forget what was known before."""
        self.known.clear()
        return len(self.lab.events)


@asynccontextmanager
async def running_doors() -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:
        asterisk = await stack.enter_async_context(Asterisk(dialplan=DIALPLAN))
        lab = await stack.enter_async_context(connect(asterisk))
        for name, hertz, seconds in (("notice", NOTICE_HZ, NOTICE_S), ("key", KEY_HZ, KEY_S)):
            samples = Tone(hertz).samples(8000)[: int(8000 * seconds)]
            write_wav(Path(asterisk.sounds) / f"{name}.wav", samples, 8000)
        known, clock = Known(), SystemClock()
        policy = Policy(
            "Acme",
            mode=GuardMode.GUARD,
            purposes={name: Purpose(name, Basis.LEGITIMATE_INTEREST, active=True) for name in (PROOF, TRAINING)}
            | {CONSENT: Purpose(CONSENT, Basis.CONSENT, active=True)},
            disclosures=disclosures(Path(asterisk.sounds)),
            limits=Limits(key_wait=2.0),
        )
        around = Surroundings(
            policy=lambda: policy,
            closed=lambda: (),
            notes=lambda channel: Notes(),
            place=lambda channel: None,
            deaf=lambda channel: None,
            facts=known,
            audit=known,  # type: ignore[arg-type]  # writes only
            clock=clock,
            boot=lambda: "boot",
        )
        address = AriAddress(asterisk.ari_url, asterisk.ari_user, asterisk.ari_password)
        announcer = Announcer(address, CallerDoor(around))
        callee = CalleeDoor(around, Counters(announcer.connection).sent)
        agi = AgiServer({"outbound": lambda session: callee.answer(session)})
        ami = Ami(
            host="127.0.0.1",
            port=asterisk.ami_port,
            username=asterisk.ami_user,
            secret=asterisk.ami_secret,
            sink=known,
            clock=clock,
        )
        known.listener = callee.observe
        beats = Heartbeats(
            ami.pbx,
            clock,
            {"PBXGUARD_ALIVE_ARI": announcer.connection.round_trip, "PBXGUARD_ALIVE_AGI": agi.answers},
        )
        await asterisk.cli(f"dialplan set global PBXGUARD_AGI 127.0.0.1:{asterisk.agi_port}")
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [
            group.create_task(work)
            for work in (
                announcer.run(),
                callee.run(),
                agi.run(port=asterisk.agi_port),
                ami.run(),
                beats.run(),
            )
        ]
        stack.callback(lambda: [task.cancel() for task in tasks])
        async with asyncio.timeout(10):
            for variable in ("PBXGUARD_ALIVE_ARI", "PBXGUARD_ALIVE_AGI"):
                while f"{variable}=" not in await asterisk.cli("dialplan show globals"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        yield Doors(asterisk, lab, known, announcer)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doors(tree: asterisk_tree.Tree) -> AsyncIterator[Doors]:
    async with running_doors() as running:
        yield running


def one(found: list[checker.Span]) -> checker.Span:
    assert len(found) == 1, found
    return found[0]


def tones(track: checker.Track, hertz: float) -> list[checker.Span]:
    """Where the tone lasts; the click at the edge of another sound is none."""
    return [span for span in checker.spans(track, hertz) if span.seconds > 0.1]


async def heard(call: PhoneCall) -> checker.Track:
    recorded = await call.heard()
    return checker.Track(recorded.samples, recorded.rate)


async def customer_calls(doors: Doors, add_phone: AddPhone, number: str) -> tuple[PhoneCall, PhoneCall | None]:
    """The customer dials, and hears what there is to hear; the agent's call once he answered."""
    agent = await add_phone(doors.asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call(number, caller_id="+31612345678")
    return call, await agent.incoming()


async def test_the_caller_hears_the_notice_whole_and_then_the_agent(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "proof")
    await call.talk(1.5)
    await call.hangup()
    track = await heard(call)
    notice = one(tones(track, NOTICE_HZ))
    assert notice.seconds > NOTICE_S - 0.1
    assert tones(track, AGENT_HZ)[0].start_s > notice.end_s
    assert (await doors.result(mark))[:2] == ("DISCLOSED", "")
    told = await doors.known.until(DisclosureHeard)
    assert isinstance(told, DisclosureHeard)
    assert told.disclosure.purposes == (PROOF,)
    asked = doors.known.of(DisclosureRequested)[0]
    assert isinstance(asked, DisclosureRequested)
    assert (asked.purposes, asked.reference) == ((PROOF,), "K-1")
    assert [e.kind for e in doors.known.entries if e.kind == "disclosure.heard"] == ["disclosure.heard"]


async def test_a_nine_stops_the_notice_at_once_and_the_call_goes_on(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    agent = await add_phone(doors.asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call("training", caller_id="+31612345678")
    await call.answered()
    await call.talk(1.4)
    await call.dtmf("9")
    await agent.incoming()
    await call.talk(0.5)
    await call.hangup()
    assert (await doors.result(mark))[0] == "OBJECTED"
    assert one(tones(await heard(call), NOTICE_HZ)).seconds < NOTICE_S - 0.3
    assert doors.known.of(Objected)
    assert not doors.known.of(DisclosureHeard)


async def test_after_an_opt_out_without_a_key_the_caller_is_told(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "training")
    await call.hangup()
    assert (await doors.result(mark))[:2] == ("DISCLOSED", "")
    assert one(tones(await heard(call), KEY_HZ)).seconds > KEY_S - 0.1
    await doors.known.until(DisclosureHeard)
    assert not doors.known.of(Consented)


async def test_a_one_after_an_opt_in_is_consent_and_ends_the_wait(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    agent = await add_phone(doors.asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call("consent", caller_id="+31612345678")
    await call.answered()
    await call.talk(4.0)
    await call.dtmf("1")
    await agent.incoming()
    await call.hangup()
    assert (await doors.result(mark))[:2] == ("CONSENTED", "")
    await doors.known.until(Consented)


async def test_a_caller_who_hangs_up_in_the_middle_is_untold(doors: Doors, add_phone: AddPhone) -> None:
    doors.now()
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call("proof", caller_id="+31612345678")
    await call.answered()
    await call.talk(1.2)
    await call.hangup()
    untold = await doors.known.until(DisclosureNotHeard)
    assert isinstance(untold, DisclosureNotHeard)
    assert untold.reason == Reason.PROMPT_CHANNEL_GONE.value
    assert not doors.known.of(DisclosureHeard)


async def test_a_caller_on_hold_is_untold_and_his_call_goes_on(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    agent = await add_phone(doors.asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call("proof", caller_id="+31612345678")
    await call.answered()
    await call.talk(1.0)
    await call.hold()
    await agent.incoming()
    await call.hangup()
    assert (await doors.result(mark))[:2] == ("FAILED", "prompt_on_hold")


async def test_a_private_call_is_told_nothing(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "private")
    await call.hangup()
    assert (await doors.result(mark))[:2] == ("REFUSED", "marked_private")


async def test_an_earlier_time_out_goes_on_less_the_time_that_passed(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "limited")
    await call.hangup()
    result, _, left = await doors.result(mark)
    assert result == "DISCLOSED"
    assert 52 < left < 58.5


async def test_between_the_notice_and_ringing_there_are_less_than_300_ms(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "proof")
    await call.hangup()
    await doors.result(mark)
    finished = await doors.lab.event("DialBegin", since=mark)
    told = await doors.known.until(DisclosureHeard)
    assert isinstance(told, DisclosureHeard)
    ended = datetime.fromisoformat(told.ended_utc)
    rang = datetime.fromtimestamp(float(finished["Timestamp"]), UTC)
    assert (rang - ended).total_seconds() < 0.3


async def test_the_caller_hears_ringing_within_300_ms_of_the_notice(doors: Doors, add_phone: AddPhone) -> None:
    agent = await add_phone(doors.asterisk.line("100"), sends=Tone(AGENT_HZ), on_incoming=Ring())
    customer = await add_phone(doors.asterisk.line("trunk-a"), sends=Tone(CUSTOMER_HZ))
    call = await customer.call("proof", caller_id="+31612345678")
    await agent.incoming()
    await call.talk(1.0)
    await call.hangup()
    track = await heard(call)
    notice = one(tones(track, NOTICE_HZ))
    ringing = next(span for span in checker.sounds(track) if span.end_s > notice.end_s + 0.3)
    assert ringing.start_s < notice.end_s + 0.3


async def test_half_a_local_channel_is_told_nothing(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    call, _ = await customer_calls(doors, add_phone, "forwarded")
    await call.talk(0.5)
    await call.hangup()
    assert (await doors.result(mark))[:2] == ("FAILED", "prompt_unsent")
    assert not tones(await heard(call), NOTICE_HZ)
    mark = doors.now()
    agent = await add_phone(doors.asterisk.line("101"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-b"), sends=Tone(CUSTOMER_HZ))
    outbound = await agent.call("7612345678")
    answered = await customer.incoming()
    await outbound.answered()
    await outbound.talk(0.5)
    await outbound.hangup()
    await answered.ended()
    assert not tones(await heard(answered), NOTICE_HZ)
    assert not doors.known.of(DisclosureHeard)


async def test_the_switch_bypasses_the_doors(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    await doors.asterisk.cli("dialplan set global PBXGUARD off")
    try:
        call, _ = await customer_calls(doors, add_phone, "proof")
        await call.hangup()
        assert (await doors.result(mark))[:2] == ("OFF", "switched_off")
        assert not doors.known.of(DisclosureRequested)
    finally:
        await doors.asterisk.cli("dialplan set global PBXGUARD on")


async def test_the_callee_hears_the_notice_before_the_agent(doors: Doors, add_phone: AddPhone) -> None:
    mark = doors.now()
    agent = await add_phone(doors.asterisk.line("101"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-b"), sends=Tone(CUSTOMER_HZ))
    call = await agent.call("0612345678")
    answered = await customer.incoming()
    await call.answered()
    await call.talk(1.0)
    await call.hangup()
    await answered.ended()
    track = await heard(answered)
    notice = one(tones(track, NOTICE_HZ))
    assert notice.seconds > NOTICE_S - 0.1
    assert tones(track, AGENT_HZ)[0].start_s > notice.end_s
    assert not tones(await heard(call), NOTICE_HZ), "the agent hears ringing, not the notice"
    told = await doors.known.until(DisclosureHeard)
    assert isinstance(told, DisclosureHeard)
    assert told.disclosure.direction_name == "outbound"
    asked = doors.known.of(DisclosureRequested)[0]
    assert isinstance(asked, DisclosureRequested)
    assert asked.for_callee
    assert asked.channel != told.channel
    chained = await doors.lab.event("UserEvent", lambda e: e["UserEvent"] == "LabNext", since=mark)
    assert chained["Argument"] == "7"


async def test_a_callee_who_presses_nine_in_the_key_sentence_objected(doors: Doors, add_phone: AddPhone) -> None:
    doors.now()
    agent = await add_phone(doors.asterisk.line("102"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-b"), sends=Tone(CUSTOMER_HZ))
    call = await agent.call("8612345678")
    answered = await customer.incoming()
    await answered.answered()
    await answered.talk(NOTICE_S + 1.0)
    await answered.dtmf("9")
    await call.answered()
    await call.hangup()
    await doors.known.until(Objected)
    assert not doors.known.of(DisclosureHeard)


async def test_a_callee_who_presses_one_after_the_notice_consented(doors: Doors, add_phone: AddPhone) -> None:
    doors.now()
    agent = await add_phone(doors.asterisk.line("102"), sends=Tone(AGENT_HZ))
    customer = await add_phone(doors.asterisk.line("trunk-b"), sends=Tone(CUSTOMER_HZ))
    call = await agent.call("8612345678")
    answered = await customer.incoming()
    await answered.answered()
    await answered.talk(NOTICE_S + 1.0)
    await answered.dtmf("1")
    await call.answered()
    await call.hangup()
    await doors.known.until(Consented)
    assert doors.known.of(DisclosureHeard)
