"""MixMonitor: own voice and the others' in two files, no mixed one. Fulfils `service.ports.Recorder`.

What Asterisk gives as a recorder's id is a pointer, used again after its recorder is gone (ASTERISK.md): so an id is
good for one stop, on one channel, and is forgotten then. A start that nobody answered may have begun a recorder all
the same: it is kept as doubtful and stopped by `settle`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.handles import RecorderHandle
from pbxguard.core.ids import SegmentId, Uniqueid

from . import values
from .connection import AmiRefused
from .needs import Act
from .values import Ours

LOG = logging.getLogger("pbxguard.ami")

_GONE = ("no such channel", "could not stop", "not found")


class MixMonitor:
    """Starts and stops recorders over the connection without events."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self._running: set[RecorderHandle] = set()
        self._doubtful: dict[SegmentId, Uniqueid] = {}

    async def start(self, leg: Uniqueid, segment: SegmentId, own_file: Path, others_file: Path) -> RecorderHandle:
        """Start on channel `leg`; paths as Asterisk spells them, opaque names only.

        Raises UnsafeValue, AmiRefused (no recorder runs), ConnectionFailed (whether one runs is not known: `settle`
        sees to it).
        """
        name = values.recorder_variable(segment)
        options = Ours(f"r({values.path(own_file)})t({values.path(others_file)})i({name})")
        headers = {"Channel": values.uniqueid(leg), "File": "", "Options": options}
        try:
            answer = (await self._act("MixMonitor", headers))[0]
        except (ConnectionFailed, asyncio.CancelledError):
            self._doubtful[segment] = leg
            raise
        given = answer.get("MixMonitorID", "")
        handle = RecorderHandle(leg, given) if given else await self.find(leg, segment)
        if handle is None:
            self._doubtful[segment] = leg
            raise AmiRefused("MixMonitor", "no id given")
        self._running.add(handle)
        return handle

    async def stop(self, handle: RecorderHandle) -> bool:
        """True when stopped by us, False when the recorder was gone already. Raises ConnectionFailed, AmiRefused.

        A handle is spent by its stop: a second stop sends nothing.
        """
        if handle not in self._running:
            return False
        stopped = await self._stop(handle)
        self._running.discard(handle)
        return stopped

    async def find(self, leg: Uniqueid, segment: SegmentId) -> RecorderHandle | None:
        """The recorder of a segment by its variable on the channel, e.g. one of before our restart; it may be stopped.

        None when the channel is gone or has no such variable. That the variable is there does not prove that it
        still runs. Raises ConnectionFailed, AmiRefused (no right to ask).
        """
        headers = {"Channel": values.uniqueid(leg), "Variable": values.recorder_variable(segment)}
        try:
            answer = (await self._act("Getvar", headers))[0]
        except AmiRefused as error:
            if error.not_permitted:
                raise
            return None
        given = answer.get("Value", "")
        if not given.startswith("0x"):
            return None
        handle = RecorderHandle(leg, given)
        self._running.add(handle)
        return handle

    async def settle(self) -> None:
        """Stop every recorder that may have begun although nobody answered. Raises ConnectionFailed."""
        for segment, leg in list(self._doubtful.items()):
            handle = await self.find(leg, segment)
            if handle is not None:
                stopped = await self.stop(handle)
                LOG.warning("ami.doubtful_recorder_stopped", extra={"segment": segment, "ran": stopped})
            self._doubtful.pop(segment, None)

    def channel_gone(self, leg: Uniqueid) -> None:
        """The channel was hung up: its ids may come again elsewhere, and mean others then."""
        self._running = {handle for handle in self._running if handle.leg != leg}

    async def _stop(self, handle: RecorderHandle) -> bool:
        headers = {"Channel": values.uniqueid(handle.leg), "MixMonitorID": handle.mixmonitor_id}
        try:
            await self._act("StopMixMonitor", headers)
        except AmiRefused as error:
            if any(words in error.answer.lower() for words in _GONE):
                return False
            raise
        return True
