"""How a mistake in the configuration is told: its key, what is wrong, what to do. Values are never shown."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from pbxguard.core.errors import SettingsError

from .example import example
from .sections import LANGUAGE, NAME, NODE, PREFIX, SEVERAL, URL
from .whole import Settings


def told(error: ValidationError, at: tuple[str, ...] = ()) -> SettingsError:
    """Every mistake that pydantic found in what stands `at` this place of the file, in our words."""
    found = list(_each(error, at))
    # A list whose every entry is wrong is called too short as well: only the entries are worth telling.
    broken = {e["loc"][:-1] for e in found}
    return SettingsError([_mistake(e) for e in found if not (e["type"] == "too_short" and e["loc"] in broken)])


def _each(error: ValidationError, at: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Pydantic's errors with their places from the top of the file, and ours one by one."""
    for one in error.errors(include_url=False, include_input=False):
        place = (*at, *one["loc"])
        if one["type"] == SEVERAL:
            for below, reason in one["ctx"]["found"]:
                yield {**one, "loc": (*place, *below), "msg": reason}
        else:
            yield {**one, "loc": place}


_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "too_short": "needs at least one entry",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
}
_FORMS = {
    LANGUAGE: "must be two small letters, e.g. nl",
    PREFIX: "must be + and digits, e.g. +3170",
    NAME: "must be small letters, digits and _, with a letter first, 40 at most",
    NODE: "must be letters, digits, dot, dash and _, 64 at most, the first one a letter or digit",
    URL: "must be http:// or https://, a host, and a path without ? and #",
}
"""What each pattern of ours asks for, in words."""
_MENDS = {
    "organisation.name": 'name = "Example BV" under [organisation]: every disclosure names it',
    "organisation": 'add [organisation] with name = "Your organisation"',
    "ami": 'add [ami] with secret = "..." as in manager.conf',
    "ari": 'add [ari] with password = "..." as in ari.conf',
    "parties": 'add [parties] with own = ["PJSIP/1??-*"] and external = ["PJSIP/trunk-*"]',
}


def _mistake(error: Any) -> tuple[str, str, str]:
    """Key, reason and mend of one of pydantic's errors. Its input is never shown: it may be a secret."""
    loc = tuple(part for part in error["loc"] if part != "[key]")
    key = _key(loc)
    kind = error["type"]
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    reason = _REASONS.get(kind) or (message[:1].lower() + message[1:])
    if kind == "string_pattern_mismatch":
        reason = _FORMS[error["ctx"]["pattern"]]
    if kind == "extra_forbidden":
        names = _names_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), names, n=1, cutoff=0.6)
        elsewhere = [k for k in all_keys() if k.rpartition(".")[2] == str(loc[-1])]
        if near:
            return key, reason, f"did you mean {_key((*loc[:-1], near[0]))}?"
        if elsewhere:
            return key, reason, f"did you mean {elsewhere[0]}?"
        return key, reason, f"known here: {', '.join(sorted(names))}"
    if "[key]" in error["loc"]:
        reason = f"is no good name: {reason}"
    shown = example(loc)
    mend = f"for example: {shown}" if shown else "correct it"
    return key, reason, _MENDS.get(key, f"{mend}; `pbxguard init` shows every setting")


def _key(loc: Iterable[str | int]) -> str:
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "file"


def _names_at(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the table at `loc` may have."""
    model: type[BaseModel] | None = Settings
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        if field is not None:
            model = _section_in(field.annotation)
    return list(model.model_fields) if model else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        for part in typing.get_args(annotation):
            found = _section_in(part)
            if found:
                return found
    return None


def all_keys(model: type[BaseModel] = Settings, before: str = "") -> list[str]:
    """Every dotted key there is, for did-you-mean and for the reference page."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = _section_in(field.annotation)
        keys.append(before + name)
        if section:
            keys += all_keys(section, f"{before}{name}.")
    return keys
