"""Making and upgrading a database."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import pbxguard.db.migrations as migrations
from pbxguard.core.errors import AuditFailed, ConnectionFailed, StorageFailed
from pbxguard.core.records import AuditEntry
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, sqlite_file, upgrade
from pbxguard.db.tables import HEAD, metadata


async def test_an_upgrade_may_be_repeated(url: str) -> None:
    await upgrade(url)
    await upgrade(url)
    database = await Database.open(url)
    await database.close()


def test_a_database_that_is_up_to_date_is_known_without_loading_what_upgrades_it(url: str) -> None:
    code = (
        "import asyncio, sys; from pbxguard.db.engine import upgrade; asyncio.run(upgrade(sys.argv[1]));"
        "print('alembic' in sys.modules)"
    )
    ran = [subprocess.run([sys.executable, "-c", code, url], capture_output=True, check=True) for _ in range(2)]
    assert [one.stdout.split() for one in ran] == [[b"True"], [b"False"]]


async def test_two_processes_may_upgrade_at_once(url: str) -> None:
    code = "import asyncio, sys; from pbxguard.db.engine import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    async with asyncio.timeout(60):
        processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", code, url) for _ in range(3)]
        assert [await process.wait() for process in processes] == [0, 0, 0]
    database = await Database.open(url)
    await database.close()


async def test_the_migrations_lead_to_the_tables_as_they_are_now(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_it_syncs_in_full_and_writes_ahead(database: Database) -> None:
    async with database.read() as connection:
        found = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 200,
        "secure_delete": 1,
    }


async def test_the_file_is_for_its_owner_alone(url: str, database: Database) -> None:
    file = sqlite_file(url)
    assert file is not None
    for path in file.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


async def test_a_missing_database_is_told_and_not_made(url: str) -> None:
    with pytest.raises(ConnectionFailed) as told:
        await Database.open(url)
    assert told.value.diagnostics()
    file = sqlite_file(url)
    assert file is not None
    assert not file.exists()


async def test_another_revision_is_refused(url: str) -> None:
    await upgrade(url)
    file = sqlite_file(url)
    assert file is not None
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConnectionFailed, match="9999"):
        await Database.open(url)


async def test_what_is_no_database_is_told(url: str) -> None:
    file = sqlite_file(url)
    assert file is not None
    file.parent.mkdir()
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConnectionFailed):
        await Database.open(url)
    with pytest.raises(ConnectionFailed):
        await upgrade(url)


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionFailed):
        await upgrade(f"sqlite+aiosqlite:///{tmp_path}/file/pbxguard.db")


async def test_a_failed_write_is_rolled_back_and_the_next_one_works(database: Database) -> None:
    async def write(*statements: str) -> None:
        async with database.write() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    with pytest.raises(StorageFailed):
        await write("CREATE TABLE half (x)", "nonsense")
    await write("CREATE TABLE whole (x)")
    async with database.read() as connection:
        found = (await connection.execute(text("SELECT name FROM sqlite_master"))).scalars().all()
    assert "whole" in found
    assert "half" not in found


async def test_scrubbing_empties_the_write_ahead_log(url: str, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE t (x)"))
    file = sqlite_file(url)
    assert file is not None
    log = file.with_name(file.name + "-wal")
    assert log.stat().st_size > 0
    assert await database.scrub()
    assert not log.exists() or log.stat().st_size == 0  # SQLite removes it with the last connection


async def test_a_touch_leaves_nothing_and_sees_that_the_file_was_taken_away(tmp_path: Path) -> None:
    """What is written to a file that has no name any more is lost, though every commit of it succeeds."""
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    await upgrade(url)
    database = await Database.open(url)
    try:
        async with SqlAudit(database, "node") as audit:
            await audit.check()
            await audit.commit(AuditEntry("one", datetime.now(UTC)))
            kept, garbage = tmp_path / "kept.db", tmp_path / "a.db"
            garbage.rename(kept)
            garbage.write_bytes(b"garbage" * 1000)
            for _ in range(3):
                with pytest.raises(AuditFailed):
                    await audit.check()
            with pytest.raises(AuditFailed):
                await audit.commit(AuditEntry("two", datetime.now(UTC)))
            kept.rename(garbage)
            await audit.check()
            await audit.commit(AuditEntry("three", datetime.now(UTC)))
            assert [entry.kind for entry in await audit.read()] == ["one", "three"]
    finally:
        await database.close()


async def test_a_touch_fails_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/a.db"
    await upgrade(url)
    database = await Database.open(url, busy_ms=50)
    try:
        async with SqlAudit(database, "node") as audit:
            with sqlite3.connect(tmp_path / "a.db", isolation_level=None) as other:
                other.execute("BEGIN EXCLUSIVE")
                with pytest.raises(AuditFailed):
                    await audit.check()
                other.execute("ROLLBACK")
            await audit.check()
    finally:
        await database.close()
