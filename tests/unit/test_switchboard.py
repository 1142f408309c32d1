"""The picture of the PBX: who hears whom, whatever is said twice, late or never."""

from __future__ import annotations

import pytest

from pbxguard.core import switchboard as module
from pbxguard.core.facts import (
    BridgeCreated,
    BridgeDestroyed,
    BridgeEntered,
    BridgeLeft,
    BridgesMerged,
    ChannelCreated,
    ChannelHungUp,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    Fact,
    Held,
    SnapshotTaken,
    SpyStarted,
    SpyStopped,
    TransferredIntoApp,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import BridgeId, LinkedId, Uniqueid
from pbxguard.core.policy import PartyPatterns
from pbxguard.core.switchboard import Switchboard

A, B, C, D = (Uniqueid(f"1700000000.{n}") for n in range(1, 5))
ONE, TWO = Uniqueid("1700000000.8"), Uniqueid("1700000000.9")
X, Y = BridgeId("x"), BridgeId("y")
NAMES = {
    A: "PJSIP/trunk-1",
    B: "PJSIP/101-2",
    C: "PJSIP/102-3",
    D: "PJSIP/trunk-4",
    ONE: "Local/1@m-8;1",
    TWO: "Local/1@m-8;2",
}


def created(channel: Uniqueid, state: ChannelState = ChannelState.UP) -> ChannelCreated:
    return ChannelCreated(channel, NAMES[channel], LinkedId(channel), state)


def board(*facts: Fact) -> Switchboard:
    made = Switchboard(PartyPatterns(own=("PJSIP/1??-*",), external=("PJSIP/trunk-*",)))
    for fact in facts:
        made.apply(fact)
    return made


def hears(made: Switchboard, channel: Uniqueid) -> set[Uniqueid]:
    return {talker.uniqueid for talker in made.component(channel).talkers}


ALL: list[Fact] = [created(c) for c in NAMES]
LOCAL: list[Fact] = [*ALL, BridgeEntered(X, A), BridgeEntered(X, ONE), BridgeEntered(Y, TWO), BridgeEntered(Y, B)]


def test_those_in_one_bridge_hear_each_other_and_nobody_else() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(X, B), BridgeEntered(Y, C))
    assert hears(made, A) == hears(made, B) == {A, B}
    assert hears(made, C) == {C}
    assert not made.component(D).bridged


@pytest.mark.parametrize("start", [A, B, ONE, TWO])
def test_a_local_pair_joins_two_bridges_from_wherever_one_looks(start: Uniqueid) -> None:
    component = board(*LOCAL).component(start)
    assert {t.uniqueid for t in component.talkers} == {A, B}
    assert component.channels == {A, B, ONE, TWO}
    assert not component.dangling


@pytest.mark.parametrize(
    "loss",
    [
        BridgeLeft(Y, TWO),
        ChannelHungUp(TWO),
        ChannelRenamed(TWO, "Local/1@m-8;2<ZOMBIE>"),
        BridgeDestroyed(Y),
        BridgeEntered(BridgeId("park"), TWO, "parking", "holding_bridge"),
    ],
)
def test_half_a_local_channel_whose_other_half_is_out_of_sight_dangles_and_is_decided_anew(loss: Fact) -> None:
    made = board(*LOCAL)
    touched = made.apply(loss)
    assert made.component(A).dangling
    assert touched & made.component(A).channels


def test_an_optimised_local_pair_leaves_one_bridge_with_two_people() -> None:
    made = board(*LOCAL, BridgeLeft(Y, B), BridgeLeft(X, ONE), BridgeEntered(X, B, swap=ONE), ChannelHungUp(ONE))
    made.apply(ChannelHungUp(TWO))
    assert hears(made, A) == {A, B}
    assert not made.component(A).dangling


def test_whoever_is_swapped_out_is_no_longer_heard_even_if_his_leaving_is_lost() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(X, B), BridgeEntered(X, C, swap=B))
    assert hears(made, A) == {A, C}
    assert hears(made, B) == {B}


def test_a_swap_with_somebody_who_is_elsewhere_moves_nobody_else() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(Y, B), BridgeEntered(X, C, swap=B), BridgeEntered(Y, D))
    assert hears(made, B) == {B, D}


def test_a_merge_moves_its_members_by_events_of_their_own() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(Y, B))
    assert made.apply(BridgesMerged(X, Y)) == {A, B}
    made.apply(BridgeEntered(X, B))
    made.apply(BridgeDestroyed(Y))
    assert hears(made, A) == {A, B}


def test_whoever_enters_another_bridge_has_left_the_first() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(X, B), BridgeEntered(Y, B), BridgeEntered(Y, C))
    assert hears(made, A) == {A}
    made.apply(BridgeLeft(X, B))
    assert hears(made, B) == {B, C}, "a late leaving of the first bridge changes nothing"


