"""Owns: calls that are before, in and after the disclosure at the instant at which pbxguard fails, and their measures.

Whoever dials is answered and greeted with a tone first: the silence that pbxguard costs him counts, in what his phone
heard, from the end of that tone. Customers say a chirp, agents a tone; a call is good when each hears the other to
its end. Knows no pbxguard but by its prompts' names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

from tests.lab import checker, measure
from tests.lab.asterisk import Line
from tests.lab.checker import Found
from tests.lab.evidence import manifest, prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones, Ring
from tests.lab.signals import VOICES, Chirp, Tone, write_wav

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
GREETING_HZ, GREETING_S = VOICES[3], 0.6
KEY_WAIT_S = 3.0
AGENTS = tuple(str(number) for number in range(120, 136))
EVIDENCE = "contract_evidence.nl.notice.inbound"
TRAINING = "quality_training.nl.opt_out.inbound"
CALLEE = "contract_evidence.nl.notice.outbound"
TO_EVIDENCE, TO_TRAINING, TO_QUEUE = "31201250", "31201251", "31201252"
OUT_TOLD, OUT_TWIN, OUT_BACK = "6", "7", "8"
"""What an agent dials before the outside number: by the callee's door, without pbxguard, by the door once more."""
LATER_S = 3.5
"""From the fault until no heartbeat can be fresh any more, and somewhat more."""
IN_NOTICE_S = 2.2
"""From the answer until the notice is being said: greeting, first packets, the callee's answer go before."""
TALK_S = 1.0
SEES_AGAIN_S = 1.0
"""From the end of the fault until pbxguard must be itself again."""
SLOW = "121"
"""The agent who lets it ring until the fault is there."""
SWEEP_CALLERS, BETWEEN_S, SWEEP_S, SWEEP_LASTS_S = 7, 1.0, 5.0, 3.0
"""In the sweep: how many callers, how far apart, when the fault comes and how long it lasts."""
DIALS_S = 0.3
"""From dialling to the answer, twice."""
SEALED_S = 30.0
AFTERWARDS_S = 3.0
"""How long the calls go on when pbxguard is back: what it decides too late would show by then."""

DIALPLAN = """
exten => _31201250XXX,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${EXTEN:8},60)
exten => _31201251XXX,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Gosub(pbxguard-disclose,s,1(quality_training))
 same => n,Dial(PJSIP/${EXTEN:8},60)
exten => _31201252XXX,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(q${EXTEN:8},,,,60)

[internal](+)
exten => _6[0+]X.,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-b,60,U(pbxguard-callee^${PBXGUARD_PROMPT}))
exten => _7[0+]X.,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-d,60)
exten => _8[0+]X.,1,Answer()
 same => n,Playback(${GREETING})
 same => n,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-c,60,U(pbxguard-callee^${PBXGUARD_PROMPT}))
"""
TWINS = Line("trunk-d", "from-trunk", host="127.0.0.6")
"""Where the calls without pbxguard go."""
QUEUES = "[general]\nautofill=yes\n" + "".join(
    f"[q{agent}]\nmusicclass=default\nstrategy=ringall\ntimeout=20\nretry=1\nmember => PJSIP/{agent}\n"
    for agent in AGENTS
)


@dataclass
class Call:
    """One call: `dialling` heard the greeting and what came of it; `called` answered in the end."""

    number: str
    """The outside party's."""
    agent: str
    dialling: PhoneCall
    callees: Phone | None = None
    """Where an outbound call rings, as call number `after` of this agent."""
    after: int = 0
    called: PhoneCall | None = None

    @property
    def customer(self) -> PhoneCall:
        return self.answered if self.callees else self.dialling

    @property
    def colleague(self) -> PhoneCall:
        return self.dialling if self.callees else self.answered

    @property
    def answered(self) -> PhoneCall:
        assert self.called is not None, f"{self.number} was never answered"
        return self.called


