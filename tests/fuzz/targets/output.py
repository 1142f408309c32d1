"""What we show of outsiders' texts: log lines, the command line's tables and lines, JSON."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import structlog

from pbxguard import logs
from pbxguard.cli.options import emit
from pbxguard.cli.recordings import _brief, _sheet, _table
from pbxguard.service.calls import CallView, says
from tests.db.rows import recording

from .common import require, shows_only, target, text_of

MOMENT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@target
def log_line(data: bytes) -> None:
    """One JSON object a line, readable, plain, and with no number where a number may stand."""
    text = text_of(data)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    off = root.manager.disable
    logging.disable(logging.NOTSET)  # where a fuzzer wants quiet
    logs.configure(stream=out, node="n")
    try:
        log = logs.get_logger(call=text)
        log.info(logs.Event.DOOR_ENTERED, number=text, reason=text, purposes=[text, {text: text}])
        logging.getLogger("library").warning("%s", text)
        logging.getLogger("pbxguard.ami").warning("ami.lost", extra={"error": text, "who": text})
    finally:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        logging.disable(off)
        root.handlers[:] = before
        root.setLevel(level)
    lines = out.getvalue().split("\n")
    require(len(lines) == 4 and lines[-1] == "", "one line for each event")
    for line in lines[:-1]:
        require(line.isascii() and line.isprintable(), "a line is plain")
        require(isinstance(json.loads(line), dict), "a line is a JSON object")
        require(len(line) < 40_000, "a line is not endless")
    digits = [part for part in "".join(c if c.isdigit() else " " for c in text).split() if len(part) > 9]
    shown = json.loads(lines[0])["number"] + json.loads(lines[2])["who"]
    require(not any(part in shown for part in digits), "a number is masked")


@target
def cli_text(data: bytes) -> None:
    """What a terminal is sent of a call and of a recording."""
    pieces = [text_of(piece) for piece in data.split(b"\n")]
    one, two, three = (pieces * 3)[:3]
    row = recording(external_number=one, own_endpoint=two, queue=three, reference=one, own_number=two)
    view = _view(one, two, three)
    for language in ("nl", "en"):
        require(shows_only(says(view, language), ""), "a call is one plain line")
    require(shows_only(_table([row], False)), "a table is plain")
    require(shows_only(_sheet(_brief(row, False))), "a sheet is plain")
    told = {"calls": [view.as_json()], "recordings": [_brief(row, False)]}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        emit(told, True, "")
    require(shows_only(out.getvalue()) and out.getvalue().count("\n") == 1, "JSON is one plain line")
    read: dict[str, Any] = json.loads(out.getvalue())
    require(CallView.from_json(read["calls"][0]) == view, "a call reads as itself")


def _view(number: str, endpoint: str, queue: str) -> CallView:
    return CallView(
        call=endpoint,
        began=MOMENT,
        ended=False,
        direction="inbound",
        external_number=number,
        own_number=number,
        own_endpoint=endpoint,
        queue=queue,
        reference=queue,
        purposes=("contract_evidence",),
        told=True,
        recorded=False,
        reasons=("on_hold", endpoint),
    )
