"""Every setting, broken in every way: the mistake names its dotted key, a reason, and a mend that is itself valid."""

from __future__ import annotations

import copy
import itertools
import pathlib
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from pbxguard.core.errors import SettingsError
from pbxguard.settings import Settings, from_mapping
from pbxguard.settings.example import example

Path = tuple[str | int, ...]

MINIMAL: dict[str, Any] = {
    "organisation": {"name": "Voorbeeld BV"},
    "ami": {"secret": "s3cret-ami"},
    "ari": {"password": "s3cret-ari"},
    "parties": {"own": ["PJSIP/1??-*"], "external": ["PJSIP/trunk-*"]},
}
ENTRY: dict[str, str | int] = {"scopes": 0, "purposes": "contract_evidence", "jurisdictions": "+3170", "texts": "nl"}
"""An entry's name (or place) where a table's names are free."""
NEIGHBOURS: dict[str, dict[str, Any]] = {"scopes": {"mode": "guard", "queue": "sales"}}
"""What an entry needs besides the one setting that is broken."""

CONTROL, TWO_LINES, LONG, NO_COUNTRY = "a\x07b", "a\nb", "x" * 501, "XX"
PATHS: list[Any] = ["relative/path", "/a\nb", ""]
FOR_ASTERISK: list[Any] = [*PATHS, "/with space", "/a,b", "/${x}", "/a;b"]
LINES: list[Any] = ["", " ", TWO_LINES, CONTROL, LONG]
FREE: list[Any] = [TWO_LINES, CONTROL, LONG]
PORTS: list[Any] = [0, -1, 65536, 10**30]
PATTERNS: list[Any] = [["100"], ["*"], ["PJSIP/*"], ["PJSIP/1-*", "*/x"], ["PJSIP/a\nb"], [""]]
DAYS: list[Any] = [0, -1, 3661, 1.5]

