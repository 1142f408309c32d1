"""Everything that keeps recordings, real, in one folder: for processes that are killed and for power cuts.

``python -m tests.db.keeping FOLDER`` records, cuts, seals and destroys there, as the service and its commands would,
and writes a line to ``promised`` after each thing that was then reported as done. Only Asterisk is played: its raw
files are written by this process, unsynced, as Asterisk's are; with ``--foreign`` they belong to another user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

import pbxguard.core.permit as permits
from pbxguard.archive.files import FileArchive
from pbxguard.archive.spool import Spool
from pbxguard.core.commands import CallOutcome, StartRecording
from pbxguard.core.defaults import CONTRACT_EVIDENCE, PURPOSES, QUALITY_TRAINING
from pbxguard.core.facts import SnapshotTaken
from pbxguard.core.ids import (
    Endpoint,
    LinkedId,
    PurposeName,
    RecordingId,
    SegmentId,
    Uniqueid,
    recording_id,
    segment_id,
)
from pbxguard.core.permit import Permit, Told
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry
from pbxguard.core.segments import OpenSegment
from pbxguard.core.supervisor import Supervisor
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.service.clock import SystemClock
from pbxguard.service.guard import Guard
from pbxguard.service.recovery import Recovery
from pbxguard.service.retention import Retention
from pbxguard.service.sealing import Sealer
from pbxguard.service.segments import Segments

NODE, BOOT, RATE = "pbx1", "boot", 8000
KEPT, OBJECTED, ERASED, OPEN = "1700000000.1", "1700000000.3", "1700000000.5", "1700000000.7"
"""Calls: one that is sealed, one that was objected to, one that is sealed and destroyed, one that is never closed."""
READY, SEALED, DESTROYED = "ready", "sealed", "destroyed"
STRANGER = 4711
"""A user that is neither root nor us."""


def recording_of(call: str) -> RecordingId:
    return recording_id(NODE, BOOT, Uniqueid(call))


def voice(segment: SegmentId, seconds: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What both tracks of a segment hold: never zero, and never the same in another segment."""
    count = np.arange(round(seconds * RATE))
    own = 1000 + (count * 7 + int(segment[-3:]) * 1000 + ord(segment[0])) % 20_000
    return own.astype("<i2"), (-own).astype("<i2")


@dataclass
class Keeping:
    """The parts, open."""

    folder: Path
    audit: SqlAudit
    index: SqlIndex
    spool: Spool
    segments: Segments
    sealer: Sealer
    retention: Retention
    guard: Guard
    recovery: Recovery


def url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'state' / 'pbxguard.db'}"


async def prepare(folder: Path) -> None:
    """An installation before its first call."""
    _spool(folder).prepare()
    FileArchive(folder / "archive").prepare()
    (folder / "archive" / ".work").mkdir(exist_ok=True)
    await upgrade(url(folder))


def _spool(folder: Path) -> Spool:
    return Spool(folder / "spool", PurePosixPath("/spool"), RATE, floor=1)


class NobodyRecords:
    """A recorder of an Asterisk in which none runs any more."""

    async def find(self, leg: Uniqueid, segment: SegmentId) -> None:
        return None


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Keeping]:
    """Everything, as after a start of the service."""
    database = await Database.open(url(folder))
    try:
        async with SqlAudit(database, NODE) as audit, SqlIndex(database, NODE) as index:
            spool, archive, clock = _spool(folder), FileArchive(folder / "archive"), SystemClock()
            policy = Policy("Acme", purposes=PURPOSES)
            segments = Segments(spool=spool, clock=clock, policy=lambda: policy)
            sealer = Sealer(
                spool=spool,
                archive=archive,
                index=index,
                audit=audit,
                clock=clock,
                policy=lambda: policy,
                node=NODE,
                work=folder / "archive" / ".work",
            )
            nothing = cast(Any, None)
            guard = Guard(
                Supervisor(policy, NODE),
                recorder=nothing,
                pbx=nothing,
                audit=audit,
                index=index,
                segments=segments,
                sealer=sealer,
                clock=clock,
                spool=spool.state,
                touch=spool.touch,
                metrics=nothing,
            )
            recovery = Recovery(
                guard=guard,
                audit=audit,
                index=index,
                recorder=cast(Any, NobodyRecords()),
                segments=segments,
                sealer=sealer,
                clock=clock,
                node=NODE,
                watermark=folder / "archive" / ".work" / "watermark",
            )
            retention = Retention(index=index, audit=audit, archive=archive)
            yield Keeping(folder, audit, index, spool, segments, sealer, retention, guard, recovery)
    finally:
        await database.close()


def begin(call: str, number: int, purpose: PurposeName) -> StartRecording:
    key = DisclosureKey.of((purpose,), "nl", Mode.NOTICE, Direction.INBOUND)
    permit = Permit(
        call=Uniqueid(call),
        purposes=(purpose,),
        direction=Direction.INBOUND,
        leg=Uniqueid("1700000000.2"),
        told=(Told(Uniqueid(call), key, "digest", "2026-05-28T20:00:00Z", (), "NL"),),
        _seal=permits._SEAL,
    )
    return StartRecording(permit, recording_of(call), segment_id(recording_of(call), number), permit.leg)


