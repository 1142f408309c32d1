"""The audit log on a real SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pbxguard.core.errors import AuditFailed
from pbxguard.core.ids import RecordingId
from pbxguard.core.records import AuditEntry
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, sqlite_file

from .rows import NOON


@pytest.fixture
async def audit(database: Database) -> AsyncIterator[SqlAudit]:
    async with SqlAudit(database, "pbx1") as audit:
        yield audit


@pytest.fixture
def file(url: str) -> Path:
    path = sqlite_file(url)
    assert path is not None
    return path


def entry(kind: str = "disclosure.heard", **changes: object) -> AuditEntry:
    return replace(AuditEntry(kind, NOON), **changes)  # type: ignore[arg-type]


async def test_what_was_committed_comes_back_whole(audit: SqlAudit) -> None:
    written = AuditEntry(
        "segment.permitted",
        NOON,
        actor="jansen",
        boot="b1",
        channel="17.1",
        call="17.0",
        recording="aaaaaaaaaaaaaaaa",
        segment="aaaaaaaaaaaaaaaa-001",
        data={"purposes": ["contract_evidence"], "proven": 1.5},
    )
    await audit.commit(written)
    (read,) = await audit.of_recording(RecordingId("aaaaaaaaaaaaaaaa"))
    assert read == replace(written, number=read.number)
    assert read.number > 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT number, node, 'other', at, actor, boot, channel, call, recording, segment,"
        " data FROM audit",
    ],
)
async def test_nothing_written_is_ever_changed_or_deleted(audit: SqlAudit, file: Path, statement: str) -> None:
    await audit.commit(entry())
    with sqlite3.connect(file) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(statement)
    assert [e.kind for e in await audit.read()] == ["disclosure.heard"]


async def test_a_commit_that_returned_is_seen_by_another_connection(audit: SqlAudit, file: Path) -> None:
    await audit.commit(entry())
    with sqlite3.connect(file) as raw:
        assert raw.execute("SELECT kind, node, at FROM audit").fetchall() == [
            ("disclosure.heard", "pbx1", "2026-03-02T12:00:00.000000+00:00")
        ]


async def test_commits_at_once_share_transactions(audit: SqlAudit) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(audit.commit(entry(call=str(number)), entry(call=str(number))))
    assert len(await audit.read()) == 400
    assert audit.transactions <= 5


async def test_entries_of_one_commit_stay_together_and_in_order(audit: SqlAudit) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(audit.commit(entry("a", call=str(number)), entry("b", call=str(number))))
    found = [(e.call, e.kind) for e in await audit.read()]
    assert [kind for _, kind in found] == ["a", "b"] * 20
    assert all(found[i][0] == found[i + 1][0] for i in range(0, 40, 2))


async def test_a_database_locked_by_another_process_fails_the_commit(audit: SqlAudit, file: Path) -> None:
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(AuditFailed):
        await audit.commit(entry("refused"))
    blocker.execute("ROLLBACK")
    blocker.close()
    await audit.commit(entry("afterwards"))
    assert [e.kind for e in await audit.read()] == ["afterwards"]


def _pragma(database: Database, text: str) -> None:
    """Of the connection that commits the entries."""
    assert database.direct is not None
    with database.direct.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {text}")


async def test_a_full_disk_fails_the_commit_and_room_mends_it(database: Database, file: Path) -> None:
    async with SqlAudit(database, "pbx1") as audit:
        with sqlite3.connect(file) as raw:
            pages = raw.execute("PRAGMA page_count").fetchone()[0]
        _pragma(database, f"max_page_count = {pages}")  # SQLite's own answer to a full disk, SQLITE_FULL
        with pytest.raises(AuditFailed):
            await audit.commit(entry(data={"much": "x" * 100_000}))
        assert await audit.read() == []
        _pragma(database, "max_page_count = 1000000")
        await audit.commit(entry(data={"much": "x" * 100_000}))
        assert len(await audit.read()) == 1


async def test_a_database_that_turned_read_only_fails_the_commit(database: Database, audit: SqlAudit) -> None:
    _pragma(database, "query_only = ON")
    with pytest.raises(AuditFailed):
        await audit.commit(entry())


async def test_a_disk_that_hangs_fails_the_commit_and_then_every_other(database: Database) -> None:
    async with SqlAudit(database, "pbx1", most_waiting=2, commit_seconds=0.05) as audit, database.write():
        for _ in range(3):  # the write lock is never given: one is being written, two wait
            with pytest.raises(AuditFailed, match="not on disk"):
                await audit.commit(entry())
        with pytest.raises(AuditFailed, match="too many"):
            await audit.commit(entry())


async def test_a_cancelled_caller_disturbs_no_other(audit: SqlAudit) -> None:
    gone = asyncio.create_task(audit.commit(entry("gone")))
    stays = asyncio.create_task(audit.commit(entry("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert "stays" in [e.kind for e in await audit.read()]


async def test_an_entry_that_cannot_be_written_down_fails_alone(audit: SqlAudit) -> None:
    results = await asyncio.gather(
        audit.commit(entry("good")),
        audit.commit(entry("bad", data={"what": object()})),
        audit.commit(entry("bad", at=NOON.replace(tzinfo=None))),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [type(None), AuditFailed, AuditFailed]
    assert [e.kind for e in await audit.read()] == ["good"]


async def test_hostile_text_is_written_and_read(audit: SqlAudit) -> None:
    await audit.commit(entry(channel="a\udc80b\0c'; DROP TABLE audit; --", data={"name": "x\udc80\0"}))
    (read,) = await audit.read()
    assert read.channel == "a?b\ufffdc'; DROP TABLE audit; --"
    assert read.data == {"name": "x\udc80\0"}


async def test_after_closing_nothing_is_taken(database: Database) -> None:
    async with SqlAudit(database, "pbx1") as audit:
        await audit.commit(entry())
    with pytest.raises(AuditFailed):
        await audit.commit(entry())


async def test_closing_writes_what_waits(database: Database) -> None:
    async with SqlAudit(database, "pbx1") as audit:
        waiting = [asyncio.create_task(audit.commit(entry())) for _ in range(10)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert len(await audit.read()) == 10


async def test_a_restart_sees_everything(url: str, database: Database) -> None:
    async with SqlAudit(database, "pbx1") as audit:
        await audit.commit(entry("segment.permitted", segment="s-1", recording="r"))
    again = await Database.open(url)
    async with SqlAudit(again, "pbx1") as audit:
        assert [e.segment for e in await audit.open_segments()] == ["s-1"]
    await again.close()


async def test_segments_of_many_recordings_are_found_at_once(audit: SqlAudit) -> None:
    """More than a statement of SQLite's takes."""
    recordings = [RecordingId(f"{number:016d}") for number in range(1200)]
    await audit.commit(
        *(entry("segment.permitted", recording=one, segment=f"{one}-{n:03d}") for one in recordings for n in (1, 2)),
        entry("segment.closed", recording=recordings[0], segment=f"{recordings[0]}-009"),
        entry("segment.permitted", recording="another", segment="another-001"),
    )
    found = await audit.permitted(recordings)
    assert sorted(found) == [f"{one}-{n:03d}" for one in recordings for n in (1, 2)]
    assert list(await audit.permitted([])) == []


