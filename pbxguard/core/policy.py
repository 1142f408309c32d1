"""What the organisation decided: the configuration as the core sees it. `settings.py` makes it from the TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from .confirmations import Confirmation, ConfirmationKey
from .devices import DeviceRules
from .ids import PurposeName
from .purposes import Disclosure, DisclosureKey, Purpose


class GuardMode(Enum):
    """How far pbxguard goes (DESIGN.md, "Standing beside a live PBX safely")."""

    OBSERVE = "observe"
    GUARD = "guard"
    ENFORCE = "enforce"
    """As `GUARD`, and spies where nobody may listen in are hung up."""


@dataclass(frozen=True, slots=True)
class PartyPatterns:
    """Shell patterns (fnmatch, case-sensitive) on channel names, e.g. ``PJSIP/1??-*``. First match in the order
    private, mandated, own, external; what matches none is unknown."""

    own: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    mandated: tuple[str, ...] = ()
    listen_only_spies: bool = False
    """Spies here are configured to listen only: they do not close a recording."""
    devices: DeviceRules = field(default_factory=DeviceRules)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a mode holds: by queue, DID (number dialled from outside) or context; empty fields match all."""

    mode: GuardMode
    queue: str = ""
    did: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, in seconds; sources in ASTERISK.md and DESIGN.md."""

    beat_lag_start: float = 0.25
    """Above it nothing starts."""
    beat_lag_stop: float = 2.0
    """Above it what runs is stopped."""
    half_done: float = 0.1
    """How long a change may stay half done before the conversation counts as closed."""
    hold_trust: float = 10.0
    """How long an absence may last for hold seen before to be trusted."""
    retry_start: float = 2.0
    """After a failed start, no new one for this long."""
    key_wait: float = 5.0
    """After the disclosure's end, how long a key may still be pressed."""


@dataclass(frozen=True, slots=True)
class PauseRule:
    """What becomes of a pause that nobody ends."""

    timeout: float = 300.0
    """Seconds."""
    resumes: bool = False
    """After them recording goes on; else it stays paused, and operators are told."""


@dataclass(frozen=True, slots=True)
class JoinerRule:
    """What becomes of an external party that joins a conversation untold: it closes the recording while it is there,
    or it is told by whisper."""

    tell: bool = False
    after: float = 8.0
    """Seconds that it must have stayed: who looks in for a moment is not troubled."""


@dataclass(frozen=True, slots=True)
class Policy:
    organisation: str
    country: str = "NL"
    """ISO 3166-1 alpha-2, upper case: how national numbers are read."""
    default_jurisdiction: str = "NL"
    """For anonymous or unparsable numbers."""
    default_language: str = "nl"
    languages: tuple[str, ...] = ("nl", "en")
    purposes: Mapping[PurposeName, Purpose] = field(default_factory=lambda: MappingProxyType({}))
    disclosures: Mapping[DisclosureKey, Disclosure] = field(default_factory=lambda: MappingProxyType({}))
    """The approved ones only."""
    confirmations: Mapping[ConfirmationKey, Confirmation] = field(default_factory=lambda: MappingProxyType({}))
    """As `disclosures`."""
    parties: PartyPatterns = PartyPatterns()
    never_record: frozenset[str] = frozenset()
    """E.164 with ``+`` and short numbers as dialled; entries that end in ``*`` are prefixes."""
    mode: GuardMode = GuardMode.OBSERVE
    scopes: tuple[Scope, ...] = ()
    jurisdiction_overrides: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """E.164 prefix -> country."""
    limits: Limits = Limits()
    pause: PauseRule = PauseRule()
    joiners: JoinerRule = JoinerRule()

    def mode_for(self, *, queue: str, did: str, context: str) -> GuardMode:
        """The mode that holds for a call: of the scopes that match, the most specific one; else the whole's."""
        best, points = self.mode, 0
        for scope in self.scopes:
            pairs = ((scope.queue, queue), (scope.did, did), (scope.context, context))
            if any(want and want != have for want, have in pairs):
                continue
            weight = sum(bool(want) for want, _ in pairs)
            if weight > points:
                best, points = scope.mode, weight
        return best
