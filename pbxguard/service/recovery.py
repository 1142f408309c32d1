"""After a restart: what the audit log knows is the memory, and what a dead pbxguard left is cut at its watermark.

Memory is read, and recorders that were left are stopped, before a snapshot reaches the core, so that the very same loop
then decides with everything that is known. What they left is cut beside it, and its recordings are sealed then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pbxguard.core.commands import CallOutcome
from pbxguard.core.errors import PbxguardError
from pbxguard.core.facts import SnapshotTaken
from pbxguard.core.ids import LinkedId, PurposeName, RecordingId, SegmentId, Uniqueid, recording_id
from pbxguard.core.purposes import Direction
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import DOUBTED, Remembered, fact_of
from pbxguard.core.segments import OpenSegment
from pbxguard.logs import Event, get_logger

from .guard import Guard
from .leftovers import Leftovers
from .ports import Audit, AuditEntry, Clock, Recorder
from .sealing import Sealer
from .segments import Segments
from .watermark import Bound, Watermark, bound, read, write

WATERMARK_SECONDS = 0.25
SEAL_RETRY_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""First pause before the audit log is read again; doubled up to `MOST_RETRY_SECONDS`."""
MOST_RETRY_SECONDS = 60.0

_log = get_logger()


class KnownCalls(Protocol):
    """What we need of the index."""

    async def known_call(self, boot: str, call: str) -> Mapping[str, Any] | None: ...
    async def references(self, boot: str, calls: Collection[str]) -> Mapping[str, str]:
        """Of those of these calls that have one."""

    async def end_calls(self, boot: str, live: Collection[str]) -> int: ...


