"""What pbxguard did not see, or saw done by others: lost and doubled events, a recorder that somebody else stops, and
what it left behind on a disk that cannot be looked at.

A lost event is found by holding Asterisk's lists against what its events said, twice within ten seconds; what was
recorded since the picture was last right is cut away. All calls overlap; each rule of the proxy is for one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import pytest_asyncio

from tests.lab import ami as lab_ami
from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, reasons, until_recorded, until_refused
from tests.lab.installation import POLL_S, Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.proxy import Event, Rule
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ, THIRD_HZ, _, _ = VOICES
FOUND_S = 20.0
"""Two looks, five seconds apart, and what a busy machine adds."""
TALK_S = 2.5
LOST_S = 0.6
DEATH_S = 1.6
"""The same of a talk in which the guard dies: the age of the watermark, and of its beat on a busy machine."""
HANGUP, ENTER, UNHOLD, DOUBLED, STOPPED, LIVES, LEAVES = (f"+3161234720{n}" for n in range(1, 8))
THIRD = "+31612347209"
ROOM = "8801"
DIALPLAN = f"""
exten => 31201258801,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,ConfBridge({ROOM})
exten => 31201259801,1,Answer()
 same => n,ConfBridge({ROOM})
[internal]
exten => {ROOM},1,Answer()
 same => n,ConfBridge({ROOM})
"""


@dataclass
class Office:
    site: Installation
    phones: Phones
    carriers: tuple[Phone, Phone]
    agents: dict[str, Phone]

    async def inbound(self, number: str, agent: str) -> tuple[PhoneCall, PhoneCall]:
        customer = await self.carriers[0].call(f"31201234{agent}", caller_id=number)
        leg = await self.agents[agent].incoming(number=number, deadline_s=40)
        await leg.answered()
        await until_recorded(self.site, number)
        return customer, leg

    async def wrong(self, before: int = 0) -> None:
        """Until a wrong picture was told."""
        await self.phones.until(lambda: len(self.site.events("picture.wrong")) > before, "a wrong picture", FOUND_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with Installation(proxied=True, dialplan=DIALPLAN) as site, Phones() as phones:
        a = site.asterisk
        one, two = [await phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(2)]
        names = ("101", "102", "103", "104", "105")
        agents = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in names))
        yield Office(site, phones, (one, two), dict(zip(names, agents, strict=True)))


def of_number(number: str) -> Callable[[Event], bool]:
    """Events of the channel that shows this number."""
    return lambda event: event.get("CallerIDNum") == number


def of_device(name: str) -> Callable[[Event], bool]:
    return lambda event: event.get("Channel", "").startswith(f"PJSIP/{name}-")


@dataclass
class Meeting:
    """A customer and an agent in a conference, and an outside caller whose coming was not told to pbxguard."""

    customer: PhoneCall
    agent: PhoneCall
    third: PhoneCall
    lost: Rule


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def meeting(office: Office) -> Meeting:
    """Comes first: alone, since the look that finds the fault begins everything anew."""
    site = office.site
    agent = await office.agents["102"].call(ROOM)
    await agent.answered()
    customer = await office.carriers[0].call("31201258801", caller_id=ENTER)
    await until_recorded(site, ENTER, deadline_s=30)
    await customer.talk(7.0)  # longer than from one look to the next
    lost = site.ami_proxy.drop("BridgeEnter", of_number(THIRD))
    third = await office.carriers[1].call("31201259801", caller_id=THIRD, sends=Tone(THIRD_HZ))
    await third.answered()
    await office.wrong()
    await until_refused(site, ENTER, {"not_told"})
    await customer.talk(1.0)
    await third.hangup()
    await until_recorded(site, ENTER)
    await customer.talk(TALK_S)
    await customer.hangup()
    await agent.hangup()
    return Meeting(customer, agent, third, lost)


async def test_a_third_party_whose_coming_was_lost_is_found_and_cut_away(office: Office, meeting: Meeting) -> None:
    assert len(meeting.lost.hits) == 1
    file = await office.site.sealed(ENTER)
    own, others = checker.read(file)
    heard, spoken = await measure.pair(meeting.agent)
    came = measure.first_heard(heard, THIRD_HZ)
    talk = measure.track(heard).part(came - 2.0, came - 0.2)
    detector = measure.detector(THIRD_HZ, heard, talk, measure.track(spoken))
    assert [detector.find(one) for one in (own, others)] == [[], []]
    said = manifest(file)
    assert [gap["reasons"] for gap in said["gaps"]] == [["picture_wrong"]]
    kept = [segment for segment in said["segments"] if segment["kept_samples"]]
    assert len(kept) == 2
    assert kept[0]["kept_samples"] / own.rate > 1.0
    assert measure.voices(others, CUSTOMER) == {"chirp"}
    assert await reasons(office.site, THIRD) == {"not_told"}


async def test_a_lost_hangup_is_found_and_the_call_is_sealed(office: Office, meeting: Meeting) -> None:
    site, before = office.site, len(office.site.events("picture.wrong"))
    customer, leg = await office.inbound(HANGUP, "101")
    lost = site.ami_proxy.drop("Hangup", of_number(HANGUP))
    await customer.talk(TALK_S)
    await customer.hangup()
    await leg.ended()
    await office.wrong(before)
    said = manifest(await site.sealed(HANGUP))
    assert len(lost.hits) == 1
    assert said["file"]["samples"] / said["file"]["rate"] > TALK_S - LOST_S
    assert (await site.why(HANGUP))["ended"]


async def test_a_lost_unhold_leaves_the_call_unrecorded_until_it_is_held_again(
    office: Office, meeting: Meeting
) -> None:
    """No list of Asterisk's shows who is on hold."""
    site = office.site
    customer, leg = await office.inbound(UNHOLD, "103")
    await customer.talk(TALK_S)
    await leg.hold()
    await until_refused(site, UNHOLD, {"on_hold"})
    lost = site.ami_proxy.drop("Unhold", of_device("103"))
    await leg.unhold()
    await customer.talk(1.0)
    assert len(lost.hits) == 1
    assert (await until_recorded(site, UNHOLD, on=False))["reasons"] == ["on_hold"]
    await leg.hold()
    await leg.unhold()
    await until_recorded(site, UNHOLD)
    await customer.talk(TALK_S)
    await customer.hangup()
    assert len([s for s in manifest(await site.sealed(UNHOLD))["segments"] if s["kept_samples"]]) == 2


