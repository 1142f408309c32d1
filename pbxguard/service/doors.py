"""The two doors before the bridge: who is told what, and what became known of it.

The caller's door plays a disclosure over ARI; the callee's door says beforehand, over FastAGI, what Asterisk itself is
to play to the callee, and judges what it reports. What opens (heard, consented) is in the audit log before the core
hears of it; an objection goes to the core first. A fault here leaves a party untold and lets the call go on.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, assert_never

from pbxguard.core.announcement import Outcome, Result, Timing
from pbxguard.core.callee import CalleeHeard, CalleeNotHeard, CalleeObjected, CalleePrompts, Finding
from pbxguard.core.errors import AuditFailed, PbxguardError
from pbxguard.core.facts import (
    CalleePromptBegun,
    Consented,
    DisclosureBegun,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    Objected,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.memory import Notes
from pbxguard.core.numbers import jurisdiction, parse
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, Disclosure
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import Remembered, entry_of
from pbxguard.core.request import DoorRequest, parse_request
from pbxguard.core.selection import AlreadyTold, Asked, Due, NotDue, due, goes_on_despite_objection
from pbxguard.logs import Event, get_logger

from .ports import Audit, Clock, FactSink, Pbx

AUDIT_WAIT = 0.1
"""Seconds that a call waits, after its disclosure, to hear that the audit log failed; then it goes on, and the fact
follows when it is on disk. At most 300 ms may lie between the key wait's end and ringing."""
COUNTED = (0.0, 0.6, 0.85)
"""When what is sent to a callee is counted, in shares of the sound's length: two of these, the first among them, prove
enough; a busy machine may be late with one."""
HEARTBEAT = 1.0
"""Seconds; the dialplan takes a heartbeat that is more than 2 s old, or as far ahead, for a pbxguard that is away."""
HEARTBEAT_OLD = 2.0
HEARTBEAT_RETRY = 0.1
"""Seconds until the next try of a door that does not answer: it is bypassed until then."""

_log = get_logger()


class Listener(Protocol):
    """Told by a visit while it runs."""

    async def objected(self) -> None: ...
    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None: ...


class CallerVisit(Protocol):
    """A channel that the dialplan brought to the caller's door (`pbx.ari.announcer.Visit`)."""

    channel: Uniqueid
    caller_number: str
    arguments: tuple[str, ...]

    async def announce(
        self, disclosure: Disclosure, timing: Timing, listener: Listener, *, goes_on: bool = False
    ) -> Outcome:
        """Play it, set the result, let the channel go on."""

    async def leave(self, result: Result, reasons: tuple[Reason, ...]) -> bool:
        """Set the result and let the channel go on, without a sound."""


class AgiRequest(Protocol):
    @property
    def uniqueid(self) -> str: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...


class AgiSession(Protocol):
    """The agent's channel asks what its callee is to be told (`pbx.agi.server.Session`)."""

    @property
    def request(self) -> AgiRequest: ...
    async def set_variable(self, name: str, value: str) -> None: ...


