"""What is told of a call that ends while somebody is still being told."""

from __future__ import annotations

import pytest

from pbxguard.core.commands import Command, HangUp, ReportCall
from pbxguard.core.facts import (
    BeatReturned,
    BridgeCreated,
    BridgeEntered,
    BridgeLeft,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelCreated,
    ChannelHungUp,
    ChannelState,
    ChannelStateChanged,
    ConnectionLost,
    DialBegun,
    DisclosureBegun,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    HangupRequested,
    Held,
    SnapshotTaken,
    Unheld,
)
from pbxguard.core.ids import BridgeId, LinkedId, PurposeName, Uniqueid
from pbxguard.core.reasons import Reason
from pbxguard.core.supervisor import Supervisor
from tests.property.world import make_policy

AGENT, CUSTOMER = Uniqueid("1.1"), Uniqueid("1.2")
TELLING: tuple[Fact, ...] = (
    SnapshotTaken("boot", (), (), ()),
    ChannelCreated(AGENT, "PJSIP/100-00000001", LinkedId(AGENT), ChannelState.RING, "100", "internal", "0612345678"),
    DisclosureRequested(AGENT, (PurposeName("contract_evidence"),), "nl", for_callee=True),
    ChannelCreated(CUSTOMER, "PJSIP/trunk-a-00000002", LinkedId(AGENT), ChannelState.UP, "", "from", ""),
    DialBegun(AGENT, CUSTOMER, "0612345678"),
    CalleePromptBegun(CUSTOMER, "contract_evidence.nl.notice.outbound", 0, 0, 0.0),
)


def handled(*facts: Fact) -> list[Command]:
    supervisor = Supervisor(make_policy(), "node")
    return [command for now, fact in enumerate(facts) for command in supervisor.handle(fact, float(now))]


def last_told(commands: list[Command]) -> ReportCall:
    return [command for command in commands if isinstance(command, ReportCall)][-1]


def test_a_callee_who_hangs_up_while_he_is_told_is_told_as_such() -> None:
    told = last_told(handled(*TELLING, ChannelHungUp(CUSTOMER)))
    assert told.ended
    assert Reason.PROMPT_CHANNEL_GONE in told.outcome.reasons
    assert told.outcome.reasons[0] is Reason.NOT_BRIDGED  # no conversation came about: that is what people see


def test_a_callee_whose_caller_leaves_while_he_is_told_is_hung_up_and_told_as_such() -> None:
    commands = handled(*TELLING, HangupRequested(AGENT), ChannelHungUp(AGENT), ChannelHungUp(CUSTOMER))
    assert [command for command in commands if isinstance(command, HangUp)] == [HangUp(CUSTOMER)]
    assert Reason.PROMPT_CHANNEL_GONE in last_told(commands).outcome.reasons


def test_a_callee_whose_prompt_ended_unseen_is_not_hung_up_when_his_caller_leaves() -> None:
    """The agent may have transferred him by then: he is in a conversation with somebody else."""
    commands = handled(*TELLING, ConnectionLost(), HangupRequested(AGENT), ChannelHungUp(AGENT))
    assert not any(isinstance(command, HangUp) for command in commands)


def test_who_is_on_hold_and_who_may_be_since_before_we_saw_him_does_not_hear_what_is_played() -> None:
    before = ChannelCreated(AGENT, "PJSIP/100-00000001", LinkedId(AGENT), ChannelState.UP, "", "internal", "")
    late = ChannelCreated(CUSTOMER, "PJSIP/trunk-a-00000002", LinkedId(CUSTOMER), ChannelState.UP, "", "from", "")
    supervisor = Supervisor(make_policy(), "node")

    def deaf(channel: Uniqueid, *facts: Fact) -> Reason | None:
        for fact in facts:
            supervisor.handle(fact, 1.0)
        return supervisor.deaf(channel)

    assert deaf(AGENT, SnapshotTaken("boot", (before,), (), ())) is Reason.HOLD_UNKNOWN
    assert deaf(CUSTOMER) is None  # he has only just come, or is gone
    assert deaf(CUSTOMER, late) is None
    assert deaf(CUSTOMER, Held(CUSTOMER)) is Reason.PROMPT_ON_HOLD
    assert deaf(CUSTOMER, Unheld(CUSTOMER)) is None
    assert deaf(AGENT, Unheld(AGENT)) is None


