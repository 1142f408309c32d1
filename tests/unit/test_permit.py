"""What a permit says, and that nobody else can say it. When it is given is in test_law_table."""

from __future__ import annotations

import dataclasses

import pytest

from pbxguard.core import permit as module
from pbxguard.core.commands import StartRecording
from pbxguard.core.conversation import Conversation, converse
from pbxguard.core.errors import ImpossibleCommand
from pbxguard.core.facts import Consented, Objected
from pbxguard.core.ids import Uniqueid
from pbxguard.core.permit import Permit, Refusal, Sight, decide, would_record
from pbxguard.core.purposes import Direction, Mode
from pbxguard.core.reasons import WORDS, Reason
from tests.property.scenarios import inbound, outbound
from tests.property.trial import Trial
from tests.property.world import DE_NUMBER, NL_OTHER, PROOF, STRANGE, TRAINING, disclosure_key


def permit_of(trial: Trial) -> Permit:
    return next(start.permit for start in trial.wanted.values())


def test_a_permit_cannot_be_built_copied_or_changed_outside_decide() -> None:
    trial = Trial()
    inbound(trial)
    permit = permit_of(trial)
    with pytest.raises(ImpossibleCommand):
        Permit(permit.call, permit.purposes, permit.direction, permit.leg, permit.told)
    with pytest.raises(ImpossibleCommand):
        dataclasses.replace(permit, purposes=(TRAINING,), _seal=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        permit.purposes = (TRAINING,)  # type: ignore[misc]


def conversation_of(trial: Trial, channel: Uniqueid) -> Conversation:
    board = trial.supervisor.board
    return converse(board.component(channel), board, trial.supervisor.memory, trial.policy)


WELL = Sight(connected=True, lag=0.0, audit_healthy=True, spool_has_room=True)


def test_nothing_that_a_decision_is_made_of_can_be_changed_afterwards() -> None:
    made = [thing for thing in vars(module).values() if isinstance(thing, type) and dataclasses.is_dataclass(thing)]
    assert len(made) > 5
    for thing in made:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing.__new__(thing), dataclasses.fields(thing)[0].name, None)


def test_what_we_are_not_told_of_our_own_sight_and_health_is_taken_as_bad() -> None:
    trial = Trial()
    caller, _ = inbound(trial)
    talk = conversation_of(trial, caller)
    blind = decide(talk, Sight(), trial.policy)
    assert isinstance(blind, Refusal)
    assert set(blind.reasons) == {
        Reason.NOT_CONNECTED,
        Reason.BEAT_LATE,
        Reason.AUDIT_UNHEALTHY,
        Reason.SPOOL_FULL,
    }
    assert isinstance(decide(talk, WELL, trial.policy), Permit)


@pytest.mark.parametrize(("running", "most"), [(False, 0.25), (True, 2.0)])
def test_a_beat_is_late_when_it_is_older_than_its_limit_and_not_before(running: bool, most: float) -> None:
    trial = Trial()
    caller, _ = inbound(trial)
    talk = conversation_of(trial, caller)
    at_the_limit = dataclasses.replace(WELL, lag=most, running=running)
    assert isinstance(decide(talk, at_the_limit, trial.policy), Permit)
    later = decide(talk, dataclasses.replace(at_the_limit, lag=most + 0.001), trial.policy)
    assert later == Refusal((Reason.BEAT_LATE,))
    unsaid = decide(talk, Sight(connected=True, lag=1.0, audit_healthy=True, spool_has_room=True), trial.policy)
    assert unsaid == Refusal((Reason.BEAT_LATE,)), "who does not say that a recorder runs gets the stricter limit"


def test_the_recorder_hangs_on_an_own_leg_that_answered_also_when_another_was_there_before_it() -> None:
    trial = Trial()
    caller, facts = trial.world.incoming()
    trial.play(facts)
    ringing, facts = trial.world.dial(caller, "PJSIP/101", answered=False)
    trial.play([*facts, *trial.world.meet(caller, ringing)])
    answered, facts = trial.world.dial(caller, "PJSIP/102")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), answered)])
    assert [t.channel for t in conversation_of(trial, caller).own] == [ringing, answered]
    assert permit_of(trial).leg == answered


def test_the_recording_is_of_the_call_that_came_first_whoever_joined_first() -> None:
    trial = Trial()
    first, facts = trial.world.incoming()
    trial.play(facts)
    second, _ = inbound(trial, number=NL_OTHER)
    trial.play(trial.world.enter(trial.world.bridge_of(second), first))
    assert [t.channel for t in conversation_of(trial, first).external] == [second, first]
    assert permit_of(trial).call == first


def test_an_objection_to_a_purpose_that_is_not_configured_counts() -> None:
    trial = Trial()
    caller, _ = inbound(trial, (STRANGE,))
    trial.feed(Objected(caller))
    decision = decide(conversation_of(trial, caller), WELL, trial.policy)
    assert isinstance(decision, Refusal)
    assert {Reason.OBJECTED, Reason.PURPOSE_UNKNOWN} <= set(decision.reasons)


