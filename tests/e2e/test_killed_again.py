"""A guard that is killed, and killed again while it recovers; calls are recorded, on hold, queued and told.

Each goes on; what was recorded is one recording without what nobody saw, and who was on hold stays unrecorded.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, prompt, reasons, until_recorded, until_refused
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones, Ring
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ, DARK_HZ, _, _ = VOICES
TALK_S = 2.5
LOST_S = 0.6
RECORDED, HELD, QUEUED, TOLD, GONE = (f"+3161234740{n}" for n in range(1, 6))
NOTICE = "contract_evidence.nl.notice.inbound"
QUEUES = "[general]\n[sales]\nstrategy=ringall\ntimeout=60\nmember => PJSIP/104\n"


@dataclass
class Night:
    """What was going on when the guard was killed, twice."""

    site: Installation
    recorded: PhoneCall
    held: PhoneCall
    queued: PhoneCall
    told: PhoneCall
    held_said: dict[str, object]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def night(tree: asterisk_tree.Tree) -> AsyncIterator[Night]:
    # Two starts on a busy machine take longer than the 10 s for which holds seen last are trusted.
    async with Installation(queues=QUEUES, settings="[limits]\nhold_trust = 60.0\n") as site, Phones() as phones:
        a = site.asterisk
        one, two = [await phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(2)]
        agents = {name: await phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in ("100", "101", "102", "103")}
        member = await phones.add(a.line("104"), sends=Tone(AGENT_HZ), on_incoming=Ring())

        async def inbound(carrier: Phone, number: str, agent: str) -> tuple[PhoneCall, PhoneCall]:
            customer = await carrier.call(f"31201234{agent}", caller_id=number)
            leg = await agents[agent].incoming(number=number, deadline_s=40)
            await leg.answered()
            await until_recorded(site, number)
            return customer, leg

        (recorded, leg), (held, holder), (gone, _) = await asyncio.gather(
            inbound(one, RECORDED, "101"), inbound(two, HELD, "102"), inbound(two, GONE, "100")
        )
        queued = await one.call("31201239001", caller_id=QUEUED)
        ringing = await member.incoming(number=QUEUED, deadline_s=40)
        await holder.hold()
        await until_refused(site, HELD, {"on_hold"})
        told = await two.call("31201234103", caller_id=TOLD)
        await told.answered()
        await recorded.talk(2.0)

        await site.stop(signal.SIGKILL)
        await gone.hangup()
        await leg.say(Tone(DARK_HZ))
        connected = len(site.events("ami.connected"))
        starting = asyncio.create_task(site.start())
        await phones.until(lambda: len(site.events("ami.connected")) > connected, "the first recovery", 40)
        assert site.process is not None
        site.process.send_signal(signal.SIGKILL)
        await asyncio.gather(starting, return_exceptions=True)
        site.process = None
        await recorded.talk(1.0)
        await leg.say(Tone(AGENT_HZ))
        await recorded.talk(0.2)
        answered = await agents["103"].incoming(number=TOLD, deadline_s=20)
        await answered.answered()  # while nobody sees
        await site.start()
        await ringing.answer()
        await until_recorded(site, QUEUED)
        await until_recorded(site, RECORDED)
        held_said = await until_recorded(site, HELD, on=False)
        await recorded.talk(TALK_S)
        await holder.unhold()
        await until_recorded(site, HELD)
        await recorded.talk(TALK_S)
        for call in (recorded, held, queued, told):
            await call.hangup()
        yield Night(site, recorded, held, queued, told, held_said)


async def test_a_recorded_call_is_one_recording_without_what_was_said_while_nobody_saw(night: Night) -> None:
    file = await night.site.sealed(RECORDED)
    own, others = checker.read(file)
    heard, spoken = await measure.pair(night.recorded)
    dark = measure.first_heard(heard, DARK_HZ)  # the control
    talk = measure.track(heard).part(measure.first_heard(heard, AGENT_HZ), dark - measure.QUIET_S)
    assert measure.detector(DARK_HZ, heard, talk, others).find(own) == []
    said = manifest(file)
    kept = [segment for segment in said["segments"] if segment["kept_samples"]]
    assert len(kept) == 2
    assert [gap["reasons"] for gap in said["gaps"]] == [["guard_away"]]
    assert len({segment["id"] for segment in said["segments"]}) == len(said["segments"])
    assert kept[1]["kept_samples"] / own.rate > 2 * TALK_S - LOST_S
    assert measure.recorded(file, spoken, CUSTOMER).first_s > measure.prompt_end(heard, prompt(night.site, NOTICE))


async def test_a_call_that_was_on_hold_stays_unrecorded_until_that_changes(night: Night) -> None:
    assert night.held_said["reasons"] == ["hold_unknown"]
    kept = [s for s in manifest(await night.site.sealed(HELD))["segments"] if s["kept_samples"]]
    assert len(kept) >= 1
    assert kept[-1]["kept_samples"] / 8000 > TALK_S - LOST_S


async def test_a_caller_who_waited_in_a_queue_had_been_told_and_is_recorded(night: Night) -> None:
    file = await night.site.sealed(QUEUED)
    assert len(manifest(file)["segments"]) == 1
    own, others = checker.read(file)
    assert (measure.voices(own, CUSTOMER), measure.voices(others, CUSTOMER)) == ({f"{AGENT_HZ:g}"}, {"chirp"})


async def test_a_caller_in_the_disclosure_is_connected_untold_and_unrecorded(night: Night) -> None:
    heard = await night.told.heard()
    found = measure.prompt_heard(heard, prompt(night.site, NOTICE))
    assert found is not None
    length = checker.read(prompt(night.site, NOTICE))[0].seconds
    assert measure.first_heard(heard, AGENT_HZ) < found.start_s + length + 3.0 + 1.0
    # He was bridged while nobody saw, and no list of Asterisk's shows who is on hold.
    assert await reasons(night.site, TOLD) == {"hold_unknown", "not_told"}
    assert night.site.files(TOLD) == []


async def test_a_call_that_ended_meanwhile_is_over_and_sealed(night: Night) -> None:
    assert not (await night.site.why(GONE))["recorded"]
    assert checker.read(await night.site.sealed(GONE))[0].seconds > 1.0


async def test_nothing_is_left_in_the_spool(night: Night) -> None:
    for number in (RECORDED, HELD, QUEUED):
        await night.site.sealed(number)
    async with Phones() as phones:
        await phones.until(lambda: not [p for p in night.site.leftovers() if ".sln" in p.name], "an empty spool")
