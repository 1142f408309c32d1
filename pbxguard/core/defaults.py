"""What pbxguard ships: the purposes, and every word of their disclosures (LAW.md 4).

Owns texts and how they are put together; whether a prompt is approved, and what it sounds like, is the business of
`sound/prompts.py`. Say what you really do: a disclosure names each of its purposes in words of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .confirmations import ConfirmationKey, Effect
from .ids import PurposeName
from .purposes import Basis, Direction, DisclosureKey, Mode, OnObjection, Purpose
from .vague import Vague as Vague
from .vague import vague as vague

CONTRACT_EVIDENCE = PurposeName("contract_evidence")
QUALITY_TRAINING = PurposeName("quality_training")
COMPLAINT_HANDLING = PurposeName("complaint_handling")
MIFID_ORDER = PurposeName("mifid_order")

LANGUAGES = ("nl", "en", "de", "fr")
"""Those with shipped texts; the first two are on by default."""

PURPOSES: Mapping[PurposeName, Purpose] = MappingProxyType(
    {
        CONTRACT_EVIDENCE: Purpose(
            CONTRACT_EVIDENCE,
            basis=Basis.LEGITIMATE_INTEREST,
            active=True,
            on_objection=OnObjection.LOCK,
            listeners=("legal", "compliance"),
        ),
        QUALITY_TRAINING: Purpose(
            QUALITY_TRAINING,
            basis=Basis.LEGITIMATE_INTEREST,
            active=False,
            mode=Mode.OPT_OUT,
            on_objection=OnObjection.DESTROY,
            listeners=("coach", "agent"),
        ),
        COMPLAINT_HANDLING: Purpose(
            COMPLAINT_HANDLING,
            basis=Basis.LEGITIMATE_INTEREST,
            active=True,
            on_objection=OnObjection.LOCK,
            listeners=("complaints", "legal"),
        ),
        MIFID_ORDER: Purpose(
            MIFID_ORDER,
            basis=Basis.LEGAL_OBLIGATION,
            active=False,
            on_objection=OnObjection.IGNORE,
            listeners=("compliance",),
        ),
    }
)

_HEADS: Mapping[PurposeName, Mapping[str, str]] = {
    CONTRACT_EVIDENCE: {
        "nl": "{org} neemt dit gesprek op als bewijs van wat wij bespreken en afspreken.",
        "en": "{org} records this call as proof of what we discuss and agree.",
        "de": "{org} nimmt dieses Gespräch als Beweis dessen auf, was wir besprechen und vereinbaren.",
        "fr": "{org} enregistre cet appel comme preuve de ce dont nous convenons.",
    },
    QUALITY_TRAINING: {
        "nl": "{org} neemt dit gesprek op om onze medewerkers te trainen.",
        "en": "{org} records this call to train our staff.",
        "de": "{org} nimmt dieses Gespräch auf, um unser Personal zu schulen.",
        "fr": "{org} enregistre cet appel pour former son personnel.",
    },
    COMPLAINT_HANDLING: {
        "nl": "{org} neemt dit gesprek op om uw klacht te onderzoeken.",
        "en": "{org} records this call to investigate your complaint.",
        "de": "{org} nimmt dieses Gespräch auf, um Ihre Beschwerde zu prüfen.",
        "fr": "{org} enregistre cet appel pour examiner votre réclamation.",
    },
    MIFID_ORDER: {
        "nl": "De wet verplicht {org} dit gesprek over uw beleggingen op te nemen.",
        "en": "The law requires {org} to record this call about your investments.",
        "de": "Das Gesetz verpflichtet {org}, dieses Gespräch über Ihre Geldanlage aufzunehmen.",
        "fr": "La loi oblige {org} à enregistrer cet appel sur vos placements.",
    },
}
"""A purpose alone, or as the first of two."""

_TAILS: Mapping[PurposeName, Mapping[str, str]] = {
    CONTRACT_EVIDENCE: {
        "nl": "als bewijs van wat wij bespreken en afspreken",
        "en": "as proof of what we discuss and agree",
        "de": "als Beweis dessen, was wir besprechen und vereinbaren",
        "fr": "comme preuve de ce dont nous convenons",
    },
    QUALITY_TRAINING: {
        "nl": "om onze medewerkers te trainen",
        "en": "to train our staff",
        "de": "um unser Personal zu schulen",
        "fr": "pour former son personnel",
    },
    COMPLAINT_HANDLING: {
        "nl": "om uw klacht te onderzoeken",
        "en": "to investigate your complaint",
        "de": "um Ihre Beschwerde zu prüfen",
        "fr": "pour examiner votre réclamation",
    },
}
"""A purpose as the second of two."""

_AND = {"nl": " en {tail}.", "en": " and {tail}.", "de": ", und {tail}.", "fr": " et {tail}."}
_ALSO = {
    "nl": " {org} neemt het ook op {tail}.",
    "en": " {org} also records it {tail}.",
    "de": " Außerdem nimmt {org} es auf, {tail}.",
    "fr": " {org} l'enregistre aussi {tail}.",
}
"""After `mifid_order`: the law does not require the second purpose, so it gets a sentence of its own."""

_BOTH: Mapping[frozenset[PurposeName], Mapping[str, str]] = {
    frozenset({CONTRACT_EVIDENCE, QUALITY_TRAINING}): {
        "nl": "{org} neemt dit gesprek op als bewijs van wat wij afspreken en om medewerkers te trainen.",
        "en": "{org} records this call as proof of what we agree and to train our staff.",
    },
}
"""Pairs with a shorter wording than the one built from the two."""

_FIRST = (MIFID_ORDER, CONTRACT_EVIDENCE, COMPLAINT_HANDLING, QUALITY_TRAINING)
"""Which of two shipped purposes is named first."""

_SITE = {
    "nl": " Meer op {site}.",
    "en": " More at {site}.",
    "de": " Mehr auf {site}.",
    "fr": " Plus sur {site}.",
}
_OPENING = {
    "nl": "U spreekt met {org}, voor een aanbod. ",
    "en": "This is {org}, calling with an offer. ",
    "de": "Hier ist {org}, mit einem Angebot. ",
    "fr": "Ici {org}, pour une offre. ",
}
"""Outbound sales: who calls and why comes before anything else."""

_KEY: Mapping[Mode, Mapping[str, str]] = {
    Mode.NOTICE: {language: "" for language in LANGUAGES},
    Mode.OPT_OUT: {
        "nl": "Toets 9 of zeg het als u dit niet wilt.",
        "en": "Press 9 or tell us if you object.",
        "de": "Drücken Sie 9 oder sagen Sie es uns, wenn Sie das nicht möchten.",
        "fr": "Appuyez sur 9 ou dites-le si vous refusez.",
    },
    Mode.OPT_IN: {
        "nl": "Toets 1 als u dit goedvindt; anders nemen we niet op.",
        "en": "Press 1 if you agree; otherwise we will not record.",
        "de": "Drücken Sie 1, wenn Sie zustimmen; sonst nehmen wir nicht auf.",
        "fr": "Appuyez sur 1 si vous acceptez ; sinon nous n'enregistrons pas.",
    },
}


_OBJECTED: Mapping[Effect, Mapping[str, str]] = {
    Effect.DESTROYED: {
        "nl": "Wij nemen dit gesprek niet meer op, en wissen wat al was opgenomen.",
        "en": "We no longer record this call, and erase what was recorded.",
        "de": "Wir nehmen dieses Gespräch nicht mehr auf und löschen, was aufgenommen wurde.",
        "fr": "Nous n'enregistrons plus cet appel et effaçons ce qui était enregistré.",
    },
    Effect.LOCKED: {
        "nl": "Wij nemen dit gesprek niet meer op. De opname blijft op slot tot over uw bezwaar is beslist.",
        "en": "We no longer record this call. The recording stays locked until your objection is decided.",
        "de": "Wir nehmen dieses Gespräch nicht mehr auf. Die Aufnahme bleibt bis zur Entscheidung gesperrt.",
        "fr": "Nous n'enregistrons plus cet appel. L'enregistrement reste bloqué jusqu'à notre décision.",
    },
    Effect.NOTED: {
        "nl": "Uw bezwaar is genoteerd. De wet verplicht ons dit gesprek op te nemen.",
        "en": "Your objection is noted. The law requires us to record this call.",
        "de": "Ihr Widerspruch ist vermerkt. Das Gesetz verpflichtet uns, dieses Gespräch aufzunehmen.",
        "fr": "Votre opposition est notée. La loi nous oblige à enregistrer cet appel.",
    },
    Effect.UNRECORDED: {
        "nl": "Wij nemen dit gesprek niet op.",
        "en": "We do not record this call.",
        "de": "Wir nehmen dieses Gespräch nicht auf.",
        "fr": "Nous n'enregistrons pas cet appel.",
    },
}
"""What an objection during the call came to; no longer than the notice, since it is said into a conversation."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What the configuration puts into the texts.

    `own_texts` replaces or adds notice sentences: (purpose, or two joined by ``+`` in sorted order; language) ->
    text with ``{org}`` and ``{site}``. `outbound_opening` is off where outbound calls sell nothing.
    """

    organisation: str
    site: str = ""
    own_texts: Mapping[tuple[str, str], str] = field(default_factory=lambda: MappingProxyType({}))
    outbound_opening: bool = True


def _fill(template: str, wording: Wording) -> str:
    """Put names in by plain replacement, in one pass: `str.format` would let a text reach into objects."""
    names = {"{org}": wording.organisation, "{site}": wording.site}
    return re.sub(r"\{org\}|\{site\}", lambda found: names[found.group(0)], template)


def _sentence(purposes: tuple[PurposeName, ...], language: str, wording: Wording) -> str:
    own = wording.own_texts.get(("+".join(sorted(purposes)), language))
    if own:
        return own
    singles = [_single(p, language, wording) for p in purposes]
    if len(purposes) == 1:
        return singles[0]
    replaced = any((p, language) in wording.own_texts or p not in _FIRST for p in purposes)
    if replaced:
        return " ".join(singles)
    short = _BOTH.get(frozenset(purposes), {}).get(language)
    if short:
        return short
    head, tail = sorted(purposes, key=_FIRST.index)
    joint = _ALSO if head == MIFID_ORDER else _AND
    first = _HEADS[head][language]
    return (first if head == MIFID_ORDER else first.rstrip(".")) + joint[language].replace(
        "{tail}", _TAILS[tail][language]
    )


def _single(purpose: PurposeName, language: str, wording: Wording) -> str:
    own = wording.own_texts.get((purpose, language))
    text = own or _HEADS.get(purpose, {}).get(language)
    if not text:
        raise KeyError(f"no text for {purpose} in {language}")
    return text


def notice_text(key: DisclosureKey, wording: Wording) -> str:
    """The notice, filled in; raises KeyError where purpose and language have no text, ValueError for three purposes.

    A complaint is no offer: the sales opening never stands before `complaint_handling`.
    """
    if not 1 <= len(set(key.purposes)) == len(key.purposes) <= 2:
        raise ValueError("a disclosure names one or two purposes")
    language = key.language
    text = _sentence(key.purposes, language, wording)
    if wording.site and "{site}" not in text:
        text += _SITE.get(language, "")
    outbound = key.direction_name == Direction.OUTBOUND.value
    if outbound and wording.outbound_opening and COMPLAINT_HANDLING not in key.purposes:
        text = _OPENING.get(language, "") + text
    return _fill(text, wording)


def key_text(key: DisclosureKey) -> str:
    """The sentence that asks for a key; empty in mode `notice`. Raises KeyError for a language without one."""
    return _KEY[key.mode][key.language]


def full_text(key: DisclosureKey, wording: Wording) -> str:
    """All that is said, in order: what the text digest is made of."""
    return f"{notice_text(key, wording)} {key_text(key)}".rstrip()


def confirmation_text(key: ConfirmationKey) -> str:
    """What is said of an objection. Raises KeyError for a language without it."""
    return _OBJECTED[key.effect][key.language]


def disclosure_keys(
    purposes: Iterable[Purpose], languages: Iterable[str], pairs: Iterable[tuple[PurposeName, PurposeName]] = ()
) -> list[DisclosureKey]:
    """Every disclosure that can become due: each purpose, and each configured pair, in every language, from the mode
    that it asks upwards (a jurisdiction may ask more), in every direction that it suits.

    A legal obligation is told only: no key stops it or permits it.
    """
    known = {p.name: p for p in purposes}
    groups: list[tuple[Purpose, ...]] = [(purpose,) for purpose in known.values()]
    groups += [(known[a], known[b]) for a, b in pairs if a in known and b in known]
    found: dict[DisclosureKey, None] = {}
    for group in groups:
        least = group[0].mode
        for purpose in group[1:]:
            least = least.stricter(purpose.mode)
        told_only = all(p.basis is Basis.LEGAL_OBLIGATION for p in group)
        modes = [Mode.NOTICE] if told_only else [m for m in Mode if m.stricter(least) is m]
        directions = frozenset.intersection(*(p.directions for p in group))
        for language in languages:
            for mode in modes:
                for direction in sorted(directions, key=lambda d: d.value):
                    found[DisclosureKey.of(tuple(p.name for p in group), language, mode, direction)] = None
    return list(found)
