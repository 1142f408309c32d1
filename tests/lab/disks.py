"""Owns: small disks of a test's own that can be full, read-only or stalled, for real.

Each is an ext4 image in a file, mounted on a folder by the loop driver: what is met there is the kernel's own ENOSPC,
EROFS and waiting. Needs root. Every disk is thawed and unmounted at the end, also after a failure.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.lab.asterisk import LabError

MB = 1 << 20
BALLAST = "ballast"
"""A folder: what lies in it is no stranger in a spool, to be set apart."""
DEADLINE_S = 20
LOOP_DEVICES = 32


class Disk:
    """A context manager: `folder` is a disk of `megabytes` as long as it lasts."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self.megabytes = folder, megabytes
        self._image = Path(tempfile.mkdtemp(prefix="pbxdisk-", dir="/tmp")) / "image"
        self._frozen = False

    def __enter__(self) -> Disk:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self.megabytes * MB)
        _loop_devices()
        # no blocks kept for root, who runs the tests: full is full
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.folder))
        (self.folder / "lost+found").rmdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        # lazily: whoever still has a file open there keeps it, and the tests' machine its mounts in order
        _run("umount", "--lazy", str(self.folder))
        self._image.unlink()
        self._image.parent.rmdir()

    @property
    def free(self) -> int:
        """Bytes that may still be written."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Leave no room at all: the next write anywhere on it gets ENOSPC."""
        folder = self.folder / BALLAST
        folder.mkdir(exist_ok=True)
        with (folder / "fill").open("wb", buffering=0) as ballast:
            for size in (MB, 4096, 512):
                try:
                    while True:
                        ballast.write(b"\0" * size)
                except OSError:
                    continue

    def empty(self) -> None:
        """Give the room back."""
        shutil.rmtree(self.folder / BALLAST, ignore_errors=True)

    def freeze(self) -> None:
        """From now on every write on it waits, in the kernel, as on a stalled disk; reads and looks go on."""
        _run("fsfreeze", "--freeze", str(self.folder))
        self._frozen = True

    def thaw(self) -> None:
        """Let what waits go on."""
        if self._frozen:
            _run("fsfreeze", "--unfreeze", str(self.folder))
            self._frozen = False

    def read_only(self, on: bool, *, seen_by: int | None = None, at: Path | None = None) -> None:
        """Refuse (or allow) writes through one mount of it: ours, or that of process `seen_by`, who sees it `at`.

        The kernel refuses it while a file is open for writing through that mount.
        """
        # With its root too: this machine may itself be a folder of another, whose root its mounts begin at.
        way = ["nsenter", "--target", str(seen_by), "--mount", "--root", "--wd"] if seen_by is not None else []
        _run(*way, "mount", "-o", f"remount,bind,{'ro' if on else 'rw'}", str(at or self.folder))

    def immutable(self, *names: str, on: bool = True) -> None:
        """Nobody, root included, may change these files any more, not even who has one open; `.` is the top folder,
        in which no file may be made, renamed or removed then, while open ones go on being written."""
        _run("chattr", "+i" if on else "-i", *(str(self.folder / name) for name in names))


def _loop_devices() -> None:
    """A bare tree's /dev has none of them; the kernel's are the same for everybody."""
    control = Path("/dev/loop-control")
    nodes = [(control, stat.S_IFCHR, 10, 237)]
    nodes += [(Path(f"/dev/loop{number}"), stat.S_IFBLK, 7, number) for number in range(LOOP_DEVICES)]
    if not control.exists():
        for path, kind, major, minor in nodes:
            if not path.exists():
                os.mknod(path, 0o660 | kind, os.makedev(major, minor))


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if ran.returncode:
        raise LabError(f"{' '.join(command)}: {ran.stderr.strip()}")
