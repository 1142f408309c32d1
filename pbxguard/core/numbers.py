"""Telephone numbers as texts from outside: read, placed in a country, masked. Never trusted, never parsed as more.

A caller ID is whatever the caller's side chose to send. What cannot be read as a number is kept as its digits (or as
nothing) and falls under the default jurisdiction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import ValidationResult

from .jurisdictions import jurisdiction as _jurisdiction
from .policy import Policy

MAX_TEXT = 64
"""Longer texts are no number: E.164 has 15 digits, dialling prefixes and punctuation included stay far below."""
MAX_DIGITS = 24
_SHORTEST_NATIONAL = 7
"""Below it a number without a ``+`` is an extension or a service number and stays as it is: in the Netherlands
14070 is a town hall, and in many an office a desk."""
_ALLOWED = re.compile(r"\+?[0-9 ()./-]+")
_SERVICE_CODE = re.compile(r"[*#][0-9]{1,3}[*#](?=[+0-9])")
"""A code dialled before the number, e.g. ``*31#`` (withhold mine) or ``#31#``."""
_E164 = re.compile(r"\+[0-9]{1,15}")
_SCHEME = re.compile(r"(?:tel|sips?):", re.IGNORECASE)
_STARS = "*****"


@dataclass(frozen=True, slots=True)
class Number:
    """A number that was read: `digits` is always only 0-9, at most 24 of them."""

    e164: str
    """With ``+``; empty for short and national numbers that are in no numbering plan, and for what is no number."""
    country: str
    """ISO 3166-1 alpha-2, or empty where the number shows none."""
    digits: str
    """As shown, digits only; of a short number in international form the short number itself (+31112 is 112)."""

    @property
    def known(self) -> str:
        """The best name of it: E.164 with ``+``, else the digits, else empty."""
        return self.e164 or self.digits


NOBODY = Number("", "", "")
"""Withheld, or not a number."""


def parse(text: str, country: str) -> Number:
    """Read `text` as dialled or shown in `country` (ISO 3166-1 alpha-2). Never raises; no number gives `NOBODY`.

    Takes any notation (``+31 (0)70 123 45 67``, ``0031...``, ``070-1234567``, ``tel:+31...``, ``*31#070...``).
    An international number needs a possible length, a national one must exist in the numbering plan, so that an
    extension is not mistaken for a subscriber.
    """
    if len(text) > MAX_TEXT:
        return NOBODY
    return _parse(text, country.upper())


@lru_cache(maxsize=4096)
def _parse(text: str, country: str) -> Number:
    shown = _SERVICE_CODE.sub("", _SCHEME.sub("", text.strip(), count=1), count=1).strip()
    if not shown.isascii() or not _ALLOWED.fullmatch(shown):
        return NOBODY
    digits = re.sub(r"[^0-9]", "", shown)
    if not 0 < len(digits) <= MAX_DIGITS:
        return NOBODY
    as_shown = Number("", "", digits)
    try:
        number = phonenumbers.parse(shown, country, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return as_shown
    international = number.country_code_source not in (
        phonenumbers.CountryCodeSource.FROM_DEFAULT_COUNTRY,
        phonenumbers.CountryCodeSource.UNSPECIFIED,
    )
    region = phonenumbers.region_code_for_number(number) or phonenumbers.region_code_for_country_code(
        number.country_code or 0
    )
    region = region if len(region) == 2 and region.isalpha() and region != "ZZ" else ""
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    exists = phonenumbers.is_valid_number(number)
    if international and not exists and phonenumbers.is_possible_short_number_for_region(number, region):
        return Number("", region, str(number.national_number))
    if (exists and len(digits) >= _SHORTEST_NATIONAL) if not international else possible:
        e164 = str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
        # What does not read as itself (+31 (0)01..., zeros too many) is in no plan: as such the same caller would be
        # two, and a list that names one would miss the other.
        if _E164.fullmatch(e164) and (e164 == shown or _parse(e164, country).e164 == e164):
            return Number(e164, region, digits)
    return as_shown


def jurisdiction(number: Number, policy: Policy) -> str:
    """The country whose law the number falls under, by the policy's overrides, its country, or the default."""
    return _jurisdiction(policy, number.e164, number.country)


def mask(text: str) -> str:
    """A number for eyes that need not know it: ``+31612345678`` becomes ``+31*****678``.

    Keeps the country's code and three digits of what has more than six; the length is hidden. What is no number is
    hidden whole. An empty text stays empty.
    """
    if not text:
        return ""
    number = parse(text, "ZZ")
    if len(number.digits) <= 6:
        return _STARS
    code = ""
    if number.e164:
        parsed = phonenumbers.parse(number.e164)
        code = f"+{parsed.country_code}"
    return f"{code}{_STARS}{number.digits[-3:]}"
