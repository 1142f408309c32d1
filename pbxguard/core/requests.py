"""What somebody asks for while a call lasts: whether he may, and of whom it then holds.

An objection may come from the external party itself, or from one of us for what it says aloud; pause, resume, private
and begin are for our own people alone. Who that is follows from the channel, never from what a peer says of himself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .facts import InCall, MarkedPrivate, Objected, Paused, PurposeBegun, Requested, Resumed
from .ids import Uniqueid
from .memory import Memory
from .parties import PartyKind
from .switchboard import Switchboard

_OURS = (PartyKind.OWN, PartyKind.PRIVATE)
SAID: Mapping[InCall, str] = {
    InCall.OBJECT: "PBXGUARD_SAID_OBJECT",
    InCall.PAUSE: "PBXGUARD_SAID_PAUSE",
    InCall.PRIVATE: "PBXGUARD_SAID_PRIVATE",
}
"""The variable of the asker's channel in which the shipped dialplan leaves a request that closes (pbxguard.conf): each
has its own, so that none takes another's place, nor goes when another was written down."""
SAID_SO = "yes"
"""What such a variable holds then. Of one that was never set, Asterisk's Status says ``(null)`` (docs/adr/0017)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it says. `closing` holds at once; `opening` once it is written down; all empty: refused."""

    closing: tuple[Objected | Paused | MarkedPrivate, ...] = ()
    opening: tuple[Resumed, ...] = ()
    begun: tuple[PurposeBegun, ...] = ()
    """As `opening`."""

    @property
    def refused(self) -> bool:
        return not (self.closing or self.opening or self.begun)


def answer(request: Requested, board: Switchboard, memory: Memory) -> Answer:
    """Of the external parties with whom the asker talks now: a pause belongs to their call, and goes with it when it
    is passed on to another of us. With nobody external there, private and pause hold for the asker's own channel."""
    asker = board.channels.get(request.channel)
    if asker is None:
        return Answer()
    talkers = board.component(request.channel).talkers
    external = tuple(c.uniqueid for c in talkers if c.kind is PartyKind.EXTERNAL)
    if request.what is InCall.OBJECT:
        if asker.kind in (PartyKind.EXTERNAL, PartyKind.MANDATED):
            return Answer((Objected(request.channel),))
        return Answer(tuple(Objected(c) for c in external)) if asker.kind in _OURS else Answer()
    if asker.kind not in _OURS:
        return Answer()
    of = external or (request.channel,)
    match request.what:
        case InCall.PAUSE:
            return Answer(tuple(Paused(c) for c in of))
        case InCall.PRIVATE:
            return Answer(tuple(MarkedPrivate(c, late=True) for c in of))
        case InCall.RESUME:
            everybody = dict.fromkeys((request.channel, *(c.uniqueid for c in talkers)))
            return Answer(opening=tuple(Resumed(c) for c in everybody if memory.of(c).paused))
        case InCall.BEGIN:
            if asker.kind is not PartyKind.OWN or not request.purposes:
                return Answer()
            return Answer(begun=tuple(PurposeBegun(c, request.purposes, request.channel) for c in external))


class Pauses:
    """When the pauses that stand began to last too long; owns no clock."""

    def __init__(self) -> None:
        self._until: dict[Uniqueid, float] = {}

    def match(self, channel: Uniqueid, paused: bool, now: float, timeout: float) -> None:
        """Said again, a pause gets no more time."""
        if paused:
            self._until.setdefault(channel, now + timeout)
        else:
            self._until.pop(channel, None)

    def over(self, now: float) -> tuple[Uniqueid, ...]:
        """Those whose time is over at `now`, each once; `again` for one that is to be told once more."""
        found = tuple(sorted(c for c, until in self._until.items() if until <= now))
        for channel in found:
            self._until[channel] = float("inf")
        return found

    def again(self, channel: Uniqueid, at: float) -> None:
        """Not ended yet: it is over once more at `at`."""
        self._until[channel] = at

    def forget(self, channel: Uniqueid) -> None:
        """It hung up."""
        self._until.pop(channel, None)
