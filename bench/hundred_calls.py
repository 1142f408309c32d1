"""How pbxguard and Asterisk do with many calls at once: the numbers of docs/benchmarks.md.

    python -m bench.hundred_calls 10 50 100 [--profile FILE]

Each call is told, bridged, recorded and sealed, on a real Asterisk, with SIPp on both sides. `--profile` writes what
cProfile saw of the service (it makes it about twice as slow: such numbers are for finding, not for comparing).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
from pathlib import Path

from tests.lab import load
from tests.lab.installation import Installation

TALK_S = 14.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--talk", type=float, default=TALK_S)
    parser.add_argument("--per-second", type=float, default=100.0)
    parser.add_argument("--keep-log", type=Path)
    options = parser.parse_args()
    prefix = ["-m", "cProfile", "-o", str(options.profile)] if options.profile else []
    for count in options.counts:
        async with Installation(load_agents=count, python_options=prefix) as site:
            done = await load.burst(site, count, talk_s=options.talk, per_second=options.per_second)
            report(site, count, done)
            if options.keep_log:
                shutil.copy(site.logfile, options.keep_log)


def report(site: Installation, count: int, done: load.Burst) -> None:
    sealed = len(list(site.archive.rglob("*.json")))
    told = sum(result == "DISCLOSED" for result in done.results.values())
    print(f"{count} calls: placed {done.placed.successful}, told {told}, sealed {sealed}, in {done.wall_s:.1f} s")
    for name, seconds in done.cpu.items():
        print(f"  CPU of {name}: {seconds:.2f} s")
    for name, values in dataclasses.asdict(load.moments(site, done)).items():
        print(f"  {name}: {load.summary(values)} ms (median / most)")


if __name__ == "__main__":
    asyncio.run(main())
