"""LAW.md 2, row by row: each situation with its whole set of reasons, and a twin, one thing changed, that is recorded.

Rows that are not built yet are refused. The situations are played on the PBX of the property tests; the oracle there
judges each step as well.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pbxguard.core.commands import StopRecording
from pbxguard.core.facts import (
    AuditHealthy,
    ChannelNumberChanged,
    ChannelState,
    ConnectionLost,
    Consented,
    DisclosureRequested,
    Held,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    SpoolHasRoom,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
    Unheld,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.permit import Permit, Refusal
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason, ordered
from tests.property.scenarios import inbound, outbound, queue_with_local
from tests.property.trial import Trial
from tests.property.world import (
    CONSENTING,
    DE_NUMBER,
    DID_SCOPE,
    FORBIDDEN,
    MIFID,
    NL_NUMBER,
    NL_OTHER,
    PROOF,
    TRAINING,
)

R = Reason


@pytest.fixture
def pbx() -> Trial:
    return Trial()


def recorded(trial: Trial, channel: Uniqueid) -> bool:
    """A recorder runs in the conversation of this channel, and `decide` would permit one."""
    channels = trial.supervisor.board.component(channel).channels
    running = any(start.leg in channels for start in trial.wanted.values())
    assert running is isinstance(trial.decision(channel), Permit)
    return running


def refused(trial: Trial, channel: Uniqueid, *reasons: Reason) -> None:
    """No recorder runs there, and these are all the reasons, the first of them told first."""
    decision = trial.decision(channel)
    assert isinstance(decision, Refusal)
    assert set(decision.reasons) == set(reasons)
    assert decision.reasons == ordered(set(reasons))
    assert not recorded(trial, channel)


def stop(trial: Trial) -> StopRecording:
    """The last recorder that was stopped."""
    return list(trial.stopped.values())[-1]


def incoming(trial: Trial, told: Mode | None = Mode.NOTICE, number: str = NL_NUMBER) -> Uniqueid:
    caller, facts = trial.world.incoming(told=told, number=number)
    trial.play(facts)
    return caller


def dialled(trial: Trial, caller: Uniqueid | None, name: str, number: str = "", told: bool = False) -> Uniqueid:
    callee, facts = trial.world.dial(caller, name, number)
    trial.play(facts)
    if told:
        trial.feed(trial.world.hears(callee, (PROOF,), Mode.NOTICE))
    return callee


def joins(trial: Trial, channel: Uniqueid, with_: Uniqueid) -> None:
    trial.play(trial.world.enter(trial.world.bridge_of(with_), channel))


def meet(trial: Trial, *channels: Uniqueid, technology: str = "simple_bridge", type: str = "basic") -> None:
    trial.play(trial.world.meet(*channels, technology=technology, type=type))


def again(trial: Trial, channels: Iterable[Uniqueid]) -> None:
    """The connection is back: a beat, then the picture."""
    trial.beat()
    trial.feed(trial.world.snapshot())


# -- who takes part ----------------------------------------------------------------------------------------------------


def test_agent_and_customer_are_recorded_after_the_notice(pbx: Trial) -> None:
    caller, _ = inbound(pbx, told=None)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.feed(pbx.world.hears(caller, (PROOF,), Mode.NOTICE))
    assert recorded(pbx, caller)


def test_a_customer_whom_we_called_is_recorded_after_the_notice(pbx: Trial) -> None:
    callee, _ = outbound(pbx, told=None)
    refused(pbx, callee, R.NOT_TOLD)
    pbx.feed(pbx.world.hears(callee, (PROOF,), Mode.NOTICE))
    assert recorded(pbx, callee)


def test_agent_and_agent_are_not_recorded(pbx: Trial) -> None:
    one, created = pbx.world.create("PJSIP/101", ChannelState.RING, "101", "102")
    pbx.play([created, DisclosureRequested(one, (PROOF,), "nl", for_callee=True), *pbx.world.up(one)])
    two = dialled(pbx, one, "PJSIP/102")
    meet(pbx, one, two)
    refused(pbx, one, R.NO_EXTERNAL_PARTY)
    customer = dialled(pbx, one, "PJSIP/trunk-a", NL_NUMBER, told=True)
    joins(pbx, customer, one)
    assert recorded(pbx, one)


def test_two_outside_parties_over_our_trunk_are_not_recorded_even_when_both_were_told(pbx: Trial) -> None:
    caller = incoming(pbx)
    other = dialled(pbx, caller, "PJSIP/trunk-b", NL_OTHER, told=True)
    meet(pbx, caller, other)
    refused(pbx, caller, R.NO_OWN_PARTY)
    joins(pbx, dialled(pbx, caller, "PJSIP/101"), caller)
    assert recorded(pbx, caller)


@pytest.mark.parametrize("shown", ["101", "+31201234101", "PJSIP/101-0001"])
def test_an_outside_caller_who_shows_a_number_of_ours_and_is_forwarded_outside_is_refused(
    pbx: Trial, shown: str
) -> None:
    caller = incoming(pbx, number=shown)
    other = dialled(pbx, caller, "PJSIP/trunk-b", NL_OTHER, told=True)
    meet(pbx, caller, other)
    refused(pbx, caller, R.NO_OWN_PARTY)
    twin, _ = inbound(pbx, number=shown)
    assert recorded(pbx, twin)


def test_recording_stops_the_moment_the_agent_leaves_by_a_blind_transfer(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    assert recorded(pbx, caller)
    pbx.play(pbx.world.leave(leg))
    assert stop(pbx).reasons == (R.OWN_LEFT,)
    pbx.play(pbx.world.hang_up(leg))
    third = dialled(pbx, caller, "PJSIP/trunk-b", NL_OTHER)
    meet(pbx, caller, third)
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_TOLD)


def test_a_transfer_to_another_agent_goes_on_as_one_recording_with_a_new_segment(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    first = next(iter(pbx.wanted.values()))
    pbx.play(pbx.world.hang_up(leg))
    other = dialled(pbx, caller, "PJSIP/102")
    joins(pbx, other, caller)
    second = next(iter(pbx.wanted.values()))
    assert recorded(pbx, caller)
    assert second.recording == first.recording
    assert second.segment != first.segment
    assert second.leg == other


def test_the_instant_of_an_attended_transfer_when_both_bridges_stand_unheld_has_no_permit(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(Held(leg))
    refused(pbx, caller, R.ON_HOLD)
    second, created = pbx.world.create("PJSIP/101", ChannelState.RING, "101", "0201112222")
    pbx.play([created, *pbx.world.up(second)])
    third = dialled(pbx, second, "PJSIP/trunk-b", NL_OTHER, told=True)
    meet(pbx, second, third)
    assert recorded(pbx, third)
    pbx.feed(Unheld(leg))
    refused(pbx, caller, R.SECOND_CALL)
    refused(pbx, third, R.SECOND_CALL)


def test_consulting_an_untold_outsider_is_closed_and_stays_closed_when_he_joins(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(Held(leg))
    second, created = pbx.world.create("PJSIP/101", ChannelState.RING, "101", "0201112222")
    pbx.play([created, *pbx.world.up(second)])
    third = dialled(pbx, second, "PJSIP/trunk-b", NL_OTHER)
    meet(pbx, second, third)
    refused(pbx, third, R.NO_PURPOSE)
    pbx.play(pbx.world.hang_up(second))
    pbx.feed(Unheld(leg))
    assert recorded(pbx, caller)
    joins(pbx, third, caller)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.play(pbx.world.hang_up(third))
    assert recorded(pbx, caller)


def test_an_untold_joiner_closes_a_conference_and_a_told_one_does_not(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    untold = incoming(pbx, told=None, number=NL_OTHER)
    joins(pbx, untold, caller)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.play(pbx.world.hang_up(untold))
    joins(pbx, incoming(pbx, number=NL_OTHER), caller)
    assert recorded(pbx, caller)


def test_a_conference_with_its_announcer_needs_an_own_talker(pbx: Trial) -> None:
    one, two = incoming(pbx), incoming(pbx, number=NL_OTHER)
    meet(pbx, one, two, technology="softmix", type="base")
    announcer, created = pbx.world.create("CBAnn/sales", ChannelState.UP)
    pbx.feed(created)
    joins(pbx, announcer, one)
    refused(pbx, one, R.NO_OWN_PARTY)
    joins(pbx, dialled(pbx, None, "PJSIP/101"), one)
    assert recorded(pbx, one)


def test_of_two_externals_the_first_call_has_the_recording_and_a_newcomer_a_new_segment(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    first = next(iter(pbx.wanted.values()))
    other = incoming(pbx, number=NL_OTHER)
    joins(pbx, other, caller)
    second = next(iter(pbx.wanted.values()))
    assert second.recording == first.recording
    assert second.segment != first.segment
    assert {told.channel for told in second.permit.told} == {caller, other}
    outcome = pbx.reported[caller].outcome
    assert outcome.others == (other,)
    assert outcome.other_numbers == (NL_OTHER,)


def test_a_three_way_call_made_by_the_phone_itself_closes_both(pbx: Trial) -> None:
    one, leg = inbound(pbx)
    two, _ = inbound(pbx, number=NL_OTHER)
    refused(pbx, one, R.SECOND_CALL)
    refused(pbx, two, R.SECOND_CALL)
    pbx.feed(Held(leg))
    refused(pbx, one, R.ON_HOLD, R.SECOND_CALL)
    assert recorded(pbx, two)


def test_a_second_call_ringing_on_the_own_phone_disturbs_nothing(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    other = incoming(pbx, number=NL_OTHER)
    second, facts = pbx.world.dial(other, "PJSIP/101", answered=False)
    pbx.play(facts)
    assert recorded(pbx, caller)
    pbx.play(pbx.world.up(second))
    refused(pbx, caller, R.SECOND_CALL)


def test_a_second_call_that_the_own_phone_dials_closes_the_first(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    second, created = pbx.world.create("PJSIP/101", ChannelState.RING, "101", "0201112222")
    pbx.feed(created)
    refused(pbx, caller, R.SECOND_CALL)
    pbx.play(pbx.world.hang_up(second))
    assert recorded(pbx, caller)
    assert leg in pbx.supervisor.running


def test_a_spy_closes_the_recording_while_he_listens(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    spy, facts = pbx.world.spy(leg)
    pbx.play(facts)
    refused(pbx, caller, R.SPIED_ON)
    pbx.feed(SpyStopped(spy, leg))
    assert recorded(pbx, caller)


def test_a_spy_configured_to_listen_only_closes_nothing() -> None:
    pbx = Trial(listen_only=True)
    caller, leg = inbound(pbx)
    _, facts = pbx.world.spy(leg)
    pbx.play(facts)
    assert recorded(pbx, caller)


def test_a_spy_who_hangs_up_without_a_word_is_gone(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    spy, facts = pbx.world.spy(leg)
    pbx.play([*facts, *pbx.world.hang_up(spy)])
    assert recorded(pbx, caller)


def test_a_private_extension_is_never_recorded(pbx: Trial) -> None:
    caller, _ = inbound(pbx, agent="PJSIP/701")
    refused(pbx, caller, R.NO_OWN_PARTY, R.PRIVATE_PARTY)
    twin, _ = inbound(pbx, agent="PJSIP/101")
    assert recorded(pbx, twin)
    joins(pbx, dialled(pbx, None, "PJSIP/702"), twin)
    refused(pbx, twin, R.PRIVATE_PARTY)


def test_a_call_marked_private_stays_private_when_it_goes_to_another_agent(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(MarkedPrivate(leg))
    refused(pbx, caller, R.MARKED_PRIVATE)
    joins(pbx, dialled(pbx, caller, "PJSIP/102"), caller)
    pbx.play(pbx.world.hang_up(leg))
    refused(pbx, caller, R.MARKED_PRIVATE)


def test_in_the_queue_and_in_a_holding_bridge_nothing_is_recorded(pbx: Trial) -> None:
    caller = incoming(pbx)
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_BRIDGED)
    meet(pbx, caller, technology="holding_bridge")
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_BRIDGED)


@pytest.mark.parametrize(
    ("type", "technology"), [("parking", "holding_bridge"), ("parking", ""), ("", "holding_bridge")]
)
def test_who_is_parked_is_not_recorded_and_once_retrieved_is(pbx: Trial, type: str, technology: str) -> None:
    caller, leg = inbound(pbx)
    meet(pbx, caller, leg, technology=technology, type=type)
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_BRIDGED)
    meet(pbx, caller, leg)
    assert recorded(pbx, caller)


def test_half_a_local_channel_with_nobody_known_behind_is_refused(pbx: Trial) -> None:
    caller = incoming(pbx)
    one, _, facts = pbx.world.local(caller)
    pbx.play(facts)
    leg = dialled(pbx, None, "PJSIP/101")
    meet(pbx, caller, leg)
    joins(pbx, one, caller)
    refused(pbx, caller, R.UNKNOWN_PARTY)
    pbx.play(pbx.world.leave(one))
    assert recorded(pbx, caller)


def test_an_untold_outsider_behind_a_local_pair_is_not_taken_for_told(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    one, two, facts = pbx.world.local(leg)
    pbx.play(facts)
    outsider = dialled(pbx, two, "PJSIP/trunk-b", NL_OTHER)
    pbx.feed(pbx.world.hears(one, (PROOF,), Mode.NOTICE), pbx.world.hears(two, (PROOF,), Mode.NOTICE))
    meet(pbx, two, outsider)
    joins(pbx, one, caller)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.feed(pbx.world.hears(outsider, (PROOF,), Mode.NOTICE))
    assert recorded(pbx, caller)


def test_who_is_behind_an_unknown_channel_is_refused(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    other = dialled(pbx, None, "DAHDI/1")
    joins(pbx, other, caller)
    refused(pbx, caller, R.UNKNOWN_PARTY)
    pbx.play(pbx.world.hang_up(other))
    assert recorded(pbx, caller)


def test_a_tenant_with_a_mandate_is_refused_for_now(pbx: Trial) -> None:
    caller, _ = inbound(pbx, agent="PJSIP/tenant-x")
    refused(pbx, caller, R.NO_OWN_PARTY, R.UNKNOWN_PARTY)
    twin, _ = inbound(pbx)
    assert recorded(pbx, twin)


def test_an_agents_mobile_is_an_untold_outsider_for_now(pbx: Trial) -> None:
    caller = incoming(pbx)
    mobile = dialled(pbx, caller, "PJSIP/trunk-b", NL_OTHER)
    meet(pbx, caller, mobile)
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_TOLD)
    twin, _ = inbound(pbx)
    assert recorded(pbx, twin)


def test_who_speaks_to_a_voicemail_is_refused_for_now(pbx: Trial) -> None:
    """The tenant's own mailbox is no party: Asterisk plays and keeps it in no bridge at all."""
    caller = incoming(pbx)
    _, facts = pbx.world.dial(caller, "PJSIP/101", answered=False)  # who did not answer
    pbx.play(facts)
    refused(pbx, caller, R.NO_OWN_PARTY, R.NOT_BRIDGED)
    twin, _ = inbound(pbx, agent="PJSIP/102")
    assert recorded(pbx, twin)


