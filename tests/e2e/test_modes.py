"""Modes and the switch with whole installations: one that observes, one that guards, each with exceptions.

Both run at once. What is excepted in the one is the rule in the other, so that each refusal has its twin. The switch is
turned on the one that guards once its other calls are over, while calls go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.asterisk import LabError, Line
from tests.lab.evidence import prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp(sweep_s=30.0)
"""Longer than the switch is off: what was said when is then plain."""
AGENT_HZ = VOICES[0]
TALK_S = 2.5
LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on this busy machine."""
CLOCK_S = 0.05
"""How far a phone's timeline may be off the clock, its way to Asterisk included."""
SWITCHES_WITHIN_S = 1.0

INBOUND = "contract_evidence.nl.notice.inbound"
OUTBOUND = "contract_evidence.nl.notice.outbound"

PLAIN_DID, OTHER_DID = "31201234100", "31201234103"
SALES_DID, SUPPORT_DID = "31201248001", "31201248002"
DIALPLAN = """
exten => 31201248001,1,Gosub(pbxguard-disclose,s,1(contract_evidence,queue=sales))
 same => n,Queue(sales,tT,,,60)
exten => 31201248002,1,Gosub(pbxguard-disclose,s,1(contract_evidence,queue=support))
 same => n,Queue(support,tT,,,60)
exten => 31201249001,1,Gosub(pbxguard-disclose,s,1(contract_evidence,private=yes))
 same => n,Dial(PJSIP/105,60,tT)
[from-partner]
exten => _31201234XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
[from-desk]
exten => _0X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN}))
 same => n,Dial(PJSIP/${EXTEN}@trunk-b,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
"""
QUEUES = """
[general]
[sales]
strategy=ringall
timeout=20
member => PJSIP/101
[support]
strategy=ringall
timeout=20
member => PJSIP/102
"""
PARTNER = Line("trunk-p", "from-partner", host="127.0.0.7")
DESK = Line("116", "from-desk", password="secret116")


def scopes(mode: str) -> str:
    """One of each kind."""
    places = (f'did = "{OTHER_DID}"', 'queue = "sales"', 'context = "from-partner"', 'context = "from-desk"')
    return "\n".join(f'[[scopes]]\nmode = "{mode}"\n{place}' for place in places)


@dataclass
class Call:
    """One call: both ends, what pbxguard said of it during and after it, and what it kept."""

    number: str
    customer: PhoneCall
    agent: PhoneCall
    live: dict[str, Any] = field(default_factory=dict)
    why: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    async def hang_up(self) -> None:
        await self.customer.hangup()
        await self.agent.ended()

    async def settle(self, site: Installation) -> Call:
        """What pbxguard says and keeps, once it is over."""
        self.why = await site.why(self.number)
        if self.why["ever_recorded"]:
            with contextlib.suppress(LabError):  # the tests of this call say so; those of the others go on
                self.file = await site.sealed(self.number)
        return self


@dataclass
class Office:
    """One installation with a phone on every line of it that is needed here."""

    site: Installation
    carriers: dict[str, Phone]
    agents: dict[str, Phone]

    @classmethod
    async def open(cls, site: Installation, phones: Phones) -> Office:
        a = site.asterisk

        async def carrier(line: str) -> Phone:
            return await phones.add(a.line(line), sends=CUSTOMER, on_incoming=Answer(0.3))

        async def agent(line: str) -> Phone:
            return await phones.add(a.line(line), sends=Tone(AGENT_HZ), on_incoming=Answer(0.3))

        lines = ("100", "101", "102", "103", "104", "105", DESK.name)
        outside = await asyncio.gather(*(carrier(line) for line in ("trunk-a", "trunk-b", "trunk-c", PARTNER.name)))
        inside = await asyncio.gather(*(agent(line) for line in lines))
        return cls(site, {phone.line.name: phone for phone in outside}, {phone.line.name: phone for phone in inside})

    async def inbound(self, number: str, to: str, agent: str, carrier: str = "trunk-a") -> Call:
        """A customer calls and is answered."""
        customer = await self.carriers[carrier].call(to, caller_id=number)
        answered = await self.agents[agent].incoming(number=number, deadline_s=30)
        await answered.answered()
        return Call(number, customer, answered)

    async def outbound(self, number: str, agent: str) -> Call:
        """An agent calls a customer, who answers."""
        carrier = self.carriers["trunk-b"]
        so_far = len([call for call in carrier.calls if not call.outgoing])
        call = await self.agents[agent].call(f"0{number.removeprefix('+31')}")
        customer = await carrier.incoming(after=so_far, deadline_s=30)
        await call.answered(deadline_s=30)
        return Call(number, customer, call)

    async def talked(self, call: Call) -> Call:
        """They talk, while we ask what is said of it, and hang up."""
        await call.customer.talk(TALK_S)
        live = (await self.site.ask("/calls"))["calls"]
        call.live = next(row for row in live if row["external_number"] == call.number)
        await call.hang_up()
        return await call.settle(self.site)

    async def everything(self) -> dict[str, Call]:
        """One call to each kind of place, at once."""
        started = {
            "plain": self.inbound("+31612350001", PLAIN_DID, "100"),
            "did": self.inbound("+31612350002", OTHER_DID, "103"),
            "sales queue": self.inbound("+31612350003", SALES_DID, "101"),
            "support queue": self.inbound("+31612350004", SUPPORT_DID, "102"),
            "context": self.inbound("+31612350005", "31201234104", "104", PARTNER.name),
            "desk": self.outbound("+31201115501", DESK.name),
            "private": self.inbound("+31612350006", "31201249001", "105", "trunk-c"),
        }

        async def whole(call: Any) -> Call:
            return await self.talked(await call)

        return dict(zip(started, await asyncio.gather(*map(whole, started.values())), strict=True))


