"""Facts in, commands out: the one place where the pure core meets the world.

Owns the queue of facts, the supervisor, and one task for each segment from its permit to its closed spool files. What
opens is in the audit log before it is acted on; what closes is acted on at once. A fault here means no recording; it
never holds up a call, since nothing of a call waits for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, assert_never

from pbxguard.core.commands import (
    CallOutcome,
    Command,
    CommitBegin,
    CommitResume,
    HangUp,
    LookAnew,
    LookCloser,
    NoteBinding,
    NoteDoubt,
    NoteLongPause,
    NotePrivate,
    NoteRequest,
    RefuseRequest,
    ReportCall,
    ReportSpy,
    SealRecording,
    ShowLamp,
    StartRecording,
    StopRecording,
    StopTelling,
    Tell,
)
from pbxguard.core.errors import AuditFailed, PbxguardError, SegmentsOpen
from pbxguard.core.facts import (
    BeatReturned,
    Fact,
    SegmentClosed,
    SegmentStarted,
    SegmentStartFailed,
    SnapshotTaken,
    SwitchedOff,
)
from pbxguard.core.ids import RecordingId, SegmentId, Uniqueid
from pbxguard.core.reasons import Reason
from pbxguard.core.remembered import DOUBTED, PRIVATE
from pbxguard.core.segments import ClosedSegment, OpenSegment
from pbxguard.core.supervisor import Supervisor
from pbxguard.fault_points import FaultPoint, reached
from pbxguard.logs import Event, alert, get_logger
from pbxguard.metrics import Metrics

from .errands import Errands
from .health import Health
from .leftovers import Leftovers
from .narrator import Narrator
from .ports import Audit, AuditEntry, Clock, Index, Pbx, Recorder, RecorderHandle, SpoolState
from .requests import Requests
from .sealing import Sealer
from .segments import Segments

QUEUE = 20_000
"""Facts that may wait; when it is full, the sockets are no longer read."""
TICK_SECONDS = 0.05
BATCH = 200
"""Facts handled before other tasks get their turn."""
STOP_RETRY_SECONDS = 0.25
SEAL_RETRY_SECONDS = 5.0
OPEN_RETRY_SECONDS = 1.0
"""The same, while a segment that another run left is not closed."""
SEALING_AT_ONCE = 2
MOST_CALLS = 20_000
"""Calls whose report may wait here, beside those that wait in the index."""
NOTHING_SECONDS = 2.0
"""A recorder that ran longer and left no sample is an operator's business."""
CLOSE_SECONDS = 5.0
_UNSEEN = frozenset((Reason.PICTURE_WRONG, Reason.NOT_CONNECTED))
"""While these hold, a leg may have given its place, and its recorder with it, to another channel."""
_T = TypeVar("_T")

_log = get_logger()


@dataclass(slots=True)
class _Job:
    """One segment on its way from permit to closed files."""

    start: StartRecording
    decided: float
    """When its permit was, in monotonic seconds."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    stop: StopRecording | None = None
    handle: RecorderHandle | None = None
    """Of the recorder, once it runs."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its recorder is known not to run, or never to have run."""
    permitted: OpenSegment | None = None
    """Once its line is in the audit log, until it is closed."""


@dataclass(slots=True)
class _Kept:
    """What a recording has so far."""

    segments: list[ClosedSegment] = field(default_factory=list)
    destroy: bool = False
    lock: bool = False
    never: set[SegmentId] = field(default_factory=set)
    """Segments whose line could not be written, as far as we know: nothing was begun for them."""


