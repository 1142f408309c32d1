"""Who takes part, on the real Asterisk: transfers, holds, second calls, spies, queues, forwards, forged numbers.

Every story is one customer's call; its file is measured against the phones, and what pbxguard said while a recording
was closed is asserted whole. In most, the twin that is recorded is the same call before and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.asterisk import Line
from tests.lab.checker import Detector, Track
from tests.lab.evidence import calls_of, ended_call, manifest, prompt, reasons, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Forward, Heard, Phone, PhoneCall, Phones, Ring
from tests.lab.signals import MUSIC_HZ, VOICES, Chirp, Tone
from tests.lab.stories import Story

CUSTOMER = Chirp()
AGENT_HZ, OTHER_HZ, THIRD_HZ = VOICES[:3]
"""The agent who answers; any other of ours, and what a customer says while on hold; third parties."""
TALK_S = 3.0
LOST_S = 0.6
STAGGER_S = 0.4
NOTICE = "contract_evidence.nl.notice.inbound"
WINDOW_S = 0.005
MUSIC_WINDOW_S = 0.03
"""The music is near the chirp: a shorter window does not tell them apart."""

DIALPLAN = """
; a queue whose members are Local channels, optimised away or not
exten => 31201239010,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(optimised,tT,,,60)
exten => 31201239011,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(kept,tT,,,60)
; an endpoint that no pattern covers
exten => 31201239012,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/300,60,tT)
; its twin, which one does
exten => 31201239014,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/122,60,tT)
exten => 31201239013,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,ConfBridge(room)

[internal](+)
exten => *61,1,ConfBridge(room)
exten => _*55XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},q)
"""
QUEUES = """\
[general]
autofill=yes
[optimised]
strategy=ringall
timeout=20
member => Local/108@internal
[kept]
strategy=ringall
timeout=20
member => Local/109@internal/n
"""


@dataclass
class Scene(Story):
    """A story with what pbxguard said of the live call at some moments."""

    views: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reasons(self, moment: str) -> set[str]:
        return set(self.views[moment]["reasons"])


@dataclass
class Office:
    site: Installation
    carriers: tuple[Phone, ...]
    third: Phone
    own: dict[str, Phone]

    async def inbound(self, title: str, did: str, number: str, agent: str = "", wait: bool = True) -> Scene:
        """A customer calls, is told, and is answered by the agent (when there is one)."""
        scene = Scene(title, number)
        carrier = min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))
        scene.calls["customer"] = await carrier.call(did, caller_id=number)
        if agent:
            scene.calls["agent"] = leg = await self.own[agent].incoming(number=number, deadline_s=30)
            await leg.answered()
            if wait:
                scene.views["at first"] = await until_recorded(self.site, number)
        return scene

    async def outside(self, agent: str, dialled: str) -> tuple[PhoneCall, PhoneCall]:
        """The agent's phone calls an outside number: (his call, the third party's)."""
        own = await self.own[agent].call(dialled)
        third = await self.third.incoming(number=agent, deadline_s=15)
        await own.answered()
        return own, third


async def agent_to_agent(office: Office) -> Scene:
    scene = Scene("one of us calls another", "102")
    scene.calls["agent"] = agent = await office.own["114"].call("102")
    await agent.answered()
    await agent.talk(TALK_S)
    await agent.hangup()
    await _twin(office, scene, "somebody outside calls him", "31201234102", "+31612345298", "102")
    return scene


async def _twin(office: Office, scene: Scene, title: str, did: str, number: str, agent: str) -> None:
    """The call that differs in one thing from the scene's, and is recorded."""
    twin = await office.inbound(title, did, number, agent)
    scene.calls["twin"] = twin.calls["customer"]
    await scene.calls["twin"].talk(TALK_S)
    await scene.calls["twin"].hangup()


