"""Why nobody was told: a disclosure that could have been played is approved, or none is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbxguard.core.conversation import Conversation, Talker
from pbxguard.core.ids import Endpoint, PurposeName, Uniqueid
from pbxguard.core.numbers import parse
from pbxguard.core.parties import PartyKind
from pbxguard.core.permit import Refusal, Sight, decide
from pbxguard.core.policy import GuardMode, Policy
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, Purpose
from pbxguard.core.reasons import Reason

PROOF, TRAINING = PurposeName("contract_evidence"), PurposeName("quality_training")
SEEING = Sight(connected=True, lag=0.0, audit_healthy=True, spool_has_room=True)
AGENT = Talker(
    channel=Uniqueid("1.2"),
    kind=PartyKind.OWN,
    born=2,
    answered=True,
    on_hold=False,
    hold_known=True,
    second_call=False,
    endpoint=Endpoint("PJSIP/100"),
    direction=Direction.OUTBOUND,
    number=parse("100", "NL"),
    listed=False,
    jurisdiction="NL",
    private=False,
    asked=(),
    heard=(),
    not_heard=frozenset(),
    objected=frozenset(),
    objected_to_all=False,
    consented=frozenset(),
)
CALLER = replace(
    AGENT,
    channel=Uniqueid("1.1"),
    kind=PartyKind.EXTERNAL,
    born=1,
    endpoint=Endpoint("PJSIP/trunk-a"),
    direction=Direction.INBOUND,
    number=parse("+31612345678", "NL"),
    asked=(PROOF,),
)
UNTOLD = Conversation(
    (CALLER, AGENT),
    bridged=True,
    unseen=False,
    spied=False,
    half_done=False,
    doubted=False,
    paused=False,
    language="nl",
    reference="",
    mode=GuardMode.GUARD,
)


def policy(*keys: DisclosureKey) -> Policy:
    purposes = {name: Purpose(name, Basis.LEGITIMATE_INTEREST, active=True) for name in (PROOF, TRAINING)}
    return Policy(
        "Acme", purposes=purposes, disclosures={key: Disclosure(key, "text", "digest", "/n", 3000) for key in keys}
    )


def key(
    *names: PurposeName, language: str = "nl", mode: Mode = Mode.NOTICE, direction: Direction = Direction.INBOUND
) -> DisclosureKey:
    return DisclosureKey.of(names, language, mode, direction)


def reasons(conversation: Conversation, policy: Policy) -> set[Reason]:
    decision = decide(conversation, SEEING, policy)
    assert isinstance(decision, Refusal)
    return set(decision.reasons)


@pytest.mark.parametrize(
    "approved",
    [
        (),
        (key(PROOF, language="en"),),
        (key(PROOF, mode=Mode.OPT_IN),),
        (key(PROOF, direction=Direction.OUTBOUND),),
        (key(TRAINING, mode=Mode.OPT_OUT),),
    ],
)
def test_untold_since_no_disclosure_that_was_due_is_approved(approved: tuple[DisclosureKey, ...]) -> None:
    assert reasons(UNTOLD, policy(*approved)) == {Reason.DISCLOSURE_UNAPPROVED, Reason.NOT_TOLD}


@pytest.mark.parametrize("approved", [key(PROOF), key(PROOF, TRAINING, mode=Mode.OPT_OUT)])
def test_untold_though_a_disclosure_that_was_due_is_approved(approved: DisclosureKey) -> None:
    assert reasons(UNTOLD, policy(approved)) == {Reason.NOT_TOLD}


def test_the_disclosure_due_is_the_one_that_the_jurisdiction_asks_for() -> None:
    german = replace(UNTOLD, talkers=(replace(CALLER, jurisdiction="DE"), AGENT))
    refused = {Reason.NOT_TOLD, Reason.CONSENT_MISSING}
    assert reasons(german, policy(key(PROOF, mode=Mode.OPT_IN))) == refused
    assert reasons(german, policy(key(PROOF))) == refused | {Reason.DISCLOSURE_UNAPPROVED}
