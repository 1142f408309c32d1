"""What a dead pbxguard left open and cannot be cut yet, on real files and a real database: it waits, whole."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile
import structlog

from pbxguard.core.defaults import CONTRACT_EVIDENCE, QUALITY_TRAINING
from pbxguard.core.errors import NotFound, SegmentsOpen
from pbxguard.core.facts import SnapshotTaken
from pbxguard.core.ids import PurposeName, segment_id
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry
from tests.db.keeping import (
    BOOT,
    KEPT,
    RATE,
    Course,
    Keeping,
    mark,
    opened,
    outcome,
    prepare,
    recording_of,
    voice,
)

FIRST_S, SECOND_S = 1.0, 0.6
CUT_S = 0.3
"""Of the second: the watermark is a tenth of a second old, and there is the guard."""
RECORDING = recording_of(KEPT)
FIRST, SECOND = segment_id(RECORDING, 1), segment_id(RECORDING, 2)
REBOOTED = SnapshotTaken("another boot")


async def died(
    folder: Path, first_purpose: PurposeName = CONTRACT_EVIDENCE, second_purpose: PurposeName = CONTRACT_EVIDENCE
) -> None:
    """A pbxguard that closed a call's first segment and died in its second, a moment after its last beat."""
    await prepare(folder)
    async with opened(folder) as parts:
        course = Course(parts, foreign=False)
        first = await course.captured(KEPT, 1, FIRST_S, first_purpose)
        end = time.monotonic()
        closed = await parts.segments.close(first, proven=end, stopped=end, reasons=(Reason.ON_HOLD,))
        await parts.audit.commit(closed.entry())
        await course.captured(KEPT, 2, SECOND_S, second_purpose)
        mark(folder)


@contextlib.contextmanager
def away(spool: Path) -> Iterator[None]:
    """The spool's disk cannot be looked at."""
    kept = spool.rename(spool.with_name("spool.away"))
    spool.write_text("")
    try:
        yield
    finally:
        spool.unlink()
        kept.rename(spool)


async def kinds(parts: Keeping) -> Sequence[str]:
    return [entry.kind for entry in await parts.audit.of_recording(RECORDING)]


async def holds_both(parts: Keeping, folder: Path) -> None:
    """One sealed file: all of the first segment but its guard, then the second up to its watermark."""
    row = await parts.index.recording(RECORDING)
    samples, _ = soundfile.read(folder / "archive" / row.path, dtype="int16")
    own = samples[:, 0]
    first, second = (list(voice(segment, s)[0]) for segment, s in ((FIRST, FIRST_S), (SECOND, SECOND_S)))
    length = next(n for n in range(len(first), 0, -1) if list(own[:n]) == first[:n])
    assert length > (FIRST_S - CUT_S) * RATE
    rest = list(own[length:])
    assert rest == second[: len(rest)]
    assert len(rest) > (SECOND_S - CUT_S) * RATE
    assert (await kinds(parts)).count("recording.sealed") == 1
    assert list((folder / "spool").iterdir()) == []


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbxguard.service.recovery.SEAL_RETRY_SECONDS", 0.05)
    monkeypatch.setattr("pbxguard.service.leftovers.RETRY_SECONDS", 0.05)


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Keeping]:
    """The next one, which saw Asterisk, and seals what ended beside everything else."""
    async with opened(folder) as parts:
        await parts.recovery.before_snapshot(REBOOTED)
        sealing = asyncio.create_task(parts.recovery.seal_ended(REBOOTED))
        parts.guard.supervisor.handle(REBOOTED, time.monotonic())
        yield parts
        sealing.cancel()
        await asyncio.wait([sealing])