class Guard:
    """Fulfils `ports.FactSink`. `listeners` hear every fact before the core does (the callee's door judges by them)."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        recorder: Recorder,
        pbx: Pbx,
        audit: Audit,
        index: Index,
        segments: Segments,
        sealer: Sealer,
        clock: Clock,
        spool: Callable[[], SpoolState],
        touch: Callable[[], object],
        metrics: Metrics,
    ) -> None:
        """`spool` tries the spool, `touch` sees whether it takes a write; both may block (threads call them)."""
        self.supervisor = supervisor
        self._narrator = Narrator(ours=self._records, metrics=metrics)
        self.listeners: list[Callable[[Fact], None]] = [self._narrator.observe]
        self.before_snapshot: list[Callable[[SnapshotTaken], Awaitable[None]]] = []
        self._recorder, self._pbx, self._audit, self._index = recorder, pbx, audit, index
        self._segments, self._sealer, self._clock, self._metrics = segments, sealer, clock, metrics
        self.health = Health(facts=self, audit=audit, clock=clock, spool=spool, touch=touch)
        self.requests = Requests(
            supervisor=supervisor, facts=self, pbx=pbx, audit=audit, clock=clock, audit_failed=self.health.audit_failed
        )
        self.before_snapshot.append(self.requests.before_snapshot)
        self._facts: asyncio.Queue[Fact] = asyncio.Queue(QUEUE)
        self._jobs: dict[SegmentId, _Job] = {}
        self._kept: dict[RecordingId, _Kept] = {}
        self._errands = Errands()
        self.tell: Callable[[Tell | StopTelling], None] | None = None
        """Who whispers; it comes after the guard in the wiring."""
        self.leftovers: Leftovers | None = None
        """Who closes what was left open; it comes after the guard in the wiring."""
        self._calls_waiting: dict[str, tuple[CallOutcome, bool]] = {}
        self._some_calls = asyncio.Event()
        self._sealing = asyncio.Semaphore(SEALING_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sealed = 0
        self.beat = float("-inf")
        self._news = asyncio.Event()
        """Set, and another one put in its place, when a beat came back or a permit was revoked."""
        self._since: float | None = None
        """When the fact in hand was taken up."""

    # -- what others see ---------------------------------------------------------------------------------------------

    async def put(self, fact: Fact) -> None:
        """Take a fact; waits while the queue is full."""
        await self._facts.put(fact)

    def closed(self) -> tuple[Reason, ...]:
        """Why nothing at all may be recorded now; empty when it may."""
        return self.supervisor.closed(self._clock.now())

    @property
    def waiting(self) -> int:
        """Facts not handled yet."""
        return self._facts.qsize()

    @property
    def running(self) -> int:
        """Recorders wanted now."""
        return len(self.supervisor.running)

    @property
    def busy_for(self) -> float:
        """Seconds that the fact in hand has taken so far; 0 when none is."""
        return 0.0 if self._since is None else self._clock.now() - self._since

    @property
    def open_segments(self) -> int:
        """Segments from their permit to their closed files: while there is one, a recorder may run."""
        return len(self._jobs)

    def revoked(self) -> Mapping[SegmentId, float]:
        """Segments that are stopped and not known to be closed, with the last moment proven to be permitted."""
        return {segment: job.stop.proven for segment, job in self._jobs.items() if job.stop is not None}

    def knows(self, recording: RecordingId) -> bool:
        """Whether a segment of it is under way here."""
        return recording in self._kept or any(j.start.recording == recording for j in self._jobs.values())

    def runs(self, segment: SegmentId) -> bool:
        """Whether it is one of this run's own, not closed and sealed yet."""
        mine = [closed.segment for kept in self._kept.values() for closed in kept.segments]
        return segment in self._jobs or segment in mine

    def _records(self, channel: Uniqueid) -> bool:
        return any(job.start.leg == channel for job in self._jobs.values())

    async def run(self) -> None:
        """Until cancelled. On cancellation running recorders are stopped and their segments closed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            workers = [
                group.create_task(self._take(), name="guard facts"),
                group.create_task(self._tick(), name="guard ticks"),
                group.create_task(self.health.watch(), name="guard health"),
                group.create_task(self._errands.run(), name="guard errands"),
                group.create_task(self._write_calls(), name="guard calls"),
                group.create_task(self._segments.growth.run(), name="guard growth"),
            ]
            try:
                await asyncio.Event().wait()
            finally:
                for worker in workers:
                    worker.cancel()

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Stop every recorder and wait, at most so long, until their segments are closed: before the service ends."""
        self._do(self.supervisor.handle(SwitchedOff(), self._clock.now()))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    # -- facts -------------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        while True:
            await self._one(await self._facts.get())
            for _ in range(BATCH):
                if self._facts.empty():
                    break
                await self._one(self._facts.get_nowait())
            else:
                await asyncio.sleep(0)

    async def _one(self, fact: Fact) -> None:
        self._since = self._clock.now()
        for listener in self.listeners:
            listener(fact)
        if isinstance(fact, BeatReturned):
            self.beat = max(self.beat, fact.sent)
        if isinstance(fact, SnapshotTaken):
            await self._remember(fact)
        self._do(self.supervisor.handle(fact, self._clock.now()))
        if isinstance(fact, BeatReturned):
            self._tell_waiting()
        self._since = None

    def _tell_waiting(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _note(self, kind: str, channel: Uniqueid) -> None:
        """Into the audit log, after it was acted on."""
        try:
            await self._audit.commit(
                AuditEntry(kind, self._clock.utc(), boot=self.supervisor.boot, channel=channel, call=channel)
            )
        except AuditFailed:
            await self.health.audit_failed()

    async def _remember(self, snapshot: SnapshotTaken) -> None:
        """What the audit log knows of the channels that are there: a restart reads it, and nothing else."""
        for restore in self.before_snapshot:
            await restore(snapshot)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            # Facts that wait are older than this moment: a tick before them would see a beat as late that is here.
            if self._facts.empty():
                self._do(self.supervisor.tick(self._clock.now()))
            supervisor = self.supervisor
            late = supervisor.connected and supervisor.lag > supervisor.policy.limits.beat_lag_start
            self._narrator.look(supervisor.lag, late, self.waiting)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _do(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartRecording(segment=segment):
                    # Its job is there at once: a stop may be the next command.
                    self._jobs[segment] = job = _Job(command, self._clock.now())
                    self._pbx.beat_now()  # it comes back while the audit log is written
                    self._spawn(self._record(job), f"segment {segment}")
                case StopRecording():
                    self._stop(command)
                case SealRecording():
                    self._spawn(self._seal(command), f"seal {command.recording}")
                case ReportCall():
                    self._report(command)
                case ReportSpy():
                    alert(
                        Event.SPY_FORBIDDEN,
                        spy=command.spy,
                        talkers=list(command.talkers),
                        reason=command.reasons[0].value,
                        reasons=[reason.value for reason in command.reasons],
                        hung_up=command.hung_up,
                    )
                case LookAnew(channels=channels):
                    _log.error(Event.PICTURE_WRONG, channels=len(channels), calls=list(channels[:10]))
                    self._pbx.look_anew()
                    self._spawn(self._stop_strays(), "strays")
                case LookCloser(channels=channels):
                    self._pbx.look_closer()
                    if channels:
                        _log.warning(Event.PICTURE_DOUBTED, channels=len(channels), calls=list(channels[:10]))
                        self._spawn(self._stop_strays(), "strays")
                case NoteDoubt(channel=channel):
                    self._spawn(self._note(DOUBTED, channel), "note doubt")
                case NotePrivate(channel=channel):
                    self._spawn(self._note(PRIVATE, channel), "note private")
                case NoteRequest():
                    self._spawn(self.requests.note(command), "note request")
                case NoteBinding():
                    self._spawn(self.requests.bind(command), "note binding")
                case CommitBegin():
                    self._spawn(self.requests.begin(command), "begin")
                case Tell() | StopTelling():
                    if self.tell is not None:
                        self.tell(command)
                case CommitResume():
                    self._spawn(self.requests.resume(command), "resume")
                case RefuseRequest():
                    self.requests.refuse(command)
                case NoteLongPause():
                    self.requests.warn(command)
                case ShowLamp(endpoint=endpoint, lamp=lamp):
                    self._errands.soon(("lamp", endpoint), partial(self._pbx.set_device_state, endpoint, lamp.value))
                case HangUp(channel=channel):
                    self._errands.soon(("hangup", channel), partial(self._pbx.hang_up, channel), closes=True)
                case _:
                    assert_never(command)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        if self._group is None:
            raise RuntimeError("the guard is not running")
        task = self._group.create_task(self._owned(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _owned(self, work: Coroutine[None, None, None], name: str) -> None:
        """A fault in one segment or seal is logged and stays there."""
        try:
            await work
        except Exception as error:
            _log.error(Event.TASK_FAILED, task=name.split(" ")[0], reason=type(error).__name__, exc_info=error)

    def _report(self, command: ReportCall) -> None:
        outcome = command.outcome
        self._calls_waiting.pop(outcome.call, None)
        self._calls_waiting[outcome.call] = (outcome, command.ended)
        if len(self._calls_waiting) > MOST_CALLS:  # the database is dead: the oldest news of calls goes, no recording
            del self._calls_waiting[next(iter(self._calls_waiting))]
            self._metrics.reports_dropped.inc()
        self._some_calls.set()
        if command.ended:
            self._log_end(outcome)
        if command.ended or not command.legs:
            return
        value = f"REC:{outcome.recording}" if outcome.recorded else f"NO:{outcome.reasons[0].value}"
        self._errands.soon(
            ("cdr", outcome.call),
            lambda: self._pbx.set_channel_variable(outcome.call, "CDR(pbxguard)", value),
        )
        if not outcome.recorded:
            _log.info(
                Event.WOULD_RECORD if outcome.would_record else Event.CALL_REFUSED,
                call=outcome.call,
                reason=outcome.reasons[0].value,
                reasons=[r.value for r in outcome.reasons],
            )

    def _log_end(self, outcome: CallOutcome) -> None:
        if not outcome.ever_recorded and outcome.reasons:
            self._metrics.refused(outcome.reasons[0])
        _log.info(
            Event.CALL_ENDED,
            call=outcome.call,
            recording=outcome.recording if outcome.ever_recorded else "",
            told=outcome.told,
            reason=outcome.reasons[0].value if outcome.reasons else "",
            external_number=outcome.external_number,
        )

    async def _write_calls(self) -> None:
        while True:
            await self._some_calls.wait()
            self._some_calls.clear()
            waiting, self._calls_waiting = self._calls_waiting, {}
            for outcome, ended in waiting.values():
                try:
                    await self._index.put_call(outcome, self._clock.utc(), ended, self.supervisor.boot)
                except PbxguardError as error:
                    _log.error(Event.INDEX_FAILED, call=outcome.call, reason=error.code)

    # -- one segment -------------------------------------------------------------------------------------------------

    def _stop(self, command: StopRecording) -> None:
        kept = self._kept.setdefault(command.recording, _Kept())
        kept.destroy = kept.destroy or command.destroy
        kept.lock = kept.lock or command.lock
        job = self._jobs.get(command.segment)
        if job is not None and job.stop is None:
            job.stop = command
            job.stopped.set()
            self._tell_waiting()

    async def _record(self, job: _Job) -> None:
        try:
            await self._permit_and_record(job)
        except Exception:
            # A fault of ours: no recorder may outlive it, and its call must not wait for this segment; its recording
            # does, until somebody could close it.
            if job.handle is not None:
                await self._stop_recorder(job.handle)
            if job.permitted is not None and self.leftovers is not None:
                self.leftovers.abandon(job.permitted, self.beat if job.stop is None else job.stop.proven)
            await self.put(SegmentStartFailed(job.start.segment, Reason.START_FAILED.value))
            raise
        finally:
            job.gone.set()
            self._jobs.pop(job.start.segment, None)

    async def _permit_and_record(self, job: _Job) -> None:
        command = job.start
        segment = self._segments.open(command, self.supervisor.boot)
        reached(FaultPoint.PERMIT_DECIDED)
        try:
            await self._audit.commit(segment.entry())
            reached(FaultPoint.PERMIT_COMMITTED)
        except AuditFailed:
            await self.health.audit_failed()
            self._kept.setdefault(command.recording, _Kept()).never.add(command.segment)
            await self.put(SegmentStartFailed(command.segment, Reason.AUDIT_UNHEALTHY.value))
            return
        job.permitted = segment
        await self._predecessors(job)
        sent: float | None = None
        if await self._still_permitted(job):  # else revoked while the audit was being written: nothing is begun at all
            try:
                sent = self._clock.now()
                job.handle = await self._recorder.start(
                    command.leg, command.segment, segment.own_file, segment.others_file
                )
            except PbxguardError as error:
                _log.warning(Event.RECORDER_START_FAILED, recording=command.recording, reason=error.code)
        if job.handle is None:
            await self._close(job, segment, self._clock.now(), None)
            failed = SegmentStartFailed(command.segment, Reason.START_FAILED.value)
            await self.put(SegmentClosed(command.segment) if job.stop else failed)
            return
        _log.info(
            Event.RECORDER_STARTED, call=command.permit.call, recording=command.recording, segment=command.segment
        )
        await self.put(SegmentStarted(command.segment))
        await job.stopped.wait()
        ran = await self._stop_recorder(job.handle)
        if not ran and job.stop is not None and not _UNSEEN.isdisjoint(job.stop.reasons):
            await self._stop_strays()
        stopped = self._clock.now()
        job.gone.set()
        if job.stop is not None and Reason.RECORDER_STOPPED in job.stop.reasons and not ran:
            _log.error(
                Event.RECORDER_STOPPED_BY_OTHER,
                call=command.permit.call,
                recording=command.recording,
                segment=command.segment,
            )
        await self._close(job, segment, stopped, sent)
        await self.put(SegmentClosed(command.segment, ran))

    async def _still_permitted(self, job: _Job) -> bool:
        """Until a beat that was sent after the decision came back, not long ago, and the permit stands; False when it
        was revoked. Who was frozen in between, or waited for a slow audit log, decided by a picture that may be gone:
        what happened before that beat was sent has been seen now (docs/adr/0014)."""
        while job.stop is None:
            if self.beat > job.decided and self._clock.now() - self.beat <= self._fresh:
                return True
            self._pbx.beat_now()
            await self._news.wait()
        return False

    @property
    def _fresh(self) -> float:
        return self.supervisor.policy.limits.beat_lag_start

    async def _predecessors(self, job: _Job) -> None:
        """Until earlier recorders on the same leg are stopped: a stop that is sent again, since nobody answered the
        first one, must not hit the new one, to which Asterisk may have given the same id."""
        leg, earlier = job.start.leg, [one for one in self._jobs.values() if one.stop is not None]
        for one in [one for one in earlier if one is not job and one.start.leg == leg]:
            await one.gone.wait()
        if self.leftovers is not None:
            await self.leftovers.recorder_gone(leg)

    async def _stop_recorder(self, handle: RecorderHandle) -> bool:
        """Stop until somebody answers (S in DESIGN.md is when this returns); whether it ran until then."""
        return await self._insist(partial(self._recorder.stop, handle))

    async def _stop_strays(self) -> None:
        """Stop recorders that a masquerade left in the place of a leg that hung up."""
        await self._insist(self._recorder.stop_strays)

    async def _insist(self, stop: Callable[[], Awaitable[_T]]) -> _T:
        complained = False
        while True:
            # Asterisk closes a recorder's files while it holds its channel: on a stalled disk a stop would hang there,
            # and with it this call's voices and every other call (docs/adr/0015). Nothing gets to such a disk; what was
            # meant for it is cut away later.
            await self.health.spool_answers()
            try:
                return await stop()
            except PbxguardError as error:
                if not complained:
                    complained = True
                    alert(Event.RECORDER_STOP_UNANSWERED, reason=error.code)
                await asyncio.sleep(STOP_RETRY_SECONDS)

    async def _close(self, job: _Job, segment: OpenSegment, stopped: float, started: float | None) -> None:
        """Cut it, and note what is left; without a stop of ours (a failed start) nothing of it is kept."""
        stop = job.stop
        closed = await self._segments.close(
            segment,
            proven=stop.proven if stop else float("-inf"),
            stopped=stopped,
            started=started,
            reasons=stop.reasons if stop else (Reason.START_FAILED,),
            destroy=stop is not None and stop.destroy,
            lock=stop is not None and stop.lock,
        )
        self._kept.setdefault(segment.recording, _Kept()).segments.append(closed)
        job.permitted = None
        _log.info(
            Event.SEGMENT_CLOSED,
            recording=segment.recording,
            segment=segment.segment,
            reason=closed.reasons[0] if closed.reasons else "",
            kept_ms=closed.kept_ms,
            cut_ms=closed.cut_ms,
        )
        if started is not None and stopped - started > NOTHING_SECONDS:
            # It ran and left no sample: Asterisk may not write into the spool, or somebody stopped it.
            self.health.captured(closed.captured)
        reached(FaultPoint.SEGMENT_CUT)
        try:
            await self._audit.commit(closed.entry())
            reached(FaultPoint.SEGMENT_CLOSED)
        except AuditFailed:
            await self.health.audit_failed()

    async def _seal(self, command: SealRecording) -> None:
        """Until it is done: what was captured under a permit is sealed when storage is back."""
        kept = self._kept.setdefault(command.recording, _Kept())  # known to be ours until it is done
        while True:
            try:
                async with self._sealing:
                    await self._seal_once(command, kept)
                self._kept.pop(command.recording, None)
                self.health.seal_ended(command.recording)
                return
            except (PbxguardError, OSError) as error:
                self._metrics.seal_failures.inc()
                reason = error.code if isinstance(error, PbxguardError) else "storage_failed"
                self.health.seal_failed(command.recording, reason)
                pause = SEAL_RETRY_SECONDS
                if isinstance(error, SegmentsOpen) and self.leftovers is not None:
                    pause = OPEN_RETRY_SECONDS
                    await self.leftovers.close_due()
            await asyncio.sleep(pause)

    async def _seal_once(self, command: SealRecording, kept: _Kept) -> None:
        recording, call = command.recording, command.outcome.call
        if kept.destroy or command.destroy or command.private:
            why = Reason.MARKED_PRIVATE if command.private else Reason.OBJECTED
            await self._sealer.destroy_unsealed(recording, kept.segments, why)
            _log.info(Event.RECORDING_DESTROYED, call=call, recording=recording, reason=why.value)
            return
        lock = kept.lock or command.lock
        row = await self._sealer.seal(recording, command.outcome, kept.segments, lock=lock, never=kept.never)
        if row is None:
            _log.info(Event.RECORDING_EMPTY, call=call, recording=recording)
            return
        self._metrics.sealed.inc()
        self.sealed += 1
        _log.info(Event.RECORDING_SEALED, call=call, recording=recording, duration_ms=row.duration_ms)
        if row.locked:
            _log.info(Event.RECORDING_LOCKED, call=call, recording=recording)
