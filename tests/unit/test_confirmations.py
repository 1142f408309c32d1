"""What came of an objection, as the party who made it is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from pbxguard.core.confirmations import Confirm, ConfirmationKey, Effect, confirmation_keys, effect_of
from pbxguard.core.defaults import (
    COMPLAINT_HANDLING,
    CONTRACT_EVIDENCE,
    LANGUAGES,
    MIFID_ORDER,
    PURPOSES,
    QUALITY_TRAINING,
    confirmation_text,
)
from pbxguard.core.facts import (
    DisclosureHeard,
    InCall,
    Objected,
    PolicyReloaded,
    Requested,
    SegmentClosed,
    SwitchedOff,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from tests.property.world import NL_OTHER, make_policy
from tests.unit.test_supervisor import Loop

PROOF, TRAIN, LAW = CONTRACT_EVIDENCE, QUALITY_TRAINING, MIFID_ORDER


@pytest.mark.parametrize(
    ("asked", "recorded", "effect"),
    [
        ([PROOF], [PROOF], Effect.LOCKED),
        ([TRAIN], [TRAIN], Effect.DESTROYED),
        ([PROOF, TRAIN], [PROOF, TRAIN], Effect.LOCKED),
        ([PROOF, TRAIN], [TRAIN], Effect.DESTROYED),
        ([LAW], [LAW], Effect.NOTED),
        ([LAW], [], Effect.NOTED),
        ([LAW, TRAIN], [LAW, TRAIN], Effect.NOTED),
        ([PROOF], [], Effect.UNRECORDED),
        ([], [], Effect.UNRECORDED),
        (["own"], ["own"], Effect.LOCKED),
    ],
)
def test_the_strictest_purpose_says_what_came_of_it(
    asked: Collection[PurposeName], recorded: Collection[PurposeName], effect: Effect
) -> None:
    assert effect_of(asked, recorded, PURPOSES) is effect


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_effect_has_a_short_sentence_of_its_own_in_every_language(effect: Effect, language: str) -> None:
    key = ConfirmationKey.of(effect, language)
    assert ConfirmationKey.parse(str(key)) == key
    others = {confirmation_text(ConfirmationKey.of(other, language)) for other in Effect if other is not effect}
    assert confirmation_text(key) not in others
    assert 20 < len(confirmation_text(key)) < 120


@pytest.mark.parametrize(
    "text", ["", "objection_locked", "objection_locked.nl.x", "objection_gone.nl", "locked.nl", "objection_locked.../x"]
)
def test_what_names_no_sentence_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a (confirmation|valid)"):
        ConfirmationKey.parse(text)


def test_only_what_the_purposes_can_come_to_is_to_be_spoken() -> None:
    def effects(*names: PurposeName) -> list[Effect]:
        return [key.effect for key in confirmation_keys([PURPOSES[name] for name in names], ["nl"])]

    assert effects(PROOF, COMPLAINT_HANDLING) == [Effect.LOCKED, Effect.UNRECORDED]
    assert effects(TRAIN) == [Effect.DESTROYED, Effect.UNRECORDED]
    assert effects(LAW) == [Effect.NOTED, Effect.UNRECORDED]


@pytest.fixture
def loop() -> Loop:
    return Loop().awake()


def test_a_customer_who_objects_in_a_recorded_call_is_told_that_it_is_locked(loop: Loop) -> None:
    caller, leg, start = loop.talk()
    loop.feed(Requested(leg, InCall.OBJECT))
    expected = Confirm(caller, Effect.LOCKED, "nl")
    assert loop.supervisor.confirmation(caller) == expected
    loop.feed(SegmentClosed(start.segment))
    assert loop.supervisor.confirmation(caller) == expected
    assert loop.supervisor.confirmation(leg) is None, "nobody is told who is one of us"
    loop.feed(*loop.world.hang_up(caller))
    assert loop.supervisor.confirmation(caller) is None


def test_who_was_never_recorded_is_told_just_that(loop: Loop) -> None:
    caller, facts = loop.world.incoming(told=None)
    loop.feed(*facts, Requested(caller, InCall.OBJECT))
    assert loop.supervisor.confirmation(caller) == Confirm(caller, Effect.UNRECORDED, "nl")


def test_who_was_recorded_in_anothers_call_is_not_told_that_nothing_was(loop: Loop) -> None:
    caller, _, _ = loop.talk()
    second, facts = loop.world.incoming(number=NL_OTHER)
    loop.feed(*facts, *loop.world.enter(loop.world.bridge_of(caller), second), Objected(second))
    assert loop.supervisor.confirmation(second) == Confirm(second, Effect.LOCKED, "nl")


def test_nothing_is_said_where_nothing_is_said_of_recording(loop: Loop) -> None:
    caller, _, _ = loop.talk()
    loop.feed(Requested(caller, InCall.OBJECT))
    assert loop.supervisor.confirmation(caller) is not None
    loop.supervisor.policy = make_policy(GuardMode.OBSERVE)
    loop.feed(PolicyReloaded())
    assert loop.supervisor.confirmation(caller) is None
    loop.supervisor.policy = make_policy()
    loop.feed(PolicyReloaded())
    assert loop.supervisor.confirmation(caller) is not None
    loop.feed(SwitchedOff())
    assert loop.supervisor.confirmation(caller) is None


def test_after_a_restart_what_it_was_told_of_says_what_was_recorded() -> None:
    loop = Loop().awake()
    caller, _, start = loop.talk()
    again = Loop(numbering={start.recording: 1}, world=loop.world)
    key = DisclosureKey.of((PROOF,), "nl", Mode.NOTICE, Direction.INBOUND)
    again.feed(DisclosureHeard(caller, key, "digest", "2026-01-01T00:00:00Z"))
    again.awake()
    again.feed(Requested(caller, InCall.OBJECT))
    assert again.supervisor.confirmation(caller) == Confirm(caller, Effect.LOCKED, "nl")


def test_private_in_mid_call_destroys_whatever_is_objected_to(loop: Loop) -> None:
    caller, leg, _ = loop.talk()
    loop.feed(Requested(leg, InCall.PRIVATE), Requested(caller, InCall.OBJECT))
    assert loop.supervisor.confirmation(caller) == Confirm(caller, Effect.DESTROYED, "nl")


def test_a_stranger_is_told_nothing(loop: Loop) -> None:
    assert loop.supervisor.confirmation(Uniqueid("9.9")) is None
    _, leg, _ = loop.talk()
    assert loop.supervisor.confirmation(leg) is None


def test_a_purpose_that_no_longer_exists_locks(loop: Loop) -> None:
    caller, _, _ = loop.talk()
    policy = loop.supervisor.policy
    loop.supervisor.policy = replace(policy, purposes={n: p for n, p in policy.purposes.items() if n != PROOF})
    loop.feed(PolicyReloaded(), Requested(caller, InCall.OBJECT))
    assert loop.supervisor.confirmation(caller) == Confirm(caller, Effect.LOCKED, "nl")
