"""After a power cut only what was fsynced is sure: whatever else is left, all that was sealed is whole or absent.

A real run is recorded call by call (strace), and the disk is rebuilt as a cut after each call may leave it; then the
service's recovery and sweep run on it. A second part kills that run itself at every fault point it passes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pbxguard.core.ids import segment_id
from pbxguard.fault_points import VARIABLE, FaultPoint

from . import keeping
from .disk import VARIANTS, Call, Data, Disk, Image, Names, record

SAMPLED = 40
"""Disks that the normal run starts from; the long one takes them all."""
REPO = Path(__file__).resolve().parents[2]
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
"""As root, but held by a file's mode and owner like anybody else."""
COPIES = [point for point in FaultPoint if point.value.startswith("spool.cop") and "erased" not in point.value]


def can_trace() -> bool:
    """Whether strace is there and may look at a process of ours."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace here")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can make files that belong to another user"
)


@dataclass(frozen=True)
class Cut:
    """A disk as a power cut after so many calls may leave it, and what had been promised by then."""

    calls: int
    after: str
    names: Names
    data: Data
    image: Image
    promised: tuple[str, ...]


def program(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.db.keeping", str(folder), *more]


@dataclass(frozen=True)
class Run:
    """A real run: where it ran, what was there before, and its calls."""

    folder: Path
    before: Path
    calls: list[Call]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    base = tmp_path_factory.mktemp("recorded")
    folder, before = base / "disk", base / "before"
    folder.mkdir()
    before.mkdir()
    calls = record(program(folder), base / "log", {**os.environ, "PYTHONPATH": str(REPO)})
    return Run(folder, before, calls)


@pytest.fixture(scope="module")
def cuts(run: Run) -> list[Cut]:
    """Every disk that differs from the others, in the order of time."""
    found = cuts_of(run, run.calls)
    assert len(found) > 300
    return found


def cuts_of(run: Run, calls: list[Call]) -> list[Cut]:
    disk = Disk(run.folder, run.before)
    found: list[Cut] = []
    seen: set[str] = set()
    for number, call in enumerate(calls):
        if not disk.take(call):
            continue
        promised = tuple(disk.current("promised").decode().splitlines())
        if not promised:  # the service does not run yet
            continue
        for names, data in VARIANTS:
            image = disk.image(names, data)
            mark = digest(image, promised)
            if mark not in seen:
                seen.add(mark)
                found.append(Cut(number, call.name, names, data, image, promised))
    whole = disk.image(Names.KEPT, Data.KEPT)
    assert {name: kept and kept[0] for name, kept in whole.items()} == as_image(run.folder), "the model lost a call"
    return found


def digest(image: Image, promised: tuple[str, ...]) -> str:
    made = hashlib.sha256(repr(promised).encode())
    for name in sorted(image):
        kept = image[name]
        if not name.endswith("-shm") and name != "promised":
            made.update(name.encode() + (hashlib.sha256(kept[0]).digest() if kept else b"/"))
    return made.hexdigest()


def as_image(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")
    }


def restore(image: Image, folder: Path) -> Path:
    """Make that disk."""
    folder.mkdir()
    for name, kept in image.items():
        path = folder / name
        if kept is None:
            path.mkdir(parents=True, exist_ok=True)
        elif not name.endswith("-shm"):  # shared memory: a boot later there is none
            path.write_bytes(kept[0])
            os.utime(path, (kept[1], kept[1]))
    return folder


# -- what must hold --------------------------------------------------------------------------------------------------


def select(folder: Path, query: str) -> list[tuple[str, ...]]:
    with sqlite3.connect(folder / "state" / "pbxguard.db") as database:
        return database.execute(query).fetchall()


def closed_before(folder: Path) -> dict[str, int]:
    """Segments that the audit log has as closed, and how many samples were kept of each."""
    found = select(folder, "SELECT segment, data FROM audit WHERE kind = 'segment.closed'")
    return {segment: json.loads(data)["kept"] for segment, data in found}


def audited(folder: Path, kind: str) -> list[str]:
    return [recording for (recording,) in select(folder, f"SELECT recording FROM audit WHERE kind = '{kind}'")]


def listed(folder: Path) -> dict[str, tuple[str, str]]:
    """id -> (path, digest) of what the index gives out."""
    rows = select(folder, "SELECT id, path, sha256 FROM recordings WHERE destroyed IS NULL")
    return {id: (path, sha256) for id, path, sha256 in rows}


def nothing_is_broken(folder: Path) -> None:
    """Each row has its whole file and manifest, and no file is without its row."""
    archive, rows = folder / "archive", listed(folder)
    files = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith(".work/watermark")}
    assert files == {name for path, _ in rows.values() for name in (path, path.removesuffix(".flac") + ".json")}
    for path, sha256 in rows.values():
        manifest = json.loads((archive / path).with_suffix(".json").read_bytes())
        assert hashlib.sha256((archive / path).read_bytes()).hexdigest() == sha256 == manifest["file"]["sha256"]
        audio, _ = soundfile.read(archive / path, dtype="int16")
        assert len(audio) == manifest["file"]["samples"]


def nothing_is_lost(folder: Path, closed: dict[str, int]) -> None:
    """What was closed under a permit is sealed to its last sample; what was objected to or destroyed is nowhere."""
    rows = listed(folder)
    destroyed = set(audited(folder, "recording.destroyed"))
    for call in (keeping.KEPT, keeping.ERASED):
        recording = keeping.recording_of(call)
        if recording in destroyed or not any(segment.startswith(recording) for segment in closed):
            continue
        sound = sound_of(folder, rows[recording][0])
        expected = [
            keeping.voice(segment_id(recording, number), 2.0)[0][: closed[segment]]
            for number in (1, 2)
            if (segment := str(segment_id(recording, number))) in closed
        ]
        assert all(len(one) for one in expected)
        kept = np.concatenate(expected)
        assert np.array_equal(sound[: len(kept), 0], kept)
        assert np.array_equal(sound[: len(kept), 1], -kept)
    for gone in destroyed:
        assert gone not in rows
        assert list(folder.rglob(f"*{gone}*")) == []


def sound_of(folder: Path, path: str) -> Any:
    sound, _ = soundfile.read(folder / "archive" / path, dtype="int16", always_2d=True)
    return sound


def once(folder: Path) -> None:
    for kind in ("recording.sealed", "recording.destroyed", "recording.empty"):
        lines = audited(folder, kind)
        assert len(lines) == len(set(lines)), f"{kind} twice"


def kept_promises(folder: Path, promised: tuple[str, ...]) -> None:
    """What was reported as done is done, and stays so."""
    rows = listed(folder)
    over = {keeping.recording_of(line.split()[1]) for line in promised if line.startswith(keeping.DESTROYED)}
    begun = set(audited(folder, "recording.destroying")) | set(audited(folder, "recording.destroyed"))
    assert over <= set(audited(folder, "recording.destroyed"))
    for line in promised:
        what, call = line.split()
        if what == keeping.SEALED and keeping.recording_of(call) not in begun:
            assert keeping.recording_of(call) in rows


def holds(folder: Path, promised: tuple[str, ...]) -> None:
    """Recover, twice, and look."""
    closed = closed_before(folder)
    for _ in range(2):
        asyncio.run(keeping.recover(folder))
        nothing_is_broken(folder)
        nothing_is_lost(folder, closed)
        kept_promises(folder, promised)
        once(folder)
        assert [path.name for path in (folder / "spool").rglob("*") if path.is_file()] == []


def outcomes(cuts: list[Cut], base: Path) -> Iterator[str]:
    """Recover from each of these disks; a line for each on which something does not hold."""
    for number, cut in enumerate(cuts):
        folder = restore(cut.image, base / str(number))
        try:
            holds(folder, cut.promised)
        except Exception as error:
            yield f"call {cut.calls} ({cut.after}), names {cut.names.value}, data {cut.data.value}: {error!r}"[:500]
        shutil.rmtree(folder)


# -- tests -----------------------------------------------------------------------------------------------------------


@needs_strace
def test_whatever_a_power_cut_leaves_is_whole_or_absent(cuts: list[Cut], tmp_path: Path) -> None:
    step = len(cuts) / SAMPLED
    assert list(outcomes([cuts[int(n * step)] for n in range(SAMPLED)], tmp_path)) == []


@needs_strace
@pytest.mark.slow
def test_a_power_cut_after_each_call_leaves_it_whole_or_absent(cuts: list[Cut], tmp_path: Path) -> None:
    assert list(outcomes(cuts, tmp_path)) == []


@needs_strace
@pytest.mark.parametrize("forgotten", ["archive", "spool", "state"])
def test_a_sync_that_was_forgotten_would_be_found(forgotten: str, run: Run, tmp_path: Path) -> None:
    """The same calls without the syncs of one folder and what is in it: some power cut then loses something."""
    cuts = cuts_of(run, list(without_syncs(run, forgotten)))
    promising = [cut for cut in cuts if len(cut.promised) > 1 and Names.LOST is cut.names and Data.LOST is cut.data]
    assert list(outcomes(promising[:: max(1, len(promising) // 8)], tmp_path)) != []


def without_syncs(run: Run, forgotten: str) -> Iterator[Call]:
    disk = Disk(run.folder, run.before)
    for call in run.calls:
        disk.take(call)
        if call.name not in ("fsync", "fdatasync") or not disk.path_of(call).startswith(forgotten):
            yield call


def run_until(folder: Path, at: str, *more: str, before: tuple[str, ...] = ()) -> int:
    environment = {**os.environ, "PYTHONPATH": str(REPO), VARIABLE: at}
    ran = subprocess.run(
        [*before, *program(folder, *more)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr[-3000:]
    return ran.returncode


def passes_in_keeping() -> list[str]:
    """Points that the run passes, and at which pass they are about sealing, objecting, destroying."""
    asked = {"recorder", "permit", "leftover", "watermark", "export", "redact", "request", "resume"}
    found = [p for p in FaultPoint if p.value.split(".")[0] not in asked and p not in COPIES]
    own = {FaultPoint.SEGMENT_CUT, FaultPoint.SEGMENT_CLOSED, FaultPoint.ARCHIVE_LEFTOVER_REMOVED}
    return [f"{point.value}:{nth}" for point in found if point not in own for nth in (1, 2) if nth == 1 or twice(point)]


def twice(point: FaultPoint) -> bool:
    """Whether the run passes it twice: it destroys one sealed recording, and clears one folder that is there."""
    once = ("destroy.", "index.wip", "index.scrubbed", "archive.clear")
    return not point.value.startswith(once)


@pytest.mark.parametrize("at", passes_in_keeping()[::10])
def test_a_process_that_is_killed_leaves_it_whole_or_absent(at: str, tmp_path: Path) -> None:
    killed_at(at, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("at", passes_in_keeping())
def test_a_process_that_is_killed_anywhere_leaves_it_whole_or_absent(at: str, tmp_path: Path) -> None:
    killed_at(at, tmp_path)


def killed_at(at: str, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    assert run_until(folder, at) == -signal.SIGKILL, "it was not reached"
    holds(folder, tuple((folder / "promised").read_text().splitlines()))


@needs_root
@pytest.mark.parametrize("point", COPIES)
def test_a_process_that_may_not_write_asterisks_files_is_killed_while_it_copies_them(
    point: FaultPoint, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    assert run_until(folder, f"{point.value}:2", "--foreign", before=WITHOUT_RIGHTS) == -signal.SIGKILL
    holds(folder, tuple((folder / "promised").read_text().splitlines()))
