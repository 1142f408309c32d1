"""Which country's law a party falls under, and what it asks for each purpose (LAW.md 3). Not legal advice.

The table errs to the strict side: a country that is not named here asks for consent by key. The strictest party's
jurisdiction wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from .ids import PurposeName
from .policy import Policy
from .purposes import Basis, Mode, Purpose

TRAINING = PurposeName("quality_training")


_COUNTRIES: Mapping[str, tuple[Mode, Mode]] = MappingProxyType(
    {
        # country: (mode for training, mode for every other purpose)
        "NL": (Mode.OPT_OUT, Mode.NOTICE),
        "BE": (Mode.NOTICE, Mode.NOTICE),
        "GB": (Mode.NOTICE, Mode.NOTICE),
        "DK": (Mode.OPT_IN, Mode.NOTICE),
        "DE": (Mode.OPT_IN, Mode.OPT_IN),  # section 201 StGB; carrying on is not consent
        "FR": (Mode.OPT_IN, Mode.OPT_IN),
    }
)


def mode_in(country: str, purpose: PurposeName) -> Mode:
    """What the law of `country` (ISO 3166-1 alpha-2) asks for `purpose`; `opt_in` where we do not know it."""
    training, other = _COUNTRIES.get(country.upper(), (Mode.OPT_IN, Mode.OPT_IN))
    return training if purpose == TRAINING else other


def mode_for(purpose: Purpose, countries: Iterable[str]) -> Mode:
    """The strictest of what the purpose itself, its legal basis and each of `countries` ask."""
    mode = purpose.mode.stricter(Mode.OPT_IN) if purpose.basis is Basis.CONSENT else purpose.mode
    for country in countries:
        mode = mode.stricter(mode_in(country, purpose.name))
    return mode


def jurisdiction(policy: Policy, e164: str, country: str) -> str:
    """The country whose law a number falls under.

    `e164` with ``+`` and `country` come from reading the number; both are empty for one that is withheld or cannot
    be read, which falls under the default. A configured prefix, the longest that fits, goes before the country.
    """
    prefixes = [prefix for prefix in policy.jurisdiction_overrides if prefix and e164.startswith(prefix)]
    if prefixes:
        return policy.jurisdiction_overrides[max(prefixes, key=len)].upper()
    return (country or policy.default_jurisdiction).upper()
