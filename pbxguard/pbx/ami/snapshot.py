"""A consistent picture of the PBX: beat, lists, beat, with no change of channels or bridges in between.

`CoreShowChannels` and `BridgeList` are not atomic (ASTERISK.md). A try that was disturbed is thrown away; after
`TRIES` in a row somebody is told, and it goes on, ever slower: without a picture nothing may be recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from pbxguard.core.facts import BridgeCreated, ChannelCreated, SnapshotTaken, SpyStarted
from pbxguard.core.ids import BridgeId, Uniqueid

from .connection import Tuning
from .inbox import Inbox
from .needs import Act
from .translate import bridge_created, created

LOG = logging.getLogger("pbxguard.ami")

TRIES = 20
_SNOOP = "Snoop/"
_SPYING = ("ChanSpy", "ExtenSpy")

Entries = Sequence[Mapping[str, str]]


async def take(act: Act, inbox: Inbox, tuning: Tuning) -> SnapshotTaken:
    """The snapshot; when it returns, `inbox` holds what happened since, and nothing that it already shows.

    Raises ConnectionFailed, AmiRefused.
    """
    pause = tuning.restless_s
    tries = 0
    while True:
        await inbox.mark(tuning.picture_s)
        boot, channels, bridges = await asyncio.gather(boot_of(act), act("CoreShowChannels"), act("BridgeList"))
        if await inbox.undisturbed(tuning.picture_s):
            return picture(boot, channels[1:], bridges[1:])
        tries += 1
        if tries == TRIES:
            LOG.warning("ami.restless", extra={"tries": tries})
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, tuning.restless_most_s)


async def compare(act: Act, inbox: Inbox, tuning: Tuning) -> None:
    """The same lists in the middle of things, into `inbox`, with the names of those who moved meanwhile.

    Raises ConnectionFailed, AmiRefused.
    """
    await inbox.watch_movers(tuning.picture_s)
    channels, bridges = await asyncio.gather(act("CoreShowChannels"), act("BridgeList"))
    await inbox.compare(picture("", channels[1:], bridges[1:]), tuning.picture_s)


async def boot_of(act: Act) -> str:
    """Names this boot of Asterisk: the same across our reconnects, another one after its restart."""
    status = (await act("CoreStatus"))[0]
    return f"{status.get('CoreStartupDate', '')}T{status.get('CoreStartupTime', '')}"


def picture(boot: str, channels: Entries, bridges: Entries) -> SnapshotTaken:
    """What the lists say, as one fact; entries that make no sense are left out."""
    made: list[ChannelCreated] = []
    members: dict[str, list[Uniqueid]] = {}
    for entry in channels:
        if entry.get("Event") != "CoreShowChannel" or not entry.get("Uniqueid") or not entry.get("Channel"):
            continue
        channel = created(entry)
        made.append(channel)
        if entry.get("BridgeId"):
            members.setdefault(entry["BridgeId"], []).append(channel.channel)
    known: dict[str, BridgeCreated] = {
        entry["BridgeUniqueid"]: bridge_created(entry)
        for entry in bridges
        if entry.get("Event") == "BridgeListItem" and entry.get("BridgeUniqueid")
    }
    for bridge in members:
        # One that the list does not have any more is taken as one in which people hear each other.
        known.setdefault(bridge, BridgeCreated(BridgeId(bridge), "basic", "simple_bridge"))
    found = tuple((bridge, tuple(members.get(id, ()))) for id, bridge in known.items())
    return SnapshotTaken(boot, tuple(made), found, _spies(channels, made))


def _spies(entries: Entries, channels: Sequence[ChannelCreated]) -> tuple[SpyStarted, ...]:
    """Who may be spying on whom: no list tells, so every channel that a running ChanSpy could be on counts."""
    found: list[SpyStarted] = []
    for entry in entries:
        spy, name = Uniqueid(entry.get("Uniqueid", "")), entry.get("Channel", "")
        if name.startswith(_SNOOP):
            found += [SpyStarted(spy, c.channel) for c in channels if name.startswith(f"{_SNOOP}{c.channel}-")]
        elif entry.get("Application") in _SPYING:
            wanted = entry.get("ApplicationData", "").partition(",")[0]
            prefix = wanted if entry.get("Application") == "ChanSpy" else ""
            found += [
                SpyStarted(spy, c.channel, True) for c in channels if c.channel != spy and c.name.startswith(prefix)
            ]
    return tuple(found)
