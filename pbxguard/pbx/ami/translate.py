"""AMI events into facts: pure, without memory, and never raising, whatever the event holds.

An event that lacks what its fact needs gives no fact. Texts of callers (numbers, names) stay data. Beats are not
read here: only the one who sent a beat can tell a real one from a forged one (`beat.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pbxguard.core.facts import (
    BridgeCreated,
    BridgeDestroyed,
    BridgeEntered,
    BridgeLeft,
    BridgesMerged,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelCreated,
    ChannelHungUp,
    ChannelNumberChanged,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    DialEnded,
    DigitPressed,
    Fact,
    HangupRequested,
    Held,
    InCall,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    QueueJoined,
    RecorderSeen,
    RecorderStopSeen,
    Requested,
    SpyStarted,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
    TransferredIntoApp,
    Unheld,
)
from pbxguard.core.ids import BridgeId, LinkedId, Uniqueid
from pbxguard.core.request import parse_request

Event = Mapping[str, str]

PROMPT_EVENT = "PbxguardPrompt"
"""The dialplan's UserEvent at the callee's door (dialplan/, U())."""
REQUEST_EVENT = "PbxguardRequest"
"""The dialplan's UserEvent behind a key that is pressed in the call (dialplan/, config/asterisk/features.conf)."""
SWITCH = "PBXGUARD"
"""The global variable that switches everything off when it reads ``off``."""

_STATES = {state.value: state for state in ChannelState}
_NUMBER = re.compile(r"\+?[0-9*#]{1,40}")
_DIGITS = frozenset("0123456789*#ABCD")
_IN_CALL = {what.value: what for what in InCall}
_NOBODY = ("", "none", "<none>")
_DIALLED = ("AppDial", "AppQueue")
"""What Asterisk calls the application of a channel that somebody dialled."""


class _Missing(Exception):
    """The event lacks a header that its fact needs."""


def translate(event: Event, at: float) -> tuple[Fact, ...]:
    """The facts of one event, mostly one or none. `at` is when it was read, in monotonic seconds."""
    rule = _RULES.get(event.get("Event", ""))
    if rule is None:
        return ()
    try:
        return rule(event, at)
    except _Missing:
        return ()


def state_of(event: Event) -> ChannelState:
    """The channel's state; all but the four that matter (``Dialing``, ``Busy``, ``Pre-ring``, ...) read as DOWN."""
    return _STATES.get(event.get("ChannelStateDesc", ""), ChannelState.DOWN)


def number_of(event: Event, name: str = "CallerIDNum") -> str:
    """A number as shown; empty when withheld or unknown."""
    number = event.get(name, "")
    return "" if number == "<unknown>" else number


def created(event: Event) -> ChannelCreated:
    """The channel of a Newchannel event or of an entry of CoreShowChannels (which tells whether it was dialled)."""
    name = event.get("Channel", "")
    if not name:
        raise _Missing
    channel = _channel(event)
    return ChannelCreated(
        channel,
        name,
        LinkedId(event.get("Linkedid", "") or channel),
        state_of(event),
        number_of(event),
        event.get("Context", ""),
        event.get("Exten", ""),
        event.get("Application", "").startswith(_DIALLED),
    )


def _channel(event: Event, name: str = "Uniqueid") -> Uniqueid:
    value = event.get(name, "")
    if value in _NOBODY:
        raise _Missing
    return Uniqueid(value)


def _optional_channel(event: Event, name: str) -> Uniqueid:
    value = event.get(name, "")
    return Uniqueid("" if value in _NOBODY else value)


def _bridge(event: Event, name: str = "BridgeUniqueid") -> BridgeId:
    value = event.get(name, "")
    if value in _NOBODY:
        raise _Missing
    return BridgeId(value)


def _new_channel(event: Event, at: float) -> tuple[Fact, ...]:
    return (created(event),)


def _new_state(event: Event, at: float) -> tuple[Fact, ...]:
    return (ChannelStateChanged(_channel(event), state_of(event)),)


def _rename(event: Event, at: float) -> tuple[Fact, ...]:
    name = event.get("Newname", "")
    return (ChannelRenamed(_channel(event), name),) if name else ()


def _new_number(event: Event, at: float) -> tuple[Fact, ...]:
    """NewConnectedLine has no rule: it tells whom the channel is shown, not who the channel is."""
    return (ChannelNumberChanged(_channel(event), number_of(event)),)


def _dial_begin(event: Event, at: float) -> tuple[Fact, ...]:
    exten = event.get("Exten", "")
    dialled_at = exten if _NUMBER.fullmatch(exten) else ""
    return (
        DialBegun(_optional_channel(event, "Uniqueid"), _channel(event, "DestUniqueid"), _dialled(event), dialled_at),
    )


def _dialled(event: Event) -> str:
    """The number dialled: what the dial string sends to the other side, else DestCallerIDNum.

    DestCallerIDNum is the dialling channel's extension: with the prefix for an outside line still before it, ``s``
    inside a Gosub, and the queue's own number for a queue's member [ran].
    """
    target = event.get("DialString", "").rpartition("/")[2].partition("@")[0]
    for text in (target.removeprefix("sip:").removeprefix("sips:"), number_of(event, "DestCallerIDNum")):
        if _NUMBER.fullmatch(text):
            return text
    return ""


def _dial_end(event: Event, at: float) -> tuple[Fact, ...]:
    status = event.get("DialStatus", "")
    return (DialEnded(_optional_channel(event, "Uniqueid"), _channel(event, "DestUniqueid"), status),)


def _queue_join(event: Event, at: float) -> tuple[Fact, ...]:
    queue = event.get("Queue", "")
    return (QueueJoined(_channel(event), queue),) if queue else ()


