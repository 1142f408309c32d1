"""An objection holds for the whole call, also once whoever made it has left the line (LAW.md 4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pbxguard.core.commands import NoteBinding, NoteRequest, SealRecording, StartRecording
from pbxguard.core.facts import (
    Consented,
    Held,
    InCall,
    Objected,
    ObjectionBinds,
    Requested,
    SegmentClosed,
    Unheld,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.memory import Memory
from pbxguard.core.permit import Permit
from pbxguard.core.purposes import Mode
from tests.property.trial import STAY_S, Trial
from tests.property.world import CONSENTING, MIFID, NL_OTHER, PROOF, TRAINING
from tests.unit.test_law_table import R, dialled, incoming, joins, meet, recorded, refused
from tests.unit.test_supervisor import Loop, only


@pytest.fixture
def pbx() -> Trial:
    return Trial()


def conference(pbx: Trial, *purposes: PurposeName) -> tuple[Uniqueid, Uniqueid, Uniqueid]:
    """(customer, agent, second outside party), both outside told in a way that lets them object; recorded."""
    caller, facts = pbx.world.incoming(purposes or (PROOF,), told=Mode.OPT_OUT)
    pbx.play(facts)
    agent = dialled(pbx, caller, "PJSIP/101")
    meet(pbx, caller, agent)
    second, facts = pbx.world.incoming(purposes or (PROOF,), number=NL_OTHER, told=Mode.OPT_OUT)
    pbx.play(facts)
    joins(pbx, second, caller)
    assert recorded(pbx, caller)
    return caller, agent, second


def purposes_of(pbx: Trial, channel: Uniqueid) -> tuple[PurposeName, ...]:
    decision = pbx.decision(channel)
    assert isinstance(decision, Permit)
    return decision.purposes


def test_who_objected_and_hung_up_leaves_a_call_that_is_recorded_no_more(pbx: Trial) -> None:
    caller, agent, second = conference(pbx)
    pbx.feed(Objected(second))
    refused(pbx, caller, R.OBJECTED)
    pbx.play(pbx.world.hang_up(second))
    refused(pbx, caller, R.OBJECTED)
    colleague = dialled(pbx, caller, "PJSIP/102")
    joins(pbx, colleague, caller)
    pbx.play(pbx.world.hang_up(agent))
    refused(pbx, caller, R.OBJECTED)


def test_who_left_without_objecting_leaves_one_that_is(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.play(pbx.world.hang_up(second))
    assert recorded(pbx, caller)


def test_the_customer_objects_and_leaves_and_whoever_he_brought_along_is_not_recorded(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.feed(Objected(caller))
    pbx.play(pbx.world.hang_up(caller))
    refused(pbx, second, R.OBJECTED)


@pytest.mark.parametrize("by", ["external", "agent"])
def test_by_a_key_in_the_call_it_is_written_down_with_it_whom_it_binds(by: str) -> None:
    loop = Loop().awake()
    caller, agent, start = loop.talk()
    second, facts = loop.world.incoming(number=NL_OTHER)
    loop.feed(*facts, *loop.world.enter(loop.world.bridge_of(caller), second))
    asker = second if by == "external" else agent
    note = only(loop.feed(Requested(asker, InCall.OBJECT)), NoteRequest)
    assert ObjectionBinds(caller, second) in note.facts
    assert (ObjectionBinds(second, caller) in note.facts) is (by == "agent")
    commands = loop.feed(*loop.world.hang_up(second))
    assert not [c for c in commands if isinstance(c, StartRecording | NoteBinding)]
    assert start.permit.call == caller


def test_a_nine_in_a_whisper_holds_when_he_hangs_up_with_it() -> None:
    pbx = Trial(tell=True)
    caller, facts = pbx.world.incoming()
    pbx.play(facts)
    meet(pbx, caller, dialled(pbx, caller, "PJSIP/101"))
    second, facts = pbx.world.incoming((), number=NL_OTHER, told=None)
    pbx.play(facts)
    joins(pbx, second, caller)
    pbx.wait(STAY_S + 0.1)
    assert second in pbx.whispers
    pbx.play(pbx.world.hang_up(second))
    assert recorded(pbx, caller)
    pbx.feed(Objected(second, (PROOF,)))  # the key's word comes after the hang-up's
    refused(pbx, caller, R.OBJECTED)


def test_who_objected_at_the_door_and_comes_by_for_a_moment_binds_the_call(pbx: Trial) -> None:
    caller = incoming(pbx)
    meet(pbx, caller, dialled(pbx, caller, "PJSIP/101"))
    objector = incoming(pbx, told=None, number=NL_OTHER)
    pbx.feed(Objected(objector, (PROOF,)))
    assert recorded(pbx, caller)
    joins(pbx, objector, caller)
    refused(pbx, caller, R.OBJECTED, R.NOT_TOLD)
    pbx.play(pbx.world.hang_up(objector))
    refused(pbx, caller, R.OBJECTED)


def test_who_talks_elsewhere_by_now_still_takes_back_what_he_said_here(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.play(pbx.world.leave(second))
    assert recorded(pbx, caller)
    pbx.feed(Objected(second))
    refused(pbx, caller, R.OBJECTED)


def test_on_hold_it_holds_as_well(pbx: Trial) -> None:
    caller, agent, second = conference(pbx)
    pbx.feed(Held(agent), Objected(second))
    pbx.play(pbx.world.hang_up(second))
    pbx.feed(Unheld(agent))
    refused(pbx, caller, R.OBJECTED)


def test_only_the_purpose_that_was_objected_to_ends(pbx: Trial) -> None:
    caller, _, second = conference(pbx, PROOF, TRAINING)
    assert purposes_of(pbx, caller) == (PROOF, TRAINING)
    pbx.feed(Objected(second, (TRAINING,)))
    pbx.play(pbx.world.hang_up(second))
    assert purposes_of(pbx, caller) == (PROOF,)
    assert recorded(pbx, caller)


def test_what_the_law_demands_goes_on(pbx: Trial) -> None:
    caller, _, second = conference(pbx, PROOF, MIFID)
    pbx.feed(Objected(second))
    pbx.play(pbx.world.hang_up(second))
    assert purposes_of(pbx, caller) == (MIFID,)


def test_who_joins_a_bound_call_is_bound_and_whoever_has_a_call_of_his_own_is_not(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.feed(Objected(second))
    pbx.play(pbx.world.hang_up(second))
    third = incoming(pbx, number=NL_OTHER)
    joins(pbx, third, caller)
    refused(pbx, third, R.OBJECTED)
    pbx.play(pbx.world.hang_up(caller))
    refused(pbx, third, R.OBJECTED)
    apart = incoming(pbx, number=NL_OTHER)
    meet(pbx, apart, dialled(pbx, apart, "PJSIP/103"))
    assert recorded(pbx, apart)


def test_a_call_that_was_left_before_he_came_is_not_bound(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.play(pbx.world.leave(second))
    meet(pbx, second, dialled(pbx, second, "PJSIP/102"))
    third = incoming(pbx, number=NL_OTHER)
    joins(pbx, third, second)
    pbx.feed(Objected(third))
    refused(pbx, second, R.OBJECTED)
    assert recorded(pbx, caller)


def test_what_holds_is_known_after_a_restart(pbx: Trial) -> None:
    caller, _, second = conference(pbx)
    pbx.feed(Objected(second))
    pbx.play(pbx.world.hang_up(second))
    pbx.restart()
    for channel in pbx.world.lines:
        pbx.feed(Unheld(channel))
    refused(pbx, caller, R.OBJECTED)


def sealed(purposes: tuple[PurposeName, ...], act: Callable[[Loop, Uniqueid], None]) -> SealRecording:
    """What becomes of the customer's recording when the second party does this, and leaves; the customer stays."""
    loop = Loop().awake()
    caller, facts = loop.world.incoming(purposes, told=Mode.OPT_OUT)
    loop.feed(*facts)
    leg, facts = loop.world.dial(caller, "PJSIP/101")
    commands = loop.feed(*facts, *loop.world.meet(caller, leg))
    second, facts = loop.world.incoming(purposes, number=NL_OTHER, told=Mode.OPT_OUT)
    commands += loop.feed(*facts, *loop.world.enter(loop.world.bridge_of(caller), second))
    act(loop, second)
    commands += loop.feed(*loop.world.hang_up(second))
    commands += loop.feed(*loop.world.hang_up(caller))
    starts = [c for c in commands if isinstance(c, StartRecording) and c.permit.call == caller]
    assert starts
    return only(loop.feed(*(SegmentClosed(start.segment) for start in starts)), SealRecording)


