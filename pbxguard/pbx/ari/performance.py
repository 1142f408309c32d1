"""Carries an `Announcement` out: its events in order, its orders one by one, its deadlines.

Owns the loop that the caller's door and a whisper share, not what each order means to them. After a freeze the sockets
are drained before a deadline is honoured.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from pbxguard.core import announcement as core
from pbxguard.core.announcement import Announcement, Outcome, Result
from pbxguard.core.errors import PbxguardError
from pbxguard.core.reasons import Reason
from pbxguard.logs import Event, get_logger

from .connection import ChannelNotOurs

MOST_WAITING = 200
"""Events that may wait for one channel; one that sends more is let go."""
LATE = 0.05
"""A deadline that fires so late (s) was delayed by a freeze: what came meanwhile is read first."""
DRAIN = 0.05

Ordered = core.Answer | core.ReadStats | core.Play | core.StopPlayback | core.SetResult
_log = get_logger()


class Listener(Protocol):
    """What an announcement tells while it runs."""

    async def objected(self) -> None:
        """He pressed 9."""

    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None:
        """It is over and the result is set. Returns quickly; gives another result to set before the call goes on."""


class Performance:
    """One announcement to one channel. What is ordered is carried out by who inherits this."""

    def __init__(self) -> None:
        self.over = False
        self._inbox: asyncio.Queue[core.Event] = asyncio.Queue(MOST_WAITING)

    async def carry_out(self, output: Ordered) -> core.Event | None:
        """One order; its answer, if the core waits for one, is the next event. Raises PbxguardError."""
        raise NotImplementedError

    async def concluded(self, other: tuple[Result, tuple[Reason, ...]] | None) -> None:
        """The listener knows; `other`: the result that it wants instead. Never raises for what Asterisk does."""
        raise NotImplementedError

    async def go_on(self) -> None:
        """It is over: let the channel go on. Never raises for what Asterisk does."""
        raise NotImplementedError

    async def perform(self, machine: Announcement, first: core.Event, listener: Listener) -> Outcome:
        """From `first` to the end. Never raises for what Asterisk does."""
        events: deque[core.Event] = deque([first])
        loop = asyncio.get_running_loop()
        until = loop.time()
        while True:
            event = events.popleft() if events else await self._next(until)
            now = max(loop.time(), until) if isinstance(event, core.DeadlinePassed) else loop.time()
            for output in machine.handle(event, now):
                match output:
                    case core.Wait(moment):
                        until = moment
                    case core.ReportObjection():
                        await listener.objected()
                    case core.Conclude(outcome):
                        await self.concluded(await listener.concluded(outcome))
                    case core.Continue():
                        await self.go_on()
                    case _:
                        if (answer := await self._answer(output)) is not None:
                            events.append(answer)
            if machine.outcome is not None:
                return machine.outcome

    def give(self, event: core.Event) -> None:
        """An event of this channel, in order."""
        if self._inbox.full():  # who sends so much is let go: his announcement fails, and the call goes on
            while not self._inbox.empty():
                self._inbox.get_nowait()
            event = event if isinstance(event, core.Gone) else core.CommandFailed()
        self._inbox.put_nowait(event)

    def end(self) -> None:
        """The channel left: nothing more is sent to it."""
        self.over = True
        self.give(core.Gone())

    async def _answer(self, output: Ordered) -> core.Event | None:
        try:
            return await self.carry_out(output)
        except ChannelNotOurs:
            return core.CommandFailed(gone=True)
        except PbxguardError as error:
            _log.warning(Event.ARI_REQUEST_FAILED, request=type(output).__name__, reason=str(error))
            return core.CommandFailed()

    async def _next(self, until: float) -> core.Event:
        if self.over and self._inbox.empty():
            return core.Gone()
        try:
            async with asyncio.timeout_at(until):
                return await self._inbox.get()
        except TimeoutError:
            late = asyncio.get_running_loop().time() - until > LATE
            for _ in range(5):
                await asyncio.sleep(0)
            if late:
                await asyncio.sleep(DRAIN)
            return core.DeadlinePassed() if self._inbox.empty() else self._inbox.get_nowait()
