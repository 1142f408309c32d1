"""The search for vague words in a disclosure (LAW.md 4): pure, in Dutch, English, German and French.

A softened wording costs the right to use the recording, so `check` rejects it. This finds the usual ones; it proves
nothing about a text in which it finds none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from .ids import PurposeName


@dataclass(frozen=True, slots=True)
class Vague:
    """One vague passage: the words found, and what is wrong with them (English, for the operator)."""

    words: str
    why: str


_PURPOSELESS = "names no purpose; say what the recording is really used for"
_OPEN_ENDED = "leaves the purposes open; name each one"
_WHETHER = "says 'may be recorded'; say whether it is"
_BARE_QUALITY = "'quality' alone names no purpose; say e.g. that staff are trained with it"
_HIDDEN = "training hidden in another purpose; announce quality_training as a purpose of its own"

_VAGUE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "nl": (
        (r"\bservice-? ?doeleinden\b", _PURPOSELESS),
        (r"\binterne doeleinden\b", _PURPOSELESS),
        (r"\b(administratieve|zakelijke|commerciële) doeleinden\b", _PURPOSELESS),
        (r"\bverbetering van (onze|de) (dienstverlening|service)\b", _PURPOSELESS),
        (r"\b(onze|de) (dienstverlening|service) (te )?verbeteren\b", _PURPOSELESS),
        (r"\bom u (beter|nog beter) (te|van dienst te)\b", _PURPOSELESS),
        (r"\b(diverse|verschillende|allerlei|andere) (doeleinden|redenen|zaken)\b", _OPEN_ENDED),
        (r"\bdiverse\b", _OPEN_ENDED),
        (r"\b(enzovoorts?|enz|etc|et cetera|etcetera|onder andere|onder meer|o\.a)\b", _OPEN_ENDED),
        (r"\b(kan|kunnen|mogelijk)\b[^.]*\b(opgenomen|opnemen)\b", _WHETHER),
        (r"\b(wordt|worden) mogelijk opgenomen\b", _WHETHER),
    ),
    "en": (
        (r"\b(customer )?service purposes\b", _PURPOSELESS),
        (r"\b(internal|business|administrative|operational|monitoring) purposes\b", _PURPOSELESS),
        (
            r"\b(improve|improving|improvement of|enhance) (our|the) (customer )?(service|services|experience)\b",
            _PURPOSELESS,
        ),
        (r"\b(to )?serve you better\b", _PURPOSELESS),
        (r"\b(various|diverse|several|other) (purposes|reasons)\b", _OPEN_ENDED),
        (r"\b(and so on|and so forth|etc|et cetera|among others|amongst others|such as)\b", _OPEN_ENDED),
        (r"\b(may|might|can|could)( also)? (be|get) (recorded|monitored)\b", _WHETHER),
        (r"\b(may|might|can|could) record\b", _WHETHER),
    ),
    "de": (
        (r"\bservice-?zwecken?\b", _PURPOSELESS),
        (r"\b(internen?|betrieblichen?|geschäftlichen?) zwecken?\b", _PURPOSELESS),
        (
            r"\b(verbesserung|optimierung) (unseres|unserer|des|der) (services?|dienstleistung(en)?|angebots?)\b",
            _PURPOSELESS,
        ),
        (r"\b(unseren|unsere) (service|dienstleistung(en)?) (zu verbessern|verbessern)\b", _PURPOSELESS),
        (r"\b(diverser?|diversen|verschiedenen?|anderen?) (zwecken?|gründen?)\b", _OPEN_ENDED),
        (r"\b(und so weiter|usw|etc|unter anderem|u\. ?a)\b", _OPEN_ENDED),
        (
            r"\b(kann|können|könnte|könnten|möglicherweise|gegebenenfalls)\b[^.]*\b(aufgezeichnet|aufgenommen|aufzeichnen|aufnehmen)\b",
            _WHETHER,
        ),
    ),
    "fr": (
        (r"\b(fins|raisons|motifs) (de|du) service\b", _PURPOSELESS),
        (r"\b(fins|raisons|motifs) (internes?|administratives?|commerciales?)\b", _PURPOSELESS),
        (
            r"\b(améliorer|amélioration de) (la qualité de )?(nos|notre) (services?|prestations?)\b",
            _PURPOSELESS,
        ),
        (r"\bmieux vous servir\b", _PURPOSELESS),
        (r"\b(diverses?|différentes?|autres) (fins|raisons|finalités)\b", _OPEN_ENDED),
        (r"\b(et ainsi de suite|etc|et cetera|entre autres|notamment)\b", _OPEN_ENDED),
        (r"\b(peut|peuvent|pourra|pourrait|susceptibles?|éventuellement)\b[^.]*\b(être )?enregistrée?s?\b", _WHETHER),
    ),
}
_QUALITY: Mapping[str, str] = {
    "nl": r"\bkwaliteits-? ?(doeleinden|redenen|controle|verbetering|bewaking)\b|\bkwaliteit van onze\b",
    "en": r"\bquality (purposes|reasons|assurance|control|monitoring)\b",
    "de": r"\bqualitäts-?(zwecken?|gründen?|sicherung|kontrolle)\b",
    "fr": r"\b(fins|raisons|contrôle|motifs) (de|de la|du) qualité\b",
}
_TRAINING: Mapping[str, str] = {
    "nl": r"\b(train(en|t|ings?\w*)?|getraind|opleid(en|ings?\w*)|coach(en|ing)?|scholing)\b",
    "en": r"\b(train(ing|ed)?|coach(ing|ed)?|educat(e|ion))\b",
    "de": r"\b(schul(en|ung|ungen|ungszwecken?)|geschult|ausbild(en|ung)|trainieren|trainings?\w*|coach(en|ing))\b",
    "fr": r"\b(former|formation|formations|entraîner|coaching)\b",
}
_TRAINING_PURPOSE = PurposeName("quality_training")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


def vague(text: str, language: str, purposes: tuple[PurposeName, ...] = ()) -> list[Vague]:
    """The vague passages of a disclosure's text, in LAW.md 4's sense; none for the shipped ones.

    Takes a language without shipped texts too: then every language's words are looked for. With `purposes` (what
    the disclosure is for) it also finds training hidden in a disclosure of shipped purposes that do not name it.
    """
    plain = _plain(text)
    found: list[Vague] = []
    for spoken in (language,) if language in _VAGUE else tuple(_VAGUE):
        for pattern, why in _VAGUE[spoken]:
            found += [Vague(match.group(0), why) for match in re.finditer(pattern, plain)]
        trains = re.search(_TRAINING[spoken], plain)
        quality = re.search(_QUALITY[spoken], plain)
        if quality and not trains:
            found.append(Vague(quality.group(0), _BARE_QUALITY))
        hidden = trains or quality
        if hidden and purposes and _TRAINING_PURPOSE not in purposes:
            found.append(Vague(hidden.group(0), _HIDDEN))
    seen: dict[Vague, None] = dict.fromkeys(found)
    return [v for v in seen if not any(v.why == o.why and v != o and v.words in o.words for o in seen)]
