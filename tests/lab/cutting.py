"""Owns: what a test of the cut needs: calls that are being recorded, who comes into them, and the sealed file held
against the spool as it was before the cut, which is the control: there the voice that may not be kept is heard.

Positions are seconds in the uncut spool; both of its tracks begin together. Imports nothing of pbxguard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.lab import checker, measure
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import LabError
from tests.lab.checker import Detector, Track
from tests.lab.evidence import manifest, until_recorded
from tests.lab.faults import RtpSender, SpoolWatch, rtp_port
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, PhoneCall, Phones, Policy, Ring
from tests.lab.signals import VOICES, Chirp, Silence, Tone

CUSTOMER = Chirp()
AGENT_HZ, MARK_HZ, THIRD_HZ = VOICES[:3]
"""The agent; what he (or the customer) says from a moment on, to mark it; who may not be recorded."""
SPAN_S = 0.02
"""A shorter piece of a tone is no voice: another one that is cut off clicks at every frequency."""
QUIET_S = 0.5
"""How much of the beginning of a file shows a detector what it must not find."""
WINDOW_S = 0.005
TRIES, RECORDED_S = 3, 5.0
RINGS = Ring()

UNHEARD = (
    {"MatchCriteria": "action(exclude),name(Newexten)"},
    {"MatchCriteria": "action(exclude),name(VarSet),header(Variable),method(regex)", "Filter": "^([^L]|L[^A])"},
    {"MatchCriteria": "action(exclude),name(UserEvent)"},
)
"""What the tests do not read: in a flood it would delay what they wait for. Variables of theirs begin with `LAB`."""

DIALPLAN = """
; a third party waits to be put into the bridge of agent NNN
exten => _7XXX,1,Answer()
 same => n,Wait(120)
[joining]
exten => _1XX,1,BridgeAdd(PJSIP/${EXTEN}-)
; ${TURNS} turns that make events: pbxguard has those of the first filtered out, and must read those of the second
[flood-unread]
exten => s,1,Set(turn=0)
 same => n(loop),MSet(turn=$[${turn} + 1],a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9)
 same => n,GotoIf($[${turn} < ${TURNS}]?loop)
[flood-read]
exten => s,1,Set(turn=0)
 same => n(loop),UserEvent(Noise,Turn: ${turn})
 same => n,MSet(turn=$[${turn} + 1],a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9)
 same => n,GotoIf($[${turn} < ${TURNS}]?loop)
[silence]
exten => s,1,Answer()
 same => n,Wait(120)