WRONG: dict[str, list[Any]] = {
    "organisation.name": LINES,
    "organisation.site": FREE,
    "node": ["", "a b", "../x", "a/b", "x" * 65, TWO_LINES],
    "country": [NO_COUNTRY, "", "Netherlands", "N"],
    "default_jurisdiction": [NO_COUNTRY, "", "Netherlands"],
    "jurisdictions.+3170": [NO_COUNTRY, ""],
    "languages": [[], ["dutch"], ["NL"], ["nl", "e"], [""]],
    "default_language": ["de", "", "dutch"],
    "rate": [0, 44100, 8001],
    "mode": ["gaurd", "", "GUARD"],
    "scopes[1].mode": ["gaurd", ""],
    "scopes[1].queue": FREE,
    "scopes[1].did": FREE,
    "scopes[1].context": FREE,
    "employees": [0, -1, 2.5],
    "ami.host": LINES,
    "ami.port": PORTS,
    "ami.username": LINES,
    "ami.secret": [TWO_LINES, CONTROL],
    "ami.secret_file": PATHS,
    "ari.url": ["", "localhost", "ftp://x", "http://", "http://a b", "http://x/ari?y=1"],
    "ari.username": LINES,
    "ari.password": [TWO_LINES, CONTROL],
    "ari.password_file": PATHS,
    "agi.host": ["0.0.0.0", "192.0.2.1", "", "pbx"],
    "agi.port": PORTS,
    "spool.path": PATHS,
    "spool.asterisk_path": FOR_ASTERISK,
    "spool.min_free_mb": [0, -5, 1.5],
    "archive.root": PATHS,
    "archive.caller_id": ["full", ""],
    "database.url": ["", "mysql://x", "sqlite:///x", "/var/lib/x.db"],
    "prompts.directory": PATHS,
    "prompts.asterisk_directory": FOR_ASTERISK,
    "prompts.outbound_opening": [],
    "prompts.pairs": [
        [["contract_evidence"]],
        [["contract_evidence", "contract_evidence"]],
        [["contract_evidence", "nonsense"]],
        [["contract_evidence", "quality_training", "mifid_order"]],
        [["A", "b"]],
    ],
    "parties.own": [[], *PATTERNS],
    "parties.external": [[], *PATTERNS],
    "parties.private": PATTERNS,
    "parties.mandated": PATTERNS,
    "parties.listen_only_spies": [],
    "devices.groups": [[["PJSIP/110"]], [["", "PJSIP/111"]]],
    "devices.by_contact": [[""]],
    "never_record.defaults": [],
    "never_record.files": [["lawyers.txt"], ["/nowhere/lawyers.txt"]],
    "never_record.numbers": [["my lawyer"], ["112", ""], ["1*"], ["0" * 40 + "*"]],
    "purposes.contract_evidence.active": [],
    "purposes.contract_evidence.mode": ["opt-in", ""],
    "purposes.contract_evidence.directions": [[], ["up"], ["inbound", ""]],
    "purposes.contract_evidence.basis": ["g", "", "F"],
    "purposes.contract_evidence.on_objection": ["keep", ""],
    "purposes.contract_evidence.listeners": [[""], ["legal", TWO_LINES]],
    "purposes.contract_evidence.texts.nl": LINES,
    "purposes.contract_evidence.retention.days": DAYS,
    "purposes.contract_evidence.retention.no_contract_days": DAYS,
    "purposes.contract_evidence.retention.undecided_days": DAYS,
    "purposes.contract_evidence.retention.contract_months": [0, -1, 121, 0.5],
    "purposes.contract_evidence.references.balancing_test": FREE,
    "purposes.contract_evidence.references.employees_informed": FREE,
    "purposes.contract_evidence.references.works_council": FREE,
    "limits.beat_lag_start": [0, -1, 2.1, float("nan"), float("inf")],
    "limits.beat_lag_stop": [0, 0.1, 11, float("nan")],
    "limits.half_done": [0, 1.5, float("nan")],
    "limits.hold_trust": [0, -1, 601, float("inf")],
    "limits.retry_start": [0, 601],
    "limits.key_wait": [0, 31],
    "joiners.after_seconds": [-1, 601, float("nan")],
    "joiners.tell": ["sometimes", 2],
    "pause.timeout_seconds": [0, -1, 7201, float("nan")],
    "pause.then": ["stop", ""],
    "socket.path": [*PATHS, "/" + "x" * 100],
    "logs.mask_numbers": [],
    "logs.level": ["loud", "", "INFO"],
}
"""Wrong values of every setting; none where every value of the right type is right."""
WRONG_TYPES: tuple[Any, ...] = ("maybe", 3.25, {"a": {"b": "c"}}, [["x"]], tomllib.loads("d = 2026-01-01")["d"])


def leaves(model: type[BaseModel] = Settings, before: Path = ()) -> Iterator[Path]:
    """Where every single setting stands, entries of free tables included."""
    for name, field in model.model_fields.items():
        section, is_free = _section(field.annotation), _is_free(field.annotation)
        place: Path = (*before, name, *((ENTRY[name],) if is_free and name in ENTRY else ()))
        if section is None:
            yield place
        else:
            yield from leaves(section, place)


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, typing.get_args(annotation))), None)


def _is_free(annotation: Any) -> bool:
    """A table whose names are free, or a list of tables."""
    origin = typing.get_origin(annotation)
    return origin is Mapping or (origin is tuple and _section(annotation) is not None)


def dotted(place: Path) -> str:
    return re.sub(r"\.(\d+)", lambda found: f"[{int(found[1]) + 1}]", ".".join(map(str, place)))


def with_value(place: Path, value: Any) -> dict[str, Any]:
    """A file that is right but for this one setting."""
    raw = copy.deepcopy(MINIMAL)
    if place[-1] in ("secret_file", "password_file"):
        del raw[str(place[0])][str(place[-1]).removesuffix("_file")]
    table: Any = raw
    for part, after in itertools.pairwise(place):
        if isinstance(after, int):
            table[part] = [dict(NEIGHBOURS[str(part)])]
            table = table[part]
        else:
            table = table[part] if isinstance(part, int) else table.setdefault(part, {})
    table[place[-1]] = value
    return raw


