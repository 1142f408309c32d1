"""Owns: one storm from its seed to its verdict; run by script/storm.

It plays (operations.py, trouble.py) on an installation of its own, writes the history down, and hands it to the oracle.
Exit codes: 0 all as it must be, 1 something is not, 2 wrong use, 3 this machine lacks what it takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.lab import asterisk_tree
from tests.lab.asterisk import LabError
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.storm import plan as plans
from tests.lab.storm.history import Foreign, History, Play
from tests.lab.storm.office import DESKS, DIALPLAN, QUEUES, Desk, Office
from tests.lab.storm.operations import BEGINNINGS, DURING, ENDINGS, NEED_KEYS, OVER_AT_ONCE
from tests.lab.storm.oracle import Verdict, faults_text, judge
from tests.lab.storm.picture import draw
from tests.lab.storm.plan import CallPlan, FaultPlan, Plan
from tests.lab.storm.scene import Scene
from tests.lab.storm.trouble import Trouble

QUIET_DEADLINE_S = 30.0
FINE, WRONG, LACKING = 0, 1, 3


@dataclass(frozen=True)
class Options:
    """How a storm is asked for. `plan`: what to play, instead of what the seed gives."""

    seed: int
    minutes: float
    folder: Path
    desks: int = DESKS
    plan: Plan | None = None
    with_faults: bool = True


async def play(options: Options) -> History:
    """A whole storm; everything that the oracle needs lies in the folder then."""
    folder = options.folder
    for name in ("phones", "foreign", "archive", "prompts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    history = History(options.seed, {}, utc_offset=time.time() - time.monotonic())
    played = Plan([[] for _ in range(options.desks)])
    async with (
        Installation(dialplan=DIALPLAN, queues=QUEUES) as site,
        Phones(folder=folder / "phones") as phones,
        AsyncExitStack() as connections,
    ):
        office = await Office.furnish(site, phones, connections, options.desks)
        office.up.set()
        trouble = Trouble(office, history, random.Random(f"{options.seed}/phones"))
        until = time.monotonic() + options.minutes * 60
        watching = asyncio.create_task(trouble.watch(), name="watch")
        faults = asyncio.create_task(_faults(options, trouble, played), name="faults")
        serial = count()
        desks = [_desk(office, desk, options, history, played, until, serial) for desk in office.desks]
        await asyncio.gather(*desks)
        faults.cancel()
        await asyncio.gather(faults, return_exceptions=True)
        if site.process is None or site.process.returncode is not None:
            await site.stop()
            await site.start()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await _quiet(site, history)
        _keep(site, history, folder)
    history.plan = played.data()
    history.write(folder / "history.json")
    return history


async def _desk(
    office: Office, desk: Desk, options: Options, history: History, played: Plan, until: float, serial: Iterator[int]
) -> None:
    """One call after the other at this desk."""
    coming: Iterable[CallPlan] = plans.calls(options.seed, desk.number)
    if options.plan is not None:
        coming = options.plan.desks[desk.number]
    for call in coming:
        if options.plan is None and time.monotonic() > until:
            return
        played.desks[desk.number].append(call)
        await asyncio.sleep(call.gap_s)
        number = f"+3120{desk.number + 1}{next(serial):06d}" if call.begin == "outbound" else ""
        scene = Scene(office, desk, Play(number or f"+3161{desk.number + 2}{next(serial):06d}", call.title()))
        history.plays.append(scene.play)
        await office.up.wait()
        task = asyncio.create_task(_call(scene, call), name=scene.play.number)
        office.live.add(task)
        await asyncio.wait([task])
        office.live.discard(task)
        if task.cancelled():
            scene.ends_with_asterisk()
        elif error := task.exception():
            if not isinstance(error, LabError | TimeoutError | OSError):
                raise error
            scene.play.trouble = str(error) or type(error).__name__
            scene.note(f"it goes wrong: {scene.play.trouble}")
        await office.up.wait()
        await scene.end()


async def _call(scene: Scene, call: CallPlan) -> None:
    await BEGINNINGS[call.begin][0](scene, call.begin_s)
    if call.begin in OVER_AT_ONCE:
        return
    await scene.talks(call.talk_s)
    if call.control:
        await _record(scene)
        await scene.talks(0.5)
    for planned, seconds, talk_s in call.during:
        name = planned if scene.keys else NEED_KEYS.get(planned, planned)
        scene.note(name)
        await DURING[name][0](scene, seconds)
        await scene.talks(talk_s)
    end = call.end if scene.keys else NEED_KEYS.get(call.end, call.end)
    await ENDINGS[end][0](scene, call.end_s)


async def _record(scene: Scene) -> None:
    """A control: a recorder of nobody's, that nobody stops."""
    assert scene.agent is not None
    line = scene.agent.phone.line.name
    (channel,) = (c for c in await scene.office.site.asterisk.channels() if c.startswith(f"PJSIP/{line}-"))
    folder = scene.office.site.asterisk.spool / "monitor"  # Asterisk sees it by the same name
    own, others = (str(folder / f"{scene.play.number[1:]}.{which}.sln") for which in ("own", "others"))
    began = scene.note("a recorder that nobody stops")
    await scene.office.ami.action("MixMonitor", Channel=channel, Options=f"r({own})t({others})")
    scene.play.foreign.append(Foreign(own, others, began))


