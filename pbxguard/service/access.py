"""What people may do with a sealed recording: take a copy, tell the outcome, have it destroyed.

Owns who may not: nobody gets a locked or destroyed one. Every copy is in the audit log, with who asked and why, before
it is made; a copy that then fails has left a line too many, never one too few.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import soundfile

from pbxguard.core.errors import Ambiguous, NotFound, Protected, StorageFailed, WrongUse
from pbxguard.core.ids import RecordingId
from pbxguard.core.records import AuditEntry, RecordingRow
from pbxguard.core.retention import Keep, Outcome, told
from pbxguard.fault_points import FaultPoint, reached

from .ports import Archive, Audit, Index
from .retention import DESTROYING, Certificate, Retention, manifest_path
from .verification import file_digest

EXPORTED, OUTCOME_SET = "recording.exported", "outcome.set"
MOST_REASON = 500
_BLOCK = 1 << 16

DisclosureText = Callable[[str, str], str]
"""(disclosure key, digest) -> the text that was spoken, or empty when it is not known any more. May block."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of one copy."""

    recording: str
    audio: Path
    manifest: Path
    disclosure: Path


@dataclass(frozen=True, slots=True)
class OutcomeSet:
    """An outcome, and what it means for how long the recording is kept."""

    recording: str
    outcome: str
    contract_end: str
    until: datetime | None
    """None: without end, or (with `destroyed_next`) at once."""
    destroyed_next: bool
    words: Mapping[str, str]
    """Language -> the due date in a sentence."""


class Access:
    """`utc` gives the present moment; `disclosure_text` the words behind a digest."""

    def __init__(
        self,
        *,
        index: Index,
        audit: Audit,
        archive: Archive,
        retention: Retention,
        utc: Callable[[], datetime],
        disclosure_text: DisclosureText = lambda key, digest: "",
    ) -> None:
        self._index, self._audit, self._archive, self._retention = index, audit, archive, retention
        self._utc = utc
        self._text = disclosure_text

    async def export(
        self, recording: RecordingId, *, reason: str, actor: str, wav: bool = False, directory: Path
    ) -> Exported:
        """Copy the sealed file (FLAC as it is, or as WAV) with its manifest and the disclosure into `directory`.

        Raises WrongUse (no reason, no folder, a file is in the way), NotFound, Protected (locked, destroyed),
        StorageFailed (the file is not what was sealed), AuditFailed (then nothing was copied).
        """
        reason, actor = one_line(reason, "a reason"), one_line(actor, "who asks")
        row = await self._index.recording(recording)
        await self._allow(row)
        suffix = "wav" if wav else "flac"
        made = Exported(
            row.id,
            directory / f"{row.id}.{suffix}",
            directory / f"{row.id}.json",
            directory / f"{row.id}.disclosure.txt",
        )
        await self._archive.threads.run(_check_target, directory, made)
        source = await self._archive.open_path(row.path)
        if await self._archive.threads.run(file_digest, source) != row.sha256:
            raise StorageFailed(f"the file of {row.id} is not what was sealed: `pbxguard recordings verify {row.id}`")
        try:
            manifest = await self._archive.open_path(manifest_path(row.path))
        except NotFound:
            raise StorageFailed(f"the manifest of {row.id} is not in the archive") from None
        data = {"reason": reason, "format": suffix, "sha256": row.sha256}
        reached(FaultPoint.EXPORT_ALLOWED)
        await self._audit.commit(AuditEntry(EXPORTED, self._utc(), actor=actor, recording=row.id, data=data))
        reached(FaultPoint.EXPORT_COMMITTED)
        sheet = await self._archive.threads.run(disclosure_sheet, row, self._text)
        await self._archive.threads.run(_copy_all, source, manifest, sheet, made, wav)
        return made

    async def destroy(
        self, recording: RecordingId, *, reason: str, actor: str, despite_lock: bool = False
    ) -> Certificate:
        """Destroy it now. Raises WrongUse, and as `Retention.destroy`."""
        reason, actor = one_line(reason, "a reason"), one_line(actor, "who asks")
        return await self._retention.destroy(
            recording, reason=reason, actor=actor, now=self._utc(), despite_lock=despite_lock
        )

    async def set_outcome(self, which: str, outcome: str, *, contract_end: str = "", actor: str) -> OutcomeSet:
        """Tell what came of a call, by recording id or a reference that fits exactly one recording.

        `contract_end` is an ISO date, for a contract only. Raises WrongUse, NotFound, Ambiguous, Protected.
        """
        actor = one_line(actor, "who tells")
        wanted = _outcome(outcome)
        end = _contract_end(contract_end, wanted)
        row = await self.which(which)
        if row.destroyed is not None:
            raise Protected(f"recording {row.id} was destroyed")
        data = {"outcome": wanted.value, "contract_end": end}
        await self._audit.commit(AuditEntry(OUTCOME_SET, self._utc(), actor=actor, recording=row.id, data=data))
        await self._index.set_outcome(row.id, wanted.value, end)
        decision = self._retention.decide(replace(row, outcome=wanted.value, contract_end=end), self._utc())
        return OutcomeSet(
            recording=row.id,
            outcome=wanted.value,
            contract_end=end,
            until=decision.until if isinstance(decision, Keep) else None,
            destroyed_next=not isinstance(decision, Keep),
            words={language: told(decision, language) for language in ("nl", "en")},
        )

    async def which(self, id_or_reference: str) -> RecordingRow:
        """The one recording of that id or reference. Raises NotFound, Ambiguous."""
        try:
            return await self._index.recording(RecordingId(id_or_reference))
        except NotFound:
            pass
        found = await self._index.find(reference=id_or_reference, limit=20) if id_or_reference else []
        if not found:
            raise NotFound("no recording has that id or reference")
        if len(found) > 1:
            raise Ambiguous(f"the reference fits {len(found)} recordings", tuple(row.id for row in found))
        return found[0]

    async def _allow(self, row: RecordingRow) -> None:
        if row.destroyed is not None:
            raise Protected(f"recording {row.id} was destroyed on {row.destroyed:%Y-%m-%d}")
        if row.locked:
            raise Protected(
                f"recording {row.id} is locked (art. 18 GDPR): nobody plays or copies it",
                "The privacy officer decides what becomes of it.",
            )
        if any(entry.kind == DESTROYING for entry in await self._audit.of_recording(row.id)):
            raise Protected(f"recording {row.id} is being destroyed")