async def forged(office: Office) -> Scene:
    """An outside caller who shows one of our own numbers is forwarded to an outside number."""
    scene = await office.inbound("a forged own number, forwarded outside", "31201239000", "101")
    scene.calls["third"] = third = await office.third.incoming(number="101", deadline_s=30)
    await third.answered()
    await third.talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def forged_twin(office: Office) -> Scene:
    scene = await office.inbound("the same forged number reaches an agent", "31201234100", "101", "100")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def held(office: Office) -> Scene:
    scene = await office.inbound("the agent's phone puts him on hold", "31201234101", "+31612345201", "101")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await agent.hold()
    scene.views["on hold"] = await until_recorded(office.site, scene.number, on=False)
    await customer.say(Tone(OTHER_HZ))
    await customer.talk(2.0)
    await customer.say(CUSTOMER)
    await customer.talk(0.5)
    await agent.unhold()
    scene.views["off hold"] = await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def passed_on(office: Office) -> Scene:
    scene = await office.inbound("transferred to another agent by REFER", "31201234103", "+31612345203", "103")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["agent"].refer("104")
    scene.calls["other"] = other = await office.own["104"].incoming(number=scene.number)
    await other.answered()
    scene.views["with the other"] = await until_recorded(office.site, scene.number, by="PJSIP/104")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def attended(office: Office) -> Scene:
    scene = await office.inbound("transferred outside after consulting", "31201234105", "+31612345205", "105")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await agent.hold()
    second, scene.calls["third"] = await office.outside("105", "931108880005")
    await second.talk(2.0)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.refer_replaces(second)
    await agent.ended()
    await customer.talk(TALK_S)
    scene.views["with the third party"] = await until_recorded(office.site, scene.number, on=False)
    await customer.hangup()
    return scene


async def three_way(office: Office) -> Scene:
    scene = await office.inbound("a three-way inside the agent's phone", "31201234106", "+31612345206", "106")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await agent.hold()
    second, scene.calls["third"] = await office.outside("106", "931108880006")
    await agent.unhold()
    await agent.join(second)
    await customer.talk(2.0)
    scene.views["three"] = await until_recorded(office.site, scene.number, on=False)
    scene.views["the other call"] = await until_recorded(office.site, "+31108880006", on=False)
    await second.hangup()
    scene.views["two again"] = await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def queue_optimised(office: Office) -> Scene:
    scene = await office.inbound("a queue's Local member", "31201239010", "+31612345208", "108")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def queue_kept(office: Office) -> Scene:
    scene = await office.inbound("a queue's Local member with /n", "31201239011", "+31612345209", "109")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def second_rings(office: Office) -> Scene:
    scene = await office.inbound("a second caller rings meanwhile", "31201234107", "+31612345207", "107")
    await office.own["107"].answers(Ring())
    waiting = await office.inbound("the second caller", "31201238107", "+31612345297")
    ringing = await office.own["107"].incoming(number=waiting.number)
    await scene.calls["customer"].talk(TALK_S)
    scene.views["ringing"] = await until_recorded(office.site, scene.number)
    await ringing.reject()
    await waiting.calls["customer"].ended()
    await scene.calls["customer"].talk(1.0)
    await scene.calls["customer"].hangup()
    return scene


async def second_placed(office: Office) -> Scene:
    scene = await office.inbound("the agent's phone calls a second number", "31201234110", "+31612345210", "110")
    customer = scene.calls["customer"]
    await customer.talk(TALK_S)
    second, scene.calls["third"] = await office.outside("110", "931108880010")
    await second.talk(2.0)
    scene.views["two calls"] = await until_recorded(office.site, scene.number, on=False)
    await second.hangup()
    scene.views["one again"] = await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def spied(office: Office) -> Scene:
    scene = await office.inbound("somebody listens in", "31201234111", "+31612345211", "111")
    customer = scene.calls["customer"]
    await customer.talk(TALK_S)
    scene.calls["spy"] = spy = await office.own["115"].call("*55111")
    await spy.answered()
    await spy.talk(2.0)
    scene.views["spied on"] = await until_recorded(office.site, scene.number, on=False)
    await spy.hangup()
    scene.views["alone again"] = await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def redirected(office: Office) -> Scene:
    phone = office.own["120"]
    await phone.answers(Forward(phone.uri("931108880012")))
    scene = await office.inbound("the agent's phone forwards outside (302)", "31201234120", "+31612345212")
    scene.calls["third"] = third = await office.third.incoming(number=scene.number, deadline_s=30)
    await third.answered()
    await third.talk(TALK_S)
    await scene.calls["customer"].hangup()
    await phone.answers(Answer(0.5))
    await _twin(office, scene, "the same phone answers", "31201234120", "+31612345292", "120")
    return scene


async def unknown(office: Office) -> Scene:
    scene = await office.inbound("answered by an endpoint that no pattern covers", "31201239012", "+31612345213")
    scene.calls["stranger"] = stranger = await office.own["300"].incoming(number=scene.number, deadline_s=30)
    await stranger.answered()
    await stranger.talk(TALK_S)
    await scene.calls["customer"].hangup()
    await _twin(office, scene, "answered by one that a pattern covers", "31201239014", "+31612345299", "122")
    return scene