async def test_the_last_line_of_some_kinds_is_this_nodes_newest(audit: SqlAudit, database: Database) -> None:
    assert await audit.last("service.started") is None
    await audit.commit(entry("service.started", call="1"), entry("service.stopped", call="2"), entry("other"))
    async with SqlAudit(database, "pbx2") as elsewhere:
        await elsewhere.commit(entry("service.started", call="3"))
    found = await audit.last("service.started", "service.stopped")
    assert found is not None
    assert (found.kind, found.call) == ("service.stopped", "2")


async def test_open_segments_are_those_permitted_and_not_closed(audit: SqlAudit, database: Database) -> None:
    await audit.commit(
        entry("segment.permitted", segment="s-1"),
        entry("segment.permitted", segment="s-2"),
        entry("segment.closed", segment="s-1"),
    )
    assert [e.segment for e in await audit.open_segments()] == ["s-2"]
    async with SqlAudit(database, "pbx2") as other:
        assert await other.open_segments() == []


@pytest.mark.parametrize("end", ["recording.sealed", "recording.destroyed", "recording.empty"])
async def test_unsealed_recordings_have_a_closed_segment_and_no_end(audit: SqlAudit, end: str) -> None:
    await audit.commit(
        entry("segment.closed", recording="r1", segment="r1-1"),
        entry("segment.closed", recording="r1", segment="r1-2"),
        entry("segment.closed", recording="r2", segment="r2-1"),
        entry("segment.permitted", recording="r3", segment="r3-1"),
    )
    assert await audit.unsealed() == ["r1", "r2"]
    await audit.commit(entry(end, recording="r1"))
    assert await audit.unsealed() == ["r2"]


async def test_half_destroyed_recordings_were_begun_and_not_ended(audit: SqlAudit) -> None:
    await audit.commit(
        entry("recording.destroying", recording="r1"),
        entry("recording.destroying", recording="r2"),
        entry("recording.destroyed", recording="r1"),
    )
    assert await audit.half_destroyed() == ["r2"]


async def test_of_channels_tells_what_was_made_known_in_that_boot(audit: SqlAudit, database: Database) -> None:
    await audit.commit(
        entry("disclosure.heard", boot="b2", channel="c1"),
        entry("objected", boot="b2", channel="c2"),
        entry("disclosure.heard", boot="b1", channel="c1"),
        entry("segment.permitted", boot="b2", channel="c1", segment="s"),
        entry("recording.sealed", boot="b2", channel="c1"),
        entry("consented", boot="b2", channel="c3"),
        entry("private", boot="b2", channel="c1"),
    )
    async with SqlAudit(database, "pbx2") as other:
        await other.commit(entry("objected", boot="b2", channel="c1"))
    found = await audit.of_channels("b2", [*(f"x{n}" for n in range(1200)), "c2", "c1"])
    assert [(e.kind, e.channel) for e in found] == [
        ("disclosure.heard", "c1"),
        ("objected", "c2"),
        ("private", "c1"),
    ]
    assert await audit.of_channels("b2", []) == []


async def test_read_gives_the_newest_oldest_first(audit: SqlAudit) -> None:
    for minute in range(5):
        kind = "segment.closed" if minute % 2 else "segment.permitted"
        await audit.commit(entry(kind, at=NOON + timedelta(minutes=minute), call=str(minute)))
    await audit.commit(entry("segmentXother", at=NOON))
    assert [e.call for e in await audit.read(kind="segment.", limit=2)] == ["3", "4"]
    assert [e.call for e in await audit.read(kind="segment.closed")] == ["1", "3"]
    assert [e.call for e in await audit.read(since=NOON + timedelta(minutes=3))] == ["3", "4"]
    assert [e.call for e in await audit.read(call="2")] == ["2"]
    assert await audit.read(kind="segment_") == []