@dataclass
class Scene:
    """The phones, and the calls of one fault by their names; `fault_at` is in `time.monotonic` seconds."""

    site: Installation
    callers: list[Phone]
    callees: dict[str, Phone]
    agents: dict[str, Phone]
    numbers: Iterator[int]
    """The last digits of the outside numbers."""
    calls: dict[str, Call] = field(default_factory=dict)
    fault_at: float = 0.0
    recordings: dict[str, list[Path]] = field(default_factory=dict)
    """What was sealed of this scene's calls, by agent: a call that a restart finds has no number if it went out."""
    _sealed_before: set[Path] = field(default_factory=set)

    def seconds(self, disclosure: str, part: str = "notice") -> float:
        """The length of a prompt."""
        return checker.read(prompt(self.site, disclosure, part))[0].seconds

    async def inbound(self, name: str, to: str, agent: str) -> Call:
        """A customer dials; returns once he is answered and being greeted."""
        number = f"+31612{next(self.numbers)}"
        phone = min(self.callers, key=lambda one: len([c for c in one.calls if c.ended_at is None]))
        call = self.calls[name] = Call(number, agent, await phone.call(to + agent, caller_id=number))
        await call.dialling.answered()
        return call

    async def outbound(self, name: str, prefix: str, agent: str) -> Call:
        """An agent dials; returns once he is answered and being greeted."""
        number = f"+31201{next(self.numbers)}"
        phone = self.callees[prefix]
        before = len([c for c in phone.calls if not c.outgoing and c.number == agent])
        dialling = await self.agents[agent].call(prefix + number)
        call = self.calls[name] = Call(number, agent, dialling, phone, before)
        await call.dialling.answered()
        return call

    async def connected(self, call: Call) -> Call:
        """Until both parties are in the call."""
        if call.callees is not None:
            call.called = await call.callees.incoming(number=call.agent, after=call.after, deadline_s=30)
        else:
            call.called = await self.agents[call.agent].incoming(number=call.number, deadline_s=30)
            if call.agent == SLOW:
                await call.called.answer()
        await call.called.answered()
        await call.dialling.answered()
        return call

    def begin(self) -> None:
        self._sealed_before = set(self.site.archive.rglob("*.flac"))

    async def end(self) -> None:
        """The agents hang up; waits until all that was captured is sealed."""
        await asyncio.gather(*(call.colleague.hangup() for call in self.calls.values()))
        await asyncio.gather(*(call.customer.ended() for call in self.calls.values()))
        await self.site.asterisk.idle()
        async with asyncio.timeout(SEALED_S):
            while [path for path in self.site.leftovers() if ".sln" in path.name]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for file in sorted(set(self.site.archive.rglob("*.flac")) - self._sealed_before):
            agent = manifest(file)["call"]["own_endpoint"].rpartition("/")[2]
            self.recordings.setdefault(agent, []).append(file)


Fault = Callable[[], Awaitable[None]]


async def around(scene: Scene, fault: Fault, mend: Fault) -> Scene:
    """At one instant, the fault, calls are before, in and after the disclosure, at both doors and in a queue.

    All go on while it lasts, and after it.
    """
    scene.begin()
    # After the disclosure: one talks, one waits in a queue, one customer was called; and the twin without pbxguard.
    after = await asyncio.gather(
        scene.inbound("talking", TO_EVIDENCE, "120"),
        scene.outbound("callee, talking", OUT_TOLD, "122"),
        scene.outbound("callee, twin", OUT_TWIN, "123"),
    )
    await asyncio.gather(*(scene.connected(call) for call in after))
    await scene.inbound("waiting in the queue", TO_QUEUE, SLOW)
    await until_recorded(scene.site, after[0].number)
    asked = await scene.inbound("in the key wait", TO_TRAINING, "124")
    assert asked.dialling.answered_at is not None
    told_at = asked.dialling.answered_at + GREETING_S + scene.seconds(TRAINING) + scene.seconds(TRAINING, "key")
    await asyncio.sleep(told_at + KEY_WAIT_S / 2 - IN_NOTICE_S - DIALS_S - time.monotonic())
    # In it.
    await asyncio.gather(
        scene.inbound("in the notice", TO_EVIDENCE, "125"),
        scene.inbound("in the notice, queue", TO_QUEUE, "126"),
        scene.outbound("callee, in the notice", OUT_TOLD, "127"),
    )
    await asyncio.sleep(IN_NOTICE_S)
    # Before it: these are being greeted as it happens, and come to the door while the last heartbeat looks fresh.
    await asyncio.gather(
        scene.inbound("at once", TO_EVIDENCE, "128"),
        scene.inbound("at once, queue", TO_QUEUE, "129"),
        scene.outbound("callee, at once", OUT_TOLD, "130"),
    )
    scene.fault_at = time.monotonic()
    await fault()
    await asyncio.sleep(LATER_S)
    await asyncio.gather(
        scene.inbound("later", TO_EVIDENCE, "131"),
        scene.inbound("later, queue", TO_QUEUE, "132"),
        scene.outbound("callee, later", OUT_TOLD, "133"),
    )
    await asyncio.gather(*(scene.connected(call) for call in scene.calls.values() if call.called is None))
    await asyncio.sleep(TALK_S)
    await mend()
    # When it is back, the next ones are told and recorded, while those go on.
    await asyncio.sleep(SEES_AGAIN_S)
    await asyncio.gather(
        scene.inbound("back", TO_EVIDENCE, "134"),
        scene.outbound("callee, back", OUT_BACK, "135"),
    )
    await asyncio.gather(*(scene.connected(call) for call in scene.calls.values() if call.called is None))
    await asyncio.sleep(scene.seconds(CALLEE) + AFTERWARDS_S)
    await scene.end()
    return scene


async def at_any_moment(scene: Scene, fault: Fault, mend: Fault) -> Scene:
    """Callers come one after the other; the fault strikes each of them elsewhere, and is over while they are there."""
    scene.begin()

    async def one(n: int, agent: str) -> None:
        await asyncio.sleep(n * BETWEEN_S)
        await scene.connected(await scene.inbound(f"caller {n}", TO_EVIDENCE, agent))
        await asyncio.sleep(AFTERWARDS_S)

    async def fail() -> None:
        await asyncio.sleep(SWEEP_S)
        scene.fault_at = time.monotonic()
        await fault()
        await asyncio.sleep(SWEEP_LASTS_S)
        await mend()

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        for n, agent in enumerate(agent for agent in AGENTS if agent != SLOW):
            if n < SWEEP_CALLERS:
                group.create_task(one(n, agent))
    await asyncio.sleep(AFTERWARDS_S)
    await scene.end()
    return scene


