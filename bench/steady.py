"""Owns: a steady flow of calls over a site, each told, bridged to an agent of its own, held, and hung up.

What it costs and how long things take, seen by a second AMI client while it flows; beside it, in the same run, what an
AMI ping and an fsync take on this machine.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import ami, load, sipp
from tests.lab.installation import LOAD_AGENT, LOAD_NUMBER, Installation
from tests.lab.sipp import LoadCall, LoadResult

AGENTS = 200
"""More than calls at once: a phone with two calls is not recorded."""
HZ = (500.0, 700.0, 900.0, 1100.0)
SEEN = ("DialBegin", "BridgeEnter", "Hold", "MixMonitorStart", "MixMonitorStop", "UserEvent")
PING_S, SYNC_S = 0.1, 0.2


@dataclass
class Flow:
    """What a steady flow left. Milliseconds."""

    placed: LoadResult
    seconds: float
    events: list[dict[str, str]] = field(repr=False)
    ping: list[float] = field(repr=False)
    sync: list[float] = field(repr=False)
    cpu: dict[str, float]

    @property
    def told(self) -> int:
        return sum(e.get("UserEvent") == "LoadCall" and e["Result"] == "DISCLOSED" for e in self.events)


def calls(count: int, number: str = LOAD_NUMBER) -> list[LoadCall]:
    """Callers whose last three digits name an agent that is free again when they come."""
    return [LoadCall(f"+31610{n // AGENTS:03d}{n % AGENTS:03d}", number, HZ[n % len(HZ)]) for n in range(count)]


async def flow(
    site: Installation,
    count: int,
    *,
    talk_s: float,
    per_second: float,
    hold_s: float = 1.0,
    number: str = LOAD_NUMBER,
    settled: Callable[[], Awaitable[None]] | None = None,
) -> Flow:
    """Place `count` calls at `per_second`; ends when all are over and `settled` has returned."""
    ping, sync = list[float](), list[float]()
    async with sipp.agents(site.asterisk, line=LOAD_AGENT), ami.connect(site.asterisk) as watch:
        for name in SEEN:
            await watch.action("Filter", Operation="Add", MatchCriteria=f"action(include),name({name})")
        before, began = _cpu(site), time.monotonic()
        async with _beside(site, ping, sync):
            placed = await sipp.call_many(
                site.asterisk,
                calls(count, number),
                talk_s=talk_s,
                per_second=per_second,
                hold_s=hold_s,
                deadline_s=count / per_second + talk_s + 60,
            )
            await site.asterisk.idle()
            if settled is not None:
                await settled()
        after = _cpu(site)
        watched = list(watch.events)
    cpu = {name: after[name] - before[name] for name in after}
    return Flow(placed, time.monotonic() - began, watched, ping, sync, cpu)


def _cpu(site: Installation) -> dict[str, float]:
    if site.process is None:
        return {"asterisk": load.cpu_seconds(site.asterisk.pid)}
    return load.processes(site)


@asynccontextmanager
async def _beside(site: Installation, ping: list[float], sync: list[float]) -> AsyncIterator[None]:
    """Ping AMI on a connection of its own, and write and fsync beside the archive."""
    async with ami.connect(site.asterisk) as client:
        await client.action("Events", EventMask="off")

        async def pings() -> None:
            while True:
                began = time.monotonic()
                await client.action("Ping")
                ping.append((time.monotonic() - began) * 1000)
                await asyncio.sleep(PING_S)

        async def syncs() -> None:
            while True:
                sync.append(await asyncio.to_thread(_sync, site.home / "sync"))
                await asyncio.sleep(SYNC_S)

        tasks = [asyncio.create_task(pings()), asyncio.create_task(syncs())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _sync(path: Path) -> float:
    """Milliseconds of a page written and synced."""
    began = time.monotonic()
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
        file.flush()
        os.fsync(file.fileno())
    return (time.monotonic() - began) * 1000


@dataclass(frozen=True)
class Waits:
    """Milliseconds, one of each call."""

    told_to_dial: list[float]
    """From PlaybackFinished (ARI's timestamp) to DialBegin."""
    bridged_to_started: list[float]
    """From the second BridgeEnter to MixMonitorStart: decision, audit log on disk, AMI there and back."""
    held_to_stopped: list[float]
    """From Hold to MixMonitorStop."""


def waits(site: Installation, seen: Sequence[dict[str, str]]) -> Waits:
    """As the second client saw them."""
    shift = time.time() - time.monotonic()
    dial: dict[str, float] = {}
    bridged: dict[str, list[float]] = {}
    found = Waits([], [], [])
    held: dict[str, float] = {}
    for event in seen:
        at = float(event["received"])
        linked = event.get("Linkedid", "")
        match event["Event"]:
            case "DialBegin":
                dial.setdefault(linked, at)
            case "BridgeEnter":
                bridged.setdefault(linked, []).append(at)
            case "MixMonitorStart" if len(bridged.get(linked, ())) == 2:
                found.bridged_to_started.append((at - bridged[linked][1]) * 1000)
            case "Hold":
                held.setdefault(linked, at)
            case "MixMonitorStop" if linked in held:
                found.held_to_stopped.append((at - held.pop(linked)) * 1000)
    for row in load.sealed_manifests(site):
        call = row["call"]["uniqueid"]
        if call in dial:
            ended = max(load.utc(told["ended_utc"]) for told in row["told"])
            found.told_to_dial.append((dial[call] + shift - ended) * 1000)
    return found


def percentiles(values: Sequence[float]) -> str:
    """Median, 99th percentile and most."""
    if not values:
        return "-"
    ordered, last = sorted(values), len(values) - 1
    return " / ".join(f"{ordered[min(last, round(len(values) * share))]:.1f}" for share in (0.5, 0.99, 1.0))
