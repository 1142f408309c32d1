"""What is cut away when a permit ends while something is late: events, the service itself, packets, the wall clock.

In each case somebody who was told nothing takes the customer's place in the agent's bridge, or joins it, so that a
recorder that runs on has his voice. The spool as it was before the cut is the control: there he is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import LabError
from tests.lab.checker import Detector, Track
from tests.lab.cutting import RECORDED_S, TRIES, dialog_of
from tests.lab.evidence import manifest, until_recorded
from tests.lab.faults import (
    ComfortNoise,
    RtpSender,
    SpoolWatch,
    last_proven,
    quiet_moment,
    rtp_port,
    standing_still,
    until_taken,
)
from tests.lab.installation import UNWATCHED_S, Installation
from tests.lab.phone import Phone, PhoneCall, Phones, Ring
from tests.lab.signals import VOICES, Chirp, Silence, Tone

pytestmark = pytest.mark.alone

CUSTOMER = Chirp()
AGENT_HZ, _, THIRD_HZ = VOICES[:3]
TALK_S = 2.0
HEARD_PACKETS = 10
"""So many of a newcomer's packets have been taken before the time that the service still stands is counted."""
WINDOW_S, FRAME_S = 0.005, 0.02
LOST_S = 0.5
"""What may be lost beyond the time from the proven moment to the third party, and beyond the frames that a busy machine
lost meanwhile: the guard, a beat, what was buffered."""
BUFFERED_S = 2.4
"""What may be lost besides where one side sends nothing: one of Asterisk's 32 KiB write buffers, and a look."""

DIALPLAN = """
; a third party waits to be put into the bridge of agent NNN
exten => _7XXX,1,Answer()
 same => n,Wait(60)
[joining]
exten => _1XX,1,BridgeAdd(PJSIP/${EXTEN})
"""


@dataclass
class Lab:
    """The office that every scene of this module plays in."""

    site: Installation
    phones: Phones
    carriers: tuple[Phone, ...]
    ami: Ami
    watch: SpoolWatch
    scenes: int = 0
    _free: list[str] = field(default_factory=lambda: [str(line) for line in range(100, 112)])

    def cast(self) -> tuple[str, str]:
        """An agent's line and a customer's number that nobody used yet."""
        self.scenes += 1
        return self._free.pop(0), f"+316123457{self.scenes:02d}"

    async def leaves(self, agent: PhoneCall, customer: PhoneCall) -> None:
        """Of whom a machine that was too busy told too late there is nothing to see; his agent's line is free."""
        await agent.hangup()
        await customer.hangup()
        await self.phones.remove(agent.phone)
        self._free.append(agent.phone.line.name)

    async def scene(self, third: Phone, *, joins: bool = False, dtx: bool = False, **how: float) -> Scene:
        """A call that is being recorded. The phone of a third party is to join it, or to take the customer's place.

        With `dtx` the agent's phone sends no packets while he is silent. `how` the third party's packets come, as
        `RtpSender` takes it.
        """
        for tries in range(1, TRIES + 1):
            line, number = self.cast()
            since = len(self.ami.events)
            agent = await self.phones.add(self.site.asterisk.line(line), sends=Tone(AGENT_HZ), dtx=dtx)
            carrier = min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))
            customer = await carrier.call(f"31201234{line}", caller_id=number)
            made = await self.ami.event("Newchannel", partial(_is_of, number), since=since)
            leg = await agent.incoming(number=number, deadline_s=30)
            await leg.answered()
            try:
                await until_recorded(self.site, number, deadline_s=RECORDED_S)
                break
            except LabError:
                if tries == TRIES:
                    raise
                await self.leaves(leg, customer)
        scene = Scene(self, third, number, line, customer, leg, made["Channel"], joins, dtx, how)
        if joins:
            await third.call(f"7{line}", caller_id=scene.third_number)
            scene.waiting = (await self.ami.event("Newchannel", scene.of_third, since=since))["Channel"]
            await rtp_port(self.ami, scene.waiting)
        return scene


def _is_of(number: str, event: dict[str, str]) -> bool:
    return event["CallerIDNum"] == number