async def _faults(options: Options, trouble: Trouble, played: Plan) -> None:
    """One fault after the other."""
    if not options.with_faults:
        return
    coming: Iterable[FaultPlan] = plans.faults(options.seed) if options.plan is None else options.plan.faults
    for fault in coming:
        played.faults.append(fault)
        await asyncio.sleep(fault.after_s)
        await trouble.put_in(fault.kind, fault.seconds)


async def _quiet(site: Installation, history: History) -> None:
    """Waits until all that was recorded is sealed; what is left then is written down."""
    try:
        await site.asterisk.idle(QUIET_DEADLINE_S)
    except LabError:
        history.left += [f"channel {name}" for name in await site.asterisk.channels()]
    end = time.monotonic() + QUIET_DEADLINE_S
    while time.monotonic() < end:
        spool = [path for path in site.leftovers() if ".sln" in path.name]
        calls = []
        with suppress(Exception):
            calls = (await site.ask("/calls"))["calls"]
        if not spool and not calls:
            break
        await asyncio.sleep(0.2)
    else:
        history.left += [f"spool file {path.name}" for path in spool]
        history.left += [f"live call of {call['external_number']}" for call in calls]
    await asyncio.sleep(0.5)


def _keep(site: Installation, history: History, folder: Path) -> None:
    """Copies what the oracle looks at into the storm's folder."""
    shutil.copytree(site.archive, folder / "archive", dirs_exist_ok=True)
    shutil.copy(site.logfile, folder / "pbxguard.log")
    by_number: dict[str, Play] = {play.number.lstrip("+"): play for play in history.plays}
    for file in sorted((folder / "archive").rglob("*.flac")):
        number = file.name.split("_")[-2]
        if number in by_number:
            by_number[number].files.append(str(file))
        else:
            history.unclaimed.append(str(file))
    for one in history.plays:
        for foreign in one.foreign:
            foreign.own, foreign.others = (
                str(shutil.copy(path, folder / "foreign")) for path in (foreign.own, foreign.others)
            )
        if one.told_by:
            kept = folder / "prompts" / Path(one.told_by).name
            if not kept.exists():
                shutil.copy(one.told_by, kept)
            one.told_by = str(kept)


# -- the command -------------------------------------------------------------------------------------------------------


