"""The loop: segments, seals, lamps, restarts, boots. What it decides is in test_law_table and the property tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pbxguard.core.commands import (
    CallOutcome,
    Command,
    Lamp,
    LookAnew,
    LookCloser,
    ReportCall,
    SealRecording,
    ShowLamp,
    StartRecording,
    StopRecording,
)
from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    ChannelHungUp,
    ChannelStateChanged,
    Fact,
    HangupRequested,
    Held,
    Objected,
    PictureSeen,
    PolicyReloaded,
    RecorderStopSeen,
    SegmentClosed,
    SegmentStartFailed,
    SnapshotTaken,
    SpoolHasRoom,
    SwitchedOff,
    SwitchedOn,
    Unheld,
)
from pbxguard.core.facts import ChannelState as State
from pbxguard.core.ids import PurposeName, RecordingId, SegmentId, Uniqueid, recording_id
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason
from pbxguard.core.supervisor import Supervisor
from tests.property.world import MIFID, PROOF, SALES, TRAINING, World, make_policy

NOW = 100.0


class Loop:
    """A supervisor in good health, and the world that it looks at."""

    def __init__(self, numbering: dict[RecordingId, int] | None = None, world: World | None = None) -> None:
        self.world = world or World()
        self.supervisor = Supervisor(make_policy(), "node", numbering)
        self.feed(AuditHealthy(True), SpoolHasRoom(True))

    def feed(self, *facts: Fact, now: float = NOW) -> list[Command]:
        return [command for fact in facts for command in self.supervisor.handle(fact, now)]

    def awake(self) -> Loop:
        self.feed(self.world.snapshot(), BeatReturned(NOW - 0.01))
        return self

    def talk(self) -> tuple[Uniqueid, Uniqueid, StartRecording]:
        caller, facts = self.world.incoming()
        self.feed(*facts)
        leg, facts = self.world.dial(caller, "PJSIP/101")
        commands = self.feed(*facts, *self.world.meet(caller, leg))
        return caller, leg, only(commands, StartRecording)


T = TypeVar("T", bound=Command)


def only(commands: list[Command], kind: type[T]) -> T:
    found = [command for command in commands if isinstance(command, kind)]
    assert len(found) == 1
    return found[0]


def none(commands: list[Command], *kinds: type[Command]) -> bool:
    return not any(isinstance(command, kinds) for command in commands)


def test_a_customer_who_hangs_up_ends_the_call_and_one_who_is_taken_elsewhere_left_the_conversation() -> None:
    for facts, reason in (((), Reason.EXTERNAL_LEFT), ((HangupRequested,), Reason.CALL_ENDED)):
        loop = Loop().awake()
        caller, _, _ = loop.talk()
        commands = loop.feed(*(fact(caller) for fact in facts), *loop.world.leave(caller))
        assert only(commands, StopRecording).reasons == (reason,)


def test_a_call_that_the_switch_led_past_its_door_says_so_first_also_once_it_is_on() -> None:
    loop = Loop().awake()
    loop.feed(SwitchedOff())
    caller, facts = loop.world.incoming(purposes=())
    loop.feed(*facts)
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    loop.feed(*facts, *loop.world.meet(caller, leg), SwitchedOn())
    told = loop.supervisor.outcome(loop.supervisor.calls[caller]).reasons
    assert told == (Reason.SWITCHED_OFF, Reason.NO_PURPOSE)


def test_a_call_that_came_when_all_was_on_and_asked_for_nothing_is_told_of_that_alone() -> None:
    loop = Loop().awake()
    caller, facts = loop.world.incoming(purposes=())
    loop.feed(*facts)
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    loop.feed(*facts, *loop.world.meet(caller, leg))
    assert loop.supervisor.outcome(loop.supervisor.calls[caller]).reasons == (Reason.NO_PURPOSE,)


def untold_talk(loop: Loop, now: float = NOW) -> Uniqueid:
    caller, facts = loop.world.incoming(told=None)
    loop.feed(*facts, now=now)
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    loop.feed(*facts, *loop.world.meet(caller, leg), now=now)
    return caller


def end_of(loop: Loop, caller: Uniqueid, now: float) -> CallOutcome:
    loop.feed(*loop.world.leave(caller), now=now)
    (report,) = [c for c in loop.feed(ChannelHungUp(caller), now=now) if isinstance(c, ReportCall) and c.ended]
    return report.outcome


def test_a_beat_that_is_late_when_a_call_ends_is_not_why_it_was_not_recorded() -> None:
    loop = Loop().awake()
    caller = untold_talk(loop)
    loop.supervisor.tick(NOW + 1)
    assert loop.supervisor.outcome(loop.supervisor.calls[caller]).reasons == (Reason.BEAT_LATE, Reason.NOT_TOLD)
    assert end_of(loop, caller, NOW + 1).reasons == (Reason.NOT_TOLD,)


def test_a_beat_that_was_late_all_along_is_told_with_all_else() -> None:
    loop = Loop().awake()
    caller = untold_talk(loop, NOW + 1)
    assert end_of(loop, caller, NOW + 1).reasons == (Reason.BEAT_LATE, Reason.NOT_TOLD)
    told, facts = loop.world.incoming()
    leg, more = loop.world.dial(told, "PJSIP/102")
    loop.feed(*facts, *more, *loop.world.meet(told, leg), now=NOW + 1)
    assert end_of(loop, told, NOW + 1).reasons == (Reason.BEAT_LATE,)


def test_what_observe_would_have_recorded_is_not_undone_by_a_beat_that_is_late_at_the_end() -> None:
    loop = Loop().awake()
    loop.supervisor.policy = make_policy(GuardMode.OBSERVE)
    loop.feed(PolicyReloaded())
    caller = untold_talk(loop)
    loop.supervisor.tick(NOW + 1)
    assert not loop.supervisor.outcome(loop.supervisor.calls[caller]).would_record
    assert end_of(loop, caller, NOW + 1).would_record


def test_a_call_is_sealed_once_when_it_has_ended_and_its_last_segment_is_closed() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    commands = loop.feed(*loop.world.hang_up(caller), *loop.world.hang_up(leg))
    assert none(commands, SealRecording)
    assert only(commands, StopRecording).reasons == (Reason.EXTERNAL_LEFT,)
    seal = only(loop.feed(SegmentClosed(start.segment)), SealRecording)
    assert seal.recording == start.recording
    assert seal.outcome.reasons == (Reason.CALL_ENDED,)
    assert loop.feed(SegmentClosed(start.segment), SegmentStartFailed(start.segment, "late")) == []


def test_a_segment_closed_before_the_call_ends_is_sealed_at_its_end() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    loop.feed(*loop.world.hang_up(leg), SegmentClosed(start.segment))
    only(loop.feed(*loop.world.hang_up(caller)), SealRecording)


def test_a_call_without_a_segment_is_never_sealed() -> None:
    loop = Loop().awake()
    caller, facts = loop.world.incoming()
    commands = loop.feed(*facts, *loop.world.hang_up(caller))
    assert none(commands, SealRecording, StartRecording)
    assert [c.ended for c in commands if isinstance(c, ReportCall)][-1]


def test_what_a_late_fact_says_of_an_ended_call_opens_it_no_more() -> None:
    loop = Loop().awake()
    caller, facts = loop.world.incoming()
    loop.feed(*facts, *loop.world.hang_up(caller))
    assert loop.feed(*facts) == []


def test_nothing_is_known_of_a_segment_that_never_was() -> None:
    assert Loop().awake().feed(SegmentClosed(SegmentId("x-001")), SegmentStartFailed(SegmentId("x-001"), "")) == []


def test_the_proof_of_a_stop_is_the_last_beat_that_came_back_and_never_a_beat_to_come() -> None:
    loop = Loop().awake()
    caller, _, _ = loop.talk()
    loop.feed(BeatReturned(NOW + 1))
    loop.feed(BeatReturned(NOW - 5))
    assert only(loop.feed(Objected(caller), now=NOW + 0.1), StopRecording).proven == NOW


def test_a_recorder_that_stops_by_itself_is_not_started_again_at_once() -> None:
    loop = Loop().awake()
    _, _, start = loop.talk()
    assert none(loop.feed(SegmentClosed(start.segment)), StartRecording, StopRecording)
    assert none(loop.feed(BeatReturned(NOW + 1.9), now=NOW + 1.9), StartRecording)
    again = only(loop.feed(BeatReturned(NOW + 2.0), now=NOW + 2.0), StartRecording)
    assert again.segment != start.segment
    assert again.recording == start.recording


def test_at_a_transfer_the_old_leg_is_stopped_before_the_new_one_starts() -> None:
    loop = Loop().awake()
    caller, leg, _ = loop.talk()
    other, facts = loop.world.dial(leg, "PJSIP/102")
    loop.feed(*facts, *loop.world.enter(loop.world.bridge_of(caller), other))
    commands = loop.feed(*loop.world.leave(leg))
    kinds = [type(c) for c in commands if isinstance(c, StopRecording | StartRecording)]
    assert kinds == [StopRecording, StartRecording]


def test_the_lamp_of_the_phone_changes_when_its_recorder_does() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    commands = loop.feed(Objected(caller), SegmentClosed(start.segment), *loop.world.hang_up(leg))
    assert [c.lamp for c in commands if isinstance(c, ShowLamp)] == [Lamp.NOT_RECORDED]


def test_the_lamp_goes_out_when_the_start_failed() -> None:
    loop = Loop().awake()
    _, _, start = loop.talk()
    assert only(loop.feed(SegmentStartFailed(start.segment, "refused")), ShowLamp).lamp is Lamp.NOT_RECORDED


def test_a_restart_goes_on_counting_and_seals_what_was_begun_before_it() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    anew = Loop({start.recording: 3}, loop.world)
    anew.feed(loop.world.hears(caller, (PROOF,), Mode.NOTICE))
    assert none(anew.feed(loop.world.snapshot(), BeatReturned(NOW - 0.01)), StartRecording), "hold is unknown"
    commands = anew.feed(*loop.world.leave(leg), *loop.world.meet(caller, leg))
    assert only(commands, StartRecording).segment == f"{start.recording}-004"
    unrecorded = Loop({start.recording: 3}, loop.world).awake()
    assert only(unrecorded.feed(*loop.world.hang_up(caller)), SealRecording).recording == start.recording


def test_what_was_heard_before_the_first_snapshot_is_not_forgotten_by_it() -> None:
    loop = Loop()
    caller, facts = loop.world.incoming()
    loop.feed(*facts)
    loop.awake()
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    start = only(loop.feed(*facts, *loop.world.meet(caller, leg)), StartRecording)
    assert start.recording == recording_id("node", loop.world.boot, caller), "the id hangs on the boot"


def test_a_new_boot_of_asterisk_ends_every_call_and_forgets_what_uniqueids_meant() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    loop.world.boot = "boot-2"
    picture = loop.world.snapshot()
    commands = loop.feed(SnapshotTaken("boot-2"))
    assert only(commands, StopRecording).segment == start.segment
    assert only(loop.feed(SegmentClosed(start.segment)), SealRecording).recording == start.recording
    commands = loop.feed(picture, BeatReturned(NOW))
    assert none(commands, StartRecording)
    assert loop.supervisor.memory.of(caller).heard == []
    assert loop.supervisor.calls[caller].recording != start.recording
    assert leg in loop.supervisor.board.channels


def test_who_is_not_in_the_snapshot_has_hung_up() -> None:
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    loop.world.hang_up(caller)
    loop.world.hang_up(leg)
    commands = loop.feed(loop.world.snapshot())
    assert only(commands, StopRecording).segment == start.segment
    only(loop.feed(SegmentClosed(start.segment)), SealRecording)


def test_a_callee_seen_in_a_snapshot_only_is_still_one_whom_we_called() -> None:
    loop = Loop()
    leg, created = loop.world.create("PJSIP/101", State.UP)
    callee, facts = loop.world.dial(leg, "PJSIP/trunk-b", "0612345678")
    loop.world.meet(leg, callee)
    loop.awake()
    commands = loop.feed(loop.world.hears(callee, (SALES,), Mode.NOTICE))
    assert only(commands, ReportCall).outcome.direction is not None
    assert Reason.WRONG_DIRECTION not in only(commands, ReportCall).outcome.reasons
    assert created not in facts


def test_when_the_patterns_change_everybody_is_told_anew_who_he_is() -> None:
    loop = Loop().awake()
    _, _, start = loop.talk()
    policy = loop.supervisor.policy
    loop.supervisor.policy = replace(policy, parties=replace(policy.parties, private=("PJSIP/101-*",)))
    assert only(loop.feed(PolicyReloaded()), StopRecording).segment == start.segment


def test_the_same_health_said_again_decides_nothing_anew() -> None:
    loop = Loop().awake()
    loop.talk()
    assert loop.feed(AuditHealthy(True), SpoolHasRoom(True), BeatReturned(NOW)) == []


def test_what_forbids_every_recording_is_known_to_the_doors() -> None:
    loop = Loop()
    assert set(loop.supervisor.closed(NOW)) == {Reason.NOT_CONNECTED, Reason.BEAT_LATE}
    loop.awake()
    assert loop.supervisor.closed(NOW) == ()
    loop.feed(SwitchedOff(), AuditHealthy(False), SpoolHasRoom(False))
    assert set(loop.supervisor.closed(NOW)) == {Reason.SWITCHED_OFF, Reason.AUDIT_UNHEALTHY, Reason.SPOOL_FULL}
    assert Reason.BEAT_LATE in loop.supervisor.closed(NOW + 3)


def test_facts_about_channels_that_never_were_do_nothing() -> None:
    assert Loop().awake().feed(ChannelStateChanged(Uniqueid("9.9"), State.UP), Objected(Uniqueid("9.9"))) == []


def seal_after(facts_of: Callable[[Loop, Uniqueid, Uniqueid], list[Fact]], *purposes: PurposeName) -> SealRecording:
    """A call recorded for these purposes, in which something is said, and which then ends."""
    loop = Loop().awake()
    caller, facts = loop.world.incoming(purposes, told=Mode.OPT_OUT)
    loop.feed(*facts)
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    commands = loop.feed(*facts, *loop.world.meet(caller, leg))
    commands += loop.feed(*facts_of(loop, caller, leg))
    commands += loop.feed(*loop.world.hang_up(caller))
    starts = [c for c in commands if isinstance(c, StartRecording)]
    return only(loop.feed(*(SegmentClosed(start.segment) for start in starts)), SealRecording)


def test_an_objection_on_hold_is_told_when_the_recording_is_sealed() -> None:
    seal = seal_after(lambda _, caller, leg: [Held(leg), Objected(caller), Unheld(leg)], PROOF)
    assert (seal.objected, seal.lock, seal.destroy) == ((PROOF,), True, False)


def test_an_objection_after_the_agent_has_left_is_told_when_the_recording_is_sealed() -> None:
    seal = seal_after(lambda loop, caller, leg: [*loop.world.hang_up(leg), Objected(caller)], TRAINING)
    assert (seal.objected, seal.lock, seal.destroy) == ((TRAINING,), False, True)


def test_what_another_purpose_may_keep_is_not_destroyed_by_an_objection_to_training() -> None:
    seal = seal_after(lambda _, caller, leg: [Objected(caller, (TRAINING,))], PROOF, TRAINING)
    assert (seal.objected, seal.lock, seal.destroy) == ((TRAINING,), False, False)


def test_an_objection_neither_locks_nor_destroys_what_the_law_demands() -> None:
    seal = seal_after(lambda _, caller, leg: [Objected(caller)], MIFID)
    assert (seal.objected, seal.lock, seal.destroy) == ((MIFID,), False, False)


def test_without_an_objection_nothing_is_locked() -> None:
    seal = seal_after(lambda _, caller, leg: [Objected(caller, (SALES,))], PROOF)
    assert (seal.objected, seal.lock, seal.destroy) == ((), False, False)


def test_an_objection_after_a_restart_holds_for_what_was_recorded_before_it() -> None:
    loop = Loop().awake()
    caller, _, start = loop.talk()
    anew = Loop({start.recording: 1}, loop.world)
    anew.feed(loop.world.hears(caller, (PROOF,), Mode.NOTICE))
    anew.awake()
    seal = only(anew.feed(Objected(caller), *loop.world.hang_up(caller)), SealRecording)
    assert (seal.objected, seal.lock) == ((PROOF,), True)


def test_a_recorder_that_somebody_else_stopped_is_cut_there_and_started_anew_at_once() -> None:
    loop = Loop().awake()
    _, leg, first = loop.talk()
    loop.feed(BeatReturned(NOW + 1), now=NOW + 1.1)
    commands = loop.feed(RecorderStopSeen(leg), now=NOW + 1.2)
    stop, again = only(commands, StopRecording), only(commands, StartRecording)
    assert (stop.segment, stop.reasons, stop.proven) == (first.segment, (Reason.RECORDER_STOPPED,), NOW + 1)
    assert (again.recording, again.segment != first.segment) == (first.recording, True)
    # It had gone: our own stop raises no event, and the next one is somebody else's again, who is not raced.
    commands = loop.feed(SegmentClosed(first.segment, ran=False), RecorderStopSeen(leg), now=NOW + 1.2)
    assert only(commands, StopRecording).segment == again.segment
    assert none(commands, StartRecording)
    loop.feed(BeatReturned(NOW + 4), now=NOW + 4)
    assert len(loop.supervisor.running) == 1


def test_the_event_of_our_own_stop_stops_nothing_else() -> None:
    """It may come before our stop is answered, or long after the next recorder has begun."""
    loop = Loop().awake()
    _, leg, first = loop.talk()
    assert only(loop.feed(Held(leg)), StopRecording).segment == first.segment
    again = only(loop.feed(Unheld(leg)), StartRecording)
    assert loop.feed(RecorderStopSeen(leg), SegmentClosed(first.segment)) == []
    assert only(loop.feed(RecorderStopSeen(leg)), StopRecording).segment == again.segment


def test_a_recorder_stopped_on_a_leg_where_none_of_ours_runs_changes_nothing() -> None:
    loop = Loop().awake()
    caller, leg, _ = loop.talk()
    assert loop.feed(RecorderStopSeen(caller)) == []
    loop.feed(Held(leg))
    assert loop.feed(RecorderStopSeen(leg), RecorderStopSeen(leg)) == []
    assert only(loop.feed(Unheld(leg)), StartRecording)


def seen(world: World, at: float, *restless: Uniqueid) -> PictureSeen:
    """What the lists show of this world."""
    return PictureSeen(world.snapshot(), frozenset(restless), at)


def test_a_lost_event_is_found_by_the_second_look_and_costs_what_was_recorded_since_the_picture_was_right() -> None:
    loop = Loop().awake()
    _, leg, start = loop.talk()
    assert loop.feed(seen(loop.world, NOW - 0.01)) == []
    third, facts = loop.world.incoming()
    loop.feed(*facts)
    loop.world.meet(third, leg)  # and nobody tells
    loop.feed(BeatReturned(NOW + 10), now=NOW + 10)
    assert loop.feed(seen(loop.world, NOW + 5), now=NOW + 10) == []
    commands = loop.feed(seen(loop.world, NOW + 9), now=NOW + 10)
    stop = only(commands, StopRecording)
    assert (stop.segment, stop.reasons, stop.proven) == (start.segment, (Reason.PICTURE_WRONG,), NOW - 0.01)
    assert third in only(commands, LookAnew).channels
    assert none(commands, StartRecording)
    assert not loop.supervisor.connected
    loop.feed(loop.world.snapshot(), BeatReturned(NOW + 11), now=NOW + 11)
    assert loop.feed(seen(loop.world, NOW + 11), now=NOW + 11) == []


def test_who_hangs_up_in_a_bridge_that_he_never_left_gave_his_place_to_another() -> None:
    """What was recorded is proven up to when the picture was right; nothing starts there before lists told who is."""
    loop = Loop().awake()
    caller, leg, start = loop.talk()
    second, facts = loop.world.dial(leg, "PJSIP/102")
    loop.feed(*facts, *loop.world.enter(loop.world.bridge_of(caller), second))
    loop.feed(seen(loop.world, NOW - 0.01))
    third, facts = loop.world.incoming()
    loop.feed(*facts)
    loop.feed(BeatReturned(NOW + 4), now=NOW + 4)
    commands = loop.feed(*loop.world.replace(leg, third), now=NOW + 4)
    stop = only(commands, StopRecording)
    assert (stop.segment, stop.reasons, stop.proven) == (start.segment, (Reason.PICTURE_WRONG,), NOW - 0.01)
    assert set(only(commands, LookCloser).channels) == {caller, leg, second}
    assert none(commands, StartRecording)
    commands = loop.feed(seen(loop.world, NOW + 4), now=NOW + 4.1)
    assert only(commands, LookCloser).channels == (), "these were asked for before: once more"
    assert third in only(loop.feed(seen(loop.world, NOW + 4.1), now=NOW + 4.2), LookAnew).channels
    commands = loop.feed(loop.world.snapshot(), BeatReturned(NOW + 5), now=NOW + 5)
    assert only(commands, StartRecording).leg == second, "he was told"


def test_who_took_a_place_unseen_did_so_after_he_came_to_be() -> None:
    """Nobody else is in no bridge: what was recorded before his call came in is proven, though no list tells it."""
    loop = Loop().awake()
    _, leg, _ = loop.talk()
    loop.feed(seen(loop.world, NOW - 0.01))
    loop.feed(BeatReturned(NOW + 4), now=NOW + 4)
    third, facts = loop.world.incoming()
    loop.feed(*facts, BeatReturned(NOW + 4.1), now=NOW + 4.1)
    stop = only(loop.feed(*loop.world.replace(leg, third), now=NOW + 4.1), StopRecording)
    assert (stop.reasons, stop.proven) == ((Reason.PICTURE_WRONG,), NOW + 4)


def test_who_moved_while_the_lists_were_made_is_looked_at_the_next_time() -> None:
    loop = Loop().awake()
    _, leg, _ = loop.talk()
    third, facts = loop.world.incoming()
    loop.feed(*facts)
    loop.world.meet(third, leg)
    for _ in range(5):
        assert loop.feed(seen(loop.world, NOW, third, leg)) == []
    loop.feed(seen(loop.world, NOW))
    only(loop.feed(seen(loop.world, NOW)), LookAnew)


def test_other_conversations_are_cut_at_the_last_beat_only() -> None:
    loop = Loop().awake()
    _, _, far = loop.talk()
    loop.feed(seen(loop.world, NOW - 0.01))
    caller, facts = loop.world.incoming()
    loop.feed(*facts)
    leg, facts = loop.world.dial(caller, "PJSIP/102")
    near = only(loop.feed(*facts, *loop.world.meet(caller, leg)), StartRecording)
    loop.world.hang_up(leg)
    loop.feed(BeatReturned(NOW + 10), now=NOW + 10)
    loop.feed(seen(loop.world, NOW + 9), now=NOW + 10)
    stops = {c.segment: c for c in loop.feed(seen(loop.world, NOW + 9.5), now=NOW + 10) if isinstance(c, StopRecording)}
    assert {segment: stop.proven for segment, stop in stops.items()} == {
        far.segment: NOW + 10,
        near.segment: NOW - 0.01,
    }


def test_the_event_of_a_leftovers_stop_stops_nothing() -> None:
    loop = Loop().awake()
    loop.supervisor.expect_stop(Uniqueid("nobody"))
    _, leg, start = loop.talk()
    loop.supervisor.expect_stop(leg)
    assert loop.feed(RecorderStopSeen(leg)) == []
    assert only(loop.feed(RecorderStopSeen(leg)), StopRecording).segment == start.segment