BRIDGE = BridgeId("b1")
BROKEN_OFF = CalleePromptEnded(CUSTOMER, "contract_evidence.nl.notice.outbound", "FAILED", 90, 90, "", 2.0)
THE_DOORS_WORD = DisclosureNotHeard(CUSTOMER, None, Reason.PROMPT_FAILED.value)
BRIDGED: tuple[Fact, ...] = (
    ChannelStateChanged(AGENT, ChannelState.UP),
    BridgeCreated(BRIDGE, "basic", "simple_bridge"),
    BridgeEntered(BRIDGE, CUSTOMER),
    BridgeEntered(BRIDGE, AGENT),
)
APART: tuple[Fact, ...] = (
    BridgeLeft(BRIDGE, CUSTOMER),
    BridgeLeft(BRIDGE, AGENT),
    ChannelHungUp(CUSTOMER),
)
CUT_SHORT = {Reason.NOT_BRIDGED, Reason.NO_OWN_PARTY, Reason.NOT_TOLD, Reason.PROMPT_CHANNEL_GONE}


def why(*facts: Fact) -> set[Reason]:
    """Every reason but those of sight: nothing beats here, and no audit log is healthy."""
    blind = {Reason.BEAT_LATE, Reason.AUDIT_UNHEALTHY, Reason.SPOOL_FULL}
    return set(last_told(handled(*facts)).outcome.reasons) - blind


@pytest.mark.parametrize(
    "end",
    [
        (HangupRequested(CUSTOMER), BROKEN_OFF, THE_DOORS_WORD),
        (BROKEN_OFF, HangupRequested(CUSTOMER), THE_DOORS_WORD),
        (BROKEN_OFF, THE_DOORS_WORD, HangupRequested(CUSTOMER)),
        (HangupRequested(CUSTOMER), THE_DOORS_WORD, BROKEN_OFF),
        (HangupRequested(AGENT), HangupRequested(CUSTOMER), BROKEN_OFF, THE_DOORS_WORD),
    ],
)
def test_a_bridge_that_is_given_to_a_callee_who_hung_up_while_he_was_told_is_no_conversation(
    end: tuple[Fact, ...],
) -> None:
    assert why(*TELLING, *end, *APART[2:]) == CUT_SHORT
    for instant in range(1, len(end) + 1):
        if BROKEN_OFF in end[:instant]:  # he is bridged once the dialplan has said that the prompt ended
            assert why(*TELLING, *end[:instant], *BRIDGED, *end[instant:], *APART) == CUT_SHORT


def test_a_callee_whose_prompt_could_not_be_played_is_in_a_conversation_all_the_same() -> None:
    talked = (*TELLING, BROKEN_OFF, THE_DOORS_WORD, *BRIDGED, BeatReturned(50.0))
    assert why(*talked, HangupRequested(CUSTOMER), *APART) == {Reason.NOT_TOLD, Reason.PROMPT_FAILED}


CALLER = Uniqueid("1.3")
HEARING: tuple[Fact, ...] = (
    SnapshotTaken("boot", (), (), ()),
    ChannelCreated(CALLER, "PJSIP/trunk-a-00000003", LinkedId(CALLER), ChannelState.UP, "0612345678", "from", "1"),
    DisclosureRequested(CALLER, (PurposeName("contract_evidence"),), "nl"),
    DisclosureBegun(CALLER),
)


def test_a_caller_who_hangs_up_while_he_is_told_is_told_as_such_whoever_sees_it_first() -> None:
    late = DisclosureNotHeard(CALLER, None, Reason.PROMPT_CHANNEL_GONE.value)
    by_ami = last_told(handled(*HEARING, ChannelHungUp(CALLER), late))
    by_ari = last_told(handled(*HEARING, late, ChannelHungUp(CALLER)))
    assert by_ami.ended
    assert by_ari.ended
    assert by_ami.outcome.reasons == by_ari.outcome.reasons
    assert Reason.PROMPT_CHANNEL_GONE in by_ami.outcome.reasons


def test_a_caller_whose_prompt_was_cut_before_he_hung_up_is_told_of_the_cut_alone() -> None:
    cut = DisclosureNotHeard(CALLER, None, Reason.PROMPT_CUT.value)
    told = last_told(handled(*HEARING, cut, ChannelHungUp(CALLER)))
    assert Reason.PROMPT_CUT in told.outcome.reasons
    assert Reason.PROMPT_CHANNEL_GONE not in told.outcome.reasons
