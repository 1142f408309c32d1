"""What is whispered has left with the conversation, or it may not have: by what was written to the party, and when."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbxguard.core.mixing import Mixing

RATE = 8000
LENGTH = 3.0


def play(written: list[tuple[float, int]], *, every: float = 0.08, delay: float = 0.0, late: float = 0.0) -> Mixing:
    """A sound of 3 s, fed from `delay` after its order; `written`: (moment, octets); counted as the machine does it.

    `late`: between the question and the answer, which is what was true at the question.
    """

    def octets(moment: float) -> int:
        return sum(count for at, count in written if at <= moment)

    mixing = Mixing(RATE, octets(0.0), 0.0)
    mixing.ordered(LENGTH, 0.0)
    mixing.started(delay)
    now = delay
    while now < delay + LENGTH:
        mixing.counted(octets(now), now, now + late)
        now += every + late
    end = now
    while not mixing.left and not mixing.lost and now < end + 1.0:
        mixing.finished(octets(now), now, now + late)
        now += every + late
    return mixing


def packets(since: float, until: float, ms: int = 20) -> list[tuple[float, int]]:
    count = int((until - since) * 1000 / ms)
    return [(since + (n + 1) * ms / 1000, RATE * ms // 1000) for n in range(count)]


def test_with_a_steady_stream_all_of_it_leaves() -> None:
    assert play(packets(-1.0, 5.0)).left
    assert play(packets(-1.0, 5.0, ms=60)).left
    assert play(packets(-1.0, 5.0), delay=0.05, late=0.02).left


def test_to_a_party_to_whom_nothing_is_written_none_of_it_leaves() -> None:
    mixing = play([])
    assert mixing.lost
    assert not mixing.left


def test_a_burst_after_a_silence_takes_nothing_though_the_octets_are_right_in_the_end() -> None:
    silent = packets(-1.0, 1.0) + packets(1.9, 5.0) + [(1.9, int(0.9 * RATE))]
    sent = sum(count for at, count in silent if 0 <= at <= LENGTH)
    assert sent >= 0.99 * LENGTH * RATE
    assert play(silent).lost


def test_what_stops_before_the_end_was_sent_leaves_a_rest() -> None:
    mixing = play(packets(-1.0, 2.8))
    assert not mixing.left


def test_counts_that_come_too_seldom_prove_nothing() -> None:
    assert play(packets(-1.0, 5.0), every=0.1).left
    assert play(packets(-1.0, 5.0), every=0.6).lost


def asterisk(written: list[tuple[float, int]], delay: float) -> float:
    """What Asterisk's queue really does with the same stream (audiohook.c): the seconds of the sound that left."""
    events = [(delay + n * 0.02, "feed", 0.02) for n in range(int(LENGTH / 0.02))]
    events += [(at, "write", count / RATE) for at, count in written if at >= 0]
    queue = left = 0.0
    fed_at = delay
    for at, kind, seconds in sorted(events):
        if kind == "feed":
            if queue + (at - fed_at) > 0.5:
                queue = 0.0  # thrown away
            queue, fed_at = queue + seconds, at
        elif queue >= seconds - 1e-9:
            queue -= seconds
            left += seconds
    return left


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.floats(0.0, 0.1), st.floats(0.0, 0.1))
def test_what_counts_as_left_has_left(rng: random.Random, delay: float, late: float) -> None:
    stops = sorted(rng.uniform(-0.5, 4.5) for _ in range(rng.choice((0, 2, 4))))
    written = packets(-1.0, 5.0, ms=rng.choice((10, 20, 30)))
    for begin, end in list(pairwise(stops))[::2]:
        kept = [(at, count) for at, count in written if not begin < at < end]
        burst = [(end, count) for at, count in written if begin < at < end] if rng.random() < 0.5 else []
        written = sorted(kept + burst)
    if play(written, delay=delay, late=late).left:
        assert asterisk(written, delay) >= 0.95 * LENGTH


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_asterisks_queue_as_modelled_here_loses_what_the_source_says(delay: float) -> None:
    assert asterisk(packets(-1.0, 5.0), delay) >= 0.99 * LENGTH
    assert asterisk([], delay) == 0.0
    assert asterisk(packets(-1.0, 1.0) + packets(1.9, 5.0), delay) < 0.9 * LENGTH
