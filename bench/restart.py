"""How soon a killed pbxguard guards again: `python -m bench.restart [--kills 6] [--beside DIR]`.

A steady flow, 10 calls of 10 s a second, about 100 at once. Every so often pbxguard is killed (SIGKILL), its recorders
are stopped as systemd would have it, and it is started at once. Seconds from that start, median of all kills, by its
own log. `--beside`: another checkout (such as `git worktree add`), started by turns with this one, in the same flow.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import steady
from tests.lab import sipp
from tests.lab.asterisk import REPO
from tests.lab.installation import LOAD_AGENT, Installation

PER_SECOND, TALK_S = 10.0, 10.0
FIRST_S, BETWEEN_S = 15.0, 15.0
"""Until the flow is steady; from one that guards again to the next kill."""
STEPS = (
    "settings read",
    "Asterisk's picture seen",
    "first recorder started",
    "last leftover closed",
    "ready",
)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6, help="of each checkout")
    parser.add_argument("--beside", type=Path, help="another checkout")
    options = parser.parse_args()
    packages = [REPO, *([options.beside.resolve()] if options.beside else [])]
    took: dict[Path, list[dict[str, float]]] = defaultdict(list)
    async with Installation(load_agents=steady.AGENTS, python_options=("-P",)) as site:
        count = round(PER_SECOND * (FIRST_S + options.kills * len(packages) * (BETWEEN_S + 20)))
        async with sipp.agents(site.asterisk, line=LOAD_AGENT):
            flow = asyncio.create_task(
                sipp.call_many(
                    site.asterisk, steady.calls(count), talk_s=TALK_S, per_second=PER_SECOND, deadline_s=3600
                )
            )
            await asyncio.sleep(FIRST_S)
            for nth in range(options.kills * len(packages)):
                package = packages[nth % len(packages)]
                took[package].append(await _killed(site, package))
                print(f"  {package.name}: {_line(took[package][-1])}", flush=True)
                await asyncio.sleep(BETWEEN_S)
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)
    print(f"seconds from the start of the process, median (least to most) of {options.kills} kills")
    for package, runs in took.items():
        print(f"  {package.name}")
        for step in (*STEPS, "leftovers"):
            values = sorted(run[step] for run in runs if step in run)
            if values:
                print(f"    {step}: {statistics.median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})")


async def _killed(site: Installation, package: Path) -> dict[str, float]:
    """Kill, start, and what its log says of the start."""
    await site.stop(signal.SIGKILL)
    seen, site.environment = len(site.events()), {"PYTHONPATH": str(package)}
    began, wall = time.monotonic(), time.time()
    await site.start()
    found = {"ready": time.monotonic() - began}
    await asyncio.sleep(5)  # what it does beside
    for line in site.events()[seen:]:
        _note(found, line, datetime.fromisoformat(line["ts"]).timestamp() - wall)
    return found


def _note(found: dict[str, float], line: dict[str, Any], at: float) -> None:
    match line["event"]:
        case "settings.loaded":
            found.setdefault("settings read", at)
        case "snapshot.taken":
            found.setdefault("Asterisk's picture seen", at)
        case "recorder.started":
            found.setdefault("first recorder started", at)
        case "segment.closed" if line.get("reason") == "guard_away":
            found["last leftover closed"] = at
            found["leftovers"] = found.get("leftovers", 0) + 1


def _line(found: dict[str, float]) -> str:
    return ", ".join(f"{step} {found[step]:.1f}" for step in (*STEPS, "leftovers") if step in found)


if __name__ == "__main__":
    asyncio.run(main())
