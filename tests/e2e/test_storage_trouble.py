"""Spool, archive and database in trouble, for real: calls go on, one alert says what to do, and nothing is lost.

Each story has its twins: a call before or after, on the same lines, that is recorded. Spool and archive are small disks
of their own; the tests follow one another on one installation and leave it healthy.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.deaths import sha256
from tests.lab.disks import Disk
from tests.lab.evidence import prompt, reasons, until_recorded, until_refused
from tests.lab.installation import POLL_S, Installation
from tests.lab.load import sealed_files
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ, LATER_HZ = VOICES[:2]
NOTICE = "contract_evidence.nl.notice.inbound"
TALK_S = 3.0
TWO_LUMPS_S = 2 * 2.048
"""Asterisk hands 32 kB at a time to the disk, 2.048 s of a track; a lump that does not get there is lost."""
DEADLINE_S = 40.0


@dataclass
class Office:
    site: Installation
    spool: Disk
    archive: Disk
    carrier: Phone
    agents: dict[str, Phone]

    @asynccontextmanager
    async def call(self, number: str, agent: str = "100") -> AsyncIterator[tuple[PhoneCall, PhoneCall]]:
        """A connected call of a customer with an agent; hung up at the end."""
        customer = await self.carrier.call(f"31201234{agent}", caller_id=number)
        leg = await self.agents[agent].incoming(number=number, deadline_s=DEADLINE_S)
        await leg.answered()
        try:
            yield customer, leg
        finally:
            await customer.hangup()
            await leg.ended()

    async def twin(self, number: str) -> Path:
        """A plain call, which must be recorded: told first, with both voices; gives its file."""
        async with self.call(number) as (customer, _):
            await until_recorded(self.site, number)
            await customer.talk(TALK_S)
        return await self.holds(number, customer)

    async def holds(self, number: str, customer: PhoneCall, least_s: float = TALK_S - 0.6) -> Path:
        """The one sealed file of a call: both voices, nothing before the notice's end, at least so long."""
        file = await self.site.sealed(number)
        heard, said = await measure.pair(customer)
        found = measure.recorded(file, said, CUSTOMER)
        assert measure.voices(found.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
        assert measure.voices(found.others, CUSTOMER) == {"chirp"}
        assert found.first_s > measure.prompt_end(heard, prompt(self.site, NOTICE))
        assert found.seconds >= least_s
        return file

    def alerts(self) -> list[dict[str, Any]]:
        return [line for line in self.site.events() if line["level"] == "alert"]

    async def until_told(self, after: int, *events: str) -> list[dict[str, Any]]:
        """Until the alerts since the first `after` are exactly these, in their order; none has personal data."""
        end = time.monotonic() + DEADLINE_S
        while True:
            found = self.alerts()[after:]
            if [line["event"] for line in found] == list(events):
                assert all(line["mend"] for line in found)
                assert "+316" not in json.dumps(found)
                return found
            assert time.monotonic() < end, f"{events} expected: {found}"
            await asyncio.sleep(POLL_S)

    async def until_well(self) -> None:
        """Until `status` has no trouble and nothing waits to be sealed."""
        end = time.monotonic() + DEADLINE_S
        while True:
            status = await self.site.status()
            if status.get("ready") and not status["troubles"] and not status["waiting_to_seal"]:
                return
            assert time.monotonic() < end, status
            await asyncio.sleep(POLL_S)

    def audio(self) -> dict[str, int]:
        """The spool's audio files and their sizes."""
        return {path.name: path.stat().st_size for path in self.site.leftovers() if ".sln" in path.name}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    if os.geteuid() != 0:
        pytest.skip("disks of our own need root")
    site = Installation()
    with Disk(site.spool, 48) as spool, Disk(site.archive, 24) as archive:
        site.asterisk.binds = [site.spool]
        async with site, Phones() as phones:
            a = site.asterisk
            carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
            names = ("100", "101")
            agents = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in names))
            yield Office(site, spool, archive, carrier, dict(zip(names, agents, strict=True)))
    if os.environ.get("PBXGUARD_LAB_KEEP") != "1":
        shutil.rmtree(site.asterisk.run_dir)  # what was a mount point until now


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _healed(office: Office) -> AsyncIterator[None]:
    """A test that fails leaves no full or stalled disk to the next one; and none deletes anything to make room."""
    held = {path: sha256(path) for path in sealed_files(office.site)}
    yield
    assert held.items() <= {path: sha256(path) for path in sealed_files(office.site)}.items()
    for disk in (office.spool, office.archive):
        disk.thaw()
        disk.empty()


async def test_a_full_spool_before_a_call_leaves_it_unrecorded_and_connected(office: Office) -> None:
    site = office.site
    await office.twin("+31612345901")
    said = len(office.alerts())
    office.spool.fill()
    (full,) = await office.until_told(said, "spool.full")
    assert "free space there" in full["mend"]
    async with office.call("+31612345902") as (customer, _leg):
        await customer.talk(TALK_S)
        ran = await site.run("status", check=False)
        assert ran.code == 1
        assert "trouble: spool.full. Nothing is recorded until the spool's disk has room again" in ran.out
    assert await reasons(site, "+31612345902") == {"spool_full", "not_told"}
    assert site.files("+31612345902") == []
    assert measure.first_heard(await customer.heard(), AGENT_HZ) > 0
    office.spool.empty()
    await office.until_told(said, "spool.full")
    await office.until_well()
    await office.twin("+31612345903")