def one_line(text: str, what: str) -> str:
    """A line for the audit log, as given by a person; raises WrongUse when it says nothing or is no line."""
    line = text.strip()
    if not line or len(line) > MOST_REASON or not line.isprintable():
        raise WrongUse(f"{what} is needed, in one line of at most {MOST_REASON} characters")
    return line


def disclosure_sheet(row: RecordingRow, text: DisclosureText) -> str:
    """What the other parties were told, and until when: the page beside a copy."""
    lines = [f"Recording {row.id}", f"Purposes: {', '.join(row.purposes)}", ""]
    for heard in row.manifest.get("told", ()):
        key, digest = str(heard.get("disclosure", "")), str(heard.get("digest", ""))
        lines += [
            f"Disclosure: {key}",
            f"Language and mode: {heard.get('language', '')}, {heard.get('mode', '')}",
            f"Heard to its end: {heard.get('ended_utc', '')}",
            f"Digest (SHA-256 of text and sounds): {digest}",
            f"Text: {text(key, digest) or '(kept with the prompts, under this digest)'}",
            "",
        ]
    return "\n".join(lines)


def _outcome(text: str) -> Outcome:
    names = [outcome.value for outcome in Outcome if outcome is not Outcome.UNDECIDED]
    if text not in names:
        raise WrongUse(f"an outcome is one of {', '.join(names)}")
    return Outcome(text)


def _contract_end(text: str, outcome: Outcome) -> str:
    if not text:
        return ""
    if outcome not in (Outcome.CONTRACT, Outcome.EXISTING_CONTRACT):
        raise WrongUse("only a contract has an end")
    try:
        end = date.fromisoformat(text)
    except ValueError:
        raise WrongUse("a contract's end is a date, e.g. 2027-06-30") from None
    if not 1990 <= end.year <= 2200:
        raise WrongUse("that contract's end is no date of our time")
    return end.isoformat()


def _check_target(directory: Path, made: Exported) -> None:
    if not directory.is_dir():
        raise WrongUse("the folder to export to does not exist")
    taken = [path.name for path in (made.audio, made.manifest, made.disclosure) if path.exists()]
    if taken:
        raise WrongUse(f"already in that folder: {', '.join(taken)}")


def _copy_all(source: Path, manifest: Path, sheet: str, made: Exported, wav: bool) -> None:
    """All three files, for their owner alone, or none."""
    begun: list[Path] = []

    def new(path: Path) -> int:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        begun.append(path)
        return handle

    reached(FaultPoint.EXPORT_COPYING)
    try:
        if wav:
            with os.fdopen(new(made.audio), "w+b") as sound:
                _write_wav(source, sound)
        else:
            with os.fdopen(new(made.audio), "wb") as target, open(source, "rb") as original:
                while block := original.read(_BLOCK):
                    target.write(block)
        reached(FaultPoint.EXPORT_AUDIO_COPIED)
        with os.fdopen(new(made.manifest), "wb") as target:
            target.write(manifest.read_bytes())
        reached(FaultPoint.EXPORT_MANIFEST_COPIED)
        with os.fdopen(new(made.disclosure), "w", encoding="utf-8", errors="replace") as page:
            page.write(sheet)
        reached(FaultPoint.EXPORT_COPIED)
    except (OSError, soundfile.LibsndfileError) as error:
        _take_back(begun)
        raise StorageFailed(f"the copy cannot be written: {type(error).__name__}") from error


def _take_back(begun: list[Path]) -> None:
    for path in begun:
        with contextlib.suppress(OSError):
            path.unlink()


def _write_wav(source: Path, target: Any) -> None:
    with soundfile.SoundFile(source) as original:
        rate, channels = original.samplerate, original.channels
        with soundfile.SoundFile(target, "w", rate, channels, "PCM_16", format="WAV") as copy:
            for block in original.blocks(_BLOCK, dtype="int16"):
                copy.write(block)


def row_json(row: RecordingRow) -> dict[str, Any]:
    """A row for programs: moments as ISO 8601."""
    return {
        "id": row.id,
        "node": row.node,
        "path": row.path,
        "purposes": list(row.purposes),
        "started": row.started.isoformat(),
        "ended": row.ended.isoformat(),
        "duration_ms": row.duration_ms,
        "external_number": row.external_number,
        "other_numbers": list(row.other_numbers),
        "own_number": row.own_number,
        "own_endpoint": row.own_endpoint,
        "queue": row.queue,
        "direction": row.direction,
        "reference": row.reference,
        "language": row.language,
        "call": row.call,
        "uniqueid": row.uniqueid,
        "linkedid": row.linkedid,
        "sha256": row.sha256,
        "outcome": row.outcome,
        "contract_end": row.contract_end,
        "locked": row.locked,
        "lock_until": row.lock_until.isoformat() if row.lock_until else None,
        "written_acceptance_required": row.written_acceptance_required,
        "destroyed": row.destroyed.isoformat() if row.destroyed else None,
        "manifest": json.loads(json.dumps(dict(row.manifest))),
    }
