"""What a start loads: every second of it, calls that live go unrecorded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pbxguard import cli

PROGRAM = """
import sys
from pbxguard import cli
cli._app(["run"])
import pbxguard.app
print(*sorted(sys.modules))
"""
LATER = ("alembic", "fastapi", "uvicorn", "sqlalchemy.dialects.postgresql", "httpx", "pbxguard.cli.recordings")
"""Loaded beside the start, or when there is something for them to do."""


def test_a_start_loads_nothing_that_it_can_guard_without() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(ran.stdout.split())
    assert {"pbxguard.app", "sqlalchemy", "aiohttp"} <= loaded
    assert loaded & set(LATER) == set()


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["run"], "run"),
        (["--config", "stop-recorders", "run", "--json"], "run"),
        (["--json", "--config=run", "why", "run"], "why"),
        (["stop-recorders", "--config", "x"], "stop-recorders"),
        (["--help"], ""),
        (["--config"], ""),
    ],
)
def test_the_command_is_the_first_word_that_is_no_option(given: list[str], command: str) -> None:
    assert cli._command(given) == command
