"""Facts a second from the bytes of AMI to the decision, while many calls live: `python -m bench.facts [--live 500]`.

One process, one core: framing, parsing, translation, switchboard, decision, commands; a beat every 250 events decides
everything anew. Not in it: the socket, the event loop's own turns, audit log and disk. Also says what the parsing and
translation cost alone.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from bench.replay import Replay, Template, chunks


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=int, default=500, help="calls that live all the time")
    parser.add_argument("--calls", type=int, default=2000, help="calls that end and are replaced, in each run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    template = Template()
    rates, events = [], []
    for run in range(options.runs):
        replay = Replay()
        for number in range(options.live):
            replay.begin(number, template.begin(number))
        pieces = [
            (number, list(chunks(template.end(number - options.live))), template.begin(number))
            for number in range(options.live, options.live + options.calls)
        ]
        facts, seen, began = replay.facts, replay.events, time.process_time()
        for number, ends, begins in pieces:
            for piece in ends:
                replay.feed(piece)
            replay.begin(number, begins)
        seconds = time.process_time() - began
        rates.append((replay.facts - facts) / seconds)
        events.append((replay.events - seen) / seconds)
        assert replay.sealed == options.calls, (replay.sealed, options.calls)
        assert replay.started == options.live + options.calls
        print(f"run {run + 1}: {rates[-1]:,.0f} facts, {events[-1]:,.0f} AMI events a second of CPU", flush=True)
    print(
        f"{options.live} live calls, median of {options.runs}: {statistics.median(rates):,.0f} facts, "
        f"{statistics.median(events):,.0f} AMI events a second of CPU (least {min(rates):,.0f} facts)"
    )


if __name__ == "__main__":
    asyncio.run(main())
