"""Each event of Asterisk gives its fact; whatever else comes gives none, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.facts import (
    BridgeEntered,
    BridgesMerged,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelCreated,
    ChannelNumberChanged,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    DigitPressed,
    Fact,
    HangupRequested,
    LocalOptimizationBegun,
    SpyStarted,
    SwitchedOff,
    SwitchedOn,
    TransferredIntoApp,
)
from pbxguard.core.ids import BridgeId, LinkedId, Uniqueid
from pbxguard.pbx.ami.translate import KINDS, created, translate

U, V = Uniqueid("lab-1.1"), Uniqueid("lab-1.2")
CHANNEL = {"Channel": "PJSIP/100-0000002a", "Uniqueid": U, "Linkedid": "lab-1.0", "ChannelStateDesc": "Up"}


def fact_of(event: str, **headers: str) -> Fact | None:
    found = translate({"Event": event, **headers}, at=5.0)
    assert len(found) <= 1
    return found[0] if found else None


def test_a_new_channel_brings_its_number_and_where_it_arrived() -> None:
    assert fact_of("Newchannel", **CHANNEL, CallerIDNum="+31612345678", Context="from-trunk", Exten="112") == (
        ChannelCreated(U, CHANNEL["Channel"], LinkedId("lab-1.0"), ChannelState.UP, "+31612345678", "from-trunk", "112")
    )


@pytest.mark.parametrize(
    ("application", "dialled"), [("AppDial", True), ("AppQueue", True), ("Dial", False), ("", False)]
)
def test_a_channel_in_a_list_shows_whether_it_was_dialled(application: str, dialled: bool) -> None:
    assert created({**CHANNEL, "Application": application}).dialled is dialled


def test_an_unknown_caller_has_no_number() -> None:
    made = fact_of("Newchannel", **CHANNEL, CallerIDNum="<unknown>")
    assert isinstance(made, ChannelCreated)
    assert made.caller_number == ""


@pytest.mark.parametrize(
    "state", ["Down", "Rsrvd", "OffHook", "Dialing", "Busy", "Dialing Offhook", "Pre-ring", "", "Up "]
)
def test_every_state_but_four_reads_as_down(state: str) -> None:
    assert fact_of("Newstate", Uniqueid=U, ChannelStateDesc=state) == ChannelStateChanged(U, ChannelState.DOWN)


@pytest.mark.parametrize("state", ["Ring", "Ringing", "Up"])
def test_the_states_that_matter_are_kept(state: str) -> None:
    assert fact_of("Newstate", Uniqueid=U, ChannelStateDesc=state) == ChannelStateChanged(U, ChannelState(state))


def test_a_changed_caller_id_is_told_and_a_connected_line_is_not() -> None:
    assert fact_of("NewCallerid", Uniqueid=U, CallerIDNum="0612") == ChannelNumberChanged(U, "0612")
    assert fact_of("NewConnectedLine", Uniqueid=U, CallerIDNum="0612", ConnectedLineNum="0699") is None


@pytest.mark.parametrize(
    ("shown", "string", "number"),
    [
        ("90612345678", "0612345678@trunk-a", "0612345678"),
        ("31209999000", "Local/101@members", "101"),
        ("0612345678", "trunk-a", "0612345678"),
        ("s", "0612345678@trunk-a", "0612345678"),
        ("<unknown>", "trunk-a/sip:+31612@host", "+31612"),
        ("", "trunk-a/113", "113"),
        ("s", "s@ivr", ""),
        ("<unknown>", "", ""),
    ],
)
def test_the_number_dialled_is_the_one_that_was_sent_and_found_inside_a_gosub_too(
    shown: str, string: str, number: str
) -> None:
    begun = fact_of("DialBegin", Uniqueid=U, DestUniqueid=V, DestCallerIDNum=shown, DialString=string)
    assert begun == DialBegun(U, V, number)


@pytest.mark.parametrize(("exten", "at"), [("600", "600"), ("s", ""), ("", ""), ("6\r\n00", "")])
def test_the_extension_that_dials_is_told_where_it_is_a_number(exten: str, at: str) -> None:
    begun = fact_of("DialBegin", Uniqueid=U, DestUniqueid=V, DialString="101", Exten=exten)
    assert begun == DialBegun(U, V, "101", at)


def test_an_originated_call_is_dialled_by_nobody() -> None:
    assert fact_of("DialBegin", DestUniqueid=V, DialString="100") == DialBegun(Uniqueid(""), V, "100")


def test_a_channel_that_takes_the_place_of_another_names_it() -> None:
    entered = fact_of(
        "BridgeEnter",
        BridgeUniqueid="b",
        BridgeType="basic",
        BridgeTechnology="simple_bridge",
        Uniqueid=U,
        SwapUniqueid=V,
    )
    assert entered == BridgeEntered(BridgeId("b"), U, "basic", "simple_bridge", V)


def test_a_merge_names_the_bridge_that_stays_first() -> None:
    assert fact_of("BridgeMerge", ToBridgeUniqueid="a", FromBridgeUniqueid="b") == BridgesMerged(
        BridgeId("a"), BridgeId("b")
    )


def test_only_an_attended_transfer_into_an_application_may_go_untold() -> None:
    told = {"Result": "Success", "OrigTransfererUniqueid": U, "SecondTransfererUniqueid": V}
    assert fact_of("AttendedTransfer", DestType="App", DestApp="ConfBridge", **told) == TransferredIntoApp(U, V)
    for other in ({"DestType": "Bridge"}, {"DestType": "App", "Result": "Fail"}):
        assert translate({"Event": "AttendedTransfer", **told, **other}, 0.0) == ()


def test_both_halves_of_an_optimisation_are_named() -> None:
    begun = fact_of("LocalOptimizationBegin", LocalOneUniqueid=U, LocalTwoUniqueid=V, SourceUniqueid="x")
    assert begun == LocalOptimizationBegun(U, V)


def test_a_spy_and_whom_it_spies_on_are_told_apart() -> None:
    assert fact_of("ChanSpyStart", SpyerUniqueid=U, SpyeeUniqueid=V) == SpyStarted(spy=U, spied=V)


def test_both_kinds_of_hangup_request_count() -> None:
    assert fact_of("HangupRequest", Uniqueid=U) == fact_of("SoftHangupRequest", Uniqueid=U) == HangupRequested(U)


@pytest.mark.parametrize(
    ("direction", "digit", "counts"), [("Received", "9", True), ("Sent", "9", False), ("Received", "99", False)]
)
def test_only_a_digit_that_the_phone_sent_counts(direction: str, digit: str, counts: bool) -> None:
    assert fact_of("DTMFEnd", Uniqueid=U, Direction=direction, Digit=digit) == (
        DigitPressed(U, "9") if counts else None
    )


@pytest.mark.parametrize(
    ("value", "fact"), [("off", SwitchedOff()), (" OFF ", SwitchedOff()), ("on", SwitchedOn()), ("", SwitchedOn())]
)
def test_the_global_switch_is_read(value: str, fact: Fact) -> None:
    assert fact_of("VarSet", Channel="none", Uniqueid="none", Variable="PBXGUARD", Value=value) == fact


def test_a_channels_own_variable_switches_nothing() -> None:
    assert fact_of("VarSet", Uniqueid=U, Variable="PBXGUARD", Value="off") is None


PROMPT = {"UserEvent": "PbxguardPrompt", "Uniqueid": U, "Prompt": "a.nl.notice.outbound"}


def test_a_prompt_at_the_callees_door_begins_and_ends() -> None:
    assert fact_of("UserEvent", **PROMPT, Phase="begin", Tx="10", Rx="3") == (
        CalleePromptBegun(U, PROMPT["Prompt"], 10, 3, 5.0)
    )
    assert fact_of("UserEvent", **PROMPT, Phase="begin", Tx="10", Rx="3", Formats="(alaw)") == (
        CalleePromptBegun(U, PROMPT["Prompt"], 10, 3, 5.0, "(alaw)")
    )
    assert fact_of("UserEvent", **PROMPT, Phase="end", Tx="26400", Rx="150", State="SUCCESS", Key="9") == (
        CalleePromptEnded(U, PROMPT["Prompt"], "SUCCESS", 26400, 150, "9", 5.0)
    )


@pytest.mark.parametrize("tx", ["", "-5", "1e9", "9" * 40, "٣"])
def test_a_prompt_whose_counters_cannot_be_read_proves_nothing(tx: str) -> None:
    assert fact_of("UserEvent", **PROMPT, Phase="begin", Tx=tx, Rx="0") is None
    ended = fact_of("UserEvent", **PROMPT, Phase="end", Tx=tx, Rx="0", State="SUCCESS", Key="")
    assert ended == CalleePromptEnded(U, PROMPT["Prompt"], "SUCCESS", 0, 0, "", 5.0)


def test_a_user_event_of_somebody_else_is_nothing() -> None:
    assert fact_of("UserEvent", **{**PROMPT, "UserEvent": "Other"}, Phase="begin", Tx="1", Rx="1") is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_event_without_its_headers_gives_no_fact(kind: str) -> None:
    assert fact_of(kind) is None
    assert fact_of(kind, Uniqueid="none", BridgeUniqueid="<none>") is None


HEADERS = (
    "Uniqueid Channel Linkedid ChannelStateDesc CallerIDNum BridgeUniqueid BridgeType DestUniqueid "
    "DestCallerIDNum DialString SwapUniqueid Newname Queue Digit Direction Variable "
    "Value UserEvent Phase Tx Rx State Key Prompt "
    "SpyerUniqueid SpyeeUniqueid LocalOneUniqueid LocalTwoUniqueid ToBridgeUniqueid FromBridgeUniqueid DialStatus "
)
HOSTILE = st.text() | st.sampled_from(
    ["PBXGUARD", "PbxguardPrompt", "begin", "end", "Received", "none", "${SHELL(id)}", "9"]
)


@given(st.sampled_from(sorted(KINDS)) | st.text(), st.dictionaries(st.sampled_from(HEADERS.split()), HOSTILE))
def test_whatever_comes_is_a_fact_or_nothing(kind: str, headers: dict[str, str]) -> None:
    for fact in translate({**headers, "Event": kind}, at=0.0):
        assert getattr(fact, "channel", "x") not in ("", "none")
        assert getattr(fact, "bridge", "x") not in ("", "none")
