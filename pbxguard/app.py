"""The wiring: the only place that names concrete adapters. Starts everything, and ends it in order.

Order of a start: database, audit log, spool and archive; then the guard, which refuses everything until it sees; then
the connections; then the doors. A second service on the same socket refuses to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import uvloop

from pbxguard.api import application, server
from pbxguard.archive.files import CallerIdStyle, FileArchive
from pbxguard.archive.spool import Spool
from pbxguard.cli.context import retention_rules
from pbxguard.core.errors import PbxguardError, SettingsError
from pbxguard.core.facts import Fact, PolicyReloaded, SnapshotTaken
from pbxguard.core.ids import Uniqueid
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Disclosure, DisclosureKey
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
from pbxguard.service import lamps
from pbxguard.service.clock import SystemClock
from pbxguard.service.doors import CalleeDoor, CallerDoor, Heartbeats, Surroundings
from pbxguard.service.guard import Guard
from pbxguard.service.quarantine import Quarantine
from pbxguard.service.recovery import Recovery
from pbxguard.service.retention import Retention
from pbxguard.service.running import Running
from pbxguard.service.sealing import Sealer
from pbxguard.settings import Settings, load
from pbxguard.sound.prompts import Prompts

WORK = ".work"
"""Folder in the archive's root for files on their way, and for the watermark."""
METRICS_SECONDS = 1.0
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
        service = _Service(settings, stores, await asyncio.to_thread(approved, settings))
        try:
            await service.run(stop, reload, path)
        except BaseException:
            # Whatever it was: no recorder outlives its guard. (After a stop they are stopped, and closed, already.)
            with contextlib.suppress(PbxguardError):
                await asyncio.shield(stop_recorders(_ami_address(settings)))
            raise
    _log.info(Event.SERVICE_STOPPED)


def _ami_address(settings: Settings) -> Address:
    ami = settings.ami
    return Address(ami.host, ami.port, ami.username, ami.read_secret())


