"""What a real Asterisk sent becomes the facts that happened, in their order (streams/README.md)."""

from __future__ import annotations

import pytest

from pbxguard.core.facts import (
    BridgeEntered,
    BridgeLeft,
    BridgesMerged,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelCreated,
    ChannelHungUp,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    DialEnded,
    DigitPressed,
    Fact,
    Held,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    QueueJoined,
    SpyStarted,
    SpyStopped,
    Unheld,
)
from pbxguard.pbx.ami.translate import KINDS, translate
from tests.wire.streams import load, names


class Stream:
    """The facts of a stream, with each channel named by its endpoint and count: ``100``, ``100.2``, ``trunk-a``."""

    def __init__(self, name: str) -> None:
        self.facts: list[Fact] = []
        self.channel: dict[str, str] = {}
        for event in load(name):
            self.facts += translate(event, float(event["received"]))
        for fact in self.facts:
            if isinstance(fact, ChannelCreated):
                local = fact.name.startswith("Local/")
                base = f"local;{fact.name[-1]}" if local else fact.name.removeprefix("PJSIP/").rpartition("-")[0]
                count = sum(other.partition(".")[0] == base for other in self.channel.values())
                self.channel[fact.channel] = f"{base}.{count + 1}" if count else base

    def story(self, *kinds: type) -> list[tuple[str, ...]]:
        """(kind, channels...) of the facts of these kinds, in order."""
        return [
            (type(fact).__name__, *(self.channel[one] for one in _channels(fact)))
            for fact in self.facts
            if isinstance(fact, kinds)
        ]

    def together(self) -> list[frozenset[str]]:
        """Who was in one bridge with whom, each time that changed, as the bare enter and leave facts say it."""
        bridges: dict[str, list[str]] = {}
        seen: list[frozenset[str]] = []
        for fact in self.facts:
            match fact:
                case BridgeEntered():
                    members = bridges.setdefault(fact.bridge, [])
                    if fact.swap is not None and self.channel[fact.swap] in members:
                        members.remove(self.channel[fact.swap])
                    members.append(self.channel[fact.channel])
                    if len(members) > 1:
                        seen.append(frozenset(members))
                case BridgeLeft():
                    members = bridges.setdefault(fact.bridge, [])
                    if self.channel[fact.channel] in members:
                        members.remove(self.channel[fact.channel])
        return seen


def _channels(fact: Fact) -> list[str]:
    fields = ("channel", "caller", "callee", "swap", "one", "two", "spy", "spied")
    return [value for name in fields if (value := getattr(fact, name, None))]


@pytest.mark.parametrize("name", names())
def test_every_channel_of_a_stream_is_created_before_anything_else_and_hung_up_at_last(name: str) -> None:
    known: set[str] = set()
    for fact in Stream(name).facts:
        if isinstance(fact, ChannelCreated):
            known.add(fact.channel)
        assert set(_channels(fact)) <= known
        if isinstance(fact, ChannelHungUp):
            known.remove(fact.channel)
    assert known == set()


@pytest.mark.parametrize("name", names())
def test_no_event_that_bears_on_who_hears_whom_is_passed_over(name: str) -> None:
    """Whatever new event a coming Asterisk raises about bridges or channels shows up here, to be thought about."""
    thought_about = {
        *KINDS, "NewConnectedLine", "DialState", "DeviceStateChange", "LocalBridge", "MusicOnHoldStart",
        "MusicOnHoldStop", "BlindTransfer", "AttendedTransfer", "AgentCalled", "AgentConnect", "AgentComplete",
        "QueueCallerLeave", "QueueMemberStatus", "DTMFBegin", "ContactStatus", "PeerStatus", "BridgeInfoChannel",
        "ExtensionStatus", "AgentRingNoAnswer", "ConfbridgeStart", "ConfbridgeEnd", "ConfbridgeJoin", "ConfbridgeLeave",
    }  # fmt: skip
    assert {event["Event"] for event in load(name)} <= thought_about


def test_in_a_plain_call_customer_and_agent_meet() -> None:
    stream = Stream("plain")
    assert stream.story(ChannelCreated, DialBegun, DialEnded, BridgeEntered, ChannelHungUp)[:6] == [
        ("ChannelCreated", "trunk-a"),
        ("ChannelCreated", "100"),
        ("DialBegun", "trunk-a", "100"),
        ("DialEnded", "trunk-a", "100"),
        ("BridgeEntered", "100"),
        ("BridgeEntered", "trunk-a"),
    ]
    customer = stream.facts[0]
    assert isinstance(customer, ChannelCreated)
    assert (customer.caller_number, customer.exten, customer.context) == ("+31612345678", "31201234100", "from-trunk")
    assert customer.state is ChannelState.RING


