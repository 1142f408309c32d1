"""The guard carries out the core's commands: audit first, stops at once, and a fault stays where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, cast

import pytest
import pytest_asyncio

from pbxguard.archive.files import FileArchive
from pbxguard.archive.spool import Spool
from pbxguard.core.confirmations import Confirm, Effect
from pbxguard.core.defaults import CONTRACT_EVIDENCE, PURPOSES
from pbxguard.core.errors import ActionRefused, ConnectionFailed
from pbxguard.core.facts import (
    BeatReturned,
    BridgeCreated,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelHungUp,
    ChannelNumberChanged,
    ChannelState,
    DisclosureHeard,
    DisclosureRequested,
    Fact,
    InCall,
    MarkedPrivate,
    Objected,
    PictureSeen,
    Requested,
    SnapshotTaken,
)
from pbxguard.core.handles import RecorderHandle
from pbxguard.core.ids import BridgeId, Endpoint, LinkedId, SegmentId, Uniqueid
from pbxguard.core.policy import GuardMode, PartyPatterns, Policy
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.supervisor import Supervisor
from pbxguard.metrics import Metrics
from pbxguard.service.clock import SystemClock
from pbxguard.service.guard import Guard
from pbxguard.service.leftovers import Leftovers
from pbxguard.service.sealing import Sealer
from pbxguard.service.segments import Segments
from tests.unit.test_sealing import MemoryAudit, MemoryIndex

CUSTOMER, AGENT, BRIDGE = Uniqueid("1.1"), Uniqueid("1.2"), BridgeId("b")
KEY = DisclosureKey.of((CONTRACT_EVIDENCE,), "nl", Mode.NOTICE, Direction.INBOUND)
POLICY = Policy(
    "Acme",
    mode=GuardMode.GUARD,
    purposes=PURPOSES,
    disclosures=MappingProxyType({KEY: Disclosure(KEY, "text", "digest", "sound", 1000)}),
    parties=PartyPatterns(own=("PJSIP/1??-*",), external=("PJSIP/trunk-*",)),
)
SECONDS = 5.0
"""Longest wait for something that happens at once."""


@dataclass
class RecordingPbx:
    """A PBX of files: a recorder writes a second of sound when it starts. `log` has what was asked of it, in order."""

    audit: MemoryAudit
    log: list[str] = field(default_factory=list)
    refuse: bool = False
    replaced: bool = False
    """A masquerade gave the place of its leg to another: our stop finds nothing there."""
    unanswered_stops: int = 0
    asked: dict[Uniqueid, tuple[InCall, ...]] = field(default_factory=dict)
    beats_asked: int = 0

    async def start(self, leg: Uniqueid, segment: SegmentId, own_file: Path, others_file: Path) -> RecorderHandle:
        self.log.append(f"start {len([e for e in self.audit.entries if e.kind == 'segment.permitted'])}")
        if self.refuse:
            raise ActionRefused("Permission denied")
        for path in (own_file, others_file):
            path.write_bytes(b"\1\0" * 8000)
        return RecorderHandle(leg, "0x1")

    async def stop(self, handle: RecorderHandle) -> bool:
        self.log.append("stop")
        if self.unanswered_stops:
            self.unanswered_stops -= 1
            raise ConnectionFailed("AMI", "no answer")
        return not self.replaced

    async def stop_strays(self) -> int:
        closed = any(entry.kind == "segment.closed" for entry in self.audit.entries)
        self.log.append("stop strays too late" if closed else "stop strays")
        return 0

    async def find(self, leg: Uniqueid, segment: SegmentId) -> RecorderHandle | None:
        return None

    async def set_channel_variable(self, channel: Uniqueid, name: str, value: str) -> None:
        self.log.append(f"{name}={value.split(':')[0]}")

    async def set_global(self, name: str, value: str) -> None: ...
    async def get_global(self, name: str) -> str:
        return ""

    async def set_device_state(self, endpoint: Endpoint, state: str) -> None:
        self.log.append(f"lamp {endpoint} {state}")

    async def hang_up(self, channel: Uniqueid) -> None: ...
    async def said(self) -> Mapping[Uniqueid, Sequence[InCall]]:
        return self.asked

    def beat_now(self) -> None:
        """None comes back by itself: a test says when."""
        self.beats_asked += 1

    def look_anew(self) -> None:
        self.log.append("look anew")

    def look_closer(self) -> None:
        self.log.append("look closer")


class SlowAudit(MemoryAudit):
    """Commits wait while the gate is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, *entries: object) -> None:
        await self.gate.wait()
        await super().commit(*entries)  # type: ignore[arg-type]