def approved(settings: Settings) -> Mapping[DisclosureKey, Disclosure]:
    """The disclosures that may be played. Reads files: call it in a thread."""
    folder = PurePosixPath(settings.prompts.for_asterisk)
    return Prompts(settings.prompts.directory, folder, settings.rate, settings.wording()).approved(
        settings.disclosure_keys()
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
    await asyncio.to_thread(spool.prepare)
    await asyncio.to_thread(archive.prepare)
    await asyncio.to_thread(partial(work.mkdir, mode=0o750, exist_ok=True))
    await upgrade(settings.database.url)
    database = await Database.open(settings.database.url)
    try:
        async with SqlAudit(database, settings.node) as audit, SqlIndex(database, settings.node) as index:
            yield _Stores(audit, index, archive, spool, work)
    finally:
        await database.close()


class _Service:
    """Everything that runs, wired."""

    def __init__(self, settings: Settings, stores: _Stores, disclosures: Mapping[DisclosureKey, Disclosure]) -> None:
        self._settings, self._stores = settings, stores
        self._clock = SystemClock()
        self._metrics = Metrics()
        policy = settings.policy(disclosures)
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
            sealer=sealer,
            clock=self._clock,
            room=stores.spool.has_room,
            metrics=self._metrics,
        )
        self._recovery = Recovery(
            guard=self._guard,
            audit=stores.audit,
            index=stores.index,
            recorder=self._ami.recorder,
            sealer=sealer,
            clock=self._clock,
            node=settings.node,
            watermark=stores.work / "watermark",
        )
        self._guard.before_snapshot.append(self._recovery.before_snapshot)
        self._guard.before_snapshot.append(self._seal_what_ended)
        self._guard.before_snapshot.append(self._put_out_lamps)
        around = Surroundings(
            policy=self._policy,
            closed=self._guard.closed,
            notes=self._supervisor.memory.of,
            place=self._place,
            facts=self._guard,
            audit=stores.audit,
            clock=self._clock,
            boot=lambda: self._supervisor.boot,
        )
        self._callee = CalleeDoor(around)
        self._guard.listeners.append(self._callee.observe)
        ari = settings.ari
        self._announcer = Announcer(AriAddress(ari.url, ari.username, ari.read_password()), CallerDoor(around))
        self._agi = AgiServer({"outbound": self._callee.answer})
        self._heartbeats = Heartbeats(
            self._ami.pbx,
            self._clock,
            {
                CALLER_ALIVE: self._announcer.connection.round_trip,
                CALLEE_ALIVE: self._agi.answers,
            },
        )
        self._quarantine = Quarantine(
            spool=stores.spool, audit=stores.audit, clock=self._clock, knows=self._guard.knows
        )
        self._retention = Retention(
            index=stores.index, audit=stores.audit, archive=stores.archive, rules=retention_rules(settings)
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

    async def run(self, stop: asyncio.Event, reload: asyncio.Event, path: Path | None) -> None:
        """Until `stop` is set; then recorders are stopped and their segments closed before anything else ends."""
        settings = self._settings
        try:
            async with asyncio.TaskGroup() as group:
                works = (
                    ("api", server.serve(application.create(self._view), settings.socket.path)),
                    ("guard", self._guard.run()),
                    ("ami", self._ami.run()),
                    ("ari", self._announcer.run()),
                    ("agi", self._agi.run(settings.agi.host, settings.agi.port)),
                    ("callee's door", self._callee.run()),
                    ("heartbeats", self._heartbeats.run()),
                    ("watermark", self._recovery.keep_watermark()),
                    ("retention", self._retention.run(self._clock.utc)),
                    ("quarantine", self._quarantine.run()),
                    ("metrics", self._measure()),
                    ("reload", self._reload(reload, path)),
                )
                tasks = [group.create_task(work, name=name) for name, work in works]
                _spare_collections()
                _log.info(Event.SERVICE_STARTED)
                await stop.wait()
                _log.info(Event.SERVICE_STOPPING)
                await self._guard.close()
                for task in tasks:
                    task.cancel()
        except* PbxguardError as group_error:
            for error in group_error.exceptions:
                _log.error(Event.SERVICE_FAILED, reason=getattr(error, "code", type(error).__name__))
            first = group_error.exceptions[0]
            raise (first if isinstance(first, PbxguardError) else group_error) from None

    def _policy(self) -> Policy:
        return self._supervisor.policy

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
        """On SIGHUP: lists, purposes, prompts, patterns and modes anew. A broken file changes nothing.

        Connections, folders and the database stay as they were at the start; live recordings go on as far as the
        new policy permits them.
        """
        while True:
            await asked.wait()
            asked.clear()
            if path is None:
                continue
            try:
                settings = await asyncio.to_thread(load, path)
                policy = settings.policy(await asyncio.to_thread(approved, settings))
            except SettingsError as error:
                _log.error(Event.SETTINGS_REFUSED, keys=[key for key, _, _ in error.mistakes], error=str(error))
                continue
            except PbxguardError as error:
                _log.error(Event.SETTINGS_REFUSED, keys=[], error=error.code)
                continue
            self._supervisor.policy = policy
            await self._guard.put(PolicyReloaded())
            _log.info(Event.SETTINGS_LOADED, mode=settings.mode.value, rate=settings.rate)

    async def _measure(self) -> None:
        metrics = self._metrics
        while True:
            metrics.beat_lag.set(self._ami.lag)
            metrics.connected.labels("ami").set(self._ami.connected)
            metrics.connected.labels("ari").set(self._announcer.connection.connected)
            metrics.running.set(self._guard.running)
            metrics.calls.set(len(self._supervisor.calls))
            metrics.facts_waiting.set(self._guard.waiting)
            await asyncio.sleep(METRICS_SECONDS)


def _spare_collections() -> None:
    """What is there now stays: a full collection that walked it would stop everything for 0.2 s, in a burst at that."""
    gc.collect()
    gc.freeze()


class _Sink:
    """Where AMI puts its facts; the guard comes after AMI in the wiring."""

    guard: Guard

    async def put(self, fact: Fact) -> None:
        await self.guard.put(fact)
