"""Ready-made situations of a second kind: of recorders, pictures, prompts and policies rather than of people.

`SITUATIONS` are all, those of `scenarios` included.
"""

from __future__ import annotations

from pbxguard.core.facts import (
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelHungUp,
    ChannelRenamed,
    ChannelState,
    ContactSeen,
    DialEnded,
    DigitPressed,
    DisclosureBegun,
    DisclosureNotHeard,
    DisclosureRequested,
    HangupRequested,
    Held,
    InCall,
    Objected,
    ObjectionBinds,
    PurposeBegun,
    QueueJoined,
    RecorderSeen,
    RecorderStopSeen,
    Requested,
    Resumed,
    SegmentStarted,
    SpyStarted,
    SpyStopped,
    Unheld,
    WhisperEnded,
)
from pbxguard.core.purposes import Mode
from pbxguard.core.reasons import WORDS, Reason

from .scenarios import SCENARIOS, inbound
from .trial import STAY_S, Trial
from .world import NL_NUMBER, NL_OTHER, PROOF

CAUSES = tuple(r for r in WORDS if WORDS[r].condition == 2 and r not in (Reason.NOT_TOLD, Reason.CONSENT_MISSING))
"""Why a disclosure was not heard in full."""


def whisper(trial: Trial) -> None:
    caller, leg = inbound(trial)
    ours, facts = trial.world.whisper(caller)
    trial.play(facts)
    assert trial.wanted
    trial.feed(SpyStarted(ours, leg))
    assert not trial.wanted, "whom we did not mean to speak to is spied on"
    trial.feed(SpyStopped(ours, leg), WhisperEnded(ours), SpyStarted(ours, caller))
    assert not trial.wanted, "our whisper is over: this is another's"
    trial.feed(SpyStopped(ours, caller))
    assert trial.wanted


def picture_wrong(trial: Trial) -> None:
    """An event was lost: the agent is elsewhere. A list may be hasty once, not twice."""
    caller, leg = inbound(trial)
    other, _ = inbound(trial, number=NL_OTHER, agent="PJSIP/134")
    trial.look()
    trial.world.leave(leg)
    trial.look()
    assert len(trial.wanted) == 2
    trial.look()
    assert not trial.wanted
    assert {s.reasons for s in trial.stopped.values()} == {(Reason.PICTURE_WRONG,), (Reason.NOT_CONNECTED,)}
    trial.feed(trial.world.snapshot())
    assert [s.permit.call for s in trial.wanted.values()] == [other]
    trial.play(trial.world.meet(caller, leg))
    assert len(trial.wanted) == 2
    for channel in (caller, leg):  # whoever moves while the lists are made may be in them here or there
        trial.world.leave(channel)
    trial.look(caller, leg)
    trial.look(caller, leg)
    assert len(trial.wanted) == 2


def recorder_stopped(trial: Trial) -> None:
    """Somebody else stops our recorder; what is permitted starts anew, but in no duel at full speed."""
    _, leg = inbound(trial)
    trial.feed(RecorderStopSeen(leg))
    assert trial.wanted
    trial.close(next(iter(trial.stopped)), ran=False)
    trial.feed(RecorderStopSeen(leg))
    assert not trial.wanted
    trial.wait(2.1)
    assert trial.wanted
    trial.feed(Held(leg), RecorderStopSeen(leg), Unheld(leg))
    assert trial.wanted, "the stop that was seen was ours"


def caller_gone_while_the_callee_is_told(trial: Trial) -> None:
    world = trial.world
    for end in (HangupRequested, ChannelHungUp):
        leg, created = world.create("PJSIP/102", ChannelState.RING, "102", NL_NUMBER)
        trial.feed(created, DisclosureRequested(leg, (PROOF,), "nl", for_callee=True))
        one, two, facts = world.local(leg)
        trial.play(facts)
        callee, facts = world.dial(two, "PJSIP/trunk-b", NL_NUMBER)
        trial.play([*facts, CalleePromptBegun(callee, "notice", 0, 0, trial.now)])
        trial.play([HangupRequested(leg)] if end is HangupRequested else world.hang_up(leg))
        trial.play([*world.hang_up(callee), *world.hang_up(one), *world.hang_up(two)])