@dataclass
class Site:
    guard: Guard
    pbx: RecordingPbx
    audit: SlowAudit
    index: MemoryIndex
    spool: Path
    clock: SystemClock

    async def facts(self, *facts: Fact) -> None:
        """A beat now, then these."""
        for fact in (BeatReturned(self.clock.now()), *facts):
            await self.guard.put(fact)

    async def until(self, true: object, what: str) -> None:
        assert callable(true)
        try:
            async with asyncio.timeout(SECONDS):
                while not true():
                    await self.guard.put(BeatReturned(self.clock.now()))
                    await asyncio.sleep(0.01)
        except TimeoutError:
            if true():  # the loop stood still meanwhile: a traceback takes seconds to print on a busy machine
                return
            raise AssertionError(f"not {what}: {self.pbx.log} {[e.kind for e in self.audit.entries]}") from None

    async def without_a_beat(self, true: Callable[[], object]) -> None:
        """As `until`, but no beat comes back meanwhile."""
        async with asyncio.timeout(SECONDS):
            while not true():  # noqa: ASYNC110 - what is waited for is state of the guard's
                await asyncio.sleep(0.01)

    def started(self) -> int:
        return len([line for line in self.pbx.log if line.startswith("start")])

    async def bridged(self) -> None:
        """A told customer is bridged with an agent."""
        await self.until(lambda: not self.guard.closed(), "open")
        await self.facts(
            ChannelCreated(CUSTOMER, "PJSIP/trunk-a-1", LinkedId("1.1"), ChannelState.UP, "+31612345678"),
            ChannelCreated(AGENT, "PJSIP/100-1", LinkedId("1.1"), ChannelState.UP, "100"),
            DisclosureRequested(CUSTOMER, (CONTRACT_EVIDENCE,), "nl"),
            DisclosureHeard(CUSTOMER, KEY, "digest", "2026-01-01T00:00:00Z"),
            BridgeEntered(BRIDGE, AGENT),
            BridgeEntered(BRIDGE, CUSTOMER),
        )

    async def hung_up(self) -> None:
        await self.facts(BridgeLeft(BRIDGE, CUSTOMER), ChannelHungUp(CUSTOMER), ChannelHungUp(AGENT))

    def kinds(self) -> list[str]:
        return [e.kind for e in self.audit.entries if not e.kind.startswith("audit.")]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock, audit, index, spool = SystemClock(), SlowAudit(), MemoryIndex(), tmp_path / "spool"
    store = Spool(spool, PurePosixPath(spool), 8000, floor=1)
    store.prepare()
    archive = FileArchive(tmp_path / "archive")
    archive.prepare()
    supervisor, pbx = Supervisor(POLICY, "node"), RecordingPbx(audit)
    segments = Segments(spool=store, clock=clock, policy=lambda: supervisor.policy)
    sealer = Sealer(
        spool=store, archive=archive, index=index, audit=audit, clock=clock,
        policy=lambda: supervisor.policy, node="node", work=tmp_path / "work",
    )  # fmt: skip
    guard = Guard(
        supervisor, recorder=pbx, pbx=pbx, audit=audit, index=index, segments=segments, sealer=sealer,
        clock=clock, spool=store.state, touch=store.touch, metrics=Metrics(),
    )  # fmt: skip
    running = asyncio.create_task(guard.run())
    await guard.put(SnapshotTaken("boot"))
    yield Site(guard, pbx, audit, index, spool, clock)
    running.cancel()
    await asyncio.wait([running])


