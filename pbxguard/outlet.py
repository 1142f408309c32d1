"""Where log lines go out: a thread of its own writes them, so that a stalled target stalls nobody.

A pipe that nobody reads, a frozen disk or a busy journal may hold a write up for ever; the service's loop must not wait
for that. Lines wait in a bounded queue; when it is full, new ones are dropped and counted, and the count is logged once
the target takes lines again. Lines that must stay (alerts) have room of their own.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST_WAITING = 10_000
"""Lines that may wait; a line has a few hundred bytes."""
MOST_ALERTS = 1_000
"""Alert lines that may wait beyond that."""
RETRY_SECONDS = 1.0
"""Between attempts at a target that refuses (a full disk)."""
MOST_AT_ONCE = 65_536
"""Bytes of one write."""


class Outlet:
    """Writes lines to a file descriptor from a daemon thread; `put` never waits. Close it, or `flush` at the end."""

    def __init__(self, descriptor: int, dropped: Callable[[int], None] = lambda lines: None) -> None:
        """`dropped` is told how many lines were lost so far, from the thread, each time that all others are out.

        The descriptor is duplicated: the interpreter flushes its own standard output at the end, and would wait for
        ever for a thread of ours that holds it.
        """
        self._descriptor = os.dup(descriptor)
        self._told = dropped
        self._lines: deque[bytes] = deque()
        self._lost = self._reported = 0
        self._busy = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="log lines", daemon=True)
        self._thread.start()

    def put(self, line: str, keep: bool = False) -> None:
        """Lay one line down, with its line end; `keep` for what must not be dropped."""
        with self._changed:
            if len(self._lines) >= MOST_WAITING + (MOST_ALERTS if keep else 0):
                self._lost += 1
                return
            self._lines.append(line.encode("utf-8", "backslashreplace"))
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until every line is out, so long at most; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._busy, seconds)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                block = bytearray()
                while self._lines and len(block) < MOST_AT_ONCE:
                    block += self._lines.popleft()
                self._busy = True
            self._write(block)
            with self._changed:
                # A line is laid down to tell it: not before there is room for it.
                lost = self._lost if not self._lines and self._lost > self._reported else 0
            if lost:
                self._reported = lost
                self._told(lost)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _write(self, block: bytearray) -> None:
        """The whole block, however long that takes: what was taken out of the queue is not lost."""
        left = memoryview(block)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [], RETRY_SECONDS)
            except OSError:
                # A full disk, or a reader that is gone: it may come back. What waits meanwhile is bounded.
                threading.Event().wait(RETRY_SECONDS)
