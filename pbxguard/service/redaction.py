"""A span cut out of a sealed recording for good: "forgot to pause".

Owns the order of the steps. A line that it begins, with all that is needed to end it (``recording.redacting``) and no
file's name, which may show a number; the new file and its manifest beside the old ones; the index names the new ones
instead; all others of the recording go; a certificate without content (``recording.redacted``). A crash between any two
leaves what the next redaction or sweep ends. Whoever looks finds the old recording whole, or the new one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import soundfile

from pbxguard.core.errors import NotFound, Protected, StorageFailed
from pbxguard.core.ids import RecordingId
from pbxguard.core.manifest import SealedFile, canonical
from pbxguard.core.records import AuditEntry, RecordingRow
from pbxguard.core.redaction import Redaction, Span, manifest_without, span_of
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.logs import Event, get_logger
from pbxguard.sound.flac import encode, read_tags, sha256, write_tags

from .ports import Archive, Audit, Index

REDACTING, REDACTED = "recording.redacting", "recording.redacted"
DESTROYING = "recording.destroying"
_BLOCK = 1 << 16

_log = get_logger()


class RedactedAudit(Audit, Protocol):
    async def half_redacted(self) -> Sequence[RecordingId]:
        """Recordings with more ``recording.redacting`` than ``recording.redacted``."""


class RedactedIndex(Index, Protocol):
    async def replace_file(self, old_sha256: str, row: RecordingRow) -> bool:
        """Path, digest, length and manifest of `row` instead of those with the old digest; False when the recording
        does not have that digest, or is destroyed."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """What was cut, or would be. Seconds are of the file as it was."""

    recording: str
    dry_run: bool
    from_s: float
    to_s: float
    seconds_left: float
    reason: str
    actor: str
    old_sha256: str
    sha256: str = ""
    path: str = ""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Redactions:
    """`redact` cuts; `finish_all` ends what a crash left half done."""

    def __init__(self, *, index: RedactedIndex, audit: RedactedAudit, archive: Archive) -> None:
        self._index, self._audit, self._archive = index, audit, archive
        self._alone = asyncio.Lock()

    async def redact(
        self,
        recording: RecordingId,
        begin_s: float,
        end_s: float,
        *,
        reason: str,
        actor: str,
        now: datetime,
        dry_run: bool = False,
    ) -> Redacted:
        """Cut from `begin_s` to `end_s`, in seconds of the file as it is now.

        `reason` is kept for ever and must hold nothing personal. Raises WrongUse (no such span), NotFound, Protected
        (locked, destroyed, being destroyed), StorageFailed (the file is not what was sealed), AuditFailed.
        """
        async with self._alone:
            await self._finish(recording, now)
            row = await self._index.recording(recording)
            await self._allow(row)
            file = row.manifest["file"]
            span = span_of(begin_s, end_s, int(file["rate"]), int(file["samples"]))
            rate = int(file["rate"])
            told = Redacted(
                recording=row.id,
                dry_run=dry_run,
                from_s=span.begin / rate,
                to_s=span.end / rate,
                seconds_left=(int(file["samples"]) - span.samples) / rate,
                reason=reason,
                actor=actor,
                old_sha256=row.sha256,
            )
            if dry_run:
                return told
            source = await self._archive.open_path(row.path)
            if await self._archive.threads.run(sha256, source) != row.sha256:
                raise StorageFailed(
                    f"the file of {row.id} is not what was sealed: `pbxguard recordings verify {row.id}`"
                )
            await self._begin(row, span, reason, actor, now)
            await self._finish(recording, now)
            made = await self._index.recording(recording)
            return replace(told, sha256=made.sha256, path=made.path)

    async def finish_all(self, now: datetime) -> tuple[tuple[str, str], ...]:
        """End what was begun; (recording, why) of those that could not be ended: the next time tries again."""
        failed: list[tuple[str, str]] = []
        async with self._alone:
            for recording in await self._audit.half_redacted():
                try:
                    await self._finish(recording, now)
                except (StorageFailed, NotFound, Protected) as error:
                    failed.append((recording, str(error)))
                    _log.error(Event.REDACTION_FAILED, recording=recording, reason=error.code)
        return tuple(failed)

    async def _allow(self, row: RecordingRow) -> None:
        if row.destroyed is not None:
            raise Protected(f"recording {row.id} was destroyed")
        if row.locked:
            raise Protected(
                f"recording {row.id} is locked (art. 18 GDPR): nobody changes it",
                "The privacy officer decides what becomes of it.",
            )
        if any(entry.kind == DESTROYING for entry in await self._audit.of_recording(row.id)):
            raise Protected(f"recording {row.id} is being destroyed")

    async def _begin(self, row: RecordingRow, span: Span, reason: str, actor: str, now: datetime) -> None:
        data = {
            "from_sample": span.begin,
            "to_sample": span.end,
            "rate": int(row.manifest["file"]["rate"]),
            "reason": reason,
            "sha256": row.sha256,
            "manifest_sha256": hashlib.sha256(canonical(dict(row.manifest))).hexdigest(),
            "folder": str(PurePosixPath(row.path).parent),
            "number": len(row.manifest.get("redactions", ())) + 1,
        }
        reached(FaultPoint.REDACTION_DECIDED)
        await self._audit.commit(AuditEntry(REDACTING, now, actor=actor, recording=row.id, data=data))
        reached(FaultPoint.REDACTION_BEGUN)

    async def _finish(self, recording: RecordingId, now: datetime) -> None:
        """From the line that it begins to the certificate; each step may have been done before."""
        entries = await self._audit.of_recording(recording)
        begun = [entry for entry in entries if entry.kind == REDACTING]
        if len(begun) == len([entry for entry in entries if entry.kind == REDACTED]):
            return
        line = begun[-1]
        data = _begun(line)
        row = await self._index.recording(recording)
        made = row
        if row.destroyed is None and row.sha256 == data["sha256"]:
            made = await self._make(row, line, data)
        folder = str(data["folder"])
        if row.destroyed is not None:
            await self._archive.clear(folder, recording)
        else:  # the old file and its manifest, and what the new one was made from
            for path in await self._archive.names(folder, recording):
                if path not in (made.path, _manifest(made.path)):
                    await self._archive.remove(path)
        certificate = {**data, "destroyed": row.destroyed is not None, "new_sha256": made.sha256}
        reached(FaultPoint.REDACTION_DONE)
        await self._audit.commit(AuditEntry(REDACTED, now, actor=line.actor, recording=recording, data=certificate))
        reached(FaultPoint.REDACTION_CERTIFIED)
        _log.info(Event.RECORDING_REDACTED, recording=recording)

    async def _make(self, row: RecordingRow, line: AuditEntry, data: dict[str, Any]) -> RecordingRow:
        """The new file and manifest in the archive, and in the index instead of the old ones."""
        new = _numbered(row.path, int(data["number"]))
        work, span = _work(row.path, row.id), Span(int(data["from_sample"]), int(data["to_sample"]))
        for path in (new, _manifest(new), work):  # of an earlier attempt, perhaps by another version
            await self._archive.remove(path)
        source = await self._archive.open_path(row.path)
        target = source.parent / PurePosixPath(work).name
        file = await self._archive.threads.run(_cut, source, target, PurePosixPath(new).name, span)
        cut = Redaction(span, str(data["reason"]), line.actor, line.at, row.sha256, str(data["manifest_sha256"]))
        manifest = manifest_without(row.manifest, cut, file)
        await self._archive.put(new, target)
        await self._archive.put_bytes(_manifest(new), canonical(manifest))
        made = replace(
            row,
            path=new,
            sha256=file.sha256,
            duration_ms=file.samples * 1000 // file.rate,
            manifest=manifest,
        )
        if not await self._index.replace_file(row.sha256, made):
            raise Protected(f"recording {row.id} was changed meanwhile")
        return made


def _begun(line: AuditEntry) -> dict[str, Any]:
    """What the line holds of it. One of an earlier version had the file's path, which may show a number: for ever."""
    data = dict(line.data or {})
    if "path" in data:
        data["folder"] = str(PurePosixPath(data.pop("path")).parent)
    return data