async def test_a_permit_is_in_the_audit_log_before_the_recorder_starts(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    await site.hung_up()
    await site.until(lambda: "recording.sealed" in site.kinds(), "sealed")
    assert site.kinds() == ["segment.permitted", "segment.closed", "recording.sealed"]


async def test_without_an_audit_log_nothing_is_recorded_and_recording_comes_back_with_it(site: Site) -> None:
    await site.until(lambda: not site.guard.closed(), "open")
    site.audit.failing = True
    await site.bridged()
    await site.until(lambda: site.guard.closed(), "closed")
    assert not [line for line in site.pbx.log if line.startswith("start")]
    assert site.guard.closed()[0].value == "audit_unhealthy"
    site.audit.failing = False
    await site.until(lambda: "start 1" in site.pbx.log, "started after all")


async def test_a_revocation_while_the_audit_is_written_starts_no_recorder(site: Site) -> None:
    await site.until(lambda: not site.guard.closed(), "open")
    site.audit.gate.clear()
    await site.bridged()
    await site.until(lambda: site.guard.running, "wanted")
    await site.facts(Objected(CUSTOMER))
    await site.until(lambda: not site.guard.running, "no longer wanted")
    site.audit.gate.set()
    await site.until(lambda: "segment.closed" in site.kinds(), "closed")
    assert not [line for line in site.pbx.log if line.startswith("start")]


async def test_a_permit_is_not_acted_on_before_a_beat_that_was_sent_after_it_came_back(site: Site) -> None:
    await site.until(lambda: not site.guard.closed(), "open")
    await site.bridged()
    decided = site.clock.now()
    await site.without_a_beat(lambda: site.pbx.beats_asked > 1)
    assert site.kinds() == ["segment.permitted"], "it was decided, and waits"
    await site.guard.put(BeatReturned(decided - 0.1))
    await site.without_a_beat(lambda: site.pbx.beats_asked > 2)
    await asyncio.sleep(POLICY.limits.beat_lag_start + 0.1)
    await site.guard.put(BeatReturned(decided + 0.01))
    await site.without_a_beat(lambda: site.pbx.beats_asked > 3)
    assert site.started() == 0, "one is of before the decision, one too old by now"
    await site.guard.put(BeatReturned(site.clock.now()))
    await site.without_a_beat(lambda: site.started() == 1)


async def test_a_decision_that_was_overtaken_while_the_service_stood_still_starts_no_recorder(site: Site) -> None:
    """After a freeze the facts of meanwhile come before the first beat of after it."""
    await site.until(lambda: not site.guard.closed(), "open")
    await site.bridged()
    await site.without_a_beat(lambda: site.pbx.beats_asked > 1)
    other = Uniqueid("1.3")
    await site.guard.put(ChannelCreated(other, "PJSIP/trunk-a-2", LinkedId("1.3"), ChannelState.UP, "+31109990001"))
    await site.guard.put(BridgeEntered(BRIDGE, other))
    await site.guard.put(BeatReturned(site.clock.now()))
    await site.without_a_beat(lambda: "segment.closed" in site.kinds())
    assert site.started() == 0


async def test_a_recorder_that_asterisk_refuses_is_tried_again_and_leaves_nothing(site: Site) -> None:
    site.pbx.refuse = True
    await site.bridged()
    await site.until(lambda: site.pbx.log.count("start 1") == 1, "tried")
    site.pbx.refuse = False
    await site.until(lambda: "start 2" in site.pbx.log, "tried again")


async def test_a_stop_is_sent_until_it_is_answered(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    site.pbx.unanswered_stops = 2
    await site.hung_up()
    await site.until(lambda: site.pbx.log.count("stop") == 3, "stopped")


async def test_an_objection_in_the_call_locks_the_recording(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    # what was captured before is proven by beats that come back
    captured = site.clock.now()
    await site.until(lambda: site.guard.beat > captured, "proven")
    await site.facts(Objected(CUSTOMER))
    await site.hung_up()
    await site.until(lambda: site.index.rows, "sealed")
    (row,) = site.index.rows.values()
    assert row.locked


async def test_an_objection_and_a_pause_asked_for_while_nobody_listened_are_both_found(site: Site) -> None:
    site.pbx.asked = {AGENT: (InCall.OBJECT, InCall.PAUSE)}
    await site.facts(
        SnapshotTaken(
            "boot",
            channels=(
                ChannelCreated(CUSTOMER, "PJSIP/trunk-a-1", LinkedId("1.1"), ChannelState.UP, "+31612345678"),
                ChannelCreated(AGENT, "PJSIP/100-1", LinkedId("1.1"), ChannelState.UP, "100"),
            ),
            bridges=((BridgeCreated(BRIDGE, "basic", "simple_bridge"), (AGENT, CUSTOMER)),),
        )
    )
    await site.until(lambda: {"objected", "paused"} <= set(site.kinds()), "written down, both")
    emptied = ["PBXGUARD_SAID_OBJECT=", "PBXGUARD_SAID_PAUSE="]
    await site.until(lambda: set(emptied) <= set(site.pbx.log), "taken away, both")
    assert {e.channel for e in site.audit.entries if e.kind == "objected"} == {CUSTOMER}
    assert not [line for line in site.pbx.log if line.startswith("start")]


async def test_what_was_written_down_takes_nothing_else_away(site: Site) -> None:
    await site.bridged()
    await site.facts(Requested(AGENT, InCall.PAUSE))
    await site.until(lambda: "PBXGUARD_SAID_PAUSE=" in site.pbx.log, "taken away")
    assert [line for line in site.pbx.log if line.startswith("PBXGUARD_SAID")] == ["PBXGUARD_SAID_PAUSE="]


async def test_a_fault_in_a_segment_stops_its_recorder_and_spares_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(site.guard._segments, "close", broken)
    await site.hung_up()
    await site.until(lambda: "stop" in site.pbx.log, "stopped")
    await site.until(lambda: not site.guard.supervisor.closing, "given up")
    await site.guard.put(SnapshotTaken("boot"))
    await site.until(lambda: site.guard.waiting == 0, "still taking facts")


async def test_what_a_fault_leaves_open_is_closed_by_another_and_sealed_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both segments are in the one recording, which waited for the first."""
    guard, audit, clock = site.guard, site.audit, site.clock
    segments = guard._segments
    monkeypatch.setattr("pbxguard.service.guard.OPEN_RETRY_SECONDS", 0.05)
    left = guard.leftovers = Leftovers(
        supervisor=guard.supervisor, audit=audit, recorder=site.pbx, segments=segments, clock=clock,
        troubles=guard.health,
    )  # fmt: skip
    close, looked = segments.close, segments.close_leftover

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    began = clock.now()
    await site.until(lambda: guard.beat > began + 1.2, "proven beyond the second that was written")
    monkeypatch.setattr(segments, "close", broken)
    monkeypatch.setattr(segments, "close_leftover", broken)
    await site.facts(BridgeLeft(BRIDGE, CUSTOMER))
    await site.until(lambda: len(left) == 1, "left open")
    monkeypatch.setattr(segments, "close", close)
    await site.facts(BridgeEntered(BRIDGE, CUSTOMER))
    await site.until(lambda: "start 2" in site.pbx.log, "started again")
    began = clock.now()
    await site.until(lambda: guard.beat > began + 1.2, "proven again")
    await site.hung_up()
    await site.until(lambda: guard.health.troubles == ("segment.unclosed",), "told of")
    assert not site.index.rows
    assert len(list(site.spool.iterdir())) == 4
    monkeypatch.setattr(segments, "close_leftover", looked)
    await site.until(lambda: site.index.rows, "sealed")
    (row,) = site.index.rows.values()
    assert row.duration_ms > 2 * 1000 - 200  # but a cut's guard
    await site.until(lambda: not guard.health.troubles and not list(site.spool.iterdir()), "over")


async def test_nothing_starts_on_a_leg_whose_last_recorder_may_still_run(site: Site) -> None:
    guard = site.guard
    asked = asyncio.Event()
    answered = asyncio.Event()

    class Leftover:
        async def recorder_gone(self, leg: Uniqueid) -> None:
            assert leg == AGENT
            asked.set()
            await answered.wait()

    guard.leftovers = cast(Any, Leftover())
    await site.bridged()
    await site.until(asked.is_set, "asked")
    assert not [line for line in site.pbx.log if line.startswith("start")]
    answered.set()
    await site.until(lambda: "start 1" in site.pbx.log, "started")


async def test_a_changed_number_is_written_down_as_a_doubt(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    await site.facts(ChannelNumberChanged(CUSTOMER, "+31687654321"))
    await site.until(lambda: "party.doubted" in site.kinds(), "doubted")
    await site.until(lambda: "segment.closed" in site.kinds(), "closed")


async def test_a_call_that_became_private_with_another_is_written_down_as_private(site: Site) -> None:
    """The agent marked his own channel; the customer's call stays private also after a restart."""
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    await site.facts(MarkedPrivate(AGENT))
    await site.until(lambda: "private" in site.kinds(), "private")
    assert [entry.channel for entry in site.audit.entries if entry.kind == "private"] == [CUSTOMER]
    await site.until(lambda: "segment.closed" in site.kinds(), "closed")


async def test_lost_events_make_the_pbx_be_looked_at_anew(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    await site.facts(*[PictureSeen(SnapshotTaken("boot"), frozenset(), 0.0)] * 2)
    await site.until(lambda: "look anew" in site.pbx.log, "looked")
    assert site.pbx.log.count("look anew") == 1
    await site.until(lambda: "segment.closed" in site.kinds(), "closed")


async def test_a_recorder_that_ran_on_in_the_place_of_its_leg_is_stopped_before_its_segment_is_closed(
    site: Site,
) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    site.pbx.replaced = True
    await site.facts(ChannelHungUp(AGENT))
    await site.until(lambda: "segment.closed" in site.kinds(), "closed")
    assert site.pbx.log.index("stop") < site.pbx.log.index("stop strays")
    assert site.pbx.log.count("stop strays") == 2, "for the segment, and once for whatever else"
    assert site.pbx.log.count("look closer") == 1


async def test_the_lamp_and_the_cdr_say_that_it_records(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: {"lamp PJSIP/100 INUSE", "CDR(pbxguard)=REC"} <= set(site.pbx.log), "shown")
    await site.hung_up()
    await site.until(lambda: "lamp PJSIP/100 NOT_INUSE" in site.pbx.log, "out")


async def test_a_stop_of_the_service_closes_what_runs(site: Site) -> None:
    await site.bridged()
    await site.until(lambda: "start 1" in site.pbx.log, "started")
    await site.guard.close()
    assert "segment.closed" in site.kinds()
    assert "stop" in site.pbx.log


async def test_what_came_of_an_objection_is_said_once_it_is_on_disk(site: Site) -> None:
    said: list[Confirm] = []
    site.guard.requests.confirm = said.append
    await site.bridged()
    await site.until(lambda: site.started() == 1, "started")
    site.audit.gate.clear()
    await site.facts(Requested(AGENT, InCall.OBJECT))
    await site.until(lambda: not site.guard.running, "stopped")
    await asyncio.sleep(0.05)
    assert said == [], "it holds, and is not written down"
    site.audit.gate.set()
    await site.until(lambda: said, "said")
    assert said == [Confirm(CUSTOMER, Effect.LOCKED, "nl")]
    assert "objected" in site.kinds()


async def test_what_came_of_an_objection_that_an_operator_notes_is_said_too(site: Site) -> None:
    said: list[Confirm] = []
    site.guard.requests.confirm = said.append
    await site.bridged()
    await site.until(lambda: site.started() == 1, "started")
    await site.guard.requests.ask(CUSTOMER, InCall.PAUSE, "operator")
    assert said == []
    await site.guard.requests.ask(CUSTOMER, InCall.OBJECT, "operator")
    assert said == [Confirm(CUSTOMER, Effect.LOCKED, "nl")]
