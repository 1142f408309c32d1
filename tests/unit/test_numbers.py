"""Numbers: any notation in, E.164 or bare digits out; hostile texts are nobody's number."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.numbers import MAX_DIGITS, NOBODY, Number, jurisdiction, mask, parse
from pbxguard.core.policy import Policy


@pytest.mark.parametrize(
    "text",
    [
        "+31 (0)70 123 4567",
        "0031701234567",
        "31701234567",
        "070-1234567",
        "070 123 45 67",
        "tel:+31701234567",
        "sip:+31701234567",
        "*31#0701234567",
        "#31#+31701234567",
        "  0701234567 ",
    ],
)
def test_any_notation_reads_as_the_same_number(text: str) -> None:
    number = parse(text, "NL")
    assert (number.e164, number.country) == ("+31701234567", "NL")


def test_a_number_of_another_country_shows_that_country() -> None:
    assert parse("004930123456", "NL").country == "DE"
    assert parse("+441632960961", "NL").country == "GB"
    assert parse("030123456", "DE") == Number("+4930123456", "DE", "030123456")


@pytest.mark.parametrize("text", ["112", "113", "100", "2001", "14070", "116000"])
def test_short_numbers_stay_as_they_are_dialled(text: str) -> None:
    assert parse(text, "NL") == Number("", "", text)


def test_a_short_number_in_international_form_is_the_short_number() -> None:
    assert parse("+31112", "NL").digits == "112"
    assert parse("0031116123", "NL").digits == "116123"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "anonymous",
        "<unknown>",
        "unavailable",
        "${SHELL(id)}",
        "0612345678,b,id",
        "0612345678\r\nAction: Originate",
        "../../etc/passwd",
        "'; DROP TABLE calls; --",
        "٠٦١٢٣٤٥٦٧٨",
        "\uff10\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
        "06\x0012345678",
        "++31612345678",
        "1" * 25,
        "0" * 10_000,
    ],
)
def test_what_is_no_number_is_nobody(text: str) -> None:
    assert parse(text, "NL") == NOBODY


def test_an_unassigned_national_number_keeps_its_digits_only() -> None:
    assert parse("4930123456", "NL") == Number("", "", "4930123456")


@given(st.text(max_size=200), st.sampled_from(["NL", "DE", "US", "ZZ", "", "nl"]))
def test_no_text_whatever_raises_or_leaves_anything_but_digits(text: str, country: str) -> None:
    number = parse(text, country)
    assert len(number.digits) <= MAX_DIGITS
    assert number.digits == "" or (number.digits.isascii() and number.digits.isdigit())
    assert number.e164 == "" or (number.e164[0] == "+" and number.e164[1:].isascii() and number.e164[1:].isdigit())
    assert number.country == "" or (len(number.country) == 2 and number.country.isupper())


@given(st.text(alphabet="+0123456789 ()-./*#", max_size=70))
def test_reading_a_number_again_changes_nothing(text: str) -> None:
    number = parse(text, "NL")
    if number.e164:
        assert parse(number.e164, "DE").e164 == number.e164


def test_jurisdiction_follows_the_override_then_the_country_then_the_default() -> None:
    policy = Policy(
        "x", default_jurisdiction="BE", jurisdiction_overrides=MappingProxyType({"+3170": "DE", "+31": "FR"})
    )
    assert jurisdiction(parse("0701234567", "NL"), policy) == "DE"
    assert jurisdiction(parse("0612345678", "NL"), policy) == "FR"
    assert jurisdiction(parse("+441632960961", "NL"), policy) == "GB"
    assert jurisdiction(parse("anonymous", "NL"), policy) == "BE"
    assert jurisdiction(parse("112", "NL"), policy) == "BE"


def test_masking_keeps_the_country_and_three_digits() -> None:
    assert mask("+31612345678") == "+31*****678"
    assert mask("0612345678") == "*****678"
    assert mask("112") == "*****"
    assert mask("") == ""
    assert mask("Jan de Vries") == "*****"


@given(st.text(min_size=1, max_size=100))
def test_masking_shows_never_more_than_the_country_and_three_digits(text: str) -> None:
    masked = mask(text)
    code, _, rest = masked.partition("*****")
    assert len(rest) <= 3
    assert len(code) <= 4
    assert code == "" or code[0] == "+"


def test_what_does_not_read_as_itself_is_in_no_plan() -> None:
    """Else one caller would be two: +31017234967 and, read again, +3117234967."""
    assert parse("0031 (0)01 723 49 67", "NL").e164 == ""
    assert parse("+6600(000000", "NL").e164 == "", "nothing but zeros keeps its bracket"
    assert parse("0031 (0)70 123 45 67", "NL").e164 == "+31701234567"
