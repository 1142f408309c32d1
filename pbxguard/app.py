"""The wiring: the only place that names concrete adapters. Starts everything, and ends it in order.

Order of a start: database, audit log, spool and archive; then the guard, which refuses everything until it sees; then
AMI, which looks for another pbxguard's beat before it does anything; then the doors. A second service on the same
socket, or on the same Asterisk, refuses to start, and touches nothing of the first one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import uvloop

from pbxguard.api import place
from pbxguard.archive.files import CallerIdStyle, FileArchive
from pbxguard.archive.spool import Spool
from pbxguard.cli.context import retention_rules
from pbxguard.core.errors import AnotherGuard, PbxguardError, SettingsError
from pbxguard.core.facts import Fact, PolicyReloaded, SnapshotTaken
from pbxguard.core.ids import Uniqueid
from pbxguard.core.policy import Policy
from pbxguard.core.supervisor import Supervisor
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.logs import Event, get_logger
from pbxguard.metrics import Metrics
from pbxguard.pbx.agi.server import AgiServer
from pbxguard.pbx.ami.ami import Ami
from pbxguard.pbx.ami.connection import Address
from pbxguard.pbx.ami.stopping import stop_recorders
from pbxguard.pbx.ari.announcer import Announcer
from pbxguard.pbx.ari.connection import AriAddress
from pbxguard.pbx.ari.counters import Counters
from pbxguard.pbx.ari.whisper import Whispers
from pbxguard.service import lamps
from pbxguard.service.clock import SystemClock, machine_boot
from pbxguard.service.contacts import Contacts
from pbxguard.service.doors import CalleeDoor, CallerDoor, Heartbeats, Surroundings
from pbxguard.service.guard import Guard
from pbxguard.service.life import Life
from pbxguard.service.quarantine import Quarantine
from pbxguard.service.recovery import Recovery
from pbxguard.service.redaction import Redactions
from pbxguard.service.retention import Retention
from pbxguard.service.running import Running
from pbxguard.service.sealing import Sealer
from pbxguard.service.segments import Segments
from pbxguard.service.telling import Teller
from pbxguard.settings import Settings, load, needs_restart
from pbxguard.sound.prompts import Prompts
from pbxguard.systemd import Systemd

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pbxguard.service.view import ServiceView

WORK = ".work"
"""Folder in the archive's root for files on their way, and for the watermark."""
METRICS_SECONDS = 1.0
READY_SECONDS = 5.0
"""How long a start waits for Asterisk before it calls itself ready all the same."""
STUCK_RECORDING_SECONDS, STUCK_SECONDS = 1.0, 60.0
"""No fact takes so long. While a recorder may run, nobody else would stop it; when none does, it is a slow disk at
worst, which a restart does not mend."""
BLIND_SECONDS = 15.0
"""The connection gives a silent Asterisk up after 4 s; a beat that is later than this was not watched."""
CALLER_ALIVE, CALLEE_ALIVE = "PBXGUARD_ALIVE_ARI", "PBXGUARD_ALIVE_AGI"
"""Global variables that the shipped dialplan reads: a door whose heartbeat is old is bypassed."""

_log = get_logger()


@dataclass(slots=True)
class _Stores:
    audit: SqlAudit
    index: SqlIndex
    archive: FileArchive
    spool: Spool
    work: Path


def run(settings: Settings, path: Path | None = None) -> None:
    """Run the service until SIGTERM or SIGINT; SIGHUP reads `path` anew. Raises PbxguardError when it cannot start."""
    uvloop.run(serve(settings, path))


async def serve(settings: Settings, path: Path | None = None) -> None:
    """As `run`, on a running loop."""
    _log.info(Event.SERVICE_STARTING)
    _log.info(Event.SETTINGS_LOADED, mode=settings.mode.value, rate=settings.rate)
    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    async with _stores(settings) as stores:
        service = _Service(settings, stores, await asyncio.to_thread(policy_of, settings))
        try:
            await service.run(stop, reload, path)
        except AnotherGuard:
            raise
        except BaseException:
            # Whatever it was: no recorder outlives its guard. (After a stop they are stopped, and closed, already;
            # while another pbxguard lives, they are its own.)
            with contextlib.suppress(PbxguardError):
                await asyncio.shield(stop_recorders(_ami_address(settings), SystemClock()))
            raise
    _log.info(Event.SERVICE_STOPPED)


