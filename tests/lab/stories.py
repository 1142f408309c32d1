"""Owns: the calls that the demo shows and the e2e tests measure; each is one story of real phones on real lines.

A story says who calls, who answers, what is pressed and when it ends. What ought to become of it stands in the test,
not here. Customers send a chirp (its frequency tells the time), agents and third parties a tone of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ, SECOND_AGENT_HZ, THIRD_HZ = VOICES[:3]
TALK_S = 4.0
TITLES = {
    "inbound": "inbound call",
    "queue": "queue call",
    "outbound": "outbound sales call",
    "objection": "caller presses 9",
    "hung_up": "hangs up during the disclosure",
    "helpline": "agent dials 113",
    "forwarded": "outside caller forwarded outside",
    "transferred": "transferred outside by REFER",
}
"""By name of the function below that plays it."""


@dataclass
class Story:
    """One call and what its phones kept. `number` is the outside number by which it is found."""

    title: str
    number: str
    calls: dict[str, PhoneCall] = field(default_factory=dict)
    moments: dict[str, float] = field(default_factory=dict)
    """`time.monotonic` seconds of what happened."""

    def now(self, what: str) -> None:
        self.moments[what] = time.monotonic()


@dataclass
class Cast:
    """The phones of all stories, each on its line."""

    site: Installation
    phones: Phones
    carriers: tuple[Phone, ...]
    """Where outside callers call from; a phone takes four calls at once."""
    called: Phone
    """Outside numbers that our agents call as customers."""
    third: Phone
    """Outside numbers that are nobody's customer."""
    agents: dict[str, Phone]
    stories: dict[str, Story] = field(default_factory=dict)
    """Those that have begun, by name; their calls show live how far they are."""

    def begin(self, play: Callable[[Cast], Awaitable[Story]], number: str) -> Story:
        """The story that `play` plays, from now on."""
        story = self.stories[play.__name__] = Story(TITLES[play.__name__], number)
        return story

    @property
    def carrier(self) -> Phone:
        """The outside phone that had the fewest calls so far."""
        return min(self.carriers, key=lambda phone: len(phone.calls))

    @classmethod
    async def gather(cls, site: Installation, phones: Phones, agents: tuple[str, ...]) -> Cast:
        """Put a phone on every line that the stories need."""
        a = site.asterisk
        outside = await asyncio.gather(
            phones.add(a.line("trunk-a"), sends=CUSTOMER),
            phones.add(a.line("trunk-a"), sends=CUSTOMER),
            phones.add(a.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.5)),
            phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.5)),
        )
        own = await asyncio.gather(
            *(phones.add(a.line(line), sends=Tone(AGENT_HZ), on_incoming=Answer(0.5)) for line in agents)
        )
        return cls(site, phones, outside[:2], *outside[2:], dict(zip(agents, own, strict=True)))


async def inbound(cast: Cast) -> Story:
    """A customer calls, hears the disclosure, and talks with an agent."""
    story = cast.begin(inbound, "+31612345100")
    story.calls["customer"] = customer = await cast.carrier.call("31201234100", caller_id=story.number)
    story.calls["agent"] = agent = await cast.agents["100"].incoming(number=story.number, deadline_s=30)
    await agent.answered()
    story.now("talking")
    await customer.talk(TALK_S)
    await customer.hangup()
    return story


async def queue(cast: Cast) -> Story:
    """A customer waits in a queue and is answered by one of its members."""
    story = cast.begin(queue, "+31612345101")
    story.calls["customer"] = customer = await cast.carrier.call("31201239001", caller_id=story.number)
    story.calls["agent"] = agent = await cast.agents["101"].incoming(number=story.number, deadline_s=30)
    await agent.answered()
    story.now("talking")
    await customer.talk(TALK_S)
    await agent.hangup()
    return story


