"""Segments that nobody closed: their guard died, or the disk gave no answer. Each is stopped, cut, and written down.

Owns no order among calls: who seals asks for `close_due` until it gets all of a recording, since a recording is sealed
only whole. What cannot be closed is tried again, ever more seldom, and told; nothing of it goes before it is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pbxguard.core.errors import AuditFailed, PbxguardError
from pbxguard.core.ids import RecordingId, SegmentId, Uniqueid
from pbxguard.core.reasons import Reason
from pbxguard.core.segments import OpenSegment
from pbxguard.core.supervisor import Supervisor
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.logs import Event, alert, get_logger

from .ports import Audit, Clock, Recorder
from .segments import Segments
from .watermark import Bound, bound

RETRY_SECONDS = 1.0
"""First pause before one is tried again; doubled up to `MOST_RETRY_SECONDS`."""
MOST_RETRY_SECONDS = 30.0
AT_ONCE = 16
"""Each waits most of its time for its files to be quiet; more at once would hold up the cuts of calls that live."""

_log = get_logger()


class Troubles(Protocol):
    """What we need of `health.Health`."""

    def segment_unclosed(self, segment: SegmentId, recording: RecordingId, reason: str) -> None: ...
    def segment_closed(self, segment: SegmentId) -> None: ...


@dataclass(slots=True)
class _Left:
    """One of them."""

    segment: OpenSegment
    bound: Bound
    gone: float | None = None
    """When its recorder was known to run no more, in monotonic seconds; None while it may run."""
    due: float = float("-inf")
    pause: float = RETRY_SECONDS


class Leftovers:
    """Of earlier runs, and of this one where a fault of ours left a segment open."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        audit: Audit,
        recorder: Recorder,
        segments: Segments,
        clock: Clock,
        troubles: Troubles,
    ) -> None:
        self._supervisor, self._audit, self._recorder = supervisor, audit, recorder
        self._segments, self._clock, self._troubles = segments, clock, troubles
        self._left: dict[SegmentId, _Left] = {}
        self._one = asyncio.Lock()
        """Whoever asks, each is tried by one at a time."""
        self._some = asyncio.Semaphore(AT_ONCE)
        self._gone = asyncio.Event()
        """Set, and made anew, whenever a recorder is known to be gone."""

    def __len__(self) -> int:
        return len(self._left)

    @property
    def recordings(self) -> set[RecordingId]:
        """Whose they are."""
        return {left.segment.recording for left in self._left.values()}

    @property
    def bounds(self) -> Mapping[str, Bound]:
        """Up to when each is proven: to be written down until it is closed."""
        return {segment: left.bound for segment, left in self._left.items()}

    def add(self, segments: Iterable[tuple[OpenSegment, Bound]]) -> None:
        """Segments of an earlier run, whose recorders may run. One that is known already stays as it is."""
        for segment, proven in segments:
            self._left.setdefault(segment.segment, _Left(segment, proven))

    def abandon(self, segment: OpenSegment, proven: float) -> None:
        """One of this run, whose recorder is gone; `proven` is R, in monotonic seconds."""
        left = _Left(segment, bound(self._clock, proven), self._clock.now())
        self._left.setdefault(segment.segment, left)

    async def stop(self, boot: str) -> None:
        """Stop the recorders of all, at once; `boot` is Asterisk's. Who does not answer is asked again."""
        running = [left for left in self._left.values() if left.gone is None]
        await asyncio.gather(*(self._stop(left, boot) for left in running))

    async def _stop(self, left: _Left, boot: str) -> None:
        segment = left.segment
        try:
            handle = await self._recorder.find(segment.leg, segment.segment) if segment.boot == boot else None
            if handle is not None and await self._recorder.stop(handle):
                self._supervisor.expect_stop(segment.leg)
        except PbxguardError as error:
            if left.pause == RETRY_SECONDS:
                alert(Event.RECORDER_STOP_UNANSWERED, reason=error.code)
            self._later(left)
            return
        left.gone, left.due, left.pause = self._clock.now(), float("-inf"), RETRY_SECONDS
        self._gone.set()
        self._gone = asyncio.Event()

    async def recorder_gone(self, leg: Uniqueid) -> None:
        """Return once no recorder of theirs runs on this leg: a stop that is asked for again must not hit a new one, to
        which Asterisk may have given the same id."""
        while any(left.gone is None and left.segment.leg == leg for left in self._left.values()):
            await self._gone.wait()

    async def close_due(self) -> None:
        """Try each once that is due: afterwards it is closed, or it waits for its next turn."""
        async with self._one:
            now = self._clock.now()
            due = [left for left in self._left.values() if left.due <= now]
            await asyncio.gather(*(self._try(left) for left in due))

    async def _try(self, left: _Left) -> None:
        async with self._some:
            try:
                # Without a connection nobody knows; with the next one comes a snapshot, which stops them all again.
                if left.gone is None and self._supervisor.connected:
                    await self._stop(left, self._supervisor.boot)
                if left.gone is not None:
                    await self._close(left)
            except AuditFailed:
                self._later(left)  # the alert about the audit log says it
            except Exception as error:  # one that cannot be closed must not keep the others from it
                self._later(left)
                reason = error.code if isinstance(error, PbxguardError) else type(error).__name__
                self._troubles.segment_unclosed(left.segment.segment, left.segment.recording, reason)

    async def _close(self, left: _Left) -> None:
        segment = left.segment
        closed = await self._segments.close_leftover(
            segment,
            watermark=left.bound.wall,
            monotonic=left.bound.monotonic,
            gone=left.gone,
            reasons=(Reason.GUARD_AWAY,),
        )
        reached(FaultPoint.LEFTOVER_CUT)
        await self._audit.commit(closed.entry())
        reached(FaultPoint.LEFTOVER_CLOSED)
        self._left.pop(segment.segment, None)
        self._troubles.segment_closed(segment.segment)
        _log.warning(
            Event.SEGMENT_CLOSED,
            recording=segment.recording,
            segment=segment.segment,
            reason=Reason.GUARD_AWAY.value,
            kept_ms=closed.kept_ms,
            cut_ms=closed.cut_ms,
        )

    def _later(self, left: _Left) -> None:
        left.due = self._clock.now() + left.pause
        left.pause = min(2 * left.pause, MOST_RETRY_SECONDS)
