"""The index of recordings, for those who look for them (`service.ports.Index`, its recordings half).

Owns the tables `recordings` and `recording_numbers`; calls stand in `calls.py`. A destroyed recording keeps its id,
node, purposes, times and digest, and nothing that tells of people.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, or_, select, update

from pbxguard.core.errors import NotFound, StorageFailed
from pbxguard.core.ids import RecordingId
from pbxguard.core.records import RecordingRow
from pbxguard.fault_points import FaultPoint, reached

from .calls import CallReports
from .engine import Database, insert_into
from .tables import calls, clean, digits_of, extension_of, recording_numbers, recordings

PAGE = 500
"""Rows that `live_recordings` holds at a time."""

WIPED: dict[str, Any] = {
    "path": "",  # it may hold the caller's number
    "external_number": "",
    "other_numbers": "[]",
    "own_number": "",
    "own_endpoint": "",
    "extension": "",
    "reference": "",
    "call": "",
    "uniqueid": "",
    "linkedid": "",  # both lead to the numbers in the PBX's own call detail records
    "manifest": "{}",
    "contract_end": "",
}
"""What a destruction takes out of the index."""


class SqlIndex(CallReports):
    """``async with SqlIndex(database, node) as index``. `node` is written with each call."""

    def __init__(self, database: Database, node: str) -> None:
        super().__init__(database, node)

    async def __aenter__(self) -> SqlIndex:
        await super().__aenter__()
        return self

    async def add_recording(self, row: RecordingRow) -> None:
        """Idempotent by id; a destroyed one stays destroyed.

        Raises StorageFailed when another file stands under that id: it is never overwritten.
        """
        reached(FaultPoint.INDEXING)
        async with self._database.write() as connection:
            statement = insert_into(connection.dialect.name, recordings).values(_values(row)).on_conflict_do_nothing()
            if (await connection.execute(statement)).rowcount == 0:
                known = select(recordings.c.sha256).where(recordings.c.id == row.id)
                if (await connection.execute(known)).scalar_one() != row.sha256:
                    raise StorageFailed(f"recording {row.id} is in the index with another file")
                return
            found = {digits_of(number) for number in (row.external_number, *row.other_numbers)} - {""}
            if found:
                numbers = [{"recording": row.id, "digits": digits} for digits in sorted(found)]
                await connection.execute(insert_into(connection.dialect.name, recording_numbers).values(numbers))
        reached(FaultPoint.INDEXED)

    async def recording(self, id: RecordingId) -> RecordingRow:
        """By id, destroyed or not. Raises NotFound, StorageFailed."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(recordings).where(recordings.c.id == clean(id)))).one_or_none()
        if row is None:
            raise NotFound("no recording has that id")
        return _row(row)

    async def find(
        self,
        *,
        number: str = "",
        reference: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        extension: str = "",
        limit: int = 100,
        include_destroyed: bool = False,
    ) -> Sequence[RecordingRow]:
        """Newest first; every filter given must fit.

        `number` (E.164, or digits as shown) is any external party's; `extension` the own endpoint, its extension or
        the own number; `since` and `until` (not included) are about the start.
        """
        wanted: list[ColumnElement[bool]] = []
        if number:
            wanted.append(
                recordings.c.id.in_(
                    select(recording_numbers.c.recording).where(
                        recording_numbers.c.digits == (digits_of(number) or "-")
                    )
                )
            )
        if reference:
            wanted.append(recordings.c.reference == clean(reference))
        if extension:
            name = clean(extension)
            wanted.append(
                or_(
                    recordings.c.extension == extension_of(name),
                    recordings.c.own_number == name,
                )
            )
        if since is not None:
            wanted.append(recordings.c.started >= since)
        if until is not None:
            wanted.append(recordings.c.started < until)
        if not include_destroyed:
            wanted.append(recordings.c.destroyed.is_(None))
        query = select(recordings).where(*wanted).order_by(recordings.c.started.desc(), recordings.c.id).limit(limit)
        async with self._database.read() as connection:
            return [_row(row) for row in await connection.execute(query)]

    async def replace_file(self, old_sha256: str, row: RecordingRow) -> bool:
        """Path, digest, length and manifest of `row`, instead of those of the recording with the old digest.

        False when the recording does not have that digest (any more), or is destroyed. Raises StorageFailed.
        """
        values = _values(row)
        reached(FaultPoint.REDACTION_INDEXING)
        async with self._database.write() as connection:
            statement = (
                update(recordings)
                .where(
                    recordings.c.id == clean(row.id),
                    recordings.c.sha256 == old_sha256,
                    recordings.c.destroyed.is_(None),
                )
                .values({name: values[name] for name in ("path", "sha256", "duration_ms", "manifest")})
            )
            changed = (await connection.execute(statement)).rowcount
        reached(FaultPoint.REDACTION_INDEXED)
        return changed == 1

    async def set_outcome(self, id: RecordingId, outcome: str, contract_end: str) -> None:
        """Raises NotFound when there is no such recording, or no more."""
        await self._change(id, {"outcome": outcome, "contract_end": contract_end})

    async def set_lock(self, id: RecordingId, until: datetime | None) -> None:
        """Lock until then; None takes the lock off. Raises NotFound as `set_outcome`."""
        await self._change(id, {"locked": until is not None, "lock_until": until})

    async def _change(self, id: RecordingId, values: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            statement = (
                update(recordings).where(recordings.c.id == clean(id), recordings.c.destroyed.is_(None)).values(values)
            )
            changed = (await connection.execute(statement)).rowcount
        if changed == 0:
            raise NotFound("no recording has that id, or it is destroyed")

    async def mark_destroyed(self, id: RecordingId, at: datetime) -> None:
        """Wipe what tells of people, here and in what is known of its call. Idempotent: the first time counts."""
        await self._flush_reports()
        reached(FaultPoint.INDEX_WIPING)
        async with self._database.write() as connection:
            await connection.execute(
                update(recordings)
                .where(recordings.c.id == id, recordings.c.destroyed.is_(None))
                .values({**WIPED, "destroyed": at})
            )
            await connection.execute(delete(recording_numbers).where(recording_numbers.c.recording == id))
            await connection.execute(
                update(calls)
                .where(calls.c.recording == id)
                .values({"external_number": "", "external_digits": "", "reference": "", "others": "[]"})
            )
        reached(FaultPoint.INDEX_WIPED)
        await self._database.scrub()
        reached(FaultPoint.INDEX_SCRUBBED)

    async def live_recordings(self) -> AsyncIterator[RecordingRow]:
        """All that are not destroyed, by id; page by page, so that the rest of the database goes on meanwhile."""
        last = ""
        while True:
            query = (
                select(recordings)
                .where(recordings.c.destroyed.is_(None), recordings.c.id > last)
                .order_by(recordings.c.id)
                .limit(PAGE)
            )
            async with self._database.read() as connection:
                page = [_row(row) for row in await connection.execute(query)]
            for row in page:
                yield row
            if len(page) < PAGE:
                return
            last = page[-1].id


def _values(row: RecordingRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "node": row.node,
        "path": row.path,
        "purposes": json.dumps(list(row.purposes)),
        "started": row.started,
        "ended": row.ended,
        "duration_ms": row.duration_ms,
        "external_number": clean(row.external_number),
        "other_numbers": json.dumps(list(row.other_numbers)),
        "own_number": clean(row.own_number),
        "own_endpoint": clean(row.own_endpoint),
        "extension": extension_of(clean(row.own_endpoint)),
        "queue": clean(row.queue),
        "direction": row.direction,
        "reference": clean(row.reference),
        "language": row.language,
        "call": clean(row.call),
        "uniqueid": clean(row.uniqueid),
        "linkedid": clean(row.linkedid),
        "sha256": row.sha256,
        "manifest": json.dumps(dict(row.manifest)),
        "outcome": row.outcome,
        "contract_end": row.contract_end,
        "locked": row.locked,
        "lock_until": row.lock_until,
        "written_acceptance_required": row.written_acceptance_required,
        "destroyed": row.destroyed,
    }


def _row(row: Row[Any]) -> RecordingRow:
    values = dict(row._mapping)
    del values["extension"]
    for name in ("purposes", "other_numbers"):
        values[name] = tuple(json.loads(values[name]))
    values["manifest"] = json.loads(values["manifest"])
    return RecordingRow(**values)