def prompt_fails_since_the_callee_hangs_up(trial: Trial) -> None:
    """Asterisk puts it into the bridge for an instant, while it hangs up."""
    world = trial.world
    leg, created = world.create("PJSIP/102", ChannelState.RING, "102", NL_NUMBER)
    trial.feed(created, DisclosureRequested(leg, (PROOF,), "nl", for_callee=True))
    callee, facts = world.dial(leg, "PJSIP/trunk-b", NL_NUMBER)
    trial.play([*facts, *world.up(leg), CalleePromptBegun(callee, "notice", 0, 0, trial.now)])
    trial.feed(CalleePromptEnded(callee, "notice", "FAILED", 0, 0, "", trial.now))
    trial.play(world.meet(leg, callee))
    trial.feed(HangupRequested(callee))
    trial.play(world.hang_up(callee))


def policy_changes(trial: Trial) -> None:
    _, leg = inbound(trial)
    trial.reload(observe=True)
    assert not trial.wanted
    trial.reload()
    assert trial.wanted
    _, facts = trial.world.spy(leg)
    trial.play(facts)
    assert not trial.wanted
    trial.reload(listen_only=True)
    assert trial.wanted


def nothing_to_decide(trial: Trial) -> None:
    """What is told of it, and changes nothing here."""
    caller, leg = inbound(trial)
    trial.feed(QueueJoined(caller, "sales"))
    segment = next(iter(trial.wanted))
    trial.feed(RecorderSeen(leg), SegmentStarted(segment), DigitPressed(caller, "9"), DialEnded(caller, leg, "ANSWER"))
    trial.feed(DisclosureBegun(caller), DisclosureNotHeard(caller, None, "prompt_cut"))
    assert list(trial.wanted) == [segment]


def half_moved(trial: Trial) -> None:
    """A masquerade: for an instant the agent's channel is a zombie."""
    _, leg = inbound(trial)
    name = trial.world.lines[leg].name
    for now, recorded in ((f"{name}<ZOMBIE>", False), (name, True)):
        trial.world.lines[leg].name = now
        trial.feed(ChannelRenamed(leg, now))
        assert bool(trial.wanted) is recorded


def asked_for_in_the_call(trial: Trial) -> None:
    caller, leg = inbound(trial)
    trial.feed(Requested(caller, InCall.PAUSE), Requested(caller, InCall.PRIVATE), Requested(leg, InCall.RESUME))
    assert trial.wanted, "an outside party may only object, and nothing was paused"
    trial.feed(Requested(leg, InCall.PAUSE))
    assert not trial.wanted
    trial.feed(Requested(leg, InCall.RESUME))
    assert not trial.wanted, "not before it is written down"
    trial.feed(Resumed(caller))
    assert trial.wanted
    other, _ = inbound(trial, number=NL_OTHER, agent="PJSIP/135")
    trial.feed(Requested(other, InCall.OBJECT))
    assert [s.permit.call for s in trial.wanted.values()] == [caller]
    trial.feed(Requested(leg, InCall.PRIVATE))
    assert not trial.wanted
    assert [s.destroy for s in trial.stopped.values()] == [False, False, True]
    alone, created = trial.world.create("PJSIP/136", ChannelState.UP)
    trial.feed(
        created, Requested(alone, InCall.PAUSE), Requested(alone, InCall.OBJECT), Requested(alone, InCall.RESUME)
    )


def objector_leaves(trial: Trial) -> None:
    """His objection holds for the call that he was in, also when he is gone, and after a restart."""
    caller, _ = inbound(trial)
    second, facts = trial.world.incoming(number=NL_OTHER)
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), second)])
    trial.play(trial.world.leave(second))
    assert trial.wanted
    trial.play(trial.world.enter(trial.world.bridge_of(caller), second))
    trial.feed(Objected(second, (PROOF,)))
    trial.play(trial.world.hang_up(second))
    assert not trial.wanted
    trial.feed(ObjectionBinds(caller, second, (PROOF,)))
    trial.restart()
    for channel in trial.world.lines:
        trial.feed(Unheld(channel))
    assert not trial.wanted