async def test_a_call_all_of_whose_events_come_twice_is_recorded_once(office: Office, meeting: Meeting) -> None:
    site = office.site
    twice = site.ami_proxy.double("*", lambda e: e.get("CallerIDNum") in (DOUBLED, "104"), most=1000)
    customer, leg = await office.inbound(DOUBLED, "104")
    await customer.talk(TALK_S)
    await leg.hold()
    await until_refused(site, DOUBLED, {"on_hold"})
    await leg.unhold()
    await until_recorded(site, DOUBLED)
    await customer.talk(TALK_S)
    await customer.hangup()
    said = manifest(await site.sealed(DOUBLED))
    twice.most = 0
    assert {"Newchannel", "BridgeEnter", "Hold", "Hangup"} <= {event["Event"] for event in twice.hits}
    assert [gap["reasons"] for gap in said["gaps"]] == [["on_hold"]]
    assert len([s for s in said["segments"] if s["kept_samples"]]) == 2
    assert said["file"]["samples"] / said["file"]["rate"] > 2 * (TALK_S - LOST_S)


async def test_a_recorder_that_somebody_else_stopped_is_told_and_started_anew(office: Office, meeting: Meeting) -> None:
    site = office.site
    told = len(site.events("recorder.stopped_by_other"))
    customer, _ = await office.inbound(STOPPED, "105")
    await customer.talk(TALK_S)
    (leg,) = [name for name in await site.asterisk.channels() if name.startswith("PJSIP/105-")]
    async with lab_ami.connect(site.asterisk) as lab:
        await lab.action("StopMixMonitor", Channel=leg)
    await office.phones.until(lambda: len(site.events("recorder.stopped_by_other")) > told, "the stop told")
    await until_recorded(site, STOPPED)
    listed = await site.asterisk.cli(f"mixmonitor list {leg}")
    await customer.talk(TALK_S)
    await customer.hangup()
    said = manifest(await site.sealed(STOPPED))
    kept = [segment for segment in said["segments"] if segment["kept_samples"]]
    assert [gap["reasons"] for gap in said["gaps"]] == [["recorder_stopped"]]
    assert kept[1]["id"] in listed
    assert [segment["kept_samples"] / 8000 > TALK_S - LOST_S for segment in kept] == [True, True]
    # Nobody else's: our own stops, of this and the other calls, are told of by the same event.
    assert len(site.events("recorder.stopped_by_other")) == told + 1


