"""How much of a segment's end is dropped, and where the rest lies in time: pure arithmetic.

Samples, not events, are the proof. A file's samples do not map to the clock by counting from its start, because no
frame, no sample. What holds is counted from its end: a recorder that wrote until E cannot have captured more than
E - R, plus a guard, after a moment R, as long as frames come from both sides: then the steadier side sets the pace.
Where one side sends nothing, a stalled sender's burst is written at once, however long it is (docs/adr/0011): such
frames go as well, and count for nothing. But what was on the disk before R was captured before R, and stays.
All moments are seconds on one clock, the monotonic one unless said otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

GUARD = 0.160
"""Seconds; AST_AUDIOHOOK_SYNC_TOLERANCE (100 ms) and three frames: what one burst may put in beyond the wall clock."""
WRITE_SLACK = 0.010
"""Seconds; a file's mtime comes from the kernel's coarse clock, up to one tick early."""
FRAME = 0.020
"""Seconds; Asterisk writes audio frame by frame."""
_SLEW = 500e-6
"""NTP's largest slew, seconds a second: a wall clock that drifts no faster was not stepped."""
_STEP = 0.005
"""Seconds; reading two clocks one after the other may be interrupted for this long."""


def on_monotonic(mtime: float, offset_opened: float, offset_closed: float, elapsed: float) -> float | None:
    """A file's mtime (wall clock) as a monotonic moment, or None when the wall clock was stepped meanwhile.

    An offset is the wall clock less the monotonic one, taken when the segment was opened and when it was closed,
    `elapsed` seconds apart. Of the two the one that gives the later moment is used: later means to drop more.
    """
    if not abs(offset_closed - offset_opened) <= _STEP + _SLEW * max(0.0, elapsed):
        return None
    return mtime - min(offset_opened, offset_closed)


def believable(written: float, opened: float, seconds: float) -> bool:
    """Whether files that play so many seconds can have been last written then: their clock may not be ours.

    A wall clock that was stepped twice, or a file server's clock, shows no other trace. A burst may save the guard.
    """
    return written - opened >= seconds - GUARD


def recorder_end(stopped: float, written: float | None) -> float:
    """E, when the recorder can last have written: its stop was answered at `stopped`, its files were last written at
    `written` (None: not known, then the stop alone counts)."""
    return stopped if written is None else min(stopped, written + WRITE_SLACK)


def dropped_seconds(end: float, proven: float, guard: float = GUARD) -> float:
    """What goes from the end: max(0, E - R) + guard. Infinite when nothing is proven."""
    span = end - proven
    return math.inf if math.isnan(span) else max(0.0, span) + guard


def dropped_samples(end: float, proven: float, rate: int, captured: int, guard: float = GUARD) -> int:
    """The same in samples of `rate` a second, rounded up, of the `captured` that there are."""
    seconds = dropped_seconds(end, proven, guard)
    if math.isinf(seconds):
        return captured
    # Six digits: a microsecond is less than a sample, and without them 0.160 * 8000 is 1281 by floating point.
    return min(captured, math.ceil(round(seconds * rate, 6)))


def dropped_paced(wanted: int, frame: int, paced: Iterable[bool]) -> int:
    """How many samples go from the end so that `wanted` of them are of paced frames.

    `paced` tells of each frame of `frame` samples, the last first, whether both sides were heard in it. A frame in
    which one side sent nothing goes too, also where it lies right before what was wanted: the burst may begin there.
    """
    dropped = 0
    for both in paced:
        if not both:
            dropped += frame
        elif wanted > 0:
            taken = min(frame, wanted)
            dropped, wanted = dropped + taken, wanted - taken
            if taken < frame:
                break
        else:
            break
    return dropped


class Growth:
    """How much of a segment was on the disk at moments while it was open: all that was captured before them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=64)
        """Asterisk writes 32 KiB at a time, two seconds at 8 kHz: these are the last two minutes."""

    def note(self, moment: float, samples: int) -> None:
        """So many samples of each track were there, when looked at no later than `moment`."""
        if samples > (self._seen[-1][1] if self._seen else 0):
            self._seen.append((moment, samples))

    def before(self, moment: float) -> int:
        """Samples of each track, from the first on, that are certainly of before `moment`."""
        return max((samples for seen, samples in self._seen if seen <= moment), default=0)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a segment's kept audio lies: in the span from `begin` to `end`, seconds after the segment was opened.

    `missing` is how much shorter than its span the captured audio is (negative: longer, a burst), in seconds.
    """

    begin: float
    end: float
    missing: float

    @property
    def shorter_than_span(self) -> bool:
        """By more than two frames: somewhere in it time stood still, and the place is unknown."""
        return self.missing > 2 * FRAME


def place(opened: float, end: float, captured: int, dropped: int, rate: int) -> Placement:
    """The first sample is never earlier than the start action, the last one kept at the latest `dropped` before E."""
    span = max(0.0, end - opened)
    last = max(0.0, span - dropped / rate)
    return Placement(0.0, last, span - captured / rate)
