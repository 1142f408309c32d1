"""A conversation is put together from picture and memory: who, which direction, asked for what."""

from __future__ import annotations

from pbxguard.core.conversation import Conversation, converse, mode_of
from pbxguard.core.facts import ChannelState, DisclosureRequested, Held
from pbxguard.core.ids import Uniqueid
from pbxguard.core.parties import PartyKind
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Direction
from tests.property.scenarios import inbound, outbound
from tests.property.trial import Trial
from tests.property.world import DE_NUMBER, DID_SCOPE, PROOF, SALES


def conversation(trial: Trial, channel: Uniqueid) -> Conversation:
    supervisor = trial.supervisor
    return converse(supervisor.board.component(channel), supervisor.board, supervisor.memory, supervisor.policy)


def test_machines_are_nobody_and_all_others_are_in_the_order_in_which_they_joined() -> None:
    trial = Trial()
    caller, leg = inbound(trial)
    announcer, created = trial.world.create("CBAnn/1", ChannelState.UP)
    trial.play([created, *trial.world.enter(trial.world.bridge_of(caller), announcer)])
    assert [t.channel for t in conversation(trial, caller).talkers] == [caller, leg]


def test_the_number_of_whom_we_called_is_the_one_dialled() -> None:
    trial = Trial()
    callee, _ = outbound(trial, number=DE_NUMBER)
    (external,) = conversation(trial, callee).external
    assert (external.number.e164, external.jurisdiction) == (DE_NUMBER, "DE")
    assert external.direction is Direction.OUTBOUND


def test_what_an_agent_asked_for_whom_he_dials_is_not_asked_of_himself() -> None:
    trial = Trial()
    callee, leg = outbound(trial, (SALES,), told=None)
    talkers = {t.channel: t for t in conversation(trial, callee).talkers}
    assert talkers[callee].asked == (SALES,)
    assert talkers[leg].asked == ()


def test_what_was_asked_for_a_callee_stays_asked_when_its_dialler_has_gone() -> None:
    trial = Trial()
    callee, leg = outbound(trial, told=None)
    trial.play(trial.world.hang_up(leg))
    assert conversation(trial, callee).asked == (PROOF,)


def test_what_was_asked_at_one_door_is_asked_of_the_whole_conversation() -> None:
    trial = Trial()
    caller, _ = inbound(trial)
    other, facts = trial.world.incoming((), told=None)
    trial.play([*facts, DisclosureRequested(other, (SALES,), "nl", reference="K 7")])
    trial.play(trial.world.enter(trial.world.bridge_of(caller), other))
    seen = conversation(trial, caller)
    assert seen.asked == (PROOF, SALES)
    assert (seen.language, seen.reference) == ("nl", "K 7")


def test_who_is_observed_makes_the_whole_conversation_observed() -> None:
    trial = Trial()
    caller, _ = inbound(trial)
    assert conversation(trial, caller).mode is GuardMode.GUARD
    other, facts = trial.world.incoming(exten=DID_SCOPE)
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    assert conversation(trial, caller).mode is GuardMode.OBSERVE


def test_a_second_call_counts_for_its_own_phone_only_and_not_while_it_is_held() -> None:
    trial = Trial()
    caller, leg = inbound(trial)
    second, created = trial.world.create("PJSIP/101", ChannelState.UP)
    trial.feed(created)
    by_kind = {t.kind: t.second_call for t in conversation(trial, caller).talkers}
    assert by_kind == {PartyKind.OWN: True, PartyKind.EXTERNAL: False}
    trial.feed(Held(second))
    assert not any(t.second_call for t in conversation(trial, caller).talkers)
    trial.play(trial.world.meet(second))
    assert any(t.second_call for t in conversation(trial, leg).talkers), "a hold belongs to a channel in a bridge"


def test_the_mode_for_whom_we_dialled_is_that_of_where_the_agents_call_arrived() -> None:
    trial = Trial()
    callee, leg = outbound(trial, number="+31" + DID_SCOPE[1:])
    supervisor = trial.supervisor
    assert supervisor.board.channels[leg].exten == DID_SCOPE
    assert mode_of(supervisor.board.channels[callee], supervisor.policy) is GuardMode.OBSERVE
    trial.play(trial.world.hang_up(leg))
    assert mode_of(supervisor.board.channels[callee], supervisor.policy) is GuardMode.OBSERVE
    other, _ = outbound(trial)
    assert mode_of(supervisor.board.channels[other], supervisor.policy) is GuardMode.GUARD
