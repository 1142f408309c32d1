"""What can be known: facts, in the past tense, each about one channel, bridge or condition.

Adapters translate events of AMI, ARI and AGI into these and nothing else reaches the core. A fact carries no
arrival time: `supervisor.handle(fact, now)` is told that. All times in facts are monotonic seconds of this
machine, except where `_utc` says otherwise. Texts from outside (numbers, names) are data, never parsed as more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .ids import BridgeId, LinkedId, PurposeName, SegmentId, Uniqueid
from .purposes import DisclosureKey


class ChannelState(Enum):
    """Asterisk's channel states that matter here (channelstate.h); all others read as DOWN."""

    DOWN = "Down"
    RING = "Ring"
    """The device is calling: it may already hear early media."""
    RINGING = "Ringing"
    """The device is being called and has not answered."""
    UP = "Up"


@dataclass(frozen=True, slots=True)
class ChannelCreated:
    channel: Uniqueid
    name: str
    linkedid: LinkedId
    state: ChannelState
    caller_number: str = ""
    """CallerIDNum of the channel; empty when withheld or ``<unknown>``."""
    context: str = ""
    exten: str = ""
    """The extension it arrived at: the number dialled, for a channel that calls in."""
    dialled: bool = False
    """Somebody here dialled it; for snapshots, which show no DialBegun (their Application is AppDial or AppQueue)."""


@dataclass(frozen=True, slots=True)
class ChannelStateChanged:
    channel: Uniqueid
    state: ChannelState


@dataclass(frozen=True, slots=True)
class ChannelRenamed:
    channel: Uniqueid
    name: str


@dataclass(frozen=True, slots=True)
class ChannelNumberChanged:
    """NewCallerid: the channel shows another number. A connected line is the peer's number and no such fact."""

    channel: Uniqueid
    caller_number: str


@dataclass(frozen=True, slots=True)
class ContactSeen:
    """The address (``host:port``) of the telephone that the channel is with, of endpoints split by contact."""

    channel: Uniqueid
    contact: str


