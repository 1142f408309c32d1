"""LAW.md 3, row by row."""

from __future__ import annotations

import pytest

from pbxguard.core.ids import PurposeName
from pbxguard.core.jurisdictions import TRAINING, jurisdiction, mode_for, mode_in
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Basis, Mode, Purpose

PROOF = PurposeName("contract_evidence")


@pytest.mark.parametrize(
    ("country", "purpose", "mode"),
    [
        ("NL", PROOF, Mode.NOTICE),
        ("NL", TRAINING, Mode.OPT_OUT),
        ("BE", PROOF, Mode.NOTICE),
        ("GB", TRAINING, Mode.NOTICE),
        ("DK", PROOF, Mode.NOTICE),
        ("DK", TRAINING, Mode.OPT_IN),
        ("DE", PROOF, Mode.OPT_IN),
        ("FR", PROOF, Mode.OPT_IN),
        ("US", PROOF, Mode.OPT_IN),
        ("", PROOF, Mode.OPT_IN),
        ("de", PROOF, Mode.OPT_IN),
        ("nl", PROOF, Mode.NOTICE),
    ],
)
def test_each_country_asks_what_the_table_says(country: str, purpose: PurposeName, mode: Mode) -> None:
    assert mode_in(country, purpose) is mode


def test_the_strictest_country_wins() -> None:
    assert mode_for(Purpose(PROOF, Basis.LEGITIMATE_INTEREST, True), ("NL", "DE")) is Mode.OPT_IN


def test_a_purpose_may_ask_more_than_the_country() -> None:
    assert mode_for(Purpose(PROOF, Basis.LEGITIMATE_INTEREST, True, mode=Mode.OPT_OUT), ("NL",)) is Mode.OPT_OUT


def test_a_purpose_based_on_consent_asks_for_a_key_everywhere() -> None:
    assert mode_for(Purpose(PROOF, Basis.CONSENT, True), ("NL",)) is Mode.OPT_IN


def test_a_withheld_number_falls_under_the_default() -> None:
    assert jurisdiction(Policy("Acme", default_jurisdiction="NL"), "", "") == "NL"


def test_the_longest_configured_prefix_goes_before_the_country() -> None:
    policy = Policy("Acme", jurisdiction_overrides={"+49": "DE", "+4930": "NL"})
    assert jurisdiction(policy, "+493012345", "DE") == "NL"
    assert jurisdiction(policy, "+498912345", "XX") == "DE"
    assert jurisdiction(policy, "+33123456789", "FR") == "FR"
