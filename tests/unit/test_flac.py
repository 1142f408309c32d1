"""FLAC files and their tags, held against `flac` and `metaflac`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pbxguard.core.errors import StorageFailed
from pbxguard.sound.flac import encode, read_tags, sha256, write_tags

needs_flac = pytest.mark.skipif(shutil.which("metaflac") is None, reason="the package flac is not installed")
TAGS = [("ORGANISATION", "Acmé Énergie"), ("CALLER_ID", "+31612345678"), ("PURPOSE", "a"), ("PURPOSE", "b")]


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).integers(-32768, 32767, (samples, 2), dtype=np.int16)


@pytest.fixture
def flac(tmp_path: Path) -> Path:
    path = tmp_path / "x.flac"
    audio = noise(20_000)
    assert encode(path, [audio[:7], audio[7:]], 8000) == 20_000
    return path


def test_not_a_sample_is_lost(flac: Path) -> None:
    audio, rate = soundfile.read(flac, dtype="int16")
    assert rate == 8000
    assert np.array_equal(audio, noise(20_000))


def test_tags_leave_the_audio_as_it_was(flac: Path) -> None:
    write_tags(flac, TAGS)
    audio, _ = soundfile.read(flac, dtype="int16")
    assert np.array_equal(audio, noise(20_000))
    assert read_tags(flac) == TAGS


def test_tags_are_replaced_not_added(flac: Path) -> None:
    write_tags(flac, TAGS)
    write_tags(flac, [("ONE", "1")])
    assert read_tags(flac) == [("ONE", "1")]


@needs_flac
def test_flac_and_metaflac_read_the_file(flac: Path) -> None:
    write_tags(flac, TAGS)
    subprocess.run(["flac", "--test", "--silent", flac], check=True, timeout=60)
    listed = subprocess.run(
        ["metaflac", "--list", "--no-utf8-convert", flac], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert "comments: 4" in listed
    assert "CALLER_ID=+31612345678" in listed
    assert "ORGANISATION=Acmé Énergie" in listed
    assert listed.count("type: 4 (VORBIS_COMMENT)") == 1
    assert "vendor string: pbxguard" in listed
    assert "MD5 signature: 00000000000000000000000000000000" not in listed


@needs_flac
def test_other_blocks_are_kept(flac: Path, tmp_path: Path) -> None:
    picture = tmp_path / "cue"
    picture.write_text('FILE "x.flac" FLAC\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n')
    subprocess.run(["metaflac", "--add-padding=100", "--add-seekpoint=4x", flac], check=True, timeout=60)
    write_tags(flac, TAGS)
    listed = subprocess.run(
        ["metaflac", "--list", flac], check=True, capture_output=True, text=True, errors="replace", timeout=60
    ).stdout
    assert "SEEKTABLE" in listed
    assert "is last: true" in listed
    subprocess.run(["flac", "--test", "--silent", flac], check=True, timeout=60)


def test_the_same_audio_and_tags_give_the_same_bytes(flac: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.flac"
    encode(again, [noise(20_000)], 8000)
    for path in (flac, again):
        write_tags(path, TAGS)
    assert sha256(flac) == sha256(again)


def test_a_value_cannot_break_out_of_its_line(flac: Path) -> None:
    write_tags(flac, [("CALLER_ID", "1\nPURPOSE=none\0")])
    assert read_tags(flac) == [("CALLER_ID", "1 PURPOSE=none ")]


@pytest.mark.parametrize("name", ["", "A=B", "Ä", "A\nB"])
def test_a_strange_tag_name_is_refused_and_the_file_untouched(flac: Path, name: str) -> None:
    before = sha256(flac)
    with pytest.raises(ValueError, match="tag"):
        write_tags(flac, [(name, "x")])
    assert sha256(flac) == before


@pytest.mark.parametrize(
    "content", [b"", b"RIFF....WAVE", b"fLaC", b"fLaC\x00\x00\x00\x22short", b"fLaC\x04\0\0\0" * 99]
)
def test_what_is_no_flac_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(content)
    with pytest.raises(StorageFailed):
        write_tags(path, TAGS)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
