"""Which disclosure is due to a party at a door, or why none is.

At the two doors a disclosure is played unless something already known forbids the recording: a never-record number,
private, an objection, an inactive purpose, our health or sight. That an own party takes part is still to come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

from .ids import PurposeName
from .jurisdictions import mode_for
from .memory import Notes
from .never_record import is_listed
from .numbers import Number
from .policy import GuardMode, Policy
from .purposes import Direction, Disclosure, DisclosureKey, Mode, OnObjection
from .reasons import Reason, ordered

MOST_PURPOSES = 2
"""One notice names two purposes at most, each in words of its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the dialplan asked at a door, and what is known of the party who is to be told."""

    purposes: tuple[PurposeName, ...]
    direction: Direction
    language: str = ""
    """Empty: the policy's default."""
    private: bool = False
    countries: tuple[str, ...] = ()
    """Jurisdictions that apply; the strictest wins."""
    numbers: tuple[Number, ...] = ()
    """Numbers of the call: the caller's and the dialled one."""
    mode: GuardMode = GuardMode.GUARD
    """What holds for this call (`Policy.mode_for`)."""


@dataclass(frozen=True, slots=True)
class Due:
    """Play it. `dropped` says why it names fewer purposes than were asked."""

    disclosure: Disclosure
    dropped: tuple[Reason, ...] = ()

    @property
    def purposes(self) -> tuple[PurposeName, ...]:
        return self.disclosure.key.purposes


@dataclass(frozen=True, slots=True)
class AlreadyTold:
    """This party heard it earlier in this call: it is played once."""

    key: DisclosureKey
    consented: bool


@dataclass(frozen=True, slots=True)
class NotDue:
    """Play nothing. `reasons` has the first one first."""

    reasons: tuple[Reason, ...]

    @property
    def off(self) -> bool:
        """Whether pbxguard is to stay out of it altogether."""
        return Reason.SWITCHED_OFF in self.reasons or Reason.OBSERVE_MODE in self.reasons


def due(
    policy: Policy, asked: Asked, notes: Notes | None = None, closed: Collection[Reason] = ()
) -> Due | AlreadyTold | NotDue:
    """What the party is to be told.

    `notes`: what is known of its channel. `closed`: why nothing may be recorded on this machine now (the switch,
    our health, our sight), given by the guard.
    """
    notes = notes or Notes()
    if Reason.SWITCHED_OFF in closed:
        return NotDue((Reason.SWITCHED_OFF,))
    if asked.mode is GuardMode.OBSERVE:
        return NotDue((Reason.OBSERVE_MODE,))
    reasons = set(closed)
    if asked.private or notes.private:
        reasons.add(Reason.MARKED_PRIVATE)
    if any(is_listed(policy.never_record, number) for number in asked.numbers):
        reasons.add(Reason.NEVER_RECORD)
    candidates, dropped = _candidates(policy, asked, notes)
    language = asked.language or policy.default_language
    found = _approved(policy, candidates, language, asked) if language in policy.languages else None
    if candidates and found is None:
        dropped.add(Reason.DISCLOSURE_UNAPPROVED)
    if found is not None and len(found.key.purposes) < len(candidates):
        dropped.add(Reason.DISCLOSURE_UNAPPROVED)
    if reasons or found is None:
        return NotDue(ordered(reasons if found is not None else reasons | dropped))
    for heard in notes.heard:
        if _covers(heard.disclosure, found.key):
            return AlreadyTold(heard.disclosure, set(found.key.purposes) <= notes.consented)
    return Due(found, ordered(dropped))


def goes_on_despite_objection(policy: Policy, purposes: Iterable[PurposeName]) -> bool:
    """Whether the law demands the recording for one of them, so that a 9 does not stop its notice."""
    known = [policy.purposes[name] for name in purposes if name in policy.purposes]
    return any(purpose.on_objection is OnObjection.IGNORE for purpose in known)


def _candidates(policy: Policy, asked: Asked, notes: Notes) -> tuple[list[PurposeName], set[Reason]]:
    """The purposes that may be named, in the order asked, and why others may not."""
    dropped: set[Reason] = set()
    kept: list[PurposeName] = []
    for name in dict.fromkeys(asked.purposes):
        purpose = policy.purposes.get(name)
        if purpose is None:
            dropped.add(Reason.PURPOSE_UNKNOWN)
        elif not purpose.active:
            dropped.add(Reason.PURPOSE_INACTIVE)
        elif asked.direction not in purpose.directions:
            dropped.add(Reason.WRONG_DIRECTION)
        elif purpose.on_objection is not OnObjection.IGNORE and notes.objects_to(name):
            dropped.add(Reason.OBJECTED)
        else:
            kept.append(name)
    if not asked.purposes:
        dropped.add(Reason.NO_PURPOSE)
    return kept, dropped


def _approved(policy: Policy, names: list[PurposeName], language: str, asked: Asked) -> Disclosure | None:
    """The approved disclosure that names the most of `names`, those asked first going first."""
    for size in range(min(len(names), MOST_PURPOSES), 0, -1):
        for chosen in combinations(names, size):
            mode = Mode.NOTICE
            for name in chosen:
                mode = mode.stricter(mode_for(policy.purposes[name], asked.countries))
            key = DisclosureKey.of(chosen, language, mode, asked.direction)
            if key in policy.disclosures:
                return policy.disclosures[key]
    return None


def _covers(heard: DisclosureKey, wanted: DisclosureKey) -> bool:
    return set(wanted.purposes) <= set(heard.purposes) and wanted.mode.stricter(heard.mode) is heard.mode