@dataclass(frozen=True, slots=True)
class ChannelHungUp:
    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """The device asked to hang up; the channel may live on for a moment."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class DialBegun:
    """`caller` dials `callee` (a new channel); `caller` is empty for an originate."""

    caller: Uniqueid
    callee: Uniqueid
    dialled_number: str
    """DestCallerIDNum (or the dial string's number)."""
    dialled_at: str = ""
    """The extension that dials, where it is a number: a ring group's, whose telephones have numbers of their own."""


@dataclass(frozen=True, slots=True)
class DialEnded:
    caller: Uniqueid
    callee: Uniqueid
    status: str


@dataclass(frozen=True, slots=True)
class QueueJoined:
    channel: Uniqueid
    queue: str


@dataclass(frozen=True, slots=True)
class BridgeCreated:
    bridge: BridgeId
    type: str
    technology: str


@dataclass(frozen=True, slots=True)
class BridgeDestroyed:
    bridge: BridgeId


@dataclass(frozen=True, slots=True)
class BridgeEntered:
    """`swap` names the channel that leaves for it, if any; `type` and `technology` are of the bridge."""

    bridge: BridgeId
    channel: Uniqueid
    type: str = "basic"
    technology: str = "simple_bridge"
    swap: Uniqueid | None = None


@dataclass(frozen=True, slots=True)
class BridgeLeft:
    bridge: BridgeId
    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class BridgesMerged:
    into: BridgeId
    gone: BridgeId


@dataclass(frozen=True, slots=True)
class TransferredIntoApp:
    """Whoever has the calls `one` and `two` joins them, and one is in an application: perhaps a conference, where a
    place changes hands by masquerade, and no other event tells (`doubts.py`). It may be done, or about to be."""

    one: Uniqueid
    two: Uniqueid


@dataclass(frozen=True, slots=True)
class LocalOptimizationBegun:
    one: Uniqueid
    two: Uniqueid


@dataclass(frozen=True, slots=True)
class LocalOptimizationEnded:
    one: Uniqueid
    two: Uniqueid


@dataclass(frozen=True, slots=True)
class Held:
    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class Unheld:
    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class SpyStarted:
    spy: Uniqueid
    spied: Uniqueid
    guessed: bool = False
    """From a snapshot, which shows who spies and not on whom."""


@dataclass(frozen=True, slots=True)
class SpyStopped:
    spy: Uniqueid
    spied: Uniqueid


@dataclass(frozen=True, slots=True)
class WhisperBegun:
    """We are about to make the snoop channel `spy`, which only speaks, and to `spied` alone: it is no foreign spy.

    Known before Asterisk is asked for it, so that its SpyStarted is seen later; nobody else knows its id until then.
    """

    spy: Uniqueid
    spied: Uniqueid


@dataclass(frozen=True, slots=True)
class WhisperEnded:
    """That channel is deleted, or never was: whoever comes by its name from now on is a foreign spy."""

    spy: Uniqueid


@dataclass(frozen=True, slots=True)
class RecorderSeen:
    """MixMonitorStart on a channel: ours or a foreign one (the event does not say)."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class RecorderStopSeen:
    """MixMonitorStop; comes only on an explicit stop, never on hang-up."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """DTMFEnd *received* from the channel's device."""

    channel: Uniqueid
    digit: str


# -- what the doors say: facts that pbxguard made itself ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DisclosureRequested:
    """The dialplan asked, at a door, for a disclosure: on the caller's channel, or (`for_callee`) on the agent's
    channel for whom it is about to dial."""

    channel: Uniqueid
    purposes: tuple[PurposeName, ...]
    language: str
    for_callee: bool = False
    reference: str = ""
    private: bool = False


@dataclass(frozen=True, slots=True)
class DisclosureBegun:
    """Caller's door: it is being played to the channel. Its end comes over ARI, a hang-up over AMI: who hangs up
    meanwhile was cut off by that, whichever is seen first."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class DisclosureHeard:
    """The channel was played the whole of it. Committed to the audit log before the core hears of it."""

    channel: Uniqueid
    disclosure: DisclosureKey
    digest: str
    ended_utc: str
    """ISO 8601, UTC: when the last sample had been played (Asterisk's clock where it is known)."""


@dataclass(frozen=True, slots=True)
class DisclosureNotHeard:
    """It was begun or due, and was not heard in full; `reason` is a `reasons.Reason` value."""

    channel: Uniqueid
    disclosure: DisclosureKey | None
    reason: str


@dataclass(frozen=True, slots=True)
class CalleePromptBegun:
    """Callee's door: the dialplan starts to play `prompt` to the callee (a dialplan UserEvent, in order)."""

    channel: Uniqueid
    prompt: str
    """A `DisclosureKey` as text; with ``/key`` behind it for the key sentence."""
    tx_packets: int
    """The dialplan knows no octets; `rtcp,txcount` counts packets."""
    rx_packets: int
    at: float
    formats: str = ""
    """The channel's, as `announcement.byte_rate` takes them."""


@dataclass(frozen=True, slots=True)
class CalleePromptEnded:
    """Callee's door: played (or not); `key` is what `Read` took."""

    channel: Uniqueid
    prompt: str
    state: str
    tx_packets: int
    rx_packets: int
    key: str
    at: float


@dataclass(frozen=True, slots=True)
class Objected:
    """To every purpose named, or to all when `purposes` is empty."""

    channel: Uniqueid
    purposes: tuple[PurposeName, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectionBinds:
    """`by`, who takes part in this call or took part in it, objected: that holds for this call as well, to its end,
    also when he has left the line. Made by the core itself. `purposes` as in `Objected`."""

    channel: Uniqueid
    by: Uniqueid
    purposes: tuple[PurposeName, ...] = ()


@dataclass(frozen=True, slots=True)
class Consented:
    channel: Uniqueid
    purposes: tuple[PurposeName, ...]


@dataclass(frozen=True, slots=True)
class MarkedPrivate:
    channel: Uniqueid
    late: bool = False
    """The button, pressed in the call: what was captured of it already is destroyed unheard."""


@dataclass(frozen=True, slots=True)
class Paused:
    """One of us said so (card entry): nothing of its conversation is recorded until it is resumed."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class Resumed:
    """Committed to the audit log before the core hears of it."""

    channel: Uniqueid


@dataclass(frozen=True, slots=True)
class PurposeBegun:
    """One of us, on `by`, asked in the midst of the call to record for these purposes: `channel`, an external party,
    is to be told of them now. Committed to the audit log before the core hears of it."""

    channel: Uniqueid
    purposes: tuple[PurposeName, ...]
    by: Uniqueid


class InCall(Enum):
    """What can be asked for while a call lasts, by a key of a phone or by an operator."""

    OBJECT = "object"
    PAUSE = "pause"
    RESUME = "resume"
    PRIVATE = "private"
    BEGIN = "begin"
    """Record for a purpose from now on, once the other party was told."""


@dataclass(frozen=True, slots=True)
class Requested:
    """Somebody asked for it on this channel (a dialplan UserEvent, in order). Whether he may is not decided here."""

    channel: Uniqueid
    what: InCall
    purposes: tuple[PurposeName, ...] = ()
    """For `InCall.BEGIN`."""


# -- conditions of our own sight and health ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeatReturned:
    """The beat sent at `sent` came back: everything that happened before `sent` has been seen (ASTERISK.md, AMI)."""

    sent: float


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """AMI's event connection is gone: we are blind."""


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A consistent picture (beat, snapshot, beat): it replaces what the switchboard held.

    `boot` names the boot of Asterisk. `channels` are given as created with their present state; `bridges` as
    (created, members); `held` are channels known to be on hold. What was known of channels heard, objected, ...
    is kept by uniqueid within the same boot.
    """

    boot: str
    channels: tuple[ChannelCreated, ...] = ()
    bridges: tuple[tuple[BridgeCreated, tuple[Uniqueid, ...]], ...] = ()
    spied: tuple[SpyStarted, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class PictureSeen:
    """What the PBX's lists say in the middle of things, to be held against what its events said.

    It comes in its place among the facts. Of the channels in `restless`, which moved while the lists were made, it
    says nothing. `at`: when the beat before the lists was sent; what holds in them held then.
    """

    picture: SnapshotTaken
    restless: frozenset[Uniqueid]
    at: float


@dataclass(frozen=True, slots=True)
class AuditHealthy:
    healthy: bool


@dataclass(frozen=True, slots=True)
class SpoolHasRoom:
    room: bool


@dataclass(frozen=True, slots=True)
class SwitchedOn:
    """`pbxguard on`, or the global variable ``PBXGUARD`` is no longer ``off``."""


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """`pbxguard off`, or the global variable ``PBXGUARD=off``."""


@dataclass(frozen=True, slots=True)
class PolicyReloaded:
    """The policy was replaced: every conversation is decided anew."""


# -- what became of our commands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentStarted:
    segment: SegmentId


@dataclass(frozen=True, slots=True)
class SegmentStartFailed:
    """No recorder runs for it (audit not written, Asterisk refused, the channel is gone)."""

    segment: SegmentId
    reason: str


@dataclass(frozen=True, slots=True)
class SegmentClosed:
    """Its recorder is known to be stopped and its spool files are complete."""

    segment: SegmentId
    ran: bool = True
    """Whether our stop found it running: then one RecorderStopSeen comes, or came, of it."""


Fact = (
    ChannelCreated
    | ChannelStateChanged
    | ChannelRenamed
    | ChannelNumberChanged
    | ContactSeen
    | ChannelHungUp
    | HangupRequested
    | DialBegun
    | DialEnded
    | QueueJoined
    | BridgeCreated
    | BridgeDestroyed
    | BridgeEntered
    | BridgeLeft
    | BridgesMerged
    | TransferredIntoApp
    | LocalOptimizationBegun
    | LocalOptimizationEnded
    | Held
    | Unheld
    | SpyStarted
    | SpyStopped
    | WhisperBegun
    | WhisperEnded
    | RecorderSeen
    | RecorderStopSeen
    | DigitPressed
    | DisclosureRequested
    | DisclosureBegun
    | DisclosureHeard
    | DisclosureNotHeard
    | CalleePromptBegun
    | CalleePromptEnded
    | Objected
    | ObjectionBinds
    | Consented
    | MarkedPrivate
    | Paused
    | Resumed
    | PurposeBegun
    | Requested
    | BeatReturned
    | ConnectionLost
    | SnapshotTaken
    | PictureSeen
    | AuditHealthy
    | SpoolHasRoom
    | SwitchedOn
    | SwitchedOff
    | PolicyReloaded
    | SegmentStarted
    | SegmentStartFailed
    | SegmentClosed
)
