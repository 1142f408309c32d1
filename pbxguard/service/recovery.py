"""After a restart: what the audit log knows is the memory, and what a dead pbxguard left is cut at its watermark.

Runs before a snapshot reaches the core, so that the very same loop then decides with everything that is known. The
watermark is the last beat that came back, in wall-clock seconds, written down a few times a second.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pbxguard.core.commands import CallOutcome
from pbxguard.core.errors import AuditFailed, PbxguardError
from pbxguard.core.facts import SnapshotTaken
from pbxguard.core.ids import LinkedId, PurposeName, RecordingId, SegmentId, Uniqueid, recording_id
from pbxguard.core.purposes import Direction
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import DOUBTED, Remembered, fact_of
from pbxguard.core.segments import PERMITTED, OpenSegment
from pbxguard.logs import Event, get_logger

from .guard import Guard
from .ports import Audit, AuditEntry, Clock, Recorder
from .sealing import Sealer

WATERMARK_SECONDS = 0.25

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Watermark:
    """The last moment up to which everything was seen, and what no snapshot tells of it."""

    at: float
    """When the last beat that came back was sent; wall-clock seconds."""
    boot: str
    unheld: frozenset[Uniqueid]
    """Who was in a recorded conversation then, and so not on hold."""
    revoked: Mapping[str, float] = field(default_factory=dict)
    """Segments whose permit had ended before, and were not closed: the last moment (wall-clock s) proven for each."""


class KnownCalls(Protocol):
    """What we need of the index."""

    async def known_call(self, boot: str, call: str) -> Mapping[str, Any] | None: ...


class Recovery:
    """Give `before_snapshot` to the guard, and run `keep_watermark` beside it."""

    def __init__(
        self,
        *,
        guard: Guard,
        audit: Audit,
        index: KnownCalls,
        recorder: Recorder,
        sealer: Sealer,
        clock: Clock,
        node: str,
        watermark: Path,
    ) -> None:
        """`watermark`: a file of ours, written over."""
        self._guard, self._audit, self._index, self._recorder = guard, audit, index, recorder
        self._sealer, self._clock, self._node, self._path = sealer, clock, node, watermark
        self._left: list[AuditEntry] | None = None
        """Segments that a dead pbxguard left open and that are not closed yet; None before they were looked for."""
        self._bounds: dict[str, float] = {}
        """Of each of those: up to when (wall-clock s) it is proven; written down again until it is closed."""

    async def before_snapshot(self, snapshot: SnapshotTaken) -> None:
        """Remember what live channels were told, and deal with what was left behind, as long as anything is."""
        try:
            channels = [created.channel for created in snapshot.channels]
            for entry in await self._audit.of_channels(snapshot.boot, channels):
                fact = fact_of(entry)
                if isinstance(fact, Remembered):
                    self._guard.supervisor.memory.note(fact)
                elif entry.kind == DOUBTED:
                    self._guard.supervisor.memory.doubt(Uniqueid(entry.channel))
            if self._left is None:
                mark = await asyncio.to_thread(_read, self._path)
                self._trust(mark, snapshot)
                # Should this be a later snapshot than the first: those of this run are nobody's leftovers.
                left = [e for e in await self._audit.open_segments() if not self._guard.runs(SegmentId(e.segment))]
                self._bounds = {e.segment: min(mark.at, mark.revoked.get(e.segment, mark.at)) for e in left}
                self._left = left
                for channel in channels:
                    known = await self._index.known_call(snapshot.boot, channel)
                    if known is not None and known["reference"]:
                        self._guard.supervisor.memory.refer(channel, known["reference"])
            await self._go_on(snapshot, channels)
            await self._close_leftovers(self._left, snapshot)
        except PbxguardError as error:
            # Nothing is remembered: then nobody counts as told, and nothing is recorded.
            _log.error(Event.AUDIT_FAILED, reason=error.code)

    def _trust(self, mark: Watermark, snapshot: SnapshotTaken) -> None:
        """Hold seen last is trusted after a short absence: no snapshot shows who is on hold."""
        supervisor = self._guard.supervisor
        absence = self._clock.utc().timestamp() - mark.at
        if mark.boot == snapshot.boot and 0 <= absence <= supervisor.policy.limits.hold_trust:
            supervisor.trust_unheld(mark.unheld)

    async def seal_ended(self, snapshot: SnapshotTaken) -> None:
        """Seal recordings whose call ended while we were away."""
        live = {recording_id(self._node, snapshot.boot, created.channel) for created in snapshot.channels}
        try:
            unsealed = await self._audit.unsealed()
        except PbxguardError as error:
            _log.error(Event.AUDIT_FAILED, reason=error.code)
            return
        for recording in unsealed:
            if recording in live or self._guard.knows(recording):
                continue
            try:
                entries = await self._audit.of_recording(recording)
                first = next(e for e in entries if e.kind == "segment.permitted")
                known = await self._index.known_call(first.boot, first.call)
                await self._sealer.seal(recording, _outcome(recording, first, known))
            except Exception as error:  # one that cannot be read must not keep the others from being sealed
                _log.error(Event.RECORDING_SEAL_FAILED, recording=recording, reason=type(error).__name__)

    async def keep_watermark(self) -> None:
        """Until cancelled: write down the last beat that came back."""
        last, complained = 0.0, False
        while True:
            await asyncio.sleep(WATERMARK_SECONDS)
            beat = self._guard.beat
            if beat > last and self._left is not None:
                last = beat
                supervisor = self._guard.supervisor
                at = self._clock.utc(beat).timestamp()
                # A permit that ended before this beat is not proven up to it, and its segment may not be closed yet.
                revoked = {str(segment): self._wall(proven) for segment, proven in self._guard.revoked().items()}
                mark = Watermark(at, supervisor.boot, supervisor.unheld(), {**self._bounds, **revoked})
                try:
                    await asyncio.to_thread(_write, self._path, mark)
                except OSError as error:
                    # An older one drops more, never less: a full disk must not end the service.
                    if not complained:
                        _log.error(Event.TASK_FAILED, task="watermark", reason=type(error).__name__)
                    complained = True
                else:
                    complained = False

    def _wall(self, proven: float) -> float:
        """A monotonic moment in wall-clock seconds; 0 (nothing is kept) when nothing was proven."""
        return self._clock.utc(proven).timestamp() if math.isfinite(proven) else 0.0

    async def _close_leftovers(self, left: list[AuditEntry], snapshot: SnapshotTaken) -> None:
        """What cannot be closed now is tried again at the next snapshot, or by the next start."""
        for entry in list(left):
            try:
                segment = OpenSegment.from_data(entry.data or {})
                if segment.boot == snapshot.boot:
                    handle = await self._recorder.find(segment.leg, segment.segment)
                    if handle is not None:
                        await self._recorder.stop(handle)
                closed = await self._sealer.close_leftover(
                    segment, watermark=self._bounds.get(entry.segment, 0.0), reasons=(Reason.GUARD_AWAY,)
                )
                await self._audit.commit(closed.entry())
                _log.warning(
                    Event.SEGMENT_CLOSED,
                    recording=segment.recording,
                    segment=segment.segment,
                    reason=Reason.GUARD_AWAY.value,
                    kept_ms=closed.kept_ms,
                )
            except (KeyError, TypeError, ValueError):
                _log.error(Event.SEGMENT_QUARANTINED, segment=entry.segment)
            except AuditFailed:
                raise
            except PbxguardError as error:
                _log.error(Event.RECORDING_SEAL_FAILED, segment=entry.segment, reason=error.code)
                continue
            left.remove(entry)
            self._bounds.pop(entry.segment, None)

    async def _go_on(self, snapshot: SnapshotTaken, channels: Sequence[Uniqueid]) -> None:
        """Recordings of calls that live on: their segments are numbered on, and sealed with the others."""
        numbering: dict[RecordingId, int] = {}
        unsealed = set(await self._audit.unsealed())
        # Also those whose segments could not be closed just now: their recorder may still write to its files.
        unsealed |= {RecordingId(entry.recording) for entry in self._left or ()}
        for channel in channels:
            recording = recording_id(self._node, snapshot.boot, channel)
            if recording in unsealed:
                entries = await self._audit.of_recording(recording)
                # The highest number, not how many: one whose line could not be written left a hole, and a number that
                # came twice would write over the files of the first.
                numbering[recording] = max((_number(e.segment) for e in entries if e.kind == PERMITTED), default=0)
        self._guard.supervisor.restore(numbering)


def _outcome(recording: RecordingId, first: AuditEntry, known: Mapping[str, Any] | None) -> CallOutcome:
    """A call as the index last knew it; with the bare minimum where it does not."""
    row = known or {}
    direction = row.get("direction") or (first.data or {}).get("direction")
    return CallOutcome(
        call=Uniqueid(first.call),
        linkedid=LinkedId(row.get("linkedid", "")),
        recording=recording,
        direction=Direction(direction) if direction else None,
        external_number=row.get("external_number", ""),
        own_number=row.get("own_number", ""),
        own_endpoint=row.get("own_endpoint", ""),
        queue=row.get("queue", ""),
        reference=row.get("reference", ""),
        language=row.get("language", ""),
        purposes_asked=tuple(PurposeName(p) for p in row.get("purposes", ())),
        told=True,
        reasons=(Reason.CALL_ENDED,),
        recorded=False,
        ever_recorded=True,
        others=tuple(Uniqueid(o) for o in row.get("others", ())),
    )


def _number(segment: str) -> int:
    """Of a segment's id (`segment_id`); 0 for another text."""
    digits = segment.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _read(path: Path) -> Watermark:
    try:
        data = json.loads(path.read_text())
        unheld = frozenset(Uniqueid(str(channel)) for channel in data["unheld"])
        revoked = {str(segment): float(proven) for segment, proven in data["revoked"].items()}
        return Watermark(float(data["at"]), str(data["boot"]), unheld, revoked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Watermark(0.0, "", frozenset())


def _write(path: Path, mark: Watermark) -> None:
    part = path.with_suffix(".part")
    data = {"at": mark.at, "boot": mark.boot, "unheld": sorted(mark.unheld), "revoked": dict(mark.revoked)}
    part.write_text(json.dumps(data))
    os.replace(part, path)