"""


@dataclass
class Office:
    """An installation with carriers, whose spool is watched. Calls of several tests may overlap."""

    site: Installation
    phones: Phones
    ami: Ami
    watch: SpoolWatch
    carriers: tuple[Phone, ...]
    calls: int = 0
    _free: list[str] = field(default_factory=lambda: [str(line) for line in range(100, 116)])
    _talks: list[Talk] = field(default_factory=list)

    async def part_all(self) -> None:
        """The end of whatever a test that failed left."""
        for talk in tuple(self._talks):
            await self.part(talk)

    async def talk(self, *, dtx: bool = False, carrier: Phone | None = None) -> Talk:
        """A new call of a customer to an agent, and it is being recorded.

        With `dtx` the agent's phone sends no packets while he is silent. `carrier`: by this phone. Whom a machine that
        is too busy told too late hangs up and calls again.
        """
        for tries in range(1, TRIES + 1):
            talk = await self.ringing(carrier, dtx=dtx, answer=Answer())
            await talk.agent.answered()
            try:
                await until_recorded(self.site, talk.number, deadline_s=RECORDED_S)
                return talk
            except LabError:
                await self.part(talk)
                if tries == TRIES:
                    raise
        raise AssertionError("unreachable")

    async def ringing(self, carrier: Phone | None = None, *, dtx: bool = False, answer: Policy = RINGS) -> Talk:
        """A new call of a customer to an agent, who was told or is untold, and whose phone rings."""
        carrier = carrier or least_busy(self.carriers)
        if not self._free:
            raise LabError("no line is left: end a talk first")
        self.calls += 1
        line, number = self._free.pop(0), f"+3161234{self.calls:04d}"
        since = len(self.ami.events)
        agent = await self.phones.add(self.site.asterisk.line(line), sends=Tone(AGENT_HZ), dtx=dtx, on_incoming=answer)
        customer = await carrier.call(f"31201234{line}", caller_id=number)
        made = await self.ami.event("Newchannel", lambda event: event["CallerIDNum"] == number, since=since)
        leg = await agent.incoming(number=number, deadline_s=30)
        talk = Talk(self, number, line, customer, leg, made["Channel"])
        self._talks.append(talk)
        return talk

    async def part(self, talk: Talk) -> None:
        """Whatever is left of a talk ends, and its line is free again. Done once."""
        if talk not in self._talks:
            return
        self._talks.remove(talk)
        await talk.agent.hangup()
        await talk.customer.hangup()
        await self.phones.remove(talk.agent.phone)
        self._free.append(talk.line)


@dataclass
class Talk:
    """A customer and an agent of ours who are being recorded."""

    office: Office
    number: str
    line: str
    customer: PhoneCall
    agent: PhoneCall
    channel: str
    """The customer's, as Asterisk names it."""
    waiting: str = ""
    """The channel of a third party who is to join."""
    _port: int = 0

    @property
    def third_number(self) -> str:
        return f"+3110888{self.number[-4:]}"

    def of_third(self, event: dict[str, str]) -> bool:
        """Whether an event is of the third party's channel."""
        return event.get("CallerIDNum") == self.third_number

    async def expects(self, third: Phone) -> None:
        """This third party calls in and waits."""
        ami = self.office.ami
        since = len(ami.events)
        await third.call(f"7{self.line}", caller_id=self.third_number)
        self.waiting = (await ami.event("Newchannel", self.of_third, since=since))["Channel"]
        self._port = await rtp_port(ami, self.waiting)

    def speaks(self, voices: ExitStack, **how: float) -> None:
        """The third party speaks from now on, as `RtpSender` is told; `voices` end him."""
        voices.enter_context(RtpSender(self._port, Tone(THIRD_HZ), **how))

    async def joins(self) -> None:
        """The third party is put into the bridge; the news of it may be late."""
        await self.office.ami.action("Redirect", Channel=self.waiting, Context="joining", Exten=self.line, Priority=1)

    async def joined(self) -> None:
        """`joins`, and returns when he is in the bridge."""
        since = len(self.office.ami.events)
        await self.joins()
        await self.office.ami.event("BridgeEnter", self.of_third, since=since, deadline_s=20)

    async def replaced(self, third: Phone, voices: ExitStack) -> None:
        """The third party takes the customer's place, and speaks; `voices` end him."""
        ami = self.office.ami
        since = len(ami.events)
        dialog = await dialog_of(ami, self.channel)
        await third.call("31201234000", caller_id=self.third_number, headers={"Replaces": dialog})
        entered = await ami.event("BridgeEnter", self.of_third, since=since)
        self._port = await rtp_port(ami, entered["Channel"])
        self.speaks(voices)


@dataclass(frozen=True)
class Cut:
    """What became of a talk: the sealed file, and the first segment's spool as it was."""

    own: Track
    others: Track
    uncut_own: Track
    uncut_others: Track
    manifest: dict[str, Any]

    @property
    def segment(self) -> dict[str, Any]:
        """The first segment, as the manifest has it."""
        return dict(self.manifest["segments"][0])

    @property
    def captured_s(self) -> float:
        return self.uncut_others.seconds

    @property
    def kept_s(self) -> float:
        """What is left of the first segment."""
        return float(self.segment["kept_samples"]) / self.own.rate

    def first(self, hertz: float, side: str = "others") -> float:
        """Where a tone is first heard in the uncut spool."""
        track = self.uncut_own if side == "own" else self.uncut_others
        found = [span for span in checker.spans(track, hertz) if span.seconds > SPAN_S]
        assert found, f"the control: {hertz:g} Hz is in the spool before it is cut, on the {side}' side"
        return found[0].start_s

    def is_free_of(self, hertz: float, quiet: Track, side: str = "others") -> float:
        """No window of the sealed file has this tone, which the uncut spool has. Gives where it begins there.

        `quiet`: audio that certainly has it not, but the other voices.
        """
        begins = self.first(hertz, side)
        uncut = self.uncut_own if side == "own" else self.uncut_others
        heads = [self.own.part(0, QUIET_S), self.others.part(0, QUIET_S)]
        found = Detector.calibrate(hertz, uncut.part(begins), [quiet, *heads], WINDOW_S)
        assert found.shortest_s <= WINDOW_S
        assert found.find(uncut.part(begins)), "the detector is blind"
        assert found.find(self.own) == []
        assert found.find(self.others) == []
        return begins


