"""The caller's door with a whole installation: modes, keys, purposes, refusals, and what the caller hears of them.

Every refusal has its whole set of reasons, and a twin: the call in `RECORDED` that differs by that one thing. The calls
overlap; then the settings are mended, pbxguard starts anew, and what was refused by them is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.asterisk import LabError
from tests.lab.evidence import manifest, prompt
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones
from tests.lab.signals import MUSIC_HZ, VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
TALK_S = 2.5
LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on this busy machine."""
KEY_WAIT_S = 3.0
RINGS_WITHIN_S = 0.3
"""From the end of the disclosure and the key wait to ringing or queue music."""
KEY_TONE_S = 0.2
"""How long a phone sends a key; Asterisk tells of it at its end."""
BETWEEN_CALLS_S = 0.35

EVIDENCE = "contract_evidence.nl.notice.inbound"
EVIDENCE_OPT_IN = "contract_evidence.nl.opt_in.inbound"
TRAINING = "quality_training.nl.opt_out.inbound"
BOTH = "contract_evidence+quality_training.en.opt_out.inbound"
COMPLAINT = "complaint_handling.nl.notice.inbound"
COMPLAINT_EN = "complaint_handling.en.notice.inbound"
LESSONS = "lessons.nl.notice.inbound"

TO_EVIDENCE, TO_TRAINING, TO_BOTH, TO_PRIVATE, NO_DOOR = "31201234", "31201235", "31201236", "31201237", "31201238"
TO_UNKNOWN, TO_LESSONS, TO_COMPLAINT, TO_COMPLAINT_EN, TO_FRENCH, TO_QUEUE = (f"3120124{n}" for n in range(6))
TO_MENU, MENU_S = "31201246", 2.0
DIALPLAN = """
exten => _31201240XXX,1,Gosub(pbxguard-disclose,s,1(servicedoeleinden))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => _31201241XXX,1,Gosub(pbxguard-disclose,s,1(lessons))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => _31201242XXX,1,Gosub(pbxguard-disclose,s,1(complaint_handling))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => _31201243XXX,1,Gosub(pbxguard-disclose,s,1(complaint_handling,language=en))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => _31201244XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence,language=fr))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => _31201245XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(sales,tT,,,60)
; as behind a menu, in which the caller may press hold
exten => _31201246XXX,1,Answer()
 same => n,Wait(2)
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
"""
SETTINGS = f"""
[never_record]
numbers = ["+31612340666"]

[limits]
key_wait = {KEY_WAIT_S}

[purposes.lessons]
active = false
basis = "f"
texts.nl = "{{org}} neemt dit gesprek op om ervan te leren."
texts.en = "{{org}} records this call to learn from it."
"""
AGENTS = ("100", "103", "104", "105", "106", "107", "108", "109")
QUEUE_AGENT = "101"
CARRIERS = 3


@dataclass
class Call:
    """One call of the plan: where it goes, who calls, what he does at the door; then what came of it.

    `why` is what pbxguard says of it after its end, `pressed` where on the caller's timeline he pressed each key.
    """

    to: str
    caller: str
    at_the_door: Callable[[Call, Installation, PhoneCall], Awaitable[None]] | None = None
    why: dict[str, Any] = field(default_factory=dict)
    keys: list[tuple[str, float]] = field(default_factory=list)
    customer: PhoneCall | None = None
    file: Path | None = None

    async def heard(self) -> Heard:
        assert self.customer is not None
        return await self.customer.heard()

    async def said(self) -> Heard:
        assert self.customer is not None
        return await self.customer.said()

    async def pressed(self) -> float:
        """Where the (last) key was pressed, on the caller's timeline."""
        return self.keys[-1][1] - (await self.heard()).began

    async def press(self, digit: str) -> None:
        assert self.customer is not None
        self.keys.append((digit, time.monotonic()))
        await self.customer.dtmf(digit)


