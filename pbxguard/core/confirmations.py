"""What an objection during the call came to, and how whoever made it is told so: a sentence, said to him alone.

Said once it is true and written down; where it cannot be said the objection holds all the same. What each sentence
says stands in `defaults.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from .ids import PurposeName, Uniqueid
from .purposes import OnObjection, Purpose


class Effect(Enum):
    """What an objection came to (LAW.md 4)."""

    DESTROYED = "destroyed"
    """Nothing more is recorded, and what was is destroyed unheard."""
    LOCKED = "locked"
    """Nothing more is recorded, and what was is used for nothing until somebody decided (art. 18(1)(d) GDPR)."""
    NOTED = "noted"
    """The law demands the recording (art. 6(1)(c) GDPR)."""
    UNRECORDED = "unrecorded"
    """Nothing was recorded, and nothing will be."""


@dataclass(frozen=True, slots=True, order=True)
class ConfirmationKey:
    """Names one sentence; its text form, e.g. ``objection_locked.nl``, names its file too."""

    effect_name: str
    language: str

    @property
    def effect(self) -> Effect:
        return Effect(self.effect_name)

    def __str__(self) -> str:
        return f"objection_{self.effect_name}.{self.language}"

    @classmethod
    def of(cls, effect: Effect, language: str) -> ConfirmationKey:
        return cls(effect.value, language)

    @classmethod
    def parse(cls, text: str) -> ConfirmationKey:
        """Read the text form back; raises ValueError on anything else (the text may come from a peer)."""
        name, _, language = text.partition(".")
        if not (name.startswith("objection_") and language.isascii() and language.isalpha() and len(language) == 2):
            raise ValueError("not a confirmation")
        return cls.of(Effect(name.removeprefix("objection_")), language)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One approved sentence, as it is said: `sound` as Asterisk spells it, without extension."""

    key: ConfirmationKey
    sound: str
    length_ms: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Say this to this party of a conversation, alone."""

    channel: Uniqueid
    effect: Effect
    language: str


def effect_of(
    asked: Collection[PurposeName], recorded: Collection[PurposeName], purposes: Mapping[PurposeName, Purpose]
) -> Effect:
    """What an objection to everything comes to in a call: `asked` and `recorded` are what it was to be, and was,
    recorded for until then."""
    rules = {name: purposes[name].on_objection for name in {*asked, *recorded} if name in purposes}
    if OnObjection.IGNORE in rules.values():
        return Effect.NOTED
    if not recorded:
        return Effect.UNRECORDED
    destroyed = all(rules.get(name) is OnObjection.DESTROY for name in recorded)
    return Effect.DESTROYED if destroyed else Effect.LOCKED


def confirmation_keys(purposes: Collection[Purpose], languages: Collection[str]) -> list[ConfirmationKey]:
    """Every sentence that an objection to these purposes can call for."""
    rules = {purpose.on_objection for purpose in purposes}
    wanted = {
        Effect.DESTROYED: OnObjection.DESTROY in rules,
        Effect.LOCKED: OnObjection.LOCK in rules,
        Effect.NOTED: OnObjection.IGNORE in rules,
        Effect.UNRECORDED: True,
    }
    return [ConfirmationKey.of(effect, language) for language in languages for effect in Effect if wanted[effect]]
