"""The commented configuration as shipped: `pbxguard init` writes it, and a mistake's mend takes its example from it."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pbxguard.core.errors import NotFound

_SWITCHED_OFF = re.compile(r"^#(?! )|^# (?=[a-z_]+ = )", re.MULTILINE)


def template() -> str:
    """Its text; raises NotFound when the installation lacks it."""
    here: list[Traversable] = [
        resources.files("pbxguard").joinpath("config", "pbxguard.toml"),  # from the wheel
        Path(__file__).parents[2] / "config" / "pbxguard.toml",  # from a clone
    ]
    for place in here:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise NotFound("this installation lacks its config/pbxguard.toml")


def example(loc: tuple[str | int, ...]) -> str:
    """How the setting at `loc` is written, e.g. ``min_free_mb = 500 under [spool]``; empty when there is no example."""
    found = _find(_shipped(), [part for part in loc if isinstance(part, str)])
    if found is None:
        return ""
    place, value = found
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[[{_dotted(place)}]] with " + ", ".join(_line(name, one) for name, one in value[0].items())
    if isinstance(value, dict):
        inner = ", ".join(_line(name, one) for name, one in value.items() if not isinstance(one, dict))
        return f"[{_dotted(place)}]" + (f" with {inner}" if inner else "")
    written = _line(place[-1], value)
    if len(place) == 1:
        return written
    return f"{written} under " + (f"[[{place[0]}]]" if place[0] == "scopes" else f"[{_dotted(place[:-1])}]")


@functools.cache
def _shipped() -> dict[str, Any]:
    return tomllib.loads(_SWITCHED_OFF.sub("", template()))


def _find(table: Any, path: list[str], place: tuple[str, ...] = ()) -> tuple[tuple[str, ...], Any] | None:
    """Place and value of a setting, or of another one of its kind where names are free (purposes, prefixes)."""
    if not path:
        return place, table
    if isinstance(table, list) and table and isinstance(table[0], dict):
        table = {name: value for entry in table for name, value in entry.items()}
    if not isinstance(table, dict):
        return None
    names = [path[0]] if path[0] in table else []
    if place in (("purposes",), ("jurisdictions",)) or (place[:1] == ("purposes",) and place[2:] == ("texts",)):
        names += [name for name in table if name != path[0]]
    for name in names:
        found = _find(table[name], path[1:], (*place, name))
        if found is not None:
            return found
    return None


def _line(name: str, value: Any) -> str:
    return f"{_word(name)} = {json.dumps(value, ensure_ascii=False)}"


def _dotted(place: tuple[str, ...]) -> str:
    return ".".join(map(_word, place))


def _word(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
