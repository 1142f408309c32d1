"""How much of a segment's end is dropped."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.cut import (
    GUARD,
    Growth,
    dropped_paced,
    dropped_samples,
    dropped_seconds,
    on_monotonic,
    place,
    recorder_end,
)

MOMENT = st.floats(min_value=0, max_value=1e7, allow_nan=False)


def test_what_came_after_the_proven_moment_goes_and_the_guard_with_it() -> None:
    assert dropped_seconds(end=10.5, proven=10.0) == 0.5 + GUARD
    assert dropped_samples(end=10.5, proven=10.0, rate=8000, captured=80_000) == 5280


def test_a_recorder_that_ended_before_the_proven_moment_loses_the_guard_only() -> None:
    assert dropped_samples(end=10.0, proven=12.0, rate=8000, captured=80_000) == 1280
    assert dropped_samples(end=10.0, proven=12.0, rate=16000, captured=80_000) == 2560


def test_a_part_of_a_sample_is_dropped_whole() -> None:
    assert dropped_samples(end=0.00001, proven=0.0, rate=8000, captured=80_000) == 1281


def test_no_more_is_dropped_than_there_is() -> None:
    assert dropped_samples(end=100.0, proven=0.0, rate=8000, captured=17) == 17


def test_nothing_proven_keeps_nothing() -> None:
    assert dropped_samples(end=10.0, proven=-math.inf, rate=8000, captured=4711) == 4711
    assert dropped_samples(end=math.inf, proven=math.inf, rate=8000, captured=4711) == 4711


def test_the_end_is_the_earlier_of_stop_and_last_write() -> None:
    assert recorder_end(stopped=20.0, written=15.0) == 15.01
    assert recorder_end(stopped=20.0, written=20.5) == 20.0
    assert recorder_end(stopped=20.0, written=None) == 20.0


def test_a_stepped_wall_clock_leaves_the_mtime_unused() -> None:
    assert on_monotonic(1_000_050.0, offset_opened=1_000_000.0, offset_closed=999_990.0, elapsed=60) is None
    assert on_monotonic(1_000_050.0, offset_opened=1_000_000.0, offset_closed=math.nan, elapsed=60) is None


def test_a_slewed_wall_clock_is_read_as_the_later_moment() -> None:
    assert on_monotonic(1_000_050.0, offset_opened=1_000_000.0, offset_closed=1_000_000.02, elapsed=60) == 50.0
    assert on_monotonic(1_000_050.0, offset_opened=1_000_000.02, offset_closed=1_000_000.0, elapsed=60) == 50.0


@given(end=MOMENT, proven=MOMENT, rate=st.sampled_from([8000, 16000]), captured=st.integers(0, 10**9))
def test_never_less_is_dropped_than_could_have_come_after_the_proven_moment(
    end: float, proven: float, rate: int, captured: int
) -> None:
    dropped = dropped_samples(end, proven, rate, captured)
    assert 0 <= dropped <= captured
    assert dropped == captured or dropped / rate >= max(0.0, end - proven) + GUARD - 1e-6


@given(first=MOMENT, later=MOMENT, proven=MOMENT)
def test_a_later_end_drops_no_less(first: float, later: float, proven: float) -> None:
    first, later = sorted((first, later))
    assert dropped_samples(first, proven, 8000, 10**9) <= dropped_samples(later, proven, 8000, 10**9)


def test_kept_audio_ends_where_the_drop_begins() -> None:
    placed = place(opened=100.0, end=110.0, captured=80_000, dropped=8_000, rate=8000)
    assert (placed.begin, placed.end) == (0.0, 9.0)
    assert not placed.shorter_than_span


def test_a_file_shorter_than_its_span_says_so() -> None:
    assert place(opened=100.0, end=110.0, captured=40_000, dropped=1_280, rate=8000).shorter_than_span
    assert not place(opened=100.0, end=110.0, captured=79_700, dropped=1_280, rate=8000).shorter_than_span


def test_frames_in_which_one_side_was_silent_go_and_count_for_nothing() -> None:
    assert dropped_paced(320, 160, [True, False, False, True, True]) == 4 * 160
    assert dropped_paced(400, 160, [True, False, True, True, True]) == 400 + 160


def test_a_silent_side_right_before_what_was_wanted_goes_too() -> None:
    assert dropped_paced(160, 160, [True, False, False, True]) == 3 * 160


def test_with_both_sides_heard_what_is_wanted_goes_and_no_sample_more() -> None:
    assert dropped_paced(1281, 160, [True] * 100) == 1281
    assert dropped_paced(0, 160, [True] * 100) == 0


def test_what_was_on_disk_before_a_moment_is_of_before_it() -> None:
    growth = Growth()
    growth.note(1.0, 16_384)
    growth.note(1.2, 16_384)
    growth.note(3.1, 32_768)
    assert [growth.before(moment) for moment in (0.9, 1.0, 3.0, 3.1, 9.0)] == [0, 16_384, 16_384, 32_768, 32_768]
    assert growth.before(-math.inf) == 0


def test_a_look_that_found_less_changes_nothing() -> None:
    growth = Growth()
    growth.note(1.0, 16_384)
    growth.note(2.0, 0)
    assert growth.before(5.0) == 16_384