@contextlib.contextmanager
def out_of_sight(site: Installation) -> Iterator[None]:
    """pbxguard cannot look at its spool; Asterisk has its files open, and everything is there again afterwards."""
    kept = site.spool.rename(site.spool.with_name("spool.away"))
    site.spool.write_text("")
    try:
        yield
    finally:
        site.spool.unlink()
        kept.rename(site.spool)


async def until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + FOUND_S
    while not await true():
        assert time.monotonic() < end, what
        await asyncio.sleep(POLL_S)


async def test_what_cannot_be_cut_after_a_death_is_waited_for_and_sealed_with_the_rest(
    office: Office, meeting: Meeting
) -> None:
    """Of one call that ended while nobody was there, and one that went on: each has two segments, the second left."""
    site = office.site
    (stays, one), (leaves, two) = [await office.inbound(*call) for call in ((LIVES, "101"), (LEAVES, "103"))]
    await stays.talk(TALK_S)
    for number, leg in ((LIVES, one), (LEAVES, two)):
        await leg.hold()
        await until_recorded(site, number, on=False)
        await leg.unhold()
        await until_recorded(site, number)
    await stays.talk(TALK_S)
    process, told = site.process, len(site.events())
    assert process is not None
    process.kill()
    await process.wait()
    await leaves.hangup()
    await site.ami_proxy.shut()  # it is not to see Asterisk before its disk is gone
    starting = asyncio.create_task(site.start())

    async def says(**what: object) -> bool:
        status = await site.status()
        return bool(status) and all(status[key] == value for key, value in what.items())

    try:
        await until(says, "a service that answers")
        with out_of_sight(site):
            await site.ami_proxy.open()

            async def known() -> bool:
                return "segment.unclosed" in (await site.status()).get("troubles", ())

            await until(known, "a segment that cannot be closed")
            await stays.hangup()
            await until(partial(says, waiting_to_seal=2), "two recordings that wait")

            async def says_why() -> bool:
                return bool((await site.why(LEAVES))["waiting"] == "segment_open")

            await until(says_why, "whoever tried to seal it says what it waits for")
            assert [site.files(number) for number in (LIVES, LEAVES)] == [[], []]
        await starting
    finally:
        starting.cancel()
    for number in (LIVES, LEAVES):
        file = await site.sealed(number)
        own, others = checker.read(file)
        assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
        assert measure.voices(others, CUSTOMER) == {"chirp"}
        kept = [segment["kept_samples"] / own.rate for segment in manifest(file)["segments"]]
        assert [kept[0] > TALK_S - LOST_S, kept[1] > TALK_S - DEATH_S] == [True, True], kept
        assert sum(kept) == pytest.approx(len(own.samples) / own.rate)
    await until(partial(says, waiting_to_seal=0, troubles=[]), "nothing that waits")
    assert [path for path in site.leftovers() if ".sln" in path.name] == []
    lines = [line["event"] for line in site.events()[told:]]
    assert [lines.count(name) for name in ("segment.unclosed", "segment.recovered", "sealing.failed")] == [1, 1, 0]
    (died,) = [line for line in site.events()[told:] if line["event"] == "service.died"]
    assert (died["level"], bool(died["last_seen"])) == ("alert", True)
