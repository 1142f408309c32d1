"""MixMonitor: own voice and the others' in two files, no mixed one. Fulfils `service.ports.Recorder`.

What Asterisk gives as a recorder's id is a pointer, used again after its recorder is gone (ASTERISK.md), perhaps on the
same channel: so a handle is good for one stop, is known by what it *is* and not by what it says, and the variable that
holds the id is emptied after the stop. A start that nobody answered may have begun a recorder all the same: it is kept
as doubtful and stopped by `settle`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.handles import RecorderHandle
from pbxguard.core.ids import SegmentId, Uniqueid
from pbxguard.fault_points import FaultPoint, reached

from . import values
from .connection import AmiRefused
from .needs import Act
from .values import RECORDER_PREFIX, Ours

LOG = logging.getLogger("pbxguard.ami")

_GONE = ("no such channel", "could not stop", "not found")


class MixMonitor:
    """Starts and stops recorders over the connection without events."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._running: dict[int, tuple[RecorderHandle, Ours]] = {}
        """By `id()` of the handle, which is kept alive here: the handle and its variable."""
        self._doubtful: dict[SegmentId, Uniqueid] = {}
        self._spent: list[tuple[Uniqueid, Ours]] = []
        """Variables to be emptied."""

    async def start(self, leg: Uniqueid, segment: SegmentId, own_file: Path, others_file: Path) -> RecorderHandle:
        """Start on channel `leg`; paths as Asterisk spells them, opaque names only.

        Raises UnsafeValue, AmiRefused (no recorder runs), ConnectionFailed (whether one runs is not known: `settle`
        sees to it).
        """
        name = values.recorder_variable(segment)
        options = Ours(f"r({values.path(own_file)})t({values.path(others_file)})i({name})")
        headers = {"Channel": values.uniqueid(leg), "File": "", "Options": options}
        reached(FaultPoint.RECORDER_STARTING)
        try:
            answer = (await self._act("MixMonitor", headers))[0]
            reached(FaultPoint.RECORDER_STARTED)
        except (ConnectionFailed, asyncio.CancelledError):
            self._doubtful[segment] = leg
            raise
        given = answer.get("MixMonitorID", "")
        handle = self._know(leg, given, name) if given else await self.find(leg, segment)
        if handle is None:
            self._doubtful[segment] = leg
            raise AmiRefused("MixMonitor", "no id given")
        return handle

    async def stop(self, handle: RecorderHandle) -> bool:
        """True when stopped by us, False when the recorder was gone already. Raises ConnectionFailed, AmiRefused.

        A handle is spent by its stop: a second stop sends nothing.
        """
        known = self._running.get(id(handle))
        if known is None:
            return False
        stopped = await self._stop(handle)
        if self._running.pop(id(handle), None) is not None and stopped:
            self._spent.append((handle.leg, known[1]))
        return stopped

    async def find(self, leg: Uniqueid, segment: SegmentId) -> RecorderHandle | None:
        """The recorder of a segment by its variable on the channel, e.g. one of before our restart; it may be stopped.

        None when the channel is gone or has no such variable. That the variable is there does not prove that it
        still runs. Raises ConnectionFailed, AmiRefused (no right to ask).
        """
        name = values.recorder_variable(segment)
        headers = {"Channel": values.uniqueid(leg), "Variable": name}
        try:
            answer = (await self._act("Getvar", headers))[0]
        except AmiRefused as error:
            if error.not_permitted:
                raise
            return None
        given = answer.get("Value", "")
        return self._know(leg, given, name) if given.startswith("0x") else None

    async def find_all(self) -> list[RecorderHandle]:
        """Every recorder whose id one of our variables holds, on any channel. Raises ConnectionFailed, AmiRefused."""
        return [self._know(leg, given, name) for leg, given, name in await self._held()]

    async def _held(self) -> list[tuple[Uniqueid, str, Ours]]:
        """What our variables hold: on which channel, the id, the variable."""
        found: list[tuple[Uniqueid, str, Ours]] = []
        for entry in (await self._act("Status", {"AllVariables": "true"}))[1:]:
            held: Any = entry.get("Variable", [])
            for text in [held] if isinstance(held, str) else held:
                name, _, given = text.partition("=")
                if name.startswith(RECORDER_PREFIX) and given.startswith("0x"):
                    found.append((Uniqueid(entry.get("Uniqueid", "")), given, values.variable(name)))
        return found

    async def stop_strays(self) -> int:
        """Stop recorders of ours that no handle is of any more; gives how many ran.

        A masquerade that gives their leg's place to another channel leaves them in that place, variable and all
        (channel.c, `channel_do_masquerade`): the leg hangs up, and they run on under the other's uniqueid.

        Raises as `stop_all`.
        """
        held = await self._held()
        known = {str(name) for _, name in (*self._running.values(), *((None, name) for _, name in self._spent))}
        return await self.stop_all([self._know(leg, given, name) for leg, given, name in held if name not in known])

    async def stop_all(self, found: Sequence[RecorderHandle] | None = None) -> int:
        """Stop these, or all of `find_all`, at once; gives how many ran.

        Raises as `find_all` and `stop`, but only after every stop was tried.
        """
        handles = await self.find_all() if found is None else found
        stopped = await asyncio.gather(*(self.stop(handle) for handle in handles), return_exceptions=True)
        for failure in stopped:
            if isinstance(failure, BaseException):
                raise failure
        return sum(one is True for one in stopped)

    async def settle(self) -> None:
        """Stop what may have begun although nobody answered; empty the variables of what was stopped.

        Raises ConnectionFailed, AmiRefused (no right to).
        """
        for segment, leg in list(self._doubtful.items()):
            handle = await self.find(leg, segment)
            if handle is not None:
                stopped = await self.stop(handle)
                LOG.warning("ami.doubtful_recorder_stopped", extra={"segment": segment, "ran": stopped})
            self._doubtful.pop(segment, None)
        while self._spent:
            leg, name = self._spent[0]
            reached(FaultPoint.RECORDER_FORGETTING)
            with suppress(AmiRefused):  # the channel is gone, and its variables with it
                await self._act("Setvar", {"Channel": values.uniqueid(leg), "Variable": name, "Value": ""})
            reached(FaultPoint.RECORDER_FORGOTTEN)
            self._spent.pop(0)

    def channel_gone(self, leg: Uniqueid) -> None:
        """The channel was hung up: its ids may come again elsewhere, and mean others then."""
        self._running = {key: known for key, known in self._running.items() if known[0].leg != leg}

    def _know(self, leg: Uniqueid, given: str, name: Ours) -> RecorderHandle:
        handle = RecorderHandle(leg, given)
        self._running[id(handle)] = (handle, name)
        return handle

    async def _stop(self, handle: RecorderHandle) -> bool:
        headers = {"Channel": values.uniqueid(handle.leg), "MixMonitorID": handle.mixmonitor_id}
        reached(FaultPoint.RECORDER_STOPPING)
        try:
            await self._act("StopMixMonitor", headers)
            reached(FaultPoint.RECORDER_STOPPED)
        except AmiRefused as error:
            if any(words in error.answer.lower() for words in _GONE):
                return False
            raise
        return True
