"""What may be sent to Asterisk: every AMI header value passes through here.

AMI's lines end in CR LF, so a value that holds one is a header or an action of its own; a comma splits an
application's arguments, ``$ { }`` and ``^`` are expanded by the dialplan (a comma in MixMonitor's file name smuggles
in a shell command). Nothing here cleans: what is unsafe is refused, so that nobody sends half of what was meant.
"""

from __future__ import annotations

import re
from pathlib import Path

from pbxguard.core.errors import UnsafeValue
from pbxguard.core.ids import Endpoint, SegmentId, Uniqueid

_MARKS = frozenset(",${}^")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_FUNCTION = re.compile(r"(?:CDR|TIMEOUT|DEVICE_STATE)\([A-Za-z0-9_.:@+-]{1,100}\)")
_PATH = re.compile(r"/[A-Za-z0-9_./-]+")
_UNIQUEID = re.compile(r"[A-Za-z0-9_.:-]{1,150}")
_WORD = re.compile(r"[A-Za-z0-9_.@+-]{1,100}")


class Ours(str):
    """A value that we built ourselves from checked parts: commas and the like are meant."""

    __slots__ = ()


def header(value: str) -> str:
    """The value, if it may stand in an AMI header; raises UnsafeValue. `Ours` may hold marks, nothing control codes."""
    if any(ord(mark) < 32 or 0x7F <= ord(mark) < 0xA0 or 0xD800 <= ord(mark) < 0xE000 for mark in value):
        raise UnsafeValue("a control code in a value for Asterisk")
    if not isinstance(value, Ours) and not _MARKS.isdisjoint(value):
        raise UnsafeValue("one of , $ { } ^ in a value for Asterisk")
    return value


def variable(name: str) -> Ours:
    """A variable's name, or one of the few functions that we write to; raises UnsafeValue."""
    if not _VARIABLE.fullmatch(name) and not _FUNCTION.fullmatch(name):
        raise UnsafeValue("not the name of a variable")
    return Ours(name)


def path(file: Path) -> Ours:
    """An absolute path of ours as part of MixMonitor's options; raises UnsafeValue."""
    text = str(file)
    if not _PATH.fullmatch(text) or ".." in file.parts:
        raise UnsafeValue("not one of our spool paths")
    return Ours(text)


def uniqueid(channel: Uniqueid) -> Ours:
    """A uniqueid; one that begins with / would be a pattern to the Hangup action; raises UnsafeValue."""
    if not _UNIQUEID.fullmatch(channel):
        raise UnsafeValue("not a uniqueid")
    return Ours(channel)


def word(text: str) -> Ours:
    """A name such as a context, an extension or an endpoint; raises UnsafeValue."""
    if not _WORD.fullmatch(text):
        raise UnsafeValue("not a plain name")
    return Ours(text)


def recorder_variable(segment: SegmentId) -> Ours:
    """The channel variable in which Asterisk keeps the id of this segment's recorder (`i(VAR)`)."""
    return variable(f"{RECORDER_PREFIX}{segment.replace('-', '_')}")


RECORDER_PREFIX = "PBXGUARD_MM_"
LAMP_PREFIX = "Custom:pbxguard-"


def lamp_device(endpoint: Endpoint) -> Ours:
    """The custom device of an endpoint's lamp: ``Custom:pbxguard-100`` for ``PJSIP/100``.

    Without the technology, because Asterisk forgets what stands before a slash when it reads its states back.
    """
    return Ours(f"{LAMP_PREFIX}{word(endpoint.rpartition('/')[2])}")
