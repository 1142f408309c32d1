"""What a restart may believe of holds: only who was in a recorded conversation a moment ago is surely not on hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pbxguard.core.commands import Command, StartRecording
from pbxguard.core.errors import AuditFailed, ConnectionFailed, StorageFailed
from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    BridgeCreated,
    ChannelCreated,
    ChannelState,
    DisclosureHeard,
    Fact,
    Held,
    SnapshotTaken,
    SpoolHasRoom,
    Unheld,
)
from pbxguard.core.ids import BridgeId, LinkedId, RecordingId, SegmentId, Uniqueid, recording_id, segment_id
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry
from pbxguard.core.segments import CLOSED, PERMITTED, OpenSegment
from pbxguard.core.supervisor import Supervisor
from pbxguard.service.leftovers import Leftovers
from pbxguard.service.recovery import WATERMARK_SECONDS, Recovery
from tests.property.world import PROOF, disclosure_key, make_policy

CUSTOMER, AGENT = Uniqueid("1700000000.1"), Uniqueid("1700000000.2")
RECORDING = recording_id("node", "boot", CUSTOMER)
BRIDGE = BridgeCreated(BridgeId("b"), "basic", "simple_bridge")
TOLD = DisclosureHeard(
    CUSTOMER,
    disclosure_key((PROOF,), Mode.NOTICE),
    "digest of contract_evidence.nl.notice.inbound",
    "2026-05-04T10:00:00Z",
)
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def snapshot(boot: str = "boot") -> SnapshotTaken:
    """A told customer and an agent in one bridge."""
    return SnapshotTaken(
        boot,
        (
            ChannelCreated(
                CUSTOMER, "PJSIP/trunk-a-1", LinkedId(CUSTOMER), ChannelState.UP, "+31612345678", "from", "1"
            ),
            ChannelCreated(
                AGENT, "PJSIP/100-2", LinkedId(CUSTOMER), ChannelState.UP, "100", "internal", "", dialled=True
            ),
        ),
        ((BRIDGE, (CUSTOMER, AGENT)),),
    )


@dataclass
class Clock:
    at: datetime = NOON
    monotonic: float = 1.0

    def utc(self, monotonic: float | None = None) -> datetime:
        """At 1.0 on the monotonic clock it is `at`."""
        return self.at + timedelta(seconds=0.0 if monotonic is None else monotonic - 1.0)

    def now(self) -> float:
        return self.monotonic


@dataclass
class Audit:
    """`lines` are of recordings that are not sealed, `left` of segments left open."""

    lines: dict[RecordingId, list[AuditEntry]] = field(default_factory=dict)
    left: list[AuditEntry] = field(default_factory=list)

    async def of_channels(self, boot: str, channels: Sequence[str]) -> list[Any]:
        return []

    async def open_segments(self) -> list[AuditEntry]:
        return self.left

    async def commit(self, *entries: AuditEntry) -> None:
        self.left = [line for line in self.left if line.segment not in {entry.segment for entry in entries}]

    async def unsealed(self) -> list[RecordingId]:
        return list(self.lines)

    async def permitted(self, recordings: Collection[RecordingId]) -> list[SegmentId]:
        lines = [line for of in self.lines.values() for line in of] + self.left
        return [SegmentId(line.segment) for line in lines if line.kind == PERMITTED and line.recording in recordings]


@dataclass
class Guard:
    supervisor: Supervisor = field(default_factory=lambda: Supervisor(make_policy(), "node"))
    beat: float = 1.0
    ended: dict[SegmentId, float] = field(default_factory=dict)
    own: set[SegmentId] = field(default_factory=set)
    health: Troubles = field(default_factory=lambda: Troubles())
    leftovers: Leftovers | None = None

    def runs(self, segment: SegmentId) -> bool:
        return segment in self.own

    def revoked(self) -> dict[SegmentId, float]:
        return self.ended

    def handle(self, *facts: Fact) -> list[Command]:
        return [command for fact in facts for command in self.supervisor.handle(fact, 1.0)]


@dataclass
class Troubles:
    """What an operator is told."""

    unclosed: dict[SegmentId, str] = field(default_factory=dict)

    def segment_unclosed(self, segment: SegmentId, recording: RecordingId, reason: str) -> None:
        self.unclosed[segment] = reason

    def segment_closed(self, segment: SegmentId) -> None:
        self.unclosed.pop(segment, None)


@dataclass
class Tools:
    """A recorder whose Asterisk may not answer, and a sealer that writes down up to when each leftover is proven."""

    answers: bool = True
    proven: dict[SegmentId, datetime] = field(default_factory=dict)
    monotonic: dict[SegmentId, float | None] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    live: set[str] = field(default_factory=set)

    async def references(self, boot: str, calls: Collection[str]) -> dict[str, str]:
        return {call: "K-1" for call in calls if call == CUSTOMER}

    async def end_calls(self, boot: str, live: Collection[str]) -> int:
        self.live = set(live)
        return 0

    async def find(self, leg: Uniqueid, segment: SegmentId) -> None:
        self.log.append("stop")
        if not self.answers:
            raise ConnectionFailed("AMI", "no answer")

    async def close_leftover(
        self, segment: OpenSegment, *, watermark: float, monotonic: float | None, gone: float, reasons: Sequence[Reason]
    ) -> Any:
        self.log.append("close")
        self.proven[segment.segment] = datetime.fromtimestamp(watermark, UTC)
        self.monotonic[segment.segment] = monotonic
        return SimpleNamespace(kept_ms=0, cut_ms=0, entry=lambda: AuditEntry(CLOSED, NOON, segment=segment.segment))


def recovery(
    guard: Guard,
    clock: Clock,
    folder: Path,
    audit: Audit | None = None,
    tools: Tools | None = None,
    *,
    machine: str = "",
    look_anew: Callable[[], None] = lambda: None,
) -> Recovery:
    tools = tools or Tools()
    parts: dict[str, Any] = {"index": tools, "recorder": tools, "segments": tools, "sealer": tools}
    return Recovery(
        guard=cast(Any, guard),
        audit=cast(Any, audit or Audit()),
        clock=cast(Any, clock),
        node="node",
        watermark=folder / "watermark",
        machine=machine,
        look_anew=look_anew,
        **parts,
    )


async def recovered(keeper: Recovery) -> None:
    """It saw a snapshot, and tried to close what was left."""
    await keeper.before_snapshot(snapshot())
    await keeper.leftovers.close_due()


async def lived(folder: Path, clock: Clock, *last: Fact, boot: str = "boot") -> None:
    """A pbxguard that recorded the call, saw `last` happen, and wrote its watermark before it died."""
    guard = Guard()
    before = recovery(guard, clock, folder)
    await before.before_snapshot(snapshot(boot))
    guard.supervisor.trust_unheld((CUSTOMER, AGENT))  # it saw the call begin
    commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot(boot))
    assert [command for command in commands if isinstance(command, StartRecording)]
    guard.handle(*last)
    task = asyncio.create_task(before.keep_watermark())
    async with asyncio.timeout(5):
        while not (folder / "watermark").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()


async def starts_after(folder: Path, clock: Clock) -> bool:
    """Whether the next pbxguard records the call that it finds."""
    guard = Guard()
    await recovery(guard, clock, folder).before_snapshot(snapshot())
    commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
    return any(isinstance(command, StartRecording) for command in commands)


async def test_a_call_that_was_recorded_a_moment_ago_goes_on_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    await lived(tmp_path, clock)
    clock.at += timedelta(seconds=4)
    assert await starts_after(tmp_path, clock)


async def test_a_restart_finds_a_calls_reference_in_the_index(tmp_path: Path) -> None:
    guard = Guard()
    await recovery(guard, Clock(), tmp_path).before_snapshot(snapshot())
    assert guard.supervisor.memory.of(CUSTOMER).reference == "K-1"
    assert guard.supervisor.memory.of(AGENT).reference == ""


async def test_a_call_that_was_on_hold_stays_closed_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    await lived(tmp_path, clock, Held(CUSTOMER))
    clock.at += timedelta(seconds=4)
    assert not await starts_after(tmp_path, clock)


async def test_a_call_that_was_on_hold_is_recorded_once_it_is_taken_off(tmp_path: Path) -> None:
    """Of the other party it was known that he was not: nothing but the hold itself has to change."""
    clock, guard = Clock(), Guard()
    await lived(tmp_path, clock, Held(AGENT))
    clock.at += timedelta(seconds=4)
    await recovery(guard, clock, tmp_path).before_snapshot(snapshot())
    commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
    assert not any(isinstance(command, StartRecording) for command in commands)
    assert any(isinstance(command, StartRecording) for command in guard.handle(Unheld(AGENT)))


@pytest.mark.parametrize("absence", [-5, 11, 3600])
async def test_a_hold_seen_too_long_ago_is_not_trusted(absence: int, tmp_path: Path) -> None:
    """Nor is anything when the wall clock went back."""
    clock = Clock()
    await lived(tmp_path, clock)
    clock.at += timedelta(seconds=absence)
    assert not await starts_after(tmp_path, clock)


async def test_uniqueids_of_another_boot_of_asterisk_are_not_trusted(tmp_path: Path) -> None:
    clock = Clock()
    await lived(tmp_path, clock, boot="the boot before")
    assert not await starts_after(tmp_path, clock)


@pytest.mark.parametrize("content", ["", "1700000000.5\n", "{}", '{"at": "x", "boot": "boot", "unheld": 3}'])
async def test_a_watermark_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "watermark").write_text(content)
    assert not await starts_after(tmp_path, Clock())


async def test_a_watermark_that_cannot_be_written_ends_nothing_and_is_written_once_it_can_be(tmp_path: Path) -> None:
    """Such as on a full disk: the older one stands, and drops more."""
    guard, clock, folder = Guard(), Clock(), tmp_path / "not there yet"
    keeper = recovery(guard, clock, folder)
    await keeper.before_snapshot(snapshot())
    task = asyncio.create_task(keeper.keep_watermark())
    async with asyncio.timeout(5):
        await asyncio.sleep(2 * WATERMARK_SECONDS)
        folder.mkdir()
        while not (folder / "watermark").exists():
            assert not task.done(), task
            guard.beat += 1
            await asyncio.sleep(0.01)
    task.cancel()


async def next_segment(folder: Path, audit: Audit) -> list[SegmentId]:
    """What the next pbxguard records of the call that it finds, after what the audit log says."""
    guard, clock = Guard(), Clock()
    await recovery(guard, clock, folder, audit).before_snapshot(snapshot())
    guard.supervisor.trust_unheld((CUSTOMER, AGENT))
    commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
    return [command.segment for command in commands if isinstance(command, StartRecording)]


async def test_after_a_hole_in_the_numbers_of_a_recording_no_number_comes_twice(tmp_path: Path) -> None:
    """The line of its first segment could not be written: its second one is the only one that the audit log knows."""
    line = AuditEntry(PERMITTED, NOON, recording=RECORDING, segment=segment_id(RECORDING, 2))
    assert await next_segment(tmp_path, Audit({RECORDING: [line]})) == [segment_id(RECORDING, 3)]


async def test_a_segment_that_could_not_be_closed_after_a_restart_keeps_its_number_and_files(tmp_path: Path) -> None:
    """Its recorder may still run: another one on the same files would mix what both wrote."""
    line = AuditEntry(
        PERMITTED, NOON, recording=RECORDING, segment=segment_id(RECORDING, 1), data={"cannot": "be read"}
    )
    assert await next_segment(tmp_path, Audit(left=[line])) == [segment_id(RECORDING, 2)]


def left_open(segment: SegmentId) -> AuditEntry:
    """What a pbxguard wrote down before it started this segment's recorder."""
    return OpenSegment(
        recording=RECORDING,
        segment=segment,
        boot="boot",
        call=CUSTOMER,
        leg=AGENT,
        purposes=(),
        bases=(),
        direction="inbound",
        told=(),
        opened=0.0,
        opened_utc=NOON,
        wall_offset=0.0,
        own_file=Path("/spool/own"),
        others_file=Path("/spool/others"),
    ).entry()