@asynccontextmanager
async def cast(site: Installation) -> AsyncIterator[Callable[[], Scene]]:
    """Everybody at his phone; gives what makes the scene of one fault."""
    numbers = count(350100)
    greeting = site.asterisk.sounds / "greeting"
    write_wav(greeting.with_suffix(".wav"), Tone(GREETING_HZ).samples(8000)[: int(8000 * GREETING_S)], 8000)
    await site.asterisk.cli(f"dialplan set global GREETING {greeting}")
    async with Phones() as phones:
        a = site.asterisk
        callers = await asyncio.gather(*(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(3)))
        told, twins, back = await asyncio.gather(
            *(
                phones.add(a.line(name), sends=CUSTOMER, on_incoming=Answer(0.3))
                for name in ("trunk-b", TWINS.name, "trunk-c")
            )
        )
        agents = await asyncio.gather(
            *(
                phones.add(a.line(name), sends=Tone(AGENT_HZ), on_incoming=Ring() if name == SLOW else Answer(0.3))
                for name in AGENTS
            )
        )
        by_name = dict(zip(AGENTS, agents, strict=True))
        yield lambda: Scene(site, list(callers), {OUT_TOLD: told, OUT_TWIN: twins, OUT_BACK: back}, by_name, numbers)


# -- what the phones heard: positions are seconds on the timeline of the one who heard ------------------------------


@dataclass(frozen=True)
class Talk:
    """When the other party was heard, the longest time in between in which he was not, and the time after him."""

    start_s: float
    end_s: float
    longest_gap_s: float
    ends_early_s: float


def _talk(heard: Heard, spans: list[tuple[float, float]]) -> Talk:
    assert spans, f"the other party was never heard in {heard.path.name}"
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    return Talk(spans[0][0], spans[-1][1], max(gaps, default=0.0), heard.seconds - spans[-1][1])


def agent_heard(heard: Heard) -> Talk:
    """The agent's tone, in a customer's phone."""
    tones = checker.spans(measure.track(heard), AGENT_HZ)
    return _talk(heard, [(s.start_s, s.end_s) for s in tones if s.seconds > 0.1])


def customer_heard(heard: Heard) -> Talk:
    """The customer's chirp, in an agent's phone."""
    return _talk(heard, [(s.start_s, s.end_s) for s in checker.chirp_stretches(measure.track(heard), CUSTOMER)])


async def heard_each_other(call: Call) -> tuple[Talk, Talk]:
    """The agent in the customer's phone, and the customer in the agent's."""
    return agent_heard(await call.customer.heard()), customer_heard(await call.colleague.heard())


async def silence_after_greeting(call: Call) -> float:
    """Seconds until who dialled hears anything after the greeting."""
    heard = await call.dialling.heard()
    ended = greeted(heard)
    return next_sound(heard, ended + 0.02) - ended


def greeted(heard: Heard) -> float:
    """Where the greeting ends; a busy phone may have lost some of it."""
    tones = [s for s in checker.spans(measure.track(heard), GREETING_HZ) if s.seconds > 0.04]
    found = [s for s in tones if s.start_s < tones[0].start_s + GREETING_S]
    assert sum(s.seconds for s in found) > GREETING_S / 3, "the greeting was not heard"
    return found[-1].end_s


def next_sound(heard: Heard, after_s: float) -> float:
    """Where the first sound after a moment begins."""
    found = checker.sounds(measure.track(heard).part(after_s))
    assert found, f"nothing was heard after {after_s:.2f} s"
    return after_s + found[0].start_s


def length(scene: Scene, disclosure: str) -> float:
    """Seconds of a whole disclosure, its key sentence included."""
    return scene.seconds(disclosure) + (0.0 if ".notice." in disclosure else scene.seconds(disclosure, "key"))


def spoken(scene: Scene, heard: Heard, disclosure: str, part: str = "notice", after_s: float = 0.0) -> Found | None:
    """Where a prompt is heard, from a moment on; None when it is not."""
    sound = checker.read(prompt(scene.site, disclosure, part))[0]
    return checker.locate(measure.track(heard), sound, after_s=after_s, most_slip_s=measure.SLIP_S)


def spoken_end(scene: Scene, heard: Heard, disclosure: str, part: str = "notice") -> float:
    """Where a prompt that was heard whole ends, the silence at its end included."""
    found = spoken(scene, heard, disclosure, part)
    assert found is not None, f"{disclosure} ({part}) was not heard"
    assert found.complete, f"{disclosure} ({part}) was heard for {found.heard_s:.2f} s only"
    return found.start_s + found.slipped_s + scene.seconds(disclosure, part)
