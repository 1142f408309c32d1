"""Calls that span a trouble with storage, on the real Asterisk and real file systems: nothing permitted is lost.

Spool, archive and database have a small disk each. One call spans each trouble: it is recorded before and after it,
which is the control, and not in it where that is due; another begins and ends in it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest_asyncio

from tests.lab import asterisk_tree, away, measure
from tests.lab.ami import connect
from tests.lab.away import AGENT_HZ, CUSTOMER
from tests.lab.deaths import sha256
from tests.lab.disks import Disk
from tests.lab.evidence import manifest, prompt, until_recorded, until_refused
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import Tone

TALK_S = 2.0
BUFFERED_S = 2.1
"""32 KiB of Asterisk's, at 8 kHz."""
GAP_S = 0.4
"""What a phone on a busy machine may lose of a voice at once."""
LOST_S = 1.0
"""Most of a talk that a start, a cut and the last buffer before the trouble may cost."""
NOTICES_S = 12.0
"""By then a trouble is noticed, or its end: the spool is tried every two seconds, and waited for three."""
UNNOTICED_S = 2.0
"""So long a stalled spool certainly goes unnoticed: it is waited for longer than that."""
NOTICE = "contract_evidence.nl.notice.inbound"


class Apart(Installation):
    """An installation whose database has a folder of its own."""

    @property
    def database(self) -> Path:
        return self.home / "database" / "pbxguard.db"

    def toml(self) -> str:
        return super().toml().replace(f"{self.home}/pbxguard.db", str(self.database))


@dataclass
class Call:
    """A call from outside to an agent."""

    number: str
    customer: PhoneCall
    agent: PhoneCall

    async def talk(self, seconds: float = TALK_S) -> None:
        await self.customer.talk(seconds)

    async def hangup(self) -> None:
        await self.customer.hangup()


@dataclass
class Stage:
    """An installation on disks of its own, and who calls there."""

    site: Apart
    spool: Disk
    archive: Disk
    database: Disk
    carrier: Phone
    agents: dict[str, Phone]
    numbers: Iterator[str] = field(default_factory=lambda: (f"+31612370{n:03d}" for n in itertools.count(1)))

    async def begin(self, extension: str) -> Call:
        """Until both are connected."""
        number = next(self.numbers)
        customer = await self.carrier.call(f"31201234{extension}", caller_id=number)
        agent = await self.agents[extension].incoming(number=number, deadline_s=30)
        await agent.answered()
        return Call(number, customer, agent)

    async def recorded(self, extension: str) -> Call:
        """The same, and it is recorded."""
        call = await self.begin(extension)
        await until_recorded(self.site, call.number)
        return call


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tree: asterisk_tree.Tree) -> AsyncIterator[Stage]:
    site = Apart()
    site.asterisk.binds = (site.spool,)
    with Disk(site.spool, 32) as spool, Disk(site.archive, 32) as archive, Disk(site.database.parent, 32) as database:
        async with site, Phones() as phones:
            a = site.asterisk
            agents = {name: await phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in ("101", "102", "104")}
            carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
            yield Stage(site, spool, archive, database, carrier, agents)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _over(stage: Stage) -> AsyncIterator[None]:
    """No test leaves a call, or a file, to the next."""
    yield
    for call in stage.carrier.calls:
        await call.hangup()
    await stage.site.asterisk.idle()


Change = Callable[[], object]
OVER = {
    "spool.full": "spool.has_room",
    "spool.unwritable": "spool.has_room",
    "spool.stalled": "spool.has_room",
    "audit.failed": "audit.recovered",
    "sealing.failed": "sealing.recovered",
}
"""What is logged when it is over."""


async def trouble(stage: Stage, cause: Change, mend: Change, *, event: str, reason: str) -> None:
    """All that must hold of a trouble that forbids recording, whatever it is."""
    site = stage.site
    seen, held, process = len(site.events()), archived(site), site.process
    spanning = await stage.recorded("101")
    await spanning.talk()
    files = spool_files(site)
    assert len(files) == 2
    caused = time.monotonic()
    cause()
    try:
        await until_refused(site, spanning.number, {reason}, deadline_s=NOTICES_S)
        noticed = time.monotonic()
        during = await stage.begin("102")  # its door plays no notice for nothing
        await until_refused(site, during.number, {reason, "not_told"}, deadline_s=NOTICES_S)
        await during.talk()
        assert event in (await site.status())["troubles"]
        await during.hangup()
        assert set(files) <= set(spool_files(site)), "something was deleted"
        assert held.items() <= archived(site).items(), "something was deleted, or is another"
    finally:
        mended = time.monotonic()
        mend()
    await over(site, event)
    await until_recorded(site, spanning.number)
    await spanning.talk()
    await spanning.hangup()
    told_once(site, seen, event)
    over_once(site, seen, event)
    await connected(during)
    await connected(spanning)
    why = await site.why(during.number)
    assert set(why["reasons"]) == {reason, "not_told"}
    assert not why["ever_recorded"]
    assert site.files(during.number) == []
    await sealed_around(site, spanning, reason, caused, noticed, mended)
    await settled(site)
    assert held.items() <= archived(site).items()
    assert (site.process, process and process.returncode) == (process, None), "it died of it"


