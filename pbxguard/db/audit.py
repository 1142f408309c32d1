"""The audit log: append-only, on disk before anyone acts on it (`service.ports.Audit`).

Group commit: entries that come while a transaction is being written share the next one, so that a hundred calls at
once wait for two or three syncs of the disk and not for a hundred. The queue is bounded; whatever goes wrong, the
caller gets AuditFailed and what it wanted to open stays closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, case, exists, func, insert, not_, select

from pbxguard.core.errors import AuditFailed, StorageFailed
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.core.records import AuditEntry
from pbxguard.fault_points import FaultPoint, reached

from .engine import Database
from .tables import MOST_ASKED, audit, clean

MOST_WAITING = 2_000
"""Commits that may wait; the next one fails at once."""
MOST_IN_ONE = 500
"""Commits that share one transaction."""
COMMIT_SECONDS = 5.0
"""Longer than `engine.BUSY_MS`. Who waited this long is told that it failed, even should the entry arrive later: an
entry too many says that something might have been opened, and the recovery finds that it was not."""
CLOSE_SECONDS = 5.0

_Waiting = tuple[list[dict[str, Any]], asyncio.Future[None]]


class SqlAudit:
    """``async with SqlAudit(database, node) as audit``: its writer task lives as long as the block.

    `node` is the name of this Asterisk; every entry carries it, and recovery asks only for its own.
    """

    def __init__(
        self,
        database: Database,
        node: str,
        *,
        most_waiting: int = MOST_WAITING,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        self._database = database
        self._node = node
        self._commit_seconds = commit_seconds
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(most_waiting)
        self._writer: asyncio.Task[None] | None = None
        self.transactions = 0
        """Transactions committed, for metrics: far fewer than entries when many come at once."""

    async def __aenter__(self) -> SqlAudit:
        self._writer = asyncio.create_task(self._write_all(), name="audit-writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._waiting.join()
        except TimeoutError:
            pass
        writer.cancel()
        await asyncio.wait([writer])
        while not self._waiting.empty():
            _settle(self._waiting.get_nowait()[1], AuditFailed("the audit log was closed"))

    async def commit(self, *entries: AuditEntry) -> None:
        """Return when all of them, or raise AuditFailed when none of them as far as we know, are on disk."""
        if not entries:
            return
        try:
            rows = [self._row(entry) for entry in entries]
        except (TypeError, ValueError) as error:
            raise AuditFailed("an entry cannot be written down") from error
        await self._write(rows)

    async def _write(self, rows: list[dict[str, Any]]) -> None:
        if self._writer is None or self._writer.done():
            raise AuditFailed("the audit log is not open")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((rows, done))
        except asyncio.QueueFull:
            raise AuditFailed("too many entries wait for the disk") from None
        try:
            async with asyncio.timeout(self._commit_seconds):
                await done
        except TimeoutError:
            raise AuditFailed(f"not on disk within {self._commit_seconds} s") from None

    async def check(self) -> None:
        """Return when something is on disk, leaving no entry; raise AuditFailed when nothing can be written."""
        await self._write([])

    def _row(self, entry: AuditEntry) -> dict[str, Any]:
        if entry.at.tzinfo is None:
            raise ValueError("a moment without a time zone")
        # ensure_ascii: what peers sent may hold lone surrogates
        data = None if entry.data is None else json.dumps(dict(entry.data), ensure_ascii=True, allow_nan=False)
        return {
            "node": self._node,
            "kind": entry.kind,
            "at": entry.at,
            "actor": clean(entry.actor),
            "boot": clean(entry.boot),
            "channel": clean(entry.channel),
            "call": clean(entry.call),
            "recording": clean(entry.recording),
            "segment": clean(entry.segment),
            "data": data,
        }

    async def _write_all(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < MOST_IN_ONE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            failed: AuditFailed | None = AuditFailed("the audit log was closed")
            try:
                reached(FaultPoint.AUDIT_WRITING)
                rows = [row for rows, _ in batch for row in rows]
                if rows:
                    await self._database.execute(insert(audit), rows)
                else:
                    await self._database.touch()
                reached(FaultPoint.AUDIT_WRITTEN)
                self.transactions += 1
                failed = None
            except StorageFailed as error:
                failed = AuditFailed(str(error))
            except Exception as error:  # whatever it was: nobody may wait for ever, and nothing opens
                failed = AuditFailed(f"the audit log cannot be written: {type(error).__name__}")
            finally:
                for _, done in batch:
                    _settle(done, failed)
                    self._waiting.task_done()

    async def of_recording(self, recording: RecordingId) -> Sequence[AuditEntry]:
        """Everything about a recording, oldest first."""
        return await self._select(audit.c.recording == recording)

    async def of_channels(self, boot: str, channels: Sequence[str]) -> Sequence[AuditEntry]:
        """What was made known of these channels in that boot of Asterisk, oldest first.

        Every kind of entry about a channel but those about segments and recordings, whose memory is elsewhere.
        """
        found: list[AuditEntry] = []
        for start in range(0, len(channels), MOST_ASKED):
            found += await self._select(
                audit.c.channel.in_([clean(c) for c in channels[start : start + MOST_ASKED]]),
                audit.c.boot == clean(boot),
                audit.c.node == self._node,
                not_(audit.c.kind.startswith("segment.")),
                not_(audit.c.kind.startswith("recording.")),
            )
        return sorted(found, key=lambda entry: entry.number)

    async def last(self, *kinds: str) -> AuditEntry | None:
        """The newest line of this node of one of these kinds."""
        found = await self._select(audit.c.node == self._node, audit.c.kind.in_(kinds), newest=1)
        return found[0] if found else None

    async def open_segments(self) -> Sequence[AuditEntry]:
        """``segment.permitted`` of this node without ``segment.closed``, oldest first."""
        closed = audit.alias()
        return await self._select(
            audit.c.kind == "segment.permitted",
            audit.c.node == self._node,
            ~exists().where(closed.c.kind == "segment.closed", closed.c.segment == audit.c.segment),
        )

    async def permitted(self, recordings: Collection[RecordingId]) -> Sequence[SegmentId]:
        """Every segment with a ``segment.permitted`` in one of these."""
        found: list[SegmentId] = []
        wanted = sorted(recordings)
        try:
            async with self._database.read() as connection:
                for start in range(0, len(wanted), MOST_ASKED):
                    query = select(audit.c.segment).where(
                        audit.c.recording.in_(wanted[start : start + MOST_ASKED]), audit.c.kind == "segment.permitted"
                    )
                    found += [SegmentId(row[0]) for row in await connection.execute(query)]
        except StorageFailed as error:
            raise AuditFailed(str(error)) from error
        return found

    async def unsealed(self) -> Sequence[RecordingId]:
        """Of this node: with a ``segment.closed`` and no ``recording.sealed``, ``.destroyed`` or ``.empty``."""
        return await self._recordings_with(
            "segment.closed", "recording.sealed", "recording.destroyed", "recording.empty"
        )

    async def half_destroyed(self) -> Sequence[RecordingId]:
        """Of this node: with a ``recording.destroying`` and no ``recording.destroyed``."""
        return await self._recordings_with("recording.destroying", "recording.destroyed")

    async def half_redacted(self) -> Sequence[RecordingId]:
        """Of this node: with more ``recording.redacting`` than ``recording.redacted``."""
        begun = func.sum(case((audit.c.kind == "recording.redacting", 1), else_=-1))
        query = (
            select(audit.c.recording)
            .where(audit.c.kind.in_(("recording.redacting", "recording.redacted")), audit.c.node == self._node)
            .group_by(audit.c.recording)
            .having(begun > 0)
            .order_by(audit.c.recording)
        )
        try:
            async with self._database.read() as connection:
                return [RecordingId(row[0]) for row in await connection.execute(query)]
        except StorageFailed as error:
            raise AuditFailed(str(error)) from error

    async def read(
        self, *, since: datetime | None = None, kind: str = "", call: str = "", limit: int = 1000
    ) -> Sequence[AuditEntry]:
        """The newest `limit` entries since then, oldest of them first.

        `kind` is exact, or a family when it ends in a dot (``segment.``). Raises AuditFailed when it cannot be read.
        """
        wanted: list[ColumnElement[bool]] = []
        if since is not None:
            wanted.append(audit.c.at >= since)
        if kind:
            wanted.append(
                audit.c.kind.startswith(kind, autoescape=True) if kind.endswith(".") else audit.c.kind == kind
            )
        if call:
            wanted.append(audit.c.call == call)
        return await self._select(*wanted, newest=limit)

    async def _recordings_with(self, kind: str, *without: str) -> Sequence[RecordingId]:
        other = audit.alias()
        query = (
            select(audit.c.recording)
            .where(
                audit.c.kind == kind,
                audit.c.node == self._node,
                audit.c.recording != "",
                ~exists().where(other.c.recording == audit.c.recording, other.c.kind.in_(without)),
            )
            .distinct()
            .order_by(audit.c.recording)
        )
        try:
            async with self._database.read() as connection:
                return [RecordingId(row[0]) for row in await connection.execute(query)]
        except StorageFailed as error:
            raise AuditFailed(str(error)) from error

    async def _select(self, *wanted: ColumnElement[bool], newest: int = 0) -> list[AuditEntry]:
        query = select(audit).where(*wanted)
        query = query.order_by(audit.c.number.desc()).limit(newest) if newest else query.order_by(audit.c.number)
        try:
            async with self._database.read() as connection:
                found = [_entry(row) for row in await connection.execute(query)]
        except StorageFailed as error:
            raise AuditFailed(str(error)) from error
        return found[::-1] if newest else found


def _settle(done: asyncio.Future[None], failed: AuditFailed | None) -> None:
    if done.done():  # its caller was cancelled or has given up
        return
    if failed is None:
        done.set_result(None)
    else:
        done.set_exception(AuditFailed(*failed.args))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        kind=row.kind,
        at=row.at,
        actor=row.actor,
        boot=row.boot,
        channel=row.channel,
        call=row.call,
        recording=row.recording,
        segment=row.segment,
        data=None if row.data is None else json.loads(row.data),
        number=row.number,
    )
