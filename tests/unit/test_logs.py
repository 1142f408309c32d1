"""Logs: one line each, masked, and no event that is not in the list."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import pbxguard
from pbxguard import logs
from pbxguard.core.reasons import Reason
from pbxguard.logs import ALERTS, Event
from pbxguard.metrics import Metrics
from pbxguard.service.health import _SPOOL_EVENTS


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_stable_fields() -> None:
    out = io.StringIO()
    logs.configure(node="pbx1", stream=out)
    logs.get_logger(call="17.3").info(Event.RECORDER_STARTED, recording="abc", reason=Reason.NOT_TOLD.value)
    [line] = written(out)
    assert list(line) == ["ts", "level", "event", "node", "call", "recording", "reason"]
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "event": "recorder.started",
        "node": "pbx1",
        "call": "17.3",
        "recording": "abc",
        "reason": "not_told",
    }


def test_numbers_are_masked_in_every_field_made_for_them_and_below() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logs.get_logger().info(Event.CALL_ENDED, caller="+31612345678", nested={"called": ["0701234567"]}, numbers=("112",))
    assert "12345678" not in out.getvalue()
    [line] = written(out)
    assert (line["caller"], line["nested"], line["numbers"]) == ("+31*****678", {"called": ["*****567"]}, ["*****"])


def test_numbers_show_only_where_that_is_configured() -> None:
    out = io.StringIO()
    logs.configure(stream=out, mask_numbers=False)
    logs.get_logger().info(Event.CALL_ENDED, caller="+31612345678")
    assert written(out)[0]["caller"] == "+31612345678"


@given(st.text(), st.text(min_size=1))
def test_no_text_from_outside_breaks_a_line_or_forges_one(value: str, key: str) -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    field = "x" + key
    logs.get_logger().info(Event.ARI_UNKNOWN_EVENT, detail=value, more={field: value})
    assert out.getvalue().count("\n") == 1
    assert len(written(out)) == 1
    assert out.getvalue().isascii()


def test_an_exception_stays_on_its_line() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logs.get_logger().exception(Event.TASK_FAILED)
    [line] = written(out)
    assert "ValueError" in line["exception"]


def test_an_endless_text_is_cut() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logs.get_logger().info(Event.ARI_UNKNOWN_EVENT, detail="x" * 1_000_000)
    assert len(out.getvalue()) < 3000


def test_levels_below_the_configured_one_are_silent() -> None:
    out = io.StringIO()
    logs.configure(stream=out, level="warning")
    logs.get_logger().info(Event.CALL_ENDED)
    logs.get_logger().warning(Event.SPOOL_FULL)
    assert [line["event"] for line in written(out)] == ["spool.full"]


@pytest.mark.parametrize("name", ["uvicorn.error", "panoramisk", "aiohttp.client", "somebody.else"])
def test_what_libraries_log_goes_the_same_way(name: str) -> None:
    out = io.StringIO()
    logs.configure(stream=out, node="pbx1")
    logging.getLogger(name).warning('lost %s\r\n{"event": "forged"}', "it")
    logging.getLogger(name).info("chatter")
    [line] = written(out)
    assert (line["event"], line["logger"], line["level"], line["node"]) == ("library.logged", name, "warning", "pbx1")
    assert line["text"].startswith("lost it")


def test_our_own_adapters_may_log_an_event_through_the_standard_library() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logging.getLogger("pbxguard.ami").info("ami.connected", extra={"connection": "events", "number": "0612345678"})
    logging.getLogger("pbxguard.ami").warning("no event of ours", extra={"connection": "events"})
    first, second = written(out)
    assert (first["event"], first["connection"], first["number"]) == ("ami.connected", "events", "*****678")
    assert (second["event"], second["text"]) == ("library.logged", "no event of ours")


def test_a_number_in_a_foreign_text_is_masked_and_a_uniqueid_is_not() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logging.getLogger("aiohttp").warning("call of +31612345678 on 1700000000.12")
    assert written(out)[0]["text"] == "call of +31*****678 on 1700000000.12"


def test_the_search_for_events_finds_those_that_are_logged() -> None:
    assert len(list(events_used())) > 10


LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
PACKAGE = Path(pbxguard.__file__).parent


def test_every_alert_says_what_to_do() -> None:
    used = [
        (path.name, ast.unparse(node.args[0]))
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "alert"
    ]
    named = {name.removeprefix("Event.") for _, name in used if name.startswith("Event.")}
    assert named
    assert {Event[name] for name in named} <= set(ALERTS)
    assert [place for place, name in used if not name.startswith("Event.")] == ["health.py"]  # the spool's states
    assert set(_SPOOL_EVENTS.values()) <= set(ALERTS)


def events_used() -> Iterator[tuple[str, ast.expr]]:
    """The first argument of each call such as ``log.info(...)`` or ``self._log.error(...)`` in the package.

    Of ``log.info(TABLE[key])`` each value of the module's TABLE.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        tables = {
            target.id: node.value.values
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
                continue
            owner = node.func.value
            called = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            direct = isinstance(owner, ast.Call) and ast.unparse(owner.func) in ("logs.get_logger", "get_logger")
            if (called.lower().lstrip("_") in ("log", "logger") or direct) and node.args:
                place, first = f"{path.relative_to(PACKAGE)}:{node.lineno}", node.args[0]
                if isinstance(first, ast.Subscript) and isinstance(first.value, ast.Name) and first.value.id in tables:
                    yield from ((place, value) for value in tables[first.value.id])
                else:
                    yield place, first


def test_every_event_logged_is_in_the_list() -> None:
    values = {event.value for event in Event}
    wrong = []
    for place, expression in events_used():
        match expression:
            case ast.Attribute(value=ast.Name(id="Event") | ast.Attribute(attr="Event"), attr=name):
                known = name in Event.__members__
            case ast.Constant(value=str(text)):
                known = text in values
            case ast.IfExp(body=ast.Attribute(attr=one), orelse=ast.Attribute(attr=two)):
                known = {one, two} <= set(Event.__members__)
            case _:
                known = False
        if not known:
            wrong.append(f"{place}: {ast.unparse(expression)}")
    assert wrong == []


def test_every_event_in_the_list_is_logged_somewhere() -> None:
    package = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "logs.py")
    silent = [e.name for e in Event if f"Event.{e.name}" not in package and f'"{e.value}"' not in package]
    assert silent == [Event.LOG_LINES_DROPPED.name, Event.LIBRARY_LOGGED.name]  # logs.py itself says those


def test_event_names_are_dotted_and_unique() -> None:
    values = [event.value for event in Event]
    assert len(set(values)) == len(values) == len(Event.__members__)
    assert all(value.count(".") == 1 and value.replace(".", "").replace("_", "").isalpha() for value in values)


def test_metrics_tell_refusals_by_reason() -> None:
    metrics = Metrics()
    metrics.refused(Reason.NOT_TOLD)
    metrics.sealed.inc()
    metrics.beat_lag.set(0.004)
    text = metrics.text().decode()
    assert 'pbxguard_refusals_total{reason="not_told"} 1.0' in text
    assert "pbxguard_recordings_sealed_total 1.0" in text
    assert "pbxguard_beat_lag_seconds 0.004" in text
    assert "not_told" not in Metrics().text().decode()