async def conference(office: Office) -> Scene:
    scene = await office.inbound("an unknown endpoint joins a conference", "31201239013", "+31612345214")
    customer = scene.calls["customer"]
    await customer.answered()
    scene.calls["agent"] = await office.own["121"].call("*61")
    scene.views["at first"] = await until_recorded(office.site, scene.number, by="PJSIP/121", deadline_s=20)
    await customer.talk(TALK_S)
    scene.calls["stranger"] = stranger = await office.own["300"].call("*61")
    await stranger.answered()
    await stranger.talk(2.0)
    scene.views["with a stranger"] = await until_recorded(office.site, scene.number, on=False)
    await stranger.hangup()
    scene.views["without him"] = await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    await scene.calls["agent"].hangup()
    return scene


Play = Callable[[Office], Awaitable[Scene]]


async def after(seconds: float, play: Play, office: Office) -> Scene:
    """So that not all begin in the same instant: a phone that gets no time loses a packet of what it hears."""
    await asyncio.sleep(seconds)
    return await play(office)


WAVES: tuple[tuple[Play, ...], ...] = (
    (agent_to_agent, forged, forged_twin, held, passed_on, attended, three_way, queue_optimised, queue_kept),
    (second_rings, second_placed, spied, redirected, unknown, conference),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    # 112 and 113 are on the never-record list, and 3xx is covered by no pattern
    more = [Line(name, "internal", password=f"secret{name}") for name in ("120", "121", "122", "300")]
    async with Installation(dialplan=DIALPLAN, queues=QUEUES, extra_lines=more) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[dict[str, Scene]]:
    """Every story, overlapping, in two waves."""
    async with Phones() as phones:
        a = site.asterisk
        carriers = await asyncio.gather(*(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(3)))
        third = await phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.3))
        names = [str(number) for number in range(100, 116) if number not in (112, 113)]
        names += ["120", "121", "122", "300"]
        others = {"102", "104", "115", "300"}
        own = await asyncio.gather(
            *(
                phones.add(a.line(name), sends=Tone(OTHER_HZ if name in others else AGENT_HZ), on_incoming=Answer(0.5))
                for name in names
            )
        )
        office = Office(site, tuple(carriers), third, dict(zip(names, own, strict=True)))
        played: dict[str, Scene] = {}
        for wave in WAVES:
            told = await asyncio.gather(*(after(STAGGER_S * n, play, office) for n, play in enumerate(wave)))
            played.update({play.__name__: scene for play, scene in zip(wave, told, strict=True)})
            await site.asterisk.idle()
        yield played


# -- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A sealed file beside what its customer heard and said."""

    path: Path
    own: Track
    others: Track
    heard: Heard
    said: Heard

    def is_free_of(self, hertz: float, control: Heard, *quiet: Track, window_s: float = WINDOW_S) -> None:
        """No window of either track has this tone; the phone in `control` heard (or said) it, `quiet` did not."""
        found = Detector.calibrate(hertz, measure.track(control), list(quiet), window_s)
        assert found.find(measure.track(control)), "the detector is blind"
        assert found.shortest_s <= window_s
        assert found.find(self.own) == []
        assert found.find(self.others) == []


