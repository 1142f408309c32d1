"""Owns: a call whose guard dies at named places, systemd's part played, and what must hold of its recording afterwards.

It holds disk, index, audit log and what the phones said against each other. It knows fault points by their names alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.lab import checker, measure
from tests.lab.evidence import manifest, prompt
from tests.lab.installation import READY_DEADLINE_S, Installation, PbxguardFailed
from tests.lab.phone import Phone, PhoneCall
from tests.lab.signals import Chirp

CUSTOMER = Chirp()
NOTICE = "contract_evidence.nl.notice.inbound"
DIE_AT = "PBXGUARD_DIE_AT"
LOST_S = 1.6
"""What a death may cost of what was permitted: the age of the watermark, and of its beat on a busy machine, two guards,
and a recorder's start."""
ENDED_EARLIER = {"recorder_stopped", "beat_late"}
"""What ends a segment although nothing happened to its call: what was permitted ends there."""
TALK_S = 2.0


@dataclass
class Course:
    """What happened when, in seconds of the monotonic clock."""

    deaths: list[tuple[float, float]] = field(default_factory=list)
    """From when a process was found dead until the next one was started."""
    closings: list[float] = field(default_factory=list)
    """What ends a segment: holds, deaths, the hang-up."""


@dataclass
class Lane:
    """An installation, and the two phones of its calls."""

    site: Installation
    carrier: Phone
    agent: Phone
    extension: str

    async def begin(self, number: str) -> tuple[PhoneCall, PhoneCall]:
        customer = await self.carrier.call(f"31201234{self.extension}", caller_id=number)
        agent = await self.agent.incoming(number=number, deadline_s=30)
        await agent.answered()
        return customer, agent


async def die(site: Installation) -> float:
    """Until the service is dead by its own SIGKILL; when that was."""
    process = site.process
    assert process is not None
    try:
        async with asyncio.timeout(READY_DEADLINE_S):
            code = await process.wait()
    except TimeoutError:
        raise AssertionError(f"{site.environment} was not reached:\n{site.log()[-6000:]}") from None
    assert code == -signal.SIGKILL, site.log()[-3000:]
    return process.ended_at


async def restart(site: Installation, at: str) -> None:
    """As systemd does; `at`: where the new one is to die, perhaps before it is ready."""
    await site.run("stop-recorders", "--json")
    await start(site, at)


async def start(site: Installation, at: str = "") -> None:
    """Start the service, to die there; until it is ready, or dead already."""
    site.environment = {DIE_AT: at} if at else {}
    try:
        await site.start()
    except PbxguardFailed:
        process = site.process
        if not at or process is None or process.returncode != -signal.SIGKILL:
            raise


async def through_deaths(
    lane: Lane, number: str, in_call: Sequence[str], after: Sequence[str], *, comes_back: bool = False
) -> Path:
    """One call, in two segments or more, whose guard dies at each of these points; gives its sealed file.

    `comes_back`: the call goes on until the guard is back from the last death in it, and records again.

    The recorded audio is held against what the phones said, and disk, index and audit log against each other.
    """
    site, course = lane.site, Course()
    deaths = [*in_call, *after]
    fallen = survived = 0
    ended = asyncio.Event()

    async def supervise() -> None:
        nonlocal fallen, survived
        for nth, _ in enumerate(deaths):
            died = await die(site)
            fallen += 1
            course.closings.append(died)
            following = deaths[nth + 1] if nth + 1 < len(deaths) else ""
            if following in after:
                await ended.wait()
            launched = time.monotonic()
            await restart(site, following)
            course.deaths.append((died, launched))
            survived += 1

    await site.stop()
    await start(site, deaths[0])
    supervisor = asyncio.create_task(supervise())
    try:
        customer, agent = await lane.begin(number)
        began = time.time() - time.monotonic()
        await customer.talk(TALK_S)
        rounds = known = 0
        while rounds < 1 or (
            (known if comes_back else fallen) < len(in_call) and rounds < 25 and (comes_back or not supervisor.done())
        ):
            rounds += 1
            course.closings.append(time.monotonic())
            await agent.hold()
            await asyncio.sleep(0.5)
            await agent.unhold()
            if survived > known:  # after a restart nobody knows of a hold before the party changes it
                known = survived
                course.closings.append(time.monotonic())
                await customer.hold()
                await customer.unhold()
            await customer.talk(TALK_S)
        course.closings.append(time.monotonic())
        await customer.hangup()
        ended.set()
        await supervisor
    finally:
        supervisor.cancel()
    file = await site.sealed(number)
    await settled(site)
    row = one_recording(site, file)
    audio_fits(site, file, row, course, began)
    await only_permitted(site, file, customer, course)
    return file


async def settled(site: Installation) -> None:
    """Until the spool is empty and every recording that has a closed segment has its last line."""
    end = time.monotonic() + 20
    while [p for p in site.leftovers() if ".sln" in p.name] or unsettled(site):
        assert time.monotonic() < end, (site.leftovers(), unsettled(site), site.log()[-3000:])
        await asyncio.sleep(0.1)


