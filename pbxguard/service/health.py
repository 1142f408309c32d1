"""What the service knows of its own storage: the audit log, the spool, and what waits to be sealed.

Each trouble is told once, as an alert that says what to do, and once more when it is over. Nothing is ever deleted to
make room. Owns no decision: the core hears `AuditHealthy` and `SpoolHasRoom` and closes what must be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pbxguard.core.errors import AuditFailed, SegmentsOpen
from pbxguard.core.facts import AuditHealthy, SpoolHasRoom
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.logs import Event, alert, get_logger
from pbxguard.threads import Threads

from .ports import Audit, Clock, FactSink, SpoolState

AUDIT_SECONDS = 1.0
"""How often an audit log that failed is tried."""
AUDIT_LOOK_SECONDS = 2.0
"""How often one that works is: whoever records needs none for minutes, and is to stop when it is gone."""
SPOOL_SECONDS = 2.0
SPOOL_WAIT = 3.0
"""A spool that does not answer for so long is stalled."""

_SPOOL_EVENTS = {
    SpoolState.FULL: Event.SPOOL_FULL,
    SpoolState.UNWRITABLE: Event.SPOOL_UNWRITABLE,
    SpoolState.STALLED: Event.SPOOL_STALLED,
}

_log = get_logger()


class Health:
    """`watch()` runs beside the guard; the rest is told to it."""

    def __init__(
        self,
        *,
        facts: FactSink,
        audit: Audit,
        clock: Clock,
        spool: Callable[[], SpoolState],
        touch: Callable[[], object],
    ) -> None:
        """`spool` tries the spool; `touch` only sees whether it takes a write, and raises nothing. Both may block: each
        has a thread of its own."""
        self._facts, self._audit, self._clock, self._spool = facts, audit, clock, spool
        self._audit_healthy = False
        self._audit_told = False
        self._audit_doubted = asyncio.Event()
        self._spool_state: SpoolState | None = None
        self._thread = ThreadPoolExecutor(1, "spool-health")
        self._touch, self._touch_thread = touch, Threads("spool-touch", 1)
        self._touching: asyncio.Future[object] | None = None
        self._unsealed: dict[RecordingId, str] = {}
        self._unclosed: dict[SegmentId, tuple[RecordingId, str]] = {}
        self._recorders_empty = False

    @property
    def waiting(self) -> Mapping[RecordingId, str]:
        """Recordings that are to be sealed as soon as they can be, and why they could not be, last time."""
        return {**dict(self._unclosed.values()), **self._unsealed}

    @property
    def waiting_to_seal(self) -> int:
        """How many."""
        return len(self.waiting)

    @property
    def troubles(self) -> tuple[str, ...]:
        """Codes of what is wrong now: the names of the events that told it."""
        found = [Event.AUDIT_FAILED] if self._audit_told else []
        if self._spool_state is not None and (event := _SPOOL_EVENTS.get(self._spool_state)):
            found.append(event)
        if set(self._unsealed.values()) - {SegmentsOpen.code}:
            found.append(Event.SEALING_FAILED)
        if self._unclosed:
            found.append(Event.SEGMENT_UNCLOSED)
        if self._recorders_empty:
            found.append(Event.SEGMENT_EMPTY)
        return tuple(event.value for event in found)

    # -- the audit log -----------------------------------------------------------------------------------------------

    async def audit_failed(self) -> None:
        """An entry could not be written: nothing opens until one can."""
        if not self._audit_told:
            self._audit_told = True
            alert(Event.AUDIT_FAILED)
        if self._audit_healthy:
            self._audit_healthy = False
            self._audit_doubted.set()
            await self._facts.put(AuditHealthy(False))

    async def _watch_audit(self) -> None:
        """It is healthy once something is on disk, and no longer when nothing can be written."""
        while True:
            try:
                await self._audit.check()
            except AuditFailed:
                await self.audit_failed()
            else:
                self._audit_told = False
                if not self._audit_healthy:
                    self._audit_healthy = True
                    await self._facts.put(AuditHealthy(True))
            self._audit_doubted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AUDIT_LOOK_SECONDS if self._audit_healthy else AUDIT_SECONDS):
                    await self._audit_doubted.wait()
                    await asyncio.sleep(AUDIT_SECONDS)

    # -- the spool ---------------------------------------------------------------------------------------------------

    async def _watch_spool(self) -> None:
        probe: asyncio.Future[SpoolState] | None = None
        while True:
            if probe is None:
                probe = asyncio.get_running_loop().run_in_executor(self._thread, self._spool)
            await asyncio.wait({probe}, timeout=SPOOL_WAIT)
            state = SpoolState.STALLED  # and the one that hangs is waited for: no second one is sent after it
            if probe.done():
                state, probe = probe.result(), None
            await self._spool_is(state)
            await asyncio.sleep(SPOOL_SECONDS)

    async def _spool_is(self, state: SpoolState) -> None:
        if state is self._spool_state:
            return
        self._spool_state = state
        if event := _SPOOL_EVENTS.get(state):
            alert(event)
        await self._facts.put(SpoolHasRoom(state is SpoolState.READY))

    async def spool_answers(self) -> None:
        """Until the spool has taken a write, now: a stall is noticed seconds late. One write for all who wait."""
        if self._touching is None or self._touching.done():
            self._touching = asyncio.get_running_loop().run_in_executor(self._touch_thread, self._touch)
        await asyncio.shield(self._touching)

    def captured(self, samples: int) -> None:
        """What a recorder left that ran long enough to leave something."""
        if not samples and not self._recorders_empty:
            alert(Event.SEGMENT_EMPTY)
        self._recorders_empty = not samples

    # -- the archive -------------------------------------------------------------------------------------------------

    def seal_failed(self, recording: RecordingId, reason: str) -> None:
        """It will be tried again. One whose segments are not all closed is no trouble of the archive's."""
        before = self._unsealed.get(recording)
        failed = reason != SegmentsOpen.code
        if failed and not set(self._unsealed.values()) - {SegmentsOpen.code}:
            alert(Event.SEALING_FAILED, reason=reason)
        self._unsealed[recording] = reason
        if failed and before in (None, SegmentsOpen.code):
            _log.warning(Event.RECORDING_SEAL_FAILED, recording=recording, reason=reason)

    def seal_ended(self, recording: RecordingId) -> None:
        """It is sealed, or there is nothing of it."""
        failed = self._unsealed.pop(recording, SegmentsOpen.code) != SegmentsOpen.code
        if failed and not set(self._unsealed.values()) - {SegmentsOpen.code}:
            _log.warning(Event.SEALING_RECOVERED)

    def segment_unclosed(self, segment: SegmentId, recording: RecordingId, reason: str) -> None:
        """One that was left open cannot be closed; it will be tried again, and its recording waits for it."""
        if not self._unclosed:
            alert(Event.SEGMENT_UNCLOSED, segment=segment, recording=recording, reason=reason)
        self._unclosed[segment] = recording, reason

    def segment_closed(self, segment: SegmentId) -> None:
        """It is closed."""
        if self._unclosed.pop(segment, None) is not None and not self._unclosed:
            _log.warning(Event.SEGMENT_RECOVERED)

    async def watch(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_audit(), name="audit health")
                group.create_task(self._watch_spool(), name="spool health")
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._touch_thread.shutdown()
