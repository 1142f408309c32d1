"""Threads of its own for each thing that may hang, such as a disk: whatever hangs there, others have theirs.

The standard library's pool is no help here: everybody shares the loop's default one, and the end of the process waits
for every thread of any pool. These are few, and daemons: a disk that never answers keeps nobody from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Work = tuple["Future[Any]", Callable[[], Any]]


class Threads(Executor):
    """At most `most` of them, made when needed; what comes while all are busy waits in order."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._made = self._free = 0
        self._over = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises. Who is cancelled meanwhile leaves it running, unless it did not begin."""
        return await asyncio.get_running_loop().run_in_executor(self, partial(work, *args, **kwargs))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As `concurrent.futures.Executor`."""
        future: Future[T] = Future()
        with self._lock:
            if self._over:
                raise RuntimeError(f"the threads of {self._name} are shut down")
            self._waiting.put((future, partial(fn, *args, **kwargs)))
            if self._free:
                self._free -= 1  # promised to this work
            elif self._made < self._most:
                self._made += 1
                threading.Thread(target=self._live, name=f"{self._name}-{self._made}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Take no more. Never waits, whatever is asked: what hangs would be waited for without end."""
        with self._lock:
            self._over = True
            while cancel_futures and not self._waiting.empty():
                if (work := self._waiting.get_nowait()) is not None:
                    work[0].cancel()
            for _ in range(self._made):
                self._waiting.put(None)

    def _live(self) -> None:
        while (work := self._waiting.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # whatever it was, who waits for it hears of it
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del work, future, call
            with self._lock:
                # What waits will be taken by this one or by another that is not counted: too few are, never too many.
                if self._waiting.empty():
                    self._free += 1
