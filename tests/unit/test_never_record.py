"""Never record: help lines in every spelling, and nothing that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.never_record import DEFAULTS, entries, is_listed
from pbxguard.core.numbers import parse

LISTED = entries((), "NL")


def listed(text: str, country: str = "NL", on: frozenset[str] = LISTED) -> bool:
    return is_listed(on, parse(text, country))


@pytest.mark.parametrize(
    "text",
    [
        "112",
        "113",
        "+31112",
        "0800-0113",
        "08000113",
        "+318000113",
        "0031 800 0113",
        "31 800 0113",
        "*31#113",
        "116 123",
    ],
)
def test_a_help_line_is_known_in_every_spelling(text: str) -> None:
    assert listed(text)


@pytest.mark.parametrize("text", DEFAULTS)
def test_every_default_is_known_as_dialled_and_from_abroad(text: str) -> None:
    assert listed(text)
    assert listed(f"0031{text.removeprefix('0')}", "DE")


@pytest.mark.parametrize(
    "text",
    ["1120", "0112", "1122", "0201120112", "0701234112", "+31201120113", "11", "080001130", "", "anonymous"],
)
def test_a_number_that_merely_holds_one_is_not_on_the_list(text: str) -> None:
    assert not listed(text)


@given(st.text(alphabet="0123456789", min_size=1, max_size=6), st.sampled_from(["112", "113", "116000"]))
def test_digits_before_or_after_a_short_code_make_it_another_number(extra: str, code: str) -> None:
    others = {"112", "113", *DEFAULTS}
    for text in (code + extra, extra + code):
        known = parse(text, "NL")
        if text not in others and known.digits == text and not known.e164:
            assert not listed(text)


@given(st.from_regex(r"0(20|70|6[1-5])[0-9]{7}", fullmatch=True))
def test_ordinary_subscribers_are_never_on_the_default_list(text: str) -> None:
    assert not listed(text) or len(parse(text, "NL").digits) < 9


def test_an_own_number_is_known_in_any_notation() -> None:
    own = entries(["(070) 123 45 67", "250"], "NL", defaults=False)
    assert listed("+31701234567", on=own)
    assert listed("070-1234567", on=own)
    assert listed("250", on=own)
    assert not listed("2501", on=own)
    assert not listed("112", on=own)


def test_a_prefix_covers_both_spellings_and_no_neighbour() -> None:
    own = entries(["070-1234*"], "NL", defaults=False)
    assert listed("0701234567", on=own)
    assert listed("+31701234999", on=own)
    assert not listed("0701235567", on=own)
    assert listed("0701234567", on=entries(["+31 70 1234*"], "NL", defaults=False))
    assert listed("+4930123456", on=entries(["0049 30*"], "NL", defaults=False))


@pytest.mark.parametrize("text", ["", "*", "0*", "12*", "my lawyer", "0612345678\r\nx", "070;*", "+" + "1" * 40 + "*"])
def test_an_entry_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|prefix"):
        entries([text], "NL")


@pytest.mark.parametrize(
    ("pattern", "on", "off"),
    [
        ("_2XX", ["200", "299"], ["20", "2000", "300"]),
        ("_0201234NXX", ["0201234200", "+31201234999"], ["0201234100", "+4920123420"]),
        ("_070765432[1-3]", ["0707654321", "+31707654323"], ["0707654324"]),
        ("_+3120999.", ["+31209990001", "0209990001"], ["+31209980001"]),
        ("_0031 20-888!", ["0208880001"], ["0208870001"]),
        ("_Z0[13-5]", ["103", "905"], ["003", "102"]),
    ],
)
def test_a_pattern_is_read_as_in_an_extension(pattern: str, on: list[str], off: list[str]) -> None:
    own = entries([pattern], "NL", defaults=False)
    assert [text for text in on if not listed(text, on=own)] == []
    assert [text for text in off if listed(text, on=own)] == []


@pytest.mark.parametrize("text", ["_", "_.", "_X.", "_12!", "_0.1", "_0[", "_0[a]", "_(.*)", "_0[^1]"])
def test_a_pattern_that_is_none_or_covers_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        entries([text], "NL", defaults=False)
