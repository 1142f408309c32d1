"""From a stopped recorder to one sealed file: cut, join, encode, tag, hash, archive, index, erase.

Owns the order of the steps. Each can be repeated: a recording is sealed once however often it is asked for, and a
crash between any two steps loses nothing, because the spool goes only after the index has the recording, and the audit
line ``recording.sealed`` comes last. What is sealed depends on no clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pbxguard import __version__
from pbxguard.archive.files import CallerIdStyle, day_folder, stem
from pbxguard.archive.spool import Captured, Spool
from pbxguard.core.commands import CallOutcome, StartRecording
from pbxguard.core.cut import FRAME, dropped_samples, on_monotonic, place, recorder_end
from pbxguard.core.defaults import CONTRACT_EVIDENCE
from pbxguard.core.errors import NotFound, StorageFailed
from pbxguard.core.ids import RecordingId
from pbxguard.core.manifest import Objection, SealedFile, Sealing, build, canonical, tags
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, OnObjection
from pbxguard.core.reasons import Reason
from pbxguard.core.segments import (
    CLOSED,
    CUT_AT_WATERMARK,
    LONGER_THAN_SPAN,
    SHORTER_THAN_SPAN,
    SPOOL_FAILED,
    STILL_WRITTEN,
    TRACKS_DIFFER,
    WALL_CLOCK_STEPPED,
)
from pbxguard.core.segments import ClosedSegment as ClosedSegment
from pbxguard.core.segments import OpenSegment as OpenSegment
from pbxguard.sound.flac import encode, sha256, write_tags
from pbxguard.sound.tracks import Joined, Piece

from .ports import Archive, Audit, AuditEntry, Clock, Index, RecordingRow

SEALED, EMPTY, DESTROYED = "recording.sealed", "recording.empty", "recording.destroyed"
COMPLETE_SECONDS = 1.0
"""How long the files of a stopped recorder may go on changing: measured 50 ms at most."""
LOCK_DAYS = 14
"""How long the privacy officer has to decide about a disputed recording (LAW.md 4)."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Seconds after a segment was opened: its recorder's start (at the earliest), its end E, and the proven R."""

    begin: float
    end: float
    proven: float


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
    """Closes segments and seals recordings. `policy` gives the present policy; `work` is a folder of ours on the
    archive's disk, for files on their way."""

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

    # -- segments ----------------------------------------------------------------------------------------------------

    def open_segment(self, command: StartRecording, boot: str) -> OpenSegment:
        """What must be in the audit log (`entry()`) before the recorder is started on the files named in it."""
        permit, purposes = command.permit, self._policy().purposes
        files = self._spool.asterisk_files(command.segment)
        opened = self._clock.now()
        return OpenSegment(
            recording=command.recording,
            segment=command.segment,
            boot=boot,
            call=permit.call,
            leg=command.leg,
            purposes=permit.purposes,
            bases=tuple(purposes[name].basis.value for name in permit.purposes),
            direction=permit.direction.value,
            told=permit.told,
            opened=opened,
            opened_utc=self._clock.utc(opened),
            wall_offset=self._clock.wall_offset(),
            own_file=files.own,
            others_file=files.others,
        )

    async def close_segment(
        self,
        segment: OpenSegment,
        *,
        proven: float,
        stopped: float,
        reasons: Sequence[Reason],
        started: float | None = None,
        destroy: bool = False,
        lock: bool = False,
    ) -> ClosedSegment:
        """Cut a stopped segment in the spool, at once, to what its permit covers.

        Monotonic seconds: `proven` is R (minus infinity: nothing is kept), `stopped` when the recorder's stop was
        answered, `started` when its start was sent, where that is known better than `segment.opened`. `destroy` and
        `lock` as in `StopRecording`: kept with the segment, so that a restart knows. Never raises for the disk: what
        could not be read is not kept, and a note says so.
        """
        notes: list[str] = []
        complete, captured = True, Captured(0, 0, None)
        try:
            if proven != -math.inf:
                complete = await self._spool.wait_complete(segment.segment, COMPLETE_SECONDS)
            captured = await asyncio.to_thread(self._spool.captured, segment.segment)
        except StorageFailed:
            notes.append(SPOOL_FAILED)
        end = stopped
        if not complete:
            notes.append(STILL_WRITTEN)
            end = max(stopped, self._clock.now())
        elif captured.written is not None:
            offset = self._clock.wall_offset()
            written = on_monotonic(captured.written, segment.wall_offset, offset, stopped - segment.opened)
            if written is None:
                notes.append(WALL_CLOCK_STEPPED)
            end = recorder_end(stopped, written)
        zero = segment.opened
        span = _Span(0.0 if started is None else max(0.0, started - zero), end - zero, proven - zero)
        closed = await self._cut(segment, captured, span, reasons, notes)
        return replace(closed, destroy=destroy, lock=lock)

    async def close_leftover(
        self, segment: OpenSegment, *, watermark: float, reasons: Sequence[Reason]
    ) -> ClosedSegment:
        """Cut what a dead pbxguard left at its watermark, once its recorder is known to be gone.

        `watermark` is when the last beat that came back was sent, in wall-clock seconds: the machine may have been
        booted since. Nothing is kept where that or the files' mtime lies before the segment was opened.
        """
        notes = [CUT_AT_WATERMARK]
        captured = Captured(0, 0, None)
        try:
            if not await self._spool.wait_complete(segment.segment, COMPLETE_SECONDS):
                notes.append(STILL_WRITTEN)
            captured = await asyncio.to_thread(self._spool.captured, segment.segment)
        except StorageFailed:
            notes.append(SPOOL_FAILED)
        zero = segment.opened + segment.wall_offset
        span = _Span(0.0, 0.0, -math.inf)
        if captured.written is not None and zero <= min(captured.written, watermark):
            span = _Span(0.0, recorder_end(math.inf, captured.written) - zero, watermark - zero)
        return await self._cut(segment, captured, span, reasons, notes)

    async def _cut(
        self, segment: OpenSegment, captured: Captured, span: _Span, reasons: Sequence[Reason], notes: list[str]
    ) -> ClosedSegment:
        rate = self._spool.rate
        dropped = dropped_samples(span.end, span.proven, rate, captured.samples)
        kept = captured.samples - dropped
        placed = place(span.begin, span.end, captured.samples, dropped, rate)
        if kept:
            if placed.shorter_than_span:
                notes.append(SHORTER_THAN_SPAN)
            if placed.missing < -2 * FRAME:
                notes.append(LONGER_THAN_SPAN)
            if abs(captured.difference) > FRAME * rate:
                notes.append(TRACKS_DIFFER)
        ended = None if captured.written is None else captured.written - dropped / rate
        try:
            await asyncio.to_thread(self._spool.shorten, segment.segment, kept, ended)
        except StorageFailed:
            notes.append(SPOOL_FAILED)
        begin = segment.opened_utc + timedelta(seconds=span.begin if kept else 0.0)
        return ClosedSegment(
            opening=segment,
            closed_utc=segment.opened_utc + timedelta(seconds=max(0.0, span.end)),
            begin_utc=begin,
            end_utc=begin + timedelta(seconds=placed.end if kept else 0.0),
            reasons=tuple(reason.value for reason in reasons),
            rate=rate,
            captured=captured.samples,
            dropped=dropped,
            kept=kept,
            missing_ms=round(placed.missing * 1000) if kept else 0,
            notes=tuple(notes),
        )

    # -- recordings --------------------------------------------------------------------------------------------------

    async def seal(
        self,
        recording: RecordingId,
        outcome: CallOutcome,
        segments: Sequence[ClosedSegment] = (),
        *,
        lock: bool = False,
    ) -> RecordingRow | None:
        """Seal what was kept into one file, once; None when nothing was, or when it is destroyed.

        Segments that the audit log knows and the caller does not are added, so that after a restart nothing need be
        given. `lock`: it is disputed, nobody plays it before the officer decides. Raises StorageFailed, AuditFailed;
        then the spool still has everything and the same call may be made again.
        """
        async with self._alone(recording):
            entries = await self._audit.of_recording(recording)
            ordered = _all_segments(segments, entries)
            done = {entry.kind for entry in entries}
            objections = await self._objections(ordered)
            effects = self._effects(ordered, objections)
            permitted = {name for segment in ordered for name in segment.opening.purposes}
            all_destroy = set(effects) == permitted and set(effects.values()) == {OnObjection.DESTROY}
            if DESTROYED not in done and (all_destroy or any(segment.destroy for segment in ordered)):
                await self._destroy(recording, ordered, Reason.OBJECTED)
                done.add(DESTROYED)
            if done & {DESTROYED, EMPTY}:
                await self._erase(ordered)
                return None
            row = await self._indexed(recording)
            if row is None:
                lock = lock or OnObjection.LOCK in effects.values() or any(s.lock for s in ordered)
                row = await self._seal(outcome, ordered, lock, objections, frozenset(effects))
            await self._erase(ordered)
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

    async def _destroy(self, recording: RecordingId, segments: Sequence[ClosedSegment], reason: Reason) -> None:
        for folder in sorted({day_folder(segment.begin_utc) for segment in segments}):
            await self._archive.clear(folder, recording)
        await self._erase(segments)
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
        work = self._work / f"{recording}.flac"
        try:
            sealed = await asyncio.to_thread(self._encode, sealing, work)
            if sealed is None:
                return None
            await self._archive.clear(day_folder(sealed.sealing.started), recording)
            await self._archive.put(f"{sealed.relative}.flac", work)
            await self._archive.put_bytes(f"{sealed.relative}.json", canonical(sealed.manifest))
        finally:
            await asyncio.to_thread(work.unlink, missing_ok=True)
        row = self._row(sealed)
        await self._index.add_recording(row)
        return row

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

    async def _objections(self, segments: Sequence[ClosedSegment]) -> tuple[Objection, ...]:
        channels = sorted({told.channel for s in segments for told in s.opening.told})
        found = []
        for boot in sorted({segment.opening.boot for segment in segments}):
            for entry in await self._audit.of_channels(boot, channels):
                if entry.kind == Reason.OBJECTED.value:
                    purposes = tuple(str(name) for name in (entry.data or {}).get("purposes", ()))
                    found.append(Objection(entry.channel, purposes, entry.at))
        return tuple(found)

    def _effects(self, segments: Sequence[ClosedSegment], objections: Sequence[Objection]) -> Mapping[str, OnObjection]:
        """What the objections do, by purpose of the permits; without those that an objection does not stop.

        Read from the audit log at each attempt: who restarts in between knows it too.
        """
        known = self._policy().purposes
        found: dict[str, OnObjection] = {}
        for name in {name for segment in segments for name in segment.opening.purposes}:
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

    async def _erase(self, segments: Sequence[ClosedSegment]) -> None:
        def erase() -> None:
            for segment in segments:
                self._spool.erase(segment.segment)

        await asyncio.to_thread(erase)

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
        await self._audit.commit(AuditEntry(kind, at, boot=boot, call=call, recording=recording, data=data))

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


def _all_segments(given: Sequence[ClosedSegment], entries: Sequence[AuditEntry]) -> tuple[ClosedSegment, ...]:
    """Those given and those that the audit log has, each once, in order."""
    found = {s.segment: s for e in entries if e.kind == CLOSED and e.data for s in [ClosedSegment.from_data(e.data)]}
    found.update({segment.segment: segment for segment in given})
    return tuple(found[segment] for segment in sorted(found, key=lambda s: (len(s), s)))
