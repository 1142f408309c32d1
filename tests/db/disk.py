"""A disk rebuilt from a log of system calls, and what a power cut may leave of it at any moment.

Owns a model of a file system that promises no more than POSIX: a file's bytes are on disk once it was fsynced, its name
once its folder was. `record` runs a program under strace; `Disk` takes its calls one after the other.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from pathlib import Path

CALLS = (
    "openat,open,creat,close,dup,dup2,dup3,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,"
    "linkat,symlink,symlinkat,utimensat,copy_file_range,sendfile,splice"
)
UNKNOWN = {"writev", "pwritev", "pwritev2", "link", "linkat", "symlink", "symlinkat", "dup", "dup2", "dup3"}
UNKNOWN |= {"copy_file_range", "sendfile", "splice", "sync", "syncfs", "sync_file_range", "fallocate", "rmdir"}
"""What the model does not know: on the disk that it rebuilds, none of these may come."""

_LINE = re.compile(r"^(?:\[pid +)?(\d+)\]? +(\d+\.\d+) (.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that ended: name, arguments as strace writes them, result, and when (wall clock)."""

    name: str
    arguments: tuple[str, ...]
    result: int
    at: float


def record(program: Sequence[str], log: Path, environment: Mapping[str, str]) -> list[Call]:
    """Run a program under strace; its calls in the order in which they ended."""
    command = ["strace", "-f", "-ttt", "-xx", "-s", "100000000", "-o", str(log), "-e", f"trace={CALLS}", *program]
    ran = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr[-4000:]
    with log.open(errors="replace") as lines:
        return list(parsed(lines))


def parsed(lines: Iterator[str]) -> Iterator[Call]:
    """Of a log of `strace -f -ttt -xx`."""
    begun: dict[str, str] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        pid, at, text = match.groups()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<..."):
            text = begun.pop(pid) + text.partition("resumed>")[2]
        call = _CALL.match(text)
        if call is not None and call[3] != "?":
            yield Call(call[1], _arguments(call[2]), int(call[3]), float(at))


def _arguments(text: str) -> tuple[str, ...]:
    """Split at commas outside of braces; strings are hexadecimal, so that no comma stands in them."""
    found, depth, begin = [], 0, 0
    for place, letter in enumerate(text) if "{" in text or "[" in text else ():
        depth += letter in "[{"
        depth -= letter in "]}"
        if letter == "," and depth == 0:
            found.append(text[begin:place].strip())
            begin = place + 1
    return (
        tuple([*found, *(part.strip() for part in text[begin:].split(","))])
        if not found
        else (
            *found,
            text[begin:].strip(),
        )
    )


def _bytes(argument: str) -> bytes:
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


@dataclass(eq=False, slots=True)
class File:
    """An inode; `synced` is what was last brought to disk."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    mtime: float = 0.0


@dataclass(eq=False, slots=True)
class Folder:
    """`synced` are the names that are on disk."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)


class Names(Enum):
    """What a power cut leaves of names that were not synced."""

    LOST = "lost"
    KEPT = "kept"


class Data(Enum):
    """What it leaves of bytes that were not synced."""

    LOST = "lost"
    ZERO = "zero"
    KEPT = "kept"


VARIANTS = tuple(product(Names, Data))
Image = dict[str, tuple[bytes, float] | None]
"""Path -> bytes and mtime of a file, None for a folder."""


