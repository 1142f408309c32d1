"""Every reason has its words, and the one to show first is first."""

from __future__ import annotations

import pytest

from pbxguard.core import permit
from pbxguard.core.reasons import WORDS, Reason, ordered, words


@pytest.mark.parametrize("reason", list(Reason), ids=lambda r: r.value)
def test_every_reason_has_plain_words_in_dutch_and_english(reason: Reason) -> None:
    assert len(words(reason, "nl")) > 10
    assert len(words(reason, "en")) > 10
    assert words(reason, "nl") != words(reason, "en")
    assert words(reason, "de") == words(reason, "en")


def test_no_two_reasons_say_the_same() -> None:
    for language in ("nl", "en"):
        assert len({words(reason, language) for reason in Reason}) == len(Reason)


def test_no_reason_calls_anybody_a_criminal() -> None:
    for reason in Reason:
        for text in (WORDS[reason].nl, WORDS[reason].en):
            assert not {"misdrijf", "strafbaar", "crime", "criminal", "illegal"} & set(text.lower().split())


def test_reasons_are_told_by_condition_3_1_4_5_6_7_2() -> None:
    conditions = [WORDS[reason].condition for reason in ordered(set(Reason))]
    assert [c for i, c in enumerate(conditions) if i == 0 or conditions[i - 1] != c] == [0, 3, 1, 4, 5, 6, 7, 2, 8]


def test_the_order_does_not_depend_on_that_of_the_set() -> None:
    some = [Reason.NOT_TOLD, Reason.ON_HOLD, Reason.OBJECTED, Reason.NO_PURPOSE]
    assert ordered(set(some)) == ordered(set(reversed(some)))
    assert ordered(set(some)) == (Reason.OBJECTED, Reason.NO_PURPOSE, Reason.ON_HOLD, Reason.NOT_TOLD)


def test_every_row_of_the_permit_is_one_of_the_seven_conditions_or_the_switch() -> None:
    for reason in (*permit.CONVERSATION, *permit.PURPOSE):
        assert 0 <= WORDS[reason].condition <= 7
