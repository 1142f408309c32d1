"""Destruction: the nightly sweep, and one recording by a person's hand.

Owns the order of the steps. A line that it begins (``recording.destroying``), the file, its manifest, what the index
tells of people, a line that it is done (``recording.destroyed``): a crash between any two leaves something that the
next sweep finds and ends, and nothing is ever brought back. Both lines say what was destroyed and why, and hold nothing
of the content: no number, no name, no reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pbxguard.core.errors import NotFound, PbxguardError, Protected, StorageFailed
from pbxguard.core.ids import PurposeName, RecordingId
from pbxguard.core.records import AuditEntry, RecordingRow
from pbxguard.core.retention import CALLS_KEPT, RULES, Destroy, Keep, Kept, Period, Rule, due
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.logs import Event, get_logger

from .ports import Archive, Audit, Index

DESTROYING, DESTROYED = "recording.destroying", "recording.destroyed"
BY_HAND = "by_hand"
SWEEPER = "pbxguard"
NIGHT_HOUR = 3
"""UTC."""
_LONGEST_NAP = 600.0
"""Seconds; short against a stepped wall clock."""

_log = get_logger()


class SweptAudit(Audit, Protocol):
    async def half_destroyed(self) -> Sequence[RecordingId]:
        """Recordings with a ``recording.destroying`` and no ``recording.destroyed``."""


class Unfinished(Protocol):
    async def finish_all(self, now: datetime) -> Sequence[tuple[str, str]]:
        """End what a crash left half done; (recording, why) of what could not be ended."""


class SweptIndex(Index, Protocol):
    async def forget_calls(self, before: datetime) -> int:
        """Delete what is known of calls last heard of before then; how many."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof of a destruction, without content: what the two audit lines say."""

    recording: str
    node: str
    purposes: tuple[str, ...]
    ended: str
    """When the recording ended, ISO 8601, UTC."""
    ground: str
    """A `retention.Ground` value, or ``by_hand``."""
    reason: str
    sha256: str
    """Of the file that was destroyed."""
    actor: str
    destroyed: str
    """ISO 8601, UTC."""
    file_found: bool
    """Whether the file was there to be removed, when this certificate's run removed it."""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "purposes": list(self.purposes)}


