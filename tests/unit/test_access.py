"""Copies, outcomes and verification of sealed recordings, on real files and a real database."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pbxguard.archive.files import FileArchive
from pbxguard.core.errors import Ambiguous, AuditFailed, NotFound, Protected, StorageFailed, WrongUse
from pbxguard.core.ids import RecordingId
from pbxguard.core.records import AuditEntry, RecordingRow
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.service.access import Access
from pbxguard.service.retention import Retention, manifest_path
from pbxguard.service.verification import verify
from tests.db.rows import NOON
from tests.db.sealed import RATE, seal, voices

A, B = (RecordingId(letter * 16) for letter in "ab")


@dataclass
class Desk:
    index: SqlIndex
    audit: SqlAudit
    archive: FileArchive
    access: Access
    work: Path
    out: Path

    async def add(self, id: RecordingId = A, **changes: Any) -> RecordingRow:
        return await seal(self.index, self.archive, self.work, id, **changes)

    def copies(self) -> list[str]:
        return sorted(path.name for path in self.out.iterdir())

    async def lines(self, id: RecordingId = A) -> Sequence[AuditEntry]:
        return await self.audit.of_recording(id)


def texts(key: str, digest: str) -> str:
    return "Voorbeeld BV neemt dit gesprek op." if digest == "d1" * 32 else ""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'pbxguard.db'}"
    await upgrade(url)
    database = await Database.open(url)
    out = tmp_path / "out"
    out.mkdir()
    archive = FileArchive(tmp_path / "archive")
    async with SqlAudit(database, "pbx1") as audit, SqlIndex(database, "pbx1") as index:
        retention = Retention(index=index, audit=audit, archive=archive)
        access = Access(
            index=index, audit=audit, archive=archive, retention=retention, utc=lambda: NOON, disclosure_text=texts
        )
        yield Desk(index, audit, archive, access, tmp_path, out)
    await database.close()


async def test_a_copy_is_the_sealed_file_with_manifest_and_disclosure(desk: Desk) -> None:
    row = await desk.add()
    made = await desk.access.export(A, reason="access request 12", actor="jansen", directory=desk.out)
    assert desk.copies() == [f"{A}.disclosure.txt", f"{A}.flac", f"{A}.json"]
    original = await desk.archive.open_path(row.path)
    assert made.audio.read_bytes() == original.read_bytes()
    assert json.loads(made.manifest.read_bytes()) == row.manifest
    sheet = made.disclosure.read_text()
    for told in ("contract_evidence.nl.notice.inbound", "Voorbeeld BV neemt dit gesprek op.", "2026-03-02T11:59:58Z"):
        assert told in sheet
    assert {stat.S_IMODE(path.stat().st_mode) for path in desk.out.iterdir()} == {0o600}
    (line,) = await desk.lines()
    assert (line.kind, line.actor) == ("recording.exported", "jansen")
    assert line.data == {"reason": "access request 12", "format": "flac", "sha256": row.sha256}


async def test_a_wav_copy_holds_the_same_samples(desk: Desk) -> None:
    await desk.add()
    made = await desk.access.export(A, reason="request", actor="jansen", wav=True, directory=desk.out)
    samples, rate = soundfile.read(made.audio, dtype="int16")
    assert made.audio.suffix == ".wav"
    assert made.audio.read_bytes()[:4] == b"RIFF"
    assert rate == RATE
    assert np.array_equal(samples, voices())


async def test_the_audit_line_is_there_before_the_copy(desk: Desk) -> None:
    await desk.add()
    seen: list[list[str]] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(desk.audit, name)

        async def commit(self, *entries: AuditEntry) -> None:
            seen.append(desk.copies())
            raise AuditFailed("the disk is full")

    retention = Retention(index=desk.index, audit=desk.audit, archive=desk.archive)
    access = Access(index=desk.index, audit=Watching(), archive=desk.archive, retention=retention, utc=lambda: NOON)
    with pytest.raises(AuditFailed):
        await access.export(A, reason="request", actor="jansen", directory=desk.out)
    assert seen == [[]]
    assert desk.copies() == []


async def test_a_locked_recording_is_not_copied(desk: Desk) -> None:
    await desk.add(locked=True, lock_until=NOON + timedelta(days=14))
    with pytest.raises(Protected, match="locked") as told:
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out)
    assert "officer" in told.value.diagnostics()
    assert desk.copies() == []
    assert await desk.lines() == []


async def test_a_destroyed_recording_is_not_copied(desk: Desk) -> None:
    await desk.add()
    certificate = await desk.access.destroy(A, reason="request 12", actor="jansen")
    assert certificate.reason == "request 12"
    with pytest.raises(Protected, match="destroyed"):
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out)
    with pytest.raises(Protected, match="destroyed"):
        await desk.access.set_outcome(A, "contract", actor="jansen")


async def test_one_whose_destruction_was_begun_is_not_copied(desk: Desk) -> None:
    await desk.add()
    await desk.audit.commit(AuditEntry("recording.destroying", NOON, recording=A))
    with pytest.raises(Protected, match="being destroyed"):
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out)


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines", "bell\a", "x" * 501])
async def test_a_copy_or_destruction_needs_a_reason_in_one_line(desk: Desk, reason: str) -> None:
    await desk.add()
    with pytest.raises(WrongUse):
        await desk.access.export(A, reason=reason, actor="jansen", directory=desk.out)
    with pytest.raises(WrongUse):
        await desk.access.destroy(A, reason=reason, actor="jansen")
    assert await desk.lines() == []


async def test_nothing_is_overwritten_and_no_folder_is_made(desk: Desk) -> None:
    await desk.add()
    (desk.out / f"{A}.json").write_text("mine")
    with pytest.raises(WrongUse, match=r"\.json"):
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out)
    assert (desk.out / f"{A}.json").read_text() == "mine"
    with pytest.raises(WrongUse):
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out / "new")
    assert await desk.lines() == []


async def test_a_file_that_was_changed_is_not_handed_out(desk: Desk) -> None:
    row = await desk.add()
    path = await desk.archive.open_path(row.path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(StorageFailed, match="verify"):
        await desk.access.export(A, reason="request", actor="jansen", directory=desk.out)
    assert desk.copies() == []


async def test_an_outcome_by_id_says_until_when_it_is_kept(desk: Desk) -> None:
    await desk.add()
    done = await desk.access.set_outcome(A, "contract", contract_end="2027-06-30", actor="jansen")
    assert (done.recording, done.outcome, done.contract_end) == (A, "contract", "2027-06-30")
    assert "2028-07-01" in done.words["en"]
    assert "2028-07-01" in done.words["nl"]
    row = await desk.index.recording(A)
    assert (row.outcome, row.contract_end) == ("contract", "2027-06-30")
    (line,) = await desk.lines()
    assert (line.kind, line.actor) == ("outcome.set", "jansen")
    assert line.data == {"outcome": "contract", "contract_end": "2027-06-30"}


async def test_an_outcome_by_a_reference_that_fits_one(desk: Desk) -> None:
    await desk.add(A, reference="K-1")
    await desk.add(B, reference="K-2")
    done = await desk.access.set_outcome("K-2", "no_contract", actor="jansen")
    assert done.recording == B
    assert done.until == NOON + timedelta(days=7, seconds=90)
    assert (await desk.index.recording(A)).outcome == ""


async def test_a_reference_that_fits_two_is_refused_with_their_ids(desk: Desk) -> None:
    await desk.add(A, reference="K-1")
    await desk.add(B, reference="K-1")
    with pytest.raises(Ambiguous) as told:
        await desk.access.set_outcome("K-1", "no_contract", actor="jansen")
    assert set(told.value.candidates) == {A, B}
    assert A in told.value.diagnostics()
    assert {(await desk.index.recording(id)).outcome for id in (A, B)} == {""}
    assert [*await desk.lines(A), *await desk.lines(B)] == []


@pytest.mark.parametrize("which", ["", "K-9", "K-1%", "zzzzzzzzzzzzzzzz"])
async def test_what_fits_nothing_is_not_found(desk: Desk, which: str) -> None:
    await desk.add(reference="")
    with pytest.raises(NotFound):
        await desk.access.set_outcome(which, "contract", actor="jansen")


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("", ""),
        ("undecided", ""),
        ("sold", ""),
        ("no_contract", "2027-06-30"),
        ("pending_signature", "2027-06-30"),
        ("contract", "30-06-2027"),
        ("contract", "9999-12-31"),
        ("contract", "soon"),
    ],
)
async def test_an_outcome_that_makes_no_sense_changes_nothing(desk: Desk, outcome: str, end: str) -> None:
    await desk.add()
    with pytest.raises(WrongUse):
        await desk.access.set_outcome(A, outcome, contract_end=end, actor="jansen")
    assert (await desk.index.recording(A)).outcome == ""
    assert await desk.lines() == []


async def test_a_whole_recording_is_verified(desk: Desk) -> None:
    assert (await verify(await desk.add(), desk.archive)).problems == ()


async def test_a_recording_of_which_one_sample_was_changed_is_found(desk: Desk) -> None:
    row = await desk.add()
    sound = voices()
    sound[100, 1] += 1
    path = await desk.archive.open_path(row.path)
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    assert (await verify(row, desk.archive)).problems == ("file_changed", "others_changed")


async def test_swapped_tracks_and_a_lost_end_are_found(desk: Desk) -> None:
    row = await desk.add()
    path = await desk.archive.open_path(row.path)
    soundfile.write(path, voices()[:-1, ::-1], RATE, subtype="PCM_16")
    assert (await verify(row, desk.archive)).problems == (
        "file_changed",
        "samples_disagree",
        "own_changed",
        "others_changed",
    )


async def test_what_cannot_be_decoded_or_is_missing_is_found(desk: Desk) -> None:
    row = await desk.add()
    path = await desk.archive.open_path(row.path)
    path.write_bytes(b"not sound")
    assert (await verify(row, desk.archive)).problems == ("file_changed", "file_unreadable")
    path.unlink()
    (await desk.archive.open_path(manifest_path(row.path))).unlink()
    assert (await verify(row, desk.archive)).problems == ("manifest_missing", "file_missing")


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff"])
async def test_a_manifest_that_was_changed_is_found(desk: Desk, content: bytes) -> None:
    row = await desk.add()
    (await desk.archive.open_path(manifest_path(row.path))).write_bytes(content)
    assert (await verify(row, desk.archive)).problems == ("manifest_changed",)
