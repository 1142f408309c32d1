"""A span cut out of a sealed recording: the audio, the manifest, the lines, and every place where a crash may come."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pbxguard.archive.files import FileArchive
from pbxguard.core.errors import Protected, StorageFailed, WrongUse
from pbxguard.core.ids import RecordingId
from pbxguard.core.manifest import SealedFile
from pbxguard.core.records import AuditEntry, RecordingRow
from pbxguard.core.redaction import Redaction, Span, manifest_without, span_of
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.fault_points import FaultPoint
from pbxguard.service import redaction
from pbxguard.service.redaction import REDACTED, REDACTING, Redactions
from pbxguard.service.retention import Retention, manifest_path
from pbxguard.service.verification import verify
from pbxguard.sound.flac import read_tags, sha256, write_tags
from tests.db.rows import NOON, recording
from tests.db.sealed import RATE, voices

A = RecordingId("a" * 16)
SECONDS = 4.0
MIDDLE = 2.5
"""Where, in the file, its two intervals meet."""


# -- the manifest ------------------------------------------------------------------------------------------------------


def told_manifest(samples: int = int(SECONDS * RATE), first: int = int(MIDDLE * RATE)) -> dict[str, Any]:
    """Two segments with a pause between them."""
    begin = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

    def moment(seconds: float) -> str:
        return (begin + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")

    return {
        "recording": A,
        "told": [],
        "segments": [
            {"id": f"{A}-001", "kept_samples": first, "file_offset": 0},
            {"id": f"{A}-002", "kept_samples": samples - first, "file_offset": first},
        ],
        "intervals": [
            {
                "segment": f"{A}-001", "file_offset": 0, "samples": first,
                "begin_utc": moment(0), "end_utc": moment(first / RATE), "reason": "permitted",
            },
            {
                "segment": f"{A}-002", "file_offset": first, "samples": samples - first,
                "begin_utc": moment(10), "end_utc": moment(10 + (samples - first) / RATE), "reason": "permitted",
            },
        ],
        "gaps": [
            {"file_offset": first, "begin_utc": moment(first / RATE), "end_utc": moment(10), "reasons": ["paused"]}
        ],
        "file": {"name": "x.flac", "sha256": "0" * 64, "samples": samples, "rate": RATE, "channels": 2},
        "tracks": {
            "own": {"channel": "left", "pcm_sha256": ""},
            "others": {"channel": "right", "pcm_sha256": ""},
        },
    }  # fmt: skip


def without(begin_s: float, end_s: float, manifest: dict[str, Any] | None = None) -> dict[str, Any]:
    old = manifest or told_manifest()
    span = span_of(begin_s, end_s, RATE, old["file"]["samples"])
    cut = Redaction(span, "card number", "jansen", NOON, "0" * 64, "1" * 64)
    left = old["file"]["samples"] - span.samples
    return manifest_without(old, cut, SealedFile("y.flac", "2" * 64, left, RATE, "o", "t"))


def intervals(manifest: dict[str, Any]) -> list[tuple[float, float]]:
    """(place in the file, length) of each, in seconds."""
    return [(i["file_offset"] / RATE, i["samples"] / RATE) for i in manifest["intervals"]]


def gaps(manifest: dict[str, Any]) -> list[tuple[float, list[str]]]:
    return [(g["file_offset"] / RATE, g["reasons"]) for g in manifest["gaps"]]


@pytest.mark.parametrize(
    ("begin", "end", "left", "between"),
    [
        (1.0, 2.0, [(0, 1.0), (1.0, 0.5), (1.5, 1.5)], [(1.0, ["redacted"]), (1.5, ["paused"])]),
        (0.0, 1.0, [(0, 1.5), (1.5, 1.5)], [(1.5, ["paused"])]),
        (3.0, 4.0, [(0, 2.5), (2.5, 0.5)], [(2.5, ["paused"])]),
        (2.0, 3.0, [(0, 2.0), (2.0, 1.0)], [(2.0, ["paused", "redacted"])]),
        (0.0, 2.5, [(0, 1.5)], []),
        (1.0, 4.0, [(0, 1.0)], []),
        (2.5, 3.0, [(0, 2.5), (2.5, 1.0)], [(2.5, ["paused", "redacted"])]),
    ],
)
def test_what_is_left_is_placed_anew_and_every_gap_has_its_reasons(
    begin: float, end: float, left: list[tuple[float, float]], between: list[tuple[float, list[str]]]
) -> None:
    made = without(begin, end)
    assert intervals(made) == left
    assert gaps(made) == between
    assert sum(s["kept_samples"] for s in made["segments"]) == made["file"]["samples"]
    assert made["redactions"][0]["old_file_sha256"] == "0" * 64
    for interval in made["intervals"]:
        began, ended = (datetime.fromisoformat(interval[key]) for key in ("begin_utc", "end_utc"))
        assert (ended - began).total_seconds() == pytest.approx(interval["samples"] / RATE, abs=1e-5)


def test_a_second_cut_keeps_the_first_and_its_gap() -> None:
    twice = without(0.2, 0.4, without(1.0, 2.0))
    assert [r["samples"] / RATE for r in twice["redactions"]] == [1.0, pytest.approx(0.2)]
    assert [reasons for _, reasons in gaps(twice)] == [["redacted"], ["redacted"], ["paused"]]
    assert sum(s["kept_samples"] for s in twice["segments"]) == twice["file"]["samples"]
    assert twice["segments"][0]["redacted_samples"] == int(1.2 * RATE)


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (-1, 1), (9, 10), (0, 4), (0, 99), (math.nan, 2), (1, math.inf)])
def test_a_span_that_makes_no_sense_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(WrongUse):
        span_of(*span, RATE, int(SECONDS * RATE))


def test_every_sample_that_is_touched_goes() -> None:
    assert span_of(0.00011, 0.00101, 8000, 8000) == Span(0, 9)


# -- the files ---------------------------------------------------------------------------------------------------------


@dataclass
class Room:
    index: SqlIndex
    audit: SqlAudit
    archive: FileArchive
    redactions: Redactions
    retention: Retention
    row: RecordingRow
    sound: Any

    async def cut(self, begin: float = 1.0, end: float = 2.0, **more: Any) -> redaction.Redacted:
        return await self.redactions.redact(A, begin, end, reason="card number", actor="jansen", now=NOON, **more)

    async def left(self) -> RecordingRow:
        return await self.index.recording(A)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.archive.root.rglob("*") if path.is_file())

    async def kinds(self) -> list[str]:
        return [entry.kind for entry in await self.audit.of_recording(A)]

    async def sounds_without(self, begin: float, end: float) -> None:
        """The recording is one file that holds all of its sound but this, and verifies."""
        row = await self.left()
        path = self.archive.root / row.path
        found, rate = soundfile.read(path, dtype="int16")
        a, b = int(begin * rate), int(end * rate)
        assert np.array_equal(found, np.concatenate([self.sound[:a], self.sound[b:]]))
        assert (await verify(row, self.archive)).problems == ()
        assert self.files() == sorted([path.name, path.with_suffix(".json").name])
        assert json.loads(path.with_suffix(".json").read_bytes()) == row.manifest


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'pbxguard.db'}"
    await upgrade(url)
    database = await Database.open(url)
    archive = FileArchive(tmp_path / "archive")
    sound = voices(SECONDS)
    source = tmp_path / "source.flac"
    soundfile.write(source, sound, RATE, subtype="PCM_16")
    write_tags(source, [("RECORDING_ID", A), ("PURPOSE", "contract_evidence")])
    manifest = told_manifest(len(sound))
    manifest["file"]["sha256"] = digest = sha256(source)
    for channel, track in enumerate(("own", "others")):
        pcm = hashlib.sha256(np.ascontiguousarray(sound[:, channel]).tobytes()).hexdigest()
        manifest["tracks"][track]["pcm_sha256"] = pcm
    row = recording(A, sha256=digest, manifest=manifest, duration_ms=4000)
    async with SqlAudit(database, "pbx1") as audit, SqlIndex(database, "pbx1") as index:
        await archive.put(row.path, source)
        await archive.put_bytes(manifest_path(row.path), json.dumps(manifest).encode())
        await index.add_recording(row)
        redactions = Redactions(index=index, audit=audit, archive=archive)
        retention = Retention(index=index, audit=audit, archive=archive, redactions=redactions)
        yield Room(index, audit, archive, redactions, retention, row, sound)
    await database.close()


async def test_the_span_is_gone_for_good_and_the_new_seal_names_the_old_digest(room: Room) -> None:
    told = await room.cut()
    await room.sounds_without(1.0, 2.0)
    row = await room.left()
    assert (told.sha256, told.path, told.seconds_left) == (row.sha256, row.path, 3.0)
    assert row.duration_ms == 3000
    assert row.manifest["redactions"][0]["old_file_sha256"] == room.row.sha256
    assert dict(read_tags(room.archive.root / row.path)) == {
        "RECORDING_ID": A, "PURPOSE": "contract_evidence", "REDACTED": "1.000 s",
    }  # fmt: skip
    begun, done = await room.audit.of_recording(A)
    assert (begun.kind, done.kind, done.actor) == (REDACTING, REDACTED, "jansen")
    certificate = dict(done.data or {})
    assert (certificate["sha256"], certificate["new_sha256"]) == (room.row.sha256, row.sha256)
    assert room.row.external_number[1:] in room.row.path, "the search is blind"
    for line in (begun, done):
        assert room.row.external_number[1:] not in json.dumps(dict(line.data or {}))


async def test_it_is_cut_again_and_both_spans_are_named(room: Room) -> None:
    await room.cut(1.0, 2.0)
    await room.cut(1.0, 1.5)
    await room.sounds_without(1.0, 2.5)
    row = await room.left()
    assert row.path.endswith(f"_{A}.r2.flac")
    assert len(row.manifest["redactions"]) == 2


async def test_a_dry_run_changes_nothing(room: Room) -> None:
    before = room.files()
    told = await room.cut(dry_run=True)
    assert (told.from_s, told.to_s, told.seconds_left, told.sha256) == (1.0, 2.0, 3.0, "")
    assert (room.files(), await room.kinds(), await room.left()) == (before, [], room.row)


async def test_what_is_locked_destroyed_or_changed_is_not_cut(room: Room) -> None:
    await room.index.set_lock(A, NOON)
    with pytest.raises(Protected):
        await room.cut()
    await room.index.set_lock(A, None)
    path = room.archive.root / room.row.path
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    with pytest.raises(StorageFailed):
        await room.cut()
    path.write_bytes(whole)
    assert await room.kinds() == []
    await room.retention.destroy(A, reason="request", actor="jansen", now=NOON)
    with pytest.raises(Protected):
        await room.cut()


class Died(BaseException):
    """As SIGKILL: nothing of ours runs after it."""


POINTS = [
    "redact.decided", "redact.begun", "seal.encoding", "seal.encoded", "seal.tagging", "seal.tags.written",
    "seal.tags.synced", "seal.tags.in_place", "seal.tagged", "archive.removing:1", "archive.removing:2",
    "archive.putting", "archive.part.written", "archive.part.synced", "archive.in_place", "archive.put",
    "archive.in_place:2", "archive.put:2", "redact.indexing", "redact.indexed", "archive.removing:4",
    "archive.removed:1", "archive.removed:2", "archive.removed.synced:4", "redact.done", "redact.certified",
]  # fmt: skip


def dies(monkeypatch: pytest.MonkeyPatch, at: str) -> Callable[[], bool]:
    """The n-th pass of this point ends everything; gives whether it did."""
    name, _, count = at.partition(":")
    left = [int(count or 1)]
    dead: list[bool] = []

    def reached(point: FaultPoint) -> None:
        if dead:
            raise Died
        if point.value == name:
            left[0] -= 1
            if left[0] == 0:
                dead.append(True)
                raise Died

    for module in ("service.redaction", "sound.flac", "archive.files", "db.index", "db.audit"):
        monkeypatch.setattr(f"pbxguard.{module}.reached", reached)
    return lambda: bool(dead)


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("ends", ["sweep", "again", "destroy"])
async def test_a_death_anywhere_leaves_the_old_recording_whole_or_the_new_one(
    room: Room, monkeypatch: pytest.MonkeyPatch, at: str, ends: str
) -> None:
    with monkeypatch.context() as patch:
        died = dies(patch, at)
        with pytest.raises(Died):
            await room.cut()
        assert died(), f"{at} was not reached"
    row = await room.left()
    assert (room.archive.root / row.path).exists(), "listed and gone"
    assert (await verify(row, room.archive)).problems == ()
    begun = REDACTING in await room.kinds()
    if ends == "destroy":
        await room.retention.destroy(A, reason="request", actor="jansen", now=NOON)
        await room.retention.sweep(NOON)
        assert room.files() == []
        return
    # An audit log is for ever: the file's name, which shows the caller's number, is in none of its lines.
    assert room.row.external_number[1:] not in json.dumps(
        [dict(e.data or {}) for e in await room.audit.of_recording(A)]
    )
    if ends == "again" and not begun:
        await room.cut()
    await room.retention.sweep(NOON)
    if begun or ends == "again":
        await room.sounds_without(1.0, 2.0)
        assert await room.kinds() == [REDACTING, REDACTED]
    else:
        assert await room.left() == room.row
        assert len(room.files()) == 2


async def test_what_an_earlier_version_began_is_ended_and_its_path_is_not_said_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dies(patch, "redact.decided")
        with pytest.raises(Died):
            await room.cut()
    data = {
        "from_sample": RATE, "to_sample": 2 * RATE, "rate": RATE, "reason": "card number", "sha256": room.row.sha256,
        "manifest_sha256": "1" * 64, "path": room.row.path, "number": 1,
    }  # fmt: skip
    await room.audit.commit(AuditEntry(REDACTING, NOON, actor="jansen", recording=A, data=data))
    await room.retention.sweep(NOON)
    await room.sounds_without(1.0, 2.0)
    _, done = await room.audit.of_recording(A)
    assert "path" not in (done.data or {})
    assert room.row.external_number[1:] not in json.dumps(dict(done.data or {}))


async def test_a_file_of_another_recording_in_the_same_folder_is_left_alone(room: Room) -> None:
    day = room.row.path.rpartition("/")[0]
    others = [f"{day}/20260302T120000Z_contract_evidence_{'b' * 16}.flac", f"{day}/{'a' * 16}.flac"]
    for other in others:
        await room.archive.put_bytes(other, b"another's")
    await room.cut()
    assert all((room.archive.root / other).exists() for other in others)
