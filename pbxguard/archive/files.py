"""The archive on a file system: sealed files, whole or absent.

Owns names and places. Every step can be repeated: putting the same content twice is putting it once, other content
under a name that is taken is refused. Blocking work runs in threads of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pbxguard.core.errors import NotFound, StorageFailed, UnsafeValue
from pbxguard.core.ids import RecordingId
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.threads import Threads

from .spool import make_folders, sync_folder

FOLDER_MODE, FILE_MODE = 0o750, 0o640
THREADS = 4
"""What a stalled disk can hold up: two that seal, the sweep, and who asks for a file."""
_PART = ".part-"
_COMPONENT = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,199}")
_ID = re.compile(r"[a-z2-7]{16}")


class CallerIdStyle(Enum):
    """What a file name shows of the caller ID."""

    PLAIN = "plain"
    MASKED = "masked"
    NONE = "none"


def stem(started: datetime, purposes: Sequence[str], number: str, recording: RecordingId, style: CallerIdStyle) -> str:
    """``YYYY/MM/DD/<UTC time>_<purpose>_<caller ID>_<recording id>``, of safe characters only whatever comes in.

    Several purposes are joined by ``+``; the caller ID is the E.164 digits, ``anonymous``, its last three digits
    behind ``x`` for each one hidden, or left out. Raises UnsafeValue for an id that is not ours.
    """
    if not _ID.fullmatch(recording):
        raise UnsafeValue("not a recording's id")
    moment = started.astimezone(UTC)
    joined = "+".join(re.sub(r"[^A-Za-z0-9_-]", "-", purpose)[:40] for purpose in purposes)[:100]
    parts = [f"{moment:%Y%m%dT%H%M%SZ}", joined, _shown(number, style), recording]
    return f"{day_folder(started)}/{'_'.join(part for part in parts if part)}"


def day_folder(started: datetime) -> str:
    """The folder, relative to the archive's root, of recordings that started then."""
    return f"{started.astimezone(UTC):%Y/%m/%d}"


def _shown(number: str, style: CallerIdStyle) -> str:
    if style is CallerIdStyle.NONE:
        return ""
    digits = "".join(letter for letter in number if letter in "0123456789")[:20]
    if not digits:
        return "anonymous"
    if style is CallerIdStyle.MASKED:
        shown = digits[-3:] if len(digits) > 5 else ""
        return "x" * (len(digits) - len(shown)) + shown
    return digits


