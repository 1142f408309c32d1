"""What a permit says, and that nobody else can say it. When it is given is in test_law_table."""

from __future__ import annotations

import dataclasses

import pytest

from pbxguard.core import permit as module
from pbxguard.core.commands import StartRecording
from pbxguard.core.errors import ImpossibleCommand
from pbxguard.core.facts import Consented
from pbxguard.core.permit import Permit, Refusal, would_record
from pbxguard.core.purposes import Direction, Mode
from pbxguard.core.reasons import Reason
from tests.property.scenarios import inbound, outbound
from tests.property.trial import Trial
from tests.property.world import DE_NUMBER, NL_OTHER, PROOF, TRAINING, disclosure_key


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
    assert not would_record(Refusal((Reason.NOT_TOLD,)))
    assert not would_record(Refusal((observe, Reason.NO_OWN_PARTY)))
    assert not would_record(Refusal((observe, Reason.OBJECTED, Reason.NOT_TOLD)))


def test_no_row_stands_in_both_tables() -> None:
    assert not set(module.CONVERSATION) & set(module.PURPOSE)
