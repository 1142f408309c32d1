"""Which messages of AMI are Asterisk's own, where a caller put line ends into his number.

Asterisk writes the number shown and the number dialled into its events as they are, and a SIP URI may hold ``%0d%0a``:
so a caller can put headers, and whole events, into the stream (22.10.1 [ran]; a name is escaped). He has 79 octets at
each place. What he cannot write in them is the row of headers that Asterisk puts behind every channel's number:
it is looked for from its beginning to its end, and what stands in between is taken out. An event about a channel that
has no such row is none of Asterisk's.

A dialplan's UserEvent has its channel's row before its name. One that an AMI peer raises by the action of that name
has nothing before it, whatever row its sender wrote behind it (22.10.1 [ran]): it says nothing about any channel.
"""

from __future__ import annotations

import re
from enum import Enum

END = b"\r\n\r\n"
ROW = (
    b"CallerIDName",
    b"ConnectedLineNum",
    b"ConnectedLineName",
    b"Language",
    b"AccountCode",
    b"Context",
    b"Exten",
    b"Priority",
    b"Uniqueid",
    b"Linkedid",
)
"""Behind ``CallerIDNum``, in this order and with nothing in between, each with the prefix of the first."""
_NUMBER = b"CallerIDNum"
_BEGINS = re.compile(rb"\r\n([A-Za-z]*)CallerIDNum: ")
_WHOLE = re.compile(
    rb"\r\n([A-Za-z]*)CallerIDNum: [^\r\n]*\r\n"
    + rb"\r\n".join(rb"\1" + name + rb": [^\r\n]*" for name in ROW)
    + rb"(?=\r\n|\Z)"
)

_OF_ONE = (b"",)
PREFIXES: dict[bytes, tuple[bytes, ...]] = {
    **dict.fromkeys(
        (
            b"Newchannel",
            b"Newstate",
            b"NewCallerid",
            b"Hangup",
            b"HangupRequest",
            b"SoftHangupRequest",
            b"QueueCallerJoin",
            b"BridgeEnter",
            b"BridgeLeave",
            b"Hold",
            b"Unhold",
            b"MixMonitorStart",
            b"MixMonitorStop",
            b"DTMFEnd",
            b"UserEvent",
            b"CoreShowChannel",
        ),
        _OF_ONE,
    ),
    b"DialBegin": (b"Dest",),
    b"DialEnd": (b"Dest",),
    b"LocalOptimizationBegin": (b"LocalOne", b"LocalTwo"),
    b"LocalOptimizationEnd": (b"LocalOne", b"LocalTwo"),
    b"AttendedTransfer": (b"OrigTransferer", b"SecondTransferer"),
    b"ChanSpyStart": (b"Spyer", b"Spyee"),
    b"ChanSpyStop": (b"Spyer",),
}
"""The events that are read and are about channels: whose rows they must hold."""
_OTHERS = (b"Rename", b"BridgeCreate", b"BridgeDestroy", b"BridgeMerge")
"""Read as well, with no row."""
_GLOBAL = b"\r\nChannel: none\r\nUniqueid: none\r\n"
"""In the VarSet of a global variable."""


class Verdict(Enum):
    """What a block is, from one empty line to the next."""

    OURS = "ours"
    """A message of Asterisk's, whole."""
    MENDED = "mended"
    """The same, after something was taken out."""
    FORGED = "forged"
    """An event that somebody else wrote."""
    MORE = "more"
    """An event whose end has not come: the empty line is part of a number."""


def judge(block: bytes) -> tuple[Verdict, bytes]:
    """The verdict about a block (without the empty line that ends it), and the message in it."""
    if not block.startswith(b"Event: "):
        return Verdict.OURS, block
    first, _, rest = block.partition(b"\r\n")
    kind = first[len(b"Event: ") :]
    wanted = PREFIXES.get(kind)
    if wanted is None:
        if kind == b"VarSet":
            return _variable(block, rest)
        forged = kind in _OTHERS and not rest.startswith(b"Privilege: ")
        return (Verdict.FORGED if forged else Verdict.OURS), block
    if not rest.startswith(b"ActionID: " if kind == b"CoreShowChannel" else b"Privilege: "):
        return Verdict.FORGED, block
    if kind == b"UserEvent" and not 0 <= block.find(b"\r\nUniqueid: ") < block.find(b"\r\nUserEvent: "):
        return Verdict.FORGED, block
    return _channels(block, wanted)