@dataclass
class Scene:
    """A customer and an agent who are being recorded."""

    lab: Lab
    third: Phone
    number: str
    line: str
    customer: PhoneCall
    agent: PhoneCall
    channel: str
    """The customer's, as Asterisk names it."""
    joins: bool
    dtx: bool
    how: dict[str, float]
    waiting: str = ""
    """The channel of a third party who is to join."""
    voice: RtpSender | None = None
    """His, once he is there."""

    @property
    def came(self) -> float:
        """When he was first heard, by `time.monotonic`."""
        assert self.voice is not None
        return self.voice.spoke_at

    @property
    def third_number(self) -> str:
        """The third party's number."""
        return f"+3110888{self.line}"

    def of_third(self, event: dict[str, str]) -> bool:
        return _is_of(self.third_number, event)

    async def own_channel(self) -> str:
        """The agent's, as Asterisk names it."""
        (channel,) = [c for c in await self.lab.site.asterisk.channels() if c.startswith(f"PJSIP/{self.line}-")]
        return channel

    async def come_in(self, voices: ExitStack) -> None:
        """The third party comes in and speaks; returns when Asterisk hears him there. `voices` end him."""
        ami = self.lab.ami
        since = len(ami.events)
        if self.joins:
            await ami.action("Redirect", Channel=self.waiting, Context="joining", Exten=self.line, Priority=1)
        else:
            dialog = await dialog_of(ami, self.channel)
            await self.third.call("31201234000", caller_id=self.third_number, headers={"Replaces": dialog})
        entered = await ami.event("BridgeEnter", self.of_third, since=since)
        port = await rtp_port(ami, entered["Channel"])
        self.voice = voices.enter_context(RtpSender(port, Tone(THIRD_HZ), **self.how))
        await until_taken(ami, entered["Channel"], RtpSender.STEPS + HEARD_PACKETS)