async def test_a_spool_that_fills_up_in_a_call_keeps_what_was_captured_before(office: Office) -> None:
    site, number, said = office.site, "+31612345904", len(office.alerts())
    async with office.call(number) as (customer, leg):
        await until_recorded(site, number)
        await customer.talk(TWO_LUMPS_S + 1.0)
        office.spool.fill()
        before = office.audio()
        assert before
        await until_refused(site, number, {"spool_full"})
        await leg.say(Tone(LATER_HZ))
        await customer.talk(TALK_S)
        assert set(office.audio()) == set(before), "audio was deleted to make room"
    await office.until_told(said, "spool.full")
    assert measure.first_heard(await customer.heard(), LATER_HZ) > 0  # the call went on
    await office.holds(number, customer, TWO_LUMPS_S - 0.6)
    office.spool.empty()
    await office.until_told(said, "spool.full")
    await office.until_well()
    await office.twin("+31612345905")


async def test_a_spool_that_pbxguard_may_not_write_stops_the_recorder_and_loses_nothing(office: Office) -> None:
    site, number, said = office.site, "+31612345908", len(office.alerts())
    async with office.call(number) as (customer, _):
        await until_recorded(site, number)
        await customer.talk(TALK_S)
        office.spool.read_only(True)
        try:
            await office.until_told(said, "spool.unwritable")
            await until_refused(site, number, {"spool_full"})
            await customer.hangup()
            await asyncio.sleep(1.0)
            assert office.audio(), "what was captured is gone"
        finally:
            office.spool.read_only(False)
    await office.holds(number, customer)
    await office.until_well()
    assert office.audio() == {}
    await office.twin("+31612345909")


async def test_a_spool_that_asterisk_may_not_write_is_an_alert_and_the_call_goes_on(office: Office) -> None:
    site, number, said = office.site, "+31612345910", len(office.alerts())
    seen = site.spool.resolve()
    office.spool.read_only(True, seen_by=site.asterisk.pid, at=seen)
    try:
        async with office.call(number) as (customer, _):
            await customer.talk(TALK_S)
        await office.until_told(said, "segment.empty")
    finally:
        office.spool.read_only(False, seen_by=site.asterisk.pid, at=seen)
    assert site.files(number) == []
    assert measure.first_heard(await customer.heard(), AGENT_HZ) > 0
    await office.twin("+31612345911")
    await office.until_well()


async def test_a_full_archive_leaves_recordings_in_the_spool_until_there_is_room(office: Office) -> None:
    """Also over a stop and a start of the service; and a read-only one is no different."""
    site, number, said = office.site, "+31612345912", len(office.alerts())
    office.archive.fill()
    async with office.call(number) as (customer, _):
        await until_recorded(site, number)
        await customer.talk(TALK_S)
    await office.until_told(said, "sealing.failed")
    waiting, kept = office.audio(), sealed_files(site)
    assert waiting
    assert kept
    assert (await site.status())["waiting_to_seal"] == 1
    office.spool.fill()
    await office.until_told(said, "sealing.failed", "spool.full")
    await site.run("retention", "sweep", check=False)
    assert (office.audio(), sealed_files(site)) == (waiting, kept), "something was deleted to make room"
    office.spool.empty()
    await site.stop()
    assert office.audio() == waiting
    await site.start()
    await office.until_told(said, "sealing.failed", "spool.full", "sealing.failed")  # the new one says it too
    assert office.audio() == waiting
    assert (await site.status())["waiting_to_seal"] == 1
    assert site.files(number) == []
    office.archive.empty()
    await office.holds(number, customer)
    await office.until_told(said, "sealing.failed", "spool.full", "sealing.failed")
    await office.until_well()
    assert office.audio() == {}


async def test_a_locked_database_stops_recordings_until_it_is_free(office: Office) -> None:
    site, number, said = office.site, "+31612345913", len(office.alerts())
    async with office.call(number) as (customer, _):
        await until_recorded(site, number)
        await customer.talk(TALK_S)
        with sqlite3.connect(site.home / "pbxguard.db", timeout=20, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            (failed,) = await office.until_told(said, "audit.failed")
            assert "locked" in failed["mend"]
            status = await site.status()
            assert "audit_unhealthy" in status["closed"]
            async with office.call("+31612345914", "101") as (second, _):
                await second.talk(TALK_S)
            other.execute("ROLLBACK")
        await until_recorded(site, number)
        await customer.talk(TALK_S)
    assert await reasons(site, "+31612345914") == {"audit_unhealthy", "not_told"}
    assert site.files("+31612345914") == []
    assert measure.first_heard(await second.heard(), AGENT_HZ) > 0
    await office.holds(number, customer, 2 * TALK_S - 1.5)
    await office.until_well()


async def test_a_log_that_nobody_reads_holds_up_no_call(office: Office) -> None:
    site, number = office.site, "+31612345915"
    await site.stop()
    log, fifo = site.logfile, site.home / "log.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(reader, b"\n" * 4096)  # it takes no more
    except BlockingIOError:
        pass
    try:
        site.logfile = fifo
        starting = asyncio.ensure_future(site.start())
        await asyncio.sleep(0)  # it has opened it: should it fail, it tells what the real log has
        site.logfile = log
        await starting
        async with office.call(number) as (customer, _):
            await until_recorded(site, number)
            await customer.talk(TALK_S)
        await office.holds(number, customer)
        got = b""
        while b"recording.sealed" not in got:  # what was said meanwhile is there once somebody reads
            try:
                got += os.read(reader, 65536)
            except BlockingIOError:
                await asyncio.sleep(POLL_S)
        events = [json.loads(line)["event"] for line in got.decode().splitlines() if line]
        assert events[0] == "service.starting"
        assert "log.lines_dropped" not in events
    finally:
        await site.stop()
        os.close(reader)
        site.logfile = log
        await site.start()