def _manifest(path: str) -> str:
    return path.removesuffix(".flac") + ".json"


def _numbered(path: str, number: int) -> str:
    """``..._<id>.flac`` -> ``..._<id>.r1.flac``, and so on: a file's name is never given twice."""
    stem = path.removesuffix(".flac")
    if number > 1:
        stem = stem.removesuffix(f".r{number - 1}")
    return f"{stem}.r{number}.flac"


def _work(path: str, recording: str) -> str:
    """Where the new file is made: in the same folder, under a name that no recording has."""
    return f"{PurePosixPath(path).parent}/redact_{recording}.part"


def _cut(source: Path, target: Path, name: str, span: Span) -> SealedFile:
    """In a thread: the file without the span, tags and all."""
    tracks = (hashlib.sha256(), hashlib.sha256())

    def left() -> Iterator[Any]:
        place = 0
        with soundfile.SoundFile(source) as file:
            for block in file.blocks(_BLOCK, dtype="int16", always_2d=True):
                at = np.arange(place, place + len(block))
                place += len(block)
                kept = np.ascontiguousarray(block[(at < span.begin) | (at >= span.end)], dtype="<i2")
                for channel, one in enumerate(tracks):
                    one.update(np.ascontiguousarray(kept[:, channel]).tobytes())
                if len(kept):
                    yield kept

    try:
        with soundfile.SoundFile(source) as file:
            rate = file.samplerate
        samples = encode(target, left(), rate)
    except soundfile.LibsndfileError as error:
        raise StorageFailed("the file cannot be decoded") from error
    write_tags(target, [*read_tags(source), ("REDACTED", f"{span.samples / rate:.3f} s")])
    return SealedFile(name, sha256(target), samples, rate, tracks[0].hexdigest(), tracks[1].hexdigest())
