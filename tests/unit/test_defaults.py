"""Shipped purposes and their words (LAW.md 4), and the search for vague ones."""

from __future__ import annotations

import itertools

import pytest

from pbxguard.core.defaults import (
    COMPLAINT_HANDLING,
    CONTRACT_EVIDENCE,
    LANGUAGES,
    MIFID_ORDER,
    PURPOSES,
    QUALITY_TRAINING,
    Wording,
    disclosure_keys,
    full_text,
    key_text,
    notice_text,
    vague,
)
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, DisclosureKey, Mode, OnObjection

ACME = Wording("Acme Energie")
ALL_PAIRS = list(itertools.combinations(PURPOSES, 2))


def key(
    *purposes: PurposeName, language: str = "nl", mode: Mode = Mode.NOTICE, direction: Direction = Direction.INBOUND
) -> DisclosureKey:
    return DisclosureKey.of(purposes, language, mode, direction)


def test_the_notice_names_the_organisation_and_its_purpose() -> None:
    assert notice_text(key(CONTRACT_EVIDENCE), ACME) == (
        "Acme Energie neemt dit gesprek op als bewijs van wat wij bespreken en afspreken."
    )


def test_the_site_is_named_when_set() -> None:
    text = notice_text(key(CONTRACT_EVIDENCE, language="en"), Wording("Acme", site="acme.example"))
    assert text.endswith("agree. More at acme.example.")


def test_a_notice_of_two_purposes_has_the_combined_words() -> None:
    assert notice_text(key(QUALITY_TRAINING, CONTRACT_EVIDENCE), ACME) == (
        "Acme Energie neemt dit gesprek op als bewijs van wat wij afspreken en om medewerkers te trainen."
    )


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "de",
            "Acme Energie nimmt dieses Gespräch als Beweis dessen auf, was wir besprechen und vereinbaren, "
            "und um unser Personal zu schulen.",
        ),
        (
            "fr",
            "Acme Energie enregistre cet appel comme preuve de ce dont nous convenons et pour former son personnel.",
        ),
    ],
)
def test_german_and_french_combinations_are_built_from_the_two(language: str, text: str) -> None:
    assert notice_text(key(CONTRACT_EVIDENCE, QUALITY_TRAINING, language=language), ACME) == text


def test_the_law_is_not_said_to_require_the_second_purpose() -> None:
    assert notice_text(key(MIFID_ORDER, QUALITY_TRAINING, language="en"), ACME) == (
        "The law requires Acme Energie to record this call about your investments. "
        "Acme Energie also records it to train our staff."
    )


def test_a_sales_call_says_first_who_calls_and_why() -> None:
    text = notice_text(key(CONTRACT_EVIDENCE, direction=Direction.OUTBOUND), ACME)
    assert text.startswith("U spreekt met Acme Energie, voor een aanbod. Acme Energie neemt")
    plain = Wording("Acme Energie", outbound_opening=False)
    assert "aanbod" not in notice_text(key(CONTRACT_EVIDENCE, direction=Direction.OUTBOUND), plain)
    assert "aanbod" not in notice_text(key(COMPLAINT_HANDLING, direction=Direction.OUTBOUND), ACME)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("purposes", [*((p,) for p in PURPOSES), *ALL_PAIRS], ids="+".join)
@pytest.mark.parametrize("direction", Direction)
def test_every_shipped_text_is_complete_and_not_vague(
    language: str, purposes: tuple[PurposeName, ...], direction: Direction
) -> None:
    for mode in Mode:
        disclosure = key(*purposes, language=language, mode=mode, direction=direction)
        text = full_text(disclosure, Wording("Acme", site="acme.example"))
        assert "Acme" in text
        assert "{" not in text
        assert ".." not in text
        assert text.endswith(".")
        assert vague(text, language, purposes) == []


def test_the_key_sentence_is_apart_and_empty_in_a_notice() -> None:
    assert key_text(key(CONTRACT_EVIDENCE)) == ""
    assert key_text(key(CONTRACT_EVIDENCE, mode=Mode.OPT_OUT)) == "Toets 9 of zeg het als u dit niet wilt."
    opt_in = key(CONTRACT_EVIDENCE, language="en", mode=Mode.OPT_IN)
    assert full_text(opt_in, ACME).endswith("agree. Press 1 if you agree; otherwise we will not record.")


