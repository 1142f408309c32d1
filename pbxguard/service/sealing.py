"""From cut segments to one sealed file: join, encode, tag, hash, archive, index, erase.

Owns the order of the steps. Each can be repeated: a recording is sealed once however often it is asked for, and a
crash between any two steps loses nothing, because the spool goes only after the index has the recording, and the audit
line ``recording.sealed`` comes last. It is sealed whole: while a segment of it is not closed, it waits. What is sealed
depends on no clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pbxguard import __version__
from pbxguard.archive.files import CallerIdStyle, day_folder, stem
from pbxguard.archive.spool import Spool
from pbxguard.core.commands import CallOutcome
from pbxguard.core.defaults import CONTRACT_EVIDENCE
from pbxguard.core.errors import NotFound, SegmentsOpen, StorageFailed
from pbxguard.core.facts import MarkedPrivate
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.core.manifest import Objection, SealedFile, Sealing, build, canonical, tags
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, OnObjection
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import BOUND, fact_of
from pbxguard.core.segments import CLOSED, PERMITTED
from pbxguard.core.segments import ClosedSegment as ClosedSegment
from pbxguard.core.segments import OpenSegment as OpenSegment
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.sound.flac import encode, sha256, tags_part, write_tags
from pbxguard.sound.tracks import Joined, Piece

from .ports import Archive, Audit, AuditEntry, Clock, Index, RecordingRow

SEALED, EMPTY, DESTROYED = "recording.sealed", "recording.empty", "recording.destroyed"
LOCK_DAYS = 14
"""How long the privacy officer has to decide about a disputed recording (LAW.md 4)."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One sealed file in the work folder, with its manifest."""

    sealing: Sealing
    work: Path
    relative: str
    sha256: str
    samples: int
    manifest: dict[str, Any]