EXCEPTED = ("did", "sales queue", "context", "desk")
ORDINARY = ("plain", "support queue")


@dataclass
class Switched:
    """What happened around the switch. Moments are `time.monotonic` seconds."""

    moments: dict[str, float]
    calls: dict[str, Call]


@dataclass
class Day:
    observing: dict[str, Call]
    guarding: dict[str, Call]
    switched: Switched
    observer: Installation
    guard: Installation
    line: str
    """What the command line says of the ordinary call of the installation that observes."""


async def switch(office: Office) -> Switched:
    """Off and on by pbxguard's command, then by Asterisk's own, with calls before, between and after."""
    site, moments = office.site, {}

    async def turn(name: str, *words: str) -> None:
        moments[f"{name} asked"] = time.monotonic()
        if words:
            await site.asterisk.cli(" ".join(words))
        else:
            await site.run(name.split()[0])
        moments[name] = time.monotonic()

    async def recorded(*calls: Call) -> None:
        await asyncio.gather(*(until_recorded(site, call.number) for call in calls))

    before, dialled = await asyncio.gather(
        office.inbound("+31612360001", PLAIN_DID, "100"), office.outbound("+31201116601", "105")
    )
    await recorded(before, dialled)
    await before.customer.talk(TALK_S)
    await turn("off")
    during, dialled_during = await asyncio.gather(
        office.inbound("+31612360002", "31201234104", "104"), office.outbound("+31201116602", "103")
    )
    await during.customer.talk(TALK_S)
    await dialled_during.hang_up()
    await dialled.hang_up()
    await turn("on")
    after = await office.inbound("+31612360003", SUPPORT_DID, "102")
    await recorded(after, before)
    await after.customer.talk(TALK_S)
    during.live = await until_recorded(site, during.number, on=False)
    await turn("off by Asterisk", "dialplan", "set", "global", "PBXGUARD", "off")
    last = await office.inbound("+31612360004", "31201234105", "105")
    await last.customer.talk(TALK_S)
    await asyncio.gather(*(call.hang_up() for call in (before, during, after, last)))
    await turn("on by Asterisk", "dialplan", "set", "global", "PBXGUARD", "on")
    again = await office.talked(await office.inbound("+31612360005", PLAIN_DID, "100"))
    calls = {
        "before": before,
        "dialled": dialled,
        "during": during,
        "dialled during": dialled_during,
        "after": after,
        "last": last,
    }
    await asyncio.gather(*(call.settle(site) for call in calls.values()))
    return Switched(moments, {**calls, "again": again})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def day(tree: asterisk_tree.Tree) -> AsyncIterator[Day]:
    async with AsyncExitStack() as stack:

        async def install(mode: str, other: str) -> Installation:
            return await stack.enter_async_context(
                Installation(
                    mode=mode,
                    settings=scopes(other),
                    dialplan=DIALPLAN,
                    queues=QUEUES,
                    extra_lines=[PARTNER, DESK],
                )
            )

        observer, guard = await asyncio.gather(install("observe", "guard"), install("guard", "observe"))
        phones = await stack.enter_async_context(Phones())
        offices = await asyncio.gather(Office.open(observer, phones), Office.open(guard, phones))
        observing, guarding = await asyncio.gather(*(office.everything() for office in offices))
        line = (await observer.run("why", observing["plain"].number)).out
        yield Day(observing, guarding, await switch(offices[1]), observer, guard, line)


def untold(call: Call, sound: Path, heard: Any) -> None:
    assert measure.prompt_heard(heard, sound) is None, call.number


async def assert_recorded(call: Call, site: Installation, disclosure: str) -> None:
    heard, said = await measure.pair(call.customer)
    disclosed = measure.prompt_end(heard, prompt(site, disclosure))
    assert call.file is not None
    file = measure.recorded(call.file, said, CUSTOMER)
    assert file.first_s > disclosed
    assert file.seconds > TALK_S - LOST_S
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}