async def watched(keeper: Recovery, folder: Path) -> None:
    """Until a watermark is there; then it dies."""
    task = asyncio.create_task(keeper.keep_watermark())
    async with asyncio.timeout(5):
        while not (folder / "watermark").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()


async def test_what_was_revoked_before_the_last_beat_is_proven_no_further_than_when_it_was_revoked(
    tmp_path: Path,
) -> None:
    """The guard died between its stop and the line that its segment is closed; beats had come back meanwhile."""
    running, stopping, unproven = (segment_id(RECORDING, number) for number in (1, 2, 3))
    guard = Guard(beat=9.0, ended={stopping: 5.0, unproven: float("-inf")})
    before = recovery(guard, Clock(), tmp_path)
    await before.before_snapshot(snapshot())
    await watched(before, tmp_path)

    audit, tools = Audit(left=[left_open(segment) for segment in (running, stopping, unproven)]), Tools()
    await recovered(recovery(Guard(), Clock(), tmp_path, audit, tools))
    assert tools.proven[running] == NOON + timedelta(seconds=8)
    assert tools.proven[stopping] == NOON + timedelta(seconds=4)
    assert tools.proven[unproven] == datetime.fromtimestamp(0, UTC)


async def test_a_segment_of_this_run_is_nobodys_leftover(tmp_path: Path) -> None:
    """The audit log could not be read at the first snapshot, and can at a later one."""
    segment, old = segment_id(RECORDING, 2), segment_id(RECORDING, 1)
    tools = Tools()
    audit = Audit(left=[left_open(old), left_open(segment)])
    await recovered(recovery(Guard(own={segment}), Clock(), tmp_path, audit, tools))
    assert set(tools.proven) == {old}


