"""Which telephone a channel is with, of endpoints that are split by contact: no event tells, so Asterisk is asked.

Until it has answered, all channels of the endpoint count as one telephone's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pbxguard.core.errors import PbxguardError
from pbxguard.core.facts import ChannelCreated, ChannelStateChanged, ContactSeen, Fact, SnapshotTaken
from pbxguard.core.ids import Uniqueid
from pbxguard.core.parties import endpoint_of
from pbxguard.core.policy import Policy
from pbxguard.logs import Event, get_logger

from .ports import FactSink

MOST_WAITING = 1000

_log = get_logger()


class Asked(Protocol):
    """What we need of `pbx.ami.pbx.AmiPbx`."""

    async def contact(self, channel: Uniqueid) -> str: ...


class Contacts:
    """`observe` every fact; `run` asks, one channel at a time, and puts what it learns among the facts."""

    def __init__(self, policy: Callable[[], Policy], pbx: Asked, facts: FactSink) -> None:
        self._policy, self._pbx, self._facts = policy, pbx, facts
        self._waiting: asyncio.Queue[Uniqueid] = asyncio.Queue(MOST_WAITING)
        self._unknown: dict[Uniqueid, None] = {}
        """Asked in vain: asked again when their state changes (a channel that dials has no address at first)."""

    def observe(self, fact: Fact) -> None:
        """Never waits; what does not fit in is not asked for, and stays unknown."""
        match fact:
            case ChannelCreated():
                self._consider(fact)
            case SnapshotTaken():
                self._unknown.clear()
                for channel in fact.channels:
                    self._consider(channel)
            case ChannelStateChanged(channel=channel) if channel in self._unknown:
                self._ask(channel)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            channel = await self._waiting.get()
            try:
                contact = await self._pbx.contact(channel)
            except PbxguardError as error:
                _log.debug(Event.ERRAND_FAILED, reason=error.code)
                continue
            if contact:
                self._unknown.pop(channel, None)
                await self._facts.put(ContactSeen(channel, contact))

    def _consider(self, channel: ChannelCreated) -> None:
        if self._policy().parties.devices.splits(endpoint_of(channel.name)):
            self._ask(channel.channel)

    def _ask(self, channel: Uniqueid) -> None:
        self._unknown[channel] = None
        if len(self._unknown) > MOST_WAITING:
            del self._unknown[next(iter(self._unknown))]
        if not self._waiting.full():
            self._waiting.put_nowait(channel)
