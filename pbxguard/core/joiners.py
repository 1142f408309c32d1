"""Who is to be told by whisper, in the midst of a conversation: joiners, and those for whom a purpose was begun there.

A whisper is due only where nothing else is missing: a sentence that leads to no recording is noise in somebody's ear.
Owns who is being told and since when each of them may be; what is played and what counts as heard is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass

from .commands import Command, StopTelling, Tell
from .conversation import Conversation
from .facts import DisclosureHeard, DisclosureNotHeard
from .ids import PurposeName, Uniqueid
from .memory import Memory
from .permit import CONVERSATION, PURPOSE, Case, Sight, asks_consent, heard_of
from .policy import Policy
from .purposes import Disclosure
from .reasons import Reason
from .selection import Asked, Due, due
from .switchboard import Component

MOST_TRIES = 3
"""How often one party is whispered to in vain (a hold came between, nothing was sent) before it is left alone."""
_TELLING = frozenset({Reason.NOT_TOLD, Reason.CONSENT_MISSING})


@dataclass(frozen=True, slots=True)
class Untold:
    """A party that a whisper is due to, once it has stayed for `after` seconds."""

    disclosure: Disclosure
    after: float


def untold(conversation: Conversation, sight: Sight, memory: Memory, policy: Policy) -> dict[Uniqueid, Untold]:
    """Who must hear what, when that is all that is missing for a permit.

    A joiner is one whom another told party of his conversation was there before; he is told where that is configured.
    Whoever a purpose was begun for in mid-call is told at once, also while another purpose is recorded already.
    """
    case = Case(conversation, sight, policy)
    if any(refuses(case) for refuses in CONVERSATION.values()):
        return {}
    missing = {p: {r for r, refuses in PURPOSE.items() if refuses(case, p)} for p in conversation.asked}
    nothing_runs = all(missing.values())
    wanted: dict[Uniqueid, list[PurposeName]] = {}
    for purpose, reasons in missing.items():
        if Reason.NOT_TOLD not in reasons or not reasons <= _TELLING:
            continue
        told = [t for t in conversation.external if heard_of(case, t, purpose) is not None]
        if asks_consent(case, purpose) and any(purpose not in t.consented for t in told):
            continue  # another one's 1 is missing as well
        joiners = policy.joiners.tell and bool(told) and nothing_runs
        for talker in conversation.external:
            if talker not in told and (joiners or purpose in memory.of(talker.channel).begun):
                wanted.setdefault(talker.channel, []).append(purpose)
    countries = tuple(sorted({t.jurisdiction for t in conversation.external}))
    found: dict[Uniqueid, Untold] = {}
    for talker in conversation.external:
        if (purposes := wanted.get(talker.channel)) is None:
            continue
        notes = memory.of(talker.channel)
        # whoever's country asks for a key asks it of everybody in the conversation
        asked = Asked(
            tuple(purposes),
            talker.direction,
            conversation.language,
            countries=countries,
            numbers=(talker.number,),
            mode=conversation.mode,
        )
        if isinstance(answer := due(policy, asked, notes), Due):
            at_once = bool(notes.begun.intersection(answer.purposes))
            found[talker.channel] = Untold(answer.disclosure, 0.0 if at_once else policy.joiners.after)
    return found


@dataclass(slots=True)
class _Joiner:
    at: float | None = None
    """From when on he may be told (monotonic s); None while he is not to be."""
    telling: bool = False
    stopped: bool = False
    tries: int = 0


class Joiners:
    """Untold in, commands out; owns no clock."""

    def __init__(self) -> None:
        self._joiners: dict[Uniqueid, _Joiner] = {}

    def consider(self, component: Component, wanted: dict[Uniqueid, Untold], now: float) -> list[Command]:
        """`wanted`: of this conversation, now."""
        commands: list[Command] = []
        for channel in sorted(component.channels):
            joiner = self._joiners.get(channel)
            if (one := wanted.get(channel)) is None:
                if joiner is not None:
                    joiner.at = None
                    if joiner.telling and not joiner.stopped:
                        joiner.stopped = True
                        commands.append(StopTelling(channel))
                continue
            if joiner is None:
                joiner = self._joiners[channel] = _Joiner()
            if joiner.at is None:
                joiner.at = now + one.after
            if not joiner.telling and joiner.tries < MOST_TRIES and joiner.at <= now:
                joiner.telling, joiner.stopped = True, False
                commands.append(Tell(channel, one.disclosure.key))
        return commands

    def ended(self, fact: DisclosureHeard | DisclosureNotHeard) -> None:
        """What was whispered is over; if it was in vain, he must stay again before he is told again."""
        joiner = self._joiners.get(fact.channel)
        if joiner is not None and joiner.telling:
            joiner.telling, joiner.at = False, None
            joiner.tries += isinstance(fact, DisclosureNotHeard)

    def due(self, now: float) -> set[Uniqueid]:
        """Those who have stayed long enough: their conversations are to be decided anew."""
        return {
            channel
            for channel, joiner in self._joiners.items()
            if joiner.at is not None and joiner.at <= now and not joiner.telling and joiner.tries < MOST_TRIES
        }

    def forget(self, channel: Uniqueid) -> None:
        """It hung up."""
        self._joiners.pop(channel, None)