@dataclass(frozen=True)
class Cut:
    """What became of a scene: the sealed file, and the spool as it was."""

    own: Track
    others: Track
    uncut: Track
    """The others' track before it was cut."""
    uncut_own: Track
    arrived_s: float
    """Where the third party is first heard in it."""
    manifest: dict[str, Any]

    @property
    def lost_s(self) -> float:
        """Permitted audio that was cut away with the rest."""
        return self.arrived_s - self.others.seconds

    @property
    def unpaced_s(self) -> float:
        """How much of what was captured after him has nothing of one side: packets that a busy machine sent too late.

        The cut counts such frames for nothing (docs/adr/0011).
        """
        tail = [track.samples[round(self.arrived_s * track.rate) :] for track in (self.uncut, self.uncut_own)]
        size = round(FRAME_S * self.uncut.rate)
        count = len(tail[0]) // size
        heard = [track[: count * size].reshape(count, size).any(axis=1) for track in tail]
        return float(count - (heard[0] & heard[1]).sum()) * FRAME_S

    @property
    def missing_s(self) -> float:
        """How much shorter than its span the segment is: frames that the phones of a busy machine did not send."""
        return max(0.0, float(self.manifest["segments"][0]["missing_ms"]) / 1000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(tree: asterisk_tree.Tree) -> AsyncIterator[Lab]:
    # Its watchdog is looked at elsewhere: the longest freeze here may last longer than that waits, on a busy machine.
    site = Installation(dialplan=DIALPLAN, watchdog_s=UNWATCHED_S)
    async with site, Phones() as phones, connect(site.asterisk) as ami:
        a = site.asterisk
        carriers = await asyncio.gather(*(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(3)))
        with SpoolWatch(site.spool) as watch:
            yield Lab(site, phones, tuple(carriers), ami, watch)


@pytest_asyncio.fixture(loop_scope="session")
async def third(lab: Lab) -> AsyncIterator[Phone]:
    """The phone of all third parties of a test."""
    phone = await lab.phones.add(lab.site.asterisk.line("trunk-c"), sends=Silence(), dtx=True, codec="PCMU/8000")
    yield phone
    await lab.phones.remove(phone)


async def measured(scene: Scene) -> Cut:
    """The end of a scene, held against everything that was captured of it."""
    await scene.agent.talk(0.5)
    await scene.agent.hangup()
    if scene.customer.ended_at is None:
        await scene.customer.hangup()
    file = await scene.lab.site.sealed(scene.number)
    said = await scene.customer.said()
    own, others = checker.read(file)
    told = manifest(file)
    uncut_own, uncut = scene.lab.watch.uncut(f"{told['recording']}-001")
    there = [span for span in checker.spans(uncut, THIRD_HZ) if span.seconds > 4 * WINDOW_S]
    assert there, "the control: the third party is in the spool before it is cut"
    third = Detector.calibrate(THIRD_HZ, uncut.part(there[0].start_s), [measure.track(said), others.part(0, 0.5)])
    assert third.shortest_s <= WINDOW_S
    cut = Cut(own, others, uncut, uncut_own, there[0].start_s, told)
    print(
        f"{scene.number} dtx={scene.dtx}: captured {uncut.seconds:.2f} s, third from {cut.arrived_s:.2f} s, "
        f"kept {others.seconds:.2f} s, permitted audio lost {cut.lost_s:.3f} s, "
        f"unpaced {cut.unpaced_s:.2f} s, missing {cut.missing_s:.3f} s"
    )
    assert third.find(own) == []
    assert third.find(others) == []
    assert measure.voices(others, CUSTOMER) == {"chirp"}
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    return cut


@pytest.mark.parametrize("stall_s", [0.5, 2.5])
async def test_nothing_of_a_newcomer_is_kept_when_the_service_stands_still(
    lab: Lab, third: Phone, stall_s: float
) -> None:
    scenes = await asyncio.gather(
        lab.scene(third), lab.scene(third, joins=True), lab.scene(third, dtx=True, late_s=0.5)
    )
    with ExitStack() as voices:
        await scenes[0].customer.talk(TALK_S)
        await scenes[2].agent.mute()
        await scenes[0].customer.talk(1.0)
        await come_in(lab, scenes, voices, stall_s)


async def test_nothing_of_a_newcomer_is_kept_who_comes_in_bursts_to_an_agent_who_is_silent(
    lab: Lab, third: Phone
) -> None:
    """The agent's phone sends silence, nothing at all, or comfort noise; the newcomer's stalls again and again."""
    muted, silent, noise = scenes = await asyncio.gather(
        lab.scene(third, series_s=0.2), lab.scene(third, dtx=True, series_s=0.2), lab.scene(third, dtx=True, late_s=0.5)
    )
    with ExitStack() as voices:
        await muted.customer.talk(TALK_S)
        await asyncio.gather(*(scene.agent.mute() for scene in scenes))
        voices.enter_context(ComfortNoise(await rtp_port(lab.ami, await noise.own_channel())))
        await muted.customer.talk(1.0)
        await come_in(lab, (muted, silent, noise), voices, 0.5)


async def come_in(lab: Lab, scenes: Sequence[Scene], voices: ExitStack, stall_s: float) -> None:
    """The third parties come in while the service stands still, for so long; and then all that must hold of them."""
    assert lab.site.process is not None
    await quiet_moment(lab.ami)
    with standing_still(lab.site.process.pid):
        proven = await last_proven(lab.ami)
        await asyncio.gather(*(scene.come_in(voices) for scene in scenes))
        await asyncio.sleep(stall_s)
    cuts = [await measured(scene) for scene in scenes]
    for scene, cut in zip(scenes, cuts, strict=True):
        bound = scene.came - proven + cut.unpaced_s + cut.missing_s + LOST_S
        print(f"{scene.number}: {scene.came - proven:.3f} s after the proven moment, lost {cut.lost_s:.3f} s")
        assert cut.lost_s < bound + (BUFFERED_S if scene.dtx else 0.0)


async def test_a_late_start_begins_with_nothing_of_before_it(lab: Lab) -> None:
    """What is said while the service stands still, before it could start a recorder, is in no file."""
    for tries in range(1, TRIES + 1):
        line, number = lab.cast()
        agent = await lab.phones.add(lab.site.asterisk.line(line), sends=Tone(VOICES[1]), on_incoming=Ring())
        customer = await lab.carriers[0].call(f"31201234{line}", caller_id=number)
        leg = await agent.incoming(number=number, deadline_s=30)
        assert lab.site.process is not None
        with standing_still(lab.site.process.pid):
            await leg.answer()
            await leg.talk(0.6)
            await leg.say(Tone(AGENT_HZ))
            await leg.talk(0.4)
        try:
            await until_recorded(lab.site, number, deadline_s=RECORDED_S)
            break
        except LabError:
            if tries == TRIES:
                raise
            await lab.leaves(leg, customer)
    await leg.talk(TALK_S)
    await leg.hangup()
    own, _ = checker.read(await lab.site.sealed(number))
    assert f"{VOICES[1]:g}" in measure.voices(measure.track(await leg.said()), CUSTOMER), "the control"
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
