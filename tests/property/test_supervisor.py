"""The supervisor before the oracle: ready-made situations, and any order, doubling and loss of facts upon them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pbxguard.core.errors import ImpossibleCommand
from pbxguard.core.facts import (
    AuditHealthy,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelNumberChanged,
    ChannelRenamed,
    ConnectionLost,
    Consented,
    DialEnded,
    DigitPressed,
    DisclosureBegun,
    DisclosureNotHeard,
    Fact,
    HangupRequested,
    Held,
    InCall,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    Paused,
    PictureSeen,
    PurposeBegun,
    RecorderSeen,
    RecorderStopSeen,
    Requested,
    Resumed,
    SnapshotTaken,
    SpoolHasRoom,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
    TransferredIntoApp,
    Unheld,
    WhisperEnded,
)
from pbxguard.core.ids import BridgeId, Uniqueid
from pbxguard.core.permit import Permit
from pbxguard.core.purposes import Direction, Mode

from . import scenarios
from .incidents import SITUATIONS
from .oracle import kind_of
from .trial import Trial
from .world import DE_NUMBER, DID, DID_SCOPE, FORBIDDEN, MIFID, NL_NUMBER, NL_OTHER, PROOF, SALES, TRAINING

FATES = st.sampled_from(["now"] * 9 + ["twice", "lost", "late"])
PURPOSES = st.sampled_from([(PROOF,), (PROOF,), (PROOF, TRAINING), (PROOF, MIFID), (TRAINING,), (SALES,), ()])
NUMBERS = st.sampled_from([NL_NUMBER, NL_NUMBER, NL_OTHER, "0612345678", "", DE_NUMBER, FORBIDDEN])
TOLD = st.sampled_from([Mode.NOTICE, Mode.NOTICE, Mode.OPT_OUT, Mode.OPT_IN, None])
AGENTS = st.sampled_from(["PJSIP/101", "PJSIP/102", "PJSIP/103"])
NAMES = st.sampled_from(["PJSIP/101", "PJSIP/trunk-c", "PJSIP/701", "PJSIP/tenant-x", "SIP/who", "CBAnn/1", "Snoop/9"])


class Exchange(RuleBasedStateMachine):
    """People call, talk, transfer, spy; facts get lost, doubled, late; pbxguard is restarted; the oracle watches."""

    def __init__(self) -> None:
        super().__init__()
        self.trial = Trial()
        self.late: list[Fact] = []

    # -- how facts arrive --------------------------------------------------------------------------------------------

    def send(self, facts: list[Fact], fate: str = "now", which: int = 0) -> None:
        """All arrive in order, but one of them (`which`) meets its fate."""
        for index, fact in enumerate(facts):
            if index != which % len(facts) or fate == "now":
                self.trial.feed(fact)
            elif fate == "twice":
                self.trial.feed(fact, fact)
            elif fate == "late":
                self.late.append(fact)

    def pick(self, number: int) -> Uniqueid:
        channels = list(self.trial.world.lines)
        return channels[number % len(channels)] if channels else Uniqueid("nobody")

    def bridge(self, number: int) -> BridgeId | None:
        bridges = list(self.trial.world.bridges)
        return bridges[number % len(bridges)] if bridges else None

    @rule(number=st.integers(0, 50))
    @precondition(lambda self: self.late)
    def late_fact(self, number: int) -> None:
        self.trial.feed(self.late.pop(number % len(self.late)))

    @rule(number=st.integers(0, 500))
    def said_again(self, number: int) -> None:
        facts = [f for f in self.trial.history[-40:] if not isinstance(f, SnapshotTaken | PictureSeen)]
        if facts:
            self.trial.feed(facts[number % len(facts)])

    # -- ready-made situations ---------------------------------------------------------------------------------------

    @initialize(agent=AGENTS, way=st.sampled_from(["in", "out", "queue", "nothing"]), tell=st.booleans())
    def begin(self, agent: str, way: str, tell: bool) -> None:
        self.trial.tell_joiners(tell)
        match way:
            case "in":
                scenarios.inbound(self.trial, agent=agent)
            case "out":
                scenarios.outbound(self.trial, agent=agent)
            case "queue":
                scenarios.queue_with_local(self.trial)

    @rule(purposes=PURPOSES, number=NUMBERS, told=TOLD, agent=AGENTS, exten=st.sampled_from([DID] * 4 + [DID_SCOPE]))
    @precondition(lambda self: len(self.trial.world.lines) < 12)
    def call_in(self, purposes: Any, number: str, told: Mode | None, agent: str, exten: str) -> None:
        scenarios.inbound(self.trial, purposes, number, exten, told, agent)

    @rule(purposes=PURPOSES, number=st.sampled_from([NL_NUMBER, DE_NUMBER, FORBIDDEN]), told=TOLD, agent=AGENTS)
    @precondition(lambda self: len(self.trial.world.lines) < 12)
    def call_out(self, purposes: Any, number: str, told: Mode | None, agent: str) -> None:
        scenarios.outbound(self.trial, purposes, number, told if purposes else None, agent)

    @rule(ends=st.booleans())
    @precondition(lambda self: len(self.trial.world.lines) < 12)
    def call_queue(self, ends: bool) -> None:
        scenarios.queue_with_local(self.trial, ends=ends)

    @rule()
    @precondition(lambda self: len(self.trial.world.lines) < 12)
    def transfer(self) -> None:
        scenarios.attended_transfer(self.trial)

    @rule(fate=FATES, which=st.integers(0, 5), caller=st.integers(0, 20), name=NAMES, answered=st.booleans())
    @precondition(lambda self: len(self.trial.world.lines) < 12)
    def somebody_is_dialled(self, fate: str, which: int, caller: int, name: str, answered: bool) -> None:
        _, facts = self.trial.world.dial(self.pick(caller), name, NL_OTHER, answered=answered)
        self.send(facts, fate, which)

    # -- what channels do --------------------------------------------------------------------------------------------

    @rule(fate=FATES, which=st.integers(0, 3), channel=st.integers(0, 20), bridge=st.integers(0, 9))
    def joins(self, fate: str, which: int, channel: int, bridge: int) -> None:
        where, who = self.bridge(bridge), self.pick(channel)
        if where is not None and who in self.trial.world.lines:
            self.send(self.trial.world.enter(where, who), fate, which)

    @rule(fate=FATES, one=st.integers(0, 20), two=st.integers(0, 20), holding=st.booleans())
    def meet(self, fate: str, one: int, two: int, holding: bool) -> None:
        who = {self.pick(one), self.pick(two)} & set(self.trial.world.lines)
        technology = "holding_bridge" if holding else "simple_bridge"
        self.send(self.trial.world.meet(*sorted(who), technology=technology), fate, one)

    @rule(fate=FATES, channel=st.integers(0, 20))
    def leaves(self, fate: str, channel: int) -> None:
        who = self.pick(channel)
        if who in self.trial.world.lines and (facts := self.trial.world.leave(who)):
            self.send(facts, fate)

    @rule(fate=FATES, which=st.integers(0, 1), channel=st.integers(0, 20))
    def hangs_up(self, fate: str, which: int, channel: int) -> None:
        who = self.pick(channel)
        if who in self.trial.world.lines:
            self.send(self.trial.world.hang_up(who), fate, which)

    @rule(fate=FATES, channel=st.integers(0, 20), by=st.integers(0, 20), looked=st.booleans())
    def is_replaced_unseen(self, fate: str, channel: int, by: int, looked: bool) -> None:
        """By masquerade; mostly the lists tell it a moment later."""
        who, other = self.pick(channel), self.pick(by)
        if who != other and who in self.trial.world.lines:
            self.send(self.trial.world.replace(who, other), fate, channel)
            if looked:
                self.trial.wait(0.1)
                self.trial.look()
                self.snapshot()

    @rule(fate=FATES, channel=st.integers(0, 20))
    def answers(self, fate: str, channel: int) -> None:
        who = self.pick(channel)
        if who in self.trial.world.lines:
            self.send(self.trial.world.up(who), fate)

    @rule(fate=FATES, one=st.integers(0, 9), two=st.integers(0, 9))
    def bridges_merge(self, fate: str, one: int, two: int) -> None:
        into, gone = self.bridge(one), self.bridge(two)
        if into is not None and gone is not None and into != gone:
            self.send(self.trial.world.merge(into, gone), fate, one)

    @rule(fate=FATES, bridge=st.integers(0, 9))
    def bridge_goes(self, fate: str, bridge: int) -> None:
        if (where := self.bridge(bridge)) is not None:
            self.send(self.trial.world.destroy(where), fate)

    @rule(fate=FATES, channel=st.integers(0, 20))
    def spied_on(self, fate: str, channel: int) -> None:
        who = self.pick(channel)
        if who in self.trial.world.lines:
            _, facts = self.trial.world.spy(who)
            self.send(facts, fate, 1)

    @rule(fate=FATES, channel=st.integers(0, 20), which=st.integers(0, 2))
    def whispered_to(self, fate: str, channel: int, which: int) -> None:
        who = self.pick(channel)
        if who in self.trial.world.lines:
            _, facts = self.trial.world.whisper(who)
            self.send(facts, fate, which)

    @rule(number=st.integers(0, 9))
    def whisper_ends(self, number: int) -> None:
        if spies := self.trial.world.spies:
            self.trial.feed(WhisperEnded(spies[number % len(spies)].spy))

    @rule(number=st.integers(0, 9))
    def spy_goes(self, number: int) -> None:
        if spies := self.trial.world.spies:
            gone = spies.pop(number % len(spies))
            self.trial.feed(SpyStopped(gone.spy, gone.spied))

    @rule(channel=st.integers(0, 20), name=st.sampled_from(["PJSIP/102", "PJSIP/trunk-a", "PJSIP/x<ZOMBIE>"]))
    def renamed(self, channel: int, name: str) -> None:
        who = self.pick(channel)
        if who not in self.trial.world.lines:
            return
        kinds = {kind_of(self.trial.world.lines[who].name), kind_of(f"{name}-1")}
        if len(kinds) == 1 or kinds in ({"own", "unknown"}, {"unknown", "external"}):
            full = f"{name}-{who.partition('.')[2]}"
            self.trial.world.lines[who].name = full
            self.trial.feed(ChannelRenamed(who, full))

    @rule(fate=FATES, one=st.integers(0, 20), two=st.integers(0, 20))
    def transferred_into_app(self, fate: str, one: int, two: int) -> None:
        self.send([TransferredIntoApp(self.pick(one), self.pick(two))], fate)

    @rule(one=st.integers(0, 20), two=st.integers(0, 20), begins=st.booleans())
    def optimisation(self, one: int, two: int, begins: bool) -> None:
        make = LocalOptimizationBegun if begins else LocalOptimizationEnded
        self.trial.feed(make(self.pick(one), self.pick(two)))

    # -- what people say and press -----------------------------------------------------------------------------------

    @rule(
        channel=st.integers(0, 20),
        make=st.sampled_from(
            [
                Held,
                Unheld,
                Unheld,
                MarkedPrivate,
                Paused,
                Resumed,
                Resumed,
                Objected,
                lambda c: Objected(c, (TRAINING,)),
                lambda c: Objected(c, (PROOF,)),
                lambda c: Consented(c, (PROOF, TRAINING)),
                lambda c: Consented(c, (PROOF,)),
                lambda c: ChannelNumberChanged(c, NL_OTHER),
                lambda c: ChannelNumberChanged(c, NL_NUMBER),
                lambda c: ChannelNumberChanged(c, ""),
                lambda c: ChannelNumberChanged(c, "101"),
                lambda c: DisclosureNotHeard(c, None, "prompt_cut"),
                *[partial(lambda what, c: Requested(c, what), what) for what in InCall],
                HangupRequested,
                DisclosureBegun,
                RecorderSeen,
                lambda c: DigitPressed(c, "9"),
                lambda c: DialEnded(c, c, "ANSWER"),
                lambda c: CalleePromptBegun(c, "notice", 0, 0, 0.0),
                lambda c: CalleePromptEnded(c, "notice", "SUCCESS", 9, 9, "", 0.0),
                lambda c: CalleePromptEnded(c, "notice", "FAILED", 9, 9, "", 0.0),
            ]
        ),
        fate=FATES,
    )
    def says(self, channel: int, make: Callable[[Uniqueid], Fact], fate: str) -> None:
        who = self.pick(channel)
        fact = make(who)
        if isinstance(fact, ChannelNumberChanged) and who in self.trial.world.lines and fact.caller_number:
            self.trial.world.lines[who].number = fact.caller_number
        self.send([fact], fate)

    @rule(channel=st.integers(0, 20), purposes=PURPOSES.filter(bool), mode=TOLD.filter(bool), fate=FATES)
    def hears(self, channel: int, purposes: Any, mode: Mode, fate: str) -> None:
        self.send([self.trial.world.hears(self.pick(channel), purposes, mode)], fate)

    @rule(number=st.integers(0, 9), heard=st.sampled_from([True, True, False]), agrees=st.booleans())
    @precondition(lambda self: self.trial.whispers)
    def a_whisper_ends(self, number: int, heard: bool, agrees: bool) -> None:
        whispers = list(self.trial.whispers)
        self.trial.whispered(whispers[number % len(whispers)], heard=heard, agrees=agrees)

    @rule(channel=st.integers(0, 20), purposes=PURPOSES.filter(bool), fate=FATES)
    def one_of_us_begins_a_purpose(self, channel: int, purposes: Any, fate: str) -> None:
        self.send([PurposeBegun(self.pick(channel), purposes, Uniqueid("one.of.us"))], fate)

    @rule()
    def nobody_holds(self) -> None:
        for channel in list(self.trial.world.lines):
            self.trial.feed(Unheld(channel))

    # -- what becomes of us ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.12, 0.3, 1.0, 2.5]), beats=st.sampled_from([True, True, False]))
    def time_passes(self, seconds: float, beats: bool) -> None:
        self.trial.wait(seconds, beats=beats)

    @rule(
        fact=st.sampled_from(
            [
                AuditHealthy(False),
                AuditHealthy(True),
                SpoolHasRoom(False),
                SpoolHasRoom(True),
                SwitchedOff(),
                SwitchedOn(),
                ConnectionLost(),
            ]
        )
    )
    def health(self, fact: Fact) -> None:
        self.trial.feed(fact)

    @rule()
    def all_well(self) -> None:
        self.trial.feed(AuditHealthy(True), SpoolHasRoom(True), SwitchedOn())
        self.trial.beat()

    @rule()
    def snapshot(self) -> None:
        self.late.clear()
        self.trial.feed(self.trial.world.snapshot())
        self.trial.beat()

    @rule(seconds=st.sampled_from([1.0, 20.0]))
    def restart(self, seconds: float) -> None:
        self.late.clear()
        self.trial.restart(seconds=seconds)

    @rule(number=st.integers(0, 9))
    def start_fails(self, number: int) -> None:
        if self.trial.wanted:
            self.trial.fail_start(list(self.trial.wanted)[number % len(self.trial.wanted)])

    @rule(number=st.integers(0, 9), ran=st.booleans())
    def segment_closes(self, number: int, ran: bool) -> None:
        segments = [*self.trial.stopped, *self.trial.wanted]
        if segments:
            self.trial.close(segments[number % len(segments)], ran=ran)

    @rule(number=st.integers(0, 9), channel=st.integers(0, 20))
    def recorder_stop_is_seen(self, number: int, channel: int) -> None:
        legs = [s.leg for s in self.trial.wanted.values()] + [s.leg for s in self.trial.stopped.values()]
        self.trial.feed(RecorderStopSeen(legs[number % len(legs)] if legs else self.pick(channel)))

    @rule(times=st.integers(1, 2), restless=st.sampled_from([False, False, True]), channel=st.integers(0, 20))
    def picture_is_looked_at(self, times: int, restless: bool, channel: int) -> None:
        for _ in range(times):
            self.trial.look(*([self.pick(channel)] if restless else []))

    @rule(observe=st.sampled_from([False, False, True]), listen_only=st.booleans())
    def policy_is_reloaded(self, observe: bool, listen_only: bool) -> None:
        self.trial.reload(observe=observe, listen_only=listen_only)

    def teardown(self) -> None:
        self.trial.finish()


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_the_oracle_agrees_in_every_ready_made_situation(situation: Callable[[Trial], None]) -> None:
    trial = Trial()
    situation(trial)
    trial.finish()


EXAMPLES = int(os.environ.get("PBXGUARD_EXAMPLES", "150"))
CI = os.environ.get("CI", "").lower() in ("1", "true")


def test_the_oracle_agrees_whatever_is_lost_doubled_late_or_restarted() -> None:
    run_state_machine_as_test(
        Exchange,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=CI,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nobody_but_decide_makes_a_permit() -> None:
    with pytest.raises(ImpossibleCommand):
        Permit(Uniqueid("1.1"), (PROOF,), Direction.INBOUND, Uniqueid("1.2"), ())
    with pytest.raises(ImpossibleCommand):
        Permit(Uniqueid("1.1"), (PROOF,), Direction.INBOUND, Uniqueid("1.2"), (), object())


def test_every_fact_that_there_is_takes_part_in_a_ready_made_situation() -> None:
    met: set[type] = set()
    for situation in SITUATIONS:
        trial = Trial()
        situation(trial)
        trial.finish()
        met |= {type(fact) for fact in trial.history}
    assert met == set(get_args(Fact))