class Sealer:
    """Seals recordings. `policy` gives the present policy; `work` is a folder of ours on the archive's disk, for files
    on their way."""

    def __init__(
        self,
        *,
        spool: Spool,
        archive: Archive,
        index: Index,
        audit: Audit,
        clock: Clock,
        policy: Callable[[], Policy],
        node: str,
        work: Path,
        caller_id: CallerIdStyle = CallerIdStyle.PLAIN,
        version: str = __version__,
    ) -> None:
        self._spool, self._archive, self._index, self._audit = spool, archive, index, audit
        self._clock, self._policy = clock, policy
        self._node, self._work, self._caller_id, self._version = node, work, caller_id, version
        self._locks: dict[RecordingId, tuple[asyncio.Lock, int]] = {}

    async def seal(
        self,
        recording: RecordingId,
        outcome: CallOutcome,
        segments: Sequence[ClosedSegment] = (),
        *,
        lock: bool = False,
        never: Collection[SegmentId] = (),
    ) -> RecordingRow | None:
        """Seal what was kept into one file, once; None when nothing was, or when it is destroyed.

        Segments that the audit log knows and the caller does not are added, so that after a restart nothing need be
        given. `lock`: it is disputed, nobody plays it before the officer decides. `never`: segments whose recorder was
        never asked for, whatever the audit log says. Raises SegmentsOpen, StorageFailed, AuditFailed; then the spool
        still has everything and the same call may be made again.
        """
        async with self._alone(recording):
            entries = await self._audit.of_recording(recording)
            ordered = _all_segments(segments, entries)
            waiting = _still_open(entries, {*never, *(segment.segment for segment in ordered)})
            openings = [*(segment.opening for segment in ordered), *waiting]
            done = {entry.kind for entry in entries}
            said = await self._said(openings)
            objections = _objections(said)
            effects = self._effects(openings, objections)
            row = await self._indexed(recording)
            permitted = {name for opening in openings for name in opening.purposes}
            all_destroy = set(effects) == permitted and set(effects.values()) == {OnObjection.DESTROY}
            # What is in the index is destroyed by `Retention`, which knows of the row.
            private = any(isinstance(fact := fact_of(entry), MarkedPrivate) and fact.late for entry in said)
            if row is None and DESTROYED not in done and (private or all_destroy or any(s.destroy for s in ordered)):
                await self._destroy(recording, ordered, Reason.MARKED_PRIVATE if private else Reason.OBJECTED)
                done.add(DESTROYED)
            if done & {DESTROYED, EMPTY}:
                await self._erase(recording, ordered, whole=DESTROYED in done)
                return None
            if row is None and waiting:
                raise SegmentsOpen(f"{len(waiting)} segments are not closed yet")
            if row is None:
                lock = lock or OnObjection.LOCK in effects.values() or any(s.lock for s in ordered)
                row = await self._seal(outcome, ordered, lock, objections, frozenset(effects))
            await self._erase(recording, ordered)
            if row is None:
                lost = sum(segment.kept_ms for segment in ordered)
                await self._note(EMPTY, recording, outcome.call, ordered, {"lost_ms": lost})
            elif SEALED not in done:
                data = {"sha256": row.sha256, "duration_ms": row.duration_ms, "purposes": list(row.purposes)}
                await self._note(SEALED, recording, outcome.call, ordered, data)
            return row

    async def destroy_unsealed(self, recording: RecordingId, segments: Sequence[ClosedSegment], reason: Reason) -> None:
        """Destroy what the spool holds of a recording before it was ever sealed; leaves a line without content."""
        async with self._alone(recording):
            entries = await self._audit.of_recording(recording)
            if DESTROYED in {entry.kind for entry in entries}:
                return
            await self._destroy(recording, _all_segments(segments, entries), reason)

    async def in_spool(self) -> set[RecordingId]:
        """Recordings that have a file in the spool. Raises StorageFailed."""
        return {RecordingId(s.rpartition("-")[0]) for s in await self._spool.threads.run(self._spool.segments)}

    async def erase_settled(self, recording: RecordingId) -> None:
        """Erase what a crash left, in spool and work folder, of a recording that is sealed, empty or destroyed already.

        A person may have destroyed it between the crash and now: then its audio must not be found here either.
        """
        async with self._alone(recording):
            entries = await self._audit.of_recording(recording)
            kinds = {entry.kind for entry in entries}
            if kinds & {SEALED, EMPTY, DESTROYED}:
                await self._erase(recording, _all_segments((), entries), whole=DESTROYED in kinds)

    async def _destroy(self, recording: RecordingId, segments: Sequence[ClosedSegment], reason: Reason) -> None:
        for folder in sorted({day_folder(segment.begin_utc) for segment in segments}):
            await self._archive.clear(folder, recording)
        await self._erase(recording, segments, whole=True)
        call = segments[0].opening.call if segments else ""
        data = {"reason": reason.value, "sealed": False, "segments": len(segments)}
        await self._note(DESTROYED, recording, call, segments, data)

    async def _seal(
        self,
        outcome: CallOutcome,
        ordered: tuple[ClosedSegment, ...],
        lock: bool,
        objections: tuple[Objection, ...],
        withdrawn: frozenset[str],
    ) -> RecordingRow | None:
        recording = outcome.recording
        if not any(segment.kept for segment in ordered):
            return None
        sealing = Sealing(
            outcome=outcome,
            segments=ordered,
            node=self._node,
            organisation=self._policy().organisation,
            software=self._version,
            objections=objections,
            locked=lock,
            withdrawn=withdrawn,
        )
        try:
            sealed = await self._archived(sealing)
        except Exception:  # but who is cancelled waits for no disk: the service ends, and the next attempt writes anew
            await self._archive.threads.run(self._clear_work, recording)
            raise
        await self._archive.threads.run(self._clear_work, recording)
        if sealed is None:
            return None
        row = self._row(sealed)
        await self._index.add_recording(row)
        return row

    async def _archived(self, sealing: Sealing) -> _Sealed | None:
        """Its file and manifest are in the archive; None when nothing was found to seal."""
        recording = sealing.outcome.recording
        work = self._work_file(recording)
        sealed = await self._archive.threads.run(self._encode, sealing, work)
        if sealed is not None:
            await self._archive.clear(day_folder(sealed.sealing.started), recording)
            await self._archive.put(f"{sealed.relative}.flac", work)
            await self._archive.put_bytes(f"{sealed.relative}.json", canonical(sealed.manifest))
        return sealed

    def _encode(self, sealing: Sealing, work: Path) -> _Sealed | None:
        """In a thread. The file's name, tags and manifest are made of what was really found in the spool."""
        pieces = []
        for segment in sealing.segments:
            files = self._spool.files(segment.segment)
            pieces.append(Piece(files.own, files.others, segment.kept))
        try:
            work.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise StorageFailed("the work folder cannot be made") from error
        joined = Joined(pieces)
        samples = encode(work, joined.blocks(), self._spool.rate)
        if not samples:
            return None
        found = tuple(s.found(taken) for s, taken in zip(sealing.segments, joined.kept, strict=True))
        real = replace(sealing, segments=found)
        write_tags(work, tags(real))
        outcome = real.outcome
        relative = stem(real.started, real.purposes, outcome.external_number, outcome.recording, self._caller_id)
        digest = sha256(work)
        file = SealedFile(
            name=f"{relative.rsplit('/', 1)[1]}.flac",
            sha256=digest,
            samples=samples,
            rate=self._spool.rate,
            own_pcm_sha256=joined.own_sha256,
            others_pcm_sha256=joined.others_sha256,
        )
        return _Sealed(real, work, relative, digest, samples, build(real, file))

    def _row(self, sealed: _Sealed) -> RecordingRow:
        sealing, outcome = sealed.sealing, sealed.sealing.outcome
        direction = sealing.kept[0].opening.direction
        told = [told for segment in sealing.kept for told in segment.opening.told]
        return RecordingRow(
            id=outcome.recording,
            node=self._node,
            path=f"{sealed.relative}.flac",
            purposes=sealing.purposes,
            started=sealing.started,
            ended=sealing.ended,
            duration_ms=sealed.samples * 1000 // self._spool.rate,
            external_number=outcome.external_number,
            other_numbers=outcome.other_numbers,
            own_number=outcome.own_number,
            own_endpoint=outcome.own_endpoint,
            queue=outcome.queue,
            direction=direction,
            reference=outcome.reference,
            language=told[0].disclosure.language if told else outcome.language,
            call=outcome.call,
            uniqueid=outcome.call,
            linkedid=outcome.linkedid,
            sha256=sealed.sha256,
            manifest=sealed.manifest,
            locked=sealing.locked,
            lock_until=sealing.ended + timedelta(days=LOCK_DAYS) if sealing.locked else None,
            # A phone sale to a consumer binds only after written acceptance (6:230v lid 6 BW).
            written_acceptance_required=direction == Direction.OUTBOUND.value and CONTRACT_EVIDENCE in sealing.purposes,
        )

    async def _said(self, openings: Sequence[OpenSegment]) -> list[AuditEntry]:
        """What became known of the parties who were told."""
        channels = sorted({told.channel for opening in openings for told in opening.told})
        boots = sorted({opening.boot for opening in openings})
        return [entry for boot in boots for entry in await self._audit.of_channels(boot, channels)]

    def _effects(self, openings: Sequence[OpenSegment], objections: Sequence[Objection]) -> Mapping[str, OnObjection]:
        """What the objections do, by purpose of the permits; without those that an objection does not stop.

        Read from the audit log at each attempt: who restarts in between knows it too.
        """
        known = self._policy().purposes
        found: dict[str, OnObjection] = {}
        for name in {name for opening in openings for name in opening.purposes}:
            effect = known[name].on_objection if name in known else OnObjection.LOCK
            objected = any(not o.purposes or name in o.purposes for o in objections)
            if objected and effect is not OnObjection.IGNORE:
                found[str(name)] = effect
        return found

    async def _indexed(self, recording: RecordingId) -> RecordingRow | None:
        try:
            return await self._index.recording(recording)
        except NotFound:
            return None

    async def _erase(self, recording: RecordingId, segments: Sequence[ClosedSegment], *, whole: bool = False) -> None:
        """These segments; `whole`: what is not closed yet as well, of a recording that is destroyed."""
        names = {segment.segment for segment in segments}
        if whole:
            names |= set(await self._spool.threads.run(self._spool.of_recording, recording))
        for name in sorted(names):
            await self._spool.threads.run(self._spool.erase, name)
        await self._archive.threads.run(self._clear_work, recording)

    def _work_file(self, recording: RecordingId) -> Path:
        return self._work / f"{recording}.flac"

    def _clear_work(self, recording: RecordingId) -> None:
        """In a thread."""
        work = self._work_file(recording)
        try:
            reached(FaultPoint.WORK_CLEARING)
            work.unlink(missing_ok=True)
            reached(FaultPoint.WORK_FILE_CLEARED)
            tags_part(work).unlink(missing_ok=True)
            reached(FaultPoint.WORK_CLEARED)
        except OSError as error:
            raise StorageFailed("the work folder cannot be cleared") from error

    async def _note(
        self,
        kind: str,
        recording: RecordingId,
        call: str,
        segments: Sequence[ClosedSegment],
        data: dict[str, Any],
    ) -> None:
        boot = segments[0].opening.boot if segments else ""
        at = self._clock.utc()
        reached(FaultPoint.RESULT_DUE)
        await self._audit.commit(AuditEntry(kind, at, boot=boot, call=call, recording=recording, data=data))
        reached(FaultPoint.RESULT_COMMITTED)

    @asynccontextmanager
    async def _alone(self, recording: RecordingId) -> AsyncIterator[None]:
        """One at a time for each recording; its lock is forgotten when nobody waits for it."""
        lock, waiting = self._locks.get(recording, (asyncio.Lock(), 0))
        self._locks[recording] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[recording]
            if waiting > 1:
                self._locks[recording] = (lock, waiting - 1)
            else:
                del self._locks[recording]


