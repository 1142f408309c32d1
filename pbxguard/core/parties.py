"""Who is behind a channel: told by channel patterns alone, never by a caller ID, which anyone can forge."""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase

from .ids import Endpoint
from .policy import PartyPatterns


class PartyKind(Enum):
    OWN = "own"
    MANDATED = "mandated"
    EXTERNAL = "external"
    PRIVATE = "private"
    MACHINE = "machine"
    """Announcers and recorders of Asterisk's own: no person hears or speaks through them."""
    MONITOR = "monitor"
    UNKNOWN = "unknown"
    LOCAL = "local"
    """Half of a Local channel: nobody by itself, a door to whoever is behind its other half."""


_MACHINES = ("Announcer/", "CBAnn/", "CBRec/", "Recorder/")
_ORDER = (
    (PartyKind.PRIVATE, "private"),
    (PartyKind.MANDATED, "mandated"),
    (PartyKind.OWN, "own"),
    (PartyKind.EXTERNAL, "external"),
)


def classify(name: str, patterns: PartyPatterns) -> PartyKind:
    """The kind of party behind the channel called `name` (e.g. ``PJSIP/100-0000002a``).

    What is half moved (``<ZOMBIE>``, ``<MASQ>``, ``AsyncGoto/``) or matches no pattern is unknown, and so refused.
    """
    if name.startswith("Local/"):
        return PartyKind.LOCAL
    if name.startswith(_MACHINES):
        return PartyKind.MACHINE
    if name.startswith("Snoop/"):
        return PartyKind.MONITOR
    if "<" in name or name.startswith(("AsyncGoto/", "Surrogate/")):
        return PartyKind.UNKNOWN
    for kind, field in _ORDER:
        if any(fnmatchcase(name, pattern) for pattern in getattr(patterns, field)):
            return kind
    return PartyKind.UNKNOWN


def endpoint_of(name: str) -> Endpoint:
    """The device of a channel: its name without the trailing ``-<hex>``, e.g. ``PJSIP/100``."""
    head, dash, tail = name.rpartition("-")
    return Endpoint(head if dash and tail else name)


def local_half(name: str) -> tuple[str, int] | None:
    """(pair, 1 or 2) for ``Local/...;1`` and ``;2``; None for any other channel."""
    if name.startswith("Local/") and name[-2:] in (";1", ";2"):
        return name[:-2], int(name[-1])
    return None
