"""Owns: many calls at once on an installation, and what they left: results, moments, CPU. Imports nothing of pbxguard.

A second AMI connection sees what Asterisk does with the calls; its moments are the test's own clock, so they hold
what the machine's load adds.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import gcd
from pathlib import Path
from typing import Any

from tests.lab import ami, sipp
from tests.lab.installation import LOAD_AGENT, LOAD_NUMBER, Installation
from tests.lab.sipp import LoadCall, LoadResult

FIRST_HZ, STEP_HZ = 2400.0, 20.0
AGENT_TONES = 48
SEEN = ("DialBegin", "BridgeEnter", "BridgeLeave", "MixMonitorStart", "UserEvent", "VarSet")
SEALED_DEADLINE_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True)
class Burst:
    """What many calls at once left."""

    calls: tuple[LoadCall, ...]
    agents: tuple[float, ...]
    """The tone of each call's agent."""
    placed: LoadResult
    results: dict[str, str]
    """PBXGUARD_RESULT by the caller's last three digits, as Asterisk said it."""
    events: list[dict[str, str]] = field(repr=False)
    log: list[dict[str, Any]] = field(repr=False)
    cpu: dict[str, float]
    """Seconds of CPU of each process, from the first call until all is sealed."""
    wall_s: float


def agent_tones(count: int) -> tuple[float, ...]:
    """One for each agent, above all callers' tones; calls that are near each other in time are not so in pitch."""
    return tuple(FIRST_HZ + STEP_HZ * (n * 7 % AGENT_TONES) for n in range(count))


def callers(count: int) -> list[LoadCall]:
    """As `sipp.distinct_calls`, their tones in another order."""
    plain = sipp.distinct_calls(count, LOAD_NUMBER)
    stride = next(n for n in (37, 41, 43) if gcd(n, count) == 1)
    return [replace(call, hertz=plain[n * stride % count].hertz) for n, call in enumerate(plain)]


async def burst(
    site: Installation, count: int, *, talk_s: float, per_second: float = 100.0, observe: bool = True
) -> Burst:
    """Place `count` calls at once to agents of their own, and wait until all are over and sealed (or a deadline).

    `talk_s` is from the caller's answer to his hanging up: it holds the disclosure. `observe`: also read moments.
    """
    calls = callers(count)
    tones = agent_tones(count)
    offset = len(site.log())
    async with sipp.agents(site.asterisk, line=LOAD_AGENT, tones=tones), ami.connect(site.asterisk) as watch:
        for name in SEEN if observe else ("UserEvent",):
            await watch.action("Filter", Operation="Add", MatchCriteria=f"action(include),name({name})")
        before, began = processes(site), time.monotonic()
        placed = await sipp.call_many(site.asterisk, calls, talk_s=talk_s, per_second=per_second)
        await site.asterisk.idle()
        await all_sealed(site, count, offset)
        after = processes(site)
        events = list(watch.events)
    return Burst(
        calls=tuple(calls),
        agents=tones,
        placed=placed,
        results={e["Number"]: e["Result"] for e in events if e.get("UserEvent") == "LoadCall"},
        events=events,
        log=[json.loads(line) for line in site.log()[offset:].splitlines() if line.startswith("{")],
        cpu={name: after[name] - before[name] for name in after},
        wall_s=time.monotonic() - began,
    )


async def all_sealed(site: Installation, count: int, offset: int = 0) -> None:
    """Until so many were sealed and the spool is empty; who counts files afterwards sees what is missing."""
    end = time.monotonic() + SEALED_DEADLINE_S
    while time.monotonic() < end:
        if site.log()[offset:].count('"recording.sealed"') >= count and not site.leftovers():
            return
        await asyncio.sleep(POLL_S)