def outcome(call: str) -> CallOutcome:
    return CallOutcome(
        call=Uniqueid(call),
        linkedid=LinkedId(call),
        recording=recording_of(call),
        direction=Direction.INBOUND,
        external_number="+31612345678",
        own_number="+31201234567",
        own_endpoint=Endpoint("PJSIP/100"),
        queue="",
        reference="K-42",
        language="nl",
        purposes_asked=(CONTRACT_EVIDENCE,),
        told=True,
        reasons=(),
        recorded=False,
    )


# -- one course of things --------------------------------------------------------------------------------------------


class Course:
    """Calls one after the other, from permit to erased spool and on to destruction."""

    def __init__(self, parts: Keeping, foreign: bool) -> None:
        self._parts, self._foreign = parts, foreign

    async def run(self) -> None:
        await self.objected()
        await self.recorded(KEPT)
        await self.recorded(ERASED)
        now = datetime.now(UTC)
        await self._parts.retention.destroy(recording_of(ERASED), reason="request", actor="officer", now=now)
        self.promise(DESTROYED, ERASED)
        await self.open()

    async def recorded(self, call: str) -> None:
        for number, seconds in ((1, 1.0), (2, 0.6)):
            segment = await self.captured(call, number, seconds, CONTRACT_EVIDENCE)
            end = time.monotonic()
            closed = await self._parts.segments.close(segment, proven=end - 0.1, stopped=end, reasons=(Reason.ON_HOLD,))
            await self._parts.audit.commit(closed.entry())
        assert await self._parts.sealer.seal(recording_of(call), outcome(call)) is not None
        self.promise(SEALED, call)

    async def objected(self) -> None:
        segment = await self.captured(OBJECTED, 1, 0.8, QUALITY_TRAINING)
        end = time.monotonic()
        closed = await self._parts.segments.close(segment, proven=end, stopped=end, reasons=(Reason.OBJECTED,))
        await self._parts.audit.commit(closed.entry())
        at = datetime.now(UTC)
        line = AuditEntry("objected", at, boot=BOOT, channel=OBJECTED, call=OBJECTED, data={"purposes": []})
        await self._parts.audit.commit(line)
        assert await self._parts.sealer.seal(recording_of(OBJECTED), outcome(OBJECTED)) is None
        self.promise(DESTROYED, OBJECTED)

    async def open(self) -> None:
        """Its guard dies: a watermark, and a segment without an end."""
        await self.captured(OPEN, 1, 1.2, CONTRACT_EVIDENCE)
        mark(self._parts.folder)

    async def captured(self, call: str, number: int, seconds: float, purpose: PurposeName) -> OpenSegment:
        """Permitted, and written by Asterisk in two goes."""
        start = begin(call, number, purpose)
        segment = self._parts.segments.open(start, BOOT)
        segment = OpenSegment.from_data(
            {**segment.data(), "opened": segment.opened - seconds, "opened_utc": _earlier(segment, seconds)}
        )
        await self._parts.audit.commit(segment.entry())
        files = self._parts.spool.files(segment.segment)
        for path, samples in zip((files.own, files.others), voice(segment.segment, seconds), strict=True):
            raw = samples.tobytes()
            with path.open("wb", buffering=0) as file:
                file.write(raw[: len(raw) // 2])
                file.write(raw[len(raw) // 2 :])
            if self._foreign:
                os.chmod(path, 0o644)
                os.chown(path, STRANGER, STRANGER)
        return segment

    def promise(self, what: str, call: str) -> None:
        with (self._parts.folder / "promised").open("ab", buffering=0) as file:
            file.write(f"{what} {call}\n".encode())


def mark(folder: Path) -> None:
    """A watermark of a moment ago."""
    path = folder / "archive" / ".work" / "watermark"
    written = {"at": time.time() - 0.1, "boot": BOOT, "unheld": [], "revoked": {}}
    path.with_suffix(".part").write_text(json.dumps(written))
    os.replace(path.with_suffix(".part"), path)


def _earlier(segment: OpenSegment, seconds: float) -> str:
    return (segment.opened_utc - timedelta(seconds=seconds)).isoformat()


async def recover(folder: Path) -> None:
    """What a start of the service does, and a sweep of the night."""
    async with opened(folder) as parts:
        rebooted = SnapshotTaken("another boot")
        await parts.recovery.before_snapshot(rebooted)
        await parts.recovery.seal_ended(rebooted)
        await parts.retention.sweep(datetime.now(UTC))


async def main(folder: Path, foreign: bool) -> None:
    await prepare(folder)
    (folder / "promised").write_text(f"{READY} {NODE}\n")
    async with opened(folder) as parts:
        await Course(parts, foreign).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "--foreign" in sys.argv))
    os._exit(0)
