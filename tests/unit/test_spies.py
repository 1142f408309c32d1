"""Listening in where nobody may: told once, and in mode `enforce` the spy, and only the spy, is hung up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbxguard.core.commands import Command, HangUp, ReportSpy
from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    Fact,
    MarkedPrivate,
    SpoolHasRoom,
    SpyStarted,
    SpyStopped,
    SwitchedOff,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason
from pbxguard.core.supervisor import Supervisor
from tests.property.world import FORBIDDEN, NL_NUMBER, World, make_policy

NOW = 100.0
R = Reason


class Floor:
    """An office in which somebody may listen in; keeps what is to be done about it."""

    def __init__(self, mode: GuardMode = GuardMode.ENFORCE) -> None:
        self.world = World()
        self.supervisor = Supervisor(replace(make_policy(), mode=mode), "node")
        self.feed([AuditHealthy(True), SpoolHasRoom(True), self.world.snapshot(), BeatReturned(NOW - 0.01)])

    def feed(self, facts: list[Fact]) -> list[Command]:
        done = [command for fact in facts for command in self.supervisor.handle(fact, NOW)]
        return [command for command in done if isinstance(command, ReportSpy | HangUp)]

    def call(self, answers: str = "PJSIP/101", number: str = NL_NUMBER) -> tuple[Uniqueid, Uniqueid]:
        caller, facts = self.world.incoming(told=Mode.NOTICE, number=number)
        self.feed(facts)
        callee, facts = self.world.dial(caller, answers)
        self.feed(facts)
        self.feed(self.world.meet(caller, callee))
        return caller, callee

    def spy(self, spied: Uniqueid) -> tuple[Uniqueid, list[Command]]:
        spy, facts = self.world.spy(spied)
        return spy, self.feed(facts)


@pytest.mark.parametrize(
    ("answers", "number", "reason"),
    [
        ("PJSIP/701", NL_NUMBER, R.PRIVATE_PARTY),
        ("PJSIP/101", FORBIDDEN, R.NEVER_RECORD),
        ("PJSIP/trunk-b", NL_NUMBER, R.NO_OWN_PARTY),
    ],
)
def test_a_spy_where_nobody_may_listen_in_is_told_of_and_hung_up(answers: str, number: str, reason: Reason) -> None:
    floor = Floor()
    caller, callee = floor.call(answers, number)
    spy, done = floor.spy(callee)
    assert done == [ReportSpy(spy, tuple(sorted((caller, callee))), (reason,), True), HangUp(spy)]


@pytest.mark.parametrize("mode", [GuardMode.GUARD, GuardMode.OBSERVE])
def test_in_a_milder_mode_he_is_only_told_of(mode: GuardMode) -> None:
    floor = Floor(mode)
    _, callee = floor.call("PJSIP/701")
    spy, done = floor.spy(callee)
    assert [type(command) for command in done] == [ReportSpy]
    assert isinstance(done[0], ReportSpy)
    assert done[0].spy == spy
    assert not done[0].hung_up


def test_a_spy_on_an_own_conversation_is_left_alone_until_it_becomes_private() -> None:
    floor = Floor()
    caller, callee = floor.call()
    spy, done = floor.spy(callee)
    assert done == []
    assert [c for c in floor.feed([MarkedPrivate(caller)]) if isinstance(c, HangUp)] == [HangUp(spy)]


def test_what_was_told_is_not_told_again_but_a_further_reason_is() -> None:
    floor = Floor(GuardMode.GUARD)
    caller, callee = floor.call("PJSIP/701")
    spy, first = floor.spy(callee)
    assert len(first) == 1
    assert floor.feed([SpyStarted(spy, callee), BeatReturned(NOW), SpyStarted(spy, caller)]) == []
    (more,) = floor.feed([MarkedPrivate(caller)])
    assert isinstance(more, ReportSpy)
    assert more.reasons == (R.MARKED_PRIVATE, R.PRIVATE_PARTY)


def test_who_listens_in_before_they_talk_is_caught_when_they_do() -> None:
    floor = Floor()
    caller, facts = floor.world.incoming(told=Mode.NOTICE)
    floor.feed(facts)
    callee, facts = floor.world.dial(caller, "PJSIP/701")
    floor.feed(facts)
    spy, done = floor.spy(callee)
    assert done == []
    assert HangUp(spy) in floor.feed(floor.world.meet(caller, callee))


def test_nobody_who_talks_is_hung_up_even_if_he_spies_as_well() -> None:
    floor = Floor()
    caller, callee = floor.call("PJSIP/701")
    (told,) = floor.feed([SpyStarted(caller, callee)])
    assert isinstance(told, ReportSpy)
    assert not told.hung_up


def test_a_spy_of_whom_a_snapshot_only_guesses_is_told_of_and_not_hung_up() -> None:
    floor = Floor()
    _, callee = floor.call("PJSIP/701")
    spy, facts = floor.world.spy(callee)
    floor.feed([fact for fact in facts if not isinstance(fact, SpyStarted)])
    (told,) = floor.feed([SpyStarted(spy, callee, guessed=True)])
    assert isinstance(told, ReportSpy)
    assert not told.hung_up


def test_who_stops_and_listens_in_again_is_told_of_again() -> None:
    floor = Floor(GuardMode.GUARD)
    _, callee = floor.call("PJSIP/701")
    spy, _ = floor.spy(callee)
    assert len(floor.feed([SpyStopped(spy, callee), SpyStarted(spy, callee)])) == 1


def test_a_spy_who_is_gone_or_while_everything_is_off_is_no_news() -> None:
    floor = Floor()
    caller, callee = floor.call()
    spy, _ = floor.spy(callee)
    floor.feed([SpyStopped(spy, callee)])
    assert floor.feed([MarkedPrivate(caller)]) == []
    floor.feed([SwitchedOff()])
    assert floor.spy(callee)[1] == []
