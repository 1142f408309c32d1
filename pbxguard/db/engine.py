"""The database: opening, write transactions one at a time, upgrading.

SQLite in WAL by default, synchronous FULL everywhere: who waits for a commit may act on it. Writers of this process
queue here, in order, since SQLite's own waiting polls with ever longer naps; other processes (the command line) meet
us at `busy_timeout`. The code is written to run on PostgreSQL as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Table, create_engine, event, select, table, text
from sqlalchemy import column as sql_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pbxguard.core.errors import ConnectionFailed, StorageFailed
from pbxguard.threads import Threads

from .tables import HEAD

BUSY_MS = 2_000
"""How long a statement waits for another process's write lock."""
UPGRADE_BUSY_MS = 30_000
SCRUB_BUSY_MS = 200
CLOSE_SECONDS = 3.0
_BEGIN = "pbxguard_begin"
"""Execution option: how SQLite is to begin; empty for what must stand outside a transaction."""
_WRITING = {_BEGIN: "BEGIN IMMEDIATE"}
_OUTSIDE = {_BEGIN: ""}
_LOCK_KEY = 7_290_139
"""PostgreSQL's advisory lock while upgrading."""


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database or one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _engine(url: str, busy_ms: int) -> AsyncEngine:
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.drivername == "sqlite":
        parsed = parsed.set(drivername="sqlite+aiosqlite")
    engine = create_async_engine(parsed)
    if is_sqlite:
        _prepare(engine.sync_engine, busy_ms)
    return engine


def _prepare(engine: Engine, busy_ms: int) -> None:
    """Give SQLite's connections what they need, and its transactions their beginning."""

    @event.listens_for(engine, "connect")
    def connected(dbapi: Any, _: object) -> None:
        # Transactions are ours to begin: the driver's own begin late, and never as IMMEDIATE.
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in (
            f"busy_timeout = {busy_ms}",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",  # what is wiped is overwritten, not only unlinked
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A writer takes the lock at once: a reader that becomes a writer midway gets "database is locked" untried.
        begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
        if begin:
            connection.exec_driver_sql(begin)


def insert_into(dialect: str, into: Table) -> Any:
    """An insert of the dialect's own, which has ON CONFLICT; typed loosely, since the two classes share no base."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # heavy, and most have the other

        return postgresql.insert(into)
    return sqlite.insert(into)


class Database:
    """One database, shared by audit and index. Make it with `open`; close it."""

    def __init__(self, engine: AsyncEngine, direct: Engine | None = None) -> None:
        """`direct`: SQLite's, for transactions that a thread does at once."""
        self.engine, self.direct = engine, direct
        self._threads = Threads("database", 1)
        self._writing = asyncio.Lock()
        self._identity: tuple[int, int] | None = None
        """Device and inode of SQLite's file, as they were when its connections were opened."""

    @classmethod
    async def open(cls, url: str, *, busy_ms: int = BUSY_MS) -> Database:
        """Open one that `upgrade` made. Raises ConnectionFailed when it is not there or has another revision."""
        path = sqlite_file(url)
        if path is not None and not await asyncio.to_thread(path.exists):
            raise ConnectionFailed("database", "there is none yet", "Start pbxguard once: it makes its database.")
        engine = _engine(url, busy_ms)
        try:
            async with engine.connect() as connection:
                found = (await connection.execute(select(_VERSIONS.c.version_num))).scalar_one_or_none()
        except (SQLAlchemyError, OSError) as error:
            await engine.dispose()
            raise ConnectionFailed(
                "database", type(error).__name__, "Look at database in the configuration."
            ) from error
        if found != HEAD:
            await engine.dispose()
            raise ConnectionFailed(
                "database",
                f"it has revision {found}, this pbxguard needs {HEAD}",
                "Start the service once with this version: it upgrades its database.",
            )
        direct = None
        if path is not None:
            direct = create_engine(make_url(url).set(drivername="sqlite"))
            _prepare(direct, busy_ms)
        return cls(engine, direct)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent picture. Raises StorageFailed."""
        try:
            async with self.engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise StorageFailed(f"the database cannot be read: {type(error).__name__}") from error

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, on disk when the block is left; rolled back on any error. Raises StorageFailed."""
        try:
            async with self._writing, self.engine.connect() as connection:
                await connection.execution_options(**_WRITING)
                async with connection.begin():
                    yield connection
        except (SQLAlchemyError, OSError) as error:
            raise StorageFailed(f"the database cannot be written: {type(error).__name__}") from error

    async def execute(self, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        """One statement for all rows, in one transaction: on disk when this returns. Raises StorageFailed.

        With SQLite it is one hop to a thread and back; statement by statement it would be ten, each a turn of the loop.
        """
        if self.direct is None:
            async with self.write() as connection:
                await connection.execute(statement, rows)
            return
        try:
            async with self._writing:
                await self._threads.run(_execute, self.direct, statement, rows)
        except (SQLAlchemyError, OSError) as error:
            raise StorageFailed(f"the database cannot be written: {type(error).__name__}") from error

    async def touch(self) -> None:
        """Write to disk without leaving anything: when this returns, a transaction can be made. Raises StorageFailed.

        So it does when SQLite's file is no longer the one that was opened: what would be written to it is lost. The
        connections are dropped then, and the next one opens what is there.
        """
        if self.direct is None:
            async with self.write() as connection:
                await connection.execute(text("SELECT pg_current_xact_id()"))
            return
        try:
            async with self._writing:
                identity = await self._threads.run(_touch, self.direct)
        except (SQLAlchemyError, OSError) as error:
            raise StorageFailed(f"the database cannot be written: {type(error).__name__}") from error
        if self._identity not in (None, identity):
            self._identity = None
            await self.engine.dispose()
            self.direct.dispose()
            raise StorageFailed("the database's file was replaced")
        self._identity = identity

    async def scrub(self) -> bool:
        """Empty SQLite's write-ahead log, where overwritten pages outlive a wipe; True when it could be done now.

        Best effort, since it waits for readers only a moment: the next one does it as well.
        """
        if self.engine.dialect.name != "sqlite":
            return True
        try:
            async with self._writing, self.engine.connect() as connection:
                raw = await connection.execution_options(**_OUTSIDE)
                await raw.execute(text(f"PRAGMA busy_timeout = {SCRUB_BUSY_MS}"))
                row = (await raw.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))).one()
                await raw.invalidate()  # it has another busy_timeout than the pool's
                return bool(row[0] == 0)
        except (SQLAlchemyError, OSError):
            return False

    async def close(self) -> None:
        """Within `CLOSE_SECONDS`: on a disk that hangs, what is open is left to the end of the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.engine.dispose()
                if self.direct is not None:
                    await self._threads.run(self.direct.dispose)
        self._threads.shutdown()


def _execute(engine: Engine, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    with engine.connect().execution_options(**_WRITING) as connection, connection.begin():
        connection.execute(statement, rows)


def _touch(engine: Engine) -> tuple[int, int]:
    """Write SQLite's header anew, unchanged; gives device and inode of the file of that name."""
    with engine.connect().execution_options(**_WRITING) as connection, connection.begin():
        version = connection.execute(text("PRAGMA user_version")).scalar_one()
        connection.execute(text(f"PRAGMA user_version = {int(version)}"))
    status = os.stat(str(engine.url.database))
    return status.st_dev, status.st_ino


