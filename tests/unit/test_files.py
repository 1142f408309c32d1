"""The archive's names, and putting files into it whole or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.archive.files import CallerIdStyle, FileArchive, day_folder, stem
from pbxguard.core.errors import NotFound, StorageFailed, UnsafeValue
from pbxguard.core.ids import RecordingId, Uniqueid, recording_id

RECORDING = recording_id("node", "boot", Uniqueid("1.1"))
STARTED = datetime(2026, 3, 1, 23, 59, 58, 999_000, tzinfo=UTC)
PLAIN = CallerIdStyle.PLAIN


def test_a_name_tells_when_why_who_and_which() -> None:
    assert stem(STARTED, ["contract_evidence"], "+31612345678", RECORDING, PLAIN) == (
        f"2026/03/01/20260301T235958Z_contract_evidence_31612345678_{RECORDING}"
    )


def test_the_name_is_in_utc_wherever_the_clock_stands() -> None:
    there = STARTED.astimezone(timezone(timedelta(hours=2)))
    assert stem(there, ["a"], "1", RECORDING, PLAIN) == stem(STARTED, ["a"], "1", RECORDING, PLAIN)


@pytest.mark.parametrize(
    ("style", "number", "shown"),
    [
        (CallerIdStyle.PLAIN, "", "_anonymous"),
        (CallerIdStyle.MASKED, "+31612345678", "_xxxxxxxx678"),
        (CallerIdStyle.MASKED, "112", "_xxx"),
        (CallerIdStyle.MASKED, "", "_anonymous"),
        (CallerIdStyle.NONE, "+31612345678", ""),
        (CallerIdStyle.PLAIN, "../../etc/passwd", "_anonymous"),
        (CallerIdStyle.PLAIN, "1/../2\n", "_12"),
        (CallerIdStyle.PLAIN, "١٢٣", "_anonymous"),
    ],
)
def test_what_a_name_shows_of_the_caller(style: CallerIdStyle, number: str, shown: str) -> None:
    name = stem(STARTED, ["a", "b"], number, RECORDING, style)
    assert name == f"2026/03/01/20260301T235958Z_a+b{shown}_{RECORDING}"


@given(purposes=st.lists(st.text(), max_size=12), number=st.text(), style=st.sampled_from(CallerIdStyle))
def test_whatever_comes_in_a_name_is_safe(purposes: list[str], number: str, style: CallerIdStyle) -> None:
    name = stem(STARTED, purposes, number, RECORDING, style)
    folder, _, last = name.rpartition("/")
    assert folder == day_folder(STARTED)
    assert set(last) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")
    assert len(last) < 190
    FileArchive(Path("/x"))._path(f"{name}.flac")


@pytest.mark.parametrize("strange", ["", "../x", "A" * 16, f"{RECORDING}\n"])
def test_an_id_that_is_not_ours_makes_no_name(strange: str) -> None:
    with pytest.raises(UnsafeValue):
        stem(STARTED, ["a"], "1", RecordingId(strange), PLAIN)


@pytest.fixture
def archive(tmp_path: Path) -> FileArchive:
    archive = FileArchive(tmp_path / "archive")
    archive.prepare()
    return archive


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"audio")
    return path


async def test_a_file_is_put_whole(archive: FileArchive, source: Path) -> None:
    await archive.put("2026/03/01/x.flac", source)
    path = await archive.open_path("2026/03/01/x.flac")
    assert path.read_bytes() == b"audio"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert [p.name for p in path.parent.iterdir()] == ["x.flac"]


async def test_putting_twice_is_putting_once(archive: FileArchive, source: Path) -> None:
    await archive.put("d/x.flac", source)
    before = (await archive.open_path("d/x.flac")).stat()
    await archive.put("d/x.flac", source)
    await archive.put_bytes("d/x.flac", b"audio")
    assert (await archive.open_path("d/x.flac")).stat().st_ino == before.st_ino


async def test_a_sealed_file_is_never_overwritten_by_another(archive: FileArchive, source: Path) -> None:
    await archive.put("d/x.flac", source)
    with pytest.raises(StorageFailed):
        await archive.put_bytes("d/x.flac", b"other")
    assert (await archive.open_path("d/x.flac")).read_bytes() == b"audio"


async def test_what_a_crash_left_half_written_is_overwritten(archive: FileArchive, source: Path) -> None:
    (archive.root / "d").mkdir()
    (archive.root / "d" / ".part-x.flac").write_bytes(b"half of something much longer")
    await archive.put("d/x.flac", source)
    assert [p.name for p in (archive.root / "d").iterdir()] == ["x.flac"]


async def test_a_source_that_is_gone_leaves_nothing(archive: FileArchive, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        await archive.put("d/x.flac", tmp_path / "gone")
    assert list((archive.root / "d").iterdir()) == []


async def test_removing_twice_is_removing_once(archive: FileArchive, source: Path) -> None:
    await archive.put("d/x.flac", source)
    await archive.remove("d/x.flac")
    await archive.remove("d/x.flac")
    await archive.remove("never/was.flac")
    with pytest.raises(NotFound):
        await archive.open_path("d/x.flac")


async def test_clearing_takes_what_ends_in_that_id_and_nothing_else(archive: FileArchive, source: Path) -> None:
    other = recording_id("node", "boot", Uniqueid("2"))
    for name in (f"a_{RECORDING}.flac", f"b_{RECORDING}.json", f"a_{other}.flac"):
        await archive.put(f"d/{name}", source)
    (archive.root / "d" / f".part-c_{RECORDING}.flac").write_bytes(b"half")
    await archive.clear("d", RECORDING)
    await archive.clear("never", RECORDING)
    assert [p.name for p in (archive.root / "d").iterdir()] == [f"a_{other}.flac"]


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../x", "a//x", ".hidden", "a\nb", "ä", "a/./b", "a b", "x\0"]
)
async def test_a_strange_name_is_refused(archive: FileArchive, name: str) -> None:
    with pytest.raises(UnsafeValue):
        await archive.put_bytes(name, b"x")