def test_of_a_notice_of_two_purposes_the_permit_names_the_one_that_was_consented_to() -> None:
    trial = Trial()
    caller, _ = inbound(trial, (PROOF, TRAINING), told=Mode.OPT_OUT)
    trial.feed(Consented(caller, (TRAINING,)))
    talk = conversation_of(trial, caller)
    permit = decide(talk, WELL, trial.policy)
    assert isinstance(permit, Permit)
    (told,) = permit.told
    assert told.disclosure.purposes == (PROOF, TRAINING)
    assert told.consented == (TRAINING,)


@pytest.mark.parametrize("missing", ["own", "answered", "external", "purpose"])
def test_with_every_row_of_the_law_taken_away_there_is_still_no_permit_without_its_three_parts(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """The last line of `decide`: a fault in the tables makes no permit of a talk without these."""
    trial = Trial()
    caller, _ = inbound(trial)
    talk = conversation_of(trial, caller)
    monkeypatch.setattr(module, "CONVERSATION", {})
    monkeypatch.setattr(module, "PURPOSE", {})
    assert isinstance(decide(talk, WELL, trial.policy), Permit)
    match missing:
        case "own":
            talk = dataclasses.replace(talk, talkers=talk.external)
        case "answered":
            ringing = tuple(dataclasses.replace(t, answered=False) for t in talk.own)
            talk = dataclasses.replace(talk, talkers=(*talk.external, *ringing))
        case "external":
            asked = dataclasses.replace(talk.own[0], asked=(PROOF,))
            talk = dataclasses.replace(talk, talkers=(asked,))
        case _:
            nothing = tuple(dataclasses.replace(t, asked=(), heard=()) for t in talk.talkers)
            talk = dataclasses.replace(talk, talkers=nothing)
    assert decide(talk, WELL, trial.policy) == Refusal((Reason.UNKNOWN_PARTY,))


def test_the_seal_is_in_no_text_of_a_permit() -> None:
    trial = Trial()
    inbound(trial)
    assert "seal" not in repr(permit_of(trial))


def test_a_recording_starts_only_with_a_permit() -> None:
    fields = {field.name: field for field in dataclasses.fields(StartRecording)}
    assert fields["permit"].default is dataclasses.MISSING


def test_a_permit_names_what_each_outsider_heard_and_consented_to() -> None:
    trial = Trial()
    caller, leg = inbound(trial, number=DE_NUMBER, told=Mode.OPT_IN)
    trial.feed(Consented(caller, (PROOF,)))
    permit = permit_of(trial)
    key = disclosure_key((PROOF,), Mode.OPT_IN)
    assert (permit.call, permit.leg, permit.direction) == (caller, leg, Direction.INBOUND)
    (told,) = permit.told
    assert (told.channel, told.disclosure, told.digest) == (caller, key, f"digest of {key}")
    assert (told.consented, told.jurisdiction) == ((PROOF,), "DE")


def test_one_disclosure_of_two_purposes_is_named_once() -> None:
    trial = Trial()
    inbound(trial, (PROOF, TRAINING), told=Mode.OPT_OUT)
    permit = permit_of(trial)
    assert permit.purposes == (PROOF, TRAINING)
    assert len(permit.told) == 1


def test_of_two_own_legs_the_one_that_was_there_first_records() -> None:
    trial = Trial()
    caller, leg = inbound(trial)
    other, facts = trial.world.dial(leg, "PJSIP/102")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    assert permit_of(trial).leg == leg
    trial.play(trial.world.hang_up(leg))
    assert permit_of(trial).leg == other


def test_when_the_first_of_two_calls_ends_the_other_has_a_recording_of_its_own() -> None:
    trial = Trial()
    caller, leg = inbound(trial)
    other, facts = trial.world.incoming(number=NL_OTHER)
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    assert permit_of(trial).call == caller
    trial.play(trial.world.hang_up(caller))
    assert permit_of(trial).call == other
    assert permit_of(trial).leg == leg
    assert len(set(trial.segments.values())) == 2


def test_a_call_that_we_made_is_outbound() -> None:
    trial = Trial()
    outbound(trial)
    assert permit_of(trial).direction is Direction.OUTBOUND


def test_when_we_only_observe_each_due_disclosure_is_taken_as_heard_and_nothing_else() -> None:
    observe = Reason.OBSERVE_MODE
    assert would_record(Refusal((observe,)))
    assert would_record(Refusal((observe, Reason.NOT_TOLD, Reason.CONSENT_MISSING, Reason.GUARD_AWAY)))
    every = {reason for reason, words in WORDS.items() if words.condition == 2}
    assert would_record(Refusal((observe, *every)))
    assert not would_record(Refusal((Reason.NOT_TOLD,)))
    assert not would_record(Refusal((observe, Reason.NO_OWN_PARTY)))
    assert not would_record(Refusal((observe, Reason.OBJECTED, Reason.NOT_TOLD)))


def test_no_row_stands_in_both_tables() -> None:
    assert not set(module.CONVERSATION) & set(module.PURPOSE)
