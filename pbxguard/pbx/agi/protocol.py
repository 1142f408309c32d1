"""FastAGI's lines: requests read, commands written, replies parsed. Pure; no sockets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pbxguard.core.errors import PeerMisbehaved, UnsafeValue

MOST_HEADERS = 200
LONGEST_LINE = 8192
"""Octets, newline included."""

_STATUS = re.compile(r"([0-9]{3})([ -])(.*)")
_RESULT = re.compile(r"result=(-?[0-9]{1,15})(?![0-9])(?: \((.*)\))?.*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\([A-Za-z0-9_,:]*\))?")


@dataclass(frozen=True, slots=True)
class Request:
    """What Asterisk says at the start: on whose behalf, and with which arguments."""

    script: str
    """Path of the ``agi://`` address, without the slash."""
    channel: str
    uniqueid: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """`code` 200 with its result; 510 unknown command, 511 dead channel, 520 wrong usage."""

    code: int
    result: int | None = None
    data: str = ""


def parse_request(lines: Iterable[str]) -> Request:
    """From the header lines (without the empty one that ends them). Raises PeerMisbehaved."""
    values: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.startswith("agi_"):
            raise PeerMisbehaved("not a FastAGI request")
        if name in values:  # a caller's number may hold line ends: what follows them is not Asterisk's
            raise PeerMisbehaved("a FastAGI header that comes twice")
        values[name] = value.strip()
    if "agi_network_script" not in values or not values.get("agi_uniqueid"):
        raise PeerMisbehaved("a FastAGI request without script or uniqueid")
    arguments: list[str] = []
    while (argument := values.get(f"agi_arg_{len(arguments) + 1}")) is not None:
        arguments.append(argument)
    script = values["agi_network_script"].partition("?")[0].strip("/")
    return Request(script, values.get("agi_channel", ""), values["agi_uniqueid"], tuple(arguments))


def parse_status(line: str) -> tuple[int, bool, str]:
    """(code, whether more lines follow, the rest) of a reply's line. Raises PeerMisbehaved."""
    found = _STATUS.fullmatch(line)
    if not found:
        raise PeerMisbehaved("not a FastAGI reply")
    return int(found[1]), found[2] == "-", found[3]


def parse_reply(code: int, rest: str) -> Reply:
    """The reply of one line."""
    found = _RESULT.fullmatch(rest)
    if code == 200 and not found:
        raise PeerMisbehaved("a FastAGI reply without result")
    return Reply(code, int(found[1]), found[2] or "") if found else Reply(code)


def set_variable(name: str, value: str) -> str:
    """``SET VARIABLE``. Raises UnsafeValue for what could be more than one value."""
    if not _NAME.fullmatch(name):
        raise UnsafeValue("not a variable's name")
    return f"SET VARIABLE {name} {quoted(value)}"


def get_variable(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UnsafeValue("not a variable's name")
    return f"GET VARIABLE {name}"


def quoted(value: str) -> str:
    """An argument in quotes. Raises UnsafeValue for control characters (they would end the command)."""
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise UnsafeValue("a control character in a value")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
