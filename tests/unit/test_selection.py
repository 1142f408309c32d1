"""Which disclosure is due, and every reason why none is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbxguard.core.facts import DisclosureHeard
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.memory import Notes
from pbxguard.core.never_record import entries
from pbxguard.core.numbers import NOBODY, parse
from pbxguard.core.policy import GuardMode, Policy
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, OnObjection, Purpose
from pbxguard.core.reasons import Reason
from pbxguard.core.selection import AlreadyTold, Asked, Due, NotDue, due, goes_on_despite_objection

PROOF = PurposeName("contract_evidence")
TRAINING = PurposeName("quality_training")
ORDER = PurposeName("mifid_order")
ASKED = Asked((PROOF,), Direction.INBOUND, "nl", countries=("NL",), numbers=(parse("+31612345678", "NL"),))


def approved(*keys: DisclosureKey) -> dict[DisclosureKey, Disclosure]:
    return {key: Disclosure(key, "text", f"digest of {key}", "/n", 3000) for key in keys}


def key(*names: PurposeName, language: str = "nl", mode: Mode = Mode.NOTICE) -> DisclosureKey:
    return DisclosureKey.of(names, language, mode, Direction.INBOUND)


POLICY = Policy(
    "Acme",
    mode=GuardMode.GUARD,
    never_record=entries(["112", "0800*"], "NL", defaults=False),
    purposes={
        PROOF: Purpose(PROOF, Basis.LEGITIMATE_INTEREST, active=True),
        TRAINING: Purpose(TRAINING, Basis.LEGITIMATE_INTEREST, active=True, mode=Mode.OPT_OUT),
        ORDER: Purpose(ORDER, Basis.LEGAL_OBLIGATION, active=True, on_objection=OnObjection.IGNORE),
    },
    disclosures=approved(
        key(PROOF),
        key(PROOF, language="en"),
        key(PROOF, mode=Mode.OPT_IN),
        key(TRAINING, mode=Mode.OPT_OUT),
        key(PROOF, TRAINING, mode=Mode.OPT_OUT),
        key(ORDER),
    ),
)


def without(policy: Policy, *keys: DisclosureKey) -> Policy:
    return replace(policy, disclosures={k: d for k, d in policy.disclosures.items() if k not in keys})


def inactive(policy: Policy, name: PurposeName) -> Policy:
    return replace(policy, purposes={**policy.purposes, name: replace(policy.purposes[name], active=False)})


def chosen(answer: object) -> DisclosureKey:
    assert isinstance(answer, Due)
    return answer.disclosure.key


def test_the_disclosure_of_the_purpose_asked_is_due() -> None:
    assert chosen(due(POLICY, ASKED)) == key(PROOF)


def test_two_purposes_are_named_in_one_notice_in_the_stricter_mode() -> None:
    answer = due(POLICY, replace(ASKED, purposes=(TRAINING, PROOF)))
    assert chosen(answer) == key(PROOF, TRAINING, mode=Mode.OPT_OUT)


def test_when_one_of_two_purposes_is_inactive_the_notice_names_the_other_only() -> None:
    answer = due(inactive(POLICY, TRAINING), replace(ASKED, purposes=(TRAINING, PROOF)))
    assert chosen(answer) == key(PROOF)
    assert isinstance(answer, Due)
    assert answer.dropped == (Reason.PURPOSE_INACTIVE,)


def test_an_unknown_purpose_beside_a_known_one_drops_out() -> None:
    answer = due(POLICY, replace(ASKED, purposes=(PurposeName("marketing"), PROOF)))
    assert chosen(answer) == key(PROOF)


def test_without_an_approved_notice_for_both_the_first_asked_is_named() -> None:
    policy = without(POLICY, key(PROOF, TRAINING, mode=Mode.OPT_OUT))
    answer = due(policy, replace(ASKED, purposes=(TRAINING, PROOF)))
    assert chosen(answer) == key(TRAINING, mode=Mode.OPT_OUT)
    assert isinstance(answer, Due)
    assert answer.dropped == (Reason.DISCLOSURE_UNAPPROVED,)


def test_a_stricter_country_asks_for_a_key() -> None:
    assert chosen(due(POLICY, replace(ASKED, countries=("NL", "DE")))) == key(PROOF, mode=Mode.OPT_IN)


def test_no_language_means_the_default_one() -> None:
    assert chosen(due(POLICY, replace(ASKED, language=""))) == key(PROOF)
    assert chosen(due(POLICY, replace(ASKED, language="en"))) == key(PROOF, language="en")


@pytest.mark.parametrize(
    ("policy", "asked", "reasons"),
    [
        (POLICY, replace(ASKED, purposes=()), (Reason.NO_PURPOSE,)),
        (POLICY, replace(ASKED, purposes=(PurposeName("x"),)), (Reason.PURPOSE_UNKNOWN,)),
        (inactive(POLICY, PROOF), ASKED, (Reason.PURPOSE_INACTIVE,)),
        (without(POLICY, key(PROOF)), ASKED, (Reason.DISCLOSURE_UNAPPROVED,)),
        (POLICY, replace(ASKED, language="de"), (Reason.DISCLOSURE_UNAPPROVED,)),
        (POLICY, replace(ASKED, private=True), (Reason.MARKED_PRIVATE,)),
        (POLICY, replace(ASKED, numbers=(parse("112", "NL"),)), (Reason.NEVER_RECORD,)),
        (POLICY, replace(ASKED, numbers=(NOBODY, parse("08000113", "NL"))), (Reason.NEVER_RECORD,)),
        (POLICY, replace(ASKED, mode=GuardMode.OBSERVE), (Reason.OBSERVE_MODE,)),
        (
            POLICY,
            replace(ASKED, private=True, numbers=(parse("112", "NL"),)),
            (Reason.NEVER_RECORD, Reason.MARKED_PRIVATE),
        ),
    ],
)
def test_nothing_is_due_and_the_reason_is_told(policy: Policy, asked: Asked, reasons: tuple[Reason, ...]) -> None:
    assert due(policy, asked) == NotDue(reasons)


def test_a_number_that_only_looks_like_a_listed_one_is_told() -> None:
    assert isinstance(due(POLICY, replace(ASKED, numbers=(parse("1123", "NL"), parse("0201234567", "NL")))), Due)


def test_a_purpose_that_does_not_suit_the_direction_drops_out() -> None:
    purposes = {**POLICY.purposes, PROOF: replace(POLICY.purposes[PROOF], directions=frozenset({Direction.OUTBOUND}))}
    assert due(replace(POLICY, purposes=purposes), ASKED) == NotDue((Reason.WRONG_DIRECTION,))


def test_whoever_objected_is_not_asked_again() -> None:
    assert due(POLICY, ASKED, Notes(objected_to_all=True)) == NotDue((Reason.OBJECTED,))
    assert due(POLICY, ASKED, Notes(objected={PROOF})) == NotDue((Reason.OBJECTED,))
    assert isinstance(due(POLICY, ASKED, Notes(objected={TRAINING})), Due)


def test_what_the_law_demands_is_told_despite_an_objection() -> None:
    assert isinstance(due(POLICY, replace(ASKED, purposes=(ORDER,)), Notes(objected_to_all=True)), Due)
    assert goes_on_despite_objection(POLICY, (ORDER, PROOF))
    assert not goes_on_despite_objection(POLICY, (PROOF,))


def test_a_call_marked_private_earlier_stays_private() -> None:
    assert due(POLICY, ASKED, Notes(private=True)) == NotDue((Reason.MARKED_PRIVATE,))


@pytest.mark.parametrize("reason", [Reason.AUDIT_UNHEALTHY, Reason.NOT_CONNECTED, Reason.SPOOL_FULL])
def test_while_nothing_can_be_recorded_nothing_is_played(reason: Reason) -> None:
    answer = due(POLICY, ASKED, closed=(reason,))
    assert answer == NotDue((reason,))
    assert not answer.off


def test_off_and_observe_stay_out_of_it() -> None:
    for answer in (
        due(POLICY, ASKED, closed=(Reason.SWITCHED_OFF,)),
        due(POLICY, replace(ASKED, mode=GuardMode.OBSERVE)),
    ):
        assert isinstance(answer, NotDue)
        assert answer.off


def test_it_is_played_once_a_call() -> None:
    heard = DisclosureHeard(Uniqueid("1"), key(PROOF, TRAINING, mode=Mode.OPT_OUT), "d", "2026-01-01T00:00:00Z")
    assert due(POLICY, ASKED, Notes(heard=[heard])) == AlreadyTold(heard.disclosure, consented=False)


def test_a_notice_heard_before_does_not_answer_for_a_stricter_one() -> None:
    heard = DisclosureHeard(Uniqueid("1"), key(PROOF), "d", "2026-01-01T00:00:00Z")
    assert isinstance(due(POLICY, replace(ASKED, countries=("DE",)), Notes(heard=[heard])), Due)
