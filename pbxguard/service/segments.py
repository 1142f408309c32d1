"""A segment from its permit to its cut files in the spool.

Owns what is cut where a segment closes, by its own guard or after that one died; what may be kept is reckoned in
`core/cut.py`. Nothing here knows of recordings: `sealing.py` joins what is left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pbxguard.archive.spool import Captured, Spool
from pbxguard.core.commands import StartRecording
from pbxguard.core.cut import (
    FRAME,
    GUARD,
    Growth,
    believable,
    dropped_paced,
    dropped_samples,
    on_monotonic,
    place,
    recorder_end,
)
from pbxguard.core.errors import StorageFailed
from pbxguard.core.ids import SegmentId
from pbxguard.core.policy import Policy
from pbxguard.core.reasons import Reason
from pbxguard.core.segments import (
    CUT_AT_WATERMARK,
    LONGER_THAN_SPAN,
    SHORTER_THAN_SPAN,
    SPOOL_FAILED,
    STILL_WRITTEN,
    TRACKS_DIFFER,
    UNPACED_END,
    WALL_CLOCK_STEPPED,
    ClosedSegment,
    OpenSegment,
)
from pbxguard.sound.tracks import paced

from .growth import GrowthWatch
from .ports import Clock

COMPLETE_SECONDS = 1.0
"""How long the files of a stopped recorder may go on changing: measured 50 ms at most."""
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Span:
    """Seconds after a segment was opened: its recorder's start (at the earliest), its end E, and the proven R."""

    begin: float
    end: float
    proven: float