def test_facts_said_twice_change_nothing() -> None:
    once = board(*LOCAL, Held(A), SpyStarted(D, A))
    twice = board(*(fact for fact in (*LOCAL, Held(A), SpyStarted(D, A)) for _ in range(2)))
    assert once.component(A).channels == twice.component(A).channels
    assert [t.uniqueid for t in once.component(A).talkers] == [t.uniqueid for t in twice.component(A).talkers]
    assert once.spies == twice.spies


def test_a_member_of_whom_no_channel_is_known_makes_the_conversation_unseen_until_it_is() -> None:
    made = board(created(A), BridgeEntered(X, A), BridgeEntered(X, B))
    assert made.component(A).dangling
    assert made.component(A).channels == made.component(B).channels == {A, B}
    made.apply(created(B))
    assert not made.component(A).dangling
    assert hears(made, A) == {A, B}


def test_an_unknown_member_goes_when_it_leaves_moves_or_hangs_up() -> None:
    for gone in (BridgeLeft(X, B), BridgeEntered(Y, B), ChannelHungUp(B)):
        made = board(created(A), BridgeEntered(X, A), BridgeEntered(X, B))
        assert A in made.apply(gone)
        assert not made.component(A).dangling


def test_a_bridge_that_is_gone_holds_nobody_who_becomes_known_later() -> None:
    made = board(created(A), BridgeEntered(X, A), BridgeEntered(X, B), BridgeDestroyed(X), created(B))
    assert made.channels[B].bridge is None
    assert not made.component(B).bridged


def test_what_an_entering_says_of_its_bridge_holds_from_then_on() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(X, B))
    made.apply(BridgeEntered(X, C, "parking", "holding_bridge"))
    assert not made.component(A).bridged


def test_a_hang_up_without_a_leave_is_a_leave_and_is_decided_anew() -> None:
    made = board(*ALL, BridgeEntered(X, A), BridgeEntered(X, B))
    assert B in made.apply(ChannelHungUp(A))
    assert hears(made, B) == {B}


def test_what_comes_late_about_a_channel_that_hung_up_raises_no_ghost() -> None:
    made = board(created(A), BridgeEntered(X, A), created(B), ChannelHungUp(B))
    for late in (created(B), BridgeEntered(X, B), SpyStarted(B, A), SpyStarted(A, B), DialBegun(A, B, "1")):
        made.apply(late)
    assert B not in made.channels
    assert not made.component(A).dangling
    assert made.spies == {}


def test_who_was_answered_stays_answered_whatever_comes_late() -> None:
    made = board(created(A))
    made.apply(ChannelStateChanged(A, ChannelState.RING))
    made.apply(created(A, ChannelState.DOWN))
    assert made.channels[A].state is ChannelState.UP


def test_facts_about_nobody_touch_nobody() -> None:
    made = board()
    for fact in (
        ChannelStateChanged(A, ChannelState.UP),
        ChannelRenamed(A, "x"),
        DialBegun(A, B, "1"),
        Held(A),
        BridgeDestroyed(X),
        BridgesMerged(X, Y),
    ):
        assert made.apply(fact) == set()
    assert made.channels == {}


def test_who_dialled_is_found_through_local_halves() -> None:
    made = board(*ALL, DialBegun(B, ONE, "x"), DialBegun(TWO, A, "0612345678"))
    dialler = made.root_dialler(made.channels[A])
    assert dialler is not None
    assert dialler.uniqueid == B
    assert made.root_dialler(made.channels[B]) is None


def test_channels_that_dial_each_other_in_a_circle_end_the_search() -> None:
    made = board(*ALL, DialBegun(ONE, TWO, ""), DialBegun(TWO, ONE, ""))
    assert made.root_dialler(made.channels[ONE]) is None


def test_an_originated_channel_was_dialled_by_somebody() -> None:
    made = board(*ALL, DialBegun(Uniqueid(""), A, ""))
    assert made.channels[A].dialled
    assert made.channels[A].dialled_by is None


def test_a_whisper_of_ours_is_no_spy_as_long_as_it_lasts_and_on_him_alone() -> None:
    ours = WhisperBegun(C, A)
    assert not board(*ALL, ours, SpyStarted(C, A)).spies
    assert not board(*ALL, ours, SpyStarted(C, A), SpyStarted(C, A)).spies, "the same said twice"
    assert board(*ALL, ours, SpyStarted(C, B)).spies == {B: {C}}, "to somebody else"
    assert board(*ALL, ours, SpyStarted(D, A)).spies == {A: {D}}, "somebody else's"
    assert board(*ALL, ours, SpyStarted(C, A), SpyStopped(C, A), SpyStarted(C, A)).spies == {A: {C}}, "after its end"
    assert board(*ALL, ours, WhisperEnded(C), SpyStarted(C, A)).spies == {A: {C}}, "by a name that is no longer ours"
    assert board(*ALL, SpyStarted(C, A), ours).spies == {A: {C}}, "before it was ours"
    picture = SnapshotTaken("boot", (created(A), created(C)), (), (SpyStarted(C, A),))
    assert not board(*ALL, ours, picture).spies, "a snapshot shows ours too"
    assert board(*ALL, picture).spies == {A: {C}}