class Disk:
    """The part of the file system below `root`, all of it on disk when this is made. One process; threads share its
    descriptors."""

    def __init__(self, root: Path, started: Path) -> None:
        """`started`: a folder with what lies below `root` at first."""
        self._root = str(root)
        self._top = Folder()
        self._open: dict[int, tuple[File | Folder, int, bool]] = {}
        """Descriptor -> (what, offset, whether it appends)."""
        self._opened_as: dict[int, str] = {}
        for path in sorted(started.rglob("*")):
            name = path.relative_to(started).as_posix()
            folder, last = self._place(f"{self._root}/{name}")
            data = b"" if path.is_dir() else path.read_bytes()
            made = Folder() if path.is_dir() else File(bytearray(data), data, path.stat().st_mtime)
            folder.names[last] = folder.synced[last] = made

    def take(self, call: Call) -> bool:
        """One call; whether it changed the disk or what is sure to be on it."""
        if call.result < 0:
            return False
        name, arguments = call.name, call.arguments
        if name in UNKNOWN:
            assert not self._touches(arguments), f"the model does not know {name}"
            return False
        if name in ("openat", "open", "creat"):
            return self._opened(call)
        if name in ("close", "write", "pwrite64", "lseek", "ftruncate", "fsync", "fdatasync"):
            return self._on_descriptor(call)
        if name in ("rename", "renameat", "renameat2"):
            source, target = self._paths(arguments)
            return self._rename(source, target)
        (path, *_) = self._paths(arguments) or [""]
        if not self._below(path):
            return False
        folder, last = self._place(path)
        if name in ("unlink", "unlinkat"):
            del folder.names[last]
        elif name in ("mkdir", "mkdirat"):
            folder.names[last] = Folder()
        elif name == "truncate":
            self._truncate(folder.names[last], int(arguments[1]), call.at)
        elif name == "utimensat":
            found = folder.names[last]
            seconds = re.findall(r"tv_sec=(\d+)", call.arguments[2])
            nanos = re.findall(r"tv_nsec=(\d+)", call.arguments[2])
            if isinstance(found, File) and seconds:
                found.mtime = int(seconds[1]) + int(nanos[1]) / 1e9
        return True

    def image(self, names: Names, data: Data) -> Image:
        """What is there after a power cut now."""
        found: Image = {}
        self._collect(self._top, "", names, data, found)
        return found

    def path_of(self, call: Call) -> str:
        """Of a call on a descriptor: under which path, below the root, that was opened; empty for another's."""
        handle = int(call.arguments[0])
        return self._opened_as[handle].removeprefix(self._root + "/") if handle in self._open else ""

    def current(self, path: str) -> bytes:
        """Bytes of a file now, as its readers see it; empty when it is not there."""
        folder, last = self._place(f"{self._root}/{path}")
        file = folder.names.get(last)
        return bytes(file.data) if isinstance(file, File) else b""

    # -- calls -------------------------------------------------------------------------------------------------------

    def _opened(self, call: Call) -> bool:
        (path, *_) = self._paths(call.arguments) or [""]
        self._open.pop(call.result, None)
        if not self._below(path) and path != self._root:
            return False
        self._opened_as[call.result] = path
        flags = next((argument for argument in call.arguments if "O_" in argument), "O_CREAT|O_TRUNC")
        if path == self._root:
            self._open[call.result] = (self._top, 0, False)
            return False
        folder, last = self._place(path)
        changed = False
        if last not in folder.names:
            assert "O_CREAT" in flags, path
            folder.names[last] = File(mtime=call.at)
            changed = True
        found = folder.names[last]
        if "O_TRUNC" in flags and isinstance(found, File) and found.data:
            self._truncate(found, 0, call.at)
            changed = True
        self._open[call.result] = (found, 0, "O_APPEND" in flags)
        return changed

    def _on_descriptor(self, call: Call) -> bool:
        handle = int(call.arguments[0])
        if handle not in self._open:
            return False
        what, offset, appends = self._open[handle]
        if call.name == "close":
            del self._open[handle]
            return False
        if call.name in ("fsync", "fdatasync"):
            if isinstance(what, Folder):
                what.synced = dict(what.names)
            else:
                what.synced = bytes(what.data)
            return True
        assert isinstance(what, File)
        if call.name == "lseek":
            self._open[handle] = (what, call.result, appends)
            return False
        if call.name == "ftruncate":
            self._truncate(what, int(call.arguments[1]), call.at)
            return True
        written = _bytes(call.arguments[1])[: call.result]
        place = len(what.data) if appends else offset if call.name == "write" else int(call.arguments[3])
        if len(what.data) < place:
            what.data.extend(bytes(place - len(what.data)))
        what.data[place : place + len(written)] = written
        what.mtime = call.at
        if call.name == "write":
            self._open[handle] = (what, place + len(written), appends)
        return True

    def _rename(self, source: str, target: str) -> bool:
        if not (self._below(source) and self._below(target)):
            assert not self._below(source), "renamed out of the disk"
            assert not self._below(target), "renamed into the disk"
            return False
        folder, last = self._place(source)
        moved = folder.names.pop(last)
        folder, last = self._place(target)
        folder.names[last] = moved
        return True

    @staticmethod
    def _truncate(what: File | Folder, size: int, at: float) -> None:
        assert isinstance(what, File)
        del what.data[size:]
        what.data.extend(bytes(size - len(what.data)))
        what.mtime = at

    # -- places ------------------------------------------------------------------------------------------------------

    def _below(self, path: str) -> bool:
        return path.startswith(self._root + "/")

    def _paths(self, arguments: Sequence[str]) -> list[str]:
        return [os.path.normpath(_bytes(a).decode()) for a in arguments if a.startswith('"') and a.endswith('"')]

    def _touches(self, arguments: Sequence[str]) -> bool:
        return any(self._below(path) for path in self._paths(arguments)) or any(
            argument.isdigit() and int(argument) in self._open for argument in arguments[:1]
        )

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, last = path.removeprefix(self._root + "/").split("/")
        folder = self._top
        for name in above:
            found = folder.names[name]
            assert isinstance(found, Folder)
            folder = found
        return folder, last

    def _collect(self, folder: Folder, path: str, names: Names, data: Data, found: Image) -> None:
        for name, what in (folder.names if names is Names.KEPT else folder.synced).items():
            if isinstance(what, Folder):
                found[path + name] = None
                self._collect(what, f"{path}{name}/", names, data, found)
            elif data is Data.KEPT:
                found[path + name] = (bytes(what.data), what.mtime)
            elif data is Data.LOST:
                found[path + name] = (what.synced, what.mtime)
            else:
                longer = len(what.data) - len(what.synced)
                found[path + name] = (what.synced + bytes(max(0, longer)), what.mtime)
