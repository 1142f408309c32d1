"""A log target that stalls stalls nobody: lines wait for it, then are dropped and counted."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator

import pytest

from pbxguard import logs, outlet
from pbxguard.logs import ALERTS, Event, alert, get_logger
from pbxguard.outlet import MOST_ALERTS, Outlet

DEADLINE_S = 10.0
LINE = "x" * 199 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(read, write) of a pipe that nobody reads yet."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)
    os.close(write)


def everything(read: int, out: Outlet) -> list[str]:
    """All that comes out until the outlet is empty."""
    got, end = b"", time.monotonic() + DEADLINE_S
    while True:
        done = out.flush(0.01)
        while True:
            try:
                got += os.read(read, 1 << 16)
            except BlockingIOError:
                break
        if done:
            return got.decode().splitlines()
        assert time.monotonic() < end, "the outlet is not empty"


def test_lines_come_out_in_order_and_flush_waits_for_them(pipe: tuple[int, int]) -> None:
    out = Outlet(pipe[1])
    for number in range(100):
        out.put(f"{number}\n")
    assert out.flush(DEADLINE_S)
    assert os.read(pipe[0], 1 << 16).decode().split() == [str(number) for number in range(100)]


def test_a_pipe_that_nobody_reads_holds_up_no_caller_and_loses_no_alert(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_WAITING", 500)
    told: list[int] = []
    out = Outlet(pipe[1], told.append)
    for number in range(5_000):  # a pipe takes 64 kB: the thread is held up, and nobody else is
        out.put(LINE)
        if number % 1_000 == 999:
            out.put("alert\n", keep=True)
    assert not out.flush(0.05)
    lines = everything(pipe[0], out)
    assert lines.count("alert") == 5
    assert len(lines) - 5 + told[-1] == 5_000
    assert told[-1] > 3_000


def test_even_alerts_are_bounded(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "MOST_WAITING", 10)
    told: list[int] = []
    out = Outlet(pipe[1], told.append)
    for _ in range(5_000):
        out.put(LINE, keep=True)
    lines = everything(pipe[0], out)
    assert len(lines) + told[-1] == 5_000
    assert len(lines) < MOST_ALERTS + 10 + 2 * 65_536 // len(LINE) + 2


def test_what_was_dropped_is_counted_in_a_line_and_an_alert_says_what_to_do(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_WAITING", 20)
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        logs.configure(stream=stream, background=True, node="pbx1")
        for number in range(3_000):
            get_logger().info(Event.CALL_ENDED, reason="x" * 100, number=number)
        alert(Event.SPOOL_FULL)
        handler = logging.getLogger().handlers[0]
        out = handler._lines._outlet  # type: ignore[attr-defined]
        lines = [json.loads(line) for line in everything(pipe[0], out)]
    dropped = [line for line in lines if line["event"] == "log.lines_dropped"]
    assert {line["level"] for line in dropped} == {"warning"}
    (alerted,) = [line for line in lines if line["level"] == "alert"]
    assert (alerted["event"], alerted["node"], alerted["mend"]) == ("spool.full", "pbx1", ALERTS[Event.SPOOL_FULL].mend)
    assert len([line for line in lines if line["event"] == "call.ended"]) + dropped[-1]["in_all"] == 3_000
