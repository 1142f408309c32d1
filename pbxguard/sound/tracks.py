"""From raw spool tracks to one stereo stream: the kept part of every segment, one after the other.

Owns reading and aligning, and which frames both sides were heard in; what is kept is decided when a segment is
closed. Gaps are cut out, not silenced: the manifest maps file offsets to UTC. Everything here blocks: call it in a
thread.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pbxguard.core.errors import StorageFailed

Stereo = NDArray[np.int16]
"""Shape (n, 2): own voice left, the others right."""
_BLOCK = 1 << 16
"""Samples read at once; an hour of audio is never in memory."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment's files and how many samples of them are kept, from the first on."""

    own: Path
    others: Path
    kept: int


class Joined:
    """The kept audio of several segments as one stream, and, once read to its end, what it held."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = tuple(pieces)
        self._hashes = (hashlib.sha256(), hashlib.sha256())
        self.kept: list[int] = []
        """Samples really taken of each piece: fewer than asked where a file was shorter or missing."""

    def blocks(self) -> Iterator[Stereo]:
        """Read once; 16-bit little-endian as Asterisk wrote it. Raises StorageFailed."""
        for piece in self._pieces:
            taken = 0
            with contextlib.ExitStack() as stack:
                files = [_open(stack, path) for path in (piece.own, piece.others)]
                while taken < piece.kept:
                    block = self._read(files, min(_BLOCK, piece.kept - taken))
                    if not len(block):
                        break
                    taken += len(block)
                    yield block
            self.kept.append(taken)

    def _read(self, files: Sequence[BinaryIO | None], samples: int) -> Stereo:
        try:
            raw = [file.read(samples * 2) if file is not None else b"" for file in files]
        except OSError as error:
            raise StorageFailed("a spool file cannot be read") from error
        count = min(len(track) // 2 for track in raw)
        block = np.empty((count, 2), dtype=np.int16)
        for column, track in enumerate(raw):
            pcm = track[: count * 2]
            self._hashes[column].update(pcm)
            block[:, column] = np.frombuffer(pcm, dtype="<i2")
        return block

    @property
    def samples(self) -> int:
        """In each track, over all pieces read so far."""
        return sum(self.kept)

    @property
    def own_sha256(self) -> str:
        """SHA-256 (hex) of the kept PCM of the own party's track: raw signed 16-bit little-endian."""
        return self._hashes[0].hexdigest()

    @property
    def others_sha256(self) -> str:
        """The same of the others' track."""
        return self._hashes[1].hexdigest()


def _open(stack: contextlib.ExitStack, path: Path) -> BinaryIO | None:
    try:
        return stack.enter_context(open(path, "rb"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed("a spool file cannot be opened") from error


def paced(own: Path, others: Path, samples: int, floor: int, frame: int) -> Iterator[bool]:
    """Of each frame of `frame` samples, the last first, whether both sides were heard in it.

    Looks at the first `samples` of both tracks, down to `floor`. Asterisk writes frame by frame from the file's start,
    and zeros for the side that sent none; a frame of which less is there than its whole counts as not heard. Raises
    StorageFailed.
    """
    block = max(_BLOCK // frame, 1)
    with contextlib.ExitStack() as stack:
        files = [_open(stack, path) for path in (own, others)]
        last = -(-samples // frame)
        while last * frame > floor:
            first = max(last - block, floor // frame)
            heard = np.ones(last - first, dtype=bool)
            for file in files:
                heard &= _heard(file, first, last, frame, samples)
            yield from (bool(one) for one in heard[::-1])
            last = first


def _heard(file: BinaryIO | None, first: int, last: int, frame: int, samples: int) -> NDArray[np.bool_]:
    whole = np.zeros((last - first) * frame, dtype=np.int16)
    if file is not None:
        try:
            file.seek(first * frame * 2)
            raw = file.read((min(last * frame, samples) - first * frame) * 2)
        except OSError as error:
            raise StorageFailed("a spool file cannot be read") from error
        count = len(raw) // 2
        whole[:count] = np.frombuffer(raw[: count * 2], dtype="<i2")
        whole[count - count % frame :] = 0
    return np.asarray(whole.reshape(-1, frame).any(axis=1), dtype=np.bool_)
