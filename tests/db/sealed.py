"""A small sealed recording as sealing leaves it: FLAC with two voices, manifest beside it, row in the index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pbxguard.archive.files import FileArchive
from pbxguard.core.records import RecordingRow
from pbxguard.db.index import SqlIndex
from pbxguard.service.retention import manifest_path

from .rows import recording

RATE = 8000


def voices(seconds: float = 0.5) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Own voice left (400 Hz), the others' right (1000 Hz)."""
    time = np.arange(int(RATE * seconds)) / RATE
    both = [np.sin(2 * np.pi * hertz * time) * 8000 for hertz in (400, 1000)]
    return np.stack(both, axis=1).astype("<i2")


async def seal(
    index: SqlIndex, archive: FileArchive, work: Path, id: str, *, heard: str = "d1" * 32, **changes: Any
) -> RecordingRow:
    """Put one into archive and index; `heard` is the digest of the disclosure."""
    sound = voices()
    source = work / f"{id}.flac"
    soundfile.write(source, sound, RATE, subtype="PCM_16")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    track = [hashlib.sha256(sound[:, channel].tobytes()).hexdigest() for channel in (0, 1)]
    manifest = {
        "recording": id,
        "call": {"caller_id": "+31201234567"},
        "told": [
            {
                "channel": "1.1",
                "disclosure": "contract_evidence.nl.notice.inbound",
                "language": "nl",
                "mode": "notice",
                "digest": heard,
                "ended_utc": "2026-03-02T11:59:58Z",
                "consented": [],
            }
        ],
        "file": {"sha256": digest, "samples": len(sound), "rate": RATE},
        "tracks": {
            "own": {"channel": "left", "pcm_sha256": track[0]},
            "others": {"channel": "right", "pcm_sha256": track[1]},
        },
    }
    row = recording(id, sha256=digest, manifest=manifest, **changes)
    await archive.put(row.path, source)
    await archive.put_bytes(manifest_path(row.path), json.dumps(manifest).encode())
    await index.add_recording(row)
    source.unlink()
    return row
