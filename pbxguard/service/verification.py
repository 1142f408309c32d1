"""Is a sealed recording still what was sealed? Compares file, manifest and index.

A hash proves "unchanged since it was sealed", not who spoke. Signatures come with the manifest's signing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pbxguard.core.errors import NotFound, StorageFailed
from pbxguard.core.records import RecordingRow

from .ports import Archive
from .retention import manifest_path

_BLOCK = 1 << 16
_CHANNELS = {"left": 0, "right": 1}


@dataclass(frozen=True, slots=True)
class Verified:
    """`problems` are stable codes; empty when everything agrees."""

    recording: str
    problems: tuple[str, ...]


PROBLEMS = {
    "file_missing": "the file is not in the archive",
    "file_changed": "the file is not the one that was sealed (SHA-256)",
    "file_unreadable": "the file cannot be decoded",
    "manifest_missing": "the manifest is not in the archive",
    "manifest_changed": "the manifest in the archive is not the one in the index",
    "manifest_disagrees": "manifest and index name different digests",
    "samples_disagree": "the file has another length than the manifest says",
    "own_changed": "the own party's track is not what was kept (SHA-256)",
    "others_changed": "the others' track is not what was kept (SHA-256)",
}
"""Each problem in plain words."""


async def verify(row: RecordingRow, archive: Archive) -> Verified:
    """Compare the recording's file with its manifest, and both with the index. Raises StorageFailed for the disk."""
    problems: list[str] = []
    try:
        manifest = await archive.open_path(manifest_path(row.path))
        problems += await archive.threads.run(_verify_manifest, row, manifest)
    except NotFound:
        problems.append("manifest_missing")
    try:
        file = await archive.open_path(row.path)
        problems += await archive.threads.run(_verify_file, row, file)
    except NotFound:
        problems.append("file_missing")
    return Verified(row.id, tuple(problems))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageFailed(f"a file cannot be read: {type(error).__name__}") from error


def _verify_manifest(row: RecordingRow, path: Path) -> list[str]:
    try:
        stored = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ["manifest_changed"]
    except OSError as error:
        raise StorageFailed(f"a manifest cannot be read: {type(error).__name__}") from error
    problems = [] if stored == dict(row.manifest) else ["manifest_changed"]
    if row.manifest.get("file", {}).get("sha256") != row.sha256:
        problems.append("manifest_disagrees")
    return problems


def _verify_file(row: RecordingRow, path: Path) -> list[str]:
    problems = [] if file_digest(path) == row.sha256 else ["file_changed"]
    wanted, samples = row.manifest.get("tracks", {}), row.manifest.get("file", {}).get("samples")
    try:
        digests, found = _track_digests(path)
    except soundfile.LibsndfileError:
        return [*problems, "file_unreadable"]
    if found != samples:
        problems.append("samples_disagree")
    for track in ("own", "others"):
        told = wanted.get(track, {})
        place = _CHANNELS.get(str(told.get("channel")), -1)
        if not 0 <= place < len(digests) or digests[place] != told.get("pcm_sha256"):
            problems.append(f"{track}_changed")
    return problems


def _track_digests(path: Path) -> tuple[list[str], int]:
    """SHA-256 of each channel as raw signed 16-bit little-endian, and the number of samples."""
    samples = 0
    with soundfile.SoundFile(path) as file:
        hashes = [hashlib.sha256() for _ in range(file.channels)]
        for block in file.blocks(_BLOCK, dtype="int16", always_2d=True):
            samples += len(block)
            for channel, one in enumerate(hashes):
                one.update(np.ascontiguousarray(block[:, channel], dtype="<i2").tobytes())
    return [one.hexdigest() for one in hashes], samples