def mistakes(raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(SettingsError) as caught:
        from_mapping(raw)
    return caught.value.mistakes


ALL = {dotted(place): place for place in leaves()}


def hold(place: Path, value: Any) -> None:
    """One broken setting gives mistakes of that setting alone, each whole."""
    name = dotted(place)
    found = mistakes(with_value(place, value))
    assert found, f"{name} = {value!r} is taken"
    for key, reason, mend in found:
        assert key == name or re.fullmatch(re.escape(name) + r"(\[\d+\]|\.\w+)+", key), (key, value)
        assert reason
        assert "pydantic" not in reason
        assert "should match" not in reason, "a pattern is no reason to a person"
        assert "instance of" not in reason
        assert example(place) in mend
        assert example(place)


def test_every_setting_there_is_is_broken_here() -> None:
    assert set(ALL) == set(WRONG)


@pytest.mark.parametrize("name", ALL)
def test_a_value_of_the_wrong_type_is_told(name: str) -> None:
    broken = 0
    for value in WRONG_TYPES:
        try:
            from_mapping(with_value(ALL[name], value))
        except SettingsError:
            hold(ALL[name], value)
            broken += 1
    assert broken >= 3, "it takes nearly anything"


@pytest.mark.parametrize("name", [name for name in ALL if WRONG.get(name)])
def test_a_wrong_value_is_told(name: str) -> None:
    for value in WRONG[name]:
        hold(ALL[name], value)


@pytest.mark.parametrize("name", ALL)
def test_the_mend_that_is_told_mends_it(name: str, tmp_path: pathlib.Path) -> None:
    """Followed to the letter: the example stands in a file that is then right."""
    written, _, table = example(ALL[name]).partition(" under ")
    if name == "never_record.files":  # the one that names a file which must be there
        (tmp_path / "lawyers.txt").write_text("+31201234567\n")
        written = written.replace("/etc/pbxguard", str(tmp_path))
    raw = copy.deepcopy(MINIMAL)
    text = f"{table}\n" + ('mode = "guard"\n' if table == "[[scopes]]" and not written.startswith("mode") else "")
    given = tomllib.loads(f"{text}{written}\n" + ('queue = "sales"\n' if written.startswith('mode = "guard"') else ""))
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            raw[key] |= value
        else:
            raw[key] = value
    if "_file" in written:
        del raw["ami" if "ami" in table else "ari"]["secret" if "ami" in table else "password"]
    assert from_mapping(raw)


@pytest.mark.parametrize("name", [name for name, place in ALL.items() if place[-1] not in ENTRY.values()])
def test_an_unknown_key_is_named_with_the_nearest_known_one(name: str) -> None:
    place = ALL[name]
    slip = f"{place[-1]}x"
    raw = with_value((*place[:-1], slip), "x")
    unknown = [(reason, mend) for key, reason, mend in mistakes(raw) if key == dotted((*place[:-1], slip))]
    assert unknown == [("is unknown", f"did you mean {name}?")]


def test_all_of_them_broken_at_once_are_told_at_once() -> None:
    """But for the two that stand in place of another one."""
    raw: dict[str, Any] = {}
    places = {name: place for name, place in ALL.items() if not name.endswith("_file")}
    for place in places.values():
        table: Any = raw
        for part, after in itertools.pairwise(place):
            empty: Any = [None] if isinstance(after, int) else {}
            if isinstance(part, int):
                table[part] = table[part] or empty
                table = table[part]
            else:
                table = table.setdefault(part, empty)
        table[place[-1]] = types.MappingProxyType({})  # of no type that any of them takes
    told = {re.sub(r"\[\d+\]$", "", key) if not key.startswith("scopes") else key for key, _, _ in mistakes(raw)}
    assert told == set(places)
