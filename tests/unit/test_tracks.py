"""Spool tracks joined to one stereo stream."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pbxguard.sound.tracks import Joined, Piece, paced


def track(path: Path, first: int, count: int) -> Path:
    path.write_bytes(np.arange(first, first + count, dtype="<i2").tobytes())
    return path


def test_segments_follow_each_other_without_silence(tmp_path: Path) -> None:
    one = Piece(track(tmp_path / "1o", 0, 100), track(tmp_path / "1t", 1000, 100), kept=60)
    two = Piece(track(tmp_path / "2o", 200, 50), track(tmp_path / "2t", 2000, 50), kept=50)
    joined = Joined([one, two])
    audio = np.concatenate(list(joined.blocks()))
    assert audio[:, 0].tolist() == [*range(60), *range(200, 250)]
    assert audio[:, 1].tolist() == [*range(1000, 1060), *range(2000, 2050)]
    assert (joined.kept, joined.samples) == ([60, 50], 110)


def test_the_digests_are_of_the_kept_pcm_of_each_track(tmp_path: Path) -> None:
    piece = Piece(track(tmp_path / "o", 0, 100), track(tmp_path / "t", 1000, 100), kept=60)
    joined = Joined([piece])
    list(joined.blocks())
    assert joined.own_sha256 == hashlib.sha256(np.arange(60, dtype="<i2").tobytes()).hexdigest()
    assert joined.others_sha256 == hashlib.sha256(np.arange(1000, 1060, dtype="<i2").tobytes()).hexdigest()


def test_the_shorter_track_bounds_both(tmp_path: Path) -> None:
    joined = Joined([Piece(track(tmp_path / "o", 0, 100), track(tmp_path / "t", 0, 70), kept=90)])
    assert sum(len(block) for block in joined.blocks()) == 70
    assert joined.kept == [70]


def test_a_missing_file_gives_nothing_and_the_next_segment_follows(tmp_path: Path) -> None:
    gone = Piece(tmp_path / "gone", track(tmp_path / "t", 0, 70), kept=70)
    there = Piece(track(tmp_path / "2o", 5, 9), track(tmp_path / "2t", 5, 9), kept=9)
    joined = Joined([gone, there])
    assert np.concatenate(list(joined.blocks()))[:, 0].tolist() == list(range(5, 14))
    assert joined.kept == [0, 9]


def test_long_tracks_are_read_in_blocks(tmp_path: Path) -> None:
    length = 200_001
    joined = Joined([Piece(track_long(tmp_path / "o", length), track_long(tmp_path / "t", length), kept=length)])
    blocks = list(joined.blocks())
    assert len(blocks) > 2
    assert joined.samples == length
    assert np.concatenate(blocks)[:, 1].tolist() == (np.arange(length) % 30_000).tolist()


def track_long(path: Path, count: int) -> Path:
    path.write_bytes((np.arange(count) % 30_000).astype("<i2").tobytes())
    return path


def test_a_frame_is_paced_when_both_tracks_have_something_in_it(tmp_path: Path) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    own.write_bytes(bytes(8) + b"\1\0" * 8 + b"\1\0" * 2)
    others.write_bytes(b"\1\0" * 14)
    assert list(paced(own, others, 14, 0, 4)) == [False, True, True, False]
    assert list(paced(own, others, 12, 4, 4)) == [True, True]
    assert list(paced(own, tmp_path / "missing", 8, 0, 4)) == [False, False]
