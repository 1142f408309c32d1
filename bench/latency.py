"""Waits at a steady rate: `python -m bench.latency [--per-second 10] [--seconds 60]`.

10 new calls of 10 s a second are about 100 at once. Each is told, bridged, recorded, put on hold by the caller for its
last second (the revocation), and hung up. Printed: median / 99th percentile / most, in ms, beside what an AMI ping and
an fsync took in the same run; and of each recording, what permitted talk was lost.
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial

from bench import steady
from bench.steady import percentiles
from tests.lab import load
from tests.lab.installation import Installation


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-second", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--talk", type=float, default=10.0, help="seconds of a call, the disclosure's 4.5 s included")
    options = parser.parse_args()
    count = round(options.per_second * options.seconds)
    async with Installation(load_agents=steady.AGENTS) as site:
        settled = partial(load.all_sealed, site, count)
        flow = await steady.flow(site, count, talk_s=options.talk, per_second=options.per_second, settled=settled)
        waits = steady.waits(site, flow.events)
        manifests = load.sealed_manifests(site)
    print(f"{count} calls, {options.per_second:g} a second, {options.talk:g} s each, in {flow.seconds:.0f} s")
    print(f"  placed {flow.placed.successful}, told {flow.told}, sealed {len(manifests)}")
    print("  median / 99 % / most, ms:")
    for name, values in (
        ("AMI ping", flow.ping),
        ("fsync of a page", flow.sync),
        ("end of disclosure to DialBegin", waits.told_to_dial),
        ("bridge to MixMonitorStart (with the audit log's fsync)", waits.bridged_to_started),
        ("hold to MixMonitorStop", waits.held_to_stopped),
        ("audio cut from a segment", [ms for row in manifests for ms in load.cut_ms(row)]),
    ):
        print(f"    {name}: {percentiles(values)}")
    cpu = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in flow.cpu.items())
    print(f"  CPU: {cpu}")


if __name__ == "__main__":
    asyncio.run(main())
