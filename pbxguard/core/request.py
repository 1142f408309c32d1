"""What the dialplan asks at a door, read from its arguments: ``PURPOSE[&PURPOSE][,key=value...]``.

Arguments may hold what a caller typed or dialled: they are data. What is not understood is left out or stays a
purpose that nobody configured, so that it is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .ids import PurposeName

MOST_PURPOSES = 8
_PURPOSE = re.compile(r"[a-z0-9_]{1,64}")
_LANGUAGE = re.compile(r"([a-z]{2})(?:[-_].{0,16})?")
_REFERENCE = re.compile(r"[\w .:/#+-]{1,64}")
_DIALLED = re.compile(r"[0-9A-Za-z*#+_.@-]{0,80}")
INVALID = PurposeName("invalid")


@dataclass(frozen=True, slots=True)
class DoorRequest:
    """`did` and `context`: where the dialplan asked; `queue`: where it leads; empty when it did not say."""

    purposes: tuple[PurposeName, ...]
    language: str = ""
    reference: str = ""
    private: bool = False
    did: str = ""
    context: str = ""
    queue: str = ""
    """Asterisk shows a caller's queue only once he is in it, after the door."""


def parse_request(arguments: Sequence[str]) -> DoorRequest:
    """Read purposes (first) and keys; of a key given twice the first counts. Never raises."""
    names = [name.strip() for name in (arguments[0] if arguments else "").split("&")][:MOST_PURPOSES]
    purposes = tuple(PurposeName(n) if _PURPOSE.fullmatch(n) else INVALID for n in names if n)
    keys: dict[str, str] = {}
    for argument in arguments[1:]:
        key, equals, value = argument.partition("=")
        if equals:
            keys.setdefault(key.strip().lower(), value.strip())
    language = _LANGUAGE.fullmatch(keys.get("language", "").lower())
    given = keys.get("language", "")
    return DoorRequest(
        purposes,
        # a language that cannot be read was asked for all the same: no other may be spoken
        language=language[1] if language else ("??" if given else ""),
        reference=_matching(_REFERENCE, keys.get("reference", "")),
        private=keys.get("private", "").lower() in ("yes", "true", "1", "on", "y"),
        did=_matching(_DIALLED, keys.get("did", "")),
        context=_matching(_DIALLED, keys.get("context", "")),
        queue=_matching(_DIALLED, keys.get("queue", "")),
    )


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""
