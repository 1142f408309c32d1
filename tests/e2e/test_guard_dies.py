"""A guard that dies or freezes in the middle of calls: no recorder outlives it for long, and nothing of it is kept.

Two ends, each of a service with calls at several moments: killed (SIGKILL) while one recorder has just started, one is
in the middle and one recording is being sealed; frozen (SIGSTOP), and killed by its watchdog. While it is away the
agents say something else and a third party joins, so that what was captured then can be told by ear.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure, stories
from tests.lab.evidence import manifest
from tests.lab.installation import WATCHDOG_S, Installation, Service
from tests.lab.measure import Recorded
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Tone
from tests.lab.stories import CUSTOMER

AGENT, AFTER_HZ, THIRD_HZ = {f"{stories.AGENT_HZ:g}"}, VOICES[1], stories.THIRD_HZ
"""What agents say while the guard lives, and what they and the third party say once it is gone."""
STOPPED_S = 2.0
"""Longest that a recorder may run on once its guard is dead."""
LOST_S = 0.8
"""Most that is before the end and not kept: the watermark is written four times a second, 160 ms of guard, a burst."""
JOIN = "exten => _31201241XXX,1,BridgeAdd(PJSIP/${EXTEN:8}-)\n"
"""31201241NNN: into the conversation of agent NNN, as anybody may whose dialplan says so."""


@dataclass
class Talk:
    """One call and its phones, and what became of it."""

    number: str
    agent: PhoneCall
    customer: PhoneCall
    segment: str = ""
    third: PhoneCall | None = None
    spooled: dict[str, list[float]] = field(default_factory=dict)
    """Of each track in the spool: seconds of each of the voices that came after the end of the guard."""


@dataclass
class End:
    """How the guard ended, with the calls of that moment."""

    talks: dict[str, Talk]
    service: Service
    listed: dict[str, str]
    """`mixmonitor list` of each agent's channel, once the supervisor was done."""
    grew: list[str]
    """Spool files that still grew then."""


