"""The book of calls: what becomes known of each external channel from its first fact to its seal.

Owns what people ask later (told, recorded, why not) and when a recording is complete. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

from .commands import CallOutcome, Command, ReportCall, SealRecording
from .confirmations import Effect, effect_of
from .conversation import Conversation, asked_of, direction_of, external_number
from .facts import DisclosureRequested
from .ids import PurposeName, RecordingId, SegmentId, Uniqueid, recording_id, segment_id
from .knowledge import Knowledge
from .parties import PartyKind
from .permit import Permit, Refusal, would_record
from .purposes import Direction, OnObjection
from .reasons import Reason, ordered
from .switchboard import Channel, Component


class Company(IntEnum):
    """With whom a call is."""

    NOBODY = 0
    """Alone, or hanging up."""
    UNSEEN = 1
    """Behind half a Local channel, or in a bridge of which a member is not known: perhaps with nobody."""
    PEOPLE = 2


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
    others: dict[Uniqueid, str] = field(default_factory=dict)
    """Other external channels that took part in a conversation of it, with their numbers."""
    segments: set[SegmentId] = field(default_factory=set)
    """Ours that are not closed yet."""
    permitted: set[PurposeName] = field(default_factory=set)
    """What its segments were recorded for."""
    objected: set[PurposeName] = field(default_factory=set)
    unheard: bool = False
    """Marked private in mid-call: what was captured of it is destroyed unheard."""
    had_segments: bool = False
    """At least one recorder was asked for."""
    ended: bool = False
    bypassed: bool = False
    """The switch was off while nothing was asked for it: its door may have been passed by."""
    company: Company = Company.NOBODY
    """The best that it ever had: what is told of it in lesser company is why *that* conversation was not recorded."""
    clearly: tuple[Reason, ...] = ()
    """The reasons when it was last refused in this company while no beat was late."""
    reported: CallOutcome | None = None


class Calls:
    """Every call that lives, or waits for its segments to close."""

    def __init__(self, known: Knowledge) -> None:
        self._known = known
        self.live: dict[Uniqueid, Call] = {}
        self._by_recording: dict[RecordingId, Call] = {}
        self._numbers: dict[RecordingId, count[int]] = {}

    def restore(self, numbering: Mapping[RecordingId, int]) -> None:
        """How many segments recordings had before a restart: they are numbered on, and sealed when their call ends."""
        self._numbers.update({r: count(n + 1) for r, n in numbering.items() if r not in self._numbers})

    def outcome(self, call: Call) -> CallOutcome:
        """What is known of the call now."""
        return CallOutcome(
            call=call.channel.uniqueid,
            linkedid=call.channel.linkedid,
            recording=call.recording,
            direction=call.direction,
            external_number=self._shown(call.channel),
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
            other_numbers=tuple(sorted({number for number in call.others.values() if number})),
        )

    def _shown(self, channel: Channel) -> str:
        """Its number in E.164, or the digits shown; empty when withheld."""
        number = external_number(channel, direction_of(channel, self._known.board), self._known.policy)
        return number.e164 or number.digits

    def next_segment(self, permit: Permit, recording: RecordingId) -> SegmentId:
        """The id of a new segment of the permit's call, which is not over before it is closed."""
        id = segment_id(recording, next(self._numbers.setdefault(recording, count(1))))
        if (call := self.live.get(permit.call)) is not None:
            call.segments.add(id)
            call.permitted |= set(permit.purposes)
            call.had_segments = True
        return id

    def segment_closed(self, recording: RecordingId, id: SegmentId) -> list[Command]:
        """It is known not to run (any more); seals the recording when it was the last of a call that ended."""
        call = self._by_recording.get(recording)
        if call is None:
            return []
        call.segments.discard(id)
        return self._seal_if_over(call)

    def meet(self, component: Component) -> None:
        """Every external channel is a call once it is seen and the boot is known, on which its ids hang."""
        if not self._known.boot:
            return
        for uniqueid in component.channels:
            channel = self._known.board.channels.get(uniqueid)
            if channel is None or channel.kind is not PartyKind.EXTERNAL or uniqueid in self.live:
                continue
            recording = recording_id(self._known.node, self._known.boot, uniqueid)
            call = Call(channel, recording, direction_of(channel, self._known.board))
            call.had_segments = recording in self._numbers  # begun before a restart
            self.live[uniqueid] = call
            self._by_recording[recording] = call

    def report(self, component: Component, conversation: Conversation, decision: Permit | Refusal) -> list[Command]:
        legs = tuple(t.channel for t in conversation.own)
        recorded = isinstance(decision, Permit)
        commands: list[Command] = []
        company = _company(component, conversation)
        externals = [u for u in component.channels if u in self.live and u in self._known.board.channels]
        for uniqueid in sorted(externals):
            call = self.live[uniqueid]
            channel = call.channel = self._known.board.channels[uniqueid]
            call.direction = direction_of(channel, self._known.board)
            notes = self._known.memory.of(uniqueid)
            call.told = bool(notes.heard)
            call.asked = self._asked(channel) or call.asked
            call.queue = channel.queue or call.queue
            call.language = notes.language or conversation.language
            self._own_side(call, channel, conversation)
            call.reference = notes.reference or conversation.reference or call.reference
            call.recorded = recorded
            # Who is alone again, at the end or in a queue, is no news of why the conversation was not recorded; nor who
            # is alone behind a Local channel, for the instant in which its other half is gone and it is not.
            if company >= call.company or call.had_segments:
                self._judged(call, decision)
            call.company = max(call.company, company)
            if len(externals) > 1:
                call.others |= {u: self._shown(self._known.board.channels[u]) for u in externals if u != uniqueid}
            call.objected |= self._objected(call)
            call.unheard = call.unheard or self._unheard(call)
            outcome = self.outcome(call)
            if outcome != call.reported:
                call.reported = outcome
                commands.append(ReportCall(outcome, ended=False, legs=legs if component.bridged else ()))
        return commands

    def _judged(self, call: Call, decision: Permit | Refusal) -> None:
        call.would_record = isinstance(decision, Refusal) and would_record(decision)
        if isinstance(decision, Permit):
            call.clearly = ()
        else:
            call.reasons = self._reasons(call, decision)
            call.clearly = call.clearly if Reason.BEAT_LATE in call.reasons else call.reasons

    def _reasons(self, call: Call, decision: Refusal) -> tuple[Reason, ...]:
        """Where the switch kept the door from asking for a purpose, that is why there is none, also once it is on."""
        unasked = Reason.NO_PURPOSE in decision.reasons
        call.bypassed = unasked and (call.bypassed or Reason.SWITCHED_OFF in decision.reasons)
        return ordered({*decision.reasons, Reason.SWITCHED_OFF}) if call.bypassed else decision.reasons

    def _asked(self, channel: Channel) -> tuple[PurposeName, ...]:
        """What was asked for it; noted as its own, since whoever dialled it may leave, or be optimised away."""
        asked = asked_of(channel, self._known.board, self._known.memory)
        dialler = self._known.board.root_dialler(channel)
        if asked and dialler is not None and not self._known.memory.of(channel.uniqueid).asked:
            by = self._known.memory.of(dialler.uniqueid)
            self._known.memory.note(DisclosureRequested(channel.uniqueid, asked, by.language, reference=by.reference))
        return asked

    def _own_side(self, call: Call, channel: Channel, conversation: Conversation) -> None:
        """Whom of us it is with: the number dialled when it came in, the extension when we called."""
        dialler = self._known.board.root_dialler(channel)
        if conversation.own:
            call.own_endpoint = conversation.own[0].endpoint
        elif dialler is not None and dialler.kind is PartyKind.OWN:
            call.own_endpoint = dialler.endpoint
        if call.direction is Direction.INBOUND:
            call.own_number = call.own_number or channel.exten
        elif dialler is not None:
            call.own_number = dialler.number or call.own_number
            call.reference = self._known.memory.of(dialler.uniqueid).reference or call.reference

    def effect(self, channel: Uniqueid) -> Effect | None:
        """What its objection to everything comes to, for its own call and for those in which it took part; None when
        it is no call."""
        call = self.live.get(channel)
        if call is None:
            return None
        calls = [call, *(other for other in self.live.values() if channel in other.others)]
        recorded = {p for one in calls for p in self._recorded_for(one)}
        asked = {p for one in calls for p in one.asked} | self._known.memory.of(channel).begun
        if any(one.unheard or self._unheard(one) for one in calls):
            return Effect.DESTROYED if recorded else Effect.UNRECORDED
        return effect_of(asked, recorded, self._known.policy.purposes)

    def unmet(self, channel: Uniqueid) -> None:
        """The bridge that it was put into while it hung up was no conversation."""
        if (call := self.live.get(channel)) is not None:
            call.company = Company.NOBODY

    def end(self, channel: Uniqueid) -> list[Command]:
        call = self.live.pop(channel, None)
        if call is None:
            return []
        call.ended = True
        call.objected |= self._objected(call)
        call.unheard = call.unheard or self._unheard(call)
        call.recorded = False
        commands: list[Command] = []
        if call.had_segments:
            call.reasons = (Reason.CALL_ENDED,)
        elif call.clearly and set(call.reasons) - {Reason.BEAT_LATE} == set(call.clearly):
            # A beat that was late at the end is not why all that went before was not recorded, and is told first.
            call.reasons = call.clearly
            call.would_record = would_record(Refusal(call.clearly))
        commands.append(ReportCall(self.outcome(call), ended=True, legs=()))
        return commands + self._seal_if_over(call)

    def _seal_if_over(self, call: Call) -> list[Command]:
        if not call.ended or call.segments:
            return []
        self._by_recording.pop(call.recording, None)
        self._numbers.pop(call.recording, None)
        if not call.had_segments:
            return []
        effects = {
            p: self._known.policy.purposes[p].on_objection for p in call.objected if p in self._known.policy.purposes
        }
        destroy = set(effects) == call.permitted and set(effects.values()) == {OnObjection.DESTROY}
        lock = OnObjection.LOCK in effects.values()
        objected = tuple(sorted(call.objected))
        return [SealRecording(call.recording, self.outcome(call), objected, destroy, lock, call.unheard)]

    def _unheard(self, call: Call) -> bool:
        return any(self._known.memory.of(u).unheard for u in (call.channel.uniqueid, *call.others))

    def _objected(self, call: Call) -> set[PurposeName]:
        """What anybody outside in this call objected to, of what it was recorded for; it need not be running."""
        notes = self._known.memory.of(call.channel.uniqueid)
        return {p for p in self._recorded_for(call) if notes.objects_to(p)}

    def _recorded_for(self, call: Call) -> set[PurposeName]:
        if call.had_segments and not call.permitted:  # begun before a restart: for what it was told of, at most
            heard = self._known.memory.of(call.channel.uniqueid).heard
            call.permitted = {p for h in heard for p in h.disclosure.purposes}
        return call.permitted


def _company(component: Component, conversation: Conversation) -> Company:
    if not component.bridged or any(channel.leaving for channel in component.talkers):
        return Company.NOBODY
    if len(conversation.talkers) > 1:
        return Company.PEOPLE
    return Company.UNSEEN if conversation.unseen else Company.NOBODY
