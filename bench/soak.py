"""A soak: calls at a steady rate for a long time, while pbxguard and Asterisk are killed at random.

    python -m bench.soak [--minutes 60] [--per-second 10] [--seed N]

Every caller is told, bridged, recorded, and puts the call on hold for its last second, in which it sends a forbidden
tone. pbxguard is killed (SIGKILL) or frozen (SIGSTOP, and killed after 5 s as its watchdog would), its recorders are
stopped by `pbxguard stop-recorders`, and it is started again; now and then Asterisk is killed and started again.
Judged at the end, from what a second AMI client saw and from the samples of the sealed files alone: calls lost to
pbxguard, forbidden audio, recordings lost or doubled; and file descriptors and memory of both processes as they went.
Exit code 1 when any of them is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Coroutine

from bench.soak_judge import Outage, Samples, Seen, judge
from bench.steady import AGENTS, HZ
from tests.lab import ami, load, sipp
from tests.lab.asterisk import LabError
from tests.lab.installation import LOAD_AGENT, LOAD_NUMBER, Installation
from tests.lab.sipp import LoadCall

HELD_HZ = 2000.0
TALK_S, HOLD_S = 13.0, 1.0
"""From the caller's answer; a caller whom a dead pbxguard leaves in its door comes out after 8 s at most."""
WATCHDOG_S = 5.0
STAYS = 50
"""One caller in so many does not hold: its forbidden tone must be found, or the detector is no detector."""
EVENTS = ("Newchannel", "BridgeEnter", "Hold", "Hangup", "UserEvent")
SAMPLE_S = 5.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--per-second", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guard-every", type=float, default=45.0, help="seconds between kills of pbxguard, on average")
    parser.add_argument("--asterisk-every", type=float, default=240.0, help="seconds between kills of Asterisk")
    options = parser.parse_args()
    count = round(options.minutes * 60 * options.per_second)
    calls = [
        LoadCall(f"+31610{n // AGENTS:03d}{n % AGENTS:03d}", LOAD_NUMBER, HZ[n % len(HZ)], holds=n % STAYS != 0)
        for n in range(count)
    ]
    stays = {call.caller_id for call in calls if not call.holds}
    seen, samples = Seen(), Samples()
    outages: list[Outage] = []
    async with Installation(load_agents=AGENTS) as site:
        watching = [
            asyncio.create_task(_watch(site, seen)),
            asyncio.create_task(_sample(site, samples)),
        ]
        trouble = asyncio.create_task(_trouble(site, outages, options))
        async with sipp.agents(site.asterisk, line=LOAD_AGENT):
            placed = await sipp.call_many(
                site.asterisk,
                calls,
                talk_s=TALK_S,
                per_second=options.per_second,
                hold_s=HOLD_S,
                held_hz=HELD_HZ,
                deadline_s=options.minutes * 60 + 180,
            )
        trouble.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trouble
        if site.process is None or site.process.returncode is not None:
            await site.start()
        await site.asterisk.idle(60)
        await _quiet(site)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        print(f"SIPp: {placed.successful} calls to their end, {placed.failed} not")
        print(f"{len(outages)} outages, seed {options.seed}")
        verdict = await asyncio.to_thread(
            judge, seen, outages, load.sealed_files(site), stays, held_hz=HELD_HZ, left=site.leftovers()
        )
    print(verdict.text)
    print(samples.text())
    raise SystemExit(0 if verdict.good else 1)


async def _trouble(site: Installation, outages: list[Outage], options: argparse.Namespace) -> None:
    """Kill by turns; each outage is noted from its first moment to the one at which all is well again."""
    chance = random.Random(options.seed)
    asterisk_at = time.monotonic() + chance.expovariate(1 / options.asterisk_every)
    while True:
        await asyncio.sleep(10 + chance.expovariate(1 / max(1.0, options.guard_every - 10)))
        began = time.monotonic()
        if began > asterisk_at:
            asterisk_at = began + chance.expovariate(1 / options.asterisk_every)
            kind = "asterisk killed"
            await _whole(_kill_asterisk(site, chance.uniform(0.2, 3.0)))
        elif chance.random() < 0.3:
            kind = "pbxguard frozen"
            await _whole(_freeze(site))
        else:
            kind = "pbxguard killed"
            await _whole(_kill_guard(site, chance.uniform(0.0, 5.0)))
        outages.append(Outage(kind, began, time.monotonic()))
        print(f"  {kind}, well again after {time.monotonic() - began:.1f} s", flush=True)


async def _whole(work: Coroutine[None, None, None]) -> None:
    """An outage that was begun is ended, whoever stops waiting."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _kill_guard(site: Installation, away_s: float) -> None:
    await site.stop(signal.SIGKILL)
    await site.run("stop-recorders", check=False)
    await asyncio.sleep(away_s)
    await site.start()


async def _freeze(site: Installation) -> None:
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(WATCHDOG_S)
    await _kill_guard(site, 1.0)


async def _kill_asterisk(site: Installation, away_s: float) -> None:
    await site.asterisk.kill()
    await asyncio.sleep(away_s)
    await site.asterisk.start()
    end = time.monotonic() + 30
    while not (await site.status()).get("ready"):
        if time.monotonic() > end:
            raise LabError("pbxguard did not find Asterisk again")
        await asyncio.sleep(0.05)


async def _watch(site: Installation, seen: Seen) -> None:
    """A second AMI client, which comes back whenever Asterisk does."""
    while True:
        with contextlib.suppress(OSError, LabError, EOFError, TimeoutError, asyncio.IncompleteReadError):
            async with ami.connect(site.asterisk) as client:
                for name in EVENTS:
                    await client.action("Filter", Operation="Add", MatchCriteria=f"action(include),name({name})")
                while True:
                    await client.action("Ping")
                    seen.take(client.events)
                    client.events.clear()
                    client.stream.clear()
                    await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)


async def _sample(site: Installation, samples: Samples) -> None:
    while True:
        with contextlib.suppress(OSError, LabError):
            samples.take("asterisk", site.asterisk.pid)
            if site.process is not None:
                samples.take("pbxguard", site.process.pid)
        await asyncio.sleep(SAMPLE_S)


async def _quiet(site: Installation) -> None:
    """Until nothing is sealed any more."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 5:
        now = len(load.sealed_files(site)) + len(site.leftovers())
        if now != last:
            last, since = now, time.monotonic()
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
