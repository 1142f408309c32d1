"""Who is told by whisper in the midst of a conversation, when, and what becomes of the recording by it."""

from __future__ import annotations

import pytest

from pbxguard.core.facts import (
    ConnectionLost,
    Consented,
    Held,
    LocalOptimizationBegun,
    Objected,
    PurposeBegun,
    SpyStarted,
    SwitchedOff,
    Unheld,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.joiners import MOST_TRIES
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason
from tests.property.trial import STAY_S, Trial
from tests.property.world import DE_NUMBER, DID_SCOPE, FORBIDDEN, NL_OTHER, PROOF, TRAINING
from tests.unit.test_law_table import R, incoming, joins, meet, recorded, refused

STAYS = STAY_S + 0.1


@pytest.fixture
def pbx() -> Trial:
    return Trial(tell=True)


def talk(pbx: Trial, told: Mode = Mode.NOTICE) -> tuple[Uniqueid, Uniqueid]:
    """A customer who was told, recorded with one of us."""
    caller = incoming(pbx, told)
    agent, facts = pbx.world.dial(caller, "PJSIP/101")
    pbx.play(facts)
    meet(pbx, caller, agent)
    assert recorded(pbx, caller)
    return caller, agent


def joiner(pbx: Trial, with_: Uniqueid, number: str = NL_OTHER, exten: str = "") -> Uniqueid:
    """Somebody from outside, untold, enters their bridge."""
    name, facts = pbx.world.incoming((), number=number, told=None, **({"exten": exten} if exten else {}))
    pbx.play(facts)
    joins(pbx, name, with_)
    return name


def told_of(pbx: Trial, channel: Uniqueid) -> str:
    return str(pbx.whispers[channel].disclosure)


def test_a_joiner_closes_the_recording_and_by_default_it_stays_closed_until_he_is_gone() -> None:
    pbx = Trial()
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.wait(60.0)
    assert not pbx.whispers
    refused(pbx, caller, R.NOT_TOLD)
    pbx.play(pbx.world.hang_up(third))
    assert recorded(pbx, caller)


def test_a_joiner_who_stays_is_told_and_the_recording_goes_on_in_a_new_segment(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAY_S / 2)
    assert not pbx.whispers, "he may be gone again in a moment"
    pbx.wait(STAYS)
    assert told_of(pbx, third) == "contract_evidence.nl.notice.inbound"
    refused(pbx, caller, R.NOT_TOLD)
    before = set(pbx.segments)
    pbx.whispered(third)
    assert recorded(pbx, caller)
    (segment,) = set(pbx.segments) - before
    assert {t.channel for t in pbx.wanted[segment].permit.told} == {caller, third}
    assert set(pbx.segments.values()) == {pbx.segments[segment]}, "one recording, of the call that came first"


def test_two_joiners_are_both_told_and_it_goes_on_when_both_heard_it(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    fourth = joiner(pbx, caller, number="+31687654300")
    pbx.whispered(third)
    refused(pbx, caller, R.NOT_TOLD)
    pbx.wait(STAYS)
    assert set(pbx.whispers) == {fourth}
    pbx.whispered(fourth)
    assert recorded(pbx, caller)


def test_a_joiner_who_hangs_up_in_its_midst_leaves_the_others_recorded(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    pbx.play(pbx.world.hang_up(third))
    assert recorded(pbx, caller)


@pytest.mark.parametrize("disturbed", ["hold", "spy", "leaves", "off", "private"])
def test_whatever_else_forbids_the_recording_breaks_the_whisper_off(pbx: Trial, disturbed: str) -> None:
    caller, agent = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    assert third in pbx.whispers
    match disturbed:
        case "hold":
            pbx.feed(Held(caller))
        case "spy":
            pbx.play(pbx.world.spy(agent)[1])
        case "leaves":
            pbx.play(pbx.world.leave(third))
        case "off":
            pbx.feed(SwitchedOff())
        case "private":
            pbx.play(pbx.world.enter(pbx.world.bridge_of(caller), pbx.world.dial(None, "PJSIP/701")[0]))
    assert third in pbx.broken_off


def test_after_a_hold_he_must_stay_again_before_he_is_told_again(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    pbx.feed(Held(third))
    assert third in pbx.broken_off
    pbx.feed(Unheld(third))
    pbx.wait(STAYS)
    assert third in pbx.broken_off, "the first one has not ended: no second one beside it"
    pbx.whispered(third, heard=False)
    assert not pbx.whispers
    pbx.wait(STAYS)
    pbx.whispered(third)
    assert recorded(pbx, caller)


def test_who_was_told_in_vain_a_few_times_is_left_alone(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    for _ in range(MOST_TRIES):
        pbx.wait(STAYS)
        pbx.whispered(third, heard=False)
    pbx.wait(60.0)
    assert not pbx.whispers
    refused(pbx, caller, R.NOT_TOLD, R.PROMPT_UNSENT)


def test_an_objection_in_its_midst_closes_the_recording(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    pbx.feed(Objected(third, (PROOF,)))
    assert third in pbx.broken_off
    pbx.whispered(third, heard=False)
    pbx.wait(60.0)
    assert not pbx.whispers
    refused(pbx, caller, R.OBJECTED, R.NOT_TOLD, R.PROMPT_UNSENT)


def test_a_joiner_from_where_consent_is_asked_is_asked_for_it_and_so_must_the_others_have_given_it(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller, number=DE_NUMBER)
    pbx.wait(STAYS)
    assert not pbx.whispers, "the customer pressed no 1: telling the joiner would lead to nothing"
    pbx.play(pbx.world.hang_up(third))
    agreed = incoming(pbx, Mode.OPT_IN, number=DE_NUMBER)
    agent, facts = pbx.world.dial(agreed, "PJSIP/102")
    pbx.play(facts)
    pbx.feed(pbx.world.hears(agreed, (PROOF,), Mode.OPT_IN))
    pbx.feed(Consented(agreed, (PROOF,)))
    meet(pbx, agreed, agent)
    assert recorded(pbx, agreed)
    fourth = joiner(pbx, agreed)
    pbx.wait(STAYS)
    assert told_of(pbx, fourth) == "contract_evidence.nl.opt_in.inbound", "the strictest country's way, for all"
    pbx.whispered(fourth)
    refused(pbx, agreed, R.CONSENT_MISSING)
    pbx.feed(Consented(fourth, (PROOF,)))
    assert recorded(pbx, agreed)


@pytest.mark.parametrize("why", ["number", "mode"])
def test_where_something_else_is_missing_too_nobody_is_troubled(pbx: Trial, why: str) -> None:
    caller, _ = talk(pbx)
    number, exten = (FORBIDDEN, "") if why == "number" else (NL_OTHER, DID_SCOPE)
    joiner(pbx, caller, number=number, exten=exten)
    pbx.wait(STAYS)
    assert not pbx.whispers


def test_who_was_alone_and_untold_from_the_start_is_no_joiner(pbx: Trial) -> None:
    caller = incoming(pbx, None)
    agent, facts = pbx.world.dial(caller, "PJSIP/101")
    pbx.play(facts)
    meet(pbx, caller, agent)
    pbx.wait(STAYS)
    assert not pbx.whispers
    refused(pbx, caller, R.NOT_TOLD)


def test_while_we_are_blind_it_is_broken_off_and_after_a_restart_he_is_told_anew(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    pbx.feed(ConnectionLost())
    assert third in pbx.broken_off
    pbx.restart(seconds=1.0)
    assert not pbx.whispers
    for channel in pbx.world.lines:
        pbx.feed(Unheld(channel))
    pbx.wait(STAYS)
    pbx.whispered(third)
    assert recorded(pbx, caller)


def test_a_change_half_done_begins_and_ends_no_whisper(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    third = joiner(pbx, caller)
    pbx.wait(STAYS)
    pbx.feed(LocalOptimizationBegun(caller, third))
    assert third in pbx.whispers
    assert third not in pbx.broken_off


def test_our_own_whisper_is_no_spy_and_somebody_elses_is(pbx: Trial) -> None:
    caller, _ = talk(pbx)
    ours, theirs = Uniqueid("pbxguard-whisper-1"), Uniqueid("pbxguard-whisper-2")
    pbx.supervisor.board.apply(WhisperBegun(ours, caller))
    pbx.supervisor.handle(SpyStarted(ours, caller), pbx.now)
    assert recorded(pbx, caller)
    pbx.supervisor.board.apply(WhisperEnded(ours))
    pbx.feed(SpyStarted(theirs, caller))
    refused(pbx, caller, R.SPIED_ON)


# -- begun in mid-call -------------------------------------------------------------------------------------------------


def plain(pbx: Trial) -> tuple[Uniqueid, Uniqueid]:
    """A call that nothing was asked for."""
    caller, facts = pbx.world.incoming((), told=None)
    pbx.play(facts)
    agent, facts = pbx.world.dial(caller, "PJSIP/101")
    pbx.play(facts)
    meet(pbx, caller, agent)
    refused(pbx, caller, R.NO_PURPOSE)
    return caller, agent


@pytest.mark.parametrize("tell", [False, True])
def test_a_purpose_begun_in_mid_call_is_told_at_once_and_recorded_once_heard(tell: bool) -> None:
    pbx = Trial(tell=tell)
    caller, agent = plain(pbx)
    pbx.feed(PurposeBegun(caller, (PROOF,), agent))
    assert told_of(pbx, caller) == "contract_evidence.nl.notice.inbound"
    refused(pbx, caller, R.NOT_TOLD)
    pbx.whispered(caller)
    assert recorded(pbx, caller)


def test_a_second_purpose_begun_while_one_is_recorded_cuts_nothing_until_it_was_told() -> None:
    pbx = Trial()
    caller, agent = talk(pbx)
    pbx.feed(PurposeBegun(caller, (TRAINING,), agent))
    assert told_of(pbx, caller).startswith("quality_training.")
    assert recorded(pbx, caller)
    before = set(pbx.segments)
    pbx.whispered(caller)
    (segment,) = set(pbx.segments) - before
    assert pbx.wanted[segment].permit.purposes == (PROOF, TRAINING)


def test_what_was_begun_is_remembered_through_a_restart() -> None:
    pbx = Trial()
    caller, agent = plain(pbx)
    pbx.feed(PurposeBegun(caller, (PROOF,), agent))
    pbx.restart()
    for channel in pbx.world.lines:
        pbx.feed(Unheld(channel))
    pbx.whispered(caller)
    assert recorded(pbx, caller)
    assert Reason.NOT_TOLD not in pbx.reported[caller].outcome.reasons
