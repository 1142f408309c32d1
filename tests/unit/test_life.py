"""A pbxguard that died is told of by the next one; one that was stopped is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from pbxguard.core.errors import AuditFailed
from pbxguard.service.clock import SystemClock
from pbxguard.service.life import Life
from pbxguard.service.ports import AuditEntry

SEEN = 1_780_000_000.0


@dataclass
class Lines:
    entries: list[AuditEntry] = field(default_factory=list)
    broken: bool = False

    async def commit(self, *entries: AuditEntry) -> None:
        if self.broken:
            raise AuditFailed("no")
        self.entries += entries

    async def last(self, *kinds: str) -> AuditEntry | None:
        return next((entry for entry in reversed(self.entries) if entry.kind in kinds), None)


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as found:
        yield found


def life(lines: Lines, seen: float = SEEN) -> Life:
    async def last_seen() -> float:
        return seen

    return Life(lines, SystemClock(), last_seen)


async def test_the_first_and_one_after_a_stop_tell_nothing(said: list[Any]) -> None:
    lines = Lines()
    for _ in range(3):
        one = life(lines)
        await one.begin()
        await one.end()
    assert [entry.kind for entry in lines.entries] == ["service.started", "service.stopped"] * 3
    assert said == []


async def test_one_that_died_is_told_of_once_with_when_it_was_last_seen(said: list[Any]) -> None:
    lines = Lines()
    await life(lines).begin()
    await life(lines).begin()
    (told,) = said
    assert (told["event"], told["log_level"]) == ("service.died", "critical")
    assert told["last_seen"] == "2026-05-28T20:26:40+00:00"
    assert told["since"] == lines.entries[0].at.isoformat(timespec="seconds")
    assert "journalctl" in told["mend"]


async def test_who_never_began_has_no_end_and_a_broken_log_keeps_nobody_from_guarding(said: list[Any]) -> None:
    lines = Lines()
    await life(lines).end()
    lines.broken = True
    one = life(lines, 0.0)
    await one.begin()
    await one.end()
    assert lines.entries == []
    assert [line["event"] for line in said] == ["audit.missed"]
