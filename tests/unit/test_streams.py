"""When recording ran in event streams of a real Asterisk (tests/wire/streams), replayed through translation and core.

Of each start and stop the fact that caused it is asserted. The oracle of the property tests judges every step too.
"""

from __future__ import annotations

import re

import pytest

from pbxguard.core.facts import ChannelCreated, Fact, LocalOptimizationBegun, LocalOptimizationEnded
from pbxguard.core.ids import SegmentId, Uniqueid
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason
from pbxguard.pbx.ami.translate import translate
from tests.property.trial import Trial
from tests.property.world import PROOF
from tests.wire.streams import FOLDER, load, names

Moment = tuple[str, str, str]
"""(started or stopped, name of the own device, the fact that caused it)"""


def replay(stream: str, told: tuple[str, ...], lost: tuple[str, ...] = ()) -> tuple[Trial, list[Moment]]:
    """The stream with a disclosure heard by each trunk in `told` as soon as it exists, and a beat an event.

    Events of the kinds in `lost` never came.
    """
    trial = Trial()
    begin = trial.now
    devices: dict[Uniqueid, str] = {}
    moments: list[Moment] = []
    for event in load(stream):
        trial.now = begin + float(event["received"])
        trial.beat()
        for fact in translate(event, trial.now) if event["Event"] not in lost else ():
            before = set(trial.wanted)
            trial.feed(fact)
            if isinstance(fact, ChannelCreated):
                devices[fact.channel] = fact.name.rpartition("-")[0].removeprefix("PJSIP/")
                if devices[fact.channel] in told:
                    trial.feed(trial.world.hears(fact.channel, (PROOF,), Mode.NOTICE))
            moments += changes(trial, before, fact, devices)
    return trial, moments


def changes(trial: Trial, before: set[SegmentId], fact: Fact, devices: dict[Uniqueid, str]) -> list[Moment]:
    cause = type(fact).__name__
    stopped = [trial.stopped[s] for s in trial.stopped if s in before]
    started = [start for segment, start in trial.wanted.items() if segment not in before]
    trial.close_all()
    return [("stopped", devices[s.leg], cause) for s in stopped] + [("started", devices[s.leg], cause) for s in started]


BOTH = ("trunk-a", "trunk-b")
STARTED, LEFT = ("started", "100", "BridgeEntered"), ("stopped", "100", "BridgeLeft")
EXPECTED: dict[str, tuple[tuple[str, ...], list[Moment]]] = {
    "plain": (("trunk-a",), [STARTED, LEFT]),
    "hold": (("trunk-a",), [STARTED, ("stopped", "100", "Held"), ("started", "100", "Unheld"), LEFT]),
    "queue_local": (("trunk-a",), [("started", "101", "BridgeEntered"), ("stopped", "101", "BridgeLeft")]),
    "attended_refer": (("trunk-a",), [STARTED, ("stopped", "100", "Held")]),
    "blind_refer": (BOTH, [STARTED, LEFT]),
    "second_ringing": (("trunk-a",), [STARTED, LEFT]),
    "three_way": (
        BOTH,
        [STARTED, ("stopped", "100", "ChannelCreated"), ("started", "100", "ChannelHungUp"), LEFT],
    ),
    "feature_transfer": (BOTH, [STARTED, ("stopped", "100", "Held")]),
    "code_taken_back": (
        BOTH,
        [STARTED, ("stopped", "100", "Held"), ("started", "100", "Unheld"), LEFT],
    ),
    "outbound_told": (("trunk-b",), [STARTED, LEFT]),
    "forwarded": (BOTH, []),
    "forwarded_local": (BOTH, []),
    "replaced_in_conference": (("trunk-a",), [STARTED, ("stopped", "100", "Held")]),
    "replaced_by_invite": (("trunk-a",), [STARTED, ("stopped", "100", "ChannelHungUp")]),
    "spied": (
        ("trunk-a",),
        [STARTED, ("stopped", "100", "SpyStarted"), ("started", "100", "SpyStopped"), LEFT],
    ),
}


@pytest.mark.parametrize("stream", EXPECTED)
def test_recording_runs_exactly_when_it_may(stream: str) -> None:
    told, expected = EXPECTED[stream]
    trial, moments = replay(stream, told)
    assert moments == expected
    assert not trial.wanted
    assert set(trial.segments.values()) == trial.sealed