def archived(site: Installation) -> dict[Path, str]:
    """Every file of the archive, by its digest; nothing of the work folder."""
    return {path: sha256(path) for day in site.archive.glob("[0-9]*") for path in day.rglob("*") if path.is_file()}


async def over(site: Installation, event: str) -> None:
    await until(lambda: gone(site, event), f"the end of {event}")


async def gone(site: Installation, event: str) -> bool:
    return event not in (await site.status()).get("troubles", [event])


async def troubled(site: Installation, event: str) -> bool:
    return event in (await site.status()).get("troubles", [])


async def until(true: Callable[[], Awaitable[bool]], what: str, deadline_s: float = NOTICES_S) -> None:
    end = time.monotonic() + deadline_s
    while not await true():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.1)


def told_once(site: Installation, seen: int, *events: str, failed: Collection[str] = ()) -> None:
    """Since the line `seen`: one alert for each, which says what to do; and nothing else failed than `failed`."""
    lines = site.events()[seen:]
    alerts = [line for line in lines if line["level"] == "alert"]
    assert [line["event"] for line in alerts] == list(events)
    assert all(len(line["mend"]) > 20 for line in alerts)
    assert [line["task"] for line in lines if line["event"] == "task.failed"] == list(failed)
    assert [line for line in lines if line["event"] == "service.failed"] == []


def over_once(site: Installation, seen: int, event: str) -> None:
    """And one line that says that it is over."""
    assert len([line for line in site.events()[seen:] if line["event"] == OVER[event]]) == 1


async def connected(call: Call) -> None:
    """Each heard the other to the end, and the agent from the beginning."""
    to_customer, to_agent = await call.customer.heard(), await call.agent.heard()
    for heard, voice in (
        (to_customer, away.agent_heard(to_customer)),
        (to_agent, away.customer_heard(to_agent)),
    ):
        assert voice.longest_gap_s < GAP_S
        assert heard.seconds - voice.end_s < GAP_S
        assert voice.end_s - voice.start_s > TALK_S - GAP_S


