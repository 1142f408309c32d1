"""The lamp on an agent's phone: on while his call is recorded, as Asterisk shows it to phones that watch it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from tests.lab import asterisk_tree
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import LabError
from tests.lab.evidence import until_recorded
from tests.lab.installation import POLL_S, Installation
from tests.lab.phone import Answer, Phones
from tests.lab.signals import Chirp, Tone

DEADLINE_S = 10.0
DIALPLAN = """
[lamps]
exten => lamp100,hint,Custom:pbxguard-100
exten => lamp103,hint,Custom:pbxguard-103
"""


@dataclass
class Watched:
    """Each change of a lamp that Asterisk told its watchers, in order, and the lamps at moments of the two calls."""

    changes: dict[str, list[str]]
    moments: dict[str, dict[str, str]]


async def lamps(ami: Ami) -> dict[str, str]:
    """State of each of our lamps by extension, of all that Asterisk lists."""
    mark = len(ami.events)
    await ami.action("DeviceStateList")
    await ami.event("DeviceStateListComplete", since=mark)
    states = {e["Device"]: e["State"] for e in ami.events[mark:] if e["Event"] == "DeviceStateChange"}
    prefix = "Custom:pbxguard-"
    return {device.removeprefix(prefix): state for device, state in states.items() if device.startswith(prefix)}


async def until(ami: Ami, extension: str, state: str) -> dict[str, str]:
    """The lamps once this one shows `state`."""
    end = time.monotonic() + DEADLINE_S
    while (now := await lamps(ami)).get(extension) != state:
        if time.monotonic() > end:
            raise LabError(f"the lamp of {extension} is not {state}: {now}")
        await asyncio.sleep(POLL_S)
    return now


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(tree: asterisk_tree.Tree) -> AsyncIterator[Watched]:
    async with Installation(dialplan=DIALPLAN) as site, Phones() as phones, connect(site.asterisk) as ami:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=Chirp())
        told, untold = await asyncio.gather(
            *(phones.add(a.line(line), sends=Tone(1500), on_incoming=Answer(0.3)) for line in ("100", "103"))
        )
        moments: dict[str, dict[str, str]] = {}
        recorded = await carrier.call("31201234100", caller_id="+31612370001")
        agent = await told.incoming(number="+31612370001", deadline_s=30)
        refused = await carrier.call("31201238103", caller_id="+31612370002")  # nobody tells him anything
        await (await untold.incoming(number="+31612370002")).answered()
        await agent.answered()
        await until_recorded(site, "+31612370001")
        moments["recorded"] = await until(ami, "100", "INUSE")
        await agent.hold()
        moments["on hold"] = await until(ami, "100", "NOT_INUSE")
        await agent.unhold()
        moments["recorded again"] = await until(ami, "100", "INUSE")
        await recorded.hangup()
        moments["over"] = await until(ami, "100", "NOT_INUSE")
        await refused.hangup()
        await site.why("+31612370002")
        changes: dict[str, list[str]] = {"lamp100": [], "lamp103": []}
        for event in ami.events:
            if event["Event"] == "ExtensionStatus" and event["Exten"] in changes:
                changes[event["Exten"]].append(event["StatusText"])
        last = await carrier.call("31201234100", caller_id="+31612370003")
        await until(ami, "100", "INUSE")
        await site.stop(signal.SIGKILL)
        await last.hangup()
        await site.asterisk.idle()
        moments["over, pbxguard dead"] = await lamps(ami)
        await site.start()
        moments["pbxguard back"] = await until(ami, "100", "NOT_INUSE")
        yield Watched(changes, moments)


async def test_the_lamp_is_lit_while_the_call_is_recorded_and_not_on_hold_nor_afterwards(watched: Watched) -> None:
    seen = {moment: watched.moments[moment]["100"] for moment in ("recorded", "on hold", "recorded again", "over")}
    assert seen == {"recorded": "INUSE", "on hold": "NOT_INUSE", "recorded again": "INUSE", "over": "NOT_INUSE"}


async def test_a_lamp_that_a_dead_pbxguard_left_lit_is_put_out_by_the_next(watched: Watched) -> None:
    assert watched.moments["over, pbxguard dead"]["100"] == "INUSE"
    assert watched.moments["pbxguard back"]["100"] == "NOT_INUSE"


async def test_a_phone_that_watches_the_hint_is_told_each_change(watched: Watched) -> None:
    assert watched.changes["lamp100"] == ["InUse", "Idle", "InUse", "Idle"]


async def test_the_lamp_of_an_agent_whose_call_is_not_recorded_stays_dark(watched: Watched) -> None:
    assert watched.changes["lamp103"] == []
    assert {states.get("103", "NOT_INUSE") for states in watched.moments.values()} == {"NOT_INUSE"}
