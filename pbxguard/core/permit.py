"""May this conversation be recorded now, and for what? The whole of the law and of our own rules, on one screen.

`CONVERSATION` holds what must be true of the conversation as a whole, `PURPOSE` what must be true of each purpose; a
row names the reason and says when it *refuses*. The permit is for the purposes that no row refuses. Nothing else in
pbxguard can make a permit. Conditions 1-7 are those of DESIGN.md; art. 139b, 139c Sr; GDPR art. 5, 6, 13, 21.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .conversation import Conversation, Talker
from .errors import ImpossibleCommand
from .facts import DisclosureHeard
from .ids import PurposeName, Uniqueid
from .jurisdictions import mode_for
from .parties import PartyKind
from .policy import GuardMode, Policy
from .purposes import Direction, DisclosureKey, Mode, OnObjection
from .reasons import WORDS, Reason, ordered

_SEAL = object()


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
    """The decision that a conversation may be recorded now. Only `decide` makes one."""

    call: Uniqueid
    """The external channel that came first: the recording is of its call."""
    purposes: tuple[PurposeName, ...]
    direction: Direction
    leg: Uniqueid
    """The own channel that was there first: the recorder hangs on it."""
    told: tuple[Told, ...]
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise ImpossibleCommand("a permit is made by permit.decide alone")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The decision that it may not; every reason, the one to show first at the front."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What we see and how we are (conditions 6 and 7). `lag` in seconds: the age of the last beat that came back."""

    connected: bool = False
    lag: float = float("inf")
    audit_healthy: bool = False
    spool_has_room: bool = False
    switched_off: bool = False
    start_failed: bool = False
    """A recorder was refused on this leg a moment ago."""
    running: bool = False
    """A recorder runs in this conversation: a beat somewhat late does not stop it, only start none."""


@dataclass(frozen=True, slots=True)
class Case:
    conversation: Conversation
    sight: Sight
    policy: Policy

    def someone(self, kind: PartyKind) -> bool:
        return any(t.kind is kind for t in self.conversation.talkers)

    def late(self) -> bool:
        limits = self.policy.limits
        return self.sight.lag > (limits.beat_lag_stop if self.sight.running else limits.beat_lag_start)


_R = Reason
CONVERSATION: Mapping[Reason, Callable[[Case], bool]] = {
    _R.SWITCHED_OFF: lambda c: c.sight.switched_off,
    _R.OBSERVE_MODE: lambda c: c.conversation.mode is GuardMode.OBSERVE,
    # 3: forbidden, whoever takes part and whatever was said
    _R.NEVER_RECORD: lambda c: any(t.listed for t in c.conversation.talkers),
    _R.MARKED_PRIVATE: lambda c: any(t.private for t in c.conversation.talkers),
    # 1: an own conversation, and nobody in it of whom we do not know who he is
    _R.NOT_BRIDGED: lambda c: not c.conversation.bridged,
    _R.NO_OWN_PARTY: lambda c: not c.conversation.own,
    _R.OWN_NOT_ANSWERED: lambda c: bool(c.conversation.own) and not any(t.answered for t in c.conversation.own),
    _R.NO_EXTERNAL_PARTY: lambda c: not c.conversation.external,
    _R.EXTERNAL_NOT_ANSWERED: lambda c: not all(t.answered for t in c.conversation.external),
    _R.UNKNOWN_PARTY: lambda c: c.conversation.unseen or c.someone(PartyKind.UNKNOWN) or c.someone(PartyKind.MANDATED),
    _R.PRIVATE_PARTY: lambda c: c.someone(PartyKind.PRIVATE),
    _R.SPIED_ON: lambda c: c.conversation.spied,
    # 5: no hold, no card entry, no second conversation on the same device
    _R.ON_HOLD: lambda c: any(t.on_hold for t in c.conversation.talkers),
    _R.HOLD_UNKNOWN: lambda c: not all(t.hold_known for t in c.conversation.talkers),
    _R.PAUSED: lambda c: c.conversation.paused,
    _R.SECOND_CALL: lambda c: any(t.second_call for t in c.conversation.talkers),
    # 6: it can be written down, and kept
    _R.AUDIT_UNHEALTHY: lambda c: not c.sight.audit_healthy,
    _R.SPOOL_FULL: lambda c: not c.sight.spool_has_room,
    _R.START_FAILED: lambda c: c.sight.start_failed,
    # 7: we see
    _R.NOT_CONNECTED: lambda c: not c.sight.connected,
    _R.BEAT_LATE: lambda c: c.late(),
    _R.PICTURE_WRONG: lambda c: c.conversation.doubted,
    _R.CHANGE_HALF_DONE: lambda c: c.conversation.half_done,
    # 4: for something
    _R.NO_PURPOSE: lambda c: not c.conversation.asked,
}