async def file_of(site: Installation, scene: Scene, agent_hz: float = AGENT_HZ) -> File:
    """The one sealed file of a scene: both voices on their sides, nothing before the end of the notice."""
    heard, said = await measure.pair(scene.calls["customer"])
    disclosed = measure.prompt_end(heard, prompt(site, NOTICE))
    path = await site.sealed(scene.number)
    file = measure.recorded(path, said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert f"{agent_hz:g}" in measure.voices(file.own, CUSTOMER)
    return File(path, file.own, file.others, heard, said)


def segments(path: Path) -> list[dict[str, Any]]:
    return [segment for segment in manifest(path)["segments"] if segment["kept_samples"]]


def gap_reasons(path: Path) -> list[list[str]]:
    return [gap["reasons"] for gap in manifest(path)["gaps"]]


def last_before(file: File, customer_said: Heard) -> float:
    """Position, on the customer's timeline, of the last of his chirp that the file has, before he said it anew."""
    inside = checker.chirp_stretches(file.others, CUSTOMER)
    sent = checker.chirp_stretches(measure.track(customer_said), CUSTOMER)
    return (inside[0].last_said_s - sent[0].first_said_s) % CUSTOMER.sweep_s + sent[0].start_s


async def untouched(site: Installation, scene: Scene, expected: set[str], notice: bool = True) -> None:
    """Told (or not), never recorded, for exactly these reasons."""
    if notice:
        heard, _ = await measure.pair(scene.calls["customer"])
        measure.prompt_end(heard, prompt(site, NOTICE))
    assert await reasons(site, scene.number) == expected
    assert site.files(scene.number) == []


async def plain(site: Installation, number: str, customer: PhoneCall, agent_hz: float = AGENT_HZ) -> Path:
    """Recorded in one segment from the notice to the end."""
    scene = Scene("plain", number, {"customer": customer})
    file = await file_of(site, scene, agent_hz)
    assert len(segments(file.path)) == 1
    assert file.own.seconds > TALK_S - LOST_S
    return file.path


# -- who takes part --------------------------------------------------------------------------------------------------


async def test_agent_to_agent_is_not_recorded(site: Installation, scenes: dict[str, Scene]) -> None:
    scene = scenes["agent_to_agent"]
    heard, _ = await measure.pair(scene.calls["agent"])
    measure.first_heard(heard, OTHER_HZ)  # the two did talk
    assert await calls_of(site, "114") == []  # nobody's call: no number of an outside party is even noted
    twin = await plain(site, "+31612345298", scene.calls["twin"], OTHER_HZ)
    files = site.archive.rglob("*.flac")
    assert [p for p in files if manifest(p)["call"]["own_endpoint"] in ("PJSIP/114", "PJSIP/102")] == [twin]


async def test_an_outside_caller_who_shows_our_own_number_makes_no_own_party(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    heard, _ = await measure.pair(scenes["forged"].calls["customer"])
    measure.first_heard(heard, THIRD_HZ)  # the two did talk
    call = await ended_call(site, "101", "31201239000")
    assert call["told"]
    assert set(call["reasons"]) == {"no_own_party", "not_told"}
    assert not call["recording"]


async def test_the_same_caller_is_recorded_as_external_when_an_agent_answers(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    call = await ended_call(site, "101", "31201234100")
    assert call["recording"]
    path = await plain(site, "101", scenes["forged_twin"].calls["customer"])  # the only file of that number
    said = manifest(path)
    assert said["recording"] == call["recording"]
    assert said["call"]["caller_id"] == "101"
    assert said["call"]["own_endpoint"] == "PJSIP/100"


async def test_a_302_of_the_agents_phone_to_an_outside_number_is_not_recorded(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["redirected"]
    heard, _ = await measure.pair(scene.calls["customer"])
    measure.first_heard(heard, THIRD_HZ)
    await untouched(site, scene, {"no_own_party", "not_told"})
    await plain(site, "+31612345292", scene.calls["twin"])


async def test_an_endpoint_that_no_pattern_covers_is_unknown_and_refused(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["unknown"]
    heard, _ = await measure.pair(scene.calls["customer"])
    measure.first_heard(heard, OTHER_HZ)
    await untouched(site, scene, {"no_own_party", "unknown_party"})
    await plain(site, "+31612345299", scene.calls["twin"])


async def test_an_unknown_endpoint_that_joins_a_conference_closes_it_until_it_leaves(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["conference"]
    assert scene.reasons("with a stranger") == {"unknown_party"}
    file = await file_of(site, scene)
    assert gap_reasons(file.path) == [["unknown_party"]]
    assert len(segments(file.path)) == 2
    # The two segments' border clicks: the floor is measured on the agent's voice and the customer's.
    talk, joined = (measure.first_heard(file.heard, hertz) for hertz in (AGENT_HZ, OTHER_HZ))
    agent = measure.track(file.heard).part(talk + 0.2, joined - 0.1)
    file.is_free_of(OTHER_HZ, file.heard, agent, measure.track(file.said).part(1.0))


# -- holds and second calls ------------------------------------------------------------------------------------------


async def test_a_hold_by_the_agents_phone_closes_the_recording_until_it_ends(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["held"]
    assert scene.reasons("on hold") == {"on_hold"}
    file = await file_of(site, scene)
    assert gap_reasons(file.path) == [["on_hold"]]
    assert len(segments(file.path)) == 2
    assert file.own.seconds > 2 * (TALK_S - LOST_S)
    music = measure.first_heard(file.heard, MUSIC_HZ)
    assert last_before(file, file.said) < music
    talk = measure.first_heard(file.heard, AGENT_HZ)
    before = [measure.track(file.heard).part(talk + 0.2, music - 0.1), measure.track(file.said).part(1.0, music - 0.2)]
    file.is_free_of(MUSIC_HZ, file.heard, *before, window_s=MUSIC_WINDOW_S)
    file.is_free_of(OTHER_HZ, file.said, *before)  # what he said to the music


async def test_a_consultation_and_a_transfer_with_replaces_leave_nothing_of_the_third_party(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["attended"]
    assert scene.reasons("consulting") == {"on_hold", "second_call"}
    assert scene.reasons("with the third party") == {"no_own_party", "not_told"}
    file = await file_of(site, scene)
    # One recorder in all: none began in the instant when both bridges stood un-held.
    assert [segment["ended_by"] for segment in manifest(file.path)["segments"]] == [["on_hold"]]
    assert last_before(file, file.said) < measure.first_heard(file.heard, MUSIC_HZ)
    arrived = measure.first_heard(file.heard, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard, measure.track(file.heard).part(0, arrived - measure.QUIET_S))


async def test_a_three_way_inside_the_phone_closes_both_calls(site: Installation, scenes: dict[str, Scene]) -> None:
    scene = scenes["three_way"]
    assert scene.reasons("three") == {"second_call"}
    assert scene.reasons("the other call") == {"second_call", "no_purpose"}
    file = await file_of(site, scene)
    assert len(manifest(file.path)["segments"]) == len(segments(file.path)) == 2
    assert gap_reasons(file.path) == [["on_hold"]]
    arrived = measure.first_heard(file.heard, THIRD_HZ)  # through the agent's phone
    file.is_free_of(THIRD_HZ, file.heard, measure.track(file.heard).part(0, arrived - measure.QUIET_S))


async def test_a_second_caller_who_only_rings_closes_nothing(site: Installation, scenes: dict[str, Scene]) -> None:
    scene = scenes["second_rings"]
    assert scene.views["ringing"]["recorded"]
    await plain(site, scene.number, scene.calls["customer"])


async def test_a_second_call_placed_by_the_phone_closes_the_first_until_it_ends(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["second_placed"]
    assert scene.reasons("two calls") == {"second_call"}
    file = await file_of(site, scene)
    assert gap_reasons(file.path) == [["second_call"]]
    assert len(segments(file.path)) == 2
    assert file.own.seconds > 2 * (TALK_S - LOST_S)


async def test_a_spy_closes_the_recording_while_he_listens(site: Installation, scenes: dict[str, Scene]) -> None:
    scene = scenes["spied"]
    heard, _ = await measure.pair(scene.calls["spy"])
    assert checker.chirp_stretches(measure.track(heard), CUSTOMER), "the spy heard nothing"
    assert scene.reasons("spied on") == {"spied_on"}
    file = await file_of(site, scene)
    assert gap_reasons(file.path) == [["spied_on"]]
    assert len(segments(file.path)) == 2
    assert file.own.seconds > 2 * (TALK_S - LOST_S)


# -- where the call goes ---------------------------------------------------------------------------------------------


async def test_a_transfer_to_another_agent_goes_on_in_the_same_recording(
    site: Installation, scenes: dict[str, Scene]
) -> None:
    scene = scenes["passed_on"]
    file = await file_of(site, scene)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}", f"{OTHER_HZ:g}"}
    kept = segments(file.path)
    assert len(kept) == 2
    assert len({segment["leg"] for segment in kept}) == 2
    assert len(manifest(file.path)["gaps"]) == 1
    # The first agent is in the first segment alone, the second in the second alone.
    border = kept[1]["file_offset"] / file.own.rate
    assert measure.voices(file.own.part(0, border), CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.own.part(border), CUSTOMER) == {f"{OTHER_HZ:g}"}


@pytest.mark.parametrize(("name", "agent"), [("queue_optimised", "108"), ("queue_kept", "109")])
async def test_a_queue_with_local_members_is_recorded_on_the_phones_leg(
    name: str, agent: str, site: Installation, scenes: dict[str, Scene]
) -> None:
    path = await plain(site, scenes[name].number, scenes[name].calls["customer"])
    assert manifest(path)["call"]["own_endpoint"] == f"PJSIP/{agent}"


async def test_nothing_is_left_in_the_spool(site: Installation, scenes: dict[str, Scene]) -> None:
    async with Phones() as phones:
        await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")
