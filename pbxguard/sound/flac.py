"""Lossless FLAC through libsndfile, and the Vorbis comments in it, written by us.

The comment block follows RFC 9639 section 8.6 (the licence of the usual library does not suit us); it is checked
with `metaflac` and `flac -t`. The same audio, tags and libraries give the same bytes, so that sealing can be repeated.
Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import soundfile

from pbxguard.core.errors import StorageFailed
from pbxguard.fault_points import FaultPoint, reached

from .tracks import Stereo

Tag = tuple[str, str]
VENDOR = "pbxguard"
_MAGIC = b"fLaC"
_STREAMINFO, _PADDING, _COMMENT = 0, 1, 4
_LAST = 0x80
_MAX_BLOCK = (1 << 24) - 1
_MAX_HEADER = 64


def encode(target: Path, blocks: Iterable[Stereo], rate: int) -> int:
    """Write a stereo 16-bit FLAC file and give its samples (in each channel); raises StorageFailed."""
    samples = 0
    reached(FaultPoint.ENCODING)
    try:
        with soundfile.SoundFile(
            target, "w", samplerate=rate, channels=2, format="FLAC", subtype="PCM_16", compression_level=0.5
        ) as file:
            for block in blocks:
                file.write(block)
                samples += len(block)
    except (OSError, soundfile.LibsndfileError) as error:
        raise StorageFailed("the FLAC file cannot be written") from error
    reached(FaultPoint.ENCODED)
    return samples


def write_tags(path: Path, tags: Sequence[Tag]) -> None:
    """Replace the file's Vorbis comments by `tags`, in their order; all other blocks and the audio stay as they are.

    Names are ASCII from 0x20 to 0x7D without ``=``; values any text (control characters become spaces). Raises
    ValueError for another name, StorageFailed for what is no FLAC file or too long. Whole or untouched.
    """
    comment = _comment_block(tags)
    part = tags_part(path)
    reached(FaultPoint.TAGGING)
    try:
        with open(path, "rb") as source, open(part, "wb") as target:
            kept = [(kind, body) for kind, body in _blocks(source) if kind not in (_COMMENT, _PADDING)]
            if not kept or kept[0][0] != _STREAMINFO:
                raise StorageFailed("not a FLAC file: STREAMINFO is not its first block")
            ordered = [kept[0], (_COMMENT, comment), *kept[1:]]
            if len(ordered) > _MAX_HEADER:
                raise StorageFailed("not a FLAC file: its header has no end")
            target.write(_MAGIC)
            for number, (kind, body) in enumerate(ordered):
                flag = _LAST if number == len(ordered) - 1 else 0
                target.write(bytes([kind | flag]) + len(body).to_bytes(3, "big") + body)
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            reached(FaultPoint.TAGS_WRITTEN)
            os.fsync(target.fileno())
        reached(FaultPoint.TAGS_SYNCED)
        os.replace(part, path)
        reached(FaultPoint.TAGS_IN_PLACE)
    except OSError as error:
        raise StorageFailed("the tags cannot be written") from error
    finally:
        part.unlink(missing_ok=True)
    reached(FaultPoint.TAGGED)


def tags_part(path: Path) -> Path:
    """Where `write_tags` makes the tagged file, beside the file itself."""
    return path.with_name(path.name + ".tags")


def read_tags(path: Path) -> list[Tag]:
    """The file's Vorbis comments in their order, names in upper case; raises StorageFailed."""
    try:
        with open(path, "rb") as source:
            bodies = [body for kind, body in _blocks(source) if kind == _COMMENT]
    except OSError as error:
        raise StorageFailed("the tags cannot be read") from error
    return _parse_comment(bodies[0]) if bodies else []


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageFailed("a file cannot be read") from error


def _blocks(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The metadata blocks (RFC 9639 section 8.1); leaves the file at the first audio frame."""
    if source.read(4) != _MAGIC:
        raise StorageFailed("not a FLAC file")
    for _ in range(_MAX_HEADER):
        head = source.read(4)
        if len(head) != 4:
            raise StorageFailed("not a FLAC file: it ends in its header")
        length = int.from_bytes(head[1:], "big")
        body = source.read(length)
        if len(body) != length:
            raise StorageFailed("not a FLAC file: it ends in its header")
        yield head[0] & 0x7F, body
        if head[0] & _LAST:
            return
    raise StorageFailed("not a FLAC file: its header does not end")


def _comment_block(tags: Sequence[Tag]) -> bytes:
    parts = [_field(VENDOR), struct.pack("<I", len(tags))]
    for name, value in tags:
        if not name or not all(0x20 <= ord(letter) <= 0x7D and letter != "=" for letter in name):
            raise ValueError("not a tag's name")
        clean = "".join(letter if letter.isprintable() else " " for letter in value)
        parts.append(_field(f"{name}={clean}"))
    block = b"".join(parts)
    if len(block) > _MAX_BLOCK:
        raise StorageFailed("the tags are too long for a FLAC file")
    return block


def _field(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return struct.pack("<I", len(raw)) + raw


def _parse_comment(block: bytes) -> list[Tag]:
    try:
        (length,) = struct.unpack_from("<I", block, 0)
        place = 4 + length
        (count,) = struct.unpack_from("<I", block, place)
        place += 4
        tags: list[Tag] = []
        for _ in range(count):
            (length,) = struct.unpack_from("<I", block, place)
            raw = block[place + 4 : place + 4 + length]
            if len(raw) != length:
                raise StorageFailed("the tags are broken")
            name, _, value = raw.decode("utf-8", "replace").partition("=")
            tags.append((name.upper(), value))
            place += 4 + length
    except struct.error as error:
        raise StorageFailed("the tags are broken") from error
    return tags
