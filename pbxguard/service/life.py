"""When this node was guarded: a line in the audit log at the beginning, and one at an end that was asked for.

Where the second is missing, the one before this died, and a person is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from pbxguard.core.errors import AuditFailed
from pbxguard.logs import Event, alert, get_logger

from .ports import AuditEntry, Clock

STARTED, STOPPED = "service.started", "service.stopped"

_log = get_logger()


class LastLines(Protocol):
    """What we need of `db.audit.SqlAudit`."""

    async def commit(self, *entries: AuditEntry) -> None: ...
    async def last(self, *kinds: str) -> AuditEntry | None:
        """The newest line of this node of one of these kinds."""


class Life:
    """`begin` once no other pbxguard is here, `end` when the service was asked to stop."""

    def __init__(self, audit: LastLines, clock: Clock, last_seen: Callable[[], Awaitable[float]]) -> None:
        """`last_seen`: when the last beat came back that is known of, wall-clock seconds; 0 when none is."""
        self._audit, self._clock, self._last_seen = audit, clock, last_seen
        self._begun = False

    async def begin(self) -> None:
        """Tell of a death, and write the beginning down. Never raises: nobody is kept from guarding by it."""
        seen = await self._last_seen()
        try:
            before = await self._audit.last(STARTED, STOPPED)
            if before is not None and before.kind == STARTED:
                at = datetime.fromtimestamp(seen, UTC).isoformat(timespec="seconds") if seen else ""
                alert(Event.SERVICE_DIED, since=before.at.isoformat(timespec="seconds"), last_seen=at)
            await self._audit.commit(AuditEntry(STARTED, self._clock.utc()))
            self._begun = True
        except AuditFailed as error:
            _log.error(Event.AUDIT_MISSED, reason=error.code)

    async def end(self) -> None:
        """Write down that it was asked for."""
        if self._begun:
            self._begun = False
            try:
                await self._audit.commit(AuditEntry(STOPPED, self._clock.utc()))
            except AuditFailed as error:
                _log.error(Event.AUDIT_MISSED, reason=error.code)
