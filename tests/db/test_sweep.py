"""Destruction on a real database and real files, stopped at every step and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pbxguard.archive.files import FileArchive
from pbxguard.core.errors import AuditFailed, NotFound, Protected, StorageFailed
from pbxguard.core.ids import RecordingId
from pbxguard.core.records import AuditEntry
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, sqlite_file
from pbxguard.db.index import SqlIndex
from pbxguard.service.retention import Certificate, Retention, manifest_path, next_night

from .rows import NOON, outcome, recording

A, B, C = (RecordingId(letter * 16) for letter in "abc")
LATER = NOON + timedelta(days=31)


class Crash(BaseException):
    """The process dies here: nothing catches it."""


@dataclass
class House:
    """Everything that a sweep works on. `steps` counts down to a crash at a step that changes something."""

    index: SqlIndex
    audit: SqlAudit
    archive: FileArchive
    steps: int | None = None

    def retention(self) -> Retention:
        return Retention(
            index=Crashing(self.index, self, ("mark_destroyed", "forget_calls")),
            audit=Crashing(self.audit, self, ("commit",)),
            archive=Crashing(self.archive, self, ("remove",)),
        )

    async def add(self, id: RecordingId, **changes: Any) -> None:
        row = recording(id, **changes)
        await self.archive.put_bytes(row.path, b"sound of " + id.encode())
        await self.archive.put_bytes(manifest_path(row.path), b"{}")
        await self.index.add_recording(row)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.archive.root.rglob("*") if path.is_file())

    async def kinds(self, id: RecordingId) -> list[str]:
        return [entry.kind for entry in await self.audit.of_recording(id)]


class Crashing:
    """Passes everything on; before and after each call of `names` the process may die."""

    def __init__(self, inner: object, house: House, names: Sequence[str]) -> None:
        self._inner, self._house, self._names = inner, house, names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._names:
            return method

        async def call(*args: Any, **named: Any) -> Any:
            self._step()
            result = await method(*args, **named)
            self._step()
            return result

        return call

    def _step(self) -> None:
        if self._house.steps is not None:
            if self._house.steps == 0:
                raise Crash
            self._house.steps -= 1


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    async with SqlAudit(database, "pbx1") as audit, SqlIndex(database, "pbx1") as index:
        yield House(index, audit, FileArchive(tmp_path / "archive"))


async def test_what_is_over_is_destroyed_and_what_is_not_stays(house: House) -> None:
    await house.add(A)
    await house.add(B, outcome="contract")
    await house.add(C, ended=LATER)
    report = await house.retention().sweep(LATER)
    assert [one.recording for one in report.destroyed] == [A]
    assert (report.kept, report.failed) == (2, ())
    assert [name for name in house.files() if A in name] == []
    assert len(house.files()) == 4
    assert {row.id for row in await house.index.find()} == {B, C}
    assert await house.kinds(A) == ["recording.destroying", "recording.destroyed"]
    assert await house.kinds(B) == []


async def test_a_certificate_tells_what_and_why_and_nothing_of_the_content(house: House, url: str) -> None:
    await house.add(A, purposes=("contract_evidence", "quality_training"), reference="K-4711")
    (certificate,) = (await house.retention().sweep(LATER)).destroyed
    assert certificate == Certificate(
        recording=A,
        node="pbx1",
        purposes=("contract_evidence", "quality_training"),
        ended=(NOON + timedelta(seconds=90)).isoformat(),
        ground="undecided",
        reason="contract_evidence: no outcome reported, 30 days after the call",
        sha256="ab" * 32,
        actor="pbxguard",
        destroyed=LATER.isoformat(),
        file_found=True,
    )
    written = str([(e.data, e.call, e.channel) for e in await house.audit.of_recording(A)])
    assert certificate.sha256 in written
    for secret in ("31201234567", "K-4711", "PJSIP", "1772452800", "20260302T"):
        assert secret not in written


async def test_a_dry_run_tells_and_destroys_nothing(house: House, url: str) -> None:
    await house.add(A)
    await house.index.put_call(outcome(), NOON, True, "b1")
    before = house.files()
    report = await house.retention().sweep(LATER, dry_run=True)
    assert [(one.recording, one.ground) for one in report.due] == [(A, "undecided")]
    assert report.destroyed == ()
    assert house.files() == before
    assert await house.kinds(A) == []
    assert (await house.index.recording(A)).destroyed is None
    assert len(await house.index.find_calls()) == 1


async def test_a_crash_at_any_step_is_ended_by_the_next_sweep(house: House, url: str) -> None:
    crashes = 0
    for steps in range(100):
        id = RecordingId(f"{steps:016d}".translate(str.maketrans("0189", "abcd")))
        await house.add(id)
        house.steps = steps
        try:
            await house.retention().sweep(LATER)
        except Crash:
            crashes += 1
        else:
            break
        house.steps = None
        await house.retention().sweep(LATER)
        await house.retention().sweep(LATER)
        assert house.files() == []
        assert (await house.index.recording(id)).external_number == ""
        assert await house.kinds(id) == ["recording.destroying", "recording.destroyed"], steps
        assert await house.audit.half_destroyed() == []
    assert crashes >= 10


async def test_what_was_begun_is_ended_whatever_becomes_known_since(house: House) -> None:
    await house.add(A)
    house.steps = 2  # the line that it begins is on disk, and the file is still there
    with pytest.raises(Crash):
        await house.retention().sweep(LATER)
    house.steps = None
    assert await house.kinds(A) == ["recording.destroying"]
    await house.index.set_outcome(A, "contract", "")
    report = await house.retention().sweep(LATER)
    assert [one.recording for one in report.destroyed] == [A]
    assert house.files() == []


async def test_a_second_sweep_finds_nothing_to_do(house: House) -> None:
    await house.add(A)
    await house.retention().sweep(LATER)
    report = await house.retention().sweep(LATER + timedelta(days=400))
    assert (report.kept, report.due, report.destroyed, report.failed) == (0, (), (), ())


async def test_nothing_is_destroyed_when_the_audit_log_cannot_be_written(house: House, url: str) -> None:
    await house.add(A)
    before = house.files()

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.audit, name)

        async def commit(self, *entries: AuditEntry) -> None:
            raise AuditFailed("the disk is full")

    retention = Retention(index=house.index, audit=Broken(), archive=house.archive)
    with pytest.raises(AuditFailed):
        await retention.sweep(LATER)
    assert house.files() == before
    assert (await house.index.recording(A)).destroyed is None


async def test_a_file_that_is_not_there_is_not_certified_as_destroyed(house: House, tmp_path: Path) -> None:
    await house.add(A)
    (tmp_path / "archive").rename(tmp_path / "elsewhere")  # as when the archive's disk is not mounted
    report = await house.retention().sweep(LATER)
    assert [recording for recording, _ in report.failed] == [A]
    assert await house.kinds(A) == []
    assert (await house.index.recording(A)).destroyed is None
    (tmp_path / "elsewhere").rename(tmp_path / "archive")
    assert len((await house.retention().sweep(LATER)).destroyed) == 1


async def test_one_that_fails_does_not_keep_the_others(house: House) -> None:
    await house.add(A)
    await house.add(B)
    path = house.archive.root / manifest_path(recording(A).path)
    path.unlink()
    path.mkdir()  # cannot be unlinked as a file
    report = await house.retention().sweep(LATER)
    assert [recording for recording, _ in report.failed] == [A]
    assert [one.recording for one in report.destroyed] == [B]
    path.rmdir()
    assert [one.recording for one in (await house.retention().sweep(LATER)).destroyed] == [A]


async def test_calls_are_forgotten_after_their_time(house: House) -> None:
    await house.index.put_call(outcome("1.1"), NOON, True, "b1")
    await house.index.put_call(outcome("1.2"), NOON + timedelta(days=10), True, "b1")
    report = await house.retention().sweep(LATER)
    assert report.calls_forgotten == 1
    assert [call["call"] for call in await house.index.find_calls()] == ["1.2"]


async def test_one_is_destroyed_by_hand_before_its_time(house: House) -> None:
    await house.add(A, outcome="contract")
    certificate = await house.retention().destroy(A, reason="request 12", actor="jansen", now=LATER)
    assert (certificate.ground, certificate.reason, certificate.actor) == ("by_hand", "request 12", "jansen")
    assert house.files() == []
    assert [entry.actor for entry in await house.audit.of_recording(A)] == ["jansen", "jansen"]
    with pytest.raises(Protected, match="already"):
        await house.retention().destroy(A, reason="again", actor="jansen", now=LATER)
    with pytest.raises(NotFound):
        await house.retention().destroy(B, reason="none", actor="jansen", now=LATER)


async def test_a_locked_one_is_destroyed_only_on_the_officers_word(house: House) -> None:
    await house.add(A, locked=True, lock_until=NOON + timedelta(days=14))
    with pytest.raises(Protected, match="locked"):
        await house.retention().destroy(A, reason="why", actor="jansen", now=NOON)
    assert len(house.files()) == 2
    await house.retention().destroy(A, reason="decided", actor="officer", now=NOON, despite_lock=True)
    assert house.files() == []


async def test_a_lock_or_outcome_that_comes_during_the_sweep_counts(house: House) -> None:
    await house.add(A)
    listed = [row async for row in house.index.live_recordings()]

    class Stale:
        def __getattr__(self, name: str) -> Any:
            return getattr(house.index, name)

        async def live_recordings(self) -> AsyncIterator[Any]:
            for row in listed:
                yield row

    await house.index.set_outcome(A, "contract", "")
    report = await Retention(index=Stale(), audit=house.audit, archive=house.archive).sweep(LATER)
    assert (report.destroyed, report.failed) == ((), ())
    assert len(house.files()) == 2


def contents(root: Path) -> bytes:
    """Every name and every byte below `root`."""
    paths = sorted(root.rglob("*"))
    return b"".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in paths)


async def test_no_number_is_left_anywhere(house: House, url: str, tmp_path: Path) -> None:
    await house.add(A, manifest={"caller": "+31201234567"})
    await house.index.put_call(outcome(recording=A), NOON, True, "b1")
    await house.index.find_calls()
    await house.retention().sweep(LATER)
    file = sqlite_file(url)
    assert file is not None
    everything = contents(tmp_path)
    assert b"recording.destroyed" in everything
    assert b"31201234567" not in everything


async def test_the_sweep_runs_at_once_and_then_each_night(house: House) -> None:
    await house.add(A)
    clock = [LATER]
    running = asyncio.create_task(house.retention().run(lambda: clock[0]))
    async with asyncio.timeout(10):
        while await house.kinds(A) != [  # noqa: ASYNC110 - only the audit log tells
            "recording.destroying",
            "recording.destroyed",
        ]:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])


async def test_a_sweep_that_fails_for_whatever_reason_does_not_end_the_service(house: House) -> None:
    asked = asyncio.Event()

    class Broken:
        async def half_destroyed(self) -> list[RecordingId]:
            asked.set()
            raise ValueError("a row that nobody can read")

    audit: Any = Broken()
    retention = Retention(index=house.index, audit=audit, archive=house.archive)
    running = asyncio.create_task(retention.run(lambda: LATER))
    async with asyncio.timeout(10):
        await asked.wait()
    await asyncio.wait([running], timeout=0.1)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize(
    ("now", "night"),
    [
        (datetime(2026, 3, 2, 2, 59, tzinfo=UTC), datetime(2026, 3, 2, 3, 0, tzinfo=UTC)),
        (datetime(2026, 3, 2, 3, 0, tzinfo=UTC), datetime(2026, 3, 3, 3, 0, tzinfo=UTC)),
        (datetime(2026, 12, 31, 12, 0, tzinfo=UTC), datetime(2027, 1, 1, 3, 0, tzinfo=UTC)),
    ],
)
def test_the_next_night_is_after_now(now: datetime, night: datetime) -> None:
    assert next_night(now) == night


async def test_an_index_that_cannot_be_read_is_told(house: House, database: Database) -> None:
    async with database.write() as connection:
        await connection.exec_driver_sql("DROP TABLE recordings")
    with pytest.raises(StorageFailed):
        await house.retention().sweep(LATER)