PURPOSE: Mapping[Reason, Callable[[Case, PurposeName], bool]] = {
    # 3
    _R.OBJECTED: lambda c, p: (
        any(t.objects_to(p) for t in c.conversation.talkers)
        and (p not in c.policy.purposes or c.policy.purposes[p].on_objection is not OnObjection.IGNORE)
    ),
    # 4
    _R.PURPOSE_UNKNOWN: lambda c, p: p not in c.policy.purposes,
    _R.PURPOSE_INACTIVE: lambda c, p: p in c.policy.purposes and not c.policy.purposes[p].active,
    _R.DISCLOSURE_UNAPPROVED: lambda c, p: any(not _approved(c, t, p) for t in c.conversation.external),
    _R.WRONG_DIRECTION: lambda c, p: (
        p in c.policy.purposes
        and any(t.direction not in c.policy.purposes[p].directions for t in c.conversation.external)
    ),
    # 2
    _R.NOT_TOLD: lambda c, p: any(heard_of(c, t, p) is None for t in c.conversation.external),
    _R.CONSENT_MISSING: lambda c, p: asks_consent(c, p) and any(p not in t.consented for t in c.conversation.external),
}


def decide(conversation: Conversation, sight: Sight, policy: Policy) -> Permit | Refusal:
    """The permit for this conversation now, or every reason against it.

    Pure; takes everything it needs. A purpose that is refused takes no other with it.
    """
    case = Case(conversation, sight, policy)
    against = {reason for reason, refuses in CONVERSATION.items() if refuses(case)}
    by_purpose = {p: {r for r, refuses in PURPOSE.items() if refuses(case, p)} for p in conversation.asked}
    good = tuple(p for p, reasons in by_purpose.items() if not reasons)
    if not good:
        against = against.union(*by_purpose.values())
        if Reason.NOT_TOLD in against:
            against = against.union(*(t.not_heard for t in conversation.external))
    answered = [t for t in conversation.own if t.answered]
    if against or not good or not conversation.external or not answered:
        return Refusal(ordered(against or {Reason.UNKNOWN_PARTY}))
    first = min(conversation.external, key=lambda t: t.born)
    return Permit(
        call=first.channel,
        purposes=good,
        direction=first.direction,
        leg=answered[0].channel,
        told=tuple(told for t in conversation.external for told in _told(case, t, good)),
        _seal=_SEAL,
    )


def would_record(refusal: Refusal) -> bool:
    """In mode `observe`, each due disclosure taken as heard: would this have been a permit in mode `guard`?"""
    taken = {Reason.OBSERVE_MODE} | {reason for reason, words in WORDS.items() if words.condition == 2}
    return Reason.OBSERVE_MODE in refusal.reasons and set(refusal.reasons) <= taken


def _told(case: Case, talker: Talker, purposes: tuple[PurposeName, ...]) -> tuple[Told, ...]:
    """One entry for each disclosure that this party heard of these purposes."""
    heard = {h.disclosure: h for p in purposes if (h := heard_of(case, talker, p)) is not None}
    return tuple(
        Told(
            talker.channel,
            h.disclosure,
            h.digest,
            h.ended_utc,
            tuple(p for p in h.disclosure.purposes if p in talker.consented),
            talker.jurisdiction,
        )
        for h in heard.values()
    )


def heard_of(case: Case, talker: Talker, purpose: PurposeName) -> DisclosureHeard | None:
    """What it heard of this purpose, in a mode that its jurisdiction and the purpose allow."""
    return talker.told(purpose, _needed(case, talker, purpose))


def _needed(case: Case, talker: Talker, purpose: PurposeName) -> Mode:
    """The least that it must have been asked; what is not configured asks for consent."""
    configured = case.policy.purposes.get(purpose)
    return Mode.OPT_IN if configured is None else mode_for(configured, (talker.jurisdiction,))


def _approved(case: Case, talker: Talker, purpose: PurposeName) -> bool:
    """The disclosure that it heard is approved as it was heard; untold, one that a door could have played is."""
    if (heard := heard_of(case, talker, purpose)) is not None:
        disclosure = case.policy.disclosures.get(heard.disclosure)
        return disclosure is not None and disclosure.digest == heard.digest
    return any(
        purpose in key.purposes
        and key.language == case.conversation.language
        and key.direction_name == talker.direction.value
        and key.mode is _due(case, talker, key.purposes)
        for key in case.policy.disclosures
    )


def _due(case: Case, talker: Talker, purposes: tuple[PurposeName, ...]) -> Mode:
    """The mode of one notice for all of these, as the door chooses it: the strictest that one of them needs."""
    mode = Mode.NOTICE
    for purpose in purposes:
        mode = mode.stricter(_needed(case, talker, purpose))
    return mode


def asks_consent(case: Case, purpose: PurposeName) -> bool:
    """Any party's jurisdiction, the purpose's own mode, or the mode that somebody was played asks for it."""
    for talker in case.conversation.external:
        heard = heard_of(case, talker, purpose)
        if _needed(case, talker, purpose) is Mode.OPT_IN or (heard and heard.disclosure.mode is Mode.OPT_IN):
            return True
    return False
