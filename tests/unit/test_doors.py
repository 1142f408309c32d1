"""The doors' order of things: what opens is written down first, what closes is told first, and the call goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from pbxguard.core.announcement import Outcome, Result, Timing
from pbxguard.core.errors import ActionRefused, AuditFailed, ConnectionFailed
from pbxguard.core.facts import (
    CalleePromptBegun,
    CalleePromptEnded,
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    Objected,
    ObjectionBinds,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.memory import Notes
from pbxguard.core.policy import GuardMode, Policy, Scope
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, Purpose
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry
from pbxguard.core.remembered import Remembered, entry_of, fact_of
from pbxguard.core.request import INVALID, parse_request
from pbxguard.service.clock import SystemClock
from pbxguard.service.doors import COUNTED, CalleeDoor, CallerDoor, Heartbeats, Listener, Surroundings

HIM = Uniqueid("1700000000.1")
PROOF = PurposeName("contract_evidence")


def disclosure(direction: Direction, mode: Mode = Mode.NOTICE) -> Disclosure:
    return Disclosure(DisclosureKey.of((PROOF,), "nl", mode, direction), "t", "digest", "/n", 3000)


POLICY = Policy(
    "Acme",
    mode=GuardMode.GUARD,
    purposes={PROOF: Purpose(PROOF, Basis.LEGITIMATE_INTEREST, active=True)},
    disclosures={
        d.key: d
        for d in (
            disclosure(Direction.INBOUND),
            disclosure(Direction.OUTBOUND),
            disclosure(Direction.INBOUND, Mode.OPT_IN),
        )
    },
)
TOLD = Outcome(Result.DISCLOSED, (), heard=True, ended_at=1_795_557_854.79)


@dataclass
class World:
    """Everything around the doors; `done` lists what was written down and what the core was told, in order."""

    policy: Policy = POLICY
    closed: tuple[Reason, ...] = ()
    notes: Notes = field(default_factory=Notes)
    place: tuple[str, str] | None = None
    deaf: Reason | None = None
    audit_fails: bool = False
    audit_takes: float = 0.0
    done: list[object] = field(default_factory=list)

    async def put(self, fact: Fact) -> None:
        self.done.append(fact)

    async def commit(self, *entries: AuditEntry) -> None:
        await asyncio.sleep(self.audit_takes)
        if self.audit_fails:
            raise AuditFailed("disk full")
        self.done += [entry.kind for entry in entries]

    def around(self) -> Surroundings:
        return Surroundings(
            policy=lambda: self.policy,
            closed=lambda: self.closed,
            notes=lambda channel: self.notes,
            place=lambda channel: self.place,
            deaf=lambda channel: self.deaf,
            facts=self,
            audit=self,  # type: ignore[arg-type]  # writes only
            clock=SystemClock(),
            boot=lambda: "boot",
        )

    def facts(self, kind: type) -> list[object]:
        return [fact for fact in self.done if isinstance(fact, kind)]


@dataclass
class FakeVisit:
    """A visit that comes to `outcome`, perhaps after a 9."""

    outcome: Outcome = TOLD
    nine: bool = False
    caller_number: str = "+31612345678"
    arguments: tuple[str, ...] = ("contract_evidence", "language=nl")
    channel: Uniqueid = HIM
    played: list[Disclosure] = field(default_factory=list)
    left: list[tuple[Result, tuple[Reason, ...]]] = field(default_factory=list)
    gone_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def announce(
        self, disclosure: Disclosure, timing: Timing, listener: Listener, *, goes_on: bool = False
    ) -> Outcome:
        self.played.append(disclosure)
        if self.nine:
            await listener.objected()
        other = await listener.concluded(self.outcome)
        if other is not None:
            self.left.append(other)
        self.gone_on.set()
        return self.outcome

    async def leave(self, result: Result, reasons: tuple[Reason, ...]) -> bool:
        self.left.append((result, reasons))
        self.gone_on.set()
        return True


async def test_heard_is_in_the_audit_log_before_the_core_hears_of_it() -> None:
    world = World()
    await CallerDoor(world.around())(FakeVisit())
    heard = world.facts(DisclosureHeard)
    assert heard == [DisclosureHeard(HIM, disclosure(Direction.INBOUND).key, "digest", "2026-11-24T22:04:14.790Z")]
    assert world.done.index("disclosure.heard") < world.done.index(heard[0])


async def test_consent_too() -> None:
    world = World()
    await CallerDoor(world.around())(FakeVisit(replace(TOLD, result=Result.CONSENTED, consented=True)))
    consented = world.facts(Consented)
    assert consented == [Consented(HIM, (PROOF,))]
    assert world.done.index("consented") < world.done.index(consented[0])


async def test_an_objection_is_told_to_the_core_before_the_audit_log() -> None:
    world = World()
    outcome = Outcome(Result.OBJECTED, (Reason.OBJECTED, Reason.PROMPT_CUT), objected=True)
    await CallerDoor(world.around())(FakeVisit(outcome, nine=True))
    assert world.facts(Objected) == [Objected(HIM, (PROOF,))]
    assert world.done.index(Objected(HIM, (PROOF,))) < world.done.index("objected")
    assert not world.facts(DisclosureHeard)


async def test_when_the_audit_log_fails_the_caller_counts_as_untold_and_the_call_goes_on() -> None:
    world = World(audit_fails=True)
    visit = FakeVisit()
    await CallerDoor(world.around())(visit)
    assert visit.left == [(Result.FAILED, (Reason.AUDIT_UNHEALTHY,))]
    assert not world.facts(DisclosureHeard)
    untold = world.facts(DisclosureNotHeard)
    assert untold == [DisclosureNotHeard(HIM, disclosure(Direction.INBOUND).key, "audit_unhealthy")]


async def test_a_slow_audit_log_does_not_hold_up_the_call() -> None:
    world = World(audit_takes=0.5)
    visit = FakeVisit()
    door = asyncio.create_task(CallerDoor(world.around())(visit))
    await visit.gone_on.wait()
    assert not world.facts(DisclosureHeard)
    await door
    assert world.facts(DisclosureHeard)


async def test_a_prompt_not_heard_is_a_fact_with_its_reason() -> None:
    world = World()
    await CallerDoor(world.around())(FakeVisit(Outcome(Result.FAILED, (Reason.PROMPT_CUT,))))
    assert world.facts(DisclosureNotHeard) == [DisclosureNotHeard(HIM, disclosure(Direction.INBOUND).key, "prompt_cut")]
    assert "disclosure.not_heard" in world.done


HOLDS = [Reason.PROMPT_ON_HOLD, Reason.HOLD_UNKNOWN]


@pytest.mark.parametrize("deaf", HOLDS)
async def test_a_caller_who_comes_on_hold_or_may_be_is_played_nothing_and_is_untold(deaf: Reason) -> None:
    world, visit = World(deaf=deaf), FakeVisit()
    await CallerDoor(world.around())(visit)
    assert (visit.left, visit.played) == ([(Result.FAILED, (deaf,))], [])
    untold = DisclosureNotHeard(HIM, disclosure(Direction.INBOUND).key, deaf.value)
    assert world.facts(DisclosureNotHeard) == [untold]
    assert "disclosure.not_heard" in world.done


@pytest.mark.parametrize(
    ("world", "arguments", "left"),
    [
        (World(closed=(Reason.SWITCHED_OFF,)), ("contract_evidence",), (Result.OFF, (Reason.SWITCHED_OFF,))),
        (World(closed=(Reason.SPOOL_FULL,)), ("contract_evidence",), (Result.REFUSED, (Reason.SPOOL_FULL,))),
        (
            World(policy=replace(POLICY, mode=GuardMode.OBSERVE)),
            ("contract_evidence",),
            (Result.OFF, (Reason.OBSERVE_MODE,)),
        ),
        (
            World(
                policy=replace(POLICY, scopes=(Scope(GuardMode.OBSERVE, did="31201234100"),)),
                place=("31201234100", "from-trunk"),
            ),
            ("contract_evidence",),
            (Result.OFF, (Reason.OBSERVE_MODE,)),
        ),
        (World(), ("contract_evidence", "private=yes"), (Result.REFUSED, (Reason.MARKED_PRIVATE,))),
        (World(), ("marketing",), (Result.REFUSED, (Reason.PURPOSE_UNKNOWN,))),
        (World(notes=Notes(objected_to_all=True)), ("contract_evidence",), (Result.OBJECTED, (Reason.OBJECTED,))),
    ],
)
async def test_where_nothing_is_due_nothing_is_played_and_the_reason_is_set(
    world: World, arguments: tuple[str, ...], left: tuple[Result, tuple[Reason, ...]]
) -> None:
    visit = FakeVisit(arguments=arguments)
    await CallerDoor(world.around())(visit)
    assert (visit.left, visit.played) == ([left], [])
    assert world.facts(DisclosureRequested)


async def test_a_caller_from_germany_is_asked_for_a_key() -> None:
    visit = FakeVisit(caller_number="+4930123456")
    await CallerDoor(World().around())(visit)
    assert visit.played[0].key.mode is Mode.OPT_IN


async def test_what_was_told_once_in_a_call_is_not_told_again() -> None:
    heard = DisclosureHeard(HIM, disclosure(Direction.INBOUND).key, "digest", "x")
    visit = FakeVisit()
    await CallerDoor(World(notes=Notes(heard=[heard])).around())(visit)
    assert (visit.left, visit.played) == ([(Result.DISCLOSED, ())], [])


# -- the callee's door


@dataclass
class FakeRequest:
    uniqueid: str = HIM
    arguments: tuple[str, ...] = ("contract_evidence", "0612345678", "context=internal", "language=nl")


@dataclass
class FakeSession:
    request: FakeRequest = field(default_factory=FakeRequest)
    variables: dict[str, str] = field(default_factory=dict)

    async def set_variable(self, name: str, value: str) -> None:
        self.variables[name] = value


@dataclass
class FakeCounters:
    """Of a channel to which five packets of 20 ms are sent between the first reading and the last."""

    fails: tuple[int, ...] = ()
    asked: int = 0

    async def __call__(self, channel: Uniqueid) -> tuple[int, int]:
        self.asked += 1
        if self.asked - 1 in self.fails:
            raise ConnectionFailed("ari", "none")
        packets = (0, 3, 4)[self.asked - 1]
        return packets, packets * 160


async def test_the_agents_channel_learns_what_his_callee_is_to_be_told() -> None:
    world, session = World(), FakeSession()
    await CalleeDoor(world.around(), FakeCounters()).answer(session)
    assert session.variables["__PBXGUARD_PROMPT"] == "contract_evidence.nl.notice.outbound"
    assert session.variables["__PBXGUARD_NOTICE"] == "/n"
    asked = world.facts(DisclosureRequested)[0]
    assert isinstance(asked, DisclosureRequested)
    assert asked.for_callee


async def test_a_callee_on_the_never_record_list_is_told_nothing() -> None:
    world = World(policy=replace(POLICY, never_record=frozenset({"113"})))
    session = FakeSession(FakeRequest(arguments=("contract_evidence", "113")))
    await CalleeDoor(world.around(), FakeCounters()).answer(session)
    assert session.variables == {"PBXGUARD_REASON": "never_record", "PBXGUARD_RESULT": "REFUSED"}


SHORT = replace(disclosure(Direction.OUTBOUND), notice_ms=100)
BEGUN = CalleePromptBegun(HIM, str(SHORT.key), 0, 5, 10.0, "(alaw)")
ENDED = CalleePromptEnded(HIM, str(SHORT.key), "SUCCESS", 5, 10, "", 10.1)


async def observed(world: World, counters: FakeCounters, until: Callable[[], object]) -> None:
    """A whole prompt, whose end comes once everything was counted."""
    world.policy = replace(POLICY, disclosures={SHORT.key: SHORT})
    door = CalleeDoor(world.around(), counters)
    running = asyncio.create_task(door.run())
    await asyncio.sleep(0)
    door.observe(BEGUN)
    async with asyncio.timeout(3):
        while counters.asked < len(COUNTED):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        door.observe(ENDED)
        while not until():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_asterisk_played_whole_to_the_callee_is_heard_after_the_audit_log_has_it() -> None:
    world = World()
    await observed(world, FakeCounters(), until=lambda: world.facts(DisclosureHeard))
    assert world.done.index("disclosure.heard") < world.done.index(world.facts(DisclosureHeard)[0])


@pytest.mark.parametrize("deaf", HOLDS)
async def test_a_callee_whose_prompt_begins_on_hold_or_may_is_untold(deaf: Reason) -> None:
    world = World(deaf=deaf)
    await observed(world, FakeCounters(), until=lambda: world.facts(DisclosureNotHeard))
    assert world.facts(DisclosureNotHeard) == [DisclosureNotHeard(HIM, SHORT.key, deaf.value)]
    assert not world.facts(DisclosureHeard)


async def test_with_a_broken_audit_log_the_callee_is_untold() -> None:
    world = World(audit_fails=True)
    await observed(world, FakeCounters(), until=lambda: world.facts(DisclosureNotHeard))
    assert not world.facts(DisclosureHeard)


@pytest.mark.parametrize(("fails", "told"), [((1,), True), ((2,), True), ((0,), False), ((1, 2), False)])
async def test_a_callee_is_told_when_two_counts_the_first_among_them_were_had(
    fails: tuple[int, ...], told: bool
) -> None:
    world = World()
    kind = DisclosureHeard if told else DisclosureNotHeard
    await observed(world, FakeCounters(fails), until=lambda: world.facts(kind))
    assert bool(world.facts(DisclosureHeard)) is told


# -- heartbeats


@dataclass
class FakePbx:
    globals: list[tuple[str, str]] = field(default_factory=list)

    async def set_global(self, name: str, value: str) -> None:
        self.globals.append((name, value))


async def test_a_door_beats_only_after_its_own_round_trip() -> None:
    pbx = FakePbx()

    async def works() -> None:
        pass

    async def fails() -> None:
        raise ConnectionFailed("agi", "no answer")

    async def refused() -> None:
        raise ActionRefused("500")

    beats = Heartbeats(pbx, SystemClock(), {"A": works, "B": fails, "C": refused})  # type: ignore[arg-type]
    running = asyncio.create_task(beats.run())
    async with asyncio.timeout(3):
        while not pbx.globals:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert {name for name, _ in pbx.globals} == {"A"}
    assert pbx.globals[0][1].isdigit()


# -- what the dialplan asks, and what a restart remembers


def test_the_dialplans_arguments_are_read() -> None:
    request = parse_request(("contract_evidence&quality_training", "did=3120", "language=NL", "reference=K 1", "x"))
    assert request.purposes == (PROOF, PurposeName("quality_training"))
    assert (request.language, request.reference, request.did, request.private) == ("nl", "K 1", "3120", False)


@pytest.mark.parametrize(
    "arguments", [(), ("",), ("&&",), ("a" * 100,), ("../../x", "reference=a\r\nX: y", "did=${SHELL(x)}", "=", "==")]
)
def test_hostile_arguments_are_data(arguments: tuple[str, ...]) -> None:
    request = parse_request(arguments)
    assert set(request.purposes) <= {INVALID}
    assert (request.reference, request.did) == ("", "")


async def test_a_queue_that_the_dialplan_names_has_its_own_mode() -> None:
    world = World(policy=replace(POLICY, mode=GuardMode.OBSERVE, scopes=(Scope(GuardMode.GUARD, queue="sales"),)))
    sales = FakeVisit(arguments=("contract_evidence", "queue=sales"))
    await CallerDoor(world.around())(sales)
    assert len(sales.played) == 1
    support = FakeVisit(arguments=("contract_evidence", "queue=support"))
    await CallerDoor(world.around())(support)
    assert support.left == [(Result.OFF, (Reason.OBSERVE_MODE,))]


def test_of_a_key_given_twice_the_first_counts() -> None:
    assert parse_request(("a", "language=nl", "language=en")).language == "nl"


def test_a_language_that_cannot_be_read_is_not_the_default_one() -> None:
    assert parse_request(("a", "language=klingon!")).language not in ("", "nl", "en")


@pytest.mark.parametrize(
    "fact",
    [
        DisclosureRequested(HIM, (PROOF,), "nl", for_callee=True, private=True),
        DisclosureHeard(HIM, disclosure(Direction.INBOUND).key, "digest", "2026-01-01T00:00:00Z"),
        DisclosureNotHeard(HIM, disclosure(Direction.INBOUND).key, "prompt_cut"),
        DisclosureNotHeard(HIM, None, "prompt_failed"),
        Objected(HIM, (PROOF,)),
        ObjectionBinds(HIM, Uniqueid("1.9"), (PROOF,)),
        Consented(HIM, (PROOF,)),
    ],
)
def test_what_was_written_down_is_remembered_as_it_was(fact: Remembered) -> None:
    assert fact_of(entry_of(fact, datetime.now(UTC), "boot")) == fact


def test_no_audit_line_holds_a_reference() -> None:
    asked = DisclosureRequested(HIM, (PROOF,), "nl", reference="K-1")
    entry = entry_of(asked, datetime.now(UTC), "boot")
    assert "K-1" not in str(entry)
    assert fact_of(entry) == replace(asked, reference="")


@pytest.mark.parametrize("data", [None, {}, {"disclosure": "x"}, {"purposes": None}])
def test_a_line_that_cannot_be_read_is_no_fact(data: dict[str, object] | None) -> None:
    for kind in ("disclosure.heard", "objected", "segment.permitted"):
        assert fact_of(AuditEntry(kind, datetime.now(UTC), channel=HIM, data=data)) is None
