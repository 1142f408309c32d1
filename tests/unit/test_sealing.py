"""Closing segments and sealing recordings, on real files; audit and index are small ones in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import soundfile

import pbxguard.core.permit as permits
from pbxguard.archive.files import FileArchive
from pbxguard.archive.spool import Spool
from pbxguard.core.commands import CallOutcome, StartRecording
from pbxguard.core.defaults import CONTRACT_EVIDENCE, PURPOSES, QUALITY_TRAINING
from pbxguard.core.errors import AuditFailed, NotFound, StorageFailed
from pbxguard.core.facts import ObjectionBinds
from pbxguard.core.ids import (
    Endpoint,
    LinkedId,
    PurposeName,
    RecordingId,
    SegmentId,
    Uniqueid,
    recording_id,
    segment_id,
)
from pbxguard.core.permit import Permit, Told
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import entry_of
from pbxguard.core.segments import (
    CUT_AT_WATERMARK,
    MISSING_AT_SEALING,
    SHORTER_THAN_SPAN,
    SPOOL_FAILED,
    TRACKS_DIFFER,
    UNPACED_END,
    WALL_CLOCK_STEPPED,
    ClosedSegment,
    OpenSegment,
)
from pbxguard.service import segments as module
from pbxguard.service.ports import AuditEntry, RecordingRow
from pbxguard.service.sealing import Sealer
from pbxguard.service.segments import Segments
from pbxguard.sound.flac import read_tags

CALL = Uniqueid("1700000000.1")
RECORDING = recording_id("node", "boot", CALL)
RATE = 8000
POLICY = Policy("Acme", purposes=PURPOSES)
WALL = 1_780_000_000.0
"""Wall-clock seconds at monotonic zero."""


@dataclass
class FakeClock:
    moment: float = 100.0
    offset: float = WALL

    def now(self) -> float:
        return self.moment

    def utc(self, moment: float | None = None) -> datetime:
        return datetime.fromtimestamp(self.offset + (self.moment if moment is None else moment), UTC)

    def wall_offset(self) -> float:
        return self.offset


@dataclass
class MemoryAudit:
    entries: list[AuditEntry] = field(default_factory=list)
    failing: bool = False

    async def check(self) -> None:
        if self.failing:
            raise AuditFailed("the disk is gone")

    async def commit(self, *entries: AuditEntry) -> None:
        await self.check()
        for entry in entries:
            data = json.loads(json.dumps(dict(entry.data or {}), allow_nan=False))
            self.entries.append(replace(entry, data=data, number=len(self.entries) + 1))

    async def of_recording(self, recording: RecordingId) -> Sequence[AuditEntry]:
        return [e for e in self.entries if e.recording == recording]

    async def of_channels(self, boot: str, channels: Sequence[str]) -> Sequence[AuditEntry]:
        return [e for e in self.entries if e.boot == boot and e.channel in channels]

    async def open_segments(self) -> Sequence[AuditEntry]:
        return []

    async def permitted(self, recordings: Collection[RecordingId]) -> Sequence[SegmentId]:
        lines = [e for e in self.entries if e.kind == "segment.permitted" and e.recording in recordings]
        return [SegmentId(line.segment) for line in lines]

    async def unsealed(self) -> Sequence[RecordingId]:
        return []

    def kinds(self) -> list[str]:
        return [e.kind for e in self.entries if e.kind.startswith("recording.")]


@dataclass
class MemoryIndex:
    rows: dict[RecordingId, RecordingRow] = field(default_factory=dict)
    failing: bool = False

    async def add_recording(self, row: RecordingRow) -> None:
        if self.failing:
            raise StorageFailed("the disk is gone")
        self.rows.setdefault(row.id, row)

    async def recording(self, id: RecordingId) -> RecordingRow:
        if id not in self.rows:
            raise NotFound("no such recording")
        return self.rows[id]

    async def find(self, **_: Any) -> Sequence[RecordingRow]:
        return list(self.rows.values())

    async def set_outcome(self, id: RecordingId, outcome: str, contract_end: str) -> None: ...
    async def set_lock(self, id: RecordingId, until: datetime | None) -> None: ...
    async def mark_destroyed(self, id: RecordingId, at: datetime) -> None: ...
    async def live_recordings(self) -> AsyncIterator[RecordingRow]:
        for row in self.rows.values():
            yield row

    async def put_call(self, outcome: CallOutcome, at: datetime, ended: bool, boot: str) -> None: ...
    async def find_calls(self, **_: Any) -> Sequence[Mapping[str, Any]]:
        return []


class FailingArchive(FileArchive):
    """Fails once, at the put whose number is given (from 1)."""

    def __init__(self, root: Path, fail_at: int = 0) -> None:
        super().__init__(root)
        self.fail_at = fail_at
        self.puts = 0

    def _put(self, *arguments: Any) -> None:
        self.puts += 1
        if self.puts == self.fail_at:
            raise StorageFailed("the disk is full")
        super()._put(*arguments)


@dataclass
class Room:
    """Everything that a sealer needs, and what it leaves."""

    folder: Path
    clock: FakeClock
    spool: Spool
    archive: FailingArchive
    audit: MemoryAudit
    index: MemoryIndex
    segments: Segments
    sealer: Sealer

    def record(self, segment: OpenSegment, seconds: float, *, ended: float, others: float | None = None) -> None:
        """As Asterisk would have: own voice counts up, the others' counts down; last written at `ended` (monotonic)."""
        files = self.spool.files(segment.segment)
        for path, sign, length in ((files.own, 1, seconds), (files.others, -1, seconds if others is None else others)):
            path.write_bytes((sign * (np.arange(round(length * RATE)) % 30_000)).astype("<i2").tobytes())
            os.utime(path, (WALL + ended, WALL + ended))

    async def closed(
        self, number: int = 1, seconds: float = 10.0, opened: float = 100.0, reason: Reason = Reason.CALL_ENDED
    ) -> ClosedSegment:
        """A segment of so many seconds, its end proven; 160 ms of it go."""
        self.clock.moment = opened
        segment = self.segments.open(start(number), "boot")
        self.record(segment, seconds, ended=opened + seconds - 0.01)
        end = opened + seconds
        return await self.segments.close(segment, proven=end, stopped=end, reasons=(reason,))

    def files(self) -> list[Path]:
        return sorted(p for p in self.archive.root.rglob("*") if p.is_file())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    spool = Spool(tmp_path / "spool", PurePosixPath("/var/spool/pbxguard"), RATE, floor=1)
    spool.prepare()
    clock, audit, index = FakeClock(), MemoryAudit(), MemoryIndex()
    archive = FailingArchive(tmp_path / "archive")
    archive.prepare()
    segments = Segments(spool=spool, clock=clock, policy=lambda: POLICY)
    sealer = Sealer(
        spool=spool,
        archive=archive,
        index=index,
        audit=audit,
        clock=clock,
        policy=lambda: POLICY,
        node="pbx1",
        work=tmp_path / "work",
    )
    return Room(tmp_path, clock, spool, archive, audit, index, segments, sealer)