def _ami_address(settings: Settings) -> Address:
    ami = settings.ami
    return Address(ami.host, ami.port, ami.username, ami.read_secret())


def policy_of(settings: Settings) -> Policy:
    """What the core decides by, with the prompts that may be played. Reads files: call it in a thread."""
    folder = PurePosixPath(settings.prompts.for_asterisk)
    prompts = Prompts(settings.prompts.directory, folder, settings.rate, settings.wording())
    return settings.policy(
        prompts.approved(settings.disclosure_keys()), prompts.confirmations(settings.confirmation_keys())
    )


@contextlib.asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[_Stores]:
    spool = Spool(
        settings.spool.path,
        PurePosixPath(settings.spool.for_asterisk),
        settings.rate,
        settings.spool.min_free_mb * 1024 * 1024,
    )
    archive = FileArchive(settings.archive.root)
    work = settings.archive.root / WORK
    await spool.threads.run(spool.prepare)
    await archive.threads.run(archive.prepare)
    await archive.threads.run(work.mkdir, mode=0o750, exist_ok=True)
    await upgrade(settings.database.url)
    database = await Database.open(settings.database.url)
    try:
        async with SqlAudit(database, settings.node) as audit, SqlIndex(database, settings.node) as index:
            yield _Stores(audit, index, archive, spool, work)
    finally:
        await database.close()