@dataclass(frozen=True, slots=True)
class Due:
    """A recording whose time is over."""

    recording: str
    purposes: tuple[str, ...]
    ground: str
    why: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found and did; in a dry run nothing was done."""

    dry_run: bool
    kept: int
    due: tuple[Due, ...]
    destroyed: tuple[Certificate, ...]
    failed: tuple[tuple[str, str], ...]
    """(recording, why it could not be destroyed); the next sweep tries again."""
    calls_forgotten: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "kept": self.kept,
            "due": [{**asdict(one), "purposes": list(one.purposes)} for one in self.due],
            "destroyed": [certificate.as_json() for certificate in self.destroyed],
            "failed": [{"recording": recording, "reason": reason} for recording, reason in self.failed],
            "calls_forgotten": self.calls_forgotten,
        }


def kept_facts(row: RecordingRow) -> Kept:
    """What retention asks of a row."""
    return Kept(row.purposes, row.ended, row.outcome, row.contract_end, row.locked, row.lock_until)


def manifest_path(path: str) -> str:
    """Where the manifest of a sealed file lies: beside it, ``.json`` for ``.flac``."""
    return path.removesuffix(".flac") + ".json"


class Retention:
    """`rules` are by purpose; `calls_kept` is how long calls are known in the index."""

    def __init__(
        self,
        *,
        index: SweptIndex,
        audit: SweptAudit,
        archive: Archive,
        rules: Mapping[PurposeName, Rule] = RULES,
        calls_kept: Period = CALLS_KEPT,
        redactions: Unfinished | None = None,
    ) -> None:
        """`redactions`: what a crash left half cut is ended by each sweep, and before a destruction."""
        self._index, self._audit, self._archive = index, audit, archive
        self.rules = rules
        self._calls_kept = calls_kept
        self._redactions = redactions
        self._alone = asyncio.Lock()

    def decide(self, row: RecordingRow, now: datetime) -> Keep | Destroy:
        """Keep or destroy a live recording now."""
        return due(kept_facts(row), now, self.rules)

    async def run(self, utc: Callable[[], datetime]) -> None:
        """Sweep now (the machine may have been off at night) and each night at `NIGHT_HOUR`, for ever.

        A failed sweep is logged, and the next night tries again.
        """
        while True:
            try:
                await self.sweep(utc())
            except PbxguardError as error:
                _log.error(Event.SWEEP_FAILED, reason=error.code)
            except Exception as error:  # a row that nobody can read must not end the service
                _log.error(Event.SWEEP_FAILED, reason=type(error).__name__)
            night = next_night(utc())
            while (left := (night - utc()).total_seconds()) > 0:  # noqa: ASYNC110 - a wall clock has no event
                await asyncio.sleep(min(left, _LONGEST_NAP))

    async def sweep(self, now: datetime, *, dry_run: bool = False, actor: str = SWEEPER) -> Sweep:
        """Destroy all whose time is over, after ending what an earlier run began.

        A file that is not there is not certified as destroyed: the archive may not be mounted. Raises AuditFailed
        and StorageFailed when audit or index fail; a failure of one file is in the report.
        """
        async with self._alone:
            found: list[Due] = []
            destroyed: list[Certificate] = []
            failed: list[tuple[str, str]] = []
            half = set(await self._audit.half_destroyed())
            if not dry_run and self._redactions is not None:
                failed.extend(await self._redactions.finish_all(now))
            if not dry_run:
                for recording in sorted(half):
                    await self._attempt(self._end(recording, now), recording, destroyed, failed)
            kept = 0
            async for row in self._index.live_recordings():
                decision = self.decide(row, now)
                if row.id in half:  # begun: it is ended whatever became known since
                    continue
                if isinstance(decision, Keep):
                    kept += 1
                    continue
                found.append(Due(row.id, row.purposes, decision.why.ground.value, decision.why.en))
                if not dry_run:
                    await self._attempt(self._sweep_one(row.id, now, actor), row.id, destroyed, failed)
            forgotten = 0
            if not dry_run:
                forgotten = await self._index.forget_calls(_before(now, self._calls_kept))
        report = Sweep(dry_run, kept, tuple(found), tuple(destroyed), tuple(failed), forgotten)
        _log.info(Event.SWEEP_DONE, dry_run=dry_run, kept=kept, destroyed=len(destroyed), failed=len(failed))
        return report

    async def destroy(
        self, recording: RecordingId, *, reason: str, actor: str, now: datetime, despite_lock: bool = False
    ) -> Certificate:
        """Destroy one now, whatever its period says.

        `reason` is stored and must hold nothing personal. A locked one (art. 18 GDPR) only on the officer's word
        (`despite_lock`). Raises NotFound, Protected, AuditFailed, StorageFailed.
        """
        async with self._alone:
            if self._redactions is not None:
                await self._redactions.finish_all(now)
            row = await self._index.recording(recording)
            if row.destroyed is not None:
                raise Protected(f"recording {recording} was destroyed already")
            if row.locked and not despite_lock and recording not in await self._audit.half_destroyed():
                raise Protected(
                    f"recording {recording} is locked (art. 18 GDPR)",
                    "The privacy officer decides: repeat it with --despite-lock on his word.",
                )
            if recording not in await self._audit.half_destroyed():
                await self._begin(row, BY_HAND, reason, actor, now)
            return await self._end(recording, now)

    async def _attempt(
        self,
        work: Awaitable[Certificate | None],
        recording: str,
        destroyed: list[Certificate],
        failed: list[tuple[str, str]],
    ) -> None:
        try:
            certificate = await work
        except (StorageFailed, NotFound, Protected) as error:
            failed.append((recording, str(error)))
            _log.error(Event.SWEEP_FAILED, recording=recording, reason=error.code)
            return
        if certificate is not None:
            destroyed.append(certificate)

    async def _sweep_one(self, recording: RecordingId, now: datetime, actor: str) -> Certificate | None:
        row = await self._index.recording(recording)  # an outcome or a lock may have come since it was listed
        decision = self.decide(row, now)
        if row.destroyed is not None or isinstance(decision, Keep):
            return None
        try:
            await self._archive.open_path(row.path)
        except NotFound:
            raise StorageFailed(
                "its file is not in the archive: is it mounted? `pbxguard recordings destroy` ends it all the same"
            ) from None
        await self._begin(row, decision.why.ground.value, decision.why.en, actor, now)
        return await self._end(recording, now)

    async def _begin(self, row: RecordingRow, ground: str, reason: str, actor: str, now: datetime) -> None:
        reached(FaultPoint.DESTRUCTION_DECIDED)
        await self._audit.commit(
            AuditEntry(
                DESTROYING,
                now,
                actor=actor,
                recording=row.id,
                data={
                    "node": row.node,
                    "purposes": list(row.purposes),
                    "ended": row.ended.isoformat(),
                    "ground": ground,
                    "reason": reason,
                    "sha256": row.sha256,
                },
            )
        )
        reached(FaultPoint.DESTRUCTION_BEGUN)

    async def _end(self, recording: RecordingId, now: datetime) -> Certificate:
        """From a line that it begins to the line that it is done; every step may have been done before."""
        begun = [entry for entry in await self._audit.of_recording(recording) if entry.kind == DESTROYING][-1]
        row = await self._index.recording(recording)
        file_found = False
        if row.destroyed is None:
            file_found = await self._is_there(row.path)
            await self._archive.remove(row.path)
            await self._archive.remove(manifest_path(row.path))
        await self._index.mark_destroyed(recording, now)  # again, should a crash have come before its scrubbing
        data = {**(begun.data or {}), "file_found": file_found}
        reached(FaultPoint.DESTRUCTION_DONE)
        await self._audit.commit(AuditEntry(DESTROYED, now, actor=begun.actor, recording=recording, data=data))
        reached(FaultPoint.DESTRUCTION_CERTIFIED)
        _log.info(Event.RECORDING_DESTROYED, recording=recording, reason=str(data.get("ground", "")))
        return Certificate(
            recording=recording,
            node=str(data.get("node", "")),
            purposes=tuple(data.get("purposes", ())),
            ended=str(data.get("ended", "")),
            ground=str(data.get("ground", "")),
            reason=str(data.get("reason", "")),
            sha256=str(data.get("sha256", "")),
            actor=begun.actor,
            destroyed=now.isoformat(),
            file_found=file_found,
        )

    async def _is_there(self, path: str) -> bool:
        try:
            await self._archive.open_path(path)
        except NotFound:
            return False
        return True


def next_night(now: datetime) -> datetime:
    """The next moment, after `now`, at which the sweep is due."""
    night = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0)
    return night if night > now else night + timedelta(days=1)


def _before(now: datetime, period: Period) -> datetime:
    """The latest moment whose `period` is over; months are counted as 31 days, so never too early."""
    return now - timedelta(days=period.days + 31 * period.months)
