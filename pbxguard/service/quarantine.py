"""Audio in the spool that nobody can explain: set apart unheard, and destroyed after 72 hours (LAW.md 2).

What the audit log or the guard knows is none of its business. A file must be unexplained in two looks, a minute apart:
one that is being erased just now is no find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from pbxguard.core.errors import PbxguardError
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.logs import Event, get_logger
from pbxguard.threads import Threads

from .ports import Audit, AuditEntry, Clock

KEPT = timedelta(hours=72)
LOOK_SECONDS = 60.0
SET_APART, DESTROYED = "spool.quarantined", "spool.destroyed"

_log = get_logger()


class QuarantinedSpool(Protocol):
    """What we need of `archive.spool.Spool`; all of it blocks, and is done in its threads."""

    @property
    def threads(self) -> Threads: ...
    def segments(self) -> list[SegmentId]: ...
    def strangers(self) -> list[str]: ...
    def names(self, segment: SegmentId) -> list[str]:
        """The names of a segment's files."""

    def set_apart(self, name: str, at: datetime) -> None:
        """Move a file of that name into the quarantine."""

    def set_apart_before(self, before: datetime) -> list[str]:
        """Names in the quarantine of what was set apart before then."""

    def destroy_set_apart(self, name: str) -> None: ...


class Quarantine:
    """Run it beside the guard."""

    def __init__(
        self, *, spool: QuarantinedSpool, audit: Audit, clock: Clock, knows: Callable[[RecordingId], bool]
    ) -> None:
        """`knows`: whether the guard has a segment of a recording under way."""
        self._spool, self._audit, self._clock, self._knows = spool, audit, clock, knows
        self._suspects: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look once a minute, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except PbxguardError as error:
                _log.error(Event.QUARANTINE_FAILED, reason=error.code)

    async def look(self) -> None:
        """Set apart what was unexplained at the last look too, and destroy what was set apart for long enough.

        Raises StorageFailed, AuditFailed.
        """
        unexplained = await self._unexplained()
        found = unexplained & self._suspects
        self._suspects = unexplained - found
        now = self._clock.utc()
        if found:
            await self._audit.commit(AuditEntry(SET_APART, now, data={"files": len(found)}))
            for name in sorted(found):
                await self._spool.threads.run(self._spool.set_apart, name, now)
            _log.error(Event.SEGMENT_QUARANTINED, files=len(found))
        over = await self._spool.threads.run(self._spool.set_apart_before, now - KEPT)
        if over:
            for name in over:
                await self._spool.threads.run(self._spool.destroy_set_apart, name)
            await self._audit.commit(AuditEntry(DESTROYED, now, data={"files": len(over)}))
            _log.warning(Event.QUARANTINE_DESTROYED, files=len(over))

    async def _unexplained(self) -> frozenset[str]:
        # The spool first: a segment is in the audit log before it has a file.
        segments = await self._spool.threads.run(self._spool.segments)
        strangers = await self._spool.threads.run(self._spool.strangers)
        known = set(await self._audit.unsealed())
        known |= {RecordingId(entry.recording) for entry in await self._audit.open_segments()}
        unknown = [s for s in segments if not ((r := RecordingId(s.rsplit("-", 1)[0])) in known or self._knows(r))]
        return frozenset(strangers) | {name for segment in unknown for name in self._spool.names(segment)}