async def test_a_leftover_that_could_not_be_closed_keeps_its_watermark_and_is_tried_again(tmp_path: Path) -> None:
    """Its recorder could not be stopped; the watermark of the one that tries goes on."""
    segment = segment_id(RECORDING, 1)
    first = recovery(Guard(beat=3.0), Clock(), tmp_path)
    await first.before_snapshot(snapshot())
    await watched(first, tmp_path)

    audit, deaf = Audit(left=[left_open(segment)]), Tools(answers=False)
    second = recovery(Guard(beat=900.0), Clock(), tmp_path, audit, deaf)
    await recovered(second)
    (tmp_path / "watermark").unlink()
    await watched(second, tmp_path)
    assert deaf.proven == {}

    tools = Tools()
    await recovered(recovery(Guard(), Clock(), tmp_path, Audit(left=[left_open(segment)]), tools))
    assert tools.proven == {segment: NOON + timedelta(seconds=2)}

    deaf.answers = True
    await recovered(second)
    assert deaf.proven == {segment: NOON + timedelta(seconds=2)}
    assert audit.left == []


BEFORE_AND_AFTER = [("m1", {1: 9.0, 2: 5.0, 3: None}), ("m2", {1: None, 2: None, 3: None})]


@pytest.mark.parametrize(("machine", "monotonic"), BEFORE_AND_AFTER)
async def test_on_the_same_boot_of_the_machine_leftovers_are_bounded_by_its_monotonic_clock(
    machine: str, monotonic: dict[int, float | None], tmp_path: Path
) -> None:
    running, stopping, unproven = (segment_id(RECORDING, number) for number in (1, 2, 3))
    guard = Guard(beat=9.0, ended={stopping: 5.0, unproven: float("-inf")})
    before = recovery(guard, Clock(), tmp_path, machine="m1")
    await before.before_snapshot(snapshot())
    await watched(before, tmp_path)

    audit, tools = Audit(left=[left_open(segment) for segment in (running, stopping, unproven)]), Tools()
    stepped = Clock(NOON + timedelta(hours=1))
    await recovered(recovery(Guard(), stepped, tmp_path, audit, tools, machine=machine))
    assert tools.monotonic == {segment_id(RECORDING, number): at for number, at in monotonic.items()}
    assert tools.proven[running] == NOON + timedelta(seconds=8)


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_step_of_the_wall_clock_makes_no_hold_unknown(step: timedelta, tmp_path: Path) -> None:
    guard = Guard()
    before = recovery(guard, Clock(), tmp_path, machine="m1")
    await before.before_snapshot(snapshot())
    guard.supervisor.trust_unheld((CUSTOMER, AGENT))
    guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
    await watched(before, tmp_path)
    for absence, recorded in ((4.0, True), (11.0, False)):
        guard = Guard()
        later = Clock(NOON + step, monotonic=1.0 + absence)
        await recovery(guard, later, tmp_path, machine="m1").before_snapshot(snapshot())
        commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
        assert any(isinstance(command, StartRecording) for command in commands) is recorded


