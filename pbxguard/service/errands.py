"""Small things to tell Asterisk that no call waits for: CDR variables and lamps. In order, bounded, one at a time.

A newer value for the same thing replaces one that is still waiting, so a burst ends in the last state.
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
        self._waiting: OrderedDict[tuple[str, ...], Callable[[], Awaitable[None]]] = OrderedDict()
        self._some = asyncio.Event()

    def soon(self, key: tuple[str, ...], errand: Callable[[], Awaitable[None]]) -> None:
        """Do it when its turn comes, unless another errand of that key replaces it."""
        self._waiting[key] = errand
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            _log.warning(Event.ERRAND_DROPPED)
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
            self._some.clear()
