"""What is cut away when a permit ends while something is late: events, the service itself, packets, the wall clock.

In each case somebody who was told nothing takes the customer's place in the agent's bridge, or joins it, so that a
recorder that runs on has his voice. The spool as it was before the cut is the control: there he is heard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.ami import Ami, connect
from tests.lab.checker import Detector, Track
from tests.lab.evidence import manifest, until_recorded
from tests.lab.faults import RtpSender, SpoolWatch, rtp_port, standing_still
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones, Ring
from tests.lab.signals import VOICES, Chirp, Silence, Tone

pytestmark = pytest.mark.alone

CUSTOMER = Chirp()
AGENT_HZ, _, THIRD_HZ = VOICES[:3]
TALK_S = 2.0
WINDOW_S = 0.005
LOST_S = 0.5
"""What may be lost beyond the time from the proven moment to the third party: the guard, a beat, this busy machine."""
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

    async def scene(self, third: Phone, *, joins: bool = False, dtx: bool = False, late_s: float = 0.0) -> Scene:
        """A call that is being recorded. The phone of a third party is to join it, or to take the customer's place.

        With `dtx` the agent's phone sends no packets while he is silent. `late_s` seconds of the third party's voice
        arrive all at once when he is there.
        """
        self.scenes += 1
        line, number = f"1{self.scenes:02d}", f"+316123457{self.scenes:02d}"
        since = len(self.ami.events)
        agent = await self.phones.add(self.site.asterisk.line(line), sends=Tone(AGENT_HZ), dtx=dtx)
        carrier = min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))
        customer = await carrier.call(f"31201234{line}", caller_id=number)
        made = await self.ami.event("Newchannel", lambda event: event["CallerIDNum"] == number, since=since)
        leg = await agent.incoming(number=number, deadline_s=30)
        await leg.answered()
        await until_recorded(self.site, number)
        scene = Scene(self, third, number, line, customer, leg, made["Channel"], joins, dtx, late_s)
        if joins:
            await third.call(f"7{line}", caller_id=scene.third_number)
            scene.waiting = (await self.ami.event("Newchannel", scene.of_third, since=since))["Channel"]
            await rtp_port(self.ami, scene.waiting)
        return scene


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
    late_s: float
    waiting: str = ""
    """The channel of a third party who is to join."""
    came: float = 0.0
    """When he was there, by `time.monotonic`."""

    @property
    def third_number(self) -> str:
        """The third party's number."""
        return f"+3110888{self.line}"

    def of_third(self, event: dict[str, str]) -> bool:
        return event["CallerIDNum"] == self.third_number

    async def come_in(self, voices: ExitStack) -> None:
        """The third party comes in and speaks; returns when he is in the agent's bridge. `voices` end him."""
        ami = self.lab.ami
        since = len(ami.events)
        if self.joins:
            await ami.action("Redirect", Channel=self.waiting, Context="joining", Exten=self.line, Priority=1)
        else:
            dialog = await self._dialog()
            await self.third.call("31201234000", caller_id=self.third_number, headers={"Replaces": dialog})
        entered = await ami.event("BridgeEnter", self.of_third, since=since)
        port = await rtp_port(ami, entered["Channel"])
        self.came = time.monotonic()
        voices.enter_context(RtpSender(port, Tone(THIRD_HZ), self.late_s))

    async def _dialog(self) -> str:
        """The customer's, to be replaced (RFC 3891): tags as Asterisk, to which the INVITE goes, has them."""
        found = []
        for what in ("call-id", "local_tag", "remote_tag"):
            answer = await self.lab.ami.action("Getvar", Channel=self.channel, Variable=f"CHANNEL(pjsip,{what})")
            found.append(answer["Value"])
        return f"{found[0]};to-tag={found[1]};from-tag={found[2]}"


@dataclass(frozen=True)
class Cut:
    """What became of a scene: the sealed file, and the spool as it was."""

    own: Track
    others: Track
    uncut: Track
    """The others' track before it was cut."""
    arrived_s: float
    """Where the third party is first heard in it."""
    manifest: dict[str, Any]

    @property
    def lost_s(self) -> float:
        """Permitted audio that was cut away with the rest."""
        return self.arrived_s - self.others.seconds


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(tree: asterisk_tree.Tree) -> AsyncIterator[Lab]:
    async with Installation(dialplan=DIALPLAN) as site, Phones() as phones, connect(site.asterisk) as ami:
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
    _, uncut = scene.lab.watch.uncut(f"{told['recording']}-001")
    there = [span for span in checker.spans(uncut, THIRD_HZ) if span.seconds > 4 * WINDOW_S]
    assert there, "the control: the third party is in the spool before it is cut"
    third = Detector.calibrate(THIRD_HZ, uncut.part(there[0].start_s), [measure.track(said), others.part(0, 0.5)])
    assert third.shortest_s <= WINDOW_S
    cut = Cut(own, others, uncut, there[0].start_s, told)
    print(
        f"{scene.number} dtx={scene.dtx}: captured {uncut.seconds:.2f} s, third from {cut.arrived_s:.2f} s, "
        f"kept {others.seconds:.2f} s, permitted audio lost {cut.lost_s:.3f} s"
    )
    assert third.find(own) == []
    assert third.find(others) == []
    assert measure.voices(others, CUSTOMER) == {"chirp"}
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    return cut


@pytest.mark.parametrize("stall_s", [0.3, 0.5, 2.5])
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
        assert lab.site.process is not None
        proven = time.monotonic()
        with standing_still(lab.site.process.pid):
            await asyncio.gather(*(scene.come_in(voices) for scene in scenes))
            await asyncio.sleep(stall_s)
        cuts = [await measured(scene) for scene in scenes]
    for scene, cut in zip(scenes, cuts, strict=True):
        assert cut.lost_s < scene.came - proven + LOST_S + (BUFFERED_S if scene.dtx else 0.0)


async def test_a_late_start_begins_with_nothing_of_before_it(lab: Lab) -> None:
    """What is said while the service stands still, before it could start a recorder, is in no file."""
    lab.scenes += 1
    line, number = f"1{lab.scenes:02d}", f"+316123457{lab.scenes:02d}"
    agent = await lab.phones.add(lab.site.asterisk.line(line), sends=Tone(VOICES[1]), on_incoming=Ring())
    await lab.carriers[0].call(f"31201234{line}", caller_id=number)
    leg = await agent.incoming(number=number, deadline_s=30)
    assert lab.site.process is not None
    with standing_still(lab.site.process.pid):
        await leg.answer()
        await leg.talk(0.6)
        await leg.say(Tone(AGENT_HZ))
        await leg.talk(0.2)
    await until_recorded(lab.site, number)
    await leg.talk(TALK_S)
    await leg.hangup()
    own, _ = checker.read(await lab.site.sealed(number))
    assert f"{VOICES[1]:g}" in measure.voices(measure.track(await leg.said()), CUSTOMER), "the control"
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