async def test_leftover_recorders_are_stopped_before_the_core_sees_the_picture_and_cut_beside_it(
    tmp_path: Path,
) -> None:
    segments = [segment_id(RECORDING, number) for number in range(1, 6)]
    tools = Tools()
    audit = Audit(left=[left_open(segment) for segment in segments])
    keeper = recovery(Guard(), Clock(), tmp_path, audit, tools)
    await keeper.before_snapshot(snapshot())
    assert tools.log == ["stop"] * 5
    await keeper.leftovers.close_due()
    assert tools.log == ["stop"] * 5 + ["close"] * 5


class Stuck(Tools):
    """A spool that cannot be looked at."""

    async def close_leftover(self, segment: OpenSegment, **_: Any) -> Any:
        self.log.append("close")
        raise StorageFailed("no disk")


async def test_a_leftover_that_cannot_be_closed_is_tried_ever_more_seldom_and_told_until_it_is(tmp_path: Path) -> None:
    segment, tools, clock, guard = segment_id(RECORDING, 1), Stuck(), Clock(), Guard()
    keeper = recovery(guard, clock, tmp_path, Audit(left=[left_open(segment)]), tools)
    await keeper.before_snapshot(snapshot())
    tried = []
    for _ in range(2000):
        before = len(tools.log)
        await keeper.leftovers.close_due()
        if len(tools.log) > before:
            tried.append(clock.monotonic - 1.0)
        clock.monotonic += 0.1
    pauses = [round(later - earlier) for earlier, later in pairwise(tried)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    assert guard.health.unclosed == {segment: "storage_failed"}
    assert tools.log.count("stop") == 1


class Locked(Audit):
    """Takes no line."""

    async def commit(self, *entries: AuditEntry) -> None:
        raise AuditFailed("locked")


async def test_a_leftover_whose_line_cannot_be_written_is_open_still_and_the_audit_logs_alert_says_it(
    tmp_path: Path,
) -> None:
    segment, clock, guard, tools = segment_id(RECORDING, 1), Clock(), Guard(), Tools()
    keeper = recovery(guard, clock, tmp_path, Locked(left=[left_open(segment)]), tools)
    await recovered(keeper)
    assert (len(keeper.leftovers), guard.health.unclosed) == (1, {})
    clock.monotonic += 2
    await keeper.leftovers.close_due()
    assert tools.log == ["stop", "close", "close"]


async def test_a_recorder_that_does_not_answer_its_stop_keeps_its_leg_and_is_asked_again(tmp_path: Path) -> None:
    segment, tools, clock, guard = segment_id(RECORDING, 1), Tools(answers=False), Clock(), Guard()
    keeper = recovery(guard, clock, tmp_path, Audit(left=[left_open(segment)]), tools)
    await recovered(keeper)
    guard.handle(snapshot())
    gone = asyncio.create_task(keeper.leftovers.recorder_gone(AGENT))
    await asyncio.wait_for(keeper.leftovers.recorder_gone(CUSTOMER), 1)  # nothing ran there
    await asyncio.sleep(0)
    assert (gone.done(), tools.proven) == (False, {})
    tools.answers = True
    clock.monotonic += 5
    await keeper.leftovers.close_due()
    await asyncio.wait_for(gone, 1)
    assert set(tools.proven) == {segment}


@dataclass
class Broken(Audit):
    """Cannot be read while `broken`."""

    broken: bool = True

    async def unsealed(self) -> list[RecordingId]:
        if self.broken:
            raise AuditFailed("locked")
        return await super().unsealed()


async def test_what_could_not_be_read_at_a_snapshot_is_read_at_another_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nothing of it is believed: half of it would let a segment's number come twice."""
    monkeypatch.setattr("pbxguard.service.recovery.RETRY_SECONDS", 0.02)
    line = AuditEntry(PERMITTED, NOON, recording=RECORDING, segment=segment_id(RECORDING, 1))
    audit, guard, asked = Broken({RECORDING: [line]}), Guard(), asyncio.Event()
    restored = recovery(guard, Clock(), tmp_path, audit, look_anew=asked.set)
    task = asyncio.create_task(restored.retry())
    await restored.before_snapshot(snapshot())
    assert guard.supervisor.memory.of(CUSTOMER).reference == ""
    await asyncio.sleep(0.1)
    assert not asked.is_set()
    audit.broken = False
    async with asyncio.timeout(5):
        await asked.wait()
    await restored.before_snapshot(snapshot())
    task.cancel()
    assert guard.supervisor.memory.of(CUSTOMER).reference == "K-1"
    guard.supervisor.trust_unheld((CUSTOMER, AGENT))
    commands = guard.handle(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(1.0), TOLD, snapshot())
    assert [c.segment for c in commands if isinstance(c, StartRecording)] == [segment_id(RECORDING, 2)]