@dataclass
class Office:
    site: Installation
    phones: Phones
    carrier: Phone
    third: Phone
    agents: dict[str, Phone]

    async def talk(self, agent: str, number: str) -> Talk:
        """A call to an agent, answered and told, at the moment when its recorder runs."""
        before = len(self.site.events("recorder.started"))
        customer = await self.carrier.call(f"31201234{agent}", caller_id=number)
        answered = await self.agents[agent].incoming(number=number, deadline_s=30)
        await answered.answered()
        talk = Talk(number, answered, customer)
        await self.phones.until(lambda: len(self.site.events("recorder.started")) > before, "a recorder")
        talk.segment = self.site.events("recorder.started")[-1]["segment"]
        return talk

    async def end(self, talks: dict[str, Talk], live: tuple[str, ...], joined: str, how: signal.Signals) -> End:
        """The guard gets the signal; what is said from then on must not be kept. Until nothing more can change."""
        service = self.site.process
        assert service is not None
        service.send_signal(how)
        await asyncio.gather(*(talks[name].agent.say(Tone(AFTER_HZ)) for name in live))
        agent = talks[joined].agent.phone.line.name
        talks[joined].third = third = await self.third.call(f"31201241{agent}", caller_id="+31109990001")
        await third.answered()
        await service.wait()
        listed = {}
        for channel in await self.site.asterisk.channels():
            if channel.startswith("PJSIP/1"):
                listed[channel] = await self.site.asterisk.cli(f"mixmonitor list {channel}")
        before = self.sizes()
        await third.talk(1.0)
        grew = [name for name, size in self.sizes().items() if size != before[name]]
        for name in live:
            for path in self.site.spool.glob(f"{talks[name].segment}.*.sln"):
                sound = checker.read_raw(path)
                track = path.name.split(".")[1]
                spans = {hz: sum(s.seconds for s in checker.spans(sound, hz)) for hz in (AFTER_HZ, THIRD_HZ)}
                talks[name].spooled[track] = [spans[AFTER_HZ], spans[THIRD_HZ]]
        await asyncio.gather(*(talks[name].customer.hangup() for name in live))
        await third.hangup()
        return End(talks, service, listed, grew)

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.site.leftovers() if ".sln" in path.name}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with Installation(dialplan=JOIN) as site, Phones() as phones:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
        third = await phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ))
        names = ("100", "101", "102", "103", "104")
        own = [await phones.add(a.line(name), sends=Tone(stories.AGENT_HZ)) for name in names]
        yield Office(site, phones, carrier, third, dict(zip(names, own, strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def killed(office: Office) -> End:
    site = office.site
    talks = {"sealing": await office.talk("102", "+31612345192"), "middle": await office.talk("100", "+31612345190")}
    await talks["middle"].customer.talk(2.0)
    just = asyncio.create_task(office.talk("101", "+31612345191"))
    started = len(site.events("recorder.started"))
    await office.phones.until(lambda: office.agents["101"].calls, "the third call rings")
    closed = len(site.events("segment.closed"))
    await talks["sealing"].customer.hangup()
    talks["just begun"] = await just
    assert len(site.events("recorder.started")) == started + 1
    assert len(site.events("segment.closed")) >= closed
    return await office.end(talks, ("middle", "just begun"), "middle", signal.SIGKILL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def frozen(office: Office, back: None) -> End:
    talks = {"middle": await office.talk("103", "+31612345193")}
    await talks["middle"].customer.talk(2.0)
    end = await office.end(talks, ("middle",), "middle", signal.SIGSTOP)
    await office.site.start()
    return end


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def back(office: Office, killed: End) -> None:
    """The next start after the kill."""
    await office.site.start()


def check_stopped(end: End, live: tuple[str, ...], most_s: float) -> None:
    """Nothing is recorded any more, and what was recorded after the guard's end is bounded, in the spool's audio."""
    for channel, listed in end.listed.items():
        assert "0x" not in listed, f"a recorder is left on {channel}: {listed}"
    assert end.grew == []
    for name in live:
        after, _ = end.talks[name].spooled["own"]
        assert 0.02 < after <= most_s, f"{name}: {after:.2f} s of what came after the guard's end are in the spool"


async def check_sealed(office: Office, talk: Talk, at_least_s: float) -> tuple[Recorded, dict[str, Any]]:
    """What is kept is from before the guard's end, and sealed with the reason."""
    file: Path = await office.site.sealed(talk.number)
    heard, said = await measure.pair(talk.customer)
    kept = measure.recorded(file, said, CUSTOMER)
    assert kept.last_s < measure.first_heard(heard, AFTER_HZ)
    assert measure.voices(kept.own, CUSTOMER) == AGENT
    assert measure.voices(kept.others, CUSTOMER) == {"chirp"}
    assert kept.seconds > at_least_s
    (segment,) = manifest(file)["segments"]
    assert segment["ended_by"] == ["guard_away"]
    (closed,) = [row for row in office.site.events("segment.closed") if row["segment"] == talk.segment]
    after, _ = talk.spooled["own"]
    assert closed["reason"] == "guard_away"
    assert closed["cut_ms"] >= after * 1000, "the log counts less than was cut away"
    return kept, segment


async def check_third(talk: Talk, kept: Recorded) -> None:
    """Not a trace of the third party who joined while the guard was away."""
    heard, said = await measure.pair(talk.customer)
    arrived = measure.first_heard(heard, THIRD_HZ)
    detector = measure.detector(
        THIRD_HZ, heard, measure.track(said), measure.track(heard).part(0, arrived - measure.QUIET_S)
    )
    assert detector.find(measure.track(heard)), "the detector hears him in the customer's phone"
    assert detector.shortest_s <= 0.005
    assert detector.find(kept.others) == []
    assert detector.find(kept.own) == []


async def test_two_seconds_after_a_guard_is_killed_no_recorder_runs(killed: End) -> None:
    check_stopped(killed, ("middle", "just begun"), STOPPED_S)
    (stopped,) = killed.service.happened("stopped")
    assert stopped["out"] == '{"stopped": 2}'


async def test_what_a_killed_guard_left_is_sealed_up_to_its_watermark(office: Office, killed: End, back: None) -> None:
    kept, _ = await check_sealed(office, killed.talks["middle"], 2.0 - LOST_S)
    await check_third(killed.talks["middle"], kept)


async def test_a_recorder_that_had_just_begun_leaves_nothing_of_after_its_guards_end(
    office: Office, killed: End, back: None
) -> None:
    talk = killed.talks["just begun"]
    await office.phones.until(lambda: not office.sizes(), "an empty spool", 15)
    for file in office.site.files(talk.number):  # none, if not even its first moments were proven
        kept = checker.read(file)[0]
        assert sum(s.seconds for s in checker.spans(kept, AFTER_HZ)) == 0
        assert kept.seconds < 1.0


async def test_a_recording_that_was_being_sealed_is_there_once_and_whole(
    office: Office, killed: End, back: None
) -> None:
    talk = killed.talks["sealing"]
    file = await office.site.sealed(talk.number)
    _, said = await measure.pair(talk.customer)
    kept = measure.recorded(file, said, CUSTOMER)
    assert measure.voices(kept.own, CUSTOMER) == AGENT
    assert kept.seconds > 2.0


async def test_a_frozen_guard_is_killed_and_its_recorders_stopped(frozen: End) -> None:
    check_stopped(frozen, ("middle",), WATCHDOG_S + STOPPED_S)
    assert [row["why"] for row in frozen.service.happened("killed")] == ["no sign of life"]
    _, third = frozen.talks["middle"].spooled["others"]
    assert third > 0.5, "the third party was recorded meanwhile: else there was nothing to cut away"


async def test_who_joins_while_the_guard_is_frozen_is_not_in_the_sealed_file(office: Office, frozen: End) -> None:
    kept, _ = await check_sealed(office, frozen.talks["middle"], 2.0 - LOST_S)
    await check_third(frozen.talks["middle"], kept)


async def test_stop_recorders_needs_nothing_but_ami(office: Office, frozen: End) -> None:
    """By hand, beside a frozen guard, with a configuration of which only [ami] is of use."""
    site = office.site
    talk = await office.talk("104", "+31612345194")
    await talk.customer.talk(1.0)
    a = site.asterisk
    crippled = site.home / "crippled.toml"
    crippled.write_text(
        f'[ami]\nport = {a.ami_port}\nusername = "{a.ami_user}"\nsecret = "{a.ami_secret}"\n'
        '[database]\nurl = 3\n[spool]\npath = "/nowhere"\n[socket]\npath = "/nowhere/sock"\n'
    )
    living = await site.run("--config", str(crippled), "stop-recorders", check=False)
    assert living.code == 1
    assert "another pbxguard" in living.err
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    ran = await site.run("--config", str(crippled), "stop-recorders", "--json")
    assert ran.json() == {"stopped": 1}
    await site.stop(signal.SIGKILL)
    await talk.customer.hangup()
    await site.start()
    assert manifest(await site.sealed(talk.number))["segments"][-1]["ended_by"] == ["guard_away"]