def processes(site: Installation) -> dict[str, float]:
    """Seconds of CPU used so far."""
    assert site.process is not None
    return {"asterisk": cpu_seconds(site.asterisk.pid), "pbxguard": cpu_seconds(site.process.pid)}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[n]) for n in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Moments:
    """Milliseconds, one of each call; for a report, never for an assertion."""

    told_to_dial: list[float] = field(default_factory=list)
    """From PlaybackFinished (ARI's own timestamp) to DialBegin as the lab saw it."""
    bridged_to_permit: list[float] = field(default_factory=list)
    """From the second BridgeEnter as the lab saw it to the decision."""
    permit_to_disk: list[float] = field(default_factory=list)
    """From the decision to MixMonitor's being sent: the audit log."""
    sent_to_started: list[float] = field(default_factory=list)
    """From there to its answer."""
    lost: list[float] = field(default_factory=list)
    """Of the time that both were bridged, what is not in the file."""
    cut: list[float] = field(default_factory=list)
    """What was taken off at the end."""
    closed_to_sealed: list[float] = field(default_factory=list)
    beat: list[float] = field(default_factory=list)
    """From the sending of each beat to the lab's seeing it."""


def moments(site: Installation, burst: Burst) -> Moments:
    """Read them from the lab's events, the service's log and the manifests."""
    shift = time.time() - time.monotonic()
    dials: dict[str, float] = {}
    bridges: dict[str, list[float]] = {}
    left: dict[str, float] = {}
    found = Moments()
    for event in burst.events:
        at = float(event["received"])
        match event["Event"]:
            case "DialBegin":
                dials.setdefault(event["Uniqueid"], at + shift)
            case "BridgeEnter":
                bridges.setdefault(event["Linkedid"], []).append(at + shift)
            case "BridgeLeave":
                left.setdefault(event["Linkedid"], at + shift)
            case "VarSet" if event.get("Variable") == "PBXGUARD_BEAT" and event["Uniqueid"] == "none":
                found.beat.append((at - int(event["Value"].rpartition(".")[2]) / 1e6) * 1000)
    logged = {(line["event"], line.get("recording", "")): utc(line["ts"]) for line in reversed(burst.log)}
    for said in sealed_manifests(site):
        one, channel, segment = said["recording"], said["call"]["uniqueid"], said["segments"][0]
        if channel not in dials:
            continue  # of an earlier burst
        bridged, began = bridges[channel][1], utc(said["intervals"][0]["begin_utc"])
        rate = said["file"]["rate"]
        for values, seconds in (
            (found.told_to_dial, dials[channel] - max(utc(told["ended_utc"]) for told in said["told"])),
            (found.bridged_to_permit, utc(segment["opened_utc"]) - bridged),
            (found.permit_to_disk, began - utc(segment["opened_utc"])),
            (found.sent_to_started, logged["recorder.started", one] - began),
            (found.lost, left[channel] - bridged - said["file"]["samples"] / rate),
            (found.cut, sum(s["cut_samples"] for s in said["segments"]) / rate),
            (found.closed_to_sealed, logged["recording.sealed", one] - logged["segment.closed", one]),
        ):
            values.append(seconds * 1000)
    return found


def sealed_files(site: Installation) -> list[Path]:
    """Every sealed file that has its manifest, in the order of their names."""
    return [f for f in sorted(site.archive.rglob("*.flac")) if f.with_suffix(".json").exists()]


def sealed_manifests(site: Installation) -> list[dict[str, Any]]:
    """Of every sealed file, in the order of their names."""
    return [json.loads(file.with_suffix(".json").read_text()) for file in sealed_files(site)]


def cut_ms(manifest: dict[str, Any]) -> list[float]:
    """What was taken off at the end of each of its segments."""
    return [segment["cut_samples"] * 1000 / manifest["file"]["rate"] for segment in manifest["segments"]]


def utc(text: str) -> float:
    """Seconds of the epoch."""
    return datetime.fromisoformat(text).timestamp()


def summary(values: Sequence[float]) -> str:
    """Median and most."""
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.0f} / {ordered[-1]:.0f}"