def _objections(said: Sequence[AuditEntry]) -> tuple[Objection, ...]:
    """Each by whoever made it, once: the calls that it binds have a line each, and he may be among those told."""
    found: dict[tuple[str, tuple[str, ...]], Objection] = {}
    for entry in sorted(said, key=lambda entry: entry.kind == BOUND):
        if entry.kind not in (Reason.OBJECTED.value, BOUND):
            continue
        data = entry.data or {}
        by = entry.channel if entry.kind == Reason.OBJECTED.value else str(data.get("by", ""))
        purposes = tuple(sorted(str(name) for name in data.get("purposes", ())))
        found.setdefault((by, purposes), Objection(by, purposes, entry.at))
    return tuple(sorted(found.values(), key=lambda objection: (objection.at, objection.channel)))


def _still_open(entries: Sequence[AuditEntry], closed: Collection[SegmentId]) -> list[OpenSegment]:
    """Those permitted and not closed. A line that cannot be read is nobody's: what it was about is quarantined."""
    found = []
    for entry in entries:
        if entry.kind == PERMITTED and entry.segment not in closed:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                found.append(OpenSegment.from_data(entry.data or {}))
    return found


def _all_segments(given: Sequence[ClosedSegment], entries: Sequence[AuditEntry]) -> tuple[ClosedSegment, ...]:
    """Those given and those that the audit log has, each once, in order."""
    found = {s.segment: s for e in entries if e.kind == CLOSED and e.data for s in [ClosedSegment.from_data(e.data)]}
    found.update({segment.segment: segment for segment in given})
    return tuple(found[segment] for segment in sorted(found, key=lambda s: (len(s), s)))
