"""Small things to tell Asterisk that no call waits for: hang-ups, CDR variables and lamps. In order, bounded.

Two lanes, one errand at a time in each: what ends something does not queue behind a burst of CDR variables. A newer
value for the same thing replaces one that is still waiting, so a burst ends in the last state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from pbxguard.core.errors import PbxguardError
from pbxguard.logs import Event, get_logger

MOST_WAITING = 20_000
ERRAND_SECONDS = 5.0

_log = get_logger()


class Errands:
    """`soon(key, errand)` from anywhere on the loop; `run()` does them."""

    def __init__(self) -> None:
        self._closing, self._telling = _Lane(), _Lane()

    def soon(self, key: tuple[str, ...], errand: Callable[[], Awaitable[None]], *, closes: bool = False) -> None:
        """Do it when its turn comes, unless another errand of that key replaces it.

        `closes`: it ends something (a hang-up) and waits for nothing else.
        """
        (self._closing if closes else self._telling).soon(key, errand)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._closing.run(), name="errands that close")
            group.create_task(self._telling.run(), name="errands that tell")


class _Lane:
    """Errands in order, one at a time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, ...], Callable[[], Awaitable[None]]] = OrderedDict()
        self._some = asyncio.Event()
        self._full = False

    def soon(self, key: tuple[str, ...], errand: Callable[[], Awaitable[None]]) -> None:
        self._waiting[key] = errand
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            if not self._full:  # once for each time that the lane fills up
                _log.warning(Event.ERRAND_DROPPED)
            self._full = True
        self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            while self._waiting:
                _, errand = self._waiting.popitem(last=False)
                try:
                    async with asyncio.timeout(ERRAND_SECONDS):
                        await errand()
                except (PbxguardError, TimeoutError) as error:
                    _log.debug(Event.ERRAND_FAILED, reason=type(error).__name__)
            self._full = False
            self._some.clear()