def joiner_told(trial: Trial) -> None:
    """He closes the recording, is told by whisper once he stayed, in vain at first, and it goes on."""
    trial.tell_joiners(True)
    caller, _ = inbound(trial)
    joiner, facts = trial.world.incoming((), number=NL_OTHER, told=None)
    trial.play([*facts, *trial.world.enter(trial.world.bridge_of(caller), joiner)])
    assert not trial.wanted
    trial.wait(STAY_S + 0.1)
    trial.whispered(joiner, heard=False)
    trial.wait(STAY_S + 0.1)
    trial.feed(Held(joiner))
    assert joiner in trial.broken_off
    trial.whispered(joiner, heard=False)
    trial.feed(Unheld(joiner))
    trial.wait(STAY_S + 0.1)
    trial.whispered(joiner)
    assert trial.wanted


def begun_in_mid_call(trial: Trial) -> None:
    """Nobody was asked anything; one of us begins a purpose, the customer is told, and then recorded."""
    caller, leg = inbound(trial, (), told=None)
    trial.feed(Requested(caller, InCall.BEGIN, (PROOF,)), Requested(leg, InCall.BEGIN))
    assert not trial.whispers
    trial.feed(Requested(leg, InCall.BEGIN, (PROOF,)), PurposeBegun(caller, (PROOF,), leg))
    assert not trial.wanted
    trial.whispered(caller)
    assert trial.wanted


def untold_for_every_cause(trial: Trial) -> None:
    """Each cause for which a disclosure was not heard is told beside that it was not."""
    for number, cause in enumerate(CAUSES):
        caller, _ = inbound(trial, told=None, agent=f"PJSIP/14{number}")
        trial.feed(DisclosureNotHeard(caller, None, cause.value))
        assert trial.reported[caller].outcome.reasons == (Reason.NOT_TOLD, cause)
        trial.feed(trial.world.hears(caller, (PROOF,), Mode.NOTICE))
        assert len(trial.wanted) == number + 1


def told_contacts(trial: Trial) -> None:
    """Two addresses of one endpoint are two telephones only where that is configured: here they are one."""
    _, leg = inbound(trial)
    trial.feed(ContactSeen(leg, "192.0.2.1:5060"))
    second, created = trial.world.create("PJSIP/101", ChannelState.DOWN)
    trial.feed(created, ContactSeen(second, "192.0.2.2:5060"))
    assert trial.wanted
    trial.play(trial.world.up(second))
    assert not trial.wanted


def rung_through_a_listed_group(trial: Trial) -> None:
    """A told caller reaches, through a number of ours that is on the list, one of us who is not; then another of us."""
    caller, facts = trial.world.incoming((PROOF,))
    trial.play(facts)
    leg, facts = trial.world.dial(caller, "PJSIP/101", "101", at="113")
    trial.play([*facts, *trial.world.meet(caller, leg)])
    assert not trial.wanted
    trial.feed(trial.world.snapshot())
    assert not trial.wanted
    trial.play(trial.world.hang_up(leg))
    other, facts = trial.world.dial(caller, "PJSIP/102", "102", at="600")
    trial.play([*facts, *trial.world.meet(caller, other)])
    assert trial.wanted


SITUATIONS = (
    *SCENARIOS,
    whisper,
    picture_wrong,
    recorder_stopped,
    caller_gone_while_the_callee_is_told,
    prompt_fails_since_the_callee_hangs_up,
    policy_changes,
    nothing_to_decide,
    half_moved,
    asked_for_in_the_call,
    objector_leaves,
    joiner_told,
    begun_in_mid_call,
    untold_for_every_cause,
    told_contacts,
    rung_through_a_listed_group,
)
