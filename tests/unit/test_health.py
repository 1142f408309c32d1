"""The service's own storage: one alert for each trouble, one line when it is over, and what the core is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
import pytest_asyncio
import structlog

from pbxguard.core.errors import AuditFailed
from pbxguard.core.facts import AuditHealthy, Fact, SpoolHasRoom
from pbxguard.core.ids import RecordingId, SegmentId
from pbxguard.core.records import AuditEntry, SpoolState
from pbxguard.logs import Event
from pbxguard.service import health as module
from pbxguard.service.clock import SystemClock
from pbxguard.service.health import Health


class Facts:
    def __init__(self) -> None:
        self.heard: list[Fact] = []
        self.more = asyncio.Event()

    async def put(self, fact: Fact) -> None:
        self.heard.append(fact)
        self.more.set()

    async def until(self, fact: Fact) -> None:
        async with asyncio.timeout(5):
            while fact not in self.heard:
                self.more.clear()
                await self.more.wait()


class Audit:
    def __init__(self) -> None:
        self.fails = False

    async def check(self) -> None:
        if self.fails:
            raise AuditFailed("no")

    async def commit(self, *entries: AuditEntry) -> None:
        await self.check()


class Disk:
    """A spool whose state a test sets; while `hangs` is not set it does not answer."""

    def __init__(self) -> None:
        self.state_now = SpoolState.READY
        self.answers = threading.Event()
        self.answers.set()
        self.asked = self.touched = 0

    def state(self) -> SpoolState:
        self.asked += 1
        self.answers.wait(10)
        return self.state_now

    def touch(self) -> None:
        self.touched += 1
        self.answers.wait(10)


class Place:
    def __init__(self) -> None:
        self.facts, self.audit, self.disk = Facts(), Audit(), Disk()
        audit, clock = cast(Any, self.audit), SystemClock()
        self.health = Health(facts=self.facts, audit=audit, clock=clock, spool=self.disk.state, touch=self.disk.touch)


@pytest.fixture
def lines() -> Any:
    with structlog.testing.capture_logs() as found:
        yield found


@pytest_asyncio.fixture
async def place(lines: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(module, "AUDIT_SECONDS", 0.01)
    monkeypatch.setattr(module, "SPOOL_SECONDS", 0.01)
    here = Place()
    watching = asyncio.create_task(here.health.watch())
    yield here
    here.disk.answers.set()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def told(lines: Sequence[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


async def test_a_storage_that_works_is_told_to_the_core_and_to_nobody_else(place: Place, lines: Any) -> None:
    await place.facts.until(AuditHealthy(True))
    await place.facts.until(SpoolHasRoom(True))
    assert told(lines) == []
    assert not place.health.troubles


async def test_a_dead_audit_log_is_one_alert_however_many_entries_fail(place: Place, lines: Any) -> None:
    await place.facts.until(AuditHealthy(True))
    await place.facts.until(SpoolHasRoom(True))
    place.audit.fails = True
    for _ in range(5):
        await place.health.audit_failed()
    await asyncio.sleep(0.05)
    assert told(lines) == [("critical", Event.AUDIT_FAILED)]
    assert lines[0]["mend"]
    assert place.facts.heard[-1] == AuditHealthy(False)
    assert place.health.troubles == ("audit.failed",)
    place.audit.fails = False
    place.facts.heard.clear()
    await place.facts.until(AuditHealthy(True))
    assert not place.health.troubles


async def test_an_audit_log_that_never_worked_is_an_alert_too(lines: Any) -> None:
    here = Place()
    here.audit.fails = True
    watching = asyncio.create_task(here.health.watch())
    await here.facts.until(SpoolHasRoom(True))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert told(lines) == [("critical", Event.AUDIT_FAILED)]
    assert AuditHealthy(True) not in here.facts.heard


@pytest.mark.parametrize(
    ("state", "event"),
    [(SpoolState.FULL, Event.SPOOL_FULL), (SpoolState.UNWRITABLE, Event.SPOOL_UNWRITABLE)],
)
async def test_a_spool_in_trouble_is_one_alert_and_closes(
    place: Place, lines: Any, state: SpoolState, event: Event
) -> None:
    await place.facts.until(SpoolHasRoom(True))
    place.disk.state_now = state
    await place.facts.until(SpoolHasRoom(False))
    await asyncio.sleep(0.05)
    assert told(lines) == [("critical", event)]
    assert place.health.troubles == (event.value,)
    place.disk.state_now = SpoolState.READY
    place.facts.heard.clear()
    await place.facts.until(SpoolHasRoom(True))
    assert not place.health.troubles


async def test_a_spool_that_hangs_closes_and_is_asked_once(
    place: Place, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.facts.until(SpoolHasRoom(True))
    monkeypatch.setattr(module, "SPOOL_WAIT", 0.05)
    place.disk.answers.clear()
    asked = place.disk.asked
    await place.facts.until(SpoolHasRoom(False))
    await asyncio.sleep(0.2)
    assert told(lines) == [("critical", Event.SPOOL_STALLED)]
    assert place.disk.asked <= asked + 1
    place.disk.answers.set()
    place.facts.heard.clear()
    await place.facts.until(SpoolHasRoom(True))


async def test_many_recordings_that_wait_are_one_alert_and_one_word_when_all_are_sealed(
    place: Place, lines: Any
) -> None:
    waiting = [RecordingId(f"r{n}") for n in range(3)]
    for _ in range(2):
        for recording in waiting:
            place.health.seal_failed(recording, "storage_failed")
    assert place.health.waiting_to_seal == 3
    for recording in waiting:
        place.health.seal_ended(recording)
    found = told(lines)
    assert found.count(("critical", Event.SEALING_FAILED)) == 1
    assert found.count(("warning", Event.RECORDING_SEAL_FAILED)) == 3
    assert found[-1] == ("warning", Event.SEALING_RECOVERED)
    assert place.health.waiting_to_seal == 0


async def test_a_recording_that_is_not_whole_yet_waits_and_is_no_trouble_of_the_archives(
    place: Place, lines: Any
) -> None:
    recording, segment = RecordingId("r"), SegmentId("r-001")
    place.health.seal_failed(recording, "segment_open")
    assert (place.health.waiting, place.health.troubles, told(lines)) == ({recording: "segment_open"}, (), [])
    for _ in range(2):
        place.health.segment_unclosed(segment, recording, "storage_failed")
    assert place.health.troubles == ("segment.unclosed",)
    place.health.segment_closed(segment)
    place.health.seal_failed(recording, "storage_failed")
    assert place.health.troubles == ("sealing.failed",)
    place.health.seal_ended(recording)
    assert not place.health.waiting
    assert not place.health.troubles
    assert told(lines) == [
        ("critical", Event.SEGMENT_UNCLOSED),
        ("warning", Event.SEGMENT_RECOVERED),
        ("critical", Event.SEALING_FAILED),
        ("warning", Event.RECORDING_SEAL_FAILED),
        ("warning", Event.SEALING_RECOVERED),
    ]


async def test_recorders_that_leave_nothing_are_one_alert_until_one_leaves_something(place: Place, lines: Any) -> None:
    place.health.captured(0)
    place.health.captured(0)
    assert place.health.troubles == ("segment.empty",)
    place.health.captured(8000)
    place.health.captured(0)
    assert told(lines) == [("critical", Event.SEGMENT_EMPTY)] * 2


async def test_who_would_stop_a_recorder_waits_while_the_spool_hangs_also_before_that_is_noticed(place: Place) -> None:
    await place.facts.until(SpoolHasRoom(True))
    await asyncio.wait_for(place.health.spool_answers(), 1)
    place.disk.answers.clear()
    waiting = [asyncio.create_task(place.health.spool_answers()) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert SpoolHasRoom(False) not in place.facts.heard
    assert not any(one.done() for one in waiting)
    assert place.disk.touched == 2, "one write for all of them"
    waiting[0].cancel()
    place.disk.answers.set()
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
