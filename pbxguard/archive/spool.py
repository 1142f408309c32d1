"""The spool: where Asterisk writes a segment's raw tracks, and where nothing stays that may not be kept.

Owns names (opaque ids of ours only), places, room, and the shortening of a file to what a permit covers. What may be
kept is computed elsewhere (`core/cut.py`). Everything here blocks, but for `wait_complete`: `threads` are there for it.
Asterisk may run as another user and see the folder under another path, so both spellings are kept; a file that we
may not write (only its folder is ours) is replaced by its kept beginning instead of truncated.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from pbxguard.core.errors import StorageFailed, UnsafeValue
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.core.records import SpoolState
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.threads import Threads

THREADS = 4
"""What a stalled disk can hold up; a cut syncs two files, so a few at once are quicker than one after the other."""
SAMPLE_BYTES = 2
MODE = 0o2770
_SEGMENT = re.compile(r"([a-z2-7]{16})-(\d{3,6})")
_BLOCK = 1 << 20
QUARANTINE = "quarantine"
"""Folder in the spool for what nobody can explain."""


@dataclass(frozen=True, slots=True)
class SpoolFiles:
    """A segment's two tracks: what came from the own party's channel, and what went to it."""

    own: Path
    others: Path


@dataclass(frozen=True, slots=True)
class Captured:
    """What a segment's two files hold; `samples` is the shorter of the two, and 0 when one is missing.

    `written` is the later mtime, wall-clock seconds, None when neither is there. Size and mtime of a file are read in
    one call, so that they belong together.
    """

    samples: int
    difference: int
    """Own less others, in samples; both start and end together, so more than a frame is worth a note."""
    written: float | None


class Spool:
    """The spool folder at one sample rate. Raises StorageFailed when the disk does, UnsafeValue for a strange name."""

    def __init__(self, root: Path, asterisk_root: PurePosixPath, rate: int, floor: int = 512 * 1024 * 1024) -> None:
        """`floor`: free bytes below which nothing new is begun. `asterisk_root` is `root` as Asterisk spells it."""
        if rate not in (8000, 16000):
            raise UnsafeValue("the spool's rate is 8000 or 16000")
        self.root = root
        self.asterisk_root = asterisk_root
        self.rate = rate
        self.floor = floor
        self.suffix = ".sln" if rate == 8000 else ".sln16"
        self.threads = Threads("spool", THREADS)

    def prepare(self, group: int | None = None) -> None:
        """Make the folder, ours, with Asterisk's group id `group`, mode 2770: files in it inherit the group."""
        with _storage("the spool folder cannot be made"):
            make_folders(self.root, 0o777)
            if group is not None:
                os.chown(self.root, -1, group)
            # Only where due: the shipped unit forbids to set a group bit (RestrictSUIDSGID), even one that is set.
            if stat.S_IMODE(self.root.stat().st_mode) != MODE:
                os.chmod(self.root, MODE)

    def files(self, segment: SegmentId) -> SpoolFiles:
        """Paths as pbxguard spells them."""
        stem = _checked(segment)
        return SpoolFiles(self.root / f"{stem}.own{self.suffix}", self.root / f"{stem}.others{self.suffix}")

    def asterisk_files(self, segment: SegmentId) -> SpoolFiles:
        """Paths as Asterisk spells them."""
        stem = _checked(segment)
        root = Path(self.asterisk_root)
        return SpoolFiles(root / f"{stem}.own{self.suffix}", root / f"{stem}.others{self.suffix}")

    def state(self) -> SpoolState:
        """Whether a new segment may begin: it writes a page to a nameless file. Blocks as long as the disk does."""
        try:
            if shutil.disk_usage(self.root).free < self.floor:
                return SpoolState.FULL
            self._write_nameless(sync=True)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                return SpoolState.READY  # a file system without such files: its writers will tell
            return SpoolState.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else SpoolState.UNWRITABLE
        return SpoolState.READY

    def touch(self) -> None:
        """See whether a write is taken, whatever comes of it. Blocks as long as the disk does; raises nothing."""
        with contextlib.suppress(OSError):
            self._write_nameless(sync=False)

    def _write_nameless(self, *, sync: bool) -> None:
        handle = os.open(self.root, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, b"\0" * 4096)
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)

    def captured(self, segment: SegmentId) -> Captured:
        """What is there now."""
        files = self.files(segment)
        sizes: list[int] = []
        times: list[float] = []
        for path in (files.own, files.others):
            with _storage("a spool file cannot be looked at"):
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    sizes.append(0)
                    continue
            sizes.append(status.st_size // SAMPLE_BYTES)
            times.append(status.st_mtime)
        return Captured(min(sizes), sizes[0] - sizes[1], max(times, default=None))

    def shorten(self, segment: SegmentId, samples: int, ended: float | None = None) -> None:
        """Leave the first `samples` of both files, on disk when this returns; 0 removes them.

        `ended` (wall clock) is set as their mtime where we may: whoever closes the segment again after a crash then
        finds the end of what was kept, not the moment of the shortening, and drops little more. Never lengthens.
        """
        if samples <= 0:
            self.erase(segment)
            return
        files = self.files(segment)
        for path in (files.own, files.others):
            with _storage("a spool file cannot be shortened"):
                _shorten(path, samples * SAMPLE_BYTES, ended)
        reached(FaultPoint.SPOOL_BOTH_CUT)
        self._sync()
        reached(FaultPoint.SPOOL_SHORTENED)

    def erase(self, segment: SegmentId) -> None:
        """Remove both files; those that are gone already do not matter."""
        files = self.files(segment)
        for path in (files.own, files.others):
            with _storage("a spool file cannot be removed"):
                reached(FaultPoint.SPOOL_ERASING)
                path.unlink(missing_ok=True)
                reached(FaultPoint.SPOOL_FILE_ERASED)
                path.with_name(path.name + ".part").unlink(missing_ok=True)
                reached(FaultPoint.SPOOL_COPY_ERASED)
        self._sync()
        reached(FaultPoint.SPOOL_ERASED)

    def segments(self) -> list[SegmentId]:
        """Segments that have a file here, sorted."""
        found = {match.group(0) for name in self._names() if (match := _SEGMENT.match(name)) and self._is_ours(name)}
        return sorted(SegmentId(stem) for stem in found)

    def strangers(self) -> list[str]:
        """Names of files here that are no segment's, sorted: to be quarantined, unheard. They are data, not paths."""
        return sorted(name for name in self._names() if not self._is_ours(name))

    def names(self, segment: SegmentId) -> list[str]:
        """The names of a segment's files that are here, half-made ones too."""
        return sorted(name for name in self._names() if name.startswith(f"{_checked(segment)}."))

    def set_apart(self, name: str, at: datetime) -> None:
        """Move the file of that name into the quarantine, where its name says when; its owner alone may look there."""
        folder = self.root / QUARANTINE
        with _storage("a spool file cannot be set apart"):
            if Path(name).name != name:
                raise UnsafeValue("not a name in the spool")
            folder.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.root / name, folder / f"{int(at.timestamp())}.{name}")
            sync_folder(folder)
        self._sync()

    def set_apart_before(self, before: datetime) -> list[str]:
        """Names in the quarantine of what was set apart before then, sorted.

        What has no moment in its name came there by another hand: its last change counts.
        """
        folder = self.root / QUARANTINE
        with _storage("the quarantine cannot be listed"):
            moments = {entry.name: _moment(entry) for entry in os.scandir(folder)} if folder.is_dir() else {}
        return sorted(name for name, moment in moments.items() if moment < before.timestamp())

    def destroy_set_apart(self, name: str) -> None:
        """Remove one of them."""
        folder = self.root / QUARANTINE
        with _storage("a quarantined file cannot be removed"):
            if Path(name).name != name:
                raise UnsafeValue("not a name in the quarantine")
            (folder / name).unlink(missing_ok=True)
            sync_folder(folder)

    def of_recording(self, recording: RecordingId) -> list[SegmentId]:
        """Segments of one recording that have a file here."""
        return [s for s in self.segments() if s.startswith(f"{recording}-")]

    async def wait_complete(self, segment: SegmentId, deadline: float, quiet: float = 0.1) -> bool:
        """Wait until neither file was changed for `quiet` seconds, `deadline` seconds at most; whether it came to that.

        The files are complete only 1 ms, at most 50, after the recorder's stop was answered (ASTERISK.md), because
        Asterisk writes its last buffer when it closes them. A later write does no harm beyond a longer cut: what
        counts is size and mtime read together.
        """
        loop = asyncio.get_running_loop()
        last = await self.threads.run(self._fingerprint, segment)
        began = changed = loop.time()
        while loop.time() - changed < quiet:
            if loop.time() - began >= deadline:
                return False
            await asyncio.sleep(min(0.02, quiet))
            now = await self.threads.run(self._fingerprint, segment)
            if now != last:
                last, changed = now, loop.time()
        return True

    def _fingerprint(self, segment: SegmentId) -> Sequence[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        files = self.files(segment)
        for path in (files.own, files.others):
            with _storage("a spool file cannot be looked at"):
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    found.append(None)
                else:
                    found.append((status.st_size, status.st_mtime_ns))
        return found

    def _names(self) -> Iterator[str]:
        with _storage("the spool folder cannot be listed"):
            yield from (entry.name for entry in os.scandir(self.root) if not entry.is_dir(follow_symlinks=False))

    def _is_ours(self, name: str) -> bool:
        match = _SEGMENT.match(name)
        if match is None:
            return False
        endings = [f".{track}{self.suffix}{part}" for track in ("own", "others") for part in ("", ".part")]
        return name[match.end() :] in endings

    def _sync(self) -> None:
        with _storage("the spool folder cannot be synced"):
            sync_folder(self.root)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename or removal in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path, mode: int) -> None:
    """Make a folder, and those above it that are missing, so that they survive a power cut."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    for one in missing:
        with contextlib.suppress(PermissionError):  # one may make a folder where one may not look
            sync_folder(one.parent)


def _moment(entry: os.DirEntry[str]) -> float:
    """When a file in the quarantine was set apart, in wall-clock seconds."""
    stamp = entry.name.partition(".")[0]
    if stamp.isascii() and stamp.isdigit() and len(stamp) < 16:
        return int(stamp)
    return entry.stat(follow_symlinks=False).st_ctime


def _checked(segment: SegmentId) -> str:
    if not _SEGMENT.fullmatch(segment):
        raise UnsafeValue("not a segment's id")
    return segment


def _shorten(path: Path, size: int, ended: float | None) -> None:
    try:
        before = path.lstat()
    except FileNotFoundError:
        return
    reached(FaultPoint.SPOOL_CUTTING)
    try:
        longer = before.st_size > size
        with open(path, "r+b" if longer else "rb", opener=_no_links) as file:
            if longer:
                file.truncate(size)
            reached(FaultPoint.SPOOL_CUT)
            os.fsync(file.fileno())  # also where nothing goes: nobody else brings to disk what Asterisk wrote
    except PermissionError:
        _replace_by_beginning(path, size)
    reached(FaultPoint.SPOOL_CUT_SYNCED)
    if ended is not None:
        # Only a file's owner may set its time; without it a second close drops more, never less.
        with contextlib.suppress(PermissionError):
            os.utime(path, (ended, ended))
    reached(FaultPoint.SPOOL_DATED)


def _replace_by_beginning(path: Path, size: int) -> None:
    part = path.with_name(path.name + ".part")
    reached(FaultPoint.SPOOL_COPYING)
    part.unlink(missing_ok=True)
    reached(FaultPoint.SPOOL_COPY_RENEWED)
    left = size
    with open(path, "rb", opener=_no_links) as source, open(part, "xb", opener=_private) as target:
        while left > 0 and (block := source.read(min(left, _BLOCK))):
            target.write(block)
            left -= len(block)
        target.flush()
        reached(FaultPoint.SPOOL_COPY_WRITTEN)
        os.fsync(target.fileno())
    reached(FaultPoint.SPOOL_COPY_SYNCED)
    os.replace(part, path)
    reached(FaultPoint.SPOOL_COPIED)


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what}: {os.strerror(error.errno) if error.errno else 'failed'}") from error
