"""Killed at every fault point, on the real Asterisk: nothing lost, kept beyond, doubled or brought back.

A real process ends by SIGKILL at a named place (docs/reference/fault-points.md); what systemd would do follows:
`pbxguard stop-recorders`, and a new start. The names are read from the reference page, so that none is forgotten.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.asterisk import REPO
from tests.lab.deaths import (
    CUSTOMER,
    DIE_AT,
    TALK_S,
    Lane,
    accounted_for,
    audited,
    die,
    one_recording,
    restart,
    rows,
    settled,
    sha256,
    start,
    through_deaths,
)
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import KEYS, Installation
from tests.lab.phone import Phones
from tests.lab.signals import VOICES, Tone

AGENT_HZ = VOICES[0]
BEGIN = "*94"
LANES = 3
"""Installations at once in the long run."""

REPRESENTATIVE = (
    (("watermark.written:45", "recorder.stopped"), ("archive.in_place", "spool.file.erased:3")),
    (("recorder.started:2",), ("leftover.cut", "seal.tags.synced")),
)
"""One call goes through all of the deaths in a row: the first in its course, the others when it has ended."""

AT_FIRST = ("permit.decided", "permit.committed", "recorder.starting", "recorder.started")
"""Passed for the first time, when nothing of a recording is there yet: it begins with the next guard."""
IN_CALL = (
    "permit.decided:2",
    "permit.committed:2",
    "recorder.starting:2",
    "recorder.started:2",
    "recorder.stopping",
    "recorder.stopped",
    "recorder.forgetting",
    "recorder.forgotten",
    "spool.cutting",
    "spool.cutting:2",
    "spool.cut",
    "spool.cut:2",
    "spool.cut.synced",
    "spool.dated",
    "spool.both.cut",
    "spool.shortened",
    "segment.cut",
    "segment.closed",
    "segment.closed:2",
    "watermark.writing:45",
    "watermark.written:45",
    "watermark.replaced:45",
    "audit.writing:5",
    "audit.written:5",
)
ENDED = (
    "seal.encoding",
    "seal.encoded",
    "seal.tagging",
    "seal.tags.written",
    "seal.tags.synced",
    "seal.tags.in_place",
    "seal.tagged",
    "archive.clearing",
    "archive.cleared",
    "archive.folder.made",
    "archive.folder.made:3",
    "archive.folder.synced:3",
    "archive.putting",
    "archive.part.written",
    "archive.part.synced",
    "archive.in_place",
    "archive.in_place:2",
    "archive.part.gone",
    "archive.put",
    "archive.put:2",
    "seal.work.clearing",
    "seal.work.file.cleared",
    "seal.work.cleared",
    "index.adding",
    "index.added",
    "spool.erasing",
    "spool.erasing:3",
    "spool.file.erased",
    "spool.file.erased:2",
    "spool.copy.erased",
    "spool.erased",
    "spool.erased:2",
    "recording.result.due",
    "recording.result.committed",
)
TWICE = {
    "leftover.cut": "recorder.stopping",
    "leftover.closed": "recorder.stopping",
    "archive.leftover.removed": "archive.in_place:2",
    "archive.leftover.removed:2": "archive.put:2",
}
"""Passed only on the way back from another death."""
DESTROYING = (
    "destroy.decided",
    "destroy.begun",
    "archive.removing",
    "archive.removed",
    "archive.removed:2",
    "archive.removed.synced",
    "index.wiping",
    "index.wiped",
    "index.scrubbed",
    "destroy.done",
    "destroy.certified",
)
EXPORTING = (
    "export.allowed",
    "export.committed",
    "export.copying",
    "export.audio.copied",
    "export.manifest.copied",
    "export.copied",
)
ASKED = ("request.acted", "request.noted", "resume.due", "resume.committed")
"""When something is asked for in the call: tests/e2e/test_row_objection.py and test_row_pause.py die at these."""
BEGINNING = ("begin.due", "begin.committed")
"""When a purpose is asked for in the midst of a call."""
REDACTING = (
    "redact.decided",
    "redact.begun",
    "seal.encoding",
    "seal.tags.in_place",
    "archive.in_place",
    "archive.put:2",
    "redact.indexing",
    "redact.indexed",
    "archive.removed:5",
    "redact.done",
    "redact.certified",
)
"""When a span is cut out of a sealed recording: tests/e2e/test_redact.py dies at these."""
OTHERWISE = {
    "spool.copying",
    "spool.copy.renewed",
    "spool.copy.written",
    "spool.copy.synced",
    "spool.copied",
}
"""Where Asterisk is another user and pbxguard not root: tests/db/test_power_cut.py dies at these."""


# -- the lists -------------------------------------------------------------------------------------------------------


def test_every_fault_point_of_the_reference_page_has_its_death() -> None:
    page = (REPO / "docs" / "reference" / "fault-points.md").read_text()
    named = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    here = (*IN_CALL, *ENDED, *TWICE, *DESTROYING, *EXPORTING)
    died = {at.partition(":")[0] for at in (*here, *ASKED, *BEGINNING, *REDACTING, *OTHERWISE)}
    assert died == named


# -- a call through a choice of deaths -------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lane(tree: asterisk_tree.Tree) -> AsyncIterator[Lane]:
    async with Installation() as site, Phones() as phones:
        yield await prepared(site, phones)


async def prepared(site: Installation, phones: Phones) -> Lane:
    a = site.asterisk
    carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
    return Lane(site, carrier, await phones.add(a.line("101"), sends=Tone(AGENT_HZ)), "101")


@pytest.mark.parametrize("row", range(len(REPRESENTATIVE)))
async def test_a_call_whose_guard_dies_again_and_again_becomes_one_whole_recording(row: int, lane: Lane) -> None:
    await through_deaths(lane, f"+3161236000{row}", *REPRESENTATIVE[row])


# -- copies and destruction, by processes of their own ---------------------------------------------------------------


async def killed(site: Installation, at: str, *words: str) -> None:
    """A command that dies there."""
    await dies(at, "-m", "pbxguard", "--config", str(site.config), *words)


async def dies(at: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, *words, env={**os.environ, DIE_AT: at}, cwd=REPO)
    assert await process.wait() == -signal.SIGKILL, at


def gone(site: Installation, file: Path, id: str, number: str) -> None:
    """Destroyed: no file, no person in the index, two lines, and no way to get it back."""
    assert not file.exists()
    assert not file.with_suffix(".json").exists()
    told = "external_number || path || manifest || reference || call || destroyed"
    ((row,),) = rows(site, f"SELECT {told} FROM recordings WHERE id = ?", id)
    assert number[1:] not in row
    assert len(audited(site, "recording.destroying", id)) == len(audited(site, "recording.destroyed", id)) == 1
    assert rows(site, "SELECT count(*) FROM recording_numbers WHERE recording = ?", id) == [(0,)]
    database = site.home / "pbxguard.db"
    for path in (database, database.with_name("pbxguard.db-wal")):
        assert number[1:].encode() not in (path.read_bytes() if path.exists() else b""), path.name
    accounted_for(site)


async def destroyed_through(site: Installation, file: Path, number: str, at: str, *, sweep: bool) -> None:
    """A destruction that dies at this point is ended by the next sweep, or had not begun."""
    id = manifest(file)["recording"]
    words = ("recordings", "destroy", id, "--reason", "request", "--yes")
    if sweep:
        await site.run("outcome", id, "no_contract")
        program = (
            "from datetime import timedelta; from pbxguard.cli import main, retention as r; clock = r.now; "
            "r.now = lambda: clock() + timedelta(days=8); main()"
        )
        await dies(at, "-c", program, "--config", str(site.config), "retention", "sweep")
    else:
        await killed(site, at, *words)
    begun = audited(site, "recording.destroying", id)
    if not begun:
        assert is_there(file)
        await site.run("recordings", "verify", id)
        await site.run(*words)
    else:
        refused = await site.run("recordings", "export", id, "--reason", "x", "--to", str(site.home), check=False)
        assert refused.code != 0, "a copy of what is being destroyed"
    await site.run("retention", "sweep")
    gone(site, file, id, number)


async def exported_through(site: Installation, file: Path, at: str, folder: Path) -> None:
    """No copy without its line; the recording itself is untouched, and can be given again elsewhere."""
    id = manifest(file)["recording"]
    copies = new(folder)
    before = len(audited(site, "recording.exported", id))
    await killed(site, at, "recordings", "export", id, "--reason", "claim", "--to", str(folder))
    lines = len(audited(site, "recording.exported", id)) - before
    assert lines == (at != "export.allowed")
    assert lines or copies() == []
    await site.run("recordings", "verify", id)
    again = new(folder / "again")
    await site.run("recordings", "export", id, "--reason", "claim", "--to", str(folder / "again"))
    assert (f"{id}.flac", sha256(file)) in again()


def new(folder: Path) -> Callable[[], list[tuple[str, str]]]:
    """Make a folder; what it gives tells (name, digest) of what is in it."""
    folder.mkdir()
    return lambda: [(path.name, sha256(path)) for path in sorted(folder.iterdir()) if path.is_file()]


async def sealed_call(lane: Lane, number: str) -> Path:
    customer, _ = await lane.begin(number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return await lane.site.sealed(number)


async def test_a_destruction_that_dies_halfway_is_ended_and_nothing_comes_back(lane: Lane, tmp_path: Path) -> None:
    file = await sealed_call(lane, "+31612360012")
    await settled(lane.site)
    await exported_through(lane.site, file, "export.audio.copied", tmp_path / "copy")
    await destroyed_through(lane.site, file, "+31612360012", "archive.removed", sweep=False)
    await lane.site.stop()
    await start(lane.site)
    await settled(lane.site)
    gone(lane.site, file, manifest_id(lane.site), "+31612360012")


def is_there(file: Path) -> bool:
    return file.exists() and file.with_suffix(".json").exists()


def manifest_id(site: Installation) -> str:
    ((id,),) = rows(site, "SELECT id FROM recordings WHERE destroyed IS NOT NULL")
    return str(id)


async def test_what_is_destroyed_between_a_crash_and_the_next_start_is_not_in_the_spool_either(lane: Lane) -> None:
    site, number = lane.site, "+31612360013"
    await site.stop()
    await start(site, "index.added")
    customer, _ = await lane.begin(number)
    await customer.talk(TALK_S)
    await customer.hangup()
    await die(site)
    file = await site.sealed(number)
    id = manifest(file)["recording"]
    assert [p for p in site.leftovers() if id in p.name], "the spool still has it: that is the point"
    await site.run("recordings", "destroy", id, "--reason", "request", "--yes")
    await restart(site, "")
    await settled(site)
    gone(site, file, id, number)


# -- all of them -----------------------------------------------------------------------------------------------------

GROUPS = {
    "at first": AT_FIRST,
    "in the call, first half": IN_CALL[:12],
    "in the call, second half": IN_CALL[12:],
    "sealing": ENDED[:12],
    "archiving": ENDED[12:23],
    "erasing, and on the way back": (*ENDED[23:], *TWICE),
}


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
async def test_a_death_at_each_fault_point_of_a_recording(group: str, tree: asterisk_tree.Tree) -> None:
    waiting = list(enumerate(GROUPS[group]))
    outcome: dict[str, str] = {}

    async def run() -> None:
        async with Installation() as site, Phones() as phones:
            lane = await prepared(site, phones)
            while waiting:
                nth, at = waiting.pop(0)
                before = TWICE.get(at)
                in_call = () if at in ENDED else (before,) if before == "recorder.stopping" else () if before else (at,)
                after = tuple(point for point in (before, at) if point and point not in in_call)
                if at.startswith("archive.folder"):
                    empty(site)
                try:
                    number = f"+3161237{len(group):02d}{nth:02d}"
                    await through_deaths(lane, number, in_call, after, comes_back=at in AT_FIRST)
                except Exception as error:
                    outcome[at] = f"{type(error).__name__}: {error}"[:600]
                    await site.stop()
                    await start(site)
                else:
                    outcome[at] = ""

    await asyncio.gather(*(run() for _ in range(LANES)))
    for at, wrong in sorted(outcome.items()):
        print(f"{at:32} {wrong or 'one whole recording'}")
    assert {at: wrong for at, wrong in outcome.items() if wrong} == {}
    assert set(outcome) == set(GROUPS[group])


@pytest.mark.slow
async def test_a_purpose_that_is_asked_for_in_a_call_is_told_by_the_next_guard_or_not_asked_for(
    tree: asterisk_tree.Tree,
) -> None:
    """By the agent's key, of a caller who was told of nothing. Before its line is on disk nobody asked; afterwards the
    next guard tells him, and records from then on."""
    number, did = "+31612360021", "31201220101"
    dialplan = "exten => " + did + ",1,Set(__DYNAMIC_FEATURES=" + KEYS + ")\n same => n,Dial(PJSIP/${EXTEN:8},60,tT)\n"
    async with Installation(dialplan=dialplan, settings="[limits]\nhold_trust = 60.0") as site, Phones() as phones:
        lane = await prepared(site, phones)
        await site.stop()
        await start(site, BEGINNING[0])
        customer = await lane.carrier.call(did, caller_id=number)
        agent = await lane.agent.incoming(number=number, deadline_s=30)
        await agent.answered()
        call = (await until_recorded(site, number, on=False))["call"]

        def asked() -> int:
            return len(rows(site, "SELECT number FROM audit WHERE kind = 'purpose.begun' AND channel = ?", call))

        await agent.dtmf(BEGIN)
        await die(site)
        await restart(site, BEGINNING[1])
        await customer.talk(1.0)
        assert (await until_recorded(site, number, on=False))["reasons"] == ["no_purpose"]
        assert asked() == 0
        await agent.dtmf(BEGIN)
        await die(site)
        assert asked() == 1
        await restart(site, "")
        await until_recorded(site, number)
        await customer.talk(TALK_S)
        await customer.hangup()
        file = await site.sealed(number)
        assert [line for line in site.events("disclosure.heard") if line["call"] == call], "by whisper, while they talk"
        _, said = await measure.pair(customer)
        found = measure.recorded(file, said, CUSTOMER)
        assert measure.voices(found.others, CUSTOMER) == {"chirp"}
        assert found.seconds > TALK_S - 0.8
        await settled(site)
        one_recording(site, file)
        assert asked() == 1


def empty(site: Installation) -> None:
    """No recording is left, and no folder for one: the next must make it."""
    day = site.archive / f"{datetime.now(UTC):%Y/%m/%d}"
    if day.is_dir():
        subprocess.run(["rm", "-r", str(site.archive / f"{datetime.now(UTC):%Y}")], check=True)
        with sqlite3.connect(site.home / "pbxguard.db", timeout=10) as database:
            database.execute("DELETE FROM recordings")


@pytest.mark.slow
async def test_a_death_at_each_fault_point_of_a_copy_and_a_destruction(lane: Lane, tmp_path: Path) -> None:
    await lane.site.stop()
    await start(lane.site)
    a, phones = lane.site.asterisk, lane.agent.phones
    extensions = ["102", *(str(n) for n in range(104, 110))]  # 112 and its like are never recorded
    others = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in extensions))
    lanes = [lane, *(Lane(lane.site, lane.carrier, p, e) for p, e in zip(others, extensions, strict=True))]
    deaths = [(at, False) for at in DESTROYING] + [("destroy.begun", True), ("index.wiping", True)]
    numbers = [f"+316123800{n:02d}" for n in range(len(deaths))]
    files = []
    for first in range(0, len(deaths), 4):  # a phone takes four calls at once
        group = zip(lanes[first % 8 :], numbers[first : first + 4], strict=False)
        files += await asyncio.gather(*(sealed_call(one, number) for one, number in group))
    await settled(lane.site)
    for at in EXPORTING:
        await exported_through(lane.site, files[0], at, tmp_path / at)
    for (at, sweep), number, file in zip(deaths, numbers, files, strict=True):
        await destroyed_through(lane.site, file, number, at, sweep=sweep)
        print(f"{at:32} destroyed, once")
