"""Facts that pbxguard made itself, as lines of the audit log and back: what a restart remembers of a channel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from .facts import (
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PurposeBegun,
    Resumed,
)
from .ids import PurposeName, Uniqueid
from .purposes import DisclosureKey
from .records import AuditEntry

PRIVATE = "private"
BOUND = "objection.binds"
DOUBTED = "party.doubted"
"""The kind of a line that says: another person may be on this channel now; what it heard before no longer counts."""

Remembered = (
    DisclosureRequested
    | DisclosureHeard
    | DisclosureNotHeard
    | Objected
    | ObjectionBinds
    | Consented
    | MarkedPrivate
    | Paused
    | Resumed
    | PurposeBegun
)


def entry_of(fact: Remembered, at: datetime, boot: str) -> AuditEntry:
    """The line that says so. `boot` of Asterisk: uniqueids may repeat after another."""
    kind, data = _line(fact)
    return AuditEntry(kind, at, boot=boot, channel=fact.channel, call=fact.channel, data=data)


def fact_of(entry: AuditEntry) -> Fact | None:
    """The fact that a line says; None for lines about other things or of another make."""
    channel, data = Uniqueid(entry.channel), entry.data or {}
    try:
        match entry.kind:
            case "disclosure.requested":
                return DisclosureRequested(
                    channel,
                    _purposes(data),
                    str(data["language"]),
                    for_callee=bool(data["for_callee"]),
                    private=bool(data["private"]),
                )
            case "disclosure.heard":
                key = DisclosureKey.parse(str(data["disclosure"]))
                return DisclosureHeard(channel, key, str(data["digest"]), str(data["ended_utc"]))
            case "disclosure.not_heard":
                name = str(data["disclosure"])
                return DisclosureNotHeard(channel, DisclosureKey.parse(name) if name else None, str(data["reason"]))
            case "objected":
                return Objected(channel, _purposes(data))
            case bound if bound == BOUND:
                return ObjectionBinds(channel, Uniqueid(str(data["by"])), _purposes(data))
            case "consented":
                return Consented(channel, _purposes(data))
            case remembered if remembered == PRIVATE:
                return MarkedPrivate(channel, late=bool(data.get("late")))
            case "paused":
                return Paused(channel)
            case "resumed":
                return Resumed(channel)
            case "purpose.begun":
                return PurposeBegun(channel, _purposes(data), Uniqueid(str(data["by"])))
            case _:
                return None
    except (KeyError, ValueError, TypeError):
        return None


def _line(fact: Remembered) -> tuple[str, dict[str, Any]]:
    match fact:
        case DisclosureRequested():
            return "disclosure.requested", {
                "purposes": list(fact.purposes),
                "language": fact.language,
                "for_callee": fact.for_callee,
                # not the reference: an audit line is for ever, and that one tells who it was
                "private": fact.private,
            }
        case DisclosureHeard():
            return "disclosure.heard", {
                "disclosure": str(fact.disclosure),
                "digest": fact.digest,
                "ended_utc": fact.ended_utc,
            }
        case DisclosureNotHeard():
            name = str(fact.disclosure) if fact.disclosure else ""
            return "disclosure.not_heard", {"disclosure": name, "reason": fact.reason}
        case Objected():
            return "objected", {"purposes": list(fact.purposes)}
        case ObjectionBinds():
            return BOUND, {"by": fact.by, "purposes": list(fact.purposes)}
        case Consented():
            return "consented", {"purposes": list(fact.purposes)}
        case MarkedPrivate():
            return PRIVATE, {"late": True} if fact.late else {}
        case Paused():
            return "paused", {}
        case Resumed():
            return "resumed", {}
        case PurposeBegun():
            return "purpose.begun", {"purposes": list(fact.purposes), "by": fact.by}
        case _:
            assert_never(fact)


def _purposes(data: Mapping[str, Any]) -> tuple[PurposeName, ...]:
    return tuple(PurposeName(str(name)) for name in data["purposes"])