def start(number: int = 1, purposes: tuple[PurposeName, ...] = (CONTRACT_EVIDENCE,)) -> StartRecording:
    key = DisclosureKey.of(purposes, "nl", Mode.NOTICE, Direction.INBOUND)
    permit = Permit(
        call=CALL,
        purposes=purposes,
        direction=Direction.INBOUND,
        leg=Uniqueid("1700000000.2"),
        told=(Told(CALL, key, "digest", "2026-05-28T20:00:00Z", (), "NL"),),
        _seal=permits._SEAL,
    )
    return StartRecording(permit, RECORDING, segment_id(RECORDING, number), permit.leg)


OUTCOME = CallOutcome(
    call=CALL,
    linkedid=LinkedId("1700000000.0"),
    recording=RECORDING,
    direction=Direction.INBOUND,
    external_number="+31612345678",
    own_number="+31201234567",
    own_endpoint=Endpoint("PJSIP/100"),
    queue="",
    reference="K-42",
    language="nl",
    purposes_asked=(CONTRACT_EVIDENCE,),
    told=True,
    reasons=(),
    recorded=False,
)


# -- segments ----------------------------------------------------------------------------------------------------------


def test_an_open_segment_names_files_as_asterisk_spells_them(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    assert str(segment.own_file) == f"/var/spool/pbxguard/{RECORDING}-001.own.sln"
    assert segment.bases == ("f",)
    assert segment.entry().kind == "segment.permitted"


async def test_what_came_after_the_proven_moment_is_cut_from_the_spool_at_once(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    closed = await room.segments.close(segment, proven=109.5, stopped=110.0, reasons=(Reason.ON_HOLD,))
    assert (closed.captured, closed.dropped, closed.kept) == (80_000, 5_280, 74_720)
    assert room.spool.captured(segment.segment).samples == 74_720
    assert closed.reasons == ("on_hold",)
    assert closed.notes == ()
    assert closed.end_utc - closed.begin_utc == timedelta(seconds=9.34)
    assert closed.kept_ms == 9340


async def test_a_recorder_that_died_with_its_leg_long_ago_ended_when_it_last_wrote(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    closed = await room.segments.close(segment, proven=109.5, stopped=140.0, reasons=(Reason.OWN_LEFT,))
    assert 5_280 <= closed.dropped <= 5_281


async def test_when_the_wall_clock_stepped_the_stop_alone_counts(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99 - 3600)
    room.clock.offset -= 3600
    closed = await room.segments.close(segment, proven=109.5, stopped=111.0, reasons=(Reason.ON_HOLD,))
    assert closed.dropped == (1.5 + 0.16) * RATE
    assert WALL_CLOCK_STEPPED in closed.notes


async def test_files_that_were_written_sooner_than_they_play_tell_no_time(room: Room) -> None:
    """As after two steps of the wall clock, there and back, or beside a file server whose clock is slow."""
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99 - 0.5)
    closed = await room.segments.close(segment, proven=109.5, stopped=110.0, reasons=(Reason.ON_HOLD,))
    assert closed.dropped == (0.5 + 0.16) * RATE
    assert WALL_CLOCK_STEPPED in closed.notes


async def test_a_silent_side_at_the_end_goes_down_to_what_was_on_disk_before(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    own = room.spool.files(segment.segment).own
    own.write_bytes(own.read_bytes()[: 5 * 2 * RATE] + bytes(5 * 2 * RATE))
    os.utime(own, (WALL + 109.99, WALL + 109.99))
    room.segments.growth._open[segment.segment].note(109.0, 8 * RATE)
    closed = await room.segments.close(segment, proven=109.5, stopped=110.0, reasons=(Reason.ON_HOLD,))
    assert closed.kept == 8 * RATE
    assert closed.notes == (UNPACED_END,)


async def test_nothing_proven_keeps_nothing_and_no_file(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    closed = await room.segments.close(segment, proven=-math.inf, stopped=110.0, reasons=(Reason.START_FAILED,))
    assert closed.kept == 0
    assert room.spool.segments() == []
    await room.audit.commit(closed.entry())


async def test_missing_files_keep_nothing(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    closed = await room.segments.close(segment, proven=110.0, stopped=110.0, reasons=(Reason.CALL_ENDED,))
    assert (closed.captured, closed.kept) == (0, 0)


async def test_a_spool_that_cannot_be_looked_at_is_waited_for_and_what_it_holds_is_kept(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.01)
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    away = room.spool.root.with_name("away")
    room.spool.root.rename(away)
    room.spool.root.write_bytes(b"not a folder")
    closing = asyncio.create_task(
        room.segments.close(segment, proven=110.0, stopped=110.0, reasons=(Reason.CALL_ENDED,))
    )
    await asyncio.sleep(0.1)
    assert not closing.done()
    room.spool.root.unlink()
    away.rename(room.spool.root)
    closed = await closing
    assert closed.captured == 80_000
    assert closed.kept > 70_000
    assert closed.notes == (SPOOL_FAILED,)


async def test_a_leftover_in_a_spool_that_cannot_be_looked_at_stays_open(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    shutil.rmtree(room.spool.root)
    room.spool.root.write_bytes(b"not a folder")
    with pytest.raises(StorageFailed):
        await room.segments.close_leftover(segment, watermark=0.0, reasons=(Reason.GUARD_AWAY,))


async def test_a_file_shorter_than_its_span_and_tracks_that_differ_are_noted(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=119.99, others=9.5)
    closed = await room.segments.close(segment, proven=120.0, stopped=120.0, reasons=(Reason.CALL_ENDED,))
    assert set(closed.notes) == {SHORTER_THAN_SPAN, TRACKS_DIFFER}
    assert closed.captured == 76_000
    assert closed.missing_ms == 10_500


async def test_a_start_that_took_long_is_no_missing_audio(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 9.0, ended=109.99)
    closed = await room.segments.close(
        segment, proven=110.0, stopped=110.0, reasons=(Reason.CALL_ENDED,), started=101.0
    )
    assert closed.notes == ()
    assert closed.begin_utc - segment.opened_utc == timedelta(seconds=1)
    assert closed.end_utc - segment.opened_utc == timedelta(seconds=9.84)


async def test_closing_again_after_a_crash_drops_little_more(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    first = await room.segments.close(segment, proven=109.5, stopped=110.0, reasons=(Reason.ON_HOLD,))
    again = await room.segments.close(segment, proven=109.5, stopped=130.0, reasons=(Reason.ON_HOLD,))
    assert first.kept - 0.2 * RATE < again.kept < first.kept


async def test_a_leftover_is_cut_at_its_watermark(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    room.clock.offset += 5_000  # a boot later nothing monotonic is worth anything
    closed = await room.segments.close_leftover(segment, watermark=WALL + 105.0, reasons=(Reason.GUARD_AWAY,))
    assert closed.kept == 80_000 - 5_000 * 8 - 1_280
    assert CUT_AT_WATERMARK in closed.notes
    assert closed.end_utc == segment.opened_utc + timedelta(seconds=4.84)


async def test_a_leftover_without_a_watermark_of_its_own_keeps_nothing(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    closed = await room.segments.close_leftover(segment, watermark=WALL + 99.0, reasons=(Reason.GUARD_AWAY,))
    assert closed.kept == 0
    assert room.spool.segments() == []


@pytest.mark.parametrize(("step", "kept"), [(0.0, 80_000 - 40_000 - 1_280), (-3_600.0, 0), (3_600.0, 0), (-4.0, 0)])
async def test_a_step_of_the_wall_clock_lets_nothing_of_a_leftover_through(room: Room, step: float, kept: int) -> None:
    """On the same boot of the machine its monotonic clock decides; a stepped mtime could be of any moment until now."""
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99 + step)
    room.clock.offset += step
    room.clock.moment = 125.0
    closed = await room.segments.close_leftover(
        segment, watermark=WALL + 105.0, monotonic=105.0, reasons=(Reason.GUARD_AWAY,)
    )
    assert kept - 1 <= closed.kept <= kept  # an mtime is a float, and what is dropped is rounded up
    assert (WALL_CLOCK_STEPPED in closed.notes) is bool(step)


async def test_a_leftover_of_another_boot_of_the_machine_that_holds_more_sound_than_time_keeps_nothing(
    room: Room,
) -> None:
    """Its wall clock went back between: what was said when cannot be told."""
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=105.0)
    closed = await room.segments.close_leftover(segment, watermark=WALL + 104.9, reasons=(Reason.GUARD_AWAY,))
    assert closed.kept == 0


# -- recordings --------------------------------------------------------------------------------------------------------


async def test_two_segments_become_one_file_with_tags_manifest_and_row(room: Room) -> None:
    segments = [await room.closed(1, 10.0, 100.0, Reason.ON_HOLD), await room.closed(2, 5.0, 130.0)]
    row = await room.sealer.seal(RECORDING, OUTCOME, segments)
    assert row is not None
    flac = room.archive.root / row.path
    manifest_file = flac.with_suffix(".json")
    assert room.files() == [flac, manifest_file]
    assert flac.name == f"20260528T202820Z_contract_evidence_31612345678_{RECORDING}.flac"

    audio, rate = soundfile.read(flac, dtype="int16")
    expected = np.concatenate([np.arange(10 * RATE - 1280), np.arange(5 * RATE - 1280)]) % 30_000
    assert rate == RATE
    assert np.array_equal(audio[:, 0], expected)
    assert np.array_equal(audio[:, 1], -expected)

    manifest = json.loads(manifest_file.read_bytes())
    assert manifest == row.manifest
    assert manifest["file"]["sha256"] == hashlib.sha256(flac.read_bytes()).hexdigest() == row.sha256
    assert manifest["file"]["name"] == flac.name
    assert manifest["tracks"]["own"]["pcm_sha256"] == hashlib.sha256(expected.astype("<i2").tobytes()).hexdigest()
    assert [g["reasons"] for g in manifest["gaps"]] == [["on_hold"]]
    assert row.duration_ms == 15_000 - 320
    assert ("RECORDING_ID", RECORDING) in read_tags(flac)

    assert room.spool.segments() == []
    assert list((room.folder / "work").iterdir()) == []
    assert room.audit.kinds() == ["recording.sealed"]
    assert list(room.index.rows) == [RECORDING]


@pytest.mark.skipif(shutil.which("metaflac") is None, reason="the package flac is not installed")
async def test_the_sealed_file_is_read_by_flac_and_metaflac(room: Room) -> None:
    row = await room.sealer.seal(RECORDING, OUTCOME, [await room.closed()])
    assert row is not None
    path = room.archive.root / row.path
    subprocess.run(["flac", "--test", "--silent", path], check=True, timeout=60)  # noqa: ASYNC221
    listed = subprocess.run(  # noqa: ASYNC221
        ["metaflac", "--export-tags-to=-", path], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    for line in ("PURPOSE=contract_evidence", "CALLER_ID=+31612345678", f"UNIQUEID={CALL}", "DISCLOSURE_DIGEST=digest"):
        assert line in listed.splitlines()


async def test_sealing_twice_gives_one_recording(room: Room) -> None:
    segments = [await room.closed()]
    first = await room.sealer.seal(RECORDING, OUTCOME, segments)
    again = await room.sealer.seal(RECORDING, OUTCOME, segments)
    assert again == first
    assert len(room.files()) == 2
    assert room.audit.kinds() == ["recording.sealed"]


async def test_a_call_of_which_nothing_was_kept_leaves_no_file(room: Room) -> None:
    segments = [await room.closed(1, 0.1), await room.closed(2, 0.05)]
    assert await room.sealer.seal(RECORDING, OUTCOME, segments) is None
    assert await room.sealer.seal(RECORDING, OUTCOME, segments) is None
    assert room.files() == []
    assert room.spool.segments() == []
    assert room.audit.kinds() == ["recording.empty"]


@pytest.mark.parametrize("broken", ["first put", "second put", "index", "audit"])
async def test_a_crash_between_any_two_steps_and_a_repeat_give_the_same(room: Room, broken: str) -> None:
    segments = [await room.closed(1), await room.closed(2, 5.0, 130.0)]
    for segment in segments:
        await room.audit.commit(segment.entry())
    room.archive.fail_at = {"first put": 1, "second put": 2}.get(broken, 0)
    room.index.failing, room.audit.failing = broken == "index", broken == "audit"
    with pytest.raises((StorageFailed, AuditFailed)):
        await room.sealer.seal(RECORDING, OUTCOME, segments)
    assert (RECORDING in room.index.rows) == (broken == "audit")
    assert (room.spool.segments() == []) == (broken == "audit"), "the spool goes only after the index has it"
    room.index.failing = room.audit.failing = False

    row = await room.sealer.seal(RECORDING, OUTCOME)  # a restart gives no segments: the audit log has them
    assert row is not None
    assert room.files() == [room.archive.root / row.path, (room.archive.root / row.path).with_suffix(".json")]
    assert room.audit.kinds() == ["recording.sealed"]
    assert room.spool.segments() == []
    assert row.duration_ms == 15_000 - 320


async def test_what_an_older_name_left_behind_is_cleared(room: Room) -> None:
    segments = [await room.closed()]
    room.index.failing = True
    with pytest.raises(StorageFailed):
        await room.sealer.seal(RECORDING, OUTCOME, segments)
    room.index.failing = False
    row = await room.sealer.seal(RECORDING, replace(OUTCOME, external_number=""), segments)
    assert row is not None
    assert "anonymous" in row.path
    assert len(room.files()) == 2


async def test_a_spool_file_that_is_lost_is_noted_and_the_rest_sealed(room: Room) -> None:
    segments = [await room.closed(1), await room.closed(2, 5.0, 130.0)]
    room.spool.erase(segments[0].segment)
    row = await room.sealer.seal(RECORDING, OUTCOME, segments)
    assert row is not None
    assert row.duration_ms == 5_000 - 160
    assert row.manifest["segments"][0]["notes"] == [MISSING_AT_SEALING]
    assert row.started == segments[1].begin_utc


async def test_a_recording_that_is_lost_whole_is_no_empty_file(room: Room) -> None:
    segments = [await room.closed(1)]
    room.spool.erase(segments[0].segment)
    assert await room.sealer.seal(RECORDING, OUTCOME, segments) is None
    assert room.files() == []
    assert room.audit.entries[-1].data == {"lost_ms": 9840}


async def test_nothing_beyond_the_cut_is_sealed_even_if_it_came_late(room: Room) -> None:
    closed = await room.closed()
    with open(room.spool.files(closed.segment).own, "ab") as late:  # noqa: ASYNC230
        late.write(b"\x7f\x7f" * 8000)
    row = await room.sealer.seal(RECORDING, OUTCOME, [closed])
    assert row is not None
    audio, _ = soundfile.read(room.archive.root / row.path, dtype="int16")
    assert len(audio) == closed.kept


async def test_an_objection_that_destroys_leaves_a_line_and_no_content(room: Room) -> None:
    segments = [await room.closed()]
    await room.sealer.destroy_unsealed(RECORDING, segments, Reason.OBJECTED)
    await room.sealer.destroy_unsealed(RECORDING, segments, Reason.OBJECTED)
    assert await room.sealer.seal(RECORDING, OUTCOME, segments) is None
    assert room.files() == []
    assert room.spool.segments() == []
    assert room.audit.kinds() == ["recording.destroyed"]


async def test_an_objection_that_destroys_is_known_after_a_restart(room: Room) -> None:
    segment = room.segments.open(start(), "boot")
    room.record(segment, 10.0, ended=109.99)
    closed = await room.segments.close(segment, proven=110.0, stopped=110.0, reasons=(Reason.OBJECTED,), destroy=True)
    await room.audit.commit(closed.entry())
    assert await room.sealer.seal(RECORDING, OUTCOME) is None
    assert room.spool.segments() == []
    assert room.audit.kinds() == ["recording.destroyed"]


async def test_a_purpose_that_was_objected_to_is_no_purpose_of_what_is_kept_for_another(room: Room) -> None:
    segment = room.segments.open(start(purposes=(CONTRACT_EVIDENCE, QUALITY_TRAINING)), "boot")
    room.record(segment, 5.0, ended=104.99)
    closed = await room.segments.close(segment, proven=105.0, stopped=105.0, reasons=(Reason.PERMIT_CHANGED,))
    await room.audit.commit(closed.entry())
    objected = AuditEntry(
        "objected", room.clock.utc(), boot="boot", channel=CALL, data={"purposes": [QUALITY_TRAINING]}
    )
    await room.audit.commit(objected)
    row = await room.sealer.seal(RECORDING, OUTCOME, [closed])
    assert row is not None
    assert row.purposes == (CONTRACT_EVIDENCE,)
    assert not row.locked


@pytest.mark.parametrize(("purpose", "kept"), [(CONTRACT_EVIDENCE, True), (QUALITY_TRAINING, False)])
async def test_an_objection_that_only_the_audit_log_knows_locks_or_destroys(
    purpose: PurposeName, kept: bool, room: Room
) -> None:
    segment = room.segments.open(start(purposes=(purpose,)), "boot")
    room.record(segment, 5.0, ended=104.99)
    closed = await room.segments.close(segment, proven=105.0, stopped=105.0, reasons=(Reason.CALL_ENDED,))
    await room.audit.commit(closed.entry())
    await room.audit.commit(AuditEntry("objected", room.clock.utc(), boot="boot", channel=CALL, data={"purposes": []}))
    row = await room.sealer.seal(RECORDING, OUTCOME)
    assert (row is not None) is kept
    assert row is None or row.locked
    assert room.audit.kinds() == (["recording.sealed"] if kept else ["recording.destroyed"])


@pytest.mark.parametrize(("purpose", "kept"), [(CONTRACT_EVIDENCE, True), (QUALITY_TRAINING, False)])
async def test_an_objection_of_who_had_left_binds_the_recording_in_his_name(
    purpose: PurposeName, kept: bool, room: Room
) -> None:
    segment = room.segments.open(start(purposes=(purpose,)), "boot")
    room.record(segment, 5.0, ended=104.99)
    closed = await room.segments.close(segment, proven=105.0, stopped=105.0, reasons=(Reason.CALL_ENDED,))
    await room.audit.commit(closed.entry())
    at = datetime(2026, 5, 28, 20, 30, tzinfo=UTC)
    binds = entry_of(ObjectionBinds(Uniqueid(CALL), Uniqueid("left.1"), (purpose,)), at, "boot")
    await room.audit.commit(binds)
    row = await room.sealer.seal(RECORDING, OUTCOME)
    assert (row is not None) is kept
    if row is not None:
        assert row.locked
        objection = {"channel": "left.1", "purposes": [purpose], "at_utc": "2026-05-28T20:30:00.000000Z"}
        assert row.manifest["objections"] == [objection]


async def test_a_disputed_recording_is_locked_for_the_officer_and_names_the_objection(room: Room) -> None:
    closed = await room.closed()
    at = datetime(2026, 5, 28, 20, 30, tzinfo=UTC)
    await room.audit.commit(AuditEntry("objected", at, boot="boot", channel=CALL, data={"purposes": []}))
    row = await room.sealer.seal(RECORDING, OUTCOME, [closed], lock=True)
    assert row is not None
    assert row.locked
    assert row.lock_until == row.ended + timedelta(days=14)
    assert row.manifest["objections"] == [{"channel": CALL, "purposes": [], "at_utc": "2026-05-28T20:30:00.000000Z"}]


async def test_many_seals_at_once_of_one_recording_are_one(room: Room) -> None:
    segments = [await room.closed()]
    rows = await asyncio.gather(*(room.sealer.seal(RECORDING, OUTCOME, segments) for _ in range(5)))
    assert len({row.sha256 for row in rows if row}) == 1
    assert room.audit.kinds() == ["recording.sealed"]