async def assert_left_alone(call: Call, site: Installation, disclosure: str) -> None:
    heard, _ = await measure.pair(call.customer)
    untold(call, prompt(site, disclosure), heard)
    measure.first_heard(heard, AGENT_HZ)  # the two did talk
    assert set(call.why["reasons"]) == {"observe_mode", "not_told"}
    assert call.why["would_record"]
    assert call.live["would_record"]
    assert not call.live["recorded"]
    assert not call.why["ever_recorded"]
    assert site.files(call.number) == []


@pytest.mark.parametrize("place", ORDINARY)
async def test_who_observes_plays_and_records_nothing_and_says_what_it_would_have_done(place: str, day: Day) -> None:
    await assert_left_alone(day.observing[place], day.observer, INBOUND)


@pytest.mark.parametrize("place", ORDINARY)
async def test_its_twin_where_pbxguard_guards_is_told_and_recorded(place: str, day: Day) -> None:
    await assert_recorded(day.guarding[place], day.guard, INBOUND)


@pytest.mark.parametrize("place", EXCEPTED)
async def test_one_did_queue_or_context_is_guarded_while_all_else_is_observed(place: str, day: Day) -> None:
    await assert_recorded(day.observing[place], day.observer, OUTBOUND if place == "desk" else INBOUND)


@pytest.mark.parametrize("place", EXCEPTED)
async def test_one_did_queue_or_context_is_observed_while_all_else_is_guarded(place: str, day: Day) -> None:
    await assert_left_alone(day.guarding[place], day.guard, OUTBOUND if place == "desk" else INBOUND)


async def test_who_observes_would_not_have_recorded_a_private_call(day: Day) -> None:
    why = day.observing["private"].why
    assert set(why["reasons"]) == {"observe_mode", "marked_private", "not_told"}
    assert not why["would_record"]


async def test_the_command_line_says_what_would_have_been_recorded(day: Day) -> None:
    assert "would be recorded" in day.line


async def test_nothing_is_in_the_spool_and_no_file_too_many_in_the_archive(day: Day) -> None:
    assert day.observer.leftovers() == []
    kept = {day.observing[place].file for place in EXCEPTED}
    assert set(day.observer.archive.rglob("*.flac")) == kept


# -- the switch


async def said_in(call: Call) -> list[tuple[float, float]]:
    """From when to when the customer said what is in the file; `time.monotonic` seconds."""
    assert call.file is not None
    said = await call.customer.said()
    _, others = checker.read(call.file)
    sent = checker.chirp_stretches(measure.track(said), CUSTOMER)[0]
    found: list[tuple[float, float]] = []
    last, last_said = said.began + sent.start_s, sent.first_said_s
    for stretch in checker.chirp_stretches(others, CUSTOMER):
        first = last + (stretch.first_said_s - last_said) % CUSTOMER.sweep_s
        last, last_said = first + stretch.end_s - stretch.start_s, stretch.last_said_s
        found.append((first, last))
    return found


async def test_off_ends_running_recordings_before_the_command_returns(day: Day) -> None:
    moments, calls = day.switched.moments, day.switched.calls
    for name in ("before", "dialled"):
        first, *_ = await said_in(calls[name])
        assert first[0] < moments["off asked"]
        assert moments["off asked"] - LOST_S < first[1] < moments["off"] + CLOCK_S
    (only,) = await said_in(calls["dialled"])
    assert only[1] < moments["off"] + CLOCK_S


async def test_on_lets_a_call_that_was_told_be_recorded_again_and_not_in_between(day: Day) -> None:
    moments = day.switched.moments
    first, second = await said_in(day.switched.calls["before"])
    assert first[1] < moments["off"] + CLOCK_S
    assert moments["on asked"] - CLOCK_S < second[0] < moments["on"] + SWITCHES_WITHIN_S
    assert second[1] < moments["off by Asterisk"] + CLOCK_S


@pytest.mark.parametrize(
    ("name", "disclosure", "reasons"),
    [
        ("during", INBOUND, {"switched_off", "no_purpose"}),
        ("dialled during", OUTBOUND, {"switched_off", "no_purpose"}),
        ("last", INBOUND, {"switched_off", "no_purpose"}),
    ],
)
async def test_a_call_while_it_is_off_is_told_nothing_and_not_recorded(
    name: str, disclosure: str, reasons: set[str], day: Day
) -> None:
    call = day.switched.calls[name]
    heard, _ = await measure.pair(call.customer)
    untold(call, prompt(day.guard, disclosure), heard)
    measure.first_heard(heard, AGENT_HZ)
    assert set(call.why["reasons"]) == reasons
    assert not call.why["ever_recorded"]
    assert day.guard.files(call.number) == []


async def test_calls_after_on_are_told_and_recorded(day: Day) -> None:
    await assert_recorded(day.switched.calls["after"], day.guard, INBOUND)
    await assert_recorded(day.switched.calls["again"], day.guard, INBOUND)


async def test_asterisks_own_command_line_switches_off_too(day: Day) -> None:
    moments = day.switched.moments
    (only,) = await said_in(day.switched.calls["after"])
    assert moments["off by Asterisk asked"] - LOST_S < only[1] < moments["off by Asterisk"] + CLOCK_S
