"""The spool's names, room and shortening, on real files."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from pbxguard.archive.spool import Spool
from pbxguard.core.errors import StorageFailed, UnsafeValue
from pbxguard.core.ids import SegmentId, Uniqueid, recording_id, segment_id
from pbxguard.core.records import SpoolState

RECORDING = recording_id("node", "boot", Uniqueid("1700000000.1"))
SEGMENT = segment_id(RECORDING, 1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", PurePosixPath("/var/spool/pbxguard"), 8000, floor=1)
    spool.prepare()
    return spool


def fill(spool: Spool, own: int, others: int, segment: SegmentId = SEGMENT) -> None:
    files = spool.files(segment)
    files.own.write_bytes(b"\x01\x02" * own)
    files.others.write_bytes(b"\x03\x04" * others)


def test_the_folder_is_for_its_user_and_group_alone(spool: Spool) -> None:
    assert spool.root.stat().st_mode & 0o7777 == 0o2770


def test_both_spellings_name_the_same_opaque_files(spool: Spool) -> None:
    assert spool.files(SEGMENT).own == spool.root / f"{SEGMENT}.own.sln"
    assert str(spool.asterisk_files(SEGMENT).others) == f"/var/spool/pbxguard/{SEGMENT}.others.sln"
    wide = Spool(spool.root, PurePosixPath("/s"), 16000)
    assert wide.files(SEGMENT).own.suffix == ".sln16"


@pytest.mark.parametrize("name", ["", "../etc/passwd", f"{SEGMENT}/x", f"{SEGMENT},x", f"{SEGMENT}\n", "a" * 16])
def test_a_name_that_is_not_ours_reaches_no_path(spool: Spool, name: str) -> None:
    with pytest.raises(UnsafeValue):
        spool.files(SegmentId(name))


def test_below_the_floor_there_is_no_room(spool: Spool) -> None:
    assert spool.state() is SpoolState.READY
    spool.floor = 1 << 62
    assert spool.state() is SpoolState.FULL


def test_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    assert SpoolState.UNWRITABLE is Spool(tmp_path / "gone", PurePosixPath("/s"), 8000, floor=1).state()


def test_captured_is_the_shorter_track_and_the_later_time(spool: Spool) -> None:
    fill(spool, own=100, others=80)
    os.utime(spool.files(SEGMENT).own, (1000.5, 1000.5))
    os.utime(spool.files(SEGMENT).others, (999.0, 999.0))
    captured = spool.captured(SEGMENT)
    assert (captured.samples, captured.difference, captured.written) == (80, 20, 1000.5)


def test_a_missing_track_captured_nothing(spool: Spool) -> None:
    spool.files(SEGMENT).own.write_bytes(b"\0\0" * 10)
    assert spool.captured(SEGMENT).samples == 0
    spool.erase(SEGMENT)
    assert spool.captured(SEGMENT).written is None


def test_shortening_leaves_the_beginning_and_the_time_of_its_end(spool: Spool) -> None:
    fill(spool, own=100, others=100)
    spool.shorten(SEGMENT, 30, ended=1000.0)
    captured = spool.captured(SEGMENT)
    assert (captured.samples, captured.difference, captured.written) == (30, 0, 1000.0)
    assert spool.files(SEGMENT).own.read_bytes() == b"\x01\x02" * 30


def test_shortening_never_lengthens(spool: Spool) -> None:
    fill(spool, own=10, others=10)
    spool.shorten(SEGMENT, 30)
    assert spool.captured(SEGMENT).samples == 10


def test_shortening_to_nothing_removes_both_files(spool: Spool) -> None:
    fill(spool, own=10, others=10)
    spool.shorten(SEGMENT, 0)
    assert spool.segments() == []


def test_a_link_in_the_spool_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 100)
    spool.files(SEGMENT).own.symlink_to(victim)
    with pytest.raises(StorageFailed):
        spool.shorten(SEGMENT, 1)
    assert victim.stat().st_size == 100


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that another user may reach: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else for a moment")
def test_a_file_that_asterisk_owns_is_replaced_by_its_beginning(foreign_folder: Path) -> None:
    spool = Spool(foreign_folder / "spool", PurePosixPath("/s"), 8000)
    spool.prepare(group=65534)
    fill(spool, own=100, others=100)
    files = spool.files(SEGMENT)
    for path in (files.own, files.others):
        os.chown(path, 65533, 65534)
        path.chmod(0o640)
    os.chown(spool.root, 65532, -1)
    inode = files.own.stat().st_ino
    os.setegid(65534)
    os.seteuid(65532)
    try:
        with pytest.raises(PermissionError), open(files.own, "r+b"):
            pass
        spool.shorten(SEGMENT, 30, ended=1000.0)
    finally:
        os.seteuid(0)
        os.setegid(0)
    captured = spool.captured(SEGMENT)
    assert (captured.samples, captured.difference, captured.written) == (30, 0, 1000.0)
    assert files.own.stat().st_ino != inode
    assert spool.strangers() == []


def test_leftovers_and_strangers_are_told_apart(spool: Spool) -> None:
    second = segment_id(RECORDING, 2)
    other = segment_id(recording_id("node", "boot", Uniqueid("2")), 1)
    for segment in (SEGMENT, second, other):
        fill(spool, 1, 1, segment)
    (spool.root / "holiday.wav").write_bytes(b"x")
    (spool.root / f"{SEGMENT}.own.mp3").write_bytes(b"x")
    assert spool.segments() == sorted([SEGMENT, second, other])
    assert spool.of_recording(RECORDING) == [SEGMENT, second]
    assert spool.strangers() == sorted([f"{SEGMENT}.own.mp3", "holiday.wav"])


def test_erasing_twice_is_erasing_once(spool: Spool) -> None:
    fill(spool, 1, 1)
    spool.erase(SEGMENT)
    spool.erase(SEGMENT)
    assert spool.segments() == []


async def test_a_file_that_is_still_written_is_waited_for(spool: Spool) -> None:
    fill(spool, 1, 1)
    path = spool.files(SEGMENT).own

    async def late_writer() -> None:
        for _ in range(4):
            await asyncio.sleep(0.03)
            with open(path, "ab") as file:  # noqa: ASYNC230
                file.write(b"\0\0")

    writer = asyncio.create_task(late_writer())
    assert await spool.wait_complete(SEGMENT, deadline=5.0, quiet=0.1)
    assert writer.done()
    assert path.stat().st_size == 10
    await writer


async def test_waiting_has_an_end(spool: Spool) -> None:
    fill(spool, 1, 1)
    path = spool.files(SEGMENT).own

    async def restless_writer() -> None:
        while True:
            await asyncio.sleep(0.005)
            with open(path, "ab") as file:  # noqa: ASYNC230
                file.write(b"\0\0")

    writer = asyncio.create_task(restless_writer())
    try:
        assert not await spool.wait_complete(SEGMENT, deadline=0.2, quiet=10.0)
    finally:
        writer.cancel()


async def test_files_that_never_came_are_complete(spool: Spool) -> None:
    assert await spool.wait_complete(SEGMENT, deadline=1.0, quiet=0.02)
