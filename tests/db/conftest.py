"""A real SQLite file (WAL) for each test, and rows to put in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pbxguard.db.engine import Database, upgrade


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'state' / 'pbxguard.db'}"


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    await upgrade(url)
    database = await Database.open(url, busy_ms=200)
    yield database
    await database.close()
