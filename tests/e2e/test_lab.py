"""The lab itself: a green test elsewhere means nothing unless these hold."""

from __future__ import annotations

import asyncio
import secrets
import shutil

import pytest

from tests.e2e.conftest import AddPhone
from tests.lab import ami, checker
from tests.lab.asterisk import Asterisk, LabError, server_name
from tests.lab.asterisk_tree import Tree
from tests.lab.checker import Detector, Track
from tests.lab.phone import Answer, Forward, Heard, Phone, PhoneCall, Phones, Reject
from tests.lab.signals import MUSIC_HZ, VOICES, Chirp, Tone

AGENT_HZ, THIRD_HZ, COLLEAGUE_HZ, _ = VOICES


def track(heard: Heard) -> Track:
    return Track(heard.samples, heard.rate)


def new_number() -> str:
    """An outside number that no other test uses."""
    return f"+316{secrets.randbelow(10**8):08d}"


async def connected(agent: Phone, customer: Phone) -> tuple[PhoneCall, PhoneCall]:
    """The customer's call and the agent's, talking."""
    number = new_number()
    call = await (await customer.call("31201234100", caller_id=number)).answered()
    return call, await (await agent.incoming(number=number)).answered()


async def test_the_answering_asterisk_is_the_one_we_started(asterisk: Asterisk) -> None:
    assert await server_name(asterisk.sip_port) == asterisk.user_agent


async def test_an_asterisk_whose_port_is_taken_is_not_mistaken_for_ours(asterisk: Asterisk) -> None:
    second = Asterisk(ports=asterisk.ports)
    with pytest.raises(LabError, match="is answered by"):
        await second.start()
    shutil.rmtree(second.run_dir)
    assert await server_name(asterisk.sip_port) == asterisk.user_agent


