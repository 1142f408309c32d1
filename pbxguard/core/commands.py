"""What the core wants done, in the imperative. `StartRecording` cannot be built without a permit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .facts import InCall, MarkedPrivate, Objected, ObjectionBinds, Paused, PurposeBegun, Resumed
from .ids import Endpoint, LinkedId, PurposeName, RecordingId, SegmentId, Uniqueid
from .permit import Permit
from .purposes import Direction, DisclosureKey
from .reasons import Reason


@dataclass(frozen=True, slots=True)
class StartRecording:
    """Attach a recorder to `leg` (the own party's channel). Audit first, then act."""

    permit: Permit
    recording: RecordingId
    segment: SegmentId
    leg: Uniqueid


@dataclass(frozen=True, slots=True)
class StopRecording:
    """Stop it at once. What was captured after `proven` (monotonic s: R in DESIGN.md) is to be cut away."""

    segment: SegmentId
    recording: RecordingId
    leg: Uniqueid
    reasons: tuple[Reason, ...]
    proven: float
    destroy: bool = False
    """The whole recording so far is to be destroyed (objection to a purpose that asks it, or marked private)."""
    lock: bool = False
    """The recording is to be locked (art. 18(1)(d)) once sealed: it is disputed."""


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """Everything about a call that people ask later; it goes into index, tags and manifest."""

    call: Uniqueid
    linkedid: LinkedId
    recording: RecordingId
    direction: Direction | None
    external_number: str
    """E.164 with +, or the digits shown, or empty when withheld."""
    own_number: str
    """The number dialled (inbound), or the own endpoint's extension (outbound)."""
    own_endpoint: str
    queue: str
    reference: str
    language: str
    purposes_asked: tuple[PurposeName, ...]
    told: bool
    reasons: tuple[Reason, ...]
    """Of the last refusal, first one first; empty while a recording runs."""
    recorded: bool
    """A recorder is wanted for it now."""
    ever_recorded: bool = False
    would_record: bool = False
    """In mode `observe`: it would be recorded now in mode `guard`."""
    others: tuple[Uniqueid, ...] = ()
    """Other external channels that took part in a conversation of this call."""
    other_numbers: tuple[str, ...] = ()
    """Theirs, as `external_number`: they too may ask for the recording."""


@dataclass(frozen=True, slots=True)
class ReportCall:
    """The decision about a call changed, or the call began or ended: tell CDR, index, operators."""

    outcome: CallOutcome
    ended: bool
    legs: tuple[Uniqueid, ...]
    """Own legs in the conversation, for the CDR variable."""


@dataclass(frozen=True, slots=True)
class SealRecording:
    """The call has ended and all its segments are closed: seal what was kept."""

    recording: RecordingId
    outcome: CallOutcome
    objected: tuple[PurposeName, ...] = ()
    """Of the purposes recorded for, those that somebody objected to at any time of the call, on hold or alone too."""
    destroy: bool = False
    """All of them were objected to, and each asks that what was captured be destroyed (LAW.md 4)."""
    lock: bool = False
    """One that was objected to asks for a lock (art. 18(1)(d)): the recording is disputed."""
    private: bool = False
    """The call was marked private in mid-call: all that was captured of it is destroyed unheard."""


class Lamp(Enum):
    """What the busy-lamp field of an own endpoint shows."""

    RECORDING = "INUSE"
    NOT_RECORDED = "NOT_INUSE"
    PAUSED = "ONHOLD"


@dataclass(frozen=True, slots=True)
class ShowLamp:
    endpoint: Endpoint
    lamp: Lamp


@dataclass(frozen=True, slots=True)
class HangUp:
    """Only ever a callee who is being told of a call whose caller has gone, or (mode `enforce`) a spy."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class ReportSpy:
    """Somebody listens in where nobody may: alert operators."""

    spy: Uniqueid
    talkers: tuple[Uniqueid, ...]
    reasons: tuple[Reason, ...]
    hung_up: bool
    """Whether the spy is hung up for it."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Whisper this disclosure to this party, in the midst of its conversation. A DisclosureHeard or a
    DisclosureNotHeard of it follows in any case."""

    channel: Uniqueid
    disclosure: DisclosureKey


@dataclass(frozen=True, slots=True)
class StopTelling:
    """Something else forbids the recording now: break the whisper off."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class NoteDoubt:
    """Another person may be on this channel now: write down that what it heard no longer counts."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class LookAnew:
    """The picture of these channels is not what the PBX says: events were lost. Take a snapshot of everything."""

    channels: tuple[Uniqueid, ...]


@dataclass(frozen=True, slots=True)
class LookCloser:
    """Somebody may be with these channels whom we do not see: hold the PBX's lists against the picture at once."""

    channels: tuple[Uniqueid, ...]


@dataclass(frozen=True, slots=True)
class NotePrivate:
    """This call became private with another one: write it down, so that it stays so after a restart."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class NoteRequest:
    """Asked for on `channel` and acted on already: write down what it said (closing facts only)."""

    channel: Uniqueid
    facts: tuple[Objected | ObjectionBinds | Paused | MarkedPrivate, ...]


@dataclass(frozen=True, slots=True)
class NoteBinding:
    """These calls are bound by an objection, and are treated so already: write it down, for after a restart."""

    facts: tuple[ObjectionBinds, ...]


@dataclass(frozen=True, slots=True)
class CommitResume:
    """Write it down; only then give it back as a fact."""

    facts: tuple[Resumed, ...]
    timed_out: bool = False
    """Nobody asked: the pause lasted as long as it may."""


@dataclass(frozen=True, slots=True)
class CommitBegin:
    """As `CommitResume`: one of us begins a purpose in mid-call."""

    facts: tuple[PurposeBegun, ...]


@dataclass(frozen=True, slots=True)
class RefuseRequest:
    """Asked for by somebody who may not, or of whom nothing can be said: tell operators."""

    channel: Uniqueid
    what: InCall


@dataclass(frozen=True, slots=True)
class NoteLongPause:
    """A pause lasts longer than expected, and stays: tell operators, once."""

    channel: Uniqueid


Command = (
    LookAnew
    | LookCloser
    | NoteDoubt
    | NotePrivate
    | NoteRequest
    | NoteBinding
    | CommitResume
    | CommitBegin
    | Tell
    | StopTelling
    | RefuseRequest
    | NoteLongPause
    | StartRecording
    | StopRecording
    | ReportCall
    | ReportSpy
    | SealRecording
    | ShowLamp
    | HangUp
)
