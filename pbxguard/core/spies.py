"""Listening in where it is an offence too (LAW.md 2): on a private, never-record or third-party conversation.

Operators are told once, and again when there is a further reason; in mode `enforce` the spy is hung up. Only ever the
spy: whoever talks is not touched.
"""

from __future__ import annotations

from .commands import Command, HangUp, ReportSpy
from .conversation import Conversation
from .ids import Uniqueid
from .parties import PartyKind
from .policy import GuardMode
from .reasons import Reason, ordered
from .switchboard import Component, Switchboard


def forbidden(conversation: Conversation) -> tuple[Reason, ...]:
    """Why nobody may listen in on it; empty where that is no concern of ours."""
    talkers = [t for t in conversation.talkers if t.kind is not PartyKind.MONITOR]
    if not conversation.bridged or len(talkers) < 2:
        return ()
    against = {
        Reason.NEVER_RECORD: any(t.listed for t in talkers),
        Reason.MARKED_PRIVATE: any(t.private for t in talkers),
        Reason.PRIVATE_PARTY: any(t.kind is PartyKind.PRIVATE for t in talkers),
        Reason.NO_OWN_PARTY: not conversation.own and not any(t.kind is PartyKind.PRIVATE for t in talkers),
    }
    return ordered({reason for reason, is_so in against.items() if is_so})


class Spies:
    """What operators were told of each spy. Level-triggered, like all else: judge every conversation on each change."""

    def __init__(self) -> None:
        self._told: dict[Uniqueid, frozenset[Reason]] = {}

    def judge(self, component: Component, board: Switchboard, conversation: Conversation) -> list[Command]:
        """What is to be done about those who listen in on this conversation."""
        spies = {spy for c in component.channels for spy in board.spies.get(c, ())}
        if not spies or not (reasons := forbidden(conversation)):
            return []
        commands: list[Command] = []
        for spy in sorted(spies):
            known = self._told.get(spy, frozenset())
            if known >= set(reasons):
                continue
            self._told[spy] = known | set(reasons)
            ended = conversation.mode is GuardMode.ENFORCE and _may_be_hung_up(spy, board)
            commands.append(ReportSpy(spy, tuple(sorted(t.channel for t in conversation.talkers)), reasons, ended))
            if ended:
                commands.append(HangUp(spy))
        return commands

    def forget(self, channel: Uniqueid) -> None:
        """It hung up, or does not spy any more."""
        self._told.pop(channel, None)


def _may_be_hung_up(spy: Uniqueid, board: Switchboard) -> bool:
    """Certainly spying (a snapshot only guesses whom a spy hears), and in no conversation of its own."""
    channel = board.channels.get(spy)
    return spy not in board.guessed and (channel is None or channel.bridge is None)