Place = Callable[[Uniqueid], tuple[str, str] | None]
"""Of a channel: the extension and the context it arrived at, as AMI showed them; None while unknown."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What both doors need of the rest of the service.

    `closed` and `notes` are the guard's; `boot` names the boot of Asterisk in audit lines.
    """

    policy: Callable[[], Policy]
    closed: Callable[[], tuple[Reason, ...]]
    notes: Callable[[Uniqueid], Notes]
    place: Place
    deaf: Callable[[Uniqueid], Reason | None]
    """Why nobody may hear what is played to a channel now, if so: it is, or may be, on hold."""
    facts: FactSink
    audit: Audit
    clock: Clock
    boot: Callable[[], str]

    def asked(self, channel: Uniqueid, request: DoorRequest, direction: Direction, external: str, other: str) -> Asked:
        """The question to `selection`. `external`: whose number is told; `other`: the other one."""
        policy = self.policy()
        did, context = self.place(channel) or (request.did, request.context)
        number = parse(external, policy.country)
        return Asked(
            request.purposes,
            direction,
            request.language,
            request.private,
            countries=(jurisdiction(number, policy),),
            numbers=(number, parse(other, policy.country)),
            mode=policy.mode_for(queue=request.queue, did=did, context=context),
        )

    async def open(self, *facts: Remembered) -> bool:
        """Audit first, then the core. False when the audit log failed: then the core hears nothing."""
        if not await self.note(*facts):
            return False
        for fact in facts:
            await self.facts.put(fact)
        return True

    async def close(self, *facts: Remembered) -> None:
        """The core first, then the audit log."""
        for fact in facts:
            await self.facts.put(fact)
        await self.note(*facts)

    async def note(self, *facts: Remembered) -> bool:
        """The audit log only. False when it failed."""
        at = self.clock.utc()
        try:
            await self.audit.commit(*(entry_of(fact, at, self.boot()) for fact in facts))
            return True
        except AuditFailed:
            _log.warning(Event.AUDIT_MISSED, call=facts[0].channel)
            return False


