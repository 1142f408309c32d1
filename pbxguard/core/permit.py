"""placeholder: types only, rules follow"""

from __future__ import annotations

from dataclasses import dataclass

from .ids import PurposeName, Uniqueid
from .purposes import Direction, DisclosureKey
from .reasons import Reason


@dataclass(frozen=True, slots=True)
class Told:
    """What one external party heard before this permit: for the manifest."""

    channel: Uniqueid
    disclosure: DisclosureKey
    digest: str
    ended_utc: str
    consented: tuple[PurposeName, ...]
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class Permit:
    """The decision that a conversation may be recorded now, and for what."""

    call: Uniqueid
    purposes: tuple[PurposeName, ...]
    direction: Direction
    leg: Uniqueid
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The decision that it may not; every reason, first one first."""

    reasons: tuple[Reason, ...]