async def test_a_plain_call_is_heard_and_measured_at_both_ends(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    call, answered = await connected(agent, customer)
    await call.talk(2.0)
    await call.hangup()
    await answered.ended()

    at_customer, at_agent = track(await call.heard()), track(await answered.heard())
    assert set(checker.voices(at_customer, VOICES, Chirp())) == {f"{AGENT_HZ:g}"}
    assert set(checker.voices(at_agent, VOICES, Chirp())) == {"chirp"}
    (tone,) = checker.spans(at_customer, AGENT_HZ)
    assert tone.seconds > 1.8
    stretches = checker.chirp_stretches(at_agent, Chirp())
    assert sum(one.end_s - one.start_s for one in stretches) > 1.8
    assert all(one.error_s < 0.001 for one in stretches)

    said = checker.chirp_stretches(track(await call.said()), Chirp())
    assert said[0].first_said_s == pytest.approx(0, abs=0.002)
    assert len((await call.said()).samples) == len((await call.heard()).samples)


async def test_mixmonitor_by_ami_keeps_the_voices_apart(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    base = asterisk.spool / secrets.token_hex(8)
    async with ami.connect(asterisk) as manager:
        call, answered = await connected(agent, customer)
        entered = await manager.event("BridgeEnter", lambda event: event["Channel"].startswith("PJSIP/100-"))
        await call.talk(0.3)
        options = f"r({base}-own.sln)t({base}-others.sln)i(LAB_MIXMONITOR)"
        started = await manager.action("MixMonitor", Channel=entered["Channel"], File="", Options=options)
        assert started["MixMonitorID"]
        await call.talk(1.5)
        since = len(manager.events)
        await manager.action("StopMixMonitor", Channel=entered["Channel"], MixMonitorID=started["MixMonitorID"])
        await manager.event("MixMonitorStop", since=since)
        await call.talk(0.5)
        await call.hangup()
        await answered.ended()
    own = checker.read_raw(base.with_name(f"{base.name}-own.sln"))
    others = checker.read_raw(base.with_name(f"{base.name}-others.sln"))
    assert len(own.samples) == len(others.samples)
    assert set(checker.voices(own, VOICES, Chirp())) == {f"{AGENT_HZ:g}"}
    assert set(checker.voices(others, VOICES, Chirp())) == {"chirp"}
    # What the agent's phone heard places the recording on the customer's time, at both its ends.
    recorded = checker.chirp_stretches(others, Chirp())
    heard = checker.chirp_stretches(track(await answered.heard()), Chirp())
    assert heard[0].first_said_s < recorded[0].first_said_s < recorded[-1].last_said_s < heard[-1].last_said_s + 0.001
    assert recorded[-1].last_said_s - recorded[0].first_said_s == pytest.approx(own.seconds, abs=0.1)


async def test_music_replaces_the_voice_of_a_phone_on_hold(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    call, answered = await connected(agent, customer)
    await call.talk(0.5)
    await answered.hold()
    await call.talk(1.0)
    await answered.unhold()
    await call.talk(0.5)
    await call.hangup()
    heard = track(await call.heard())
    before, *_, after = checker.spans(heard, AGENT_HZ)
    (music, *_) = checker.spans(heard, MUSIC_HZ)
    assert before.end_s - 0.01 < music.start_s < music.end_s < after.start_s + 0.01
    assert music.seconds > 0.8


async def test_a_blind_transfer_lets_the_third_party_be_heard_and_a_detector_finds_it(
    asterisk: Asterisk, add_phone: AddPhone
) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    third = await add_phone(asterisk.line("trunk-b"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.1))
    call, answered = await connected(agent, customer)
    await call.talk(1.0)
    await answered.refer("90201112223")
    assert answered.transfer_status == 200
    there = await third.incoming()
    await there.answered()
    await call.talk(1.0)
    await call.hangup()
    await there.ended()

    heard = track(await call.heard())
    (arrival, *_) = checker.spans(heard, THIRD_HZ)
    before = heard.part(0.0, arrival.start_s - 0.1)
    detector = Detector.calibrate(THIRD_HZ, present=heard, absent=before)
    assert detector.find(before) == []
    assert detector.find(heard)
    assert detector.shortest_s <= 0.005
    assert detector.control > 4 * detector.floor


async def test_an_attended_transfer_by_replaces_joins_the_far_ends(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    colleague = await add_phone(asterisk.line("101"), sends=Tone(COLLEAGUE_HZ))
    call, answered = await connected(agent, customer)
    await answered.hold()
    question = await (await agent.call("101")).answered()
    await question.talk(0.5)
    await answered.refer_replaces(question)
    await question.ended()
    await answered.ended()
    await call.talk(1.0)
    await call.hangup()
    assert f"{COLLEAGUE_HZ:g}" in checker.voices(track(await call.heard()), VOICES)
    assert "chirp" in checker.voices(track(await colleague.calls[0].heard()), VOICES, Chirp())


async def test_a_phone_local_three_way_carries_every_voice(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    colleague = await add_phone(asterisk.line("101"), sends=Tone(COLLEAGUE_HZ))
    call, answered = await connected(agent, customer)
    second = await (await agent.call("101")).answered()
    await answered.join(second)
    await call.talk(1.0)
    await call.hangup()
    await second.hangup()
    assert set(checker.voices(track(await call.heard()), VOICES)) == {f"{AGENT_HZ:g}", f"{COLLEAGUE_HZ:g}"}
    assert set(checker.voices(track(await colleague.calls[0].heard()), VOICES, Chirp())) == {f"{AGENT_HZ:g}", "chirp"}


async def test_keys_arrive(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    call, answered = await connected(agent, customer)
    await call.dtmf("91")
    await answered.pressed("91")
    await call.hangup()


async def test_a_carrier_that_shows_an_own_number_is_still_a_carrier(asterisk: Asterisk, add_phone: AddPhone) -> None:
    await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    call = await (await customer.call("31201234100", caller_id="101")).answered()
    assert any(name.startswith("PJSIP/trunk-a-") for name in await asterisk.channels())
    await call.hangup()


async def test_busy_and_forwarding_phones(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), on_incoming=Reject(486))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    refused = await (await customer.call("31201234100", caller_id=new_number())).ended()
    assert refused.status == 486
    await add_phone(asterisk.line("101"), sends=Tone(COLLEAGUE_HZ))
    await agent.answers(Forward("sip:101@127.0.0.1"))
    forwarded = await (await customer.call("31201234100", caller_id=new_number())).answered()
    await forwarded.talk(0.5)
    await forwarded.hangup()
    assert set(checker.voices(track(await forwarded.heard()), VOICES)) == {f"{COLLEAGUE_HZ:g}"}


async def test_calls_overlap(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    pairs = await asyncio.gather(*(connected(agent, customer) for _ in range(4)))
    await asyncio.sleep(1)
    for call, answered in pairs:
        await call.hangup()
        assert set(checker.voices(track(await answered.heard()), VOICES, Chirp())) == {"chirp"}
        assert len(checker.chirp_stretches(track(await answered.heard()), Chirp())) == 1


async def test_asterisk_comes_back_after_a_crash(tree: Tree) -> None:
    async with Asterisk() as own:
        first = own.pid
        await own.kill()
        await own.start()
        assert own.pid != first
        assert "System uptime" in await own.cli("core show uptime")
    assert not own.run_dir.exists()


async def test_wideband_phones_carry_what_a_telephone_line_cannot(tree: Tree) -> None:
    async with Asterisk(rate=16000) as wide, Phones(rate=16000) as wide_phones:
        agent = await wide_phones.add(wide.line("100"), sends=Tone(5000))
        customer = await wide_phones.add(wide.line("trunk-a"), sends=Chirp())
        call, answered = await connected(agent, customer)
        await call.talk(1.0)
        await call.hangup()
        assert set(checker.voices(track(await call.heard()), [5000, *VOICES], Chirp())) == {"5000"}
        assert set(checker.voices(track(await answered.heard()), [5000, *VOICES], Chirp())) == {"chirp"}
