"""Audio that nobody can explain is set apart unheard, and destroyed after 72 hours."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest

from pbxguard.archive.spool import QUARANTINE, Spool
from pbxguard.core.errors import AuditFailed, UnsafeValue
from pbxguard.core.ids import RecordingId, Uniqueid, recording_id, segment_id
from pbxguard.core.records import AuditEntry
from pbxguard.service.quarantine import KEPT, Quarantine

KNOWN, OPEN, OURS, LOST = (recording_id("node", "boot", Uniqueid(f"1.{n}")) for n in range(4))


@dataclass
class Log:
    entries: list[AuditEntry] = field(default_factory=list)
    failing: bool = False

    async def commit(self, *entries: AuditEntry) -> None:
        if self.failing:
            raise AuditFailed("the disk is gone")
        self.entries += entries

    async def unsealed(self) -> list[RecordingId]:
        return [KNOWN]

    async def open_segments(self) -> list[AuditEntry]:
        return [AuditEntry("segment.permitted", datetime.now(UTC), recording=OPEN)]


@dataclass
class Clock:
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def utc(self, moment: float | None = None) -> datetime:
        return self.at


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", PurePosixPath(tmp_path / "spool"), 8000, floor=1)
    made.prepare()
    for recording in (KNOWN, OPEN, OURS, LOST):
        for path in (made.files(segment_id(recording, 1)).own, made.files(segment_id(recording, 1)).others):
            path.write_bytes(b"voice")
    (made.root / "notes.txt").write_text("a stranger")
    return made


def quarantine(spool: Spool, log: Log, clock: Clock) -> Quarantine:
    parts: dict[str, Any] = {"audit": log, "clock": clock}
    return Quarantine(spool=spool, knows=lambda recording: recording == OURS, **cast(Any, parts))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


async def test_what_nobody_can_explain_twice_is_set_apart_and_the_rest_stays(spool: Spool) -> None:
    log, clock = Log(), Clock()
    guarded = quarantine(spool, log, clock)
    before = files(spool.root)
    await guarded.look()
    assert files(spool.root) == before
    await guarded.look()
    gone = {"notes.txt", f"{LOST}-001.own.sln", f"{LOST}-001.others.sln"}
    assert files(spool.root) == before - gone
    assert {name.partition(".")[2] for name in files(spool.root / QUARANTINE)} == gone
    assert (spool.root / QUARANTINE).stat().st_mode & 0o777 == 0o700
    assert [entry.kind for entry in log.entries] == ["spool.quarantined"]


async def test_after_72_hours_it_is_destroyed_and_leaves_a_line(spool: Spool) -> None:
    log, clock = Log(), Clock()
    guarded = quarantine(spool, log, clock)
    await guarded.look()
    await guarded.look()
    clock.at += KEPT - timedelta(seconds=1)
    await guarded.look()
    assert len(files(spool.root / QUARANTINE)) == 3
    clock.at += timedelta(seconds=2)
    await guarded.look()
    assert files(spool.root / QUARANTINE) == set()
    assert [entry.kind for entry in log.entries] == ["spool.quarantined", "spool.destroyed"]
    assert log.entries[-1].data == {"files": 3}


async def test_without_an_audit_log_nothing_is_moved(spool: Spool) -> None:
    log, clock = Log(), Clock()
    guarded = quarantine(spool, log, clock)
    before = files(spool.root)
    await guarded.look()
    log.failing = True
    with pytest.raises(AuditFailed):
        await guarded.look()
    assert files(spool.root) == before


def test_no_name_leads_out_of_the_spool(spool: Spool) -> None:
    with pytest.raises(UnsafeValue):
        spool.set_apart("../x", datetime.now(UTC))
    with pytest.raises(UnsafeValue):
        spool.destroy_set_apart("../x")


async def test_what_came_into_the_quarantine_by_another_hand_goes_with_the_rest(spool: Spool) -> None:
    log, clock = Log(), Clock()
    guarded = quarantine(spool, log, clock)
    await guarded.look()
    await guarded.look()
    for name in ("notes", ".hidden", "\u00b2.sln", f"{'9' * 5000}"[:200]):
        (spool.root / QUARANTINE / name).touch()
    clock.at = datetime.now(UTC) + KEPT + timedelta(seconds=2)
    await guarded.look()
    assert files(spool.root / QUARANTINE) == set()
