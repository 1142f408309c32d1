"""How long a recording is kept: the rules of LAW.md 4, one by one and by property."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.ids import PurposeName
from pbxguard.core.retention import (
    RULES,
    ByOutcome,
    Destroy,
    Fixed,
    Ground,
    Keep,
    Kept,
    Outcome,
    Period,
    Rule,
    adjusted,
    due,
    schedule,
    told,
)

ENDED = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def kept(*purposes: str, outcome: str = "", contract_end: str = "") -> Kept:
    return Kept(purposes or ("contract_evidence",), ENDED, outcome, contract_end)


def until(facts: Kept, now: datetime = ENDED) -> datetime | None:
    decision = due(facts, now)
    assert isinstance(decision, Keep)
    return decision.until


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (kept(outcome="no_contract"), ENDED + timedelta(days=7)),
        (kept(), ENDED + timedelta(days=30)),
        (kept(outcome="pending_signature"), ENDED + timedelta(days=30)),
        (kept(outcome="written by a later version"), ENDED + timedelta(days=30)),
        (kept(outcome="contract"), None),
        (kept(outcome="existing_contract"), None),
        (kept(outcome="contract", contract_end="not a date"), None),
        (kept(outcome="contract", contract_end="2027-06-30"), datetime(2028, 7, 1, tzinfo=UTC)),
        (kept(outcome="existing_contract", contract_end="2027-06-30"), datetime(2028, 7, 1, tzinfo=UTC)),
        (kept("quality_training"), ENDED + timedelta(days=28)),
        (kept("complaint_handling"), ENDED + timedelta(days=90)),
        (kept("mifid_order"), datetime(2031, 3, 2, 12, 0, tzinfo=UTC)),
        (kept("contract_evidence", "complaint_handling", outcome="no_contract"), ENDED + timedelta(days=90)),
        (kept("contract_evidence", "quality_training", outcome="no_contract"), ENDED + timedelta(days=28)),
        (kept("contract_evidence", "quality_training"), ENDED + timedelta(days=30)),
        (kept("quality_training", "mifid_order"), datetime(2031, 3, 2, 12, 0, tzinfo=UTC)),
    ],
)
def test_each_purpose_is_kept_for_its_period(facts: Kept, expected: datetime | None) -> None:
    assert until(facts) == expected
    if expected is not None:
        assert isinstance(due(facts, expected - timedelta(microseconds=1)), Keep)
        assert isinstance(due(facts, expected), Destroy)


def test_a_contract_that_had_ended_is_kept_no_shorter_than_an_undecided_call() -> None:
    assert until(kept(outcome="existing_contract", contract_end="2020-01-01")) == ENDED + timedelta(days=30)


def test_an_outcome_speaks_only_to_the_purposes_that_ask_for_it() -> None:
    for outcome in Outcome:
        assert until(kept("quality_training", outcome=outcome.value)) == ENDED + timedelta(days=28)


def test_a_purpose_without_a_rule_is_kept_and_told() -> None:
    decision = due(kept("lottery", "quality_training"), ENDED + timedelta(days=3650))
    assert isinstance(decision, Keep)
    assert decision.why.ground is Ground.NO_RULE
    assert decision.why.purpose == "lottery"


def test_a_recording_without_a_purpose_is_kept_for_a_person_to_look_at() -> None:
    decision = due(Kept((), ENDED), ENDED + timedelta(days=3650))
    assert decision == Keep(None, decision.why)


@pytest.mark.parametrize("outcome", [o.value for o in Outcome])
def test_a_lock_keeps_until_day_14_and_then_destroys(outcome: str) -> None:
    day_14 = ENDED + timedelta(days=14)
    facts = Kept(("contract_evidence",), ENDED, outcome, "", True, day_14)
    for days in (0, 8, 13):
        decision = due(facts, ENDED + timedelta(days=days))
        assert isinstance(decision, Keep)
        assert (decision.until, decision.why.ground) == (day_14, Ground.LOCKED)
    decision = due(facts, day_14)
    assert isinstance(decision, Destroy)
    assert decision.why.ground is Ground.LOCK_OVER


def test_a_lock_without_an_end_freezes() -> None:
    facts = Kept(("quality_training",), ENDED, locked=True)
    assert due(facts, ENDED + timedelta(days=3650)) == Keep(None, due(facts, ENDED).why)


def test_the_end_of_a_lock_does_not_destroy_what_the_law_demands() -> None:
    facts = Kept(("contract_evidence", "mifid_order"), ENDED, locked=True, lock_until=ENDED + timedelta(days=14))
    decision = due(facts, ENDED + timedelta(days=15))
    assert isinstance(decision, Keep)
    assert decision.until == datetime(2031, 3, 2, 12, 0, tzinfo=UTC)
    assert decision.why.purpose == "mifid_order"


def test_an_unlocked_recording_ignores_the_old_end_of_its_lock() -> None:
    facts = Kept(("contract_evidence",), ENDED, locked=False, lock_until=ENDED + timedelta(days=14))
    assert until(facts, ENDED + timedelta(days=20)) == ENDED + timedelta(days=30)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        (datetime(2026, 1, 31, tzinfo=UTC), Period(months=1), datetime(2026, 2, 28, tzinfo=UTC)),
        (datetime(2028, 2, 29, tzinfo=UTC), Period(months=12), datetime(2029, 2, 28, tzinfo=UTC)),
        (datetime(2026, 12, 15, tzinfo=UTC), Period(months=1, days=1), datetime(2027, 1, 16, tzinfo=UTC)),
        (datetime(2026, 12, 31, tzinfo=UTC), Period(months=12), datetime(2027, 12, 31, tzinfo=UTC)),
    ],
)
def test_months_follow_the_calendar(start: datetime, period: Period, end: datetime) -> None:
    assert period.after(start) == end


def test_settings_change_only_what_they_name() -> None:
    base = RULES[PurposeName("contract_evidence")]
    assert adjusted(base) == base
    assert adjusted(base, no_contract_days=3) == ByOutcome(Period(days=3), Period(days=30), Period(months=12))
    assert adjusted(base, contract_months=60) == ByOutcome(Period(days=7), Period(days=30), Period(months=60))
    assert adjusted(base, days=10) == Fixed(Period(days=10))
    assert adjusted(base, days=10, undecided_days=20) == ByOutcome(Period(days=10), Period(days=20), Period(months=12))
    assert adjusted(Fixed(Period(days=28)), days=14) == Fixed(Period(days=14))
    assert adjusted(None) is None
    assert adjusted(None, days=5) == Fixed(Period(days=5))


def test_a_decision_is_told_in_plain_words_in_both_languages() -> None:
    assert told(due(kept(), ENDED)) == (
        "kept until 2026-04-01 (contract_evidence: no outcome reported, 30 days after the call)"
    )
    assert told(due(kept(), ENDED), "nl") == (
        "bewaard tot 2026-04-01 (contract_evidence: uitkomst onbekend, 30 dagen na het gesprek)"
    )
    assert told(due(kept(outcome="contract"), ENDED)) == (
        "kept (contract_evidence: there is a contract whose end is not known)"
    )
    assert told(due(kept("mifid_order"), ENDED + timedelta(days=3000)), "nl") == (
        "wordt vernietigd (mifid_order: 5 jaar na het gesprek)"
    )
    assert told(due(kept(outcome="contract", contract_end="2027-06-30"), ENDED)) == (
        "kept until 2028-07-01 (contract_evidence: 12 months after the contract's end on 2027-06-30)"
    )


def test_a_rule_is_told_as_a_schedule() -> None:
    assert dict(schedule(ByOutcome())) == {
        "no_contract": "7 days",
        "undecided": "30 days",
        "contract": "12 months after the contract's end",
    }
    assert schedule(Fixed(Period(months=60)), "nl") == (("altijd", "5 jaar"),)
    assert schedule(Fixed(Period(days=1, months=1))) == (("always", "1 month and 1 day"),)


# -- properties ------------------------------------------------------------------------------------------------------

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
periods = st.builds(Period, days=st.integers(1, 4000), months=st.integers(0, 130))
rules_of_one = st.one_of(st.builds(Fixed, periods), st.builds(ByOutcome, periods, periods, periods))
names = st.sampled_from([*RULES, PurposeName("own_purpose")])
rule_books = st.dictionaries(names, rules_of_one)
contract_ends = st.one_of(
    st.just(""), st.dates(date(1990, 1, 1), date(9999, 12, 31)).map(date.isoformat), st.text(max_size=12)
)
outcomes = st.one_of(st.sampled_from([o.value for o in Outcome]), st.text(max_size=12))
facts_of_any = st.builds(
    Kept,
    purposes=st.lists(names, max_size=3, unique=True).map(tuple),
    ended=moments,
    outcome=outcomes,
    contract_end=contract_ends,
    locked=st.booleans(),
    lock_until=st.one_of(st.none(), moments),
)
FOREVER = datetime.max.replace(tzinfo=UTC)


def last_moment(facts: Kept, rules: dict[PurposeName, Rule]) -> datetime:
    """Until when it is kept, following lock and rules; FOREVER for without end."""
    now = datetime.min.replace(tzinfo=UTC)
    for _ in range(3):
        decision = due(facts, now, rules)
        if isinstance(decision, Destroy):
            return now
        if decision.until is None:
            return FOREVER
        now = decision.until
    raise AssertionError("it never comes to an end")


@given(facts_of_any, rule_books, moments, moments)
def test_once_destroy_it_is_never_keep_again(
    facts: Kept, rules: dict[PurposeName, Rule], a: datetime, b: datetime
) -> None:
    earlier, later = sorted((a, b))
    if isinstance(due(facts, earlier, rules), Destroy):
        assert isinstance(due(facts, later, rules), Destroy)


@given(facts_of_any, rule_books, moments)
def test_what_is_kept_until_a_moment_is_kept_before_it(
    facts: Kept, rules: dict[PurposeName, Rule], now: datetime
) -> None:
    decision = due(facts, now, rules)
    if isinstance(decision, Keep) and decision.until is not None:
        assert now < decision.until
        assert isinstance(due(facts, decision.until - timedelta(microseconds=1), rules), Keep)


@given(moments, names, names, outcomes, contract_ends, rule_books)
def test_an_outcome_never_shortens_another_purposes_period(
    ended: datetime,
    purpose: PurposeName,
    other: PurposeName,
    outcome: str,
    contract_end: str,
    rules: dict[PurposeName, Rule],
) -> None:
    rules = {**rules, other: Fixed(Period(days=100))}
    without = last_moment(Kept((other,), ended), rules)
    assert last_moment(Kept((purpose, other), ended, outcome, contract_end), rules) >= without


@given(facts_of_any, names, rule_books)
def test_another_purpose_never_shortens_what_the_first_ones_ask(
    facts: Kept, added: PurposeName, rules: dict[PurposeName, Rule]
) -> None:
    if not facts.purposes:
        return
    more = Kept(
        (*facts.purposes, added), facts.ended, facts.outcome, facts.contract_end, facts.locked, facts.lock_until
    )
    assert last_moment(more, rules) >= last_moment(facts, rules)


@given(facts_of_any, rule_books, moments)
def test_nothing_is_destroyed_before_the_officer_decided(
    facts: Kept, rules: dict[PurposeName, Rule], now: datetime
) -> None:
    if facts.locked and (facts.lock_until is None or now < facts.lock_until):
        assert isinstance(due(facts, now, rules), Keep)


@given(facts_of_any, rule_books, moments)
def test_every_decision_has_words_in_both_languages(facts: Kept, rules: dict[PurposeName, Rule], now: datetime) -> None:
    decision = due(facts, now, rules)
    assert told(decision)
    assert told(decision, "nl") != told(decision)