def report(history: History, verdict: Verdict) -> str:
    """The verdict in lines."""
    figures = verdict.figures()
    lines = [f"seed {history.seed}: {figures['calls']:.0f} calls, {figures['files']:.0f} sealed files"]
    lines.append(f"faults: {faults_text(history.faults)}")
    lines += [
        f"  {name}: {value:.2f}" if "second" in name or "record" in name else f"  {name}: {value:.0f}"
        for name, value in figures.items()
        if name not in ("calls", "files")
    ]
    lines.append(f"  of what was permitted and undisturbed, recorded: {verdict.share():.1%}")
    for hertz, detector in verdict.detectors.items():
        shortest = f"{detector.shortest_s * 1000:.1f} ms"
        lines.append(
            f"  detector {hertz:g} Hz: floor {detector.floor:.4f}, control {detector.control:.3f}, finds {shortest}"
        )
    for one in verdict.judged:
        lines += [f"WRONG {one.play.number} ({one.play.title}): {guilt}" for guilt in one.guilty]
        lines += [f"WRONG {what}" for what in one.wrong]
    lines += [f"WRONG {what}" for what in verdict.wrong]
    return "\n".join(lines)


def show_failures(history: History, verdict: Verdict, folder: Path) -> list[Path]:
    """A picture of each call that is not as it must be, and its history in words on standard error."""
    drawn = []
    for one in verdict.judged:
        if one.is_good():
            continue
        customer = one.play.customer()
        zero = customer.began if customer else (one.play.steps[0][0] if one.play.steps else 0.0)
        print(f"\n{one.play.number}: {one.play.title}", file=sys.stderr)
        for at, what in one.play.steps:
            print(f"  {at - zero:7.2f} s  {what}", file=sys.stderr)
        for fault in history.faults:
            if one.play.steps and fault.began < one.play.steps[-1][0] and fault.ended > one.play.steps[0][0]:
                print(
                    f"  {fault.began - zero:7.2f} s to {fault.ended - zero:.2f} s  fault: {fault.kind}", file=sys.stderr
                )
        path = folder / f"{one.play.number[1:]}.svg"
        path.write_text(draw(history, one))
        drawn.append(path)
        print(f"  picture: {path}", file=sys.stderr)
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """Run by script/storm."""
    parser = argparse.ArgumentParser(prog="script/storm", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--seed", type=int, default=None, help="by default one of the clock's, and shown")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--desks", type=int, default=DESKS, choices=range(1, DESKS + 1), help="calls at once")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play what this history.json played")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="only judge this history.json again")
    parser.add_argument("--no-faults", action="store_true", help="people alone, no trouble")
    parser.add_argument("--output", type=Path, help="where to leave everything; kept then")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    given = parser.parse_args(arguments)
    if given.judge is not None:
        history, folder, temporary = History.read(given.judge), given.judge.parent, False
    else:
        try:
            asterisk_tree.find()
        except asterisk_tree.NoAsterisk as error:
            print(error, file=sys.stderr)
            return LACKING
        temporary = given.output is None
        folder = (given.output or Path(tempfile.mkdtemp(prefix="pbxstorm-", dir="/tmp"))).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        seed = given.seed if given.seed is not None else int(time.time())
        plan = None
        desks = given.desks
        if given.replay is not None:
            replayed = History.read(given.replay)
            seed, plan = replayed.seed, Plan.of(replayed.plan)
            desks = len(plan.desks)
        options = Options(seed, given.minutes, folder, desks, plan, not given.no_faults)
        history = asyncio.run(play(options))
    verdict = judge(history)
    text = report(history, verdict)
    if given.json:
        print(json.dumps({"seed": history.seed, "good": verdict.is_good(), **verdict.figures()}))
        print(text, file=sys.stderr)
    else:
        print(text)
    if verdict.is_good():
        if temporary:
            shutil.rmtree(folder)
        return FINE
    show_failures(history, verdict, folder)
    print(f"\nplay it again: ./script/storm --replay {folder}/history.json", file=sys.stderr)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
