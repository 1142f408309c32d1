"""The loop that makes the recorders match the permits.

Level-triggered: after every fact the switchboard and the memory are brought up to date, each touched conversation
is decided anew, and the difference between what should run and what runs comes out as commands. A snapshot after
a restart goes through the very same loop. Owns which segments run and what is known of each call; owns no clock and
does nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from .commands import (
    CallOutcome,
    Command,
    HangUp,
    Lamp,
    ReportCall,
    SealRecording,
    ShowLamp,
    StartRecording,
    StopRecording,
)
from .conversation import Conversation, asked_of, converse, direction_of, external_number
from .facts import (
    AuditHealthy,
    BeatReturned,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelHungUp,
    ChannelNumberChanged,
    ConnectionLost,
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    HangupRequested,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    PolicyReloaded,
    SegmentClosed,
    SegmentStarted,
    SegmentStartFailed,
    SnapshotTaken,
    SpoolHasRoom,
    SwitchedOff,
    SwitchedOn,
)
from .ids import Endpoint, PurposeName, RecordingId, SegmentId, Uniqueid, recording_id, segment_id
from .memory import Memory
from .numbers import parse
from .parties import PartyKind
from .permit import Permit, Refusal, Sight, decide, would_record
from .policy import Policy
from .purposes import Direction, OnObjection
from .reasons import Reason, ordered
from .switchboard import Channel, Component, Switchboard

NEVER = float("-inf")


@dataclass(slots=True)
class Segment:
    """A recorder that we asked for and that is not known to be gone."""

    id: SegmentId
    recording: RecordingId
    permit: Permit
    endpoint: Endpoint


@dataclass(slots=True)
class Call:
    """The life of one external channel."""

    channel: Channel
    recording: RecordingId
    direction: Direction
    asked: tuple[PurposeName, ...] = ()
    own_number: str = ""
    own_endpoint: str = ""
    queue: str = ""
    reference: str = ""
    language: str = ""
    told: bool = False
    reasons: tuple[Reason, ...] = (Reason.NOT_BRIDGED,)
    recorded: bool = False
    would_record: bool = False
    others: set[Uniqueid] = field(default_factory=set)
    segments: set[SegmentId] = field(default_factory=set)
    """Ours that are not closed yet."""
    had_segments: bool = False
    """At least one recorder was asked for."""
    ended: bool = False
    reported: CallOutcome | None = None


class Supervisor:
    """Facts in, commands out. One for each Asterisk; not thread-safe, and need not be."""

    def __init__(self, policy: Policy, node: str, numbering: Mapping[RecordingId, int] | None = None) -> None:
        """`numbering` gives, for recordings begun before a restart, how many segments they have already."""
        self.policy = policy
        self.node = node
        self.boot = ""
        self.board = Switchboard(policy.parties)
        self.memory = Memory()
        self.calls: dict[Uniqueid, Call] = {}
        self.running: dict[Uniqueid, Segment] = {}
        """By own leg; a segment that is being stopped stays until it is closed, in `closing`."""
        self.closing: dict[SegmentId, Segment] = {}
        self._numbers = {r: count(n + 1) for r, n in (numbering or {}).items()}
        self._connected = False
        self._lost_at = NEVER
        self._beat = NEVER
        self._audit_healthy = False
        self._spool_has_room = False
        self._switched_off = False
        self._changing: dict[frozenset[Uniqueid], tuple[frozenset[Uniqueid], float]] = {}
        self._blocked: dict[Uniqueid, float] = {}
        self._telling: set[Uniqueid] = set()
        self._lamps: dict[Endpoint, Lamp] = {}
        self._level = 2
        self._by_recording: dict[RecordingId, Call] = {}

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def lag(self) -> float:
        """Of the last `handle` or `tick`: the age in seconds of the newest beat that came back."""
        return self._now - self._beat

    _now: float = 0.0

    def closed(self) -> tuple[Reason, ...]:
        """What now forbids every recording (health, sight, the switch): a door plays no disclosure for nothing."""
        sight, limits = self._sight(), self.policy.limits
        against = {
            Reason.SWITCHED_OFF: sight.switched_off,
            Reason.AUDIT_UNHEALTHY: not sight.audit_healthy,
            Reason.SPOOL_FULL: not sight.spool_has_room,
            Reason.NOT_CONNECTED: not sight.connected,
            Reason.BEAT_LATE: sight.lag > limits.beat_lag_stop,
        }
        return ordered({reason for reason, is_so in against.items() if is_so})

    def outcome(self, call: Call) -> CallOutcome:
        """What is known of the call now."""
        number = external_number(call.channel, call.direction, self.policy)
        return CallOutcome(
            call=call.channel.uniqueid,
            linkedid=call.channel.linkedid,
            recording=call.recording,
            direction=call.direction,
            external_number=number.e164 or number.digits,
            own_number=call.own_number,
            own_endpoint=call.own_endpoint,
            queue=call.queue,
            reference=call.reference,
            language=call.language,
            purposes_asked=call.asked,
            told=call.told,
            reasons=() if call.recorded else call.reasons,
            recorded=call.recorded,
            ever_recorded=call.had_segments,
            would_record=call.would_record,
            others=tuple(sorted(call.others)),
        )

    # -- in and out --------------------------------------------------------------------------------------------------

    def handle(self, fact: Fact, now: float) -> list[Command]:
        """Take one fact at `now` (monotonic s); gives what is to be done, in order."""
        self._now = now
        commands: list[Command] = []
        touched: set[Uniqueid] = set()
        match fact:
            case BeatReturned(sent=sent):
                self._beat = max(self._beat, sent)
            case ConnectionLost():
                if self._connected:
                    self._lost_at = now
                self._connected = False
                self._changing.clear()
                touched = self._everybody()
            case SnapshotTaken():
                commands += self._snapshot(fact, now)
            case AuditHealthy(healthy=healthy):
                self._audit_healthy = healthy
                touched = self._everybody()
            case SpoolHasRoom(room=room):
                self._spool_has_room = room
                touched = self._everybody()
            case SwitchedOn() | SwitchedOff():
                self._switched_off = isinstance(fact, SwitchedOff)
                touched = self._everybody()
            case PolicyReloaded():
                self.board.patterns = self.policy.parties
                touched = self._everybody()
            case (
                DisclosureRequested()
                | DisclosureHeard()
                | DisclosureNotHeard()
                | Objected()
                | Consented()
                | MarkedPrivate()
            ):
                self.memory.note(fact)
                touched = {fact.channel}
            case SegmentStarted():
                pass
            case SegmentStartFailed(segment=id):
                commands += self._gone(id, now, failed=True)
            case SegmentClosed(segment=id):
                commands += self._gone(id, now, failed=False)
            case LocalOptimizationBegun(one=one, two=two):
                self._begin_change(one, two, now)
            case LocalOptimizationEnded(one=one, two=two):
                frozen, _ = self._changing.pop(frozenset((one, two)), (frozenset(), 0.0))
                touched = set(frozen) | {one, two}
            case CalleePromptBegun(channel=channel):
                self._telling.add(channel)
            case CalleePromptEnded(channel=channel):
                self._telling.discard(channel)
            case HangupRequested(channel=channel):
                commands += self._caller_gone(channel)
            case ChannelHungUp(channel=channel):
                commands += self._caller_gone(channel)
                touched = self.board.apply(fact)
                commands += self._settle(touched, now)
                commands += self._end_call(channel)
                self._forget(channel)
                touched = set()
            case ChannelNumberChanged():
                self._renumber(fact)
                touched = self.board.apply(fact)
            case _:
                touched = self.board.apply(fact)
        if self._sight_level() != self._level:
            self._level = self._sight_level()
            touched = self._everybody()
        return commands + self._settle(touched, now)

    def tick(self, now: float) -> list[Command]:
        """Time has passed: what was waited for may be over. Call it at least as often as a beat is sent."""
        self._now = now
        touched: set[Uniqueid] = set()
        for key, (frozen, deadline) in list(self._changing.items()):
            if deadline <= now and deadline != NEVER:
                self._changing[key] = (frozen, NEVER)
                touched |= frozen
        for leg, until in list(self._blocked.items()):
            if until <= now:
                del self._blocked[leg]
                touched.add(leg)
        if self._sight_level() != self._level:
            self._level = self._sight_level()
            touched = self._everybody()
        return self._settle(touched, now)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _settle(self, touched: Iterable[Uniqueid], now: float) -> list[Command]:
        """Decide every conversation that holds one of these channels, and make the recorders match."""
        commands: list[Command] = []
        done: set[Uniqueid] = set()
        for channel in sorted(touched):
            if channel in done:
                continue
            component = self.board.component(channel)
            done |= component.channels
            commands += self._settle_one(component, now)
        return commands

    def _settle_one(self, component: Component, now: float) -> list[Command]:
        self._meet_calls(component)
        half_done = False
        for frozen, deadline in self._changing.values():
            if not frozen.isdisjoint(component.channels):
                if deadline != NEVER:
                    return []  # the last decision stands: the picture is known to be false just now
                half_done = True
        legs = [leg for leg in sorted(component.channels) if leg in self.running]
        conversation = converse(component, self.board, self.memory, self.policy, half_done=half_done)
        blocked = any(self._blocked.get(leg, NEVER) > now for leg in component.channels)
        decision = decide(conversation, self._sight(running=bool(legs), blocked=blocked), self.policy)
        commands: list[Command] = []
        match decision:
            case Permit():
                recording = recording_id(self.node, self.boot, decision.call)
                for leg in legs:
                    segment = self.running[leg]
                    same = leg == decision.leg and segment.recording == recording
                    if not (same and segment.permit.purposes == decision.purposes):
                        commands += self._stop(leg, (Reason.PERMIT_CHANGED,))
                if decision.leg not in self.running:
                    commands += self._start(decision, recording)
            case Refusal(reasons=reasons):
                for leg in legs:
                    commands += self._stop(leg, self._why_ended(leg, reasons))
        return commands + self._report(component, conversation, decision)

    def _start(self, permit: Permit, recording: RecordingId) -> list[Command]:
        number = next(self._numbers.setdefault(recording, count(1)))
        endpoint = self.board.channels[permit.leg].endpoint
        segment = Segment(segment_id(recording, number), recording, permit, endpoint)
        self.running[permit.leg] = segment
        if (call := self.calls.get(permit.call)) is not None:
            call.segments.add(segment.id)
            call.had_segments = True
        return [StartRecording(permit, recording, segment.id, permit.leg), *self._light(endpoint)]

    def _stop(self, leg: Uniqueid, reasons: tuple[Reason, ...]) -> list[Command]:
        segment = self.running.pop(leg)
        self.closing[segment.id] = segment
        effects = [self._objection(segment, purpose) for purpose in segment.permit.purposes]
        objected = None not in effects
        stop = StopRecording(
            segment.id,
            segment.recording,
            leg,
            reasons,
            self._beat,
            destroy=objected and set(effects) == {OnObjection.DESTROY},
            lock=objected and OnObjection.LOCK in effects,
        )
        return [stop, *self._light(segment.endpoint)]

    def _objection(self, segment: Segment, purpose: PurposeName) -> OnObjection | None:
        """What an objection to this purpose does to the segment; None when nobody told of it objected."""
        for told in segment.permit.told:
            notes = self.memory.of(told.channel)
            if (notes.objected_to_all or purpose in notes.objected) and purpose in self.policy.purposes:
                return self.policy.purposes[purpose].on_objection
        return None

    def _light(self, endpoint: Endpoint) -> list[Command]:
        """The lamp of an own phone, when it changes."""
        recording = any(s.endpoint == endpoint for s in self.running.values())
        lamp = Lamp.RECORDING if recording else Lamp.NOT_RECORDED
        if self._lamps.get(endpoint, Lamp.NOT_RECORDED) is lamp:
            return []
        self._lamps[endpoint] = lamp
        return [ShowLamp(endpoint, lamp)]

    def _why_ended(self, leg: Uniqueid, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """An ordinary end is told as one: the other hung up, or the own party left."""
        segment = self.running[leg]
        if segment.permit.call not in self.board.channels:
            return (Reason.CALL_ENDED,)
        own = self.board.channels.get(leg)
        if own is None or own.bridge is None:
            return (Reason.OWN_LEFT,)
        if self.board.channels[segment.permit.call].bridge is None:
            return (Reason.EXTERNAL_LEFT,)
        return reasons

    # -- calls -------------------------------------------------------------------------------------------------------

    def _meet_calls(self, component: Component) -> None:
        """Every external channel is a call from the moment it is seen."""
        for uniqueid in component.channels:
            channel = self.board.channels.get(uniqueid)
            if channel is None or channel.kind is not PartyKind.EXTERNAL or uniqueid in self.calls:
                continue
            recording = recording_id(self.node, self.boot, uniqueid)
            call = Call(channel, recording, direction_of(channel, self.board))
            self.calls[uniqueid] = call
            self._by_recording[recording] = call

    def _report(self, component: Component, conversation: Conversation, decision: Permit | Refusal) -> list[Command]:
        legs = tuple(t.channel for t in conversation.own)
        recorded = isinstance(decision, Permit)
        commands: list[Command] = []
        externals = [u for u in component.channels if u in self.calls]
        for uniqueid in sorted(externals):
            call = self.calls[uniqueid]
            channel = self.board.channels.get(uniqueid, call.channel)
            call.channel = channel
            call.direction = direction_of(channel, self.board)
            notes = self.memory.of(uniqueid)
            call.told = bool(notes.heard)
            call.asked = asked_of(channel, self.board, self.memory) or call.asked
            call.queue = channel.queue or call.queue
            call.language = notes.language or conversation.language
            self._own_side(call, channel, conversation)
            call.reference = notes.reference or conversation.reference or call.reference
            call.recorded = recorded
            call.would_record = isinstance(decision, Refusal) and would_record(decision)
            if isinstance(decision, Refusal):
                call.reasons = decision.reasons
            if len(externals) > 1:
                call.others |= {u for u in externals if u != uniqueid}
            outcome = self.outcome(call)
            if outcome != call.reported:
                call.reported = outcome
                commands.append(ReportCall(outcome, ended=False, legs=legs if component.bridged else ()))
        return commands

    def _own_side(self, call: Call, channel: Channel, conversation: Conversation) -> None:
        """Whom of us it is with: the number dialled when it came in, the extension when we called."""
        dialler = self.board.root_dialler(channel)
        if conversation.own:
            call.own_endpoint = conversation.own[0].endpoint
        elif dialler is not None and dialler.kind is PartyKind.OWN:
            call.own_endpoint = dialler.endpoint
        if call.direction is Direction.INBOUND:
            call.own_number = call.own_number or channel.exten
        elif dialler is not None:
            call.own_number = dialler.number or call.own_number
            call.reference = self.memory.of(dialler.uniqueid).reference or call.reference

    def _end_call(self, channel: Uniqueid) -> list[Command]:
        call = self.calls.pop(channel, None)
        if call is None:
            return []
        call.ended = True
        call.recorded = False
        commands: list[Command] = []
        if call.had_segments:
            call.reasons = (Reason.CALL_ENDED,)
        commands.append(ReportCall(self.outcome(call), ended=True, legs=()))
        return commands + self._seal_if_over(call)

    def _seal_if_over(self, call: Call) -> list[Command]:
        if not call.ended or call.segments:
            return []
        self._by_recording.pop(call.recording, None)
        self._numbers.pop(call.recording, None)
        return [SealRecording(call.recording, self.outcome(call))] if call.had_segments else []

    def _gone(self, id: SegmentId, now: float, *, failed: bool) -> list[Command]:
        """A segment's recorder is known not to run (any more)."""
        segment = self.closing.pop(id, None)
        touched: set[Uniqueid] = set()
        if segment is None:
            leg = next((leg for leg, s in self.running.items() if s.id == id), None)
            if leg is None:
                return []
            segment = self.running.pop(leg)
            touched = {leg}
            if failed:
                self._blocked[leg] = now + self.policy.limits.retry_start
        call = self._by_recording.get(segment.recording)
        commands = self._settle(touched, now)
        if call is not None:
            call.segments.discard(id)
            commands += self._seal_if_over(call)
        return commands

    # -- sight -------------------------------------------------------------------------------------------------------

    def _sight(self, *, running: bool = False, blocked: bool = False) -> Sight:
        return Sight(
            connected=self._connected,
            lag=self._now - self._beat,
            audit_healthy=self._audit_healthy,
            spool_has_room=self._spool_has_room,
            switched_off=self._switched_off,
            start_failed=blocked,
            running=running,
        )

    def _sight_level(self) -> int:
        """0 fresh, 1 somewhat late, 2 blind; on a change everything is decided anew."""
        lag, limits = self._now - self._beat, self.policy.limits
        return (lag > limits.beat_lag_start) + (lag > limits.beat_lag_stop)

    def _snapshot(self, fact: SnapshotTaken, now: float) -> list[Command]:
        """Take the new picture; whoever is no longer in it hung up while we were away."""
        before = set(self.board.channels) | set(self.calls) | set(self.running)
        anew = fact.boot != self.boot
        if anew:
            self.board = Switchboard(self.policy.parties)
        elif now - self._lost_at > self.policy.limits.hold_trust:
            for seen in self.board.channels.values():
                seen.hold_known = False
        touched = self.board.apply(fact)
        gone = before if anew else before - set(self.board.channels)
        self._connected = True
        self._changing.clear()
        commands: list[Command] = []
        for leg in sorted(gone & set(self.running)):
            commands += self._stop(leg, (Reason.NOT_CONNECTED,))
        for channel in sorted(gone):
            commands += self._end_call(channel)
            self._forget(channel)
        if anew and self.boot:
            self.memory.forget_all()
        self.boot = fact.boot
        return commands + self._settle(touched, now)

    def _everybody(self) -> set[Uniqueid]:
        return set(self.board.channels) | set(self.running)

    def _begin_change(self, one: Uniqueid, two: Uniqueid, now: float) -> None:
        frozen = self.board.component(one).channels | self.board.component(two).channels
        self._changing[frozenset((one, two))] = (frozen, now + self.policy.limits.half_done)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _caller_gone(self, caller: Uniqueid) -> list[Command]:
        """Who is being told of a call whose caller has hung up would hear it to its end for nothing."""
        gone = [c for c in sorted(self._telling) if self._dialled_by(c, caller)]
        self._telling.difference_update(gone)
        return [HangUp(c) for c in gone]

    def _dialled_by(self, callee: Uniqueid, caller: Uniqueid) -> bool:
        channel = self.board.channels.get(callee)
        if channel is None:
            return False
        root = self.board.root_dialler(channel)
        return channel.dialled_by == caller or (root is not None and root.uniqueid == caller)

    def _renumber(self, fact: ChannelNumberChanged) -> None:
        """A number that really changes on an external channel may mean another person (DESIGN.md)."""
        channel = self.board.channels.get(fact.channel)
        if channel is None or channel.kind is not PartyKind.EXTERNAL or not channel.number:
            return
        before = parse(channel.number, self.policy.country)
        after = parse(fact.caller_number, self.policy.country)
        if before.e164 and after.e164 and before.e164 != after.e164:
            self.memory.doubt(fact.channel)

    def _forget(self, channel: Uniqueid) -> None:
        self.memory.forget(channel)
        self._blocked.pop(channel, None)
        self._telling.discard(channel)
        for key in [k for k in self._changing if channel in k]:
            del self._changing[key]
