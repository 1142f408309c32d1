"""What is known of calls, for `calls` and `why` (`service.ports.Index`, its calls half).

`put_call` only lays the report down: a task writes what has gathered in one transaction, the newest report of each
call. So a hundred calls a second cost the guard nothing. A kill or power cut loses at most the last reports, of
`GATHER_SECONDS` or of the time that the database was locked: what must be remembered is in the audit log, and a
recording sealed after such a loss may lack the number or reference that only the report held.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, or_, select, update

from pbxguard.core.commands import CallOutcome
from pbxguard.core.errors import StorageFailed

from .engine import Database, insert_into
from .tables import MOST_ASKED, calls, clean, digits_of, extension_of

MOST_WAITING = 20_000
"""Calls whose report may wait; then `put_call` waits for the disk."""
MOST_IN_ONE = 100
"""Of one transaction: an entry for the audit log waits for one at most."""
GATHER_SECONDS = 0.5
"""How long reports gather before they are written: a call makes several in its first seconds, and only the last
counts. Who asks here waits for nothing: a question writes first what has gathered."""
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 5.0
_KEY = ("node", "boot", "call")


class CallReports:
    """The calls half of the index; its writer task lives as long as the ``async with`` block."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._upsert = _upsert(database.engine.dialect.name)
        self._waiting: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._flushing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self.failures = 0
        """Failed attempts to write reports, for metrics; what failed is tried again."""

    async def __aenter__(self) -> CallReports:
        self._writer = asyncio.create_task(self._write_all(), name="call-reports")
        return self

    async def __aexit__(self, *_: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.cancel()
        await asyncio.wait([writer])
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._flush()
        except (StorageFailed, TimeoutError):
            self.failures += 1

    async def put_call(self, outcome: CallOutcome, at: datetime, ended: bool, boot: str) -> None:
        """Lay down what is known; idempotent by boot and call, the last one counts. Never raises, hardly ever waits."""
        await self._room.wait()
        row: dict[str, Any] = {
            "node": self._node,
            "boot": clean(boot),
            "call": clean(outcome.call),
            "began": at,
            "at": at,
            "ended": ended,
            "linkedid": clean(outcome.linkedid),
            "recording": outcome.recording,
            "direction": outcome.direction.value if outcome.direction else "",
            "external_number": clean(outcome.external_number),
            "external_digits": digits_of(outcome.external_number),
            "own_number": clean(outcome.own_number),
            "own_endpoint": clean(outcome.own_endpoint),
            "extension": extension_of(clean(outcome.own_endpoint)),
            "queue": clean(outcome.queue),
            "reference": clean(outcome.reference),
            "language": clean(outcome.language),
            "purposes": json.dumps([clean(purpose) for purpose in outcome.purposes_asked]),
            "told": outcome.told,
            "reasons": json.dumps([reason.value for reason in outcome.reasons]),
            "recorded": outcome.recorded,
            "ever_recorded": outcome.ever_recorded,
            "would_record": outcome.would_record,
            "others": json.dumps([clean(other) for other in outcome.others]),
        }
        key = (row["boot"], row["call"])
        if earlier := self._waiting.get(key):
            row["began"] = earlier["began"]
        self._waiting[key] = row
        self._some.set()
        if len(self._waiting) >= MOST_WAITING:
            self._room.clear()

    async def _write_all(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await self._flush()
            except StorageFailed:
                self.failures += 1
                await asyncio.sleep(RETRY_SECONDS)

    async def _flush(self) -> None:
        """Write what waits; what cannot be written goes on waiting, unless a newer report replaced it."""
        async with self._flushing:
            while self._waiting:
                batch = [self._waiting.popitem(last=False) for _ in range(min(MOST_IN_ONE, len(self._waiting)))]
                try:
                    await self._database.execute(self._upsert, [row for _, row in batch])
                except BaseException:
                    for key, row in reversed(batch):
                        newer = self._waiting.setdefault(key, row)
                        newer["began"] = min(newer["began"], row["began"])
                        self._waiting.move_to_end(key, last=False)
                    raise
                self._room.set()
            self._some.clear()

    async def _flush_reports(self) -> None:
        """What was reported before is found, wiped or forgotten as if it had been written at once."""
        if self._writer is not None:
            await self._flush()

    async def forget_calls(self, before: datetime) -> int:
        """Delete what is known of calls last heard of before then; how many."""
        await self._flush_reports()
        async with self._database.write() as connection:
            return (await connection.execute(delete(calls).where(calls.c.at < before))).rowcount

    async def known_call(self, boot: str, call: str) -> Mapping[str, Any] | None:
        """What is known of one call of this node, as `find_calls` gives it; None when nothing is."""
        await self._flush_reports()
        wanted = (calls.c.node == self._node, calls.c.boot == clean(boot), calls.c.call == clean(call))
        async with self._database.read() as connection:
            row = (await connection.execute(select(calls).where(*wanted))).one_or_none()
            return None if row is None else _call(dict(row._mapping))

    async def references(self, boot: str, asked: Collection[str]) -> Mapping[str, str]:
        """The customers' references of those of these calls of this node that have one. Raises StorageFailed."""
        await self._flush_reports()
        found: dict[str, str] = {}
        names = sorted(clean(call) for call in asked)
        async with self._database.read() as connection:
            for start in range(0, len(names), MOST_ASKED):
                query = select(calls.c.call, calls.c.reference).where(
                    calls.c.node == self._node,
                    calls.c.boot == clean(boot),
                    calls.c.call.in_(names[start : start + MOST_ASKED]),
                    calls.c.reference != "",
                )
                found |= {row.call: row.reference for row in await connection.execute(query)}
        return found

    async def end_calls(self, boot: str, live: Collection[str]) -> int:
        """Calls of this node that were going on when they were last heard of, and are not among the `live` ones of
        this boot of Asterisk: ended, nobody saw when. Gives how many. Raises StorageFailed."""
        await self._flush_reports()
        ours = (calls.c.node == self._node, calls.c.ended.is_(False))
        async with self._database.write() as connection:
            found = (await connection.execute(select(calls.c.boot, calls.c.call).where(*ours))).all()
            over = [row for row in found if row.boot != clean(boot) or row.call not in live]
            if over:
                this = (*ours, calls.c.boot == bindparam("of_boot"), calls.c.call == bindparam("of_call"))
                ended = update(calls).where(*this).values(ended=True, recorded=False)
                await connection.execute(ended, [{"of_boot": row.boot, "of_call": row.call} for row in over])
        return len(over)

    async def find_calls(
        self, *, who: str = "", since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, Any]]:
        """Calls heard of since then, newest first.

        `who` is an external number (E.164, or digits as shown), an own number, or an extension or endpoint; empty
        for all. Keys: node, boot, call, began, at (datetimes, UTC), ended, linkedid, recording, direction,
        external_number, own_number, own_endpoint, extension, queue, reference, language, purposes (list), told,
        reasons (list of `Reason` values), recorded, ever_recorded, would_record, others (list of uniqueids). Raises
        StorageFailed.
        """
        await self._flush_reports()
        wanted: list[ColumnElement[bool]] = []
        if who:
            name = clean(who)
            wanted.append(
                or_(
                    calls.c.external_digits == (digits_of(name) or "-"),
                    calls.c.own_number == name,
                    calls.c.extension == extension_of(name),
                )
            )
        if since is not None:
            wanted.append(calls.c.at >= since)
        query = select(calls).where(*wanted).order_by(calls.c.began.desc(), calls.c.call.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_call(dict(row._mapping)) for row in await connection.execute(query)]


def _upsert(dialect: str) -> Any:
    """A report, or instead of the earlier one of the same call."""
    statement = insert_into(dialect, calls)
    changed = {
        column.name: statement.excluded[column.name] for column in calls.c if column.name not in (*_KEY, "began")
    }
    return statement.on_conflict_do_update(index_elements=list(_KEY), set_=changed)


def _call(row: dict[str, Any]) -> dict[str, Any]:
    del row["external_digits"]
    for name in ("purposes", "reasons", "others"):
        row[name] = json.loads(row[name])
    return row
