"""What is known of a channel beyond its place on the switchboard: what it was told, said, pressed.

Kept by uniqueid, since that follows the party through masquerades, and apart from the picture of channels and
bridges, since a snapshot replaces the picture but not the memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from .facts import (
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PurposeBegun,
    Resumed,
)
from .ids import PurposeName, Uniqueid
from .reasons import Reason

MOST_UNSEEN = 10_000
"""How many channels may be remembered that the switchboard never saw, or saw hang up."""


@dataclass(slots=True)
class Notes:
    """Everything pbxguard itself made known of one channel."""

    asked: tuple[PurposeName, ...] = ()
    begun: set[PurposeName] = field(default_factory=set)
    """Asked for by one of us in the midst of the call."""
    asked_for_callee: tuple[PurposeName, ...] = ()
    language: str = ""
    reference: str = ""
    private: bool = False
    unheard: bool = False
    """Marked private in mid-call: what was captured of it is to be destroyed unheard."""
    paused: bool = False
    heard: list[DisclosureHeard] = field(default_factory=list)
    doubted: list[DisclosureHeard] = field(default_factory=list)
    """Heard before another person may have come to this channel: said again, it counts no more."""
    not_heard: set[Reason] = field(default_factory=set)
    objected: set[PurposeName] = field(default_factory=set)
    objected_to_all: bool = False
    bound: dict[Uniqueid, frozenset[PurposeName]] = field(default_factory=dict)
    """To what others objected who took part in its call, by who they are; an empty set: to all."""
    consented: set[PurposeName] = field(default_factory=set)

    def objects_to(self, purpose: PurposeName) -> bool:
        """Whether it objected to it, or is bound by somebody who did."""
        own = self.objected_to_all or purpose in self.objected
        return own or any(not purposes or purpose in purposes for purposes in self.bound.values())

    def objections(self, channel: Uniqueid) -> dict[Uniqueid, frozenset[PurposeName]]:
        """All that stand in the call of `channel`, whose notes these are, by who made them; as `bound`."""
        if not (self.objected_to_all or self.objected):
            return self.bound
        own = frozenset() if self.objected_to_all else frozenset(self.objected)
        return {**self.bound, channel: own}

    def miss(self, reason: Reason) -> None:
        """Why it was not heard. Who hung up meanwhile makes the prompt fail too: then the hang-up alone is told."""
        if reason is Reason.PROMPT_CHANNEL_GONE:
            self.not_heard.clear()
        if Reason.PROMPT_CHANNEL_GONE not in self.not_heard:
            self.not_heard.add(reason)


NoteFact = (
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


class Memory:
    """Notes by uniqueid. A channel that hung up is forgotten, and what arrives late about it is dropped."""

    def __init__(self) -> None:
        self._notes: OrderedDict[Uniqueid, Notes] = OrderedDict()
        self._gone: OrderedDict[Uniqueid, None] = OrderedDict()

    def of(self, channel: Uniqueid) -> Notes:
        """Its notes; empty ones, not stored, when nothing is known."""
        return self._notes.get(channel) or Notes()

    def note(self, fact: NoteFact) -> None:
        """Write down one fact; facts may come twice and in any order."""
        if fact.channel in self._gone:
            return
        notes = self._notes.setdefault(fact.channel, Notes())
        if len(self._notes) > 10 * MOST_UNSEEN:  # a flood of facts about channels that never were
            self._notes.popitem(last=False)
        match fact:
            case DisclosureRequested():
                if fact.for_callee:
                    notes.asked_for_callee = fact.purposes
                else:
                    notes.asked = fact.purposes
                notes.language = fact.language or notes.language
                notes.reference = fact.reference or notes.reference
                notes.private = notes.private or fact.private
            case DisclosureHeard():
                if fact not in notes.heard and fact not in notes.doubted:
                    notes.heard.append(fact)
                    notes.not_heard.clear()
            case DisclosureNotHeard():
                if not notes.heard:
                    notes.miss(_reason(fact.reason))
            case Objected():
                notes.objected.update(fact.purposes)
                notes.objected_to_all = notes.objected_to_all or not fact.purposes
            case ObjectionBinds(by=by, purposes=purposes):
                known, more = notes.bound.get(by, None), frozenset(purposes)
                notes.bound[by] = more if known is None else known | more if known and more else frozenset()
            case Consented():
                notes.consented.update(fact.purposes)
            case MarkedPrivate():
                notes.private = True
                notes.unheard = notes.unheard or fact.late
            case PurposeBegun():
                notes.begun.update(fact.purposes)
            case Paused() | Resumed():
                notes.paused = isinstance(fact, Paused)

    def refer(self, channel: Uniqueid, reference: str) -> None:
        """Its customer or contract number, as a restart finds it in the index: no audit line holds it."""
        if channel not in self._gone:
            self._notes.setdefault(channel, Notes()).reference = reference

    def doubt(self, channel: Uniqueid) -> None:
        """Another person may be there now: drop what was heard and agreed; an objection stands."""
        if notes := self._notes.get(channel):
            notes.doubted.extend(notes.heard)
            notes.heard.clear()
            notes.consented.clear()

    def forget(self, channel: Uniqueid) -> None:
        """It hung up."""
        self._notes.pop(channel, None)
        self._gone[channel] = None
        if len(self._gone) > MOST_UNSEEN:
            self._gone.popitem(last=False)

    def forget_all(self) -> None:
        """Asterisk was started anew: its uniqueids may name others now."""
        self._notes.clear()
        self._gone.clear()


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.PROMPT_FAILED