_VERSIONS = table("alembic_version", sql_column("version_num"))


def _migrate(connection: Connection) -> None:
    if connection.dialect.has_table(connection, _VERSIONS.name):
        found = connection.execute(select(_VERSIONS.c.version_num)).scalars().all()
        if list(found) == [HEAD]:
            return
    # Only now: loading them takes a tenth of a start, at most of which nothing is to be done.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("pbxguard.db") / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _upgrade(url: str) -> None:
    engine = _engine(url, UPGRADE_BUSY_MS)
    is_sqlite = engine.dialect.name == "sqlite"
    try:
        if is_sqlite:
            async with engine.connect() as connection:
                await connection.execution_options(**_OUTSIDE)
                await connection.execute(text("PRAGMA journal_mode = WAL"))
        async with engine.connect() as connection:
            await connection.execution_options(**_WRITING)
            async with connection.begin():
                if not is_sqlite:
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
                await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


def _sync(folder: Path) -> None:
    """So that what was made in it survives a power cut; what is in the database's own folder, SQLite syncs itself."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _upgrade_in_thread(url: str) -> None:
    path = sqlite_file(url)
    if path is not None:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            with contextlib.suppress(PermissionError):  # one may make a folder where one may not look
                _sync(folder.parent)
        # Numbers of people are in it: for its owner alone. SQLite gives its -wal and -shm the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    asyncio.run(_upgrade(url))


async def upgrade(url: str) -> None:
    """Bring the database to the newest revision, making it when there is none.

    Runs in a thread; may be repeated, and by two processes at once: the second waits and finds it done. Raises
    ConnectionFailed.
    """
    try:
        await asyncio.to_thread(_upgrade_in_thread, url)
    except (SQLAlchemyError, OSError) as error:
        raise ConnectionFailed(
            "database", f"cannot be made or upgraded: {type(error).__name__}", "Look at its directory, rights and room."
        ) from error
