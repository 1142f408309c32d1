"""What a purpose and a disclosure are. The shipped purposes and their words stand in `defaults.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .ids import PurposeName


class Mode(Enum):
    """How a disclosure asks: it tells only, lets object by a 9, or needs a 1."""

    NOTICE = "notice"
    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"

    def stricter(self, other: Mode) -> Mode:
        """The one of the two that asks more of us."""
        order = list(Mode)
        return max(self, other, key=order.index)


class Direction(Enum):
    """Who called whom, seen from the organisation."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Basis(Enum):
    """Legal basis, GDPR article 6(1)."""

    CONSENT = "a"
    CONTRACT = "b"
    LEGAL_OBLIGATION = "c"
    LEGITIMATE_INTEREST = "f"


class OnObjection(Enum):
    """What an objection during the call does to what was captured already (LAW.md 4)."""

    DESTROY = "destroy"
    LOCK = "lock"
    IGNORE = "ignore"
    """`mifid_order` only: the law demands the recording."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a recording is made. Retention stands in `retention.py`."""

    name: PurposeName
    basis: Basis
    active: bool
    mode: Mode = Mode.NOTICE
    """The least that this purpose asks in any jurisdiction; a jurisdiction may ask more."""
    directions: frozenset[Direction] = frozenset(Direction)
    on_objection: OnObjection = OnObjection.LOCK
    listeners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class DisclosureKey:
    """Names one disclosure: one or two purposes x language x mode, in one direction's wording.

    Its text form, e.g. ``contract_evidence+quality_training.nl.opt_out.inbound``, names the prompt's files too.
    """

    purposes: tuple[PurposeName, ...]
    language: str
    mode_name: str
    direction_name: str = "inbound"

    @property
    def mode(self) -> Mode:
        return Mode(self.mode_name)

    def __str__(self) -> str:
        return f"{'+'.join(self.purposes)}.{self.language}.{self.mode_name}.{self.direction_name}"

    @classmethod
    def of(cls, purposes: tuple[PurposeName, ...], language: str, mode: Mode, direction: Direction) -> DisclosureKey:
        """The key with its purposes in their canonical (sorted) order."""
        return cls(tuple(sorted(purposes)), language, mode.value, direction.value)

    @classmethod
    def parse(cls, text: str) -> DisclosureKey:
        """Read the text form back; raises ValueError on anything else (the text may come from a peer)."""
        names, language, mode, direction = text.split(".")
        if not all(part.replace("_", "").isalnum() and part.isascii() for part in names.split("+")):
            raise ValueError("not a disclosure")
        if not (language.isascii() and language.isalpha() and len(language) == 2):
            raise ValueError("not a disclosure")
        purposes = tuple(PurposeName(name) for name in names.split("+"))
        return cls.of(purposes, language, Mode(mode), Direction(direction))


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One approved disclosure, as it is played.

    `notice_ms` and `key_ms` are lengths in milliseconds; the key sentence's sound is separate (empty in mode
    `notice`). `digest` is SHA-256 (hex) over text and sound digests: what a manifest cites.
    """

    key: DisclosureKey
    text: str
    digest: str
    notice_sound: str
    """Path for Asterisk, without extension."""
    notice_ms: int
    key_sound: str = ""
    key_ms: int = 0
    approved_by: str = ""
    approved_at: str = ""
