"""Numbers that are never recorded, whoever calls whom (LAW.md 5): help lines, emergency numbers, an own list.

It never blocks the call itself. Owns how an entry is written and what it matches; the list that holds is
`Policy.never_record`, made by `entries` from the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import phonenumbers

from .numbers import Number, parse

SEEN_IN_A_SOURCE = (
    "112",  # emergency
    "113",  # suicide prevention, and its free and older numbers
    "08000113",
    "09000113",
    "08002000",  # Veilig Thuis: domestic violence and child abuse
    "08008112",  # police, fire, ambulance: text and video relay for the deaf
    "116000",  # missing children
    "116111",  # Kindertelefoon
    "116123",  # a listening ear
)
"""Marked [V] in LAW.md."""

GENERAL_KNOWLEDGE = (
    "09000101",  # victim support
    "116006",
    "08000432",  # Kindertelefoon
    "08000188",  # centre for sexual violence
    "08007000",  # report crime anonymously
    "09008844",  # police, no emergency
    "116117",  # doctor outside office hours
)
"""Marked [K] in LAW.md: unverified."""

DEFAULTS = SEEN_IN_A_SOURCE + GENERAL_KNOWLEDGE
"""Dutch numbers, as dialled in the Netherlands."""
_DEFAULTS_COUNTRY = "NL"
_SHORTEST_PREFIX = 3
"""A shorter prefix would stop the recording of half a country by a slip of the finger."""


def entries(own: Iterable[str], country: str, *, defaults: bool = True) -> frozenset[str]:
    """The list in every form in which a number may be seen: E.164, and as dialled.

    `own` entries may be in any notation; one that ends in ``*`` is a prefix, one that begins with ``_`` a pattern as
    Asterisk's extensions have (X 0-9, Z 1-9, N 2-9, [1-5] one of these, . and ! any digits at the end). Raises
    ValueError on one that is neither (the configuration is wrong; the text of the error holds no number).
    """
    forms: set[str] = set()
    for text in own:
        forms |= _forms(text, country)
    if defaults:
        for text in DEFAULTS:
            forms |= _forms(text, _DEFAULTS_COUNTRY)
    return frozenset(forms)


def is_listed(listed: frozenset[str], number: Number) -> bool:
    """Whether the list (as `entries` gives it) names this number: whole, by a prefix or by a pattern."""
    shown = {form for form in (number.e164, number.digits) if form}
    if not shown:
        return False
    if not shown.isdisjoint(listed):
        return True
    prefixes, patterns = _shapes(listed)
    return any(form.startswith(prefixes) or any(p.fullmatch(form) for p in patterns) for form in shown)


@lru_cache(maxsize=16)
def _shapes(listed: frozenset[str]) -> tuple[tuple[str, ...], tuple[re.Pattern[str], ...]]:
    """The prefixes and patterns of a list, made ready once: a list may be long, and is asked at every change."""
    prefixes = tuple(entry[:-1] for entry in listed if entry.endswith("*"))
    return prefixes, tuple(_expression(entry[1:]) for entry in listed if entry.startswith("_"))


def _forms(text: str, country: str) -> set[str]:
    if text.strip().startswith("_"):
        return _pattern_forms(text.strip()[1:], country)
    if text.strip().endswith("*"):
        return _prefix_forms(text.strip()[:-1], country)
    number = parse(text, country)
    if not number.digits:
        raise ValueError("not a number")
    # Some carriers send E.164 without its "+"; where that reads as another number too, not recording is the safe side.
    return {number.e164, number.e164[1:], number.digits} - {""}


def _prefix_forms(text: str, country: str) -> set[str]:
    """A prefix is in no numbering plan: taken as written, and its other spelling (national, E.164) made by hand."""
    plain = re.sub(r"[ ()./-]", "", text)
    if plain.startswith("00"):
        plain = f"+{plain[2:]}"
    if not re.fullmatch(r"\+?[0-9]{3,15}", plain, re.ASCII):
        raise ValueError("a prefix has 3 to 15 digits")
    return {f"{form}*" for form in _spellings(plain, country) if len(form) >= _SHORTEST_PREFIX}


def _pattern_forms(text: str, country: str) -> set[str]:
    """As a prefix, in both spellings; ``_`` stays before each."""
    plain = re.sub(r"[ ()/-](?![^\[]*\])", "", text)
    if plain.startswith("00"):
        plain = f"+{plain[2:]}"
    found = _PATTERN.fullmatch(plain)
    if found is None:
        raise ValueError("a pattern has digits, X, Z, N, [1-5], and . or ! at its end alone")
    if found[2] and not re.match(r"\+?[0-9]{3}", plain, re.ASCII):
        raise ValueError("a pattern of any length begins with 3 digits")
    return {f"_{form}" for form in _spellings(plain, country)}


def _spellings(plain: str, country: str) -> set[str]:
    """What begins as a number of `country`: as written, and national or E.164 instead."""
    code = str(phonenumbers.country_code_for_region(country) or "")
    trunk = phonenumbers.ndd_prefix_for_region(country, True) or ""
    forms = {plain}
    if code and plain.startswith(f"+{code}"):
        forms.add(f"{trunk}{plain[1 + len(code) :]}")
    elif code and trunk and plain.startswith(trunk):
        forms.add(f"+{code}{plain[len(trunk) :]}")
    return forms


_PATTERN = re.compile(r"(\+?(?:[0-9XZN]|\[[0-9](?:-?[0-9])*\])+)([.!]?)", re.ASCII)
_CLASSES = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": "[0-9]+", "!": "[0-9]*", "+": r"\+"}


def _expression(pattern: str) -> re.Pattern[str]:
    """A regular expression that matches what Asterisk's extension pattern does."""
    parts = re.findall(r"\[[^\]]*\]|.", pattern)
    return re.compile("".join(_CLASSES.get(part, part) for part in parts), re.ASCII)
