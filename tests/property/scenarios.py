"""Ready-made situations, each driven through one trial: the oracle judges every step of them.

They lead the state machine to where recorders run, and they are the fixed part of the suite by which
`test_reasons_matter` shows that no row of the permit is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pbxguard.core.facts import (
    AuditHealthy,
    BridgeLeft,
    ChannelNumberChanged,
    ChannelState,
    ConnectionLost,
    Consented,
    DisclosureHeard,
    DisclosureRequested,
    Held,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    Paused,
    Resumed,
    SpoolHasRoom,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
    TransferredIntoApp,
    Unheld,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.permit import Refusal
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import Reason

from .trial import Trial
from .world import (
    CONSENTING,
    DE_NUMBER,
    DID,
    DID_SCOPE,
    DRAFT,
    FORBIDDEN,
    MIFID,
    NL_NUMBER,
    NL_OTHER,
    PROOF,
    SALES,
    SLEEPING,
    STRANGE,
    TRAINING,
    disclosure_key,
)

Pair = tuple[Uniqueid, Uniqueid]


def inbound(
    trial: Trial,
    purposes: Sequence[PurposeName] = (PROOF,),
    number: str = NL_NUMBER,
    exten: str = DID,
    told: Mode | None = Mode.NOTICE,
    agent: str = "PJSIP/101",
) -> Pair:
    """An outside caller, told, bridged with an agent: (caller, agent)."""
    caller, facts = trial.world.incoming(purposes, number, exten, told)
    trial.play(facts)
    leg, facts = trial.world.dial(caller, agent)
    trial.play(facts)
    trial.play(trial.world.meet(caller, leg))
    return caller, leg


def outbound(
    trial: Trial,
    purposes: Sequence[PurposeName] = (PROOF,),
    number: str = NL_NUMBER,
    told: Mode | None = Mode.NOTICE,
    agent: str = "PJSIP/102",
) -> Pair:
    """An agent calls out; the callee is told before the bridge: (callee, agent)."""
    world = trial.world
    leg, created = world.create(agent, ChannelState.RING, "102", number.replace("+31", "0"))
    trial.feed(created, DisclosureRequested(leg, tuple(purposes), "nl", for_callee=True))
    callee, facts = world.dial(leg, "PJSIP/trunk-b", number)
    trial.play([*facts, *world.up(leg)])
    if told is not None:
        trial.feed(world.hears(callee, purposes, told))
    trial.play(world.meet(leg, callee))
    return callee, leg


def queue_with_local(trial: Trial, *, ends: bool = True) -> Pair:
    """A queue member behind a Local channel, optimised away after the bridges stand."""
    world = trial.world
    caller, facts = world.incoming()
    trial.play(facts)
    one, two, facts = world.local(caller)
    trial.play(facts)
    leg, facts = world.dial(two, "PJSIP/103")
    trial.play([*facts, *world.meet(two, leg), *world.meet(caller, one)])
    trial.play(world.optimise(leg, one, two, ends=ends))
    return caller, leg


def plain_inbound(trial: Trial) -> None:
    inbound(trial)
    assert trial.wanted


def plain_outbound(trial: Trial) -> None:
    outbound(trial)
    assert trial.wanted


def local_pair(trial: Trial) -> None:
    caller, leg = queue_with_local(trial)
    assert trial.wanted
    trial.play([*trial.world.leave(caller), *trial.world.hang_up(leg)])


def change_half_done(trial: Trial) -> None:
    one, leg = inbound(trial)
    assert trial.wanted
    before = trial.supervisor.running.copy()
    trial.feed(LocalOptimizationBegun(one, leg))
    trial.wait(0.05)
    assert trial.supervisor.running == before
    trial.wait(0.1)
    assert not trial.wanted
    trial.feed(LocalOptimizationEnded(one, leg))
    assert trial.wanted


def change_never_ends(trial: Trial) -> None:
    queue_with_local(trial, ends=False)
    trial.wait(0.3)
    assert not trial.wanted


def nobody_own(trial: Trial) -> None:
    """A call forwarded over our own trunk; both sides told, for the worst case."""
    caller, facts = trial.world.incoming()
    trial.play(facts)
    other, facts = trial.world.dial(caller, "PJSIP/trunk-b", NL_OTHER)
    trial.play([*facts, trial.world.hears(other, (PROOF,), Mode.NOTICE), *trial.world.meet(caller, other)])


def nobody_external(trial: Trial) -> None:
    one, facts = trial.world.incoming(name="PJSIP/104")
    trial.play(facts)
    two, facts = trial.world.dial(one, "PJSIP/105")
    trial.play([*facts, *trial.world.meet(one, two)])


def blind_transfer(trial: Trial) -> None:
    caller, leg = inbound(trial)
    trial.play(trial.world.hang_up(leg))
    third, facts = trial.world.dial(caller, "PJSIP/trunk-b", NL_OTHER)
    trial.play([*facts, *trial.world.meet(caller, third)])


def transfer_to_agent(trial: Trial) -> None:
    caller, leg = inbound(trial)
    other, facts = trial.world.dial(leg, "PJSIP/106")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    trial.play(trial.world.hang_up(leg))
    assert trial.wanted


def attended_transfer(trial: Trial) -> None:
    """REFER with Replaces: for an instant both bridges stand and nobody is on hold."""
    caller, leg = inbound(trial)
    trial.feed(Held(leg))
    second, created = trial.world.create("PJSIP/101", ChannelState.RING, "101", "0201112222")
    third, facts = trial.world.dial(second, "PJSIP/trunk-b", NL_OTHER)
    trial.play([created, *facts, *trial.world.up(second), *trial.world.meet(second, third)])
    trial.feed(Unheld(leg), Unheld(second))
    trial.play(trial.world.enter(trial.world.bridge_of(caller), third, swap=leg))
    trial.play([*trial.world.hang_up(leg), *trial.world.hang_up(second)])


def own_not_answered(trial: Trial) -> None:
    caller, facts = trial.world.incoming()
    trial.play(facts)
    leg, facts = trial.world.dial(caller, "PJSIP/101", answered=False)
    trial.play([*facts, *trial.world.meet(caller, leg)])
    trial.play(trial.world.up(leg))
    assert trial.wanted


def external_not_answered(trial: Trial) -> None:
    caller, _ = inbound(trial)
    other, facts = trial.world.dial(caller, "PJSIP/trunk-b", NL_OTHER, answered=False)
    trial.play([*facts, trial.world.hears(other, (PROOF,), Mode.NOTICE)])
    trial.play(trial.world.enter(trial.world.bridge_of(caller), other))
    assert not trial.wanted
    trial.play(trial.world.up(other))
    assert trial.wanted


def stranger(trial: Trial) -> None:
    caller, _ = inbound(trial)
    for name in ("SIP/who", "PJSIP/tenant-x", "PJSIP/701", "Snoop/1"):
        other, created = trial.world.create(name, ChannelState.UP)
        trial.play([created, *trial.world.enter(trial.world.bridge_of(caller), other)])
        assert not trial.wanted
        trial.play(trial.world.hang_up(other))
        assert trial.wanted


def machine(trial: Trial) -> None:
    caller, _ = inbound(trial)
    announcer, created = trial.world.create("CBAnn/conf", ChannelState.UP)
    trial.play([created, *trial.world.enter(trial.world.bridge_of(caller), announcer)])
    assert trial.wanted


def spy(trial: Trial) -> None:
    caller, leg = inbound(trial)
    spy, facts = trial.world.spy(leg)
    trial.play(facts)
    assert not trial.wanted
    trial.feed(SpyStopped(spy, leg))
    assert trial.wanted
    _, facts = trial.world.spy(caller)
    trial.play(facts)
    assert not trial.wanted


def untold_joiner(trial: Trial) -> None:
    caller, _ = inbound(trial)
    other, facts = trial.world.incoming((), told=None)
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    assert not trial.wanted
    trial.feed(trial.world.hears(other, (PROOF,), Mode.NOTICE))
    assert trial.wanted


def hold(trial: Trial) -> None:
    caller, leg = inbound(trial)
    for channel in (caller, leg):
        trial.feed(Held(channel))
        assert not trial.wanted
        trial.feed(Unheld(channel))
        assert trial.wanted


def hold_unknown(trial: Trial) -> None:
    _, leg = inbound(trial)
    trial.feed(ConnectionLost())
    trial.wait(3, beats=False)
    trial.beat()
    trial.feed(trial.world.snapshot())
    assert trial.wanted
    trial.feed(ConnectionLost())
    trial.wait(11, beats=False)
    trial.beat()
    trial.feed(trial.world.snapshot())
    assert not trial.wanted
    for channel in list(trial.world.lines):
        trial.feed(Unheld(channel))
    assert trial.wanted
    trial.restart()
    assert not trial.wanted
    trial.feed(Held(leg))


def second_call(trial: Trial) -> None:
    inbound(trial)
    second, created = trial.world.create("PJSIP/101", ChannelState.DOWN)
    trial.feed(created)
    assert trial.wanted
    trial.play(trial.world.up(second))
    assert not trial.wanted
    trial.feed(Held(second))
    assert trial.wanted


def forbidden_numbers(trial: Trial) -> None:
    inbound(trial, number=FORBIDDEN)
    outbound(trial, number=FORBIDDEN)
    inbound(trial, exten="113", agent="PJSIP/107")


def private_call(trial: Trial) -> None:
    caller, leg = inbound(trial)
    trial.feed(MarkedPrivate(leg))
    other, facts = trial.world.dial(leg, "PJSIP/106")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    trial.play(trial.world.hang_up(leg))
    assert not trial.wanted


def health(trial: Trial) -> None:
    inbound(trial)
    for off, on in (
        (AuditHealthy(False), AuditHealthy(True)),
        (SpoolHasRoom(False), SpoolHasRoom(True)),
        (SwitchedOff(), SwitchedOn()),
    ):
        trial.feed(off)
        assert not trial.wanted
        trial.feed(on)
        assert trial.wanted


def sight(trial: Trial) -> None:
    inbound(trial)
    trial.wait(0.5, beats=False)
    assert trial.wanted
    inbound(trial, agent="PJSIP/108")
    trial.wait(2.5, beats=False)
    assert not trial.wanted
    trial.beat()
    assert len(trial.wanted) == 2
    trial.feed(ConnectionLost())
    trial.beat()
    assert not trial.wanted


def purposes_change_on_a_late_beat(trial: Trial) -> None:
    caller, _ = inbound(trial, (PROOF, TRAINING), told=Mode.OPT_OUT)
    trial.wait(0.5, beats=False)
    trial.feed(Objected(caller, (TRAINING,)))
    assert not trial.wanted
    trial.beat()
    assert trial.wanted


def start_failed(trial: Trial) -> None:
    inbound(trial)
    trial.fail_start(next(iter(trial.wanted)))
    trial.wait(1)
    assert not trial.wanted
    trial.wait(1.1)
    assert trial.wanted
    trial.close(next(iter(trial.wanted)))
    trial.wait(1)
    assert not trial.wanted


def observed(trial: Trial) -> None:
    inbound(trial, exten=DID_SCOPE)


def no_purpose(trial: Trial) -> None:
    inbound(trial, (), told=None)


def objections(trial: Trial) -> None:
    caller, _ = inbound(trial, (PROOF, MIFID))
    trial.feed(Objected(caller))
    other, _ = inbound(trial, (PROOF,), agent="PJSIP/109")
    trial.feed(Objected(other, (TRAINING,)))
    trial.feed(Objected(other, (PROOF,)))


def purposes(trial: Trial) -> None:
    for number, purpose in enumerate((STRANGE, SLEEPING, DRAFT, SALES, TRAINING, CONSENTING)):
        caller, _ = inbound(trial, (purpose,), agent=f"PJSIP/12{number}")
        key = disclosure_key((purpose,), Mode.OPT_OUT)
        trial.feed(DisclosureHeard(caller, key, f"digest of {key}", "2026-01-01T00:00:00Z"))
        trial.feed(trial.world.hears(caller, (purpose,), Mode.OPT_IN))
        trial.feed(Consented(caller, (purpose,)))
    outbound(trial, (SALES,), agent="PJSIP/130")
    assert any(SALES in s.permit.purposes for s in trial.wanted.values())
    caller, _ = inbound(trial, (PROOF,), told=None, agent="PJSIP/131")
    trial.feed(DisclosureHeard(caller, disclosure_key((PROOF,), Mode.NOTICE), "another", "2026-01-01T00:00:00Z"))


def consent(trial: Trial) -> None:
    caller, _ = inbound(trial, number=DE_NUMBER)
    assert not trial.wanted
    trial.feed(trial.world.hears(caller, (PROOF,), Mode.OPT_IN))
    assert not trial.wanted
    trial.feed(Consented(caller, (PROOF,)))
    assert trial.wanted
    caller, _ = inbound(trial, told=Mode.OPT_IN, agent="PJSIP/132")


def another_number(trial: Trial) -> None:
    caller, _ = inbound(trial)
    trial.feed(ChannelNumberChanged(caller, ""), ChannelNumberChanged(caller, "0612345678"))
    assert trial.wanted
    trial.feed(ChannelNumberChanged(caller, NL_OTHER))
    assert not trial.wanted


def merged_bridges(trial: Trial) -> None:
    caller, _ = inbound(trial)
    other, _ = inbound(trial, number=NL_OTHER, agent="PJSIP/133")
    trial.play(trial.world.merge(trial.world.bridge_of(caller), trial.world.bridge_of(other)))
    assert len(trial.wanted) == 1


def _conference(trial: Trial) -> tuple[Uniqueid, Uniqueid, Uniqueid]:
    """A told customer, and two of ours: (customer, first, second)."""
    caller, first = inbound(trial)
    second, facts = trial.world.dial(first, "PJSIP/103")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), second)])
    return caller, first, second


def replaced_unseen(trial: Trial) -> None:
    """An untold third party is given the place of one of ours in a conference: Asterisk reports neither move."""
    caller, first, _ = _conference(trial)
    other, _ = inbound(trial, number=NL_OTHER, agent="PJSIP/134")
    third, facts = trial.world.incoming((), told=None)
    trial.play(facts)
    trial.look()
    assert len(trial.wanted) == 2
    trial.play(trial.world.replace(first, third))
    assert [s.permit.call for s in trial.wanted.values()] == [other], "nor on the second one's leg, but others go on"
    decision = trial.decision(caller)
    assert isinstance(decision, Refusal)
    assert decision.reasons == (Reason.PICTURE_WRONG,)
    trial.look()
    assert trial.wanted, "lists that were asked for before tell nothing"
    trial.wait(0.1)
    trial.look()
    assert not trial.wanted, "the lists show him: everything is looked at anew"
    trial.feed(trial.world.snapshot())
    decision = trial.decision(caller)
    assert isinstance(decision, Refusal)
    assert decision.reasons == (Reason.NOT_TOLD,)
    trial.play(trial.world.hang_up(third))
    assert len(trial.wanted) == 2


def replaced_and_lost(trial: Trial) -> None:
    """The hangup that shows it is lost too; whoever came unseen leaves, as the first sign of it."""
    caller, first, second = _conference(trial)
    third, facts = trial.world.incoming((), told=None)
    trial.play(facts)
    trial.look()
    right = trial.oracle.beat
    trial.world.replace(first, third)
    trial.wait(1)
    bridge = trial.world.bridge_of(caller)
    trial.play(trial.world.leave(third))
    (stop,) = trial.stopped.values()
    assert (stop.reasons, stop.proven) == ((Reason.PICTURE_WRONG,), right)
    trial.wait(0.1)
    trial.look()
    trial.feed(trial.world.snapshot())
    assert [s.leg for s in trial.wanted.values()] == [second]
    assert bridge == trial.world.bridge_of(second)


def transferred_into_app(trial: Trial) -> None:
    """Told beforehand: nothing is recorded from then on, until lists that are asked for later show who is there."""
    _, first, second = _conference(trial)
    consulting, created = trial.world.create("PJSIP/101", ChannelState.UP)
    third, facts = trial.world.dial(consulting, "PJSIP/trunk-b", NL_OTHER)
    trial.play([Held(first), created, *facts, *trial.world.meet(consulting, third), Unheld(first)])
    trial.feed(TransferredIntoApp(first, consulting))
    trial.play(trial.world.hang_up(consulting))
    assert not trial.wanted, "not for the instant until his first call ends as well"
    trial.wait(0.1)
    trial.look()
    assert trial.wanted, "it came to nothing"
    trial.play(trial.world.replace(first, third))
    assert not trial.wanted
    trial.feed(TransferredIntoApp(first, consulting))
    trial.wait(0.1)
    trial.look()
    trial.feed(trial.world.snapshot())
    assert not trial.wanted
    trial.play(trial.world.hang_up(third))
    assert [s.leg for s in trial.wanted.values()] == [second]


def doubt_for_nothing(trial: Trial) -> None:
    """Somebody leaves who was not there, and the lists show nobody else than was thought."""
    caller, first, second = _conference(trial)
    trial.feed(BridgeLeft(trial.world.bridge_of(caller), Uniqueid("nobody")))
    assert not trial.wanted
    trial.look()
    assert not trial.wanted, "these were asked for before"
    trial.wait(0.1)
    trial.look(second)
    assert not trial.wanted, "somebody moved: the lists tell nothing"
    trial.look()
    assert [s.leg for s in trial.wanted.values()] == [first]


def parked(trial: Trial) -> None:
    caller, leg = inbound(trial)
    trial.play(trial.world.meet(caller, type="parking", technology="holding_bridge"))
    trial.play(trial.world.enter(trial.world.bridge_of(leg), caller))
    assert trial.wanted
    trial.play(trial.world.meet(caller, leg, type="", technology="holding_bridge"))
    assert not trial.wanted


def paused(trial: Trial) -> None:
    """The pause belongs to the customer's call, and goes with him to another of us."""
    caller, leg = inbound(trial)
    trial.feed(Paused(caller))
    assert not trial.wanted
    other, facts = trial.world.dial(leg, "PJSIP/106")
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), other)])
    trial.play(trial.world.hang_up(leg))
    decision = trial.decision(caller)
    assert isinstance(decision, Refusal)
    assert decision.reasons == (Reason.PAUSED,)
    trial.feed(Resumed(caller))
    assert trial.wanted


SCENARIOS: tuple[Callable[[Trial], None], ...] = (
    plain_inbound,
    plain_outbound,
    local_pair,
    change_half_done,
    change_never_ends,
    nobody_own,
    nobody_external,
    blind_transfer,
    transfer_to_agent,
    attended_transfer,
    own_not_answered,
    external_not_answered,
    stranger,
    machine,
    spy,
    untold_joiner,
    hold,
    hold_unknown,
    second_call,
    forbidden_numbers,
    private_call,
    health,
    sight,
    purposes_change_on_a_late_beat,
    start_failed,
    observed,
    no_purpose,
    objections,
    purposes,
    consent,
    another_number,
    merged_bridges,
    replaced_unseen,
    replaced_and_lost,
    transferred_into_app,
    doubt_for_nothing,
    parked,
    paused,
)
