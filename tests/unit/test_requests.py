"""What is asked for in a call: who may, what it does at once, and what waits for the audit log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbxguard.core.commands import (
    Command,
    CommitBegin,
    CommitResume,
    Lamp,
    NoteLongPause,
    NoteRequest,
    RefuseRequest,
    SealRecording,
    ShowLamp,
    StartRecording,
    StopRecording,
    Tell,
)
from pbxguard.core.facts import (
    ChannelHungUp,
    InCall,
    MarkedPrivate,
    Objected,
    Paused,
    PolicyReloaded,
    PurposeBegun,
    Requested,
    Resumed,
    SegmentClosed,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.policy import PauseRule
from pbxguard.core.reasons import Reason
from tests.unit.test_supervisor import NOW, Loop, none, only


@pytest.fixture
def loop() -> Loop:
    return Loop().awake()


def lamps(commands: list[Command]) -> list[Lamp]:
    return [command.lamp for command in commands if isinstance(command, ShowLamp)]


def consulted(loop: Loop, leg: Uniqueid) -> Uniqueid:
    """Another of us, on the line with this one."""
    other, facts = loop.world.dial(leg, "PJSIP/102")
    loop.feed(*facts)
    return other


def test_an_agent_pauses_at_once_and_it_is_written_down_after(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    commands = loop.feed(Requested(leg, InCall.PAUSE))
    assert only(commands, StopRecording).segment == start.segment
    assert only(commands, StopRecording).reasons == (Reason.PAUSED,)
    assert only(commands, NoteRequest) == NoteRequest(leg, (Paused(caller),))
    assert lamps(commands)[-1] is Lamp.PAUSED


def test_a_resume_waits_until_it_is_written_down(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    loop.feed(Requested(leg, InCall.PAUSE), SegmentClosed(start.segment))
    commands = loop.feed(Requested(leg, InCall.RESUME))
    assert only(commands, CommitResume) == CommitResume((Resumed(caller),))
    assert none(commands, StartRecording, ShowLamp)
    commands = loop.feed(Resumed(caller))
    assert only(commands, StartRecording).recording == start.recording
    assert lamps(commands)[-1] is Lamp.RECORDING


@pytest.mark.parametrize("what", [InCall.PAUSE, InCall.RESUME, InCall.PRIVATE])
def test_the_other_party_may_not_pause_resume_or_make_it_private(loop: Loop, what: InCall) -> None:
    caller, leg, _ = loop.talk()
    if what is InCall.RESUME:
        loop.feed(Requested(leg, InCall.PAUSE))
    commands = loop.feed(Requested(caller, what))
    assert commands == [RefuseRequest(caller, what)]
    twin = loop.feed(Requested(leg, what))
    assert none(twin, RefuseRequest)


def test_one_of_us_begins_a_purpose_once_it_is_written_down_and_the_other_party_may_not(loop: Loop) -> None:
    caller, leg, _ = loop.talk()
    asked = (PurposeName("quality_training"),)
    assert loop.feed(Requested(caller, InCall.BEGIN, asked)) == [RefuseRequest(caller, InCall.BEGIN)]
    assert loop.feed(Requested(leg, InCall.BEGIN)) == [RefuseRequest(leg, InCall.BEGIN)], "for nothing"
    commands = loop.feed(Requested(leg, InCall.BEGIN, asked))
    assert commands == [CommitBegin((PurposeBegun(caller, asked, leg),))]
    assert only(loop.feed(PurposeBegun(caller, asked, leg)), Tell).channel == caller


def test_nobody_asks_for_anything_on_a_channel_that_is_not_there(loop: Loop) -> None:
    _, leg, _ = loop.talk()
    stranger = Uniqueid("9.9")
    proof = (PurposeName("contract_evidence"),)
    for what in InCall:
        assert loop.feed(Requested(stranger, what, proof)) == [RefuseRequest(stranger, what)]
    assert leg in loop.supervisor.running


def test_the_other_party_objects_by_a_key_for_itself(loop: Loop) -> None:
    caller, _, _ = loop.talk()
    commands = loop.feed(Requested(caller, InCall.OBJECT))
    assert only(commands, NoteRequest).facts == (Objected(caller),)
    stop = only(commands, StopRecording)
    assert (stop.reasons, stop.lock, stop.destroy) == ((Reason.OBJECTED,), True, False)


def test_an_agent_objects_for_what_the_customer_says_aloud_and_not_for_a_colleague(loop: Loop) -> None:
    caller, leg, _ = loop.talk()
    commands = loop.feed(Requested(leg, InCall.OBJECT))
    assert only(commands, NoteRequest).facts == (Objected(caller),)
    assert only(commands, StopRecording).lock
    loop.feed(ChannelHungUp(caller))
    assert only(loop.feed(Requested(leg, InCall.OBJECT)), RefuseRequest).channel == leg


def test_after_an_objection_no_segment_begins_in_this_call_with_whomever(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    loop.feed(Requested(caller, InCall.OBJECT), SegmentClosed(start.segment))
    other = consulted(loop, leg)
    commands = loop.feed(*loop.world.enter(loop.world.bridge_of(caller), other), *loop.world.hang_up(leg))
    assert none(commands, StartRecording)
    assert loop.supervisor.outcome(loop.supervisor.calls[caller]).reasons[0] is Reason.OBJECTED


def test_the_private_button_pressed_late_has_all_of_the_call_destroyed(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    commands = loop.feed(Requested(leg, InCall.PRIVATE))
    assert only(commands, NoteRequest).facts == (MarkedPrivate(caller, late=True),)
    assert only(commands, StopRecording).destroy
    commands = loop.feed(*loop.world.hang_up(caller), *loop.world.hang_up(leg), SegmentClosed(start.segment))
    assert only(commands, SealRecording).private


def test_a_call_that_becomes_private_with_a_colleague_keeps_what_was_said_before(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    commands = loop.feed(MarkedPrivate(leg))
    assert not only(commands, StopRecording).destroy
    commands = loop.feed(*loop.world.hang_up(caller), *loop.world.hang_up(leg), SegmentClosed(start.segment))
    assert not only(commands, SealRecording).private


def test_private_while_paused_destroys_what_was_captured_before_the_pause(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    loop.feed(Requested(leg, InCall.PAUSE), SegmentClosed(start.segment), Requested(leg, InCall.PRIVATE))
    assert only(loop.feed(*loop.world.hang_up(caller)), SealRecording).private


def test_a_pause_goes_with_the_call_and_the_lamp_with_who_talks(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    loop.feed(Requested(leg, InCall.PAUSE), SegmentClosed(start.segment))
    other = consulted(loop, leg)
    commands = loop.feed(*loop.world.enter(loop.world.bridge_of(caller), other))
    commands += loop.feed(*loop.world.hang_up(leg))
    shown = [(c.endpoint, c.lamp) for c in commands if isinstance(c, ShowLamp)]
    assert shown == [("PJSIP/102", Lamp.PAUSED), ("PJSIP/101", Lamp.NOT_RECORDED)]
    commands = loop.feed(*loop.world.hang_up(other))
    assert lamps(commands) == [Lamp.NOT_RECORDED]


def pausing(loop: Loop, rule: PauseRule) -> None:
    loop.supervisor.policy = replace(loop.supervisor.policy, pause=rule)
    loop.feed(PolicyReloaded())


def test_a_pause_that_nobody_ends_is_told_of_once_and_stays(loop: Loop) -> None:
    pausing(loop, PauseRule(30, resumes=False))
    caller, leg, _ = loop.talk()
    loop.feed(Requested(leg, InCall.PAUSE))
    assert none(loop.supervisor.tick(NOW + 29), NoteLongPause, CommitResume)
    assert only(loop.supervisor.tick(NOW + 31), NoteLongPause).channel == caller
    assert none(loop.supervisor.tick(NOW + 90), NoteLongPause, CommitResume)
    assert leg not in loop.supervisor.running


def test_a_pause_said_again_gets_no_more_time_and_ends_by_itself_where_so_configured(loop: Loop) -> None:
    pausing(loop, PauseRule(30, resumes=True))
    caller, leg, _ = loop.talk()
    loop.feed(Requested(leg, InCall.PAUSE))
    loop.feed(Requested(leg, InCall.PAUSE), now=NOW + 29)
    resume = only(loop.supervisor.tick(NOW + 31), CommitResume)
    assert resume == CommitResume((Resumed(caller),), timed_out=True)
    assert leg not in loop.supervisor.running
    again = NOW + 31 + loop.supervisor.policy.limits.retry_start
    assert none(loop.supervisor.tick(again - 0.1), CommitResume)
    assert only(loop.supervisor.tick(again), CommitResume).facts, "it could not be written down: tried again"
    loop.feed(Resumed(caller), now=again)
    assert none(loop.supervisor.tick(again + 60), CommitResume)