@pytest.mark.parametrize("stream", EXPECTED)
def test_the_same_call_untold_is_never_recorded(stream: str) -> None:
    assert replay(stream, ())[1] == []


def test_at_the_swap_of_an_attended_transfer_nothing_is_recorded_though_all_were_told() -> None:
    _, moments = replay("attended_refer", BOTH)
    assert moments == [
        STARTED,
        ("stopped", "100", "Held"),
        ("started", "100", "BridgeEntered"),  # the consultation, with the customer on hold
        ("stopped", "100", "Unheld"),
    ]


def test_while_a_local_channel_is_optimised_away_the_decision_made_before_stands() -> None:
    """Between Begin and End the picture is false: the agent is in no bridge, and for an instant alone in one."""
    trial = Trial()
    begin = trial.now
    within, alone = False, 0
    for event in load("queue_local"):
        trial.now = begin + float(event["received"])
        trial.beat()
        for fact in translate(event, trial.now):
            trial.feed(fact)
            if isinstance(fact, ChannelCreated) and fact.name.startswith("PJSIP/trunk-a"):
                trial.feed(trial.world.hears(fact.channel, (PROOF,), Mode.NOTICE))
            if isinstance(fact, LocalOptimizationBegun):
                within = True
                (before,) = trial.wanted.items()
            if within:
                assert list(trial.wanted.items()) == [before], f"the recorder of before it runs on after {fact}"
                assert not trial.stopped
                (leg,) = [start.leg for start in trial.wanted.values()]
                alone += trial.supervisor.board.component(leg).channels == frozenset({leg})
            within = within and not isinstance(fact, LocalOptimizationEnded)
    assert alone, "the picture was never false"


@pytest.mark.parametrize("stream", EXPECTED)
def test_only_a_place_that_another_took_unseen_casts_doubt(stream: str) -> None:
    """When a transfer is told of that may do it, when its owner hangs up, and when whoever took it leaves it."""
    looks = {"replaced_in_conference": 3, "replaced_by_invite": 2}
    assert replay(stream, EXPECTED[stream][0])[0].looks == looks.get(stream, 0)


def test_without_word_of_the_transfer_nothing_is_recorded_once_its_owner_hung_up() -> None:
    """His second call ends 0.2 ms before his first, whose place is the third party's by then."""
    _, moments = replay("replaced_in_conference", ("trunk-a",), lost=("AttendedTransfer",))
    assert moments == [
        STARTED,
        ("stopped", "100", "Held"),
        ("started", "100", "ChannelHungUp"),
        ("stopped", "100", "ChannelHungUp"),
    ]


@pytest.mark.parametrize("stream", ["hold", "code_taken_back"])
def test_a_lost_unhold_leaves_the_call_unrecorded_to_its_end(stream: str) -> None:
    told, expected = EXPECTED[stream]
    _, moments = replay(stream, told, lost=("Unhold",))
    assert moments == [STARTED, ("stopped", "100", "Held")]
    assert moments == expected[:2], "the twin in which it was not lost goes on"


@pytest.mark.parametrize("stream", ["forwarded", "forwarded_local"])
def test_who_is_left_alone_by_the_other_is_told_why_their_conversation_was_not_recorded(stream: str) -> None:
    """Behind a Local channel that stays, for an instant half of it leads to where nobody can be seen."""
    trial, _ = replay(stream, ("trunk-a",))
    assert len(trial.reported) == 2, "both parties' calls"
    for report in trial.reported.values():
        assert report.ended
        assert set(report.outcome.reasons) == {Reason.NO_OWN_PARTY, Reason.NOT_TOLD}


def test_no_recorded_stream_is_forgotten() -> None:
    assert set(EXPECTED) == set(names())
    described = re.findall(r"^\| `(\w+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(described) == names()
    # The program that records them anew is read, not imported: phones do not run on every interpreter.
    scenarios = (FOLDER.parent / "record_streams.py").read_text().partition("SCENARIOS")[2]
    assert sorted(re.findall(r"^        (\w+),$", scenarios, re.MULTILINE)) == names()
