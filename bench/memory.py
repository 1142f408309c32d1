"""Memory over very many calls: `python -m bench.memory [--calls 100000]`.

Replays calls through the wire, the translation and the whole core (`bench.replay`), 100 at a time alive, and prints
the resident memory as it goes. It ends with an error when it grew by more than a tenth after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from pathlib import Path

from bench.replay import Replay, Template

LIVE = 100


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    template, replay, sizes = Template(), Replay(), []
    for number in range(options.calls):
        if number >= LIVE:
            replay.feed(template.end(number - LIVE))
        replay.begin(number, template.begin(number))
        if (number + 1) % max(1, options.calls // 10) == 0:
            gc.collect()
            sizes.append(resident_mib())
            print(f"{number + 1:>8,} calls: {sizes[-1]:.1f} MiB", flush=True)
    assert replay.sealed == options.calls - LIVE, replay.sealed
    if sizes[-1] > sizes[0] * 1.1:
        raise SystemExit(f"memory is not flat: {sizes[0]:.1f} MiB after the first tenth, {sizes[-1]:.1f} at the end")


def resident_mib(pid: int | str = "self") -> float:
    """Resident memory of a process in MiB. Raises OSError when it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    asyncio.run(main())