class Segments:
    """Opens segments and closes them. `policy` gives the present policy."""

    def __init__(self, *, spool: Spool, clock: Clock, policy: Callable[[], Policy]) -> None:
        self._spool, self._clock, self._policy = spool, clock, policy
        self.growth = GrowthWatch(spool, clock)
        """To be run beside; without it more is dropped where one side sends nothing."""

    def open(self, command: StartRecording, boot: str) -> OpenSegment:
        """What must be in the audit log (`entry()`) before the recorder is started on the files named in it."""
        permit, purposes = command.permit, self._policy().purposes
        files = self._spool.asterisk_files(command.segment)
        opened = self._clock.now()
        self.growth.open(command.segment)
        return OpenSegment(
            recording=command.recording,
            segment=command.segment,
            boot=boot,
            call=permit.call,
            leg=command.leg,
            purposes=permit.purposes,
            bases=tuple(purposes[name].basis.value for name in permit.purposes),
            direction=permit.direction.value,
            told=permit.told,
            opened=opened,
            opened_utc=self._clock.utc(opened),
            wall_offset=self._clock.wall_offset(),
            own_file=files.own,
            others_file=files.others,
        )

    async def close(
        self,
        segment: OpenSegment,
        *,
        proven: float,
        stopped: float,
        reasons: Sequence[Reason],
        started: float | None = None,
        destroy: bool = False,
        lock: bool = False,
    ) -> ClosedSegment:
        """Cut a stopped segment in the spool, at once, to what its permit covers.

        Monotonic seconds: `proven` is R (minus infinity: nothing is kept), `stopped` when the recorder's stop was
        answered, `started` when its start was sent, where that is known better than `segment.opened`. `destroy` and
        `lock` as in `StopRecording`: kept with the segment, so that a restart knows. Never raises for the disk: while
        the spool cannot be looked at, it is waited for, since what it holds was permitted; a note says so.
        """
        growth = self.growth.close(segment.segment)
        notes: list[str] = []
        while True:
            try:
                closed = await self._close(segment, growth, proven, stopped, reasons, started, notes)
                return replace(closed, destroy=destroy, lock=lock)
            except StorageFailed:
                notes = [SPOOL_FAILED]
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _close(
        self,
        segment: OpenSegment,
        growth: Growth,
        proven: float,
        stopped: float,
        reasons: Sequence[Reason],
        started: float | None,
        failed: Sequence[str],
    ) -> ClosedSegment:
        """One try, after those that `failed` tells of. Raises StorageFailed."""
        notes, complete = list(failed), True
        if proven != -math.inf:
            complete = await self._spool.wait_complete(segment.segment, COMPLETE_SECONDS)
        captured = await self._spool.threads.run(self._spool.captured, segment.segment)
        end = stopped
        if not complete:
            notes.append(STILL_WRITTEN)
            end = max(stopped, self._clock.now())
        elif captured.written is not None:
            offset = self._clock.wall_offset()
            written = on_monotonic(captured.written, segment.wall_offset, offset, stopped - segment.opened)
            if written is None or not believable(written, segment.opened, captured.samples / self._spool.rate):
                written = None
                notes.append(WALL_CLOCK_STEPPED)
            end = recorder_end(stopped, written)
        zero = segment.opened
        span = _Span(0.0 if started is None else max(0.0, started - zero), end - zero, proven - zero)
        return await self._cut(segment, captured, span, reasons, notes, growth.before(proven))

    async def close_leftover(
        self,
        segment: OpenSegment,
        *,
        watermark: float,
        reasons: Sequence[Reason],
        monotonic: float | None = None,
        gone: float | None = None,
    ) -> ClosedSegment:
        """Cut what a dead pbxguard left at its watermark, once its recorder is known to be gone: since `gone`
        (monotonic), or just now.

        `watermark` is when the last beat that came back was sent, in wall-clock seconds; `monotonic` the same on the
        monotonic clock, unless the machine was started since. By that clock a step of the wall clock cuts nothing
        short and lets nothing through: where the files' mtime cannot be believed, they may have been written until
        their recorder was gone. By the wall clock alone nothing is kept that does not fit it. Raises StorageFailed
        while the spool cannot be looked at: then it is still open, and is tried again.
        """
        notes = [CUT_AT_WATERMARK]
        self.growth.close(segment.segment)
        complete = await self._spool.wait_complete(segment.segment, COMPLETE_SECONDS)
        if not complete:
            notes.append(STILL_WRITTEN)
        captured = await self._spool.threads.run(self._spool.captured, segment.segment)
        span = _Span(0.0, 0.0, -math.inf)
        if captured.written is None:
            pass
        elif monotonic is not None:
            now, offset = self._clock.now(), self._clock.wall_offset()
            written = on_monotonic(captured.written, segment.wall_offset, offset, now - segment.opened)
            if written is None:
                notes.append(WALL_CLOCK_STEPPED)
            if segment.opened <= monotonic:
                # Files that changed later were written by somebody whom we do not know to be gone.
                stopped = gone if gone is not None and written is None and complete else now
                end = recorder_end(stopped, written)
                span = _Span(0.0, end - segment.opened, monotonic - segment.opened)
        else:
            zero = segment.opened + segment.wall_offset
            # More sound than time: the wall clock went back meanwhile, and nothing can be placed.
            fits = captured.samples / self._spool.rate <= captured.written - zero + GUARD
            if zero <= min(captured.written, watermark) and fits:
                span = _Span(0.0, recorder_end(math.inf, captured.written) - zero, watermark - zero)
        return await self._cut(segment, captured, span, reasons, notes, 0)

    async def _cut(
        self,
        segment: OpenSegment,
        captured: Captured,
        span: _Span,
        reasons: Sequence[Reason],
        notes: list[str],
        floor: int,
    ) -> ClosedSegment:
        """`floor`: samples that were there before the proven moment. Raises StorageFailed."""
        rate = self._spool.rate
        floor = min(floor, captured.samples)
        due = dropped_samples(span.end, span.proven, rate, captured.samples)
        dropped = min(due, captured.samples - floor)
        # What ended before the proven moment is all of before it, however it came.
        if span.end > span.proven and 0 < dropped < captured.samples - floor:
            dropped = await self._spool.threads.run(self._paced, segment.segment, due, captured.samples, floor)
            if dropped > due + FRAME * rate:
                notes.append(UNPACED_END)
        kept = captured.samples - dropped
        placed = place(span.begin, span.end, captured.samples, dropped, rate)
        if kept:
            if placed.shorter_than_span:
                notes.append(SHORTER_THAN_SPAN)
            if placed.missing < -2 * FRAME:
                notes.append(LONGER_THAN_SPAN)
            if abs(captured.difference) > FRAME * rate:
                notes.append(TRACKS_DIFFER)
        ended = None if captured.written is None else captured.written - dropped / rate
        try:
            await self._spool.threads.run(self._spool.shorten, segment.segment, kept, ended)
        except StorageFailed:
            notes.append(SPOOL_FAILED)
        begin = segment.opened_utc + timedelta(seconds=span.begin if kept else 0.0)
        return ClosedSegment(
            opening=segment,
            closed_utc=segment.opened_utc + timedelta(seconds=max(0.0, span.end)),
            begin_utc=begin,
            end_utc=begin + timedelta(seconds=placed.end if kept else 0.0),
            reasons=tuple(reason.value for reason in reasons),
            rate=rate,
            captured=captured.samples,
            dropped=dropped,
            kept=kept,
            missing_ms=round(placed.missing * 1000) if kept else 0,
            notes=tuple(notes),
        )

    def _paced(self, segment: SegmentId, due: int, captured: int, floor: int) -> int:
        """In a thread: how much goes from the end, `due` of it captured while both sides were heard."""
        files, frame = self._spool.files(segment), round(FRAME * self._spool.rate)
        return min(dropped_paced(due, frame, paced(files.own, files.others, captured, floor, frame)), captured - floor)
