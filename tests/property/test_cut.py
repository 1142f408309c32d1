"""The cut against a model of Asterisk's audiohook: however late packets come, nothing of after a revocation is kept.

The model is `main/audiohook.c` and MixMonitor's thread, read (branch 22): two queues, both flushed when one runs
100 ms ahead of the other; 20 ms are written whenever both have them, or one has and the other got none for 40 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pbxguard.core.cut import FRAME, Growth, dropped_paced, dropped_samples

RATE, SAMPLES = 8000, 160
SYNC_MS, WAIT_MS = 100.0, 40.0
BUFFER = 5
"""Frames that reach the disk at once: fewer than Asterisk's, so that a short run has many."""


@dataclass
class Side:
    """One direction: when its frames were fed, those not written yet."""

    queue: list[float] = field(default_factory=list)
    fed: float = -1e9


@dataclass(frozen=True)
class Written:
    """One frame in the files: when its two halves were fed (None: that side sent nothing), and when it was written."""

    own: float | None
    others: float | None
    at: float


def captured(own: Iterable[float], others: Iterable[float], until: float, keeps_up: bool) -> list[Written]:
    """What a recorder writes until it is stopped; times in ms. When it does not keep up, it looks every 20 ms only."""
    sides = Side(), Side()
    feeds = [(at, 0, number) for number, at in enumerate(own)] + [(at, 1, number) for number, at in enumerate(others)]
    looks = [(at * 20.0, 2, 0) for at in range(int(until / 20) + 1)]
    out: list[Written] = []
    for at, side, _ in sorted(feeds + looks):
        if at > until:
            break
        if side < 2:
            ours, theirs = sides[side], sides[1 - side]
            ahead = min(at - ours.fed, 1e9) + 20 * len(ours.queue) - 20 * len(theirs.queue)
            if ahead > SYNC_MS:
                ours.queue.clear()
                theirs.queue.clear()
            ours.fed = at
            ours.queue.append(at)
        while (side == 2 or keeps_up) and (one := _read(sides, at)) is not None:
            out.append(one)
    return out


def _read(sides: tuple[Side, Side], now: float) -> Written | None:
    own, others = sides
    if own.queue and others.queue:
        return Written(own.queue.pop(0), others.queue.pop(0), now)
    if own.queue and now - others.fed >= WAIT_MS:
        return Written(own.queue.pop(0), None, now)
    if others.queue and now - own.fed >= WAIT_MS:
        return Written(None, others.queue.pop(0), now)
    return None


def steady(start: float, until: float, gaps: list[tuple[float, float]]) -> list[float]:
    """A frame every 20 ms, but nothing in the gaps."""
    times = [start + 20.0 * n for n in range(int((until - start) / 20))]
    return [at for at in times if not any(begin <= at < end for begin, end in gaps)]


def late(start: float, until: float, stalls: list[tuple[float, float]]) -> list[float]:
    """A frame every 20 ms; what is due in a stall comes at its end, at once."""
    return sorted(
        max([at, *(end + 0.01 * n for begin, end in stalls if begin <= at < end)])
        for n, at in enumerate(start + 20.0 * n for n in range(int((until - start) / 20)))
    )


def kept(frames: list[Written], proven: float, stopped: float) -> list[Written]:
    """What is left of them, as the service cuts (ms)."""
    growth = Growth()
    for number in range(BUFFER, len(frames) + 1, BUFFER):
        growth.note(frames[number - 1].at / 1000, number * SAMPLES)
    total = len(frames) * SAMPLES
    due = dropped_samples(stopped / 1000, proven / 1000, RATE, total)
    paced = (one.own is not None and one.others is not None for one in reversed(frames))
    dropped = dropped_paced(due, round(FRAME * RATE), paced)
    left = max(total - dropped, growth.before(proven / 1000))
    return frames[: -(-left // SAMPLES)]


SPANS = st.lists(
    st.tuples(st.floats(0, 3000), st.floats(0, 1500)).map(lambda span: (span[0], span[0] + span[1])), max_size=3
)


@settings(max_examples=400)
@given(
    gaps=SPANS,
    stalls=SPANS,
    shift=st.floats(0, 20),
    revoked=st.floats(200, 3000),
    unseen=st.floats(0, 300),
    running=st.floats(0, 400),
    keeps_up=st.booleans(),
)
def test_nothing_fed_after_the_revocation_is_kept_however_late_packets_come(
    gaps: list[tuple[float, float]],
    stalls: list[tuple[float, float]],
    shift: float,
    revoked: float,
    unseen: float,
    running: float,
    keeps_up: bool,
) -> None:
    """The own phone sends steadily or not at all, the other side anyhow; the proof is older than the revocation."""
    stopped = revoked + running
    frames = captured(steady(0, stopped, gaps), late(shift, stopped, stalls), stopped, keeps_up)
    for one in kept(frames, revoked - unseen, stopped):
        assert max(one.own or 0.0, one.others or 0.0) <= revoked


@given(stall=st.floats(400, 1500), running=st.floats(0, 100))
def test_without_regard_to_a_silent_side_a_burst_would_be_kept(stall: float, running: float) -> None:
    """The control: what the time between proof and stop alone drops is too little for it."""
    revoked, stopped = 2000.0, 2005.0 + running
    frames = captured([], late(0, stopped, [(revoked - stall, revoked + 0.5)]), stopped, True)
    total = len(frames) * SAMPLES
    left = (total - dropped_samples(stopped / 1000, revoked / 1000, RATE, total)) // SAMPLES
    assert any((one.others or 0.0) > revoked for one in frames[:left])