def test_a_text_of_the_organisation_replaces_ours_and_names_are_filled_in_only() -> None:
    wording = Wording(
        "Acme {site}", own_texts={("contract_evidence", "nl"): "{org} legt vast wat u zegt. {org.__class__}"}
    )
    assert notice_text(key(CONTRACT_EVIDENCE), wording) == "Acme {site} legt vast wat u zegt. {org.__class__}"


def test_a_purpose_of_the_organisation_joins_as_a_sentence_of_its_own() -> None:
    dispute = PurposeName("dispute")
    wording = Wording("Acme", own_texts={("dispute", "en"): "{org} keeps it for the arbitrator."})
    assert notice_text(key(CONTRACT_EVIDENCE, dispute, language="en"), wording) == (
        "Acme records this call as proof of what we discuss and agree. Acme keeps it for the arbitrator."
    )
    with pytest.raises(KeyError):
        notice_text(key(dispute, language="nl"), wording)


def test_three_purposes_are_no_disclosure() -> None:
    with pytest.raises(ValueError, match="one or two"):
        notice_text(key(CONTRACT_EVIDENCE, QUALITY_TRAINING, MIFID_ORDER), ACME)


def test_only_the_right_modes_become_due() -> None:
    keys = disclosure_keys(PURPOSES.values(), ["nl"], [(CONTRACT_EVIDENCE, QUALITY_TRAINING)])
    modes = {purposes: {k.mode for k in keys if k.purposes == purposes} for purposes in {k.purposes for k in keys}}
    assert modes[(MIFID_ORDER,)] == {Mode.NOTICE}
    assert modes[(QUALITY_TRAINING,)] == {Mode.OPT_OUT, Mode.OPT_IN}
    assert modes[(CONTRACT_EVIDENCE,)] == set(Mode)
    assert modes[(CONTRACT_EVIDENCE, QUALITY_TRAINING)] == {Mode.OPT_OUT, Mode.OPT_IN}


def test_training_ships_inactive_and_an_objection_destroys_it() -> None:
    assert not PURPOSES[QUALITY_TRAINING].active
    assert PURPOSES[QUALITY_TRAINING].on_objection is OnObjection.DESTROY
    assert PURPOSES[QUALITY_TRAINING].mode is Mode.OPT_OUT
    assert PURPOSES[MIFID_ORDER].on_objection is OnObjection.IGNORE
    assert not PURPOSES[MIFID_ORDER].active


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("nl", "Dit telefoongesprek wordt opgenomen voor servicedoeleinden."),
        ("nl", "Dit gesprek wordt opgenomen voor Kwaliteitsdoeleinden."),
        ("nl", "Wij nemen op voor interne  doeleinden."),
        ("nl", "Wij nemen op ter verbetering van onze dienstverlening."),
        ("nl", "Wij nemen op voor diverse doelen."),
        ("nl", "Wij nemen op voor bewijs, enzovoort."),
        ("nl", "Dit gesprek kan worden opgenomen."),
        ("en", "Calls may be recorded."),
        ("en", "This call is recorded for quality purposes."),
        ("en", "We record to improve our services."),
        ("en", "We record for internal purposes."),
        ("de", "Dieses Gespräch kann aufgezeichnet werden."),
        ("de", "Wir zeichnen zu Servicezwecken auf."),
        ("de", "Wir zeichnen zu Qualitätszwecken auf."),
        ("fr", "Cet appel est susceptible d'être enregistré."),
        ("fr", "Nous enregistrons afin d'améliorer la qualité de nos services."),
        ("fr", "Nous enregistrons à des fins de qualité."),
        ("es", "Calls may be recorded."),
    ],
)
def test_a_vague_text_is_found(language: str, text: str) -> None:
    assert vague(text, language)


def test_quality_with_its_training_named_is_not_bare() -> None:
    text = "Acme records this call for quality control: we train our staff with it."
    assert vague(text, "en", (QUALITY_TRAINING,)) == []


def test_training_hidden_in_an_evidence_purpose_is_found() -> None:
    text = "Acme neemt dit gesprek op als bewijs en voor trainingsdoeleinden."
    assert [v.words for v in vague(text, "nl", (CONTRACT_EVIDENCE,))] == ["trainingsdoeleinden"]
    assert vague(text, "nl", (CONTRACT_EVIDENCE, QUALITY_TRAINING)) == []
