"""What is done in recorded calls while the guard stands still (SIGSTOP): it holds from the moment at which it was done.

In one freeze an agent pauses, a customer objects, an agent makes a call private, another transfers his caller to an
outside number (REFER), and a fifth call goes on. The first guard goes on after a while; the second is killed by its
watchdog, and started again. Whoever asked for something says another tone as soon as Asterisk knows of it: it must be
in no file, and the service knew nothing of it for as long as it stood.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import pytest
import pytest_asyncio

from tests.e2e import in_call
from tests.e2e.in_call import (
    AGENT_HZ,
    CUSTOMER,
    LOST_S,
    OBJECT,
    OTHER_HZ,
    PAUSE,
    PRIVATE,
    PROOF,
    RESUME,
    SETTINGS,
    Kept,
    Office,
    Talk,
    kept,
    without_the_other_voice,
)
from tests.e2e.test_row_objection import gone, locked
from tests.lab import asterisk_tree, measure
from tests.lab.ami import connect
from tests.lab.asterisk import LabError
from tests.lab.checker import Detector
from tests.lab.cutting import RECORDED_S, TRIES
from tests.lab.deaths import settled
from tests.lab.evidence import until_recorded
from tests.lab.faults import quiet_moment
from tests.lab.installation import UNWATCHED_S, WATCHDOG_S, Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Tone

THIRD_HZ = VOICES[2]
TALK_S = 4.0
"""Long enough that what was on the disk before the freeze is something."""
GOES_ON_S = 2.0
STANDS_S = 0.5
"""How much longer the guard stands still once everything was asked for."""
KNOWN_S = 4.0
"""By then Asterisk knows of a key, or never will."""
BUFFERED_S = 2.4
"""Besides, where somebody pressed: while keys are sent a phone sends no voice, and such frames count for nothing in the
cut (docs/adr/0011). What was on the disk before stays: that is a buffer of Asterisk (32 KiB) and a look old at most."""
HEAD_S = 0.5
OUTSIDE = "31109990001"
AFTERWARDS = {
    "paused": {"paused"},
    "objected": {"objected"},
    "private": {"marked_private"},
    "referred": {"no_own_party", "not_told"},
}
"""What was done in each call while the guard stood still, and why it is not recorded from then on."""


@dataclass
class Frozen:
    """One freeze, and what became of its calls by what was done in them."""

    office: Office
    third: Phone
    killed: bool
    at: float = 0.0
    """When the guard stood still, by `time.monotonic`."""
    talks: dict[str, Talk] = field(default_factory=dict)

    @property
    def afterwards(self) -> dict[str, set[str]]:
        """Why each call is not recorded once the guard is back; a new guard cannot know of a hold on a new leg."""
        return {**AFTERWARDS, "referred": AFTERWARDS["referred"] | {"hold_unknown"}} if self.killed else AFTERWARDS

    async def play(self, extensions: tuple[str, ...], number: str) -> Frozen:
        """Five calls; the last two digits of `number` count up."""
        site = self.office.site
        names = (*AFTERWARDS, "goes on")
        cast = zip(extensions, range(len(names)), strict=True)
        found = await asyncio.gather(*(self._talk(e, f"{number}{n}", 0.3 * n) for e, n in cast))
        self.talks = dict(zip(names, found, strict=True))
        await found[-1].customer.talk(TALK_S)
        await quiet_moment(self.office.ami)
        process = site.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        self.at = time.monotonic()
        await asyncio.gather(
            self._asks("paused", "agent", PAUSE),
            self._asks("objected", "customer", OBJECT),
            self._asks("private", "agent", PRIVATE),
            self._transfers(),
        )
        await asyncio.sleep(STANDS_S)
        if self.killed:
            assert await process.wait() == -signal.SIGKILL
            await site.start()
        else:
            os.kill(process.pid, signal.SIGCONT)
        await self.talks["goes on"].recorded("afterwards")
        for name, why in self.afterwards.items():
            await self.talks[name].refused("afterwards", why)
        await self._resumes()
        await self.talks["goes on"].customer.talk(GOES_ON_S)
        for talk in self.talks.values():
            await talk.over()
        await settled(site)
        return self

    async def _talk(self, extension: str, number: str, after_s: float) -> Talk:
        """A recorded call; who was told too late, by a machine that was too busy, calls again."""
        await asyncio.sleep(after_s)
        for tries in range(1, TRIES + 1):
            talk = await self.office.talk(PROOF, extension, f"{number}{tries}", recorded=False)
            try:
                await talk.recorded("at first")
                return talk
            except LabError:
                await talk.customer.hangup()
                await talk.agent.ended()
                if tries == TRIES:
                    raise
        raise AssertionError("unreachable")

    async def _asks(self, name: str, who: str, key: str) -> None:
        """Somebody presses, and as soon as Asterisk knows of it the customer says something else."""
        talk = self.talks[name]
        presses = (talk.agent, talk.extension) if who == "agent" else (talk.customer, talk.number)
        await self._press(*presses, key)
        await talk.customer.say(Tone(OTHER_HZ))

    async def _press(self, call: PhoneCall, number: str, key: str) -> None:
        """Until Asterisk knows of it: on a machine that is too busy a key gets lost, and one presses again."""
        ami = self.office.ami
        for tries in range(1, TRIES + 1):
            since = len(ami.events)
            await call.dtmf(key)
            try:
                await ami.event("UserEvent", partial(_is_of, number), since=since, deadline_s=KNOWN_S)
                return
            except LabError:
                if tries == TRIES:
                    raise

    async def _transfers(self) -> None:
        """To an outside number, whose owner speaks at once."""
        before = len(self.third.calls)
        await self.talks["referred"].agent.refer(f"9{OUTSIDE}")
        answered = await self.third.incoming(after=before)
        await answered.answered()

    async def _resumes(self) -> None:
        talk = self.talks["paused"]
        await talk.customer.say(CUSTOMER)
        await talk.customer.talk(0.5)
        for tries in range(1, TRIES + 1):
            await self._press(talk.agent, talk.extension, RESUME)
            try:
                talk.views["resumed"] = await until_recorded(self.office.site, talk.number, deadline_s=RECORDED_S)
                return
            except LabError:  # what opens is heard at once or not at all, and its guard has only just come back
                if tries == TRIES:
                    raise


def _is_of(number: str, event: dict[str, str]) -> bool:
    return event.get("CallerIDNum") == number


@dataclass
class Scene:
    site: Installation
    goes_on: Frozen
    killed: Frozen


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tree: asterisk_tree.Tree) -> AsyncIterator[Scene]:
    site = Installation(dialplan=in_call.DIALPLAN, settings=SETTINGS, watchdog_s=UNWATCHED_S)
    async with site, Phones() as phones, connect(site.asterisk) as ami:
        a = site.asterisk
        carriers = [await phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(2)]
        third = await phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ))
        extensions = tuple(str(number) for number in range(101, 111))
        agents = {e: await phones.add(a.line(e), sends=Tone(AGENT_HZ)) for e in extensions}
        office = Office(site, tuple(carriers), agents, ami)
        goes_on = await Frozen(office, third, killed=False).play(extensions[:5], "+316124600")
        await a.idle()
        await site.stop()
        site.watchdog_s = WATCHDOG_S
        await site.start()
        killed = await Frozen(office, third, killed=True).play(extensions[5:], "+316124601")
        await a.idle()
        yield Scene(site, goes_on, killed)


@pytest.fixture(params=["goes on", "killed"])
def frozen(scene: Scene, request: pytest.FixtureRequest) -> Frozen:
    """Each freeze."""
    return scene.goes_on if request.param == "goes on" else scene.killed


async def ended_where_it_stood(frozen: Frozen, talk: Talk, file: Kept, most_lost_s: float) -> None:
    """The first segment ends at the last moment that was proven before the freeze, and not much earlier."""
    heard, said = await measure.pair(talk.customer)
    first = measure.positions(file.others, said, CUSTOMER)[0]
    stood = frozen.at - heard.began
    print(f"{talk.number}: kept up to {stood - first[1]:.3f} s before the freeze")
    assert stood - most_lost_s < first[1] < stood + 0.1


@pytest.mark.row(
    situation="a pause asked for while pbxguard stands still, frozen",
    decision="a gap from the key on, whether it goes on or is killed",
    article="own rule",
)
async def test_a_pause_asked_for_while_the_guard_stands_still_holds_from_the_key_on(frozen: Frozen) -> None:
    talk = frozen.talks["paused"]
    assert set(talk.views["afterwards"]["reasons"]) == frozen.afterwards["paused"]
    assert talk.views["resumed"]["recorded"]
    file = await kept(talk)
    await without_the_other_voice(talk, file)
    await ended_where_it_stood(frozen, talk, file, LOST_S + BUFFERED_S)
    assert len(talk.lines("paused")) >= 1


@pytest.mark.row(
    situation="an objection made while pbxguard stands still, frozen",
    decision="nothing from the key on is kept; what was captured is locked",
    article="art. 21 GDPR",
)
async def test_an_objection_made_while_the_guard_stands_still_holds_from_the_key_on(frozen: Frozen) -> None:
    talk = frozen.talks["objected"]
    assert set(talk.views["afterwards"]["reasons"]) == frozen.afterwards["objected"]
    await locked(frozen.office, talk)
    file = await kept(talk)
    await without_the_other_voice(talk, file)
    await ended_where_it_stood(frozen, talk, file, LOST_S + BUFFERED_S)


@pytest.mark.row(
    situation="the private button pressed while pbxguard stands still, frozen",
    decision="as by the button: destroyed unheard",
    article="own rule",
)
async def test_a_call_made_private_while_the_guard_stands_still_is_destroyed_unheard(frozen: Frozen) -> None:
    talk = frozen.talks["private"]
    assert set(talk.views["afterwards"]["reasons"]) == frozen.afterwards["private"]
    gone(frozen.office, talk, "marked_private")


@pytest.mark.row(
    situation="a transfer to an outside number (REFER) while pbxguard stands still, frozen",
    decision="recorded up to the last proven moment; nothing of the third party",
    article="art. 139b, 139c Sr",
)
async def test_nothing_of_whom_a_caller_is_transferred_to_while_the_guard_stands_still_is_kept(
    frozen: Frozen,
) -> None:
    talk = frozen.talks["referred"]
    file = await kept(talk)
    # of what a dead guard left a silent end goes whole: it had no looks at the disk
    await ended_where_it_stood(frozen, talk, file, LOST_S + (BUFFERED_S if frozen.killed else 0.0))
    heard, said = await measure.pair(talk.customer)
    arrived = measure.first_heard(heard, THIRD_HZ)
    third = measure.track(heard).part(arrived)
    heads = [track.part(0, HEAD_S) for track in (file.own, file.others)]
    found = Detector.calibrate(THIRD_HZ, third, [measure.track(said), *heads], in_call.WINDOW_S)
    assert found.find(third), "the control: the customer heard him"
    assert found.shortest_s <= in_call.WINDOW_S
    assert found.find(file.own) == []
    assert found.find(file.others) == []
    assert set(talk.views["afterwards"]["reasons"]) == frozen.afterwards["referred"]


async def test_a_call_in_which_nothing_is_asked_for_is_recorded_on_after_the_freeze(frozen: Frozen) -> None:
    talk = frozen.talks["goes on"]
    file = await kept(talk)
    assert file.own.seconds > TALK_S + GOES_ON_S - 2 * LOST_S


async def test_a_guard_that_stood_still_for_too_long_was_killed_by_its_watchdog(scene: Scene) -> None:
    (segment, *_) = (await kept(scene.killed.talks["goes on"])).manifest["segments"]
    assert segment["ended_by"] == ["guard_away"]
    (segment, *_) = (await kept(scene.goes_on.talks["paused"])).manifest["segments"]
    assert "guard_away" not in segment["ended_by"]