class CallerDoor:
    """`await door(visit)` for each channel that enters."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def __call__(self, visit: CallerVisit) -> None:
        """Decide, play, tell; returns when the channel is gone on and everything is on disk."""
        around = self._around
        request = parse_request(visit.arguments)
        _log.info(Event.DOOR_ENTERED, call=visit.channel, purposes=list(request.purposes))
        asked = DisclosureRequested(
            visit.channel,
            request.purposes,
            request.language,
            reference=request.reference,
            private=request.private,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(around.close(asked), name="door audit")
            policy = around.policy()
            question = around.asked(visit.channel, request, Direction.INBOUND, visit.caller_number, request.did)
            answer = due(policy, question, around.notes(visit.channel), around.closed())
            match answer:
                case NotDue(reasons):
                    result = Result.OFF if answer.off else Result.REFUSED
                    if Reason.OBJECTED in reasons:
                        result = Result.OBJECTED
                    await visit.leave(result, reasons)
                    _log.info(Event.DOOR_LEFT, call=visit.channel, result=result.value, reason=reasons[0].value)
                case AlreadyTold(_, consented):
                    await visit.leave(Result.CONSENTED if consented else Result.DISCLOSED, ())
                case Due(disclosure) if (deaf := around.deaf(visit.channel)) is not None:
                    await visit.leave(Result.FAILED, (deaf,))
                    await _untold(around, visit.channel, disclosure, deaf)
                case Due(disclosure):
                    timing = Timing(key_wait=policy.limits.key_wait)
                    listener = Telling(around, group, visit.channel, disclosure)
                    goes_on = goes_on_despite_objection(policy, disclosure.key.purposes)
                    _log.info(Event.DISCLOSURE_STARTED, call=visit.channel, disclosure=str(disclosure.key))
                    await around.facts.put(DisclosureBegun(visit.channel))
                    outcome = await visit.announce(disclosure, timing, listener, goes_on=goes_on)
                    _log.info(
                        Event.DOOR_LEFT,
                        call=visit.channel,
                        result=outcome.result.value,
                        reason=outcome.reasons[0].value if outcome.reasons else "",
                    )
                case _:
                    assert_never(answer)


class Telling:
    """Listens to one announcement, at a door or whispered; what must not hold up the call is left to `group`."""

    def __init__(
        self, around: Surroundings, group: asyncio.TaskGroup, channel: Uniqueid, disclosure: Disclosure
    ) -> None:
        self._around, self._group, self._channel, self._disclosure = around, group, channel, disclosure

    async def objected(self) -> None:
        _log.info(Event.OBJECTED, call=self._channel)
        fact = Objected(self._channel, self._disclosure.key.purposes)
        await self._around.facts.put(fact)
        self._group.create_task(self._around.note(fact), name="door audit")

    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None:
        if not outcome.heard:
            reason = next((r for r in outcome.reasons if r is not Reason.OBJECTED), Reason.PROMPT_FAILED)
            self._group.create_task(_untold(self._around, self._channel, self._disclosure, reason))
            return None
        ended = _iso(datetime.fromtimestamp(outcome.ended_at, UTC))
        opening = self._group.create_task(
            _told(self._around, self._channel, self._disclosure, ended, outcome.consented), name="door audit"
        )
        done, _ = await asyncio.wait({opening}, timeout=AUDIT_WAIT)
        if done and not opening.result():
            return Result.FAILED, (Reason.AUDIT_UNHEALTHY,)
        return None


async def _told(
    around: Surroundings, channel: Uniqueid, disclosure: Disclosure, ended_utc: str, consented: bool
) -> bool:
    """Heard in full. False when it could not be written down: then he counts as untold."""
    heard = DisclosureHeard(channel, disclosure.key, disclosure.digest, ended_utc)
    facts: list[Remembered] = [heard]
    if consented:
        facts.append(Consented(channel, disclosure.key.purposes))
    if not await around.open(*facts):
        await around.facts.put(DisclosureNotHeard(channel, disclosure.key, Reason.AUDIT_UNHEALTHY.value))
        return False
    _log.info(Event.DISCLOSURE_HEARD, call=channel, disclosure=str(disclosure.key))
    if consented:
        _log.info(Event.CONSENTED, call=channel)
    return True


async def _untold(around: Surroundings, channel: Uniqueid, disclosure: Disclosure, reason: Reason) -> None:
    _log.info(Event.DISCLOSURE_NOT_HEARD, call=channel, reason=reason.value)
    await around.close(DisclosureNotHeard(channel, disclosure.key, reason.value))


Counters = Callable[[Uniqueid], Awaitable[tuple[int, int]]]
"""Packets and octets sent to a channel, read together (`pbx.ari.counters`); raises PbxguardError."""


class CalleeDoor:
    """`answer` is the FastAGI handler; `observe` is to hear every fact in AMI's order; `run` owns what follows."""

    def __init__(self, around: Surroundings, counters: Counters) -> None:
        self._around, self._counters = around, counters
        self._prompts = CalleePrompts()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    async def answer(self, session: AgiSession) -> None:
        """What the callee is to be told; arguments: purposes, number dialled, key=value...

        Sets, inherited by the channel that `Dial` makes, ``PBXGUARD_PROMPT`` (empty: nothing) and the sounds; and
        ``PBXGUARD_RESULT`` with ``PBXGUARD_REASON`` on the agent's channel.
        """
        around = self._around
        channel = Uniqueid(session.request.uniqueid)
        arguments = session.request.arguments
        number = arguments[1] if len(arguments) > 1 else ""
        request = parse_request((*arguments[:1], *arguments[2:]))
        asked = DisclosureRequested(
            channel,
            request.purposes,
            request.language,
            for_callee=True,
            reference=request.reference,
            private=request.private,
        )
        await around.facts.put(asked)
        policy = around.policy()
        question = around.asked(channel, request, Direction.OUTBOUND, number, "")
        # What the agent's own channel heard or refused is not his callee's, but private is the call's.
        notes = Notes(private=around.notes(channel).private)
        answer = due(policy, question, notes, around.closed())
        match answer:
            case NotDue(reasons):
                result = Result.OFF if answer.off else Result.REFUSED
                await session.set_variable("PBXGUARD_REASON", "&".join(reason.value for reason in reasons))
                await session.set_variable("PBXGUARD_RESULT", result.value)
            case Due(disclosure):
                await session.set_variable("__PBXGUARD_NOTICE", disclosure.notice_sound)
                await session.set_variable("__PBXGUARD_KEYSOUND", disclosure.key_sound)
                await session.set_variable("__PBXGUARD_KEYWAIT", str(math.ceil(policy.limits.key_wait)))
                await session.set_variable("__PBXGUARD_PROMPT", str(disclosure.key))
                await session.set_variable("PBXGUARD_REASON", Reason.NOT_TOLD.value)
                await session.set_variable("PBXGUARD_RESULT", Result.FAILED.value)  # until he was told
            case AlreadyTold():
                pass  # not without notes of what was heard
            case _:
                assert_never(answer)
        await around.note(asked)

    def observe(self, fact: Fact) -> None:
        """Judge what Asterisk reports of its prompts."""
        policy = self._around.policy()
        begun = fact.channel if isinstance(fact, CalleePromptBegun) else None
        deaf = None if begun is None else self._around.deaf(begun)
        for finding in self._prompts.handle(fact, policy, deaf=deaf):
            self._spawn(self._tell(finding))
        if begun is not None and (seconds := self._prompts.seconds(begun, policy)) is not None:
            self._spawn(self._count(begun, seconds))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._group is None:
            work.close()
            return
        self._group.create_task(self._owned(work), name="callee's door")

    async def _owned(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            _log.error(Event.DOOR_FAILED, reason=type(error).__name__, exc_info=error)

    async def _count(self, channel: Uniqueid, seconds: float) -> None:
        """Beside a sound that plays: nobody waits for this."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for share in COUNTED:
            await asyncio.sleep(began + share * seconds - loop.time())
            try:
                self._prompts.sent(channel, *await self._counters(channel))
            except PbxguardError as error:
                _log.warning(Event.ARI_REQUEST_FAILED, request="rtp_statistics", reason=str(error))

    async def _tell(self, finding: Finding) -> None:
        around = self._around
        match finding:
            case CalleeHeard(channel, disclosure, consented):
                await _told(around, channel, disclosure, _iso(around.clock.utc()), consented)
            case CalleeNotHeard(channel, key, reason):
                _log.info(Event.DISCLOSURE_NOT_HEARD, call=channel, reason=reason.value)
                await around.close(DisclosureNotHeard(channel, key, reason.value))
            case CalleeObjected(channel, purposes):
                _log.info(Event.OBJECTED, call=channel)
                await around.close(Objected(channel, purposes))
            case _:
                assert_never(finding)


class Heartbeats:
    """Tells the dialplan, once a second, which doors work: each only after its own round trip.

    What is told is when the round trip began: nobody knows more, and a freeze in its midst must not look like life.
    """

    def __init__(self, pbx: Pbx, clock: Clock, probes: dict[str, Callable[[], Awaitable[None]]]) -> None:
        """`probes` by global variable (``PBXGUARD_ALIVE_ARI``, ``PBXGUARD_ALIVE_AGI``); each raises when away."""
        self._pbx, self._clock, self._probes = pbx, clock, probes
        self._told: dict[str, float] = {}

    def alive(self, variable: str) -> bool:
        """Whether the dialplan takes this door for alive now."""
        return self._clock.now() - self._told.get(variable, -math.inf) < HEARTBEAT_OLD

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for variable, probe in self._probes.items():
                group.create_task(self._beat(variable, probe), name=f"heartbeat {variable}")

    async def _beat(self, variable: str, probe: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                began, began_utc = self._clock.now(), self._clock.utc()
                await probe()
                await self._pbx.set_global(variable, str(int(began_utc.timestamp())))
                self._told[variable] = began
                await asyncio.sleep(HEARTBEAT)
            except asyncio.CancelledError:
                # Before Python 3.13 a deadline that is over in the very turn in which its answer came (after a freeze)
                # cancels whatever is awaited next; a door must not be away for ever after.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            except PbxguardError:
                # the adapter logged its change of state; the dialplan sees an old heartbeat
                await asyncio.sleep(HEARTBEAT_RETRY)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
