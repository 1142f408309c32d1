"""How far open segments' files have been written, looked at a few times a second: what the cut may rely on.

Owns the looking. A file that grows only when Asterisk's buffer is full tells late, never too much.
"""

from __future__ import annotations

import asyncio

from pbxguard.archive.spool import Spool
from pbxguard.core.cut import Growth
from pbxguard.core.errors import StorageFailed
from pbxguard.core.ids import SegmentId

from .ports import Clock

LOOK_SECONDS = 0.2


class GrowthWatch:
    """Run `run` beside the guard; `open` and `close` a segment."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self._spool, self._clock = spool, clock
        self._open: dict[SegmentId, Growth] = {}

    def open(self, segment: SegmentId) -> None:
        """From now on its files are looked at."""
        self._open[segment] = Growth()

    def close(self, segment: SegmentId) -> Growth:
        """What was seen of it; it is looked at no more."""
        return self._open.pop(segment, Growth())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._open:
                found = await self._spool.threads.run(self._look, tuple(self._open))
                for segment, moment, samples in found:
                    if segment in self._open:
                        self._open[segment].note(moment, samples)

    def _look(self, segments: tuple[SegmentId, ...]) -> list[tuple[SegmentId, float, int]]:
        found = []
        for segment in segments:
            try:
                samples = self._spool.captured(segment).samples
            except StorageFailed:
                continue  # nothing is known of it then, and more is dropped
            found.append((segment, self._clock.now(), samples))
        return found