def test_a_hold_is_told_of_the_channel_whose_phone_held() -> None:
    stream = Stream("hold")
    assert stream.story(Held, Unheld) == [("Held", "100"), ("Unheld", "100")]
    assert {(stream.channel[f.channel], f.digit) for f in stream.facts if isinstance(f, DigitPressed)} == {
        ("100", "5"),
        ("trunk-a", "9"),
    }


def test_a_local_pair_is_optimised_away_between_begin_and_end() -> None:
    stream = Stream("queue_local")
    assert ("QueueJoined", "trunk-a") in stream.story(QueueJoined)
    story = stream.story(LocalOptimizationBegun, BridgeLeft, BridgeEntered, LocalOptimizationEnded)
    begun = story.index(("LocalOptimizationBegun", "local;1", "local;2"))
    assert story[begun : begun + 5] == [
        ("LocalOptimizationBegun", "local;1", "local;2"),
        ("BridgeLeft", "101"),
        ("BridgeLeft", "local;1"),
        ("BridgeEntered", "101", "local;1"),
        ("LocalOptimizationEnded", "local;1", "local;2"),
    ]
    assert stream.together()[-1] == {"trunk-a", "101"}


def test_an_attended_transfer_has_an_instant_without_hold_before_the_third_party_meets_the_customer() -> None:
    stream = Stream("attended_refer")
    assert stream.together() == [{"100", "trunk-a"}, {"trunk-b", "100.2"}, {"trunk-b", "trunk-a"}]
    story = stream.story(Held, Unheld, BridgeEntered)
    assert story[2] == ("Held", "100")
    assert story[-3:] == [("Unheld", "100"), ("Unheld", "100.2"), ("BridgeEntered", "trunk-a", "100.2")]


def test_a_blind_transfer_takes_the_agent_out_before_the_third_party_is_called() -> None:
    stream = Stream("blind_refer")
    assert stream.together() == [{"100", "trunk-a"}, {"trunk-b", "trunk-a"}]
    story = stream.story(ChannelHungUp, ChannelCreated)
    assert story.index(("ChannelHungUp", "100")) < story.index(("ChannelCreated", "trunk-b"))


def test_a_second_call_rings_and_is_never_answered() -> None:
    stream = Stream("second_ringing")
    states = [
        fact.state
        for fact in stream.facts
        if isinstance(fact, ChannelStateChanged) and stream.channel[fact.channel] == "100.2"
    ]
    assert states == [ChannelState.RINGING]
    assert stream.together() == [{"100", "trunk-a"}]


def test_a_three_way_in_the_phone_looks_like_two_calls_without_a_hold() -> None:
    stream = Stream("three_way")
    assert stream.together() == [{"100", "trunk-a"}, {"trunk-b", "100.2"}]
    assert stream.story(Held, Unheld) == []


def test_a_transfer_by_feature_code_moves_the_same_channel_and_raises_no_unhold() -> None:
    stream = Stream("feature_transfer")
    assert stream.story(Held, Unheld) == [("Held", "100")]
    assert stream.story(BridgesMerged) == [("BridgesMerged",)]
    assert stream.together()[-1] == {"trunk-a", "trunk-b"}


def test_a_told_callee_was_told_before_anybody_is_bridged() -> None:
    stream = Stream("outbound_told")
    assert stream.story(CalleePromptBegun, CalleePromptEnded, DialEnded, BridgeEntered)[:4] == [
        ("CalleePromptBegun", "trunk-b"),
        ("CalleePromptEnded", "trunk-b"),
        ("DialEnded", "100", "trunk-b"),
        ("BridgeEntered", "trunk-b"),
    ]
    (dialled,) = [fact.dialled_number for fact in stream.facts if isinstance(fact, DialBegun)]
    assert dialled == "0201112223"  # as sent to the carrier, without the prefix for an outside line


def test_a_forwarded_call_never_has_the_agent_in_it() -> None:
    stream = Stream("forwarded")
    assert not any("100" in members for members in stream.together())
    assert stream.together()[-1] == {"trunk-a", "trunk-b"}


def test_a_spy_comes_and_goes() -> None:
    assert Stream("spied").story(SpyStarted, SpyStopped) == [("SpyStarted", "101", "100"), ("SpyStopped", "101", "100")]


def test_nothing_is_renamed_in_any_of_them() -> None:
    assert not any(isinstance(fact, ChannelRenamed) for name in names() for fact in Stream(name).facts)