def test_a_spy_is_known_until_he_stops_or_hangs_up() -> None:
    made = board(*ALL, SpyStarted(C, A), SpyStarted(D, A))
    made.apply(SpyStopped(C, A))
    assert made.spies == {A: {D}}
    assert A in made.apply(ChannelHungUp(D))
    assert made.spies == {}


def test_a_hold_belongs_to_the_bridge_in_which_it_was_said() -> None:
    made = board(*ALL, BridgeEntered(X, B), Held(B))
    assert made.channels[B].surely_held
    made.apply(BridgeEntered(Y, B))
    assert not made.channels[B].surely_held
    assert made.channels[B].held


def snapshot(*members: Uniqueid) -> SnapshotTaken:
    return SnapshotTaken("boot", tuple(created(m) for m in members), ((BridgeCreated(X, "", ""), members),))


def test_a_snapshot_replaces_the_picture_and_keeps_what_none_shows() -> None:
    made = board(*ALL, DialBegun(A, B, "101"), BridgeEntered(Y, B), BridgeEntered(Y, C), Held(B), SpyStarted(D, A))
    assert made.apply(snapshot(A, B)) >= {A, B, C}
    assert hears(made, A) == {A, B}
    assert C not in made.channels
    assert made.channels[B].dialled_by == A
    assert made.channels[B].held
    assert made.spies == {}


def test_after_a_restart_the_first_caller_is_the_one_whom_asterisk_numbered_first() -> None:
    tenth = Uniqueid("1700000000.10")
    made = board()
    late = ChannelCreated(tenth, "PJSIP/trunk-9", LinkedId("l"), ChannelState.UP)
    made.apply(SnapshotTaken("boot", (late, created(D), created(A)), ((BridgeCreated(X, "", ""), (tenth, D, A)),)))
    born = sorted(made.channels.values(), key=lambda c: c.born)
    assert [c.uniqueid for c in born] == [A, D, tenth]
    assert [t.uniqueid for t in made.component(A).talkers] == [A, D, tenth]
    assert not any(c.hold_known for c in born)


def test_how_many_of_the_gone_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_GONE", 10)
    made = board()
    for number in range(100):
        channel = Uniqueid(f"5.{number}")
        made.apply(ChannelCreated(channel, f"PJSIP/101-{number}", LinkedId("l"), ChannelState.UP))
        made.apply(BridgeEntered(BridgeId(f"b{number}"), channel))
        made.apply(ChannelHungUp(channel))
        made.apply(BridgeDestroyed(BridgeId(f"b{number}")))
    assert len(made._gone) == 10
    assert not made.channels
    assert not made.bridges
    assert not made._devices
    assert not made._pairs
    assert not made._unseen


MET: list[Fact] = [*ALL, BridgeCreated(X, "base", "softmix"), BridgeCreated(Y, "basic", "simple_bridge")]
MET += [BridgeEntered(X, A), BridgeEntered(X, B)]


@pytest.mark.parametrize(
    ("fact", "places"),
    [
        (ChannelHungUp(B), (X,)),
        (BridgeLeft(X, C), (X,)),
        (BridgeLeft(Y, B), (X, Y)),
        (BridgeEntered(Y, B), (X,)),
        (TransferredIntoApp(B, C), (X,)),
    ],
)
def test_who_goes_or_comes_where_it_was_not_shows_that_somebody_is_unseen(
    fact: Fact, places: tuple[BridgeId, ...]
) -> None:
    assert board(*MET).belied(fact) == places


@pytest.mark.parametrize(
    "fact",
    [
        BridgeLeft(X, B),
        BridgeEntered(X, C),
        BridgeEntered(X, B),
        BridgeEntered(Y, C, swap=D),
        ChannelHungUp(C),
        BridgeLeft(BridgeId("never seen"), C),
        BridgesMerged(X, Y),
        TransferredIntoApp(C, D),
        Held(B),
    ],
)
def test_an_ordinary_move_belies_nothing(fact: Fact) -> None:
    assert board(*MET).belied(fact) == ()


def test_a_member_of_whom_no_channel_is_known_belies_the_picture_too() -> None:
    stranger = Uniqueid("1700000000.77")
    made = board(*MET, BridgeEntered(X, stranger))
    assert made.belied(ChannelHungUp(stranger)) == (X,)
    assert made.belied(BridgeLeft(X, stranger)) == ()