def unsettled(site: Installation) -> set[str]:
    closed = {r for (r,) in rows(site, "SELECT recording FROM audit WHERE kind = 'segment.closed'")}
    kinds = "('recording.sealed', 'recording.destroyed', 'recording.empty')"
    return closed - {r for (r,) in rows(site, f"SELECT recording FROM audit WHERE kind IN {kinds}")}


def rows(site: Installation, query: str, *values: str) -> list[Any]:
    with sqlite3.connect(f"file:{site.home}/pbxguard.db?mode=ro", uri=True, timeout=10) as database:
        return database.execute(query, values).fetchall()


def audited(site: Installation, kind: str, recording: str) -> list[dict[str, Any]]:
    query = "SELECT data FROM audit WHERE kind = ? AND recording = ? ORDER BY number"
    return [json.loads(data) for (data,) in rows(site, query, kind, recording)]


def one_recording(site: Installation, file: Path) -> str:
    """One row, one file, one manifest, one line, all of the same bytes; nothing else anywhere. Gives its id."""
    said = manifest(file)
    id, digest = said["recording"], sha256(file)
    ((path, whole, stored, destroyed),) = rows(
        site, "SELECT path, sha256, manifest, destroyed FROM recordings WHERE id = ?", id
    )
    assert (path, destroyed) == (file.relative_to(site.archive).as_posix(), None)
    assert whole == said["file"]["sha256"] == digest
    assert json.loads(stored) == said
    assert [line["sha256"] for line in audited(site, "recording.sealed", id)] == [digest]
    ran = subprocess.run(["flac", "--test", "--silent", str(file)], check=False)
    assert ran.returncode == 0
    accounted_for(site)
    return str(id)


def accounted_for(site: Installation) -> None:
    """Every file in archive, spool and work folder belongs to a recording that the index lists, and the reverse."""
    listed = {path for (path,) in rows(site, "SELECT path FROM recordings WHERE destroyed IS NULL")}
    expected = listed | {path.removesuffix(".flac") + ".json" for path in listed}
    found = {p.relative_to(site.archive).as_posix() for p in site.archive.rglob("*") if p.is_file()}
    assert {path for path in found if not path.startswith(".work/watermark")} == expected
    assert [path for path in site.leftovers() if ".sln" in path.name] == []


def audio_fits(site: Installation, file: Path, id: str, course: Course, wall: float) -> None:
    """Of each segment, nothing that was permitted up to the watermark is lost; and the file holds just these."""
    closed = {line["opening"]["segment"]: line for line in audited(site, "segment.closed", id)}
    permitted = audited(site, "segment.permitted", id)
    assert {line["segment"] for line in permitted} == set(closed)
    assert len(audited(site, "segment.closed", id)) == len(closed), "a segment was closed twice"
    closings = sorted(moment + wall for moment in course.closings)
    for line in permitted:
        opened = datetime.fromisoformat(line["opened_utc"]).timestamp()
        due = next((moment for moment in closings if moment > opened), opened)
        end = closed[line["segment"]]
        kept = end["kept"] / 8000
        if ENDED_EARLIER & set(end["reasons"]):
            due = min(due, datetime.fromisoformat(end["closed_utc"]).timestamp())
        told = {key: end[key] for key in ("reasons", "captured", "dropped", "notes", "closed_utc", "end_utc")}
        assert kept > due - opened - LOST_S, f"{line['segment']}: {kept:.2f} s of {due - opened:.2f} s: {told}"
    assert sum(line["kept"] for line in closed.values()) == manifest(file)["file"]["samples"]


async def only_permitted(site: Installation, file: Path, customer: PhoneCall, course: Course) -> None:
    """The customer's voice in the file, in its order, once, from after the notice, and never while nobody guarded."""
    heard, said = await measure.pair(customer)
    recorded = measure.recorded(file, said, CUSTOMER)
    notice = measure.prompt_heard(heard, prompt(site, NOTICE))
    assert notice is not None
    sent = checker.chirp_stretches(measure.track(said), CUSTOMER)
    until = notice.end_s
    for stretch in checker.chirp_stretches(recorded.others, CUSTOMER):
        first = (stretch.first_said_s - sent[0].first_said_s) % CUSTOMER.sweep_s + sent[0].start_s
        while first < until - 0.06:  # the chirp repeats itself; the file goes on
            first += CUSTOMER.sweep_s
        until = first + stretch.end_s - stretch.start_s
        assert until < said.seconds + 0.06, "some of it is in the file twice, or out of order"
        for died, launched in course.deaths:
            died, launched = died - heard.began, launched - heard.began
            assert until < died + 0.06 or first > launched - 0.06, f"{first:.2f} to {until:.2f} s: nobody guarded"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
