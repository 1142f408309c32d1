"""Asterisk restarted or reloaded under recorded calls: what was captured is sealed, and ids do not mix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
TALK_S = 2.5
LOST_S = 0.6
UNWRITTEN_S = 0.6
"""What an Asterisk that is killed had captured and not yet written."""
AGAIN_S = 60.0
RELOADED, GENTLE, KILLED, AFTER_GENTLE, AFTER_KILLED = (f"+3161234730{n}" for n in range(1, 6))
RELOADS = (
    "module reload",
    "dialplan reload",
    "pjsip reload",
    "manager reload",
    "module reload http",
    "module reload res_ari.so",
    "logger reload",
)


@dataclass
class Office:
    site: Installation
    phones: Phones
    carrier: Phone
    agent: Phone
    segments: dict[str, int] = field(default_factory=dict)

    async def inbound(self, number: str) -> tuple[PhoneCall, PhoneCall]:
        customer = await self.carrier.call("31201234101", caller_id=number)
        leg = await self.agent.incoming(number=number, deadline_s=40)
        await leg.answered()
        await until_recorded(self.site, number)
        return customer, leg

    async def talked(self, number: str) -> None:
        """A whole call, recorded."""
        customer, leg = await self.inbound(number)
        await customer.talk(TALK_S)
        await customer.hangup()
        await leg.ended()

    async def ready(self) -> None:
        """Until pbxguard sees another boot of Asterisk, and the agent's phone is known to it."""
        end = asyncio.get_running_loop().time() + AGAIN_S
        while not (await self.site.status()).get("ready"):
            assert asyncio.get_running_loop().time() < end, await self.site.status()
            await asyncio.sleep(0.1)
        await self.agent.register()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with Installation() as site, Phones() as phones:
        carrier = await phones.add(site.asterisk.line("trunk-a"), sends=CUSTOMER)
        agent = await phones.add(site.asterisk.line("101"), sends=Tone(AGENT_HZ))
        yield Office(site, phones, carrier, agent)


async def test_reloads_of_asterisk_lose_nothing_of_a_recorded_call(office: Office) -> None:
    site = office.site
    customer, _ = await office.inbound(RELOADED)
    for command in RELOADS:
        await site.asterisk.cli(command)
        await customer.talk(0.5)
    await until_recorded(site, RELOADED)
    await customer.talk(1.0)
    await customer.hangup()
    file = await site.sealed(RELOADED)
    own, others = checker.read(file)
    kept = [segment for segment in manifest(file)["segments"] if segment["kept_samples"]]
    # A connection that a reload drops is a gap, and the same recording goes on.
    assert own.seconds > len(RELOADS) * 0.5 + 1.0 - LOST_S * len(kept)
    assert (measure.voices(own, CUSTOMER), measure.voices(others, CUSTOMER)) == ({f"{AGENT_HZ:g}"}, {"chirp"})
    assert len({segment["id"] for segment in manifest(file)["segments"]}) == len(manifest(file)["segments"])


async def test_a_call_that_ends_with_asterisks_restart_is_sealed_and_the_next_is_another(office: Office) -> None:
    async def restart() -> None:
        await office.site.asterisk.restart()

    await ended_by(office, restart, GENTLE, AFTER_GENTLE)


async def test_a_call_that_ends_with_asterisks_crash_is_sealed_and_the_next_is_another(office: Office) -> None:
    async def crash() -> None:
        await office.site.asterisk.kill()
        await asyncio.sleep(1.0)  # a boot is named by its second
        await office.site.asterisk.start()

    await ended_by(office, crash, KILLED, AFTER_KILLED)


async def ended_by(office: Office, end: Callable[[], Awaitable[None]], number: str, after: str) -> None:
    """A recorded call in which Asterisk ends, and a call after it: each is one whole recording of its own."""
    site = office.site
    booted = len(site.events("snapshot.taken"))
    customer, leg = await office.inbound(number)
    await customer.talk(TALK_S)
    await end()
    await office.phones.until(lambda: len(site.events("snapshot.taken")) > booted, "another picture", AGAIN_S)
    await office.ready()
    await asyncio.gather(customer.hangup(), leg.hangup())
    first = await site.sealed(number)
    own, others = checker.read(first)
    assert own.seconds > TALK_S - LOST_S - UNWRITTEN_S
    assert (measure.voices(own, CUSTOMER), measure.voices(others, CUSTOMER)) == ({f"{AGENT_HZ:g}"}, {"chirp"})
    assert len([s for s in manifest(first)["segments"] if s["kept_samples"]]) == 1
    assert (await site.why(number))["ended"]
    await office.talked(after)
    second = await site.sealed(after)
    assert manifest(second)["recording"] != manifest(first)["recording"]
    assert manifest(second)["file"]["samples"] / 8000 > TALK_S - LOST_S
    assert len(site.events("recording.sealed")) == len({row["recording"] for row in site.events("recording.sealed")})
    await office.phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")