def seconds(site: Installation, disclosure: str) -> float:
    """Of the whole disclosure, the key sentence included."""
    parts = ["notice"] if ".notice." in disclosure else ["notice", "key"]
    return sum(checker.read(prompt(site, disclosure, part))[0].seconds for part in parts)


def presses(digit: str, *, after_s: float) -> Callable[[Call, Installation, PhoneCall], Awaitable[None]]:
    """So long after the answer; the disclosure begins about 0.4 s after it."""

    async def act(call: Call, site: Installation, customer: PhoneCall) -> None:
        await customer.talk(after_s)
        await call.press(digit)

    return act


def presses_afterwards(digit: str, disclosure: str) -> Callable[[Call, Installation, PhoneCall], Awaitable[None]]:
    """In the midst of the key wait."""

    async def act(call: Call, site: Installation, customer: PhoneCall) -> None:
        await customer.talk(seconds(site, disclosure) + 0.4 + KEY_WAIT_S / 3)
        await call.press(digit)

    return act


async def objects_in_the_key_sentence(call: Call, site: Installation, customer: PhoneCall) -> None:
    await customer.talk(checker.read(prompt(site, TRAINING))[0].seconds + 0.4 + 0.8)
    await call.press("9")


async def holds(call: Call, site: Installation, customer: PhoneCall) -> None:
    """Puts us on hold in the midst of the disclosure, and comes back after a while."""
    await customer.talk(1.5)
    await customer.hold()
    await customer.talk(1.5)
    await customer.unhold()


async def holds_in_the_menu(call: Call, site: Installation, customer: PhoneCall) -> None:
    """Puts us on hold before he comes to the door, and comes back when the agent has answered."""
    await customer.hold()
    await customer.talk(MENU_S + 2.0)
    await customer.unhold()


async def comes_back_in_the_menu(call: Call, site: Installation, customer: PhoneCall) -> None:
    await customer.hold()
    await customer.talk(0.3)
    await customer.unhold()


async def agrees_and_holds(call: Call, site: Installation, customer: PhoneCall) -> None:
    await customer.talk(1.5)
    await call.press("1")
    await customer.talk(0.5)
    await customer.hold()
    await customer.talk(1.5)
    await customer.unhold()


def plan() -> dict[str, Call]:
    """Every call, by name; those with two keys of four seconds and more come first, since they last longest."""
    german = "+491511234"
    return {
        "opt_in, no key": Call(TO_EVIDENCE, f"{german}5001"),
        "opt_in, 1 afterwards": Call(TO_EVIDENCE, f"{german}5002", presses_afterwards("1", EVIDENCE_OPT_IN)),
        "opt_in, 9 afterwards": Call(TO_EVIDENCE, f"{german}5003", presses_afterwards("9", EVIDENCE_OPT_IN)),
        "opt_in, 1 early": Call(TO_EVIDENCE, f"{german}5004", presses("1", after_s=2.0)),
        "opt_in, 1 early, cut": Call(TO_EVIDENCE, f"{german}5005", agrees_and_holds),
        "opt_out, no key": Call(TO_TRAINING, "+31612340101"),
        "opt_out, 9 afterwards": Call(TO_TRAINING, "+31612340102", presses_afterwards("9", TRAINING)),
        "opt_out, 9 early": Call(TO_TRAINING, "+31612340103", presses("9", after_s=2.0)),
        "opt_out, 9 in the key sentence": Call(TO_TRAINING, "+31612340104", objects_in_the_key_sentence),
        "both, no key": Call(TO_BOTH, "+31612340111"),
        "both, 9 afterwards": Call(TO_BOTH, "+31612340112", presses_afterwards("9", BOTH)),
        "withheld, no key": Call(TO_EVIDENCE, "anonymous"),
        "withheld, 1": Call(TO_EVIDENCE, "anonymous", presses_afterwards("1", EVIDENCE_OPT_IN)),
        "queue": Call(TO_QUEUE, "+31612340120"),
        "notice": Call(TO_EVIDENCE, "+31612340121"),
        "notice, 9 early": Call(TO_EVIDENCE, "+31612340122", presses("9", after_s=2.0)),
        "notice, on hold": Call(TO_EVIDENCE, "+31612340123", holds),
        "on hold from the menu on": Call(TO_MENU, "+31612340132", holds_in_the_menu),
        "on hold in the menu only": Call(TO_MENU, "+31612340133", comes_back_in_the_menu),
        "never-record caller": Call(TO_EVIDENCE, "+31612340666"),
        "private": Call(TO_PRIVATE, "+31612340125"),
        "unknown purpose": Call(TO_UNKNOWN, "+31612340126"),
        "inactive purpose": Call(TO_LESSONS, "+31612340127"),
        "unapproved": Call(TO_COMPLAINT, "+31612340128"),
        "sound missing": Call(TO_COMPLAINT_EN, "+31612340129"),
        "language not offered": Call(TO_FRENCH, "+31612340130"),
        "no door": Call(NO_DOOR, "+31612340131"),
    }