class _Service:
    """Everything that runs, wired."""

    def __init__(self, settings: Settings, stores: _Stores, policy: Policy) -> None:
        self._settings, self._stores = settings, stores
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._supervisor = Supervisor(policy, settings.node)
        sink = _Sink()
        self._ami = Ami(
            host=settings.ami.host,
            port=settings.ami.port,
            username=settings.ami.username,
            secret=settings.ami.read_secret(),
            sink=sink,
            clock=self._clock,
        )
        segments = Segments(spool=stores.spool, clock=self._clock, policy=self._policy)
        sealer = Sealer(
            spool=stores.spool,
            archive=stores.archive,
            index=stores.index,
            audit=stores.audit,
            clock=self._clock,
            policy=self._policy,
            node=settings.node,
            work=stores.work,
            caller_id=CallerIdStyle(settings.archive.caller_id),
        )
        self._guard = sink.guard = Guard(
            self._supervisor,
            recorder=self._ami.recorder,
            pbx=self._ami.pbx,
            audit=stores.audit,
            index=stores.index,
            segments=segments,
            sealer=sealer,
            clock=self._clock,
            spool=stores.spool.state,
            touch=stores.spool.touch,
            metrics=self._metrics,
        )
        self._recovery = Recovery(
            guard=self._guard,
            audit=stores.audit,
            index=stores.index,
            recorder=self._ami.recorder,
            segments=segments,
            sealer=sealer,
            clock=self._clock,
            node=settings.node,
            watermark=stores.work / "watermark",
            machine=machine_boot(),
            look_anew=self._ami.pbx.look_anew,
        )
        self._life = Life(stores.audit, self._clock, self._recovery.last_seen)
        self._guard.before_snapshot.append(self._recovery.before_snapshot)
        self._guard.before_snapshot.append(self._seal_what_ended)
        self._guard.before_snapshot.append(self._put_out_lamps)
        around = Surroundings(
            policy=self._policy,
            closed=self._guard.closed,
            notes=self._supervisor.memory.of,
            place=self._place,
            deaf=self._supervisor.deaf,
            facts=self._guard,
            audit=stores.audit,
            clock=self._clock,
            boot=lambda: self._supervisor.boot,
        )
        ari = settings.ari
        address = AriAddress(ari.url, ari.username, ari.read_password())
        self._announcer = Announcer(address, CallerDoor(around))
        self._whispers = Whispers(
            self._announcer.connection,
            application=address.application,
            put=self._guard.put,
            seen=lambda: self._guard.beat,
        )
        self._announcer.guests.append(self._whispers)
        self._guard.listeners.append(self._whispers.observe)
        self._teller = self._guard.tell = Teller(around, self._whispers)
        self._guard.requests.confirm = self._teller.confirm
        self._callee = CalleeDoor(around, Counters(self._announcer.connection).sent)
        self._guard.listeners.append(self._callee.observe)
        self._contacts = Contacts(self._policy, self._ami.pbx, self._guard)
        self._guard.listeners.append(self._contacts.observe)
        self._agi = AgiServer({"outbound": self._callee.answer})
        self._heartbeats = Heartbeats(
            self._ami.pbx,
            self._clock,
            {
                CALLER_ALIVE: self._announcer.connection.round_trip,
                CALLEE_ALIVE: self._callee_door_works,
            },
        )
        self._quarantine = Quarantine(
            spool=stores.spool, audit=stores.audit, clock=self._clock, knows=self._guard.knows
        )
        self._retention = Retention(
            index=stores.index,
            audit=stores.audit,
            archive=stores.archive,
            rules=retention_rules(settings),
            redactions=Redactions(index=stores.index, audit=stores.audit, archive=stores.archive),
        )
        self._view = Running(
            guard=self._guard,
            index=stores.index,
            pbx=self._ami.pbx,
            clock=self._clock,
            node=settings.node,
            policy=self._policy,
            connections={
                "ami": lambda: self._ami.connected,
                "ari": lambda: self._announcer.connection.connected,
                "caller's door": partial(self._heartbeats.alive, CALLER_ALIVE),
                "callee's door": partial(self._heartbeats.alive, CALLEE_ALIVE),
            },
            asterisk_version=lambda: self._ami.asterisk_version,
            lag=lambda: self._ami.lag,
            metrics=self._metrics.text,
        )
        self._sealing: set[asyncio.Task[None]] = set()
        self._systemd = Systemd()
        self._answers = asyncio.Event()
        self._rival: AnotherGuard | None = None

    async def run(self, stop: asyncio.Event, reload: asyncio.Event, path: Path | None) -> None:
        """Until `stop` is set; then recorders are stopped and their segments closed before anything else ends."""
        settings = self._settings
        try:
            async with asyncio.TaskGroup() as group:
                works = (
                    ("api", self._serve_api()),
                    ("guard", self._guard.run()),
                    ("ami", self._ami.run()),
                    ("ari", self._once_alone(self._announcer.run)),
                    ("agi", self._once_alone(partial(self._agi.run, settings.agi.host, settings.agi.port))),
                    ("callee's door", self._callee.run()),
                    ("contacts", self._contacts.run()),
                    ("teller", self._teller.run()),
                    ("heartbeats", self._once_alone(self._heartbeats.run)),
                    ("rival", self._give_way(stop)),
                    ("life", self._once_alone(self._life.begin)),
                    ("ready", self._tell_ready()),
                    ("watermark", self._recovery.keep_watermark()),
                    ("recovery", self._recovery.retry()),
                    ("retention", self._retention.run(self._clock.utc)),
                    ("quarantine", self._quarantine.run()),
                    ("metrics", self._measure()),
                    ("reload", self._reload(reload, path)),
                    ("sign of life", self._systemd.keep_alive(self._moves)),
                )
                tasks = [group.create_task(work, name=name) for name, work in works]
                _spare_collections()
                await stop.wait()
                _log.info(Event.SERVICE_STOPPING)
                self._systemd.stopping()
                await self._guard.close()
                await self._whispers.close()
                await self._life.end()
                for task in tasks:
                    task.cancel()
        except* PbxguardError as group_error:
            for error in group_error.exceptions:
                _log.error(Event.SERVICE_FAILED, reason=getattr(error, "code", type(error).__name__))
            first = group_error.exceptions[0]
            raise (first if isinstance(first, PbxguardError) else group_error) from None
        if self._rival is not None:
            raise self._rival

    async def _tell_ready(self) -> None:
        """Requests are answered, and no other pbxguard is here; without an Asterisk nobody knows, nor need to."""
        await self._answers.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                await self._ami.wait_alone()
        _log.info(Event.SERVICE_STARTED)
        self._systemd.ready()

    async def _once_alone(self, work: Callable[[], Awaitable[None]]) -> None:
        """The doors: a second pbxguard would take them from the first one."""
        await self._ami.wait_alone()
        await work()

    async def _give_way(self, stop: asyncio.Event) -> None:
        self._rival = await self._ami.rival()
        _log.error(Event.SERVICE_FAILED, reason=self._rival.code, mend=self._rival.diagnostics())
        stop.set()

    async def _serve_api(self) -> None:
        path = self._settings.socket.path
        bound = await asyncio.to_thread(place.bind, path)
        try:
            # Beside the look for another pbxguard: nobody's decision waits for it.
            create, serve = await asyncio.to_thread(_api)
            _spare_collections()
            await serve(create(self._view), path, self._answers.set, bound)
        finally:
            bound.close()
            place.remove(path)

    def _moves(self) -> bool:
        """Whether the guard does its work, or is known not to be able to: else we had better be killed."""
        most = STUCK_RECORDING_SECONDS if self._guard.open_segments else STUCK_SECONDS
        return self._guard.busy_for <= most and not (self._ami.connected and self._ami.lag > BLIND_SECONDS)

    def _policy(self) -> Policy:
        return self._supervisor.policy

    async def _callee_door_works(self) -> None:
        """It needs both: FastAGI asks what is to be told, ARI counts what was sent of it."""
        await self._agi.answers()
        await self._announcer.connection.round_trip()

    def _place(self, channel: Uniqueid) -> tuple[str, str] | None:
        seen = self._supervisor.board.channels.get(channel)
        return None if seen is None else (seen.exten, seen.context)

    async def _seal_what_ended(self, snapshot: SnapshotTaken) -> None:
        """Beside everything else: nobody waits for it."""
        task = asyncio.create_task(self._recovery.seal_ended(snapshot), name="seal what ended")
        self._sealing.add(task)
        task.add_done_callback(self._sealing.discard)

    async def _put_out_lamps(self, snapshot: SnapshotTaken) -> None:
        await lamps.put_out(self._ami.pbx)

    async def _reload(self, asked: asyncio.Event, path: Path | None) -> None:
        """On SIGHUP: lists, purposes, prompts, patterns, periods and modes anew. A broken file changes nothing.

        Connections, folders and the database stay as they were at the start, and the log says what waits for a
        restart; live recordings go on as far as the new policy permits them.
        """
        while True:
            await asked.wait()
            asked.clear()
            if path is not None:
                self._systemd.reloading()
                await self._reload_once(path)
                self._systemd.ready()

    async def _reload_once(self, path: Path) -> None:
        try:
            read = await asyncio.to_thread(load, path)
            settings, waiting = needs_restart(self._settings, read)
            policy = await asyncio.to_thread(policy_of, settings)
            rules = retention_rules(settings)
        except SettingsError as error:
            _log.error(Event.SETTINGS_REFUSED, keys=[key for key, _, _ in error.mistakes], error=str(error))
        except Exception as error:  # whatever it was, the old one holds, and live calls with it
            reason = error.code if isinstance(error, PbxguardError) else type(error).__name__
            _log.error(Event.SETTINGS_REFUSED, keys=[], error=reason)
        else:
            self._supervisor.policy = policy
            self._retention.rules = rules
            await self._guard.put(PolicyReloaded())
            _log.info(Event.SETTINGS_LOADED, mode=settings.mode.value, rate=settings.rate, needs_restart=waiting)

    async def _measure(self) -> None:
        metrics = self._metrics
        while True:
            metrics.beat_lag.set(self._ami.lag)
            metrics.connected.labels("ami").set(self._ami.connected)
            metrics.connected.labels("ari").set(self._announcer.connection.connected)
            metrics.running.set(self._guard.running)
            metrics.waiting_to_seal.set(self._guard.health.waiting_to_seal)
            metrics.calls.set(len(self._supervisor.calls))
            metrics.facts_waiting.set(self._guard.waiting)
            self._systemd.status(self._in_words())
            await asyncio.sleep(METRICS_SECONDS)

    def _in_words(self) -> str:
        """For `systemctl status`; no number of a person."""
        closed = self._guard.closed()
        why = f"; nothing is recorded now: {closed[0].value}" if closed else ""
        return f"{len(self._supervisor.calls)} calls, {self._guard.running} being recorded{why}"


def _api() -> tuple[Callable[[ServiceView], FastAPI], Callable[..., Awaitable[None]]]:
    from pbxguard.api.application import create
    from pbxguard.api.server import serve

    return create, serve


def _spare_collections() -> None:
    """What is there now stays: a full collection that walked it would stop everything for 0.2 s, in a burst at that.

    Nor is any of it looked at now: loading leaves next to nothing to collect (`cli.run`).
    """
    gc.freeze()
    gc.enable()


class _Sink:
    """Where AMI puts its facts; the guard comes after AMI in the wiring."""

    guard: Guard

    async def put(self, fact: Fact) -> None:
        await self.guard.put(fact)