def bridge_created(event: Event) -> BridgeCreated:
    """The bridge of a BridgeCreate event or of an entry of BridgeList."""
    return BridgeCreated(_bridge(event), event.get("BridgeType", ""), event.get("BridgeTechnology", ""))


def _bridge_create(event: Event, at: float) -> tuple[Fact, ...]:
    return (bridge_created(event),)


def _bridge_enter(event: Event, at: float) -> tuple[Fact, ...]:
    return (
        BridgeEntered(
            _bridge(event),
            _channel(event),
            event.get("BridgeType", ""),
            event.get("BridgeTechnology", ""),
            _optional_channel(event, "SwapUniqueid") or None,
        ),
    )


def _bridge_merge(event: Event, at: float) -> tuple[Fact, ...]:
    return (BridgesMerged(_bridge(event, "ToBridgeUniqueid"), _bridge(event, "FromBridgeUniqueid")),)


def _attended_transfer(event: Event, at: float) -> tuple[Fact, ...]:
    """Of the others, every move is told by an event of its own."""
    if event.get("DestType") != "App" or event.get("Result") != "Success":
        return ()
    one, two = (_channel(event, f"{which}TransfererUniqueid") for which in ("Orig", "Second"))
    return (TransferredIntoApp(one, two),)


def _digit(event: Event, at: float) -> tuple[Fact, ...]:
    digit = event.get("Digit", "")
    if event.get("Direction") != "Received" or digit not in _DIGITS:
        return ()
    return (DigitPressed(_channel(event), digit),)


def _variable(event: Event, at: float) -> tuple[Fact, ...]:
    """The global switch only: a channel's variable of the same name switches nothing."""
    if event.get("Variable") != SWITCH or event.get("Uniqueid", "") not in _NOBODY:
        return ()
    return (switched(event.get("Value", "")),)


def switched(value: str) -> SwitchedOff | SwitchedOn:
    """What the global variable PBXGUARD says."""
    return SwitchedOff() if value.strip().lower() == "off" else SwitchedOn()


def _user_event(event: Event, at: float) -> tuple[Fact, ...]:
    """The callee's door, and what is asked for in the call; the dialplan's own only (`framing.py`).

    A prompt's beginning whose counters cannot be read gives no fact: what follows then proves nothing.
    """
    if event.get("UserEvent") == REQUEST_EVENT:
        what = _IN_CALL.get(event.get("What", ""))
        purposes = parse_request([event.get("Purpose", "")]).purposes
        return (Requested(_channel(event), what, purposes),) if what is not None else ()
    if event.get("UserEvent") != PROMPT_EVENT:
        return ()
    channel, prompt = _channel(event), event.get("Prompt", "")
    sent, received = _count(event, "Tx"), _count(event, "Rx")
    match event.get("Phase"):
        case "begin" if prompt and sent is not None and received is not None:
            return (CalleePromptBegun(channel, prompt, sent, received, at, event.get("Formats", "")),)
        case "end":
            key = event.get("Key", "")
            state = event.get("State", "")
            key = key if key in _DIGITS else ""
            return (CalleePromptEnded(channel, prompt, state, sent or 0, received or 0, key, at),)
        case _:
            return ()


def _count(event: Event, name: str) -> int | None:
    text = event.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _of_channel(fact: Callable[[Uniqueid], Fact]) -> Callable[[Event, float], tuple[Fact, ...]]:
    return lambda event, at: (fact(_channel(event)),)


def _of_two(
    fact: Callable[[Uniqueid, Uniqueid], Fact], one: str, two: str
) -> Callable[[Event, float], tuple[Fact, ...]]:
    return lambda event, at: (fact(_channel(event, one), _channel(event, two)),)


_RULES: dict[str, Callable[[Event, float], tuple[Fact, ...]]] = {
    "Newchannel": _new_channel,
    "Newstate": _new_state,
    "Rename": _rename,
    "NewCallerid": _new_number,
    "Hangup": _of_channel(ChannelHungUp),
    "HangupRequest": _of_channel(HangupRequested),
    "SoftHangupRequest": _of_channel(HangupRequested),
    "DialBegin": _dial_begin,
    "DialEnd": _dial_end,
    "QueueCallerJoin": _queue_join,
    "BridgeCreate": _bridge_create,
    "BridgeDestroy": lambda event, at: (BridgeDestroyed(_bridge(event)),),
    "BridgeEnter": _bridge_enter,
    "BridgeLeave": lambda event, at: (BridgeLeft(_bridge(event), _channel(event)),),
    "BridgeMerge": _bridge_merge,
    "AttendedTransfer": _attended_transfer,
    "LocalOptimizationBegin": _of_two(LocalOptimizationBegun, "LocalOneUniqueid", "LocalTwoUniqueid"),
    "LocalOptimizationEnd": _of_two(LocalOptimizationEnded, "LocalOneUniqueid", "LocalTwoUniqueid"),
    "Hold": _of_channel(Held),
    "Unhold": _of_channel(Unheld),
    "ChanSpyStart": _of_two(SpyStarted, "SpyerUniqueid", "SpyeeUniqueid"),
    "ChanSpyStop": _of_two(SpyStopped, "SpyerUniqueid", "SpyeeUniqueid"),
    "MixMonitorStart": _of_channel(RecorderSeen),
    "MixMonitorStop": _of_channel(RecorderStopSeen),
    "DTMFEnd": _digit,
    "VarSet": _variable,
    "UserEvent": _user_event,
}

KINDS = frozenset(_RULES)
"""The events that are read at all."""