async def test_a_recording_waits_for_a_segment_that_cannot_be_cut_yet(tmp_path: Path) -> None:
    await died(tmp_path)
    with structlog.testing.capture_logs() as lines:
        with away(tmp_path / "spool"):
            async with started(tmp_path) as parts:
                health = parts.guard.health
                await until(lambda: health.waiting == {RECORDING: "segment_open"})
                assert health.troubles == ("segment.unclosed",)
                assert "recording.sealed" not in await kinds(parts)
            assert len(list((tmp_path / "spool.away").iterdir())) == 4
            assert [line["event"] for line in lines if line["log_level"] == "critical"] == ["segment.unclosed"]
            async with opened(tmp_path) as parts:  # the next one does no other
                await parts.recovery.before_snapshot(REBOOTED)
                await parts.recovery.leftovers.close_due()
                assert "segment.unclosed" in parts.guard.health.troubles
        async with started(tmp_path) as parts:
            await until(lambda: not list((tmp_path / "spool").iterdir()))
            assert parts.guard.health.troubles == ()
            await holds_both(parts, tmp_path)


async def test_a_recording_of_which_nothing_else_was_closed_waits_as_well(tmp_path: Path) -> None:
    """Of a call that has ended while nobody was there; it is sealed although no other snapshot comes."""
    await prepare(tmp_path)
    async with opened(tmp_path) as parts:
        await Course(parts, foreign=False).captured(KEPT, 1, FIRST_S, CONTRACT_EVIDENCE)
        mark(tmp_path)
    async with opened(tmp_path) as parts:
        with away(tmp_path / "spool"), structlog.testing.capture_logs() as lines:
            await parts.recovery.before_snapshot(REBOOTED)
            sealing = asyncio.create_task(parts.recovery.seal_ended(REBOOTED))
            parts.guard.supervisor.handle(REBOOTED, time.monotonic())
            await until(lambda: parts.guard.health.waiting == {RECORDING: "storage_failed"})
        async with asyncio.timeout(10):
            await sealing
        assert [line["event"] for line in lines].count("segment.unclosed") == 1
        assert parts.guard.health.troubles == ()
        assert (await parts.index.recording(RECORDING)).duration_ms > (FIRST_S - CUT_S) * 1000


async def test_who_asks_for_a_recording_that_is_not_whole_is_refused_and_nothing_goes(tmp_path: Path) -> None:
    await died(tmp_path)
    async with opened(tmp_path) as parts:
        before = sorted(path.name for path in (tmp_path / "spool").iterdir())
        with pytest.raises(SegmentsOpen):
            await parts.sealer.seal(RECORDING, outcome(KEPT))
        with pytest.raises(NotFound):
            await parts.index.recording(RECORDING)
        assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == before
        never = await parts.sealer.seal(RECORDING, outcome(KEPT), never={SECOND})
        assert never is not None


async def objected(parts: Keeping) -> None:
    line = AuditEntry("objected", datetime.now(UTC), boot=BOOT, channel=KEPT, call=KEPT, data={"purposes": []})
    await parts.audit.commit(line)


async def test_what_an_objection_destroys_goes_with_what_is_still_open(tmp_path: Path) -> None:
    await died(tmp_path, QUALITY_TRAINING, QUALITY_TRAINING)
    async with opened(tmp_path) as parts:
        await objected(parts)
        assert await parts.sealer.seal(RECORDING, outcome(KEPT)) is None
        assert list((tmp_path / "spool").iterdir()) == []
    async with started(tmp_path) as parts:
        await until(lambda: not parts.recovery.leftovers)
        assert list((tmp_path / "spool").iterdir()) == []
        assert (await kinds(parts))[-2:] == ["recording.destroyed", "segment.closed"]


async def test_what_is_still_open_is_no_objections_business_when_its_purpose_is_not(tmp_path: Path) -> None:
    """The first was to train and would be destroyed; the second is evidence, which is locked."""
    await died(tmp_path, QUALITY_TRAINING, CONTRACT_EVIDENCE)
    async with opened(tmp_path) as parts:
        await objected(parts)
        with pytest.raises(SegmentsOpen):
            await parts.sealer.seal(RECORDING, outcome(KEPT))
    async with started(tmp_path) as parts:
        await until(lambda: not parts.recovery.leftovers and not list((tmp_path / "spool").iterdir()))
        await holds_both(parts, tmp_path)
        assert (await parts.index.recording(RECORDING)).locked
