"""CPU of a guarded call against a plain one: `python -m bench.overhead [--pairs 3]`.

Guarded: Asterisk and pbxguard (disclosure over ARI, recorder, seal). Plain: Asterisk alone, the same calls through
`Playback`, `MixMonitor(r,t)` and `Dial`, with pbxguard stopped; nothing is sealed. Both in turn on one Asterisk, at
the same steady rate. pbxguard's CPU while its Asterisk has no calls is told beside it, and what sealing takes of it is
estimated by sealing the same audio again (`bench.sealing` says how).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

from bench import steady
from bench.sealing import seal, speech
from tests.lab import ami, load
from tests.lab.evidence import prompt
from tests.lab.installation import LOAD_AGENT, LOAD_NUMBER, Installation

PLAIN = "31201239003"
DIALPLAN = f"""\
exten => {PLAIN},1,Answer()
 same => n,Wait(0.3)
 same => n,Playback(${{PLAIN_PROMPT}})
 same => n,MixMonitor(,r(${{PLAIN_FOLDER}}/${{UNIQUEID}}-r.sln)t(${{PLAIN_FOLDER}}/${{UNIQUEID}}-t.sln))
 same => n,Set(agent=${{CALLERID(num):-3}})
 same => n,Dial(${{PJSIP_DIAL_CONTACTS(load${{agent}},{LOAD_AGENT},${{agent}})}},60)
"""
IDLE_S = 10.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--per-second", type=float, default=5.0)
    parser.add_argument("--talk", type=float, default=14.0, help="seconds of a call, the disclosure's 4.5 s included")
    options = parser.parse_args()
    ratios, without_seal = [], []
    async with Installation(load_agents=steady.AGENTS, dialplan=DIALPLAN) as site:
        folder = site.spool / "plain"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        async with ami.connect(site.asterisk) as client:
            notice = prompt(site, "contract_evidence.nl.notice.inbound")
            await client.action("Setvar", Variable="PLAIN_PROMPT", Value=str(notice.with_suffix("")))
            await client.action("Setvar", Variable="PLAIN_FOLDER", Value=str(folder))
        for pair in range(options.pairs):
            idle = await _idle(site)
            sealed = len(load.sealed_manifests(site))
            settled = partial(load.all_sealed, site, sealed + options.calls)
            guarded = await _run(site, options, LOAD_NUMBER, settled)
            guarded_cpu = sum(guarded.cpu.values())
            sealing = await asyncio.to_thread(_seal_seconds, site)
            await site.stop()
            plain_cpu = (await _run(site, options, PLAIN)).cpu["asterisk"]
            wrote = sum(1 for _ in folder.iterdir())
            for file in folder.iterdir():
                file.unlink()
            await site.start()
            ratios.append(guarded_cpu / plain_cpu)
            without_seal.append((guarded_cpu - sealing * options.calls) / plain_cpu)
            print(
                f"pair {pair + 1}: CPU a call {1000 * guarded_cpu / options.calls:.0f} ms guarded "
                f"({', '.join(f'{k} {1000 * v / options.calls:.0f}' for k, v in guarded.cpu.items())}; sealing "
                f"{1000 * sealing:.1f}), {1000 * plain_cpu / options.calls:.0f} ms plain ({wrote} files); "
                f"{ratios[-1]:.2f} times, {without_seal[-1]:.2f} without sealing; idle pbxguard {idle:.1%} of a core",
                flush=True,
            )
    print(
        f"median of {options.pairs}: {statistics.median(ratios):.2f} times the plain calls' CPU, "
        f"{statistics.median(without_seal):.2f} without sealing"
    )


async def _run(
    site: Installation,
    options: argparse.Namespace,
    number: str,
    settled: Callable[[], Awaitable[None]] | None = None,
) -> steady.Flow:
    flow = await steady.flow(
        site,
        options.calls,
        talk_s=options.talk,
        per_second=options.per_second,
        hold_s=0,
        number=number,
        settled=settled,
    )
    assert flow.placed.successful == options.calls, flow.placed
    return flow


async def _idle(site: Installation) -> float:
    """pbxguard's share of a core while nobody calls."""
    assert site.process is not None
    before = load.cpu_seconds(site.process.pid)
    await asyncio.sleep(IDLE_S)
    return (load.cpu_seconds(site.process.pid) - before) / IDLE_S


def _seal_seconds(site: Installation) -> float:
    """CPU seconds of encoding, tagging and hashing one recording of this length."""
    rate, rounds = 8000, 20
    seconds = load.sealed_manifests(site)[-1]["file"]["samples"] / rate
    own, others, target = site.home / "own.sln", site.home / "others.sln", site.home / "seal.flac"
    speech(seconds, rate, first=True, seed=1).tofile(own)
    speech(seconds, rate, first=False, seed=2).tofile(others)
    began = time.process_time()
    for _ in range(rounds):
        seal(own, others, target, rate)
    return (time.process_time() - began) / rounds


if __name__ == "__main__":
    asyncio.run(main())