def objects(loop: Loop, second: Uniqueid) -> None:
    loop.feed(Objected(second))


def test_of_the_whole_calls_recording_proof_is_locked_and_training_destroyed() -> None:
    proof, training = sealed((PROOF,), objects), sealed((TRAINING,), objects)
    assert (proof.objected, proof.lock, proof.destroy) == ((PROOF,), True, False)
    assert (training.objected, training.lock, training.destroy) == ((TRAINING,), False, True)
    kept = sealed((TRAINING,), lambda loop, second: None)
    assert (kept.objected, kept.lock, kept.destroy) == ((), False, False)


def test_it_is_no_objection_of_the_customers_own() -> None:
    memory = Memory()
    memory.note(ObjectionBinds(Uniqueid("1.1"), Uniqueid("1.2"), (PROOF,)))
    notes = memory.of(Uniqueid("1.1"))
    assert (notes.objected, notes.objected_to_all) == (set(), False)
    assert (notes.objects_to(PROOF), notes.objects_to(TRAINING)) == (True, False)
    memory.note(ObjectionBinds(Uniqueid("1.1"), Uniqueid("1.2")))
    memory.note(ObjectionBinds(Uniqueid("1.1"), Uniqueid("1.2"), (PROOF,)))
    assert memory.of(Uniqueid("1.1")).objects_to(TRAINING), "to all stays to all"


def test_a_consent_of_one_does_not_undo_it(pbx: Trial) -> None:
    caller = incoming(pbx)
    meet(pbx, caller, dialled(pbx, caller, "PJSIP/101"))
    second = incoming(pbx, number=NL_OTHER)
    joins(pbx, second, caller)
    for one in (caller, second):
        pbx.feed(pbx.world.hears(one, (CONSENTING,), Mode.OPT_IN), Consented(one, (CONSENTING,)))
    assert CONSENTING in purposes_of(pbx, caller)
    pbx.feed(Objected(second))
    pbx.play(pbx.world.hang_up(second))
    pbx.feed(Consented(caller, (CONSENTING,)))
    refused(pbx, caller, R.OBJECTED)