def _variable(block: bytes, rest: bytes) -> tuple[Verdict, bytes]:
    if not rest.startswith(b"Privilege: "):
        return Verdict.FORGED, block
    if _GLOBAL in block:
        return Verdict.OURS, block
    return _channels(block, _OF_ONE)


def _channels(block: bytes, wanted: tuple[bytes, ...]) -> tuple[Verdict, bytes]:
    begun = _BEGINS.findall(block)
    if (
        begun == _WHOLE.findall(block)
        and set(wanted) <= set(begun)
        and len(set(begun)) == len(begun)
        and all(block.count(b"\r\n" + prefix + b"Linkedid: ") == 1 for prefix in begun)
    ):
        return Verdict.OURS, block
    return _mend(block, wanted)


def _mend(block: bytes, wanted: tuple[bytes, ...]) -> tuple[Verdict, bytes]:
    """Take out what stands where Asterisk writes nothing, with the value before it, which it was the rest of.

    Of a row's headers that come again behind it, the last ones are Asterisk's: they were pushed back by a number.
    """
    kept: list[bytes] = []
    awaited: list[bytes] = []
    places: dict[bytes, int] = {}
    lines = block.split(b"\r\n")
    for number, line in enumerate(lines):
        name, colon, value = line.partition(b": ")
        if awaited:
            if name != awaited[-1] or not colon:
                kept[-1] = kept[-1].partition(b": ")[0] + b": "
                continue
            awaited.pop()
            places[name] = len(kept)
        elif name == b"UserEvent":
            body = lines[number:]
            if _pushed_back(body):
                return Verdict.FORGED, block
            kept += body
            break
        elif name in places:
            kept[places[name]] = line
            continue
        elif name.endswith(_NUMBER) and colon:
            prefix = name[: -len(_NUMBER)]
            awaited = [prefix + one for one in reversed(ROW)]
            places[name] = len(kept)
            if b"\n" in value or b"\r" in value:
                line = name + b": "
        kept.append(line)
    if awaited:
        return Verdict.MORE, block
    if not all(prefix + _NUMBER in places for prefix in wanted):
        return Verdict.FORGED, block
    return Verdict.MENDED, b"\r\n".join(kept)


def _pushed_back(body: list[bytes]) -> bool:
    """Whether the end of a row stands in what a dialplan's UserEvent says."""
    names = [line.partition(b": ")[0] for line in body]
    return any(tuple(names[place : place + 3]) == ROW[-3:] for place in range(len(names)))


BEGINNING = 200
"""Octets in which the beginning of a message shows."""
_FIRST = (b"Event: ", b"Response: ")
_SECOND = (b"Privilege: ", b"ActionID: ")


def goes_on(message: bytes, behind: bytes) -> bool:
    """Whether the empty line behind a message is one of a caller's: what follows it is no message of Asterisk's.

    `behind`: the first octets after it, as far as they have come. Asterisk writes an event at once, so that its end is
    there with its beginning.
    """
    kind = message[len(b"Event: ") :].partition(b"\r\n")[0]
    if not message.startswith(b"Event: ") or (kind not in PREFIXES and kind != b"VarSet"):
        return False
    first, line_end, second = behind.partition(b"\r\n")
    if not _may_begin(first, _FIRST):
        return True
    return bool(line_end) and not _may_begin(second, _SECOND)


def _may_begin(text: bytes, ways: tuple[bytes, ...]) -> bool:
    """Whether it begins in one of these ways, or may once more of it has come."""
    return any(text.startswith(way) or way.startswith(text) for way in ways)
