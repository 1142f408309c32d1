"""The loop that makes the recorders match the permits.

Level-triggered: after every fact the switchboard and the memory are brought up to date, each touched conversation
is decided anew, and the difference between what should run and what runs comes out as commands. A snapshot after
a restart goes through the very same loop. Owns which segments run and what is known of each call; owns no clock and
does nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .callee import PLAYED
from .calls import Call, Calls
from .commands import (
    CallOutcome,
    Command,
    CommitBegin,
    CommitResume,
    HangUp,
    Lamp,
    LookAnew,
    LookCloser,
    NoteBinding,
    NoteDoubt,
    NoteLongPause,
    NotePrivate,
    NoteRequest,
    RefuseRequest,
    ShowLamp,
    StartRecording,
    StopRecording,
)
from .confirmations import Confirm
from .conversation import Conversation, converse, mode_of
from .doubts import Doubts
from .facts import (
    AuditHealthy,
    BeatReturned,
    BridgeDestroyed,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelHungUp,
    ChannelNumberChanged,
    ConnectionLost,
    Consented,
    DisclosureBegun,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    HangupRequested,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PictureSeen,
    PolicyReloaded,
    PurposeBegun,
    RecorderStopSeen,
    Requested,
    Resumed,
    SegmentClosed,
    SegmentStarted,
    SegmentStartFailed,
    SnapshotTaken,
    SpoolHasRoom,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
)
from .ids import BridgeId, Endpoint, PurposeName, RecordingId, SegmentId, Uniqueid, recording_id
from .joiners import Joiners, untold
from .knowledge import Knowledge
from .memory import Memory
from .numbers import parse
from .objections import binding, binding_by
from .parties import PartyKind
from .permit import Permit, Refusal, Sight, decide
from .policy import GuardMode, Policy
from .purposes import OnObjection
from .reasons import Reason, ordered
from .requests import Pauses, answer
from .spies import Spies
from .switchboard import Channel, Component, Switchboard

_WRONG = Reason.PICTURE_WRONG
NEVER = float("-inf")
ALWAYS = float("inf")


@dataclass(slots=True)
class Segment:
    """A recorder that we asked for and that is not known to be gone."""

    id: SegmentId
    recording: RecordingId
    permit: Permit
    endpoint: Endpoint


@dataclass(slots=True)
class Change:
    """A change of the picture that began and has not ended: until `deadline` the last decision stands."""

    channels: frozenset[Uniqueid]
    deadline: float
    """Monotonic s; `NEVER` once it has passed and the conversation counts as closed."""
    proven: float
    """The last beat that came back before it began: what the picture says later is not proven earlier."""


class Supervisor:
    """Facts in, commands out. One for each Asterisk; not thread-safe, and need not be."""

    def __init__(self, policy: Policy, node: str, numbering: Mapping[RecordingId, int] | None = None) -> None:
        """`numbering` as `restore` takes it."""
        self._known = Knowledge(policy, node)
        self.book = Calls(self._known)
        """Of the calls: their segments' numbers, what is told of them, when they are sealed."""
        self.running: dict[Uniqueid, Segment] = {}
        """By own leg; a segment that is being stopped stays until it is closed, in `closing`."""
        self.closing: dict[SegmentId, Segment] = {}
        self.book.restore(numbering or {})
        self._connected = False
        self._lost_at = NEVER
        self._beat = NEVER
        self._audit_healthy = False
        self._spool_has_room = False
        self._switched_off = False
        self._changing: dict[frozenset[Uniqueid], Change] = {}
        self._blocked: dict[Uniqueid, float] = {}
        self._telling: set[Uniqueid] = set()
        """Callees to whom Asterisk plays a disclosure."""
        self._failed: dict[Uniqueid, float] = {}
        """Callees whose prompt failed, and when: the hang-up that did it may be told a moment later."""
        self._hearing: set[Uniqueid] = set()
        """Callers to whom we play one."""
        self._lamps: dict[Endpoint, Lamp] = {}
        self._recorders: Counter[Endpoint] = Counter()
        """How many run on each own device, for its lamp."""
        self._on_pause: dict[Uniqueid, Endpoint] = {}
        """Own legs in a conversation that is paused, with their devices."""
        self._pauses = Pauses()
        self._joiners = Joiners()
        self._own_stops: Counter[Uniqueid] = Counter()
        """Stops of ours on each leg of which no event was seen yet."""
        self._others_stops: Counter[Uniqueid] = Counter()
        """How often somebody else stopped a recorder on each leg while ours ran there."""
        self._known_numbers: dict[Uniqueid, str] = {}
        """Of external channels whose number changed: the last in E.164."""
        self._spies = Spies()
        self._level = 2
        self._trusted: frozenset[Uniqueid] = frozenset()
        """Channels that the next snapshot shows for the first time and that were not on hold (`trust_unheld`)."""
        self._right_at: float | None = None
        """Up to when the picture is known to have been right; None until the first beat after a snapshot."""
        self._doubts = Doubts()
        self._suspects: frozenset[Uniqueid] = frozenset()
        """Who was not where the PBX's lists showed him when they were looked at last."""

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """What the organisation decided; after a change give a `PolicyReloaded`."""
        return self._known.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._known.policy = policy

    @property
    def node(self) -> str:
        return self._known.node

    @property
    def boot(self) -> str:
        """Names the boot of Asterisk; empty before the first snapshot."""
        return self._known.boot

    @property
    def board(self) -> Switchboard:
        return self._known.board

    @property
    def memory(self) -> Memory:
        return self._known.memory

    @property
    def calls(self) -> Mapping[Uniqueid, Call]:
        """Calls that live now, by external channel."""
        return self.book.live

    def outcome(self, call: Call) -> CallOutcome:
        """What is known of the call now."""
        return self.book.outcome(call)

    def confirmation(self, channel: Uniqueid) -> Confirm | None:
        """What is to be said to this party of its objection; None where nothing is said of recording at all."""
        seen, call = self.board.channels.get(channel), self.calls.get(channel)
        if seen is None or call is None or self._switched_off or mode_of(seen, self.policy) is GuardMode.OBSERVE:
            return None
        effect = self.book.effect(channel)
        return None if effect is None else Confirm(channel, effect, call.language or self.policy.default_language)

    def restore(self, numbering: Mapping[RecordingId, int]) -> None:
        """As `Calls.restore`."""
        self.book.restore(numbering)

    def deaf(self, channel: Uniqueid) -> Reason | None:
        """Why nobody may hear what is played to it now: it is on hold, or nobody knows. One that is not known at all
        has only just come."""
        seen = self.board.channels.get(channel)
        if seen is None:
            return None
        return Reason.PROMPT_ON_HOLD if seen.held else None if seen.hold_known else Reason.HOLD_UNKNOWN

    def unheld(self) -> frozenset[Uniqueid]:
        """Who is in a bridge and known not to be on hold: the others of a call, too, of whom one is."""
        known = (c for c in self.board.channels.values() if c.bridge is not None and c.hold_known and not c.held)
        return frozenset(channel.uniqueid for channel in known)

    def trust_unheld(self, channels: Iterable[Uniqueid]) -> None:
        """These were not on hold a moment before a restart, as the next snapshot finds them: it cannot show holds."""
        self._trusted = frozenset(channels)

    def expect_stop(self, leg: Uniqueid) -> None:
        """We stopped a recorder that a dead pbxguard left on this leg: the event of it is nobody else's doing."""
        self._own_stops[leg] += 1

    @property
    def connected(self) -> bool:
        """Whether a snapshot was taken and the connection was not lost since."""
        return self._connected

    @property
    def lag(self) -> float:
        """Of the last `handle` or `tick`: the age in seconds of the newest beat that came back."""
        return self._now - self._beat

    _now: float = 0.0

    def closed(self, now: float) -> tuple[Reason, ...]:
        """What at `now` forbids every recording (health, sight, the switch): a door plays no disclosure for nothing."""
        self._now = max(self._now, now)
        sight, limits = self._sight(), self.policy.limits
        against = {
            Reason.SWITCHED_OFF: sight.switched_off,
            Reason.AUDIT_UNHEALTHY: not sight.audit_healthy,
            Reason.SPOOL_FULL: not sight.spool_has_room,
            Reason.NOT_CONNECTED: not sight.connected,
            Reason.BEAT_LATE: sight.lag > limits.beat_lag_stop,
        }
        return ordered({reason for reason, is_so in against.items() if is_so})

    # -- in and out --------------------------------------------------------------------------------------------------

    def handle(self, fact: Fact, now: float) -> list[Command]:
        """Take one fact at `now` (monotonic s); gives what is to be done, in order."""
        due = self._expire(now)
        commands: list[Command] = self._long_pauses(now)
        touched: set[Uniqueid] = set()
        since = ALWAYS
        if self._connected and (places := self.board.belied(fact)):
            commands += self._doubt(places, now)
        match fact:
            case BeatReturned(sent=sent):
                self._beat = max(self._beat, min(sent, now))
                self._doubts.beat(self.board, self._beat)
                self._failed = {c: at for c, at in self._failed.items() if at >= sent}
                if self._right_at is None and self._connected:
                    self._right_at = self._beat
            case ConnectionLost():
                since = self._go_blind()
                touched = self._everybody()
            case PictureSeen():
                sure, touched, undecided = self._wrong(fact)
                if sure:
                    commands += self._distrust(fact, sure)
                    since = self._go_blind()
                    touched = self._everybody()
                elif undecided:
                    commands.append(LookCloser(()))
            case SnapshotTaken():
                commands += self._snapshot(fact, now)
            case AuditHealthy(healthy=healthy):
                if healthy is not self._audit_healthy:
                    touched = self._everybody()
                self._audit_healthy = healthy
            case SpoolHasRoom(room=room):
                if room is not self._spool_has_room:
                    touched = self._everybody()
                self._spool_has_room = room
            case SwitchedOn() | SwitchedOff():
                self._switched_off = isinstance(fact, SwitchedOff)
                touched = self._everybody()
            case PolicyReloaded():
                self.board.reclassify(self.policy.parties)
                touched = self._everybody()
            case (
                DisclosureRequested()
                | DisclosureHeard()
                | DisclosureNotHeard()
                | Objected()
                | ObjectionBinds()
                | Consented()
                | MarkedPrivate()
                | Paused()
                | Resumed()
                | PurposeBegun()
            ):
                self.memory.note(fact)
                if isinstance(fact, DisclosureHeard | DisclosureNotHeard):
                    self._joiners.ended(fact)
                self._time_pause(fact.channel, now)
                if isinstance(fact, DisclosureHeard | DisclosureNotHeard | Objected):
                    self._hearing.discard(fact.channel)
                touched = {fact.channel}
                if isinstance(fact, Objected) and (bound := self._bind_by(fact)):
                    commands.append(NoteBinding(bound))
                    touched |= {one.channel for one in bound}
            case Requested():
                said, touched = self._requested(fact, now)
                commands += said
            case DisclosureBegun(channel=channel):
                self._hearing.add(channel)  # until heard, not heard or hung up: one of them always comes
            case SegmentStarted():
                pass
            case SegmentStartFailed(segment=id):
                commands += self._gone(id, now)
            case SegmentClosed(segment=id, ran=ran):
                if not ran and (closed := self.closing.get(id)) is not None:
                    self._own_stops[closed.permit.leg] -= 1
                commands += self._gone(id, now)
            case RecorderStopSeen(channel=leg):
                if self._stopped_by_other(leg):
                    commands += self._stop(leg, (Reason.RECORDER_STOPPED,), self._beat)
                    touched = {leg}  # what was permitted still is: it starts anew
                    if self._others_stops[leg] > 1:
                        self._blocked[leg] = now + self.policy.limits.retry_start  # but not in a duel at full speed
            case LocalOptimizationBegun(one=one, two=two):
                self._begin_change(one, two, now)
            case LocalOptimizationEnded(one=one, two=two):
                touched = {one, two}
                if (change := self._changing.pop(frozenset((one, two)), None)) is not None:
                    touched |= change.channels
                    since = change.proven
            case CalleePromptBegun(channel=channel):
                self._telling.add(channel)
            case CalleePromptEnded(channel=channel, state=state):
                if channel in self._telling and state not in PLAYED:
                    self._failed[channel] = now
                self._telling.discard(channel)
            case HangupRequested(channel=channel):
                touched = self.board.apply(fact)
                commands += self._caller_gone(channel, now)
                if channel in self._telling or channel in self._failed:
                    commands += self._cut_off([channel], now)
            case ChannelHungUp(channel=channel):
                commands += self._caller_gone(channel, now)
                if channel in self._telling or channel in self._failed or channel in self._hearing:
                    commands += self._cut_off([channel], now)
                touched = self.board.apply(fact)
                for key in [key for key in self._changing if channel in key]:
                    change = self._changing.pop(key)  # half a Local pair is gone: its change is over
                    touched |= change.channels
                    since = min(since, change.proven)
                commands += self._settle(touched, now, since)
                commands += self.book.end(channel)
                commands += self._forget(channel)
                touched = set()
            case ChannelNumberChanged():
                touched, doubted = self._renumber(fact)
                commands += [NoteDoubt(fact.channel)] if doubted else []
            case BridgeDestroyed(bridge=bridge):
                touched = self.board.apply(fact)
                self._doubts.end(bridge)
            case SpyStopped(spy=spy):
                self._spies.forget(spy)
                touched = self.board.apply(fact)
            case _:
                touched = self.board.apply(fact)
        if self._sight_level() != self._level:
            self._level = self._sight_level()
            touched = self._everybody()
        return commands + self._settle(touched | due, now, since)

    def tick(self, now: float) -> list[Command]:
        """Time has passed: what was waited for may be over. Call it at least as often as a beat is sent."""
        touched = self._expire(now)
        if self._sight_level() != self._level:
            self._level = self._sight_level()
            touched = self._everybody()
        return self._long_pauses(now) + self._settle(touched, now)

    def _expire(self, now: float) -> set[Uniqueid]:
        """The deadlines that have passed at `now`; gives the channels to decide anew."""
        self._now = now
        touched: set[Uniqueid] = set()
        for change in self._changing.values():
            if NEVER < change.deadline <= now:
                change.deadline = NEVER
                touched |= change.channels
        for leg in [leg for leg, until in self._blocked.items() if until <= now]:
            del self._blocked[leg]
            touched.add(leg)
        return touched | self._joiners.due(now)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _settle(self, touched: Iterable[Uniqueid], now: float, since: float = ALWAYS) -> list[Command]:
        """Decide every conversation that holds one of these channels, and make the recorders match.

        What stops is put first: a start waits for the audit log. Nothing after `since` is proven for these channels.
        """
        commands: list[Command] = []
        done: set[Uniqueid] = set()
        for channel in sorted(touched):
            if channel in done:
                continue
            component = self.board.component(channel)
            done |= component.channels
            commands += self._settle_one(component, now, since)
        return sorted(commands, key=lambda command: not isinstance(command, StopRecording))

    def _settle_one(self, component: Component, now: float, since: float) -> list[Command]:
        self.book.meet(component)
        half_done = False
        proven = min(self._beat, since)
        for change in self._changing.values():
            if not change.channels.isdisjoint(component.channels):
                if change.deadline != NEVER:
                    return []  # the last decision stands: the picture is known to be false just now
                half_done = True
                proven = min(proven, change.proven)
        legs = [leg for leg in sorted(component.channels) if leg in self.running]
        bound = self._bind(binding(component, self.calls, self.memory))
        doubted = self._doubts.hang_over(component, self.board)
        conversation = converse(component, self.board, self.memory, self.policy, half_done=half_done, doubted=doubted)
        blocked = any(self._blocked.get(leg, NEVER) > now for leg in component.channels)
        commands: list[Command] = self._spread_private(component, conversation)
        commands += [NoteBinding(bound)] if bound else []
        if self._connected and not self._switched_off:
            commands += self._spies.judge(component, self.board, conversation)
        decision = decide(conversation, self._sight(running=bool(legs), blocked=blocked), self.policy)
        match decision:
            case Permit():
                recording = recording_id(self.node, self.boot, decision.call)
                for leg in legs:
                    segment = self.running[leg]
                    same = leg == decision.leg and segment.recording == recording
                    if not (same and _covers(segment.permit, decision)):
                        commands += self._stop(leg, (Reason.PERMIT_CHANGED,), proven)
                if decision.leg not in self.running:
                    # What runs may go on while a beat is somewhat late; nothing starts then.
                    decision = decide(conversation, self._sight(running=False, blocked=blocked), self.policy)
                    if isinstance(decision, Permit):
                        commands += self._start(decision, recording)
            case Refusal(reasons=reasons):
                for leg in legs:
                    commands += self._stop(leg, self._why_ended(leg, reasons), proven)
        commands += self._light_pause(component, decision)
        # a beat somewhat late starts no recorder, but breaks off no word either
        wanted = untold(conversation, self._sight(running=True), self.memory, self.policy)
        commands += self._joiners.consider(component, wanted, now)
        return commands + self.book.report(component, conversation, decision)

    def _start(self, permit: Permit, recording: RecordingId) -> list[Command]:
        endpoint = self.board.channels[permit.leg].endpoint
        segment = Segment(self.book.next_segment(permit, recording), recording, permit, endpoint)
        self.running[permit.leg] = segment
        self._recorders[endpoint] += 1
        return [StartRecording(permit, recording, segment.id, permit.leg), *self._light(endpoint)]

    def _stop(self, leg: Uniqueid, reasons: tuple[Reason, ...], proven: float) -> list[Command]:
        segment = self._take(leg)
        self.closing[segment.id] = segment
        self._own_stops[leg] += 1
        effects = [self._objection(segment, purpose) for purpose in segment.permit.purposes]
        objected = None not in effects
        stop = StopRecording(
            segment.id,
            segment.recording,
            leg,
            reasons,
            proven,
            destroy=(objected and set(effects) == {OnObjection.DESTROY}) or self._unheard(segment),
            lock=objected and OnObjection.LOCK in effects,
        )
        return [stop, *self._light(segment.endpoint)]

    def _take(self, leg: Uniqueid) -> Segment:
        """No recorder is to run on this leg any more."""
        segment = self.running.pop(leg)
        self._recorders[segment.endpoint] -= 1
        if not self._recorders[segment.endpoint]:
            del self._recorders[segment.endpoint]
        return segment

    def _spread_private(self, component: Component, conversation: Conversation) -> list[Command]:
        """A call that one of us marks as private stays so when it goes on to another of us."""
        if not any(t.private for t in conversation.talkers):
            return []
        anew = [c for c in sorted(component.channels & self.calls.keys()) if not self.memory.of(c).private]
        for channel in anew:
            self.memory.note(MarkedPrivate(channel))
        return [NotePrivate(channel) for channel in anew]

    def _bind_by(self, fact: Objected) -> tuple[ObjectionBinds, ...]:
        return self._bind(binding_by(fact, self.board.component(fact.channel), self.calls, self.memory))

    def _bind(self, facts: Iterable[ObjectionBinds]) -> tuple[ObjectionBinds, ...]:
        bound = tuple(facts)
        for fact in bound:
            self.memory.note(fact)
        return bound

    def _objection(self, segment: Segment, purpose: PurposeName) -> OnObjection | None:
        """What an objection to this purpose does to the segment; None when nobody told of it objected."""
        for told in segment.permit.told:
            if self.memory.of(told.channel).objects_to(purpose) and purpose in self.policy.purposes:
                return self.policy.purposes[purpose].on_objection
        return None

    def _unheard(self, segment: Segment) -> bool:
        """Whether its call was marked private in mid-call."""
        return any(self.memory.of(c).unheard for c in (segment.permit.call, *(t.channel for t in segment.permit.told)))

    # -- what is asked for in the call -------------------------------------------------------------------------------

    def _requested(self, fact: Requested, now: float) -> tuple[list[Command], set[Uniqueid]]:
        """What closes holds at once; what opens comes back as a fact once it is written down."""
        said = answer(fact, self.board, self.memory)
        if said.refused:
            return [RefuseRequest(fact.channel, fact.what)], set()
        bound: tuple[ObjectionBinds, ...] = ()
        for closing in said.closing:
            self.memory.note(closing)
            self._time_pause(closing.channel, now)
            if isinstance(closing, Objected):
                bound += self._bind_by(closing)
        closed = (*said.closing, *bound)
        commands: list[Command] = [NoteRequest(fact.channel, closed)] if closed else []
        commands += [CommitResume(said.opening)] if said.opening else []
        commands += [CommitBegin(said.begun)] if said.begun else []
        return commands, {closing.channel for closing in closed}

    def _time_pause(self, channel: Uniqueid, now: float) -> None:
        self._pauses.match(channel, self.memory.of(channel).paused, now, self.policy.pause.timeout)

    def _long_pauses(self, now: float) -> list[Command]:
        """Pauses that nobody ended in time."""
        over = self._pauses.over(now)
        if not self.policy.pause.resumes:
            return [NoteLongPause(channel) for channel in over]
        for channel in over:
            self._pauses.again(channel, now + self.policy.limits.retry_start)  # should it not be written down
        return [CommitResume((Resumed(channel),), timed_out=True) for channel in over]

    def _light_pause(self, component: Component, decision: Permit | Refusal) -> list[Command]:
        """The lamps of those of us who are in a conversation that is paused, or no longer are."""
        paused = isinstance(decision, Refusal) and Reason.PAUSED in decision.reasons
        commands: list[Command] = []
        for channel in component.talkers:
            if channel.kind is PartyKind.OWN and paused is not (channel.uniqueid in self._on_pause):
                if paused:
                    self._on_pause[channel.uniqueid] = channel.endpoint
                else:
                    del self._on_pause[channel.uniqueid]
                commands += self._light(channel.endpoint)
        return commands

    def _light(self, endpoint: Endpoint) -> list[Command]:
        """The lamp of an own phone, when it changes."""
        lamp = Lamp.PAUSED if endpoint in self._on_pause.values() else Lamp.NOT_RECORDED
        lamp = Lamp.RECORDING if self._recorders[endpoint] else lamp
        if self._lamps.get(endpoint, Lamp.NOT_RECORDED) is lamp:
            return []
        self._lamps[endpoint] = lamp
        return [ShowLamp(endpoint, lamp)]

    def _why_ended(self, leg: Uniqueid, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
        """An ordinary end is told as one: the other hung up, or the own party left."""
        segment = self.running[leg]
        call = self.board.channels.get(segment.permit.call)
        if call is None or call.leaving:
            return (Reason.CALL_ENDED,)
        own = self.board.channels.get(leg)
        if own is None or own.bridge is None:
            return (Reason.OWN_LEFT,)
        if call.bridge is None:
            return (Reason.EXTERNAL_LEFT,)
        return reasons

    # -- segments ----------------------------------------------------------------------------------------------------

    def _stopped_by_other(self, leg: Uniqueid) -> bool:
        """A recorder on this leg was stopped: whether not by us, and it may have been ours (the event has no id)."""
        if self._own_stops[leg] > 0:
            self._own_stops[leg] -= 1
            return False
        self._others_stops[leg] += leg in self.running
        return leg in self.running

    def _gone(self, id: SegmentId, now: float) -> list[Command]:
        """A segment's recorder is known not to run (any more)."""
        segment = self.closing.pop(id, None)
        touched: set[Uniqueid] = set()
        commands: list[Command] = []
        if segment is None:
            leg = next((leg for leg, s in self.running.items() if s.id == id), None)
            if leg is None:
                return []
            segment = self._take(leg)
            commands += self._light(segment.endpoint)
            touched = {leg}
            # Also where somebody else stopped it, or its leg is just dying: never start again in a tight loop.
            self._blocked[leg] = now + self.policy.limits.retry_start
        commands += self._settle(touched, now)
        return commands + self.book.segment_closed(segment.recording, id)

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

    def _go_blind(self) -> float:
        """We do not see, until a snapshot; gives what was proven before a change half done, if any."""
        if self._connected:
            self._lost_at = self._beat  # all that came later may be missing, however late the loss was noticed
        self._connected = False
        self._telling.clear()  # their prompts may end unseen: who is talking by then must not be hung up
        self._failed.clear()
        return self._drop_changes()

    def _wrong(self, fact: PictureSeen) -> tuple[frozenset[Uniqueid], set[Uniqueid], bool]:
        """Who is not where the PBX shows him, twice in a row (once may be a list's own haste) or in a bridge in doubt;
        who is in doubt no longer; whether of a bridge in doubt nothing was told."""
        if not self._connected:
            return frozenset(), set(), False
        wrong = frozenset(self.board.differs(fact.picture)) - fact.restless
        judged = self._doubts.judge(fact, self.board, wrong)
        sure, self._suspects = (wrong & self._suspects) | judged.wrong, wrong
        if not wrong:
            self._right_at = fact.at
        return sure, judged.right, judged.undecided

    def _distrust(self, fact: PictureSeen, wrong: frozenset[Uniqueid]) -> list[Command]:
        """What is recorded near those is proven only up to when the picture was right, and everything is looked at."""
        near = set(wrong)
        for channel in wrong:
            near |= self.board.component(channel).channels
        for _, members in fact.picture.bridges:
            near.update(members if not wrong.isdisjoint(members) else ())
        return [*self._cut_back(near), LookAnew(tuple(sorted(wrong)))]

    def _doubt(self, places: tuple[BridgeId, ...], now: float) -> list[Command]:
        """Somebody may be there whom we do not see: nothing is recorded near, and the PBX is asked who is."""
        near = {member for place in places for member in self.board.bridges[place].members}
        self._doubts.begin(places, now)
        stops = self._cut_back(near, self._doubts.before(self.board))
        return [*stops, *self._settle(near, now), LookCloser(tuple(sorted(near)))]

    def _cut_back(self, near: set[Uniqueid], known: float = NEVER) -> list[Command]:
        """What is recorded in the conversations of these is proven only up to when the picture was right, as lists told
        or as is `known` besides."""
        proven = max(known, NEVER if self._right_at is None else self._right_at)
        with_them = near.union(*(self.board.component(channel).channels for channel in near))
        return [c for leg in sorted(with_them & self.running.keys()) for c in self._stop(leg, (_WRONG,), proven)]

    def _snapshot(self, fact: SnapshotTaken, now: float) -> list[Command]:
        """Take the new picture; whoever is no longer in it hung up while we were away."""
        before = set(self.board.channels) | set(self.calls) | set(self.running)
        anew = self.boot not in ("", fact.boot)
        if anew:
            self._known.board = Switchboard(self.policy.parties)
        elif not self._connected and now - self._lost_at > self.policy.limits.hold_trust:
            for seen in self.board.channels.values():
                seen.hold_known = False
        touched = self.board.apply(fact)
        for channel in self._trusted & self.board.channels.keys() - before:
            self.board.channels[channel].hold_known = True
        self._trusted = frozenset()
        gone = before if anew else before - set(self.board.channels)
        self._connected = True
        self._right_at, self._suspects = None, frozenset()
        self._doubts.clear()
        proven = min(self._beat, self._drop_changes())
        commands: list[Command] = []
        for leg in sorted(gone & set(self.running)):
            commands += self._stop(leg, (Reason.NOT_CONNECTED,), proven)
        for channel in sorted(gone):
            commands += self.book.end(channel)
            commands += self._forget(channel)
        if anew:
            self.memory.forget_all()
        for created in fact.channels:  # those that a restart remembers: their time begins anew
            self._time_pause(created.channel, now)
        self._known.boot = fact.boot
        return commands + self._settle(touched, now, proven)

    def _drop_changes(self) -> float:
        """The picture is lost or new, and no change half done any more; gives what was proven before they began."""
        proven = min((change.proven for change in self._changing.values()), default=ALWAYS)
        self._changing.clear()
        return proven

    def _everybody(self) -> set[Uniqueid]:
        return set(self.board.channels) | set(self.running)

    def _begin_change(self, one: Uniqueid, two: Uniqueid, now: float) -> None:
        """Once begun it has its deadline: the same said again gives no more time."""
        channels = self.board.component(one).channels | self.board.component(two).channels
        change = Change(channels, now + self.policy.limits.half_done, self._beat)
        self._changing.setdefault(frozenset((one, two)), change)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _caller_gone(self, caller: Uniqueid, now: float) -> list[Command]:
        """Who is being told of a call whose caller has hung up would hear it to its end for nothing."""
        gone = [c for c in sorted(self._telling) if self._dialled_by(c, caller)]
        return [*(HangUp(c) for c in gone), *self._cut_off(gone, now)]

    def _cut_off(self, callees: list[Uniqueid], now: float) -> list[Command]:
        """The call's end cuts their prompts: told now, while they are there; the door's own word comes too late."""
        self._telling.difference_update(callees)
        self._hearing.difference_update(callees)
        for callee in callees:
            if self._failed.pop(callee, None) is not None:
                self.book.unmet(callee)
            self.memory.note(DisclosureNotHeard(callee, None, Reason.PROMPT_CHANNEL_GONE.value))
        return self._settle(callees, now)

    def _dialled_by(self, callee: Uniqueid, caller: Uniqueid) -> bool:
        channel = self.board.channels.get(callee)
        if channel is None:
            return False
        root = self.board.root_dialler(channel)
        return channel.dialled_by == caller or (root is not None and root.uniqueid == caller)

    def _renumber(self, fact: ChannelNumberChanged) -> tuple[set[Uniqueid], bool]:
        """A number that really changes on an external channel may mean another person (DESIGN.md): then also True.

        A withheld mark, or the same number written otherwise, changes nothing, whatever came in between.
        """
        channel = self.board.channels.get(fact.channel)
        if channel is None or channel.kind is not PartyKind.EXTERNAL:
            return self.board.apply(fact), False
        after = parse(fact.caller_number, self.policy.country)
        if not after.known:
            return set(), False
        before = self._known_numbers.get(fact.channel) or self._first_number(channel)
        doubted = bool(before and after.e164 and before != after.e164)
        if doubted:
            self.memory.doubt(fact.channel)
        if known := after.e164 or before:
            self._known_numbers[fact.channel] = known
        return self.board.apply(fact), doubted

    def _first_number(self, channel: Channel) -> str:
        texts = (channel.number, channel.dialled_number)
        return next((e164 for text in texts if (e164 := parse(text, self.policy.country).e164)), "")

    def _forget(self, channel: Uniqueid) -> list[Command]:
        self.memory.forget(channel)
        self._pauses.forget(channel)
        self._spies.forget(channel)
        self._joiners.forget(channel)
        self._blocked.pop(channel, None)
        self._known_numbers.pop(channel, None)
        self._telling.discard(channel)
        self._failed.pop(channel, None)
        self._hearing.discard(channel)
        self._own_stops.pop(channel, None)
        self._others_stops.pop(channel, None)
        endpoint = self._on_pause.pop(channel, None)
        return [] if endpoint is None else self._light(endpoint)


def _covers(running: Permit, now: Permit) -> bool:
    """What runs under `running` may go on under `now`: for the same purposes, and with nobody that it does not name."""
    return running.purposes == now.purposes and {t.channel for t in now.told} <= {t.channel for t in running.told}