async def outbound(cast: Cast) -> Story:
    """An agent calls a customer, who hears the disclosure before he is connected."""
    story = cast.begin(outbound, "+31201112233")
    story.calls["agent"] = agent = await cast.agents["103"].call("0201112233")
    story.calls["customer"] = customer = await cast.called.incoming(deadline_s=30)
    await customer.answered()
    await agent.answered(deadline_s=30)
    story.now("talking")
    await customer.talk(TALK_S)
    await agent.hangup()
    return story


async def objection(cast: Cast) -> Story:
    """A caller is told of training and presses 9 while he is told; the call goes on."""
    story = cast.begin(objection, "+31612345104")
    story.calls["customer"] = customer = await cast.carrier.call("31201235104", caller_id=story.number)
    await customer.answered()
    await customer.talk(2.0)
    story.now("pressed 9")
    await customer.dtmf("9")
    story.calls["agent"] = agent = await cast.agents["104"].incoming(number=story.number, deadline_s=30)
    await agent.answered()
    story.now("talking")
    await customer.talk(TALK_S)
    await customer.hangup()
    return story


async def hung_up(cast: Cast) -> Story:
    """A caller hangs up in the middle of the disclosure."""
    story = cast.begin(hung_up, "+31612345105")
    story.calls["customer"] = customer = await cast.carrier.call("31201234105", caller_id=story.number)
    await customer.answered()
    await customer.talk(2.0)
    await customer.hangup()
    return story


async def helpline(cast: Cast) -> Story:
    """An agent dials 113, the suicide prevention line."""
    story = cast.begin(helpline, "113")
    story.calls["agent"] = agent = await cast.agents["105"].call("113")
    await agent.answered(deadline_s=30)
    story.calls["third"] = next(c for c in cast.third.calls if c.number == "105")
    story.now("talking")
    await agent.talk(TALK_S)
    await agent.hangup()
    return story


async def forwarded(cast: Cast) -> Story:
    """An outside caller is forwarded to an outside number: nobody of ours takes part."""
    story = cast.begin(forwarded, "+31612345107")
    story.calls["customer"] = customer = await cast.carrier.call("31201239000", caller_id=story.number)
    story.calls["third"] = third = await cast.third.incoming(number=story.number, deadline_s=30)
    await third.answered()
    story.now("talking")
    await customer.talk(TALK_S)
    await customer.hangup()
    return story


async def transferred(cast: Cast) -> Story:
    """Halfway an agent's phone transfers the customer (REFER) to an outside number."""
    story = cast.begin(transferred, "+31612345106")
    story.calls["customer"] = customer = await cast.carrier.call("31201234106", caller_id=story.number)
    story.calls["agent"] = agent = await cast.agents["106"].incoming(number=story.number, deadline_s=30)
    await agent.answered()
    story.now("talking")
    await customer.talk(TALK_S)
    story.now("refer")
    await agent.refer("931108880000")
    story.calls["third"] = third = await cast.third.incoming(number=story.number, deadline_s=30)
    await third.answered()
    story.now("with the third party")
    await customer.talk(TALK_S)
    await customer.hangup()
    return story


STORIES: tuple[Callable[[Cast], Awaitable[Story]], ...] = (
    inbound,
    queue,
    outbound,
    objection,
    hung_up,
    helpline,
    forwarded,
    transferred,
)
AGENTS = ("100", "101", "103", "104", "105", "106")


async def all_at_once(
    cast: Cast, told: Callable[[str, Story | None], None] = lambda _name, _story: None
) -> list[Story]:
    """Every story, overlapping; `told(name, story)` is called at the beginning (None) and end of each."""

    async def one(play: Callable[[Cast], Awaitable[Story]], delay_s: float) -> Story:
        await asyncio.sleep(delay_s)
        told(play.__name__, None)
        story = await play(cast)
        told(play.__name__, story)
        return story

    return list(await asyncio.gather(*(one(play, 0.3 * n) for n, play in enumerate(STORIES))))
