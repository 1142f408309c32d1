"""What is asked for while a call lasts: object, pause, resume, private; by a key of a phone, or by an operator.

One door for both. What closes was acted on already and is written down after; a resume is written down first. The
dialplan leaves each closing request in a variable of the asker's channel, and it is taken away once the line about it
is on disk: so one that came while pbxguard was killed, frozen or away is found by the next snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, assert_never

from pbxguard.core.commands import CommitBegin, CommitResume, NoteBinding, NoteLongPause, NoteRequest, RefuseRequest
from pbxguard.core.confirmations import Confirm
from pbxguard.core.errors import AuditFailed, NotFound, PbxguardError, Protected, WrongUse
from pbxguard.core.facts import (
    InCall,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PurposeBegun,
    Requested,
    Resumed,
    SnapshotTaken,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.parties import PartyKind
from pbxguard.core.remembered import Remembered, entry_of
from pbxguard.core.requests import SAID, answer
from pbxguard.core.supervisor import Supervisor
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.logs import Event, get_logger

from .ports import Audit, AuditEntry, Clock, FactSink

RETRY_SECONDS = 1.0
_CLOSES: Mapping[InCall, Callable[[Uniqueid], Objected | Paused | MarkedPrivate]] = {
    InCall.OBJECT: Objected,
    InCall.PAUSE: Paused,
    InCall.PRIVATE: partial(MarkedPrivate, late=True),
}
"""What each request that closes makes true of a channel. Private is late here: what was captured already goes, too."""
_SAYS = {type(make(Uniqueid(""))): what for what, make in _CLOSES.items()}
"""The same, the other way round: which request a fact came from."""

_log = get_logger()


class SaidChannels(Protocol):
    """What we need of the PBX."""

    async def said(self) -> Mapping[Uniqueid, Sequence[InCall]]:
        """Channels on which variables of `SAID` hold something: what was asked for there."""

    async def set_channel_variable(self, channel: Uniqueid, name: str, value: str) -> None: ...


class Requests:
    """`supervisor` is asked who talks with whom; it is changed by facts alone, except before a snapshot."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        facts: FactSink,
        pbx: SaidChannels,
        audit: Audit,
        clock: Clock,
        audit_failed: Callable[[], Any],
    ) -> None:
        """`audit_failed` is awaited when a line could not be written."""
        self._supervisor, self._facts, self._pbx = supervisor, facts, pbx
        self._audit, self._clock, self._audit_failed = audit, clock, audit_failed
        self._found: set[asyncio.Task[None]] = set()
        self.confirm: Callable[[Confirm], None] | None = None
        """Who says what came of an objection; it comes after the guard in the wiring."""

    # -- what the core decided ---------------------------------------------------------------------------------------

    async def note(self, command: NoteRequest) -> None:
        """Until it is on disk: it holds already, and must hold after a restart."""
        for fact in command.facts:
            _tell(fact)
        await self._until_noted(command.facts, {"asked_on": command.channel})
        with contextlib.suppress(PbxguardError):  # it hung up; or, asked again after a restart, it says nothing new
            asked = (fact for fact in command.facts if not isinstance(fact, ObjectionBinds))
            for what in dict.fromkeys(_SAYS[type(fact)] for fact in asked):
                await self._pbx.set_channel_variable(command.channel, SAID[what], "")
        self._confirmed(command.facts)

    async def bind(self, command: NoteBinding) -> None:
        """An objection now binds further channels of its call: written down as `note` does, until it is on disk. Nobody
        asked on a channel of his own, so no variable is emptied."""
        for fact in command.facts:
            _tell(fact)
        await self._until_noted(command.facts, {})

    async def _until_noted(self, facts: Sequence[Remembered], more: Mapping[str, Any]) -> None:
        while True:
            try:
                reached(FaultPoint.REQUEST_ACTED)
                await self._audit.commit(*self._entries(facts, more))
                reached(FaultPoint.REQUEST_NOTED)
                return
            except AuditFailed:
                await self._audit_failed()
                await asyncio.sleep(RETRY_SECONDS)

    async def resume(self, command: CommitResume) -> None:
        """The line first: without it the pause stands."""
        more = {"timed_out": True} if command.timed_out else {}
        try:
            reached(FaultPoint.RESUME_DUE)
            await self._audit.commit(*self._entries(command.facts, more))
            reached(FaultPoint.RESUME_COMMITTED)
        except AuditFailed:
            await self._audit_failed()
            return
        await self._hold_from_now(command.facts)

    async def begin(self, command: CommitBegin) -> None:
        """The line first: without it nobody is told of the purpose."""
        try:
            reached(FaultPoint.BEGIN_DUE)
            await self._audit.commit(*self._entries(command.facts, {}))
            reached(FaultPoint.BEGIN_COMMITTED)
        except AuditFailed:
            await self._audit_failed()
            return
        await self._hold_from_now(command.facts)

    def refuse(self, command: RefuseRequest) -> None:
        """Somebody asked who may not."""
        _log.warning(Event.REQUEST_REFUSED, channel=command.channel, what=command.what.value)

    def warn(self, command: NoteLongPause) -> None:
        """A pause that nobody ends."""
        _log.warning(Event.PAUSE_LONG, call=command.channel)

    def _confirmed(self, facts: Sequence[Remembered]) -> None:
        """To whoever objected: it holds and is on disk."""
        for fact in facts:
            said = self._supervisor.confirmation(fact.channel) if isinstance(fact, Objected) else None
            if said is not None and self.confirm is not None:
                self.confirm(said)

    async def _hold_from_now(self, facts: Sequence[Remembered]) -> None:
        for fact in facts:
            _tell(fact)
            await self._facts.put(fact)

    # -- operators ---------------------------------------------------------------------------------------------------

    async def ask(self, call: str, what: InCall, actor: str, purposes: Sequence[PurposeName] = ()) -> None:
        """As one of us, in whose name `actor` asks, of a call that lives (its external channel's uniqueid).

        `purposes`: to begin. Returns when it holds and is on disk. Raises NotFound, Protected (nothing is paused,
        nobody of us takes part), WrongUse (no such purpose), AuditFailed: then what closes holds all the same, until a
        restart.
        """
        channel = Uniqueid(call)
        if channel not in self._supervisor.calls:
            raise NotFound("no live call has that id: `pbxguard calls --json` shows them")
        facts: Sequence[Remembered]
        match what:
            case InCall.OBJECT | InCall.PAUSE | InCall.PRIVATE:
                facts = (_CLOSES[what](channel),)
            case InCall.RESUME:
                facts = self._paused_with(channel)
            case InCall.BEGIN:
                facts = self._begun_with(channel, tuple(purposes))
            case _:
                assert_never(what)
        entries = self._entries(facts, {"by": "operator"}, actor)
        opens = what in (InCall.RESUME, InCall.BEGIN)
        if opens:
            await self._commit(entries)
        await self._hold_from_now(facts)
        if not opens:
            await self._commit(entries)
            self._confirmed(facts)

    def _paused_with(self, channel: Uniqueid) -> tuple[Resumed, ...]:
        talkers = self._supervisor.board.component(channel).talkers
        everybody = dict.fromkeys((channel, *(c.uniqueid for c in talkers)))
        paused = tuple(Resumed(c) for c in everybody if self._supervisor.memory.of(c).paused)
        if not paused:
            raise Protected("that call is not paused")
        return paused

    def _begun_with(self, channel: Uniqueid, purposes: tuple[PurposeName, ...]) -> tuple[PurposeBegun, ...]:
        policy = self._supervisor.policy
        if not purposes or any(name not in policy.purposes for name in purposes):
            raise WrongUse(f"a purpose of [purposes] is wanted: {', '.join(sorted(policy.purposes))}")
        board = self._supervisor.board
        own = next((c for c in board.component(channel).talkers if c.kind is PartyKind.OWN), None)
        said = answer(Requested(own.uniqueid, InCall.BEGIN, purposes), board, self._supervisor.memory) if own else None
        if said is None or not said.begun:
            raise Protected("nobody of us takes part in that call just now")
        return said.begun

    async def _commit(self, entries: Sequence[AuditEntry]) -> None:
        try:
            await self._audit.commit(*entries)
        except AuditFailed:
            await self._audit_failed()
            raise

    # -- what came while nobody listened -----------------------------------------------------------------------------

    async def before_snapshot(self, snapshot: SnapshotTaken) -> None:
        """What stands in the channels' variables closes at once what they are in; who is concerned beyond them is
        told when the picture is there. Nobody waits long for this: the connection that took the snapshot stands."""
        try:
            said = await self._pbx.said()
        except PbxguardError as error:
            _log.error(Event.REQUESTS_UNREAD, reason=error.code)
            return
        there = {created.channel for created in snapshot.channels}
        found = [Requested(channel, what) for channel in said if channel in there for what in said[channel]]
        for request in found:
            self._supervisor.memory.note(_CLOSES[request.what](request.channel))
        if found:
            task = asyncio.create_task(self._put(found), name="requests found")
            self._found.add(task)
            task.add_done_callback(self._found.discard)

    async def _put(self, requests: Sequence[Requested]) -> None:
        for request in requests:
            await self._facts.put(request)

    def _entries(self, facts: Sequence[Remembered], more: Mapping[str, Any], actor: str = "") -> list[AuditEntry]:
        at, boot = self._clock.utc(), self._supervisor.boot
        made = [entry_of(fact, at, boot) for fact in facts]
        made = [replace(entry, data={**(entry.data or {}), **more}) for entry in made]
        return [replace(entry, actor=actor) for entry in made] if actor else made


def _tell(fact: Remembered) -> None:
    match fact:
        case Objected():
            _log.info(Event.OBJECTED, call=fact.channel)
        case ObjectionBinds():
            _log.info(Event.OBJECTION_BINDS, call=fact.channel, by=fact.by)
        case Paused():
            _log.info(Event.CALL_PAUSED, call=fact.channel)
        case Resumed():
            _log.info(Event.CALL_RESUMED, call=fact.channel)
        case MarkedPrivate():
            _log.info(Event.MARKED_PRIVATE, call=fact.channel)
        case PurposeBegun():
            _log.info(Event.PURPOSE_BEGUN, call=fact.channel, purposes=list(fact.purposes))
        case _:
            pass  # nothing else is asked for in a call