def plan_after_mending() -> dict[str, Call]:
    """The same callers and numbers as before; only the settings are others."""
    return {
        "active purpose": Call(TO_LESSONS, "+31612340127"),
        "approved": Call(TO_COMPLAINT, "+31612340128"),
        "sound restored": Call(TO_COMPLAINT_EN, "+31612340129"),
    }


@dataclass
class Desk:
    """An agent and the carrier by which customers call him: one call at a time."""

    agent: Phone
    carrier: Phone


async def play(site: Installation, desk: Desk, call: Call) -> None:
    """From dialling to what pbxguard says of it and keeps of it."""
    so_far = len([c for c in desk.agent.calls if not c.outgoing])
    to = call.to + desk.agent.line.name
    call.customer = customer = await desk.carrier.call(to, caller_id=call.caller)

    async def at_the_door() -> None:
        if call.at_the_door is not None:
            await customer.answered()
            await call.at_the_door(call, site, customer)

    async with asyncio.TaskGroup() as group:
        group.create_task(at_the_door())
        agent = await desk.agent.incoming(after=so_far, deadline_s=40)
        await agent.answered()
        await customer.talk(TALK_S)
    if call.at_the_door in (holds, holds_in_the_menu, agrees_and_holds):
        await customer.talk(TALK_S)
    await customer.hangup()
    await agent.ended()
    call.why = await site.why(to if call.caller == "anonymous" else call.caller)
    if call.why["ever_recorded"]:
        with contextlib.suppress(LabError):  # the tests of this call say so; those of the others go on
            call.file = await site.sealed(call.caller)