async def cut_of(talk: Talk) -> Cut:
    """The end of a talk, and what was sealed of it."""
    office = talk.office
    await office.part(talk)
    file = await office.site.sealed(talk.number)
    own, others = checker.read(file)
    told = manifest(file)
    return Cut(own, others, *office.watch.uncut(f"{told['recording']}-001"), told)


async def free_of_third(talk: Talk, most_lost_s: float) -> Cut:
    """`cut_of`, with nothing of the third party in it, and at most so much missing of what was before him."""
    cut = await cut_of(talk)
    said = await talk.customer.said()
    begins = cut.is_free_of(THIRD_HZ, measure.track(said))
    lost = begins - cut.kept_s
    print(
        f"{talk.number}: captured {cut.captured_s:.2f} s, third from {begins:.3f} s, kept {cut.kept_s:.3f} s, "
        f"permitted audio lost {lost:.3f} s, {cut.segment['notes']}"
    )
    assert lost <= most_lost_s
    assert measure.voices(cut.others, CUSTOMER) == {"chirp"}
    return cut


async def dialog_of(ami: Ami, channel: str) -> str:
    """A channel's, to be replaced (RFC 3891): tags as Asterisk, to which the INVITE goes, has them."""
    found = []
    for what in ("call-id", "local_tag", "remote_tag"):
        answer = await ami.action("Getvar", Channel=channel, Variable=f"CHANNEL(pjsip,{what})")
        found.append(answer["Value"])
    return f"{found[0]};to-tag={found[1]};from-tag={found[2]}"


def least_busy(phones: tuple[Phone, ...]) -> Phone:
    """The phone that has the fewest calls now: one takes four at once."""
    return min(phones, key=lambda phone: sum(call.ended_at is None for call in phone.calls))


@asynccontextmanager
async def opened(site: Installation, *, carriers: int = 2, codec: str = "") -> AsyncIterator[Office]:
    """The installation runs, its carriers' phones are there, its spool is watched. `codec`: the carriers' only one."""
    async with site, Phones() as phones, connect(site.asterisk) as ami:
        a = site.asterisk
        for rule in UNHEARD:
            await ami.action("Filter", Operation="Add", **rule)
        found = [await phones.add(a.line("trunk-a"), sends=CUSTOMER, codec=codec) for _ in range(carriers)]
        with SpoolWatch(site.spool) as watch:
            yield Office(site, phones, ami, watch, tuple(found))


@asynccontextmanager
async def scene(office: Office) -> AsyncIterator[Phone]:
    """Gives a phone for all third parties of a test, silent by itself: `RtpSender` speaks in its place.

    No talk of the test outlives it.
    """
    phone = await office.phones.add(office.site.asterisk.line("trunk-c"), sends=Silence(), dtx=True, codec="PCMU/8000")
    try:
        yield phone
    finally:
        await office.part_all()
        await office.phones.remove(phone)


async def until_logged(site: Installation, event: str, after: int = 0, deadline_s: float = 15.0) -> dict[str, Any]:
    """The service's log line of this event, past the first `after` of them; waits for it."""
    end = asyncio.get_running_loop().time() + deadline_s
    while len(found := site.events(event)) <= after:
        if asyncio.get_running_loop().time() > end:
            raise LabError(f"no {event} after {deadline_s} s")
        await asyncio.sleep(0.05)
    return found[after]