class Recovery:
    """Give `before_snapshot` to the guard, and run `keep_watermark` beside it."""

    def __init__(
        self,
        *,
        guard: Guard,
        audit: Audit,
        index: KnownCalls,
        recorder: Recorder,
        segments: Segments,
        sealer: Sealer,
        clock: Clock,
        node: str,
        watermark: Path,
        machine: str = "",
        look_anew: Callable[[], None] = lambda: None,
    ) -> None:
        """`watermark`: a file of ours, written over. `machine` names this boot of the machine, empty when unknown:
        nothing of the monotonic clock is believed then. `look_anew` asks for another snapshot."""
        self._guard, self._audit, self._index = guard, audit, index
        self._sealer, self._clock, self._node, self._path = sealer, clock, node, watermark
        self._sealing = False
        self.leftovers = guard.leftovers = Leftovers(
            supervisor=guard.supervisor,
            audit=audit,
            recorder=recorder,
            segments=segments,
            clock=clock,
            troubles=guard.health,
        )
        self._looked = False
        """Whether segments that a dead pbxguard left open were looked for."""
        self._machine, self._look_anew = machine, look_anew
        self._unread = asyncio.Event()
        """Set while what a snapshot shows could not be remembered."""

    async def before_snapshot(self, snapshot: SnapshotTaken) -> None:
        """Remember what live channels were told, and stop what was left behind, as long as anything is.

        Everything is read before any of it is believed: half of it would let a segment's number come twice.
        """
        try:
            channels = [created.channel for created in snapshot.channels]
            remembered = await self._audit.of_channels(snapshot.boot, channels)
            left: list[AuditEntry] = []
            mark = None
            references: Mapping[str, str] = {}
            if not self._looked:
                mark = await asyncio.to_thread(read, self._path, self._machine)
                # Should this be a later snapshot than the first: those of this run are nobody's leftovers.
                left = [e for e in await self._audit.open_segments() if not self._guard.runs(SegmentId(e.segment))]
                references = await self._index.references(snapshot.boot, channels)
                await self._index.end_calls(snapshot.boot, set(channels))
            numbering = await self._numbering(snapshot, channels, left)
        except PbxguardError as error:
            # Nothing is remembered: then nobody counts as told, and nothing is recorded. `retry` tries again.
            _log.error(Event.AUDIT_MISSED, reason=error.code)
            self._unread.set()
            return
        supervisor = self._guard.supervisor
        supervisor.restore(numbering)
        for entry in remembered:
            fact = fact_of(entry)
            if isinstance(fact, Remembered):
                supervisor.memory.note(fact)
            elif entry.kind == DOUBTED:
                supervisor.memory.doubt(Uniqueid(entry.channel))
        for channel, reference in references.items():
            supervisor.memory.refer(Uniqueid(channel), reference)
        if mark is not None:
            self._trust(mark, snapshot)
            self.leftovers.add(_readable(left, mark))
            self._looked = True
        await self.leftovers.stop(snapshot.boot)

    async def last_seen(self) -> float:
        """When the last beat came back that an earlier pbxguard wrote down, wall-clock seconds; 0 when none did."""
        return (await asyncio.to_thread(read, self._path, self._machine)).at

    async def retry(self) -> None:
        """Until cancelled: when what a snapshot shows could not be remembered, take another once it can be."""
        while True:
            await self._unread.wait()
            pause = RETRY_SECONDS
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MOST_RETRY_SECONDS)
                try:
                    await self._audit.unsealed()
                    break
                except PbxguardError:
                    continue
            self._unread.clear()
            self._look_anew()

    def _trust(self, mark: Watermark, snapshot: SnapshotTaken) -> None:
        """Hold seen last is trusted after a short absence: no snapshot shows who is on hold."""
        supervisor = self._guard.supervisor
        absence = self._clock.utc().timestamp() - mark.at
        if mark.monotonic is not None:
            absence = self._clock.now() - mark.monotonic
        if mark.boot == snapshot.boot and 0 <= absence <= supervisor.policy.limits.hold_trust:
            supervisor.trust_unheld(mark.unheld)

    async def seal_ended(self, snapshot: SnapshotTaken) -> None:
        """Close what was left and seal recordings whose call ended while we were away; until it is done, should storage
        be in trouble."""
        if self._sealing:
            return  # who is at it looks again himself
        self._sealing = True
        try:
            await self.leftovers.close_due()
            done = await self._seal_all(snapshot.boot, [created.channel for created in snapshot.channels])
            while not done:
                await asyncio.sleep(SEAL_RETRY_SECONDS)
                await self.leftovers.close_due()
                supervisor = self._guard.supervisor
                if supervisor.connected:  # else nobody knows which calls live
                    done = await self._seal_all(supervisor.boot, list(supervisor.board.channels))
        finally:
            self._sealing = False

    async def _seal_all(self, boot: str, channels: Sequence[Uniqueid]) -> bool:
        """Try each once; whether nothing is left to try. `channels` are those that live."""
        live = {recording_id(self._node, boot, channel) for channel in channels}
        try:
            unsealed = await self._audit.unsealed()
        except PbxguardError:
            return False  # the alert about the audit log says it
        await self._erase_settled()
        done = not self.leftovers
        for recording in unsealed:
            if recording in live or self._guard.knows(recording):
                continue
            try:
                entries = await self._audit.of_recording(recording)
                first = next(e for e in entries if e.kind == "segment.permitted")
                known = await self._index.known_call(first.boot, first.call)
                await self._sealer.seal(recording, _outcome(recording, first, known))
            except Exception as error:  # one that cannot be read must not keep the others from being sealed
                done = False
                reason = error.code if isinstance(error, PbxguardError) else type(error).__name__
                self._guard.health.seal_failed(recording, reason)
            else:
                self._guard.health.seal_ended(recording)
        return done

    async def _erase_settled(self) -> None:
        """What stands in the spool although the last line about its recording is there."""
        try:
            for recording in await self._sealer.in_spool():
                await self._sealer.erase_settled(recording)
        except PbxguardError as error:
            _log.error(Event.RECORDING_SEAL_FAILED, reason=error.code)

    async def keep_watermark(self) -> None:
        """Until cancelled: write down the last beat that came back."""
        last, complained = 0.0, False
        while True:
            await asyncio.sleep(WATERMARK_SECONDS)
            beat = self._guard.beat
            if beat > last and self._looked:
                last = beat
                supervisor = self._guard.supervisor
                at = self._clock.utc(beat).timestamp()
                # A permit that ended before this beat is not proven up to it, and its segment may not be closed yet.
                bounds = dict(self.leftovers.bounds)
                bounds |= {segment: bound(self._clock, proven) for segment, proven in self._guard.revoked().items()}
                mark = Watermark(at, supervisor.boot, supervisor.unheld(), bounds, beat)
                try:
                    await asyncio.to_thread(write, self._path, mark, self._machine)
                except OSError as error:
                    # An older one drops more, never less: a full disk must not end the service.
                    if not complained:
                        _log.error(Event.TASK_FAILED, task="watermark", reason=type(error).__name__)
                    complained = True
                else:
                    complained = False

    async def _numbering(
        self, snapshot: SnapshotTaken, channels: Sequence[Uniqueid], left: Sequence[AuditEntry]
    ) -> dict[RecordingId, int]:
        """Recordings of calls that live on: their segments are numbered on, and sealed with the others."""
        unsealed = set(await self._audit.unsealed())
        # Also those whose segments could not be closed just now: their recorder may still write to its files.
        unsealed |= {RecordingId(entry.recording) for entry in left} | self.leftovers.recordings
        live = unsealed & {recording_id(self._node, snapshot.boot, channel) for channel in channels}
        numbering = dict.fromkeys(live, 0)
        for segment in await self._audit.permitted(live):
            recording = RecordingId(segment.rpartition("-")[0])
            # The highest number, not how many: one whose line could not be written left a hole, and a number that came
            # twice would write over the files of the first.
            numbering[recording] = max(numbering[recording], _number(segment))
        return numbering


def _readable(left: Sequence[AuditEntry], mark: Watermark) -> Iterator[tuple[OpenSegment, Bound]]:
    """Those that can be read, and up to when each is proven; the others are told of, and nobody waits for them."""
    for entry in left:
        try:
            segment = OpenSegment.from_data(entry.data or {})
        except (KeyError, TypeError, ValueError):
            _log.error(Event.SEGMENT_QUARANTINED, segment=entry.segment)
        else:
            yield segment, mark.revoked.get(entry.segment, mark.bound)


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