async def play_all(site: Installation, desks: list[Desk], queue_desk: Desk, calls: dict[str, Call]) -> None:
    """As many at once as there are desks, each a little later than the one before."""
    waiting = list(calls.values())

    async def work(desk: Desk, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while mine := [c for c in waiting if (c.to == TO_QUEUE) == (desk is queue_desk)]:
            waiting.remove(mine[0])
            await play(site, desk, mine[0])

    async with asyncio.TaskGroup() as group:
        for n, desk in enumerate([queue_desk, *desks]):
            group.create_task(work(desk, n * BETWEEN_CALLS_S))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(
        dialplan=DIALPLAN,
        settings=SETTINGS,
        head='default_jurisdiction = "DE"',
        unapproved=[COMPLAINT],
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def calls(site: Installation) -> AsyncIterator[dict[str, Call]]:
    a = site.asterisk
    gone = prompt(site, COMPLAINT_EN)
    away = gone.with_suffix(".away")
    async with Phones() as phones:
        carriers = await asyncio.gather(*(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(CARRIERS)))
        agents = await asyncio.gather(
            *(
                phones.add(a.line(name), sends=Tone(AGENT_HZ), on_incoming=Answer(0.6))
                for name in (QUEUE_AGENT, *AGENTS)
            )
        )
        queue_desk, *desks = [Desk(agent, carriers[n % CARRIERS]) for n, agent in enumerate(agents)]
        gone.rename(away)  # after pbxguard has looked
        planned = plan()
        await play_all(site, desks, queue_desk, planned)
        away.rename(gone)
        await mend(site)
        mended = plan_after_mending()
        for call in mended.values():  # by the same number: what was sealed before is not meant
            assert site.files(call.caller) == []
        await play_all(site, desks, queue_desk, mended)
        yield planned | mended


async def mend(site: Installation) -> None:
    """Activate and approve what was not; pbxguard reads it as it starts."""
    await site.stop()
    text = site.config.read_text()
    assert "active = false" in text
    site.config.write_text(text.replace("active = false", "active = true"))
    await site.run("prompts", "build")
    await site.approve()
    await site.start()


REFUSED: dict[str, tuple[set[str], str]] = {
    "opt_in, no key": ({"consent_missing"}, "opt_in, 1 afterwards"),
    "opt_in, 9 afterwards": ({"objected", "consent_missing"}, "opt_in, 1 afterwards"),
    "opt_in, 1 early, cut": ({"not_told", "prompt_on_hold", "consent_missing"}, "opt_in, 1 early"),
    "opt_out, 9 early": ({"objected", "not_told", "prompt_cut"}, "opt_out, no key"),
    "opt_out, 9 in the key sentence": ({"objected", "not_told", "prompt_cut"}, "opt_out, no key"),
    "opt_out, 9 afterwards": ({"objected"}, "opt_out, no key"),
    "both, 9 afterwards": ({"objected"}, "both, no key"),
    "withheld, no key": ({"consent_missing"}, "withheld, 1"),
    "notice, 9 early": ({"objected", "not_told", "prompt_cut"}, "notice"),
    "notice, on hold": ({"not_told", "prompt_on_hold"}, "notice"),
    "on hold from the menu on": ({"not_told", "prompt_on_hold"}, "on hold in the menu only"),
    "never-record caller": ({"never_record", "not_told"}, "notice"),
    "private": ({"marked_private", "not_told"}, "notice"),
    "unknown purpose": ({"purpose_unknown", "disclosure_unapproved", "not_told", "consent_missing"}, "notice"),
    "inactive purpose": ({"purpose_inactive", "disclosure_unapproved", "not_told"}, "active purpose"),
    "unapproved": ({"disclosure_unapproved", "not_told"}, "approved"),
    "sound missing": ({"not_told", "prompt_failed"}, "sound restored"),
    "language not offered": ({"disclosure_unapproved", "not_told"}, "notice"),
    "no door": ({"no_purpose"}, "notice"),
}
"""Why each is not recorded, all of it, and its twin that is."""

RECORDED: dict[str, str] = {
    "opt_in, 1 afterwards": EVIDENCE_OPT_IN,
    "opt_in, 1 early": EVIDENCE_OPT_IN,
    "opt_out, no key": TRAINING,
    "both, no key": BOTH,
    "withheld, 1": EVIDENCE_OPT_IN,
    "queue": EVIDENCE,
    "notice": EVIDENCE,
    "on hold in the menu only": EVIDENCE,
    "active purpose": LESSONS,
    "approved": COMPLAINT,
    "sound restored": COMPLAINT_EN,
}
"""What each was told."""

SILENT: dict[str, str] = {
    "on hold from the menu on": EVIDENCE,
    "never-record caller": EVIDENCE,
    "private": EVIDENCE,
    "unknown purpose": EVIDENCE,
    "inactive purpose": LESSONS,
    "unapproved": COMPLAINT,
    "sound missing": COMPLAINT_EN,
    "language not offered": EVIDENCE,
    "no door": EVIDENCE,
}
"""What nobody may have heard in these; `REFUSED` names the twin that heard it."""


def ends(heard: Heard, site: Installation, disclosure: str) -> float:
    """Where a disclosure heard whole ends, silence at its end included: its last sound began so long before."""
    part = "notice" if ".notice." in disclosure else "key"
    sound = checker.read(prompt(site, disclosure, part))[0]
    assert measure.prompt_end(heard, prompt(site, disclosure, "notice")) > 0
    measure.prompt_end(heard, prompt(site, disclosure, part))
    found = measure.prompt_heard(heard, prompt(site, disclosure, part))
    assert found is not None
    return found.start_s + found.slipped_s + sound.seconds


def next_sound(heard: Heard, after_s: float) -> float:
    """Where the first sound after a moment begins."""
    track = measure.track(heard)
    found = checker.sounds(track.part(after_s))
    assert found, f"nothing was heard after {after_s:.2f} s"
    return after_s + found[0].start_s


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_call_goes_on_and_says_every_reason(name: str, calls: dict[str, Call]) -> None:
    call, (reasons, twin) = calls[name], REFUSED[name]
    assert set(call.why["reasons"]) == reasons
    assert not call.why["ever_recorded"]
    assert call.file is None
    measure.first_heard(await call.heard(), AGENT_HZ)  # the two did talk
    assert calls[twin].file is not None


@pytest.mark.parametrize("name", RECORDED)
async def test_its_twin_is_recorded_after_the_disclosure_and_to_its_end(
    name: str, site: Installation, calls: dict[str, Call]
) -> None:
    call = calls[name]
    heard = await call.heard()
    disclosed = ends(heard, site, RECORDED[name])
    assert call.why["told"]
    assert call.file is not None
    file = measure.recorded(call.file, await call.said(), CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.seconds > TALK_S - LOST_S


@pytest.mark.parametrize("name", SILENT)
async def test_nothing_is_played_where_nothing_may_be_recorded(
    name: str, site: Installation, calls: dict[str, Call]
) -> None:
    spoken = prompt(site, SILENT[name])
    measure.prompt_end(await calls[REFUSED[name][1]].heard(), spoken)  # the twin heard it
    assert measure.prompt_heard(await calls[name].heard(), spoken) is None


async def test_no_sealed_file_is_there_but_those_of_calls_that_were_recorded(
    site: Installation, calls: dict[str, Call]
) -> None:
    kept = {call.file for call in calls.values() if call.file is not None}
    assert set(site.archive.rglob("*.flac")) == kept
    assert len(kept) == len(RECORDED)


@pytest.mark.parametrize(
    ("name", "disclosure"),
    [("notice", EVIDENCE), ("opt_in, 1 early", EVIDENCE_OPT_IN), ("queue", EVIDENCE)],
)
async def test_ringing_or_music_follows_the_disclosure_at_once(
    name: str, disclosure: str, site: Installation, calls: dict[str, Call]
) -> None:
    heard = await calls[name].heard()
    ended = ends(heard, site, disclosure)
    assert next_sound(heard, ended) - ended < RINGS_WITHIN_S
    if name == "queue":
        assert measure.first_heard(heard, MUSIC_HZ) - ended < RINGS_WITHIN_S


@pytest.mark.parametrize(
    ("name", "disclosure"), [("opt_out, no key", TRAINING), ("both, no key", BOTH), ("opt_in, no key", EVIDENCE_OPT_IN)]
)
async def test_ringing_follows_a_key_wait_in_which_no_key_came(
    name: str, disclosure: str, site: Installation, calls: dict[str, Call]
) -> None:
    heard = await calls[name].heard()
    ended = ends(heard, site, disclosure)
    rang = next_sound(heard, ended)
    assert KEY_WAIT_S - 0.1 < rang - ended < KEY_WAIT_S + RINGS_WITHIN_S


@pytest.mark.parametrize(
    ("name", "disclosure"),
    [
        ("opt_in, 1 afterwards", EVIDENCE_OPT_IN),
        ("opt_in, 9 afterwards", EVIDENCE_OPT_IN),
        ("opt_out, 9 afterwards", TRAINING),
        ("both, 9 afterwards", BOTH),
    ],
)
async def test_a_key_in_the_key_wait_ends_it(
    name: str, disclosure: str, site: Installation, calls: dict[str, Call]
) -> None:
    call = calls[name]
    heard, pressed = await call.heard(), await call.pressed()
    ended = ends(heard, site, disclosure)
    assert ended < pressed < ended + KEY_WAIT_S, "the key was not pressed in the key wait"
    assert pressed < next_sound(heard, ended) < pressed + KEY_TONE_S + RINGS_WITHIN_S


@pytest.mark.parametrize(
    ("name", "disclosure", "part"),
    [
        ("notice, 9 early", EVIDENCE, "notice"),
        ("opt_out, 9 early", TRAINING, "notice"),
        ("opt_out, 9 in the key sentence", TRAINING, "key"),
    ],
)
async def test_a_nine_stops_the_disclosure_at_once(
    name: str, disclosure: str, part: str, site: Installation, calls: dict[str, Call]
) -> None:
    call = calls[name]
    heard, pressed = await call.heard(), await call.pressed()
    found = measure.prompt_heard(heard, prompt(site, disclosure, part))
    assert found is not None
    assert not found.complete
    length = checker.read(prompt(site, disclosure, part))[0].seconds
    assert found.start_s < pressed < found.start_s + length, f"the key was not pressed in the {part}"
    assert found.end_s < pressed + KEY_TONE_S + RINGS_WITHIN_S
    assert next_sound(heard, found.end_s + 0.1) < pressed + KEY_TONE_S + 2 * RINGS_WITHIN_S


async def test_a_one_before_the_end_counts_after_the_disclosure_was_heard_in_full(
    site: Installation, calls: dict[str, Call]
) -> None:
    call = calls["opt_in, 1 early"]
    heard, pressed = await call.heard(), await call.pressed()
    assert pressed < ends(heard, site, EVIDENCE_OPT_IN)
    assert call.file is not None
    assert manifest(call.file)["told"][0]["consented"] == ["contract_evidence"]


async def test_a_one_before_the_end_of_a_disclosure_cut_short_is_no_consent(
    site: Installation, calls: dict[str, Call]
) -> None:
    call = calls["opt_in, 1 early, cut"]
    found = measure.prompt_heard(await call.heard(), prompt(site, EVIDENCE_OPT_IN))
    assert found is not None
    assert not found.complete
    assert found.start_s < await call.pressed() < found.end_s
    assert not call.why["told"]


@pytest.mark.parametrize(
    "name", ["opt_in, no key", "opt_in, 9 afterwards", "opt_out, 9 afterwards", "withheld, no key"]
)
async def test_who_heard_it_in_full_counts_as_told_though_not_recorded(name: str, calls: dict[str, Call]) -> None:
    assert calls[name].why["told"]


async def test_one_notice_for_two_purposes_is_kept_for_both_with_its_reference_and_language(
    calls: dict[str, Call],
) -> None:
    file = calls["both, no key"].file
    assert file is not None
    said = manifest(file)
    assert [purpose["name"] for purpose in said["purposes"]] == ["contract_evidence", "quality_training"]
    assert [told["purposes"] for told in said["told"]] == [["contract_evidence", "quality_training"]]
    assert said["told"][0]["language"] == "en"
    assert said["call"]["reference"] == "C-1"
    assert "_contract_evidence+quality_training_" in file.name
    tags = file.read_bytes()
    for tag in ("PURPOSE=contract_evidence", "PURPOSE=quality_training", "DISCLOSURE_LANGUAGE=en", "REFERENCE=C-1"):
        assert tag.encode() in tags


async def test_a_withheld_caller_falls_under_the_default_jurisdiction(calls: dict[str, Call]) -> None:
    call = calls["withheld, 1"]
    assert call.file is not None
    said = manifest(call.file)
    assert said["call"]["caller_id"] == ""
    assert said["jurisdictions"] == ["DE"]
    assert "_anonymous_" in call.file.name
    notice = calls["notice"].file
    assert notice is not None
    assert manifest(notice)["jurisdictions"] == ["NL"]
