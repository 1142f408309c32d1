"""SIGTERM with live calls: open segments are stopped, cut and kept; each recording is sealed once its call has ended.

By this run, or by the next start; and an Asterisk that does not answer holds the end up for a bounded time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.lab import asterisk_tree, measure, stories
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Tone
from tests.lab.stories import CUSTOMER

AWAY_HZ = VOICES[1]
"""What agents say while nobody guards."""
ENDS_AWAY, LIVES_ON, HANGING = "+31612345220", "+31612345221", "+31612345222"


@dataclass
class Office:
    site: Installation
    phones: Phones
    carrier: Phone
    agents: dict[str, Phone]

    async def talk(self, agent: str, number: str) -> tuple[PhoneCall, PhoneCall]:
        customer = await self.carrier.call(f"31201234{agent}", caller_id=number)
        answered = await self.agents[agent].incoming(number=number, deadline_s=30)
        await answered.answered()
        await until_recorded(self.site, number)
        return customer, answered


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with Installation() as site, Phones() as phones:
        carrier = await phones.add(site.asterisk.line("trunk-a"), sends=CUSTOMER)
        names = ("100", "101", "102")
        own = [await phones.add(site.asterisk.line(name), sends=Tone(stories.AGENT_HZ)) for name in names]
        yield Office(site, phones, carrier, dict(zip(names, own, strict=True)))


async def check(file: Path, customer: PhoneCall, segments: int) -> None:
    """Nothing of what was said while nobody guarded, and so many segments."""
    _, said = await measure.pair(customer)
    kept = measure.recorded(file, said, CUSTOMER)
    assert measure.voices(kept.own, CUSTOMER) == {f"{stories.AGENT_HZ:g}"}
    assert kept.seconds > 1.0
    assert len(manifest(file)["segments"]) == segments


async def test_a_call_that_ends_while_nobody_guards_and_one_that_lives_on_are_both_sealed(office: Office) -> None:
    site = office.site
    ends, its_agent = await office.talk("100", ENDS_AWAY)
    lives, her_agent = await office.talk("101", LIVES_ON)
    await lives.talk(2.0)
    service = site.process
    assert service is not None
    await site.stop()
    assert [row["code"] for row in service.happened("ended")] == [0]
    assert service.happened("killed") == []
    assert [row["out"] for row in service.happened("stopped")] == ['{"stopped": 0}'], "it stopped them itself"
    assert "STOPPING=1" in [row["line"] for row in service.happened("told")]
    assert len(site.events("segment.closed")) == 2
    for agent in (its_agent, her_agent):
        await agent.say(Tone(AWAY_HZ))
    await ends.talk(1.0)
    await ends.hangup()
    await her_agent.say(Tone(stories.AGENT_HZ))
    await lives.talk(0.5)
    await site.start()
    await check(await site.sealed(ENDS_AWAY), ends, 1)
    heard, _ = await measure.pair(ends)
    assert measure.first_heard(heard, AWAY_HZ) > 0, "he was heard, and so could have been recorded"
    await until_recorded(site, LIVES_ON)
    assert site.files(LIVES_ON) == [], "sealed while the call lives"
    await lives.talk(2.0)
    await lives.hangup()
    await check(await site.sealed(LIVES_ON), lives, 2)


async def test_an_asterisk_that_does_not_answer_holds_the_end_up_for_a_bounded_time(office: Office) -> None:
    site, phones = office.site, office.phones
    customer, _ = await office.talk("102", HANGING)
    await customer.talk(2.0)
    before = len(site.events("segment.closed"))
    service = site.process
    assert service is not None
    asterisk = site.asterisk.pid
    os.kill(asterisk, signal.SIGSTOP)
    try:
        await site.stop()
    finally:
        os.kill(asterisk, signal.SIGCONT)
    assert service.happened("killed") == [], "it did not end by itself within TimeoutStopSec"
    assert [row["code"] for row in service.happened("stopped")] == [3]
    await customer.hangup()
    await site.start()
    # its recorder wrote for as long as Asterisk stood, for all that anybody knows: nothing of it is proven
    await phones.until(lambda: site.events("segment.closed")[before:], "a segment that is closed", 20)
    assert [row["reason"] for row in site.events("segment.closed")[before:]] == ["guard_away"]
    await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool", 20)