class FileArchive:
    """Fulfils `ports.Archive`. Raises StorageFailed when the disk does, UnsafeValue for a strange name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.threads = Threads("archive", THREADS)
        self._sure: set[Path] = set()
        """Folders that are known to be on disk."""

    async def put(self, relative: str, source: Path) -> None:
        """Copy `source` into place: on disk when this returns. Refuses other content under a name that is taken."""

        def copy(target: BinaryIO) -> None:
            with open(source, "rb") as file:
                shutil.copyfileobj(file, target, 1 << 20)

        await self.threads.run(self._put, relative, copy, lambda: _digest(source))

    async def put_bytes(self, relative: str, content: bytes) -> None:
        """The same with bytes."""
        await self.threads.run(
            self._put, relative, lambda target: target.write(content), lambda: hashlib.sha256(content).digest()
        )

    async def open_path(self, relative: str) -> Path:
        """Where it is; raises NotFound."""
        path = self._path(relative)
        if not await self.threads.run(path.is_file):
            raise NotFound("the archive has no such file")
        return path

    async def names(self, folder: str, recording: RecordingId) -> Sequence[str]:
        """Relative names of all files in a day's folder whose own name ends in that recording's id, sorted; those that
        are only half written are left out."""
        if not _ID.fullmatch(recording):
            raise UnsafeValue("not a recording's id")
        return await self.threads.run(self._names, folder, recording)

    async def clear(self, folder: str, recording: RecordingId) -> None:
        """Remove everything in a day's folder whose name ends in that recording's id: what a crash left of it,
        half written or whole, under whatever name. Only for a recording that the index does not know."""
        if not _ID.fullmatch(recording):
            raise UnsafeValue("not a recording's id")
        await self.threads.run(self._clear, folder, recording)

    async def remove(self, relative: str) -> None:
        """Gone, on disk, when this returns; also when it was gone before."""
        await self.threads.run(self._remove, relative)

    def prepare(self) -> None:
        """Make the root."""
        with _storage("the archive cannot be prepared"):
            make_folders(self.root, FOLDER_MODE)

    def _path(self, relative: str) -> Path:
        parts = relative.split("/")
        if not all(_COMPONENT.fullmatch(part) for part in parts):
            raise UnsafeValue("not a name in the archive")
        return self.root.joinpath(*parts)

    def _put(self, relative: str, write: Callable[[BinaryIO], object], digest: Callable[[], bytes]) -> None:
        path = self._path(relative)
        with _storage("the archive cannot be written"):
            self._make_folder(path.parent)
            there = path.exists()
            if there and _digest(path) != digest():
                raise StorageFailed("the archive has other content under that name")
            part = path.with_name(_PART + path.name)
            reached(FaultPoint.ARCHIVE_PUTTING)
            if not there:
                try:
                    with open(part, "wb", opener=_new) as target:
                        write(target)
                        reached(FaultPoint.ARCHIVE_PART_WRITTEN)
                        target.flush()
                        os.fsync(target.fileno())
                    reached(FaultPoint.ARCHIVE_PART_SYNCED)
                    os.replace(part, path)
                    reached(FaultPoint.ARCHIVE_IN_PLACE)
                finally:
                    part.unlink(missing_ok=True)
            reached(FaultPoint.ARCHIVE_PART_GONE)
            sync_folder(path.parent)  # also when it was there: who put it may have died before this
            reached(FaultPoint.ARCHIVE_PUT)

    def _make_folder(self, folder: Path) -> None:
        if not self.root.exists():
            make_folders(self.root, FOLDER_MODE)
        for one in reversed([f for f in (folder, *folder.parents) if self.root in f.parents]):
            if one in self._sure and one.exists():
                continue
            one.mkdir(mode=FOLDER_MODE, exist_ok=True)
            reached(FaultPoint.FOLDER_MADE)
            sync_folder(one.parent)  # also when it was there: who made it may have died before this
            reached(FaultPoint.FOLDER_SYNCED)
            self._sure.add(one)

    def _names(self, folder: str, recording: RecordingId) -> list[str]:
        path = self._path(folder)
        with _storage("the archive cannot be looked at"):
            found = os.listdir(path) if path.is_dir() else []
        return [f"{folder}/{name}" for name in sorted(found) if f"_{recording}." in name and not name.startswith(_PART)]

    def _clear(self, folder: str, recording: RecordingId) -> None:
        path = self._path(folder)
        with _storage("the archive cannot be cleared"):
            if not path.is_dir():
                return
            reached(FaultPoint.ARCHIVE_CLEARING)
            for entry in list(os.scandir(path)):
                if f"_{recording}." in entry.name:
                    path.joinpath(entry.name).unlink(missing_ok=True)
                    reached(FaultPoint.ARCHIVE_LEFTOVER_REMOVED)
            sync_folder(path)
            reached(FaultPoint.ARCHIVE_CLEARED)

    def _remove(self, relative: str) -> None:
        path = self._path(relative)
        with _storage("the archive's file cannot be removed"):
            reached(FaultPoint.ARCHIVE_REMOVING)
            try:
                path.unlink(missing_ok=True)
                reached(FaultPoint.ARCHIVE_REMOVED)
                sync_folder(path.parent)  # also when it was gone: who removed it may have died before this
            except (FileNotFoundError, NotADirectoryError):
                return  # not even its folder is there
            reached(FaultPoint.ARCHIVE_REMOVED_SYNCED)


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _new(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what}: {os.strerror(error.errno) if error.errno else 'failed'}") from error