async def sealed_around(
    site: Installation,
    call: Call,
    reason: str,
    caused: float,
    noticed: float,
    mended: float,
    *,
    before_too: bool = True,
) -> None:
    """The recording has the talk before the trouble (`before_too`) and the talk after it, and nothing in between."""
    file = await site.sealed(call.number)
    heard, said = await measure.pair(call.customer)
    recorded = measure.recorded(file, said, CUSTOMER)
    assert measure.voices(recorded.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(recorded.others, CUSTOMER) == {"chirp"}
    assert recorded.first_s > measure.prompt_end(heard, prompt(site, NOTICE))
    last = measure.positions(recorded.others, said, CUSTOMER)
    before = [p for p in last if p[1] < noticed - heard.began + 0.1]
    after = [p for p in last if p[0] > mended - heard.began - 0.06]
    assert before + after == last, "some of it is from within the trouble"
    assert sum(p[1] - p[0] for p in after) > TALK_S - LOST_S
    if before_too:
        assert sum(p[1] - p[0] for p in before) > TALK_S - LOST_S
        assert before[-1][1] > caused - heard.began - LOST_S
        assert [gap["reasons"] for gap in manifest(file)["gaps"]] == [[reason]]


def spool_files(site: Installation) -> list[Path]:
    return sorted(p for p in site.leftovers() if ".sln" in p.name)


async def settled(site: Installation) -> None:
    """Until nothing waits in the spool."""

    async def empty() -> bool:
        return not spool_files(site) and not (await site.status())["waiting_to_seal"]

    await until(empty, f"an empty spool: {spool_files(site)}", 20)


# -- the database ----------------------------------------------------------------------------------------------------


async def test_a_database_that_cannot_be_written_ends_recording_and_no_call(stage: Stage) -> None:
    def names() -> list[str]:
        # SQLite maps its -shm: the kernel would end a process (SIGBUS) that writes there
        return [p.name for p in stage.database.folder.iterdir() if not p.name.endswith("-shm")]

    await trouble(
        stage,
        lambda: stage.database.immutable(*names()),
        lambda: stage.database.immutable(*names(), on=False),
        event="audit.failed",
        reason="audit_unhealthy",
    )


async def test_a_full_disk_of_the_database_ends_recording_and_no_call_and_deletes_nothing(stage: Stage) -> None:
    """SQLite maps its -shm: a page of it that no block is left for would end the process (SIGBUS)."""
    await trouble(stage, stage.database.fill, stage.database.empty, event="audit.failed", reason="audit_unhealthy")


# -- the archive -----------------------------------------------------------------------------------------------------


async def test_what_an_unwritable_archive_does_not_take_waits_in_the_spool_over_a_restart_and_is_sealed(
    stage: Stage,
) -> None:
    site = stage.site
    before = await stage.recorded("104")
    await before.talk()
    await before.hangup()
    await site.sealed(before.number)
    await settled(site)
    seen = len(site.events())
    top = [p.name for p in site.archive.iterdir() if p.is_dir()]
    days = [p.relative_to(site.archive).as_posix() for p in site.archive.glob("*/*/*")]
    stage.archive.immutable(".", *top, *days)
    try:
        calls = [await stage.recorded("101"), await stage.recorded("102")]
        await calls[0].talk()
        for call in calls:
            await call.hangup()
        await until(lambda: waits(site, 2), "two that wait", 20)
        told_once(site, seen, "sealing.failed", failed=["watermark"])  # which is in the archive as well
        files = {path: path.stat().st_size for path in spool_files(site)}
        assert len(files) == 4
        await site.stop()
        await site.start()
        await until(lambda: waits(site, 2), "two that wait after a restart", 20)
        assert {path: path.stat().st_size for path in spool_files(site)} == files
        assert all(site.files(call.number) == [] for call in calls)
    finally:
        stage.archive.immutable(".", *top, *days, on=False)
    for call in calls:
        file = await site.sealed(call.number)
        heard, said = await measure.pair(call.customer)
        recorded = measure.recorded(file, said, CUSTOMER)
        assert measure.voices(recorded.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
        assert recorded.first_s > measure.prompt_end(heard, prompt(site, NOTICE))
        assert recorded.last_s > heard.seconds - LOST_S
        await connected(call)
    await settled(site)
    over_once(site, seen, "sealing.failed")


async def waits(site: Installation, count: int) -> bool:
    return bool((await site.status()).get("waiting_to_seal") == count)


# -- a disk that does not answer ---------------------------------------------------------------------------------------


async def test_a_spool_whose_disk_stops_answering_stalls_neither_calls_nor_the_service(stage: Stage) -> None:
    site = stage.site
    seen = len(site.events())
    spanning = await stage.recorded("101")
    await spanning.talk()
    files = spool_files(site)
    caused = time.monotonic()
    stage.spool.freeze()
    try:
        await until(lambda: troubled(site, "spool.stalled"), "a spool that is known to be stalled")
        noticed = time.monotonic()
        during = await stage.begin("102")  # it would never ring if Asterisk hung in a stop
        await during.talk()
        assert await troubled(site, "spool.stalled")
        await until_refused(site, during.number, {"spool_full", "not_told"}, deadline_s=NOTICES_S)
        await until_refused(site, spanning.number, {"spool_full"}, deadline_s=NOTICES_S)
        await during.hangup()
        assert spool_files(site) == files
    finally:
        mended = time.monotonic()
        stage.spool.thaw()
    await over(site, "spool.stalled")
    await until_recorded(site, spanning.number)
    await spanning.talk()
    await spanning.hangup()
    told_once(site, seen, "spool.stalled")
    over_once(site, seen, "spool.stalled")
    await connected(during)
    await connected(spanning)
    why = await site.why(during.number)
    assert set(why["reasons"]) == {"spool_full", "not_told"}
    assert not why["ever_recorded"]
    # Asterisk lost frames while it stalled, and a stop that comes so late makes the cut take the talk before as well.
    await sealed_around(site, spanning, "spool_full", caused, noticed, mended, before_too=False)
    await settled(site)


async def test_a_stop_while_the_spool_stalls_and_nobody_has_noticed_freezes_no_call(stage: Stage) -> None:
    """Asterisk closes a recorder's files while it holds its channel: a stop that waits for a disk stops the voices."""
    site = stage.site
    calls = [await stage.recorded("101"), await stage.recorded("102")]
    # What Asterisk still buffered when the disk stopped is proven by no look at the file: not kept (ADR 0011).
    await calls[1].talk(BUFFERED_S + TALK_S)
    async with connect(site.asterisk) as ami:
        stage.spool.freeze()
        try:
            await ami.action("Setvar", Variable="PBXGUARD", Value="off")
            for call in calls:
                await until_recorded(site, call.number, on=False)
            await calls[0].talk(UNNOTICED_S)
            assert not await troubled(site, "spool.stalled"), "it was noticed too soon for this test to mean anything"
        finally:
            stage.spool.thaw()
            await ami.action("Setvar", Variable="PBXGUARD", Value="on")
        for call in calls:
            await until_recorded(site, call.number)
        await calls[1].talk()
    for call in calls:
        await call.hangup()
        await connected(call)
        assert ["switched_off"] in [gap["reasons"] for gap in manifest(await site.sealed(call.number))["gaps"]]
    await settled(site)
