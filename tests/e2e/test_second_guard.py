"""A second pbxguard on the same Asterisk: other socket, other database, other folders; exactly one of the two runs.

The one that was there first keeps its recorders, the caller's door and its calls; the other ends with a plain message.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.lab import asterisk_tree, measure, stories
from tests.lab.asterisk import REPO, die_with_parent, free_ports
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import UNWATCHED_S, Installation
from tests.lab.phone import Phone, Phones
from tests.lab.signals import Tone
from tests.lab.stories import CUSTOMER

REFUSED = 1
LATEST_S = 40.0


@dataclass
class Second:
    """A pbxguard of its own, that knows of the first one nothing but the same Asterisk."""

    config: Path
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pbxguard", "--config", str(self.config), "run"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPO,
                preexec_fn=die_with_parent,
            )

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(LATEST_S):
            return await self.process.wait()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Both:
    site: Installation
    phones: Phones
    carrier: Phone
    agent: Phone
    second: Second


@asynccontextmanager
async def beside(site: Installation) -> AsyncIterator[Second]:
    home = site.home / "second"
    home.mkdir()
    text = site.toml().replace(f'"{site.spool}"', f'"{home}/spool"').replace(f'"{site.archive}"', f'"{home}/archive"')
    text = text.replace(f"{site.home}/pbxguard.db", f"{home}/pbxguard.db").replace(f'"{site.socket}"', f'"{home}/sock"')
    text = text.replace(f"[agi]\nport = {site.asterisk.agi_port}", f"[agi]\nport = {free_ports(1)[0]}")
    (home / "pbxguard.toml").write_text(text.replace('node = "lab"', 'node = "other"'))
    second = Second(home / "pbxguard.toml", home / "log")
    try:
        yield second
    finally:
        if second.process is not None and second.process.returncode is None:
            second.process.kill()
            await second.process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(tree: asterisk_tree.Tree) -> AsyncIterator[Both]:
    async with Installation(watchdog_s=UNWATCHED_S) as site, Phones() as phones, beside(site) as second:
        carrier = await phones.add(site.asterisk.line("trunk-a"), sends=CUSTOMER)
        agent = await phones.add(site.asterisk.line("100"), sends=Tone(stories.AGENT_HZ))
        yield Both(site, phones, carrier, agent, second)


async def test_a_second_one_refuses_to_start_and_touches_nothing_of_the_firsts(both: Both) -> None:
    site, number = both.site, "+31612345210"
    customer = await both.carrier.call("31201234100", caller_id=number)
    agent = await both.agent.incoming(number=number, deadline_s=30)
    await agent.answered()
    await until_recorded(site, number)
    await both.second.start()
    assert await both.second.ended() == REFUSED
    assert "another pbxguard runs on this Asterisk" in both.second.text()
    assert "service.started" not in both.second.text()
    # what systemd does after it
    ran = await site.run("--config", str(both.second.config), "stop-recorders", check=False)
    assert (ran.code, "another pbxguard" in ran.err) == (REFUSED, True)
    await customer.talk(1.0)
    await customer.hangup()
    file = await site.sealed(number)
    assert len(manifest(file)["segments"]) == 1
    _, said = await measure.pair(customer)
    kept = measure.recorded(file, said, CUSTOMER)
    assert kept.seconds > kept.last_s - kept.first_s - 0.1, "there is a hole in the recording"
    assert site.events("ari.replaced") == [], "it took the caller's door"
    number = "+31612345211"
    customer = await both.carrier.call("31201234100", caller_id=number)
    agent = await both.agent.incoming(number=number, deadline_s=30)
    await agent.answered()
    await until_recorded(site, number)
    await customer.hangup()


async def test_of_two_that_start_at_the_same_instant_exactly_one_goes_on(both: Both) -> None:
    site, second = both.site, both.second
    await site.stop()
    starting = asyncio.create_task(site.start())
    await second.start()
    await asyncio.gather(starting, return_exceptions=True)  # it may be ready for a moment before it gives way

    def first_runs() -> bool:
        return site.process is not None and site.process.returncode is None

    await both.phones.until(lambda: first_runs() != second.runs, "one of them ends", LATEST_S)
    if second.runs:
        assert site.process is not None
        assert site.process.returncode == REFUSED
        assert second.process is not None
        second.process.send_signal(signal.SIGTERM)
        assert await second.ended() == 0
        await site.stop()
        await site.start()
    assert (await site.status())["ready"]


async def test_when_a_frozen_one_thaws_beside_its_successor_the_elder_goes_on(both: Both) -> None:
    site, second = both.site, both.second
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    try:
        await second.start()
        await both.phones.until(lambda: "service.started" in second.text(), "the second one starts", LATEST_S)
        assert second.runs
    finally:
        site.process.send_signal(signal.SIGCONT)
    assert await second.ended() == REFUSED
    assert "another pbxguard runs on this Asterisk" in second.text()
    end = time.monotonic() + LATEST_S
    while not (status := await site.status()).get("ready"):  # it takes the caller's door back
        assert time.monotonic() < end, status
        await asyncio.sleep(0.1)
    assert site.process.returncode is None