def test_early_media_before_either_side_answered_is_not_recorded(pbx: Trial) -> None:
    caller = incoming(pbx)
    leg, facts = pbx.world.dial(caller, "PJSIP/101", answered=False)
    pbx.play(facts)
    meet(pbx, caller, leg)
    refused(pbx, caller, R.OWN_NOT_ANSWERED)
    pbx.play(pbx.world.up(leg))
    assert recorded(pbx, caller)
    late, facts = pbx.world.dial(leg, "PJSIP/trunk-b", NL_OTHER, answered=False)
    pbx.play([*facts, pbx.world.hears(late, (PROOF,), Mode.NOTICE)])
    joins(pbx, late, caller)
    refused(pbx, caller, R.EXTERNAL_NOT_ANSWERED)
    pbx.play(pbx.world.up(late))
    assert recorded(pbx, caller)


# -- a change half done ------------------------------------------------------------------------------------------------


def test_between_begin_and_end_of_an_optimisation_the_decision_stands(pbx: Trial) -> None:
    caller, _ = queue_with_local(pbx)
    assert recorded(pbx, caller)
    assert len(pbx.segments) == 1, "not a sample was lost to the optimisation"


def test_in_a_half_done_change_nothing_starts_and_after_100_ms_what_runs_is_cut_from_before_it(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(LocalOptimizationBegun(caller, leg))
    begun = pbx.oracle.beat
    pbx.wait(0.09)
    assert pbx.wanted
    pbx.wait(0.02)
    refused(pbx, caller, R.CHANGE_HALF_DONE)
    assert stop(pbx).proven <= begun
    pbx.feed(LocalOptimizationEnded(caller, leg))
    assert recorded(pbx, caller)


def test_a_change_said_to_begin_again_gets_no_more_time(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(LocalOptimizationBegun(caller, leg))
    pbx.wait(0.06)
    pbx.feed(LocalOptimizationBegun(leg, caller))
    pbx.wait(0.06)
    refused(pbx, caller, R.CHANGE_HALF_DONE)


def test_what_happened_within_a_half_done_change_is_cut_from_before_it(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(LocalOptimizationBegun(caller, leg))
    begun = pbx.oracle.beat
    pbx.feed(Objected(caller))
    pbx.wait(0.05)
    pbx.feed(LocalOptimizationEnded(caller, leg))
    refused(pbx, caller, R.OBJECTED)
    assert stop(pbx).proven <= begun < pbx.oracle.beat


def test_what_happened_in_a_change_that_a_hang_up_ends_is_decided_then(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    _, two, facts = pbx.world.local(leg)
    pbx.play(facts)
    pbx.feed(LocalOptimizationBegun(caller, two), Objected(caller))
    assert pbx.wanted, "the last decision stands"
    pbx.play(pbx.world.hang_up(two))
    refused(pbx, caller, R.OBJECTED)


def test_a_change_that_ends_by_the_hang_up_of_its_half_is_over(pbx: Trial) -> None:
    caller, _ = queue_with_local(pbx, ends=False)
    halves = [c for c, line in pbx.world.lines.items() if line.name.startswith("Local/")]
    for half in halves:
        pbx.play(pbx.world.hang_up(half))
    assert recorded(pbx, caller)


# -- hold, objection, consent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [0, 1])
def test_on_hold_nothing_is_recorded(pbx: Trial, who: int) -> None:
    pair = inbound(pbx)
    pbx.feed(Held(pair[who]))
    refused(pbx, pair[0], R.ON_HOLD)
    pbx.feed(Unheld(pair[who]))
    assert recorded(pbx, pair[0])


def test_a_lost_unhold_keeps_the_conversation_closed_until_it_is_said(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(Held(leg))
    pbx.wait(1)
    again(pbx, (caller, leg))
    refused(pbx, caller, R.ON_HOLD)
    pbx.feed(Unheld(leg))
    assert recorded(pbx, caller)


def test_an_objection_stops_the_recording_for_good_and_locks_the_proof(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(Objected(caller))
    refused(pbx, caller, R.OBJECTED)
    assert (stop(pbx).lock, stop(pbx).destroy) == (True, False)
    pbx.play(pbx.world.hang_up(leg))
    joins(pbx, dialled(pbx, caller, "PJSIP/102"), caller)
    refused(pbx, caller, R.OBJECTED)


def test_an_objection_that_one_of_us_states_on_his_own_phone_counts(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(Objected(leg, (TRAINING,)))
    assert recorded(pbx, caller)
    pbx.feed(Objected(leg, (PROOF,)))
    refused(pbx, caller, R.OBJECTED)


def test_an_objection_to_training_destroys_what_was_captured(pbx: Trial) -> None:
    caller, _ = inbound(pbx, (TRAINING,), told=Mode.OPT_OUT)
    assert recorded(pbx, caller)
    pbx.feed(Objected(caller))
    refused(pbx, caller, R.OBJECTED)
    assert (stop(pbx).lock, stop(pbx).destroy) == (False, True)


def test_of_two_purposes_one_objected_to_goes_and_the_other_stays(pbx: Trial) -> None:
    caller, _ = inbound(pbx, (PROOF, TRAINING), told=Mode.OPT_OUT)
    assert next(iter(pbx.wanted.values())).permit.purposes == (PROOF, TRAINING)
    pbx.feed(Objected(caller, (TRAINING,)))
    assert recorded(pbx, caller)
    assert next(iter(pbx.wanted.values())).permit.purposes == (PROOF,)
    assert stop(pbx).reasons == (R.PERMIT_CHANGED,)


def test_an_objection_does_not_stop_what_the_law_demands(pbx: Trial) -> None:
    caller, _ = inbound(pbx, (MIFID,))
    pbx.feed(Objected(caller))
    assert recorded(pbx, caller)


def test_a_german_number_is_not_told_by_a_notice_and_must_consent(pbx: Trial) -> None:
    caller, _ = inbound(pbx, number=DE_NUMBER)
    refused(pbx, caller, R.NOT_TOLD, R.CONSENT_MISSING)
    pbx.feed(pbx.world.hears(caller, (PROOF,), Mode.OPT_IN))
    refused(pbx, caller, R.CONSENT_MISSING)
    pbx.feed(Consented(caller, (PROOF,)))
    assert recorded(pbx, caller)


def test_whoever_was_asked_by_opt_in_must_consent(pbx: Trial) -> None:
    caller, _ = inbound(pbx, told=Mode.OPT_IN)
    refused(pbx, caller, R.CONSENT_MISSING)
    pbx.feed(Consented(caller, (PROOF,)))
    assert recorded(pbx, caller)


def test_one_party_whose_law_asks_consent_makes_all_be_asked(pbx: Trial) -> None:
    caller, _ = inbound(pbx, number=DE_NUMBER, told=Mode.OPT_IN)
    pbx.feed(Consented(caller, (PROOF,)))
    joins(pbx, incoming(pbx), caller)
    refused(pbx, caller, R.CONSENT_MISSING)


def test_a_purpose_on_the_basis_of_consent_asks_it_of_everybody(pbx: Trial) -> None:
    caller, _ = inbound(pbx, (CONSENTING,), told=Mode.OPT_OUT)
    refused(pbx, caller, R.NOT_TOLD, R.CONSENT_MISSING)
    pbx.feed(pbx.world.hears(caller, (CONSENTING,), Mode.OPT_IN), Consented(caller, (CONSENTING,)))
    assert recorded(pbx, caller)


@pytest.mark.parametrize("way", ["caller", "callee", "dialled here"])
def test_a_number_never_to_be_recorded_is_not(pbx: Trial, way: str) -> None:
    match way:
        case "caller":
            channel, _ = inbound(pbx, number=FORBIDDEN)
        case "callee":
            channel, _ = outbound(pbx, number=FORBIDDEN)
        case _:
            channel, _ = inbound(pbx, exten="113")
    refused(pbx, channel, R.NEVER_RECORD)
    twin, _ = inbound(pbx, agent="PJSIP/150")
    assert recorded(pbx, twin)


def test_another_number_after_the_disclosure_drops_it_and_the_same_written_otherwise_does_not(pbx: Trial) -> None:
    caller, _ = inbound(pbx, number="0612345678")
    pbx.feed(ChannelNumberChanged(caller, "+31612345678"), ChannelNumberChanged(caller, "0031612345678"))
    pbx.feed(ChannelNumberChanged(caller, ""))
    assert recorded(pbx, caller)
    pbx.feed(ChannelNumberChanged(caller, NL_OTHER))
    refused(pbx, caller, R.NOT_TOLD)
    pbx.feed(ChannelNumberChanged(caller, "0612345678"))
    refused(pbx, caller, R.NOT_TOLD)


def test_a_german_number_withheld_later_stays_german(pbx: Trial) -> None:
    caller, _ = inbound(pbx, number=DE_NUMBER)
    pbx.feed(ChannelNumberChanged(caller, ""))
    refused(pbx, caller, R.NOT_TOLD, R.CONSENT_MISSING)


# -- sight and health --------------------------------------------------------------------------------------------------


def test_on_a_late_beat_nothing_starts_and_what_runs_goes_on_until_two_seconds(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    pbx.wait(0.3, beats=False)
    assert recorded(pbx, caller)
    other, _ = inbound(pbx, agent="PJSIP/102")
    refused(pbx, other, R.BEAT_LATE)
    proven = pbx.oracle.beat
    pbx.wait(1.8, beats=False)
    refused(pbx, caller, R.BEAT_LATE)
    assert stop(pbx).proven == proven
    pbx.beat()
    assert recorded(pbx, caller)
    assert recorded(pbx, other)


def test_after_a_short_loss_of_the_connection_hold_is_trusted(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(ConnectionLost())
    refused(pbx, caller, R.NOT_CONNECTED)
    pbx.wait(9, beats=False)
    again(pbx, (caller, leg))
    assert recorded(pbx, caller)


def test_after_a_long_loss_of_the_connection_hold_is_unknown_until_it_changes(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.wait(6, beats=False)  # the line was dead before we noticed
    pbx.feed(ConnectionLost())
    pbx.wait(6, beats=False)
    again(pbx, (caller, leg))
    refused(pbx, caller, R.HOLD_UNKNOWN)
    pbx.feed(Unheld(leg))
    refused(pbx, caller, R.HOLD_UNKNOWN)
    pbx.feed(Unheld(caller))
    assert recorded(pbx, caller)


def test_a_snapshot_without_a_loss_puts_no_hold_in_doubt(pbx: Trial) -> None:
    caller, leg = inbound(pbx)
    pbx.feed(ConnectionLost())
    again(pbx, (caller, leg))
    pbx.wait(20)
    pbx.feed(pbx.world.snapshot())
    assert recorded(pbx, caller)
    assert len(pbx.segments) == 2


def test_without_a_healthy_audit_log_or_room_or_switched_off_nothing_is_recorded(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    pbx.feed(AuditHealthy(False))
    refused(pbx, caller, R.AUDIT_UNHEALTHY)
    pbx.feed(AuditHealthy(True))
    assert recorded(pbx, caller)
    pbx.feed(SpoolHasRoom(False))
    refused(pbx, caller, R.SPOOL_FULL)
    pbx.feed(SpoolHasRoom(True))
    assert recorded(pbx, caller)
    pbx.feed(SwitchedOff())
    refused(pbx, caller, R.SWITCHED_OFF)
    pbx.feed(SwitchedOn())
    assert recorded(pbx, caller)


def test_a_failed_start_is_tried_again_after_two_seconds(pbx: Trial) -> None:
    caller, _ = inbound(pbx)
    pbx.fail_start(next(iter(pbx.wanted)))
    refused(pbx, caller, R.START_FAILED)
    pbx.wait(1.9)
    refused(pbx, caller, R.START_FAILED)
    pbx.wait(0.2)
    assert recorded(pbx, caller)


def test_where_it_only_observes_nothing_starts_and_it_says_what_it_would_have_done() -> None:
    pbx = Trial(observe=True)
    caller, leg = inbound(pbx, told=None)
    refused(pbx, caller, R.OBSERVE_MODE, R.NOT_TOLD)
    assert pbx.reported[caller].outcome.would_record
    pbx.play(pbx.world.hang_up(leg))
    pbx.play(pbx.world.hang_up(caller))
    assert pbx.reported[caller].outcome.would_record, "also when the call is over"
    forbidden, _ = inbound(pbx, number=FORBIDDEN, told=None)
    assert not pbx.reported[forbidden].outcome.would_record


def test_a_number_that_is_only_observed_is_not_recorded_where_others_are(pbx: Trial) -> None:
    caller, _ = inbound(pbx, exten=DID_SCOPE)
    refused(pbx, caller, R.OBSERVE_MODE)
    twin, _ = inbound(pbx, agent="PJSIP/102")
    assert recorded(pbx, twin)
    joins(pbx, caller, twin)
    refused(pbx, twin, R.OBSERVE_MODE)


def test_why_a_call_was_not_recorded_is_still_told_when_everybody_has_gone(pbx: Trial) -> None:
    caller, leg = inbound(pbx, told=None)
    pbx.play([*pbx.world.hang_up(leg), *pbx.world.hang_up(caller)])
    report = pbx.reported[caller]
    assert report.ended
    assert report.outcome.reasons == (R.NOT_TOLD,)
