"""The AMI adapter on the real Asterisk: what the fake takes for granted is true there."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from pbxguard.core.facts import (
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelHungUp,
    ChannelState,
    ConnectionLost,
    LocalOptimizationEnded,
    RecorderSeen,
    RecorderStopSeen,
    SnapshotTaken,
    SwitchedOff,
    SwitchedOn,
)
from pbxguard.core.ids import Endpoint, SegmentId
from pbxguard.pbx.ami.ami import EVENT_MASK, FILTERS, Ami
from pbxguard.pbx.ami.connection import Address, AmiRefused, LoginRefused, Session, Tuning
from tests.e2e.conftest import AddPhone
from tests.e2e.test_lab import connected, new_number
from tests.lab import ami as lab_ami
from tests.lab import checker
from tests.lab.asterisk import Asterisk
from tests.lab.phone import Answer, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone
from tests.wire import record_streams
from tests.wire.fake_ami import ListSink, WallClock, until

AGENT_HZ, THIRD_HZ, COLLEAGUE_HZ, _ = VOICES


DEFAULTS = Tuning()


@asynccontextmanager
async def watching(
    asterisk: Asterisk, *, wait: bool = True, tuning: Tuning = DEFAULTS, beside: bool = False
) -> AsyncIterator[tuple[Ami, ListSink]]:
    sink = ListSink()
    ami = Ami(
        host="127.0.0.1",
        port=asterisk.ami_port,
        username=asterisk.ami_user,
        secret=asterisk.ami_secret,
        sink=sink,
        clock=WallClock(),
        tuning=tuning,
    )
    if beside:  # a second one gives way; here it is but another look at the same Asterisk
        ami._rivals.note = lambda event: None  # type: ignore[method-assign]
    task = asyncio.create_task(ami.run())
    try:
        if wait:
            await asyncio.wait_for(ami.wait_connected(), 10)
        yield ami, sink
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def address(asterisk: Asterisk, **changes: str) -> Address:
    account = {"username": asterisk.ami_user, "secret": asterisk.ami_secret} | changes
    return Address("127.0.0.1", asterisk.ami_port, **account)


def new_segment() -> SegmentId:
    return SegmentId(f"{secrets.token_hex(8)}-001")


def picture_of(sink: ListSink) -> SnapshotTaken:
    return next(fact for fact in sink.facts if isinstance(fact, SnapshotTaken))


def bridged(sink: ListSink) -> set[frozenset[str]]:
    """Who is with whom, by the snapshot and by every fact since."""
    members: dict[str, set[str]] = {}
    for fact in sink.facts:
        match fact:
            case SnapshotTaken():
                members = {bridge.bridge: set(channels) for bridge, channels in fact.bridges}
            case BridgeEntered():
                there = members.setdefault(fact.bridge, set())
                there.discard(fact.swap or "")
                there.add(fact.channel)
            case BridgeLeft():
                members.get(fact.bridge, set()).discard(fact.channel)
    return {frozenset(there) for there in members.values() if there}


def created(sink: ListSink, number: str) -> ChannelCreated:
    return next(f for f in sink.facts if isinstance(f, ChannelCreated) and f.caller_number == number)


async def talking(
    asterisk: Asterisk, add_phone: AddPhone, sink: ListSink
) -> tuple[PhoneCall, PhoneCall, ChannelCreated, ChannelCreated]:
    """A call from outside to phone 100, with the channels of customer and agent."""
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    number = new_number()
    call = await (await customer.call("31201234100", caller_id=number)).answered()
    answered = await (await agent.incoming(number=number)).answered()
    theirs = created(sink, number)

    def together() -> frozenset[str] | None:
        return next((there for there in bridged(sink) if theirs.channel in there and len(there) == 2), None)

    await until(together, "the two in a bridge")
    there = together()
    assert there is not None
    (mine,) = there - {theirs.channel}
    ours = next(f for f in sink.facts if isinstance(f, ChannelCreated) and f.channel == mine)
    return call, answered, theirs, ours


async def test_we_see_after_a_picture_and_beats_come_back(asterisk: Asterisk) -> None:
    async with watching(asterisk) as (ami, sink):
        await until(lambda: len(sink.all) > 10, "beats")
        assert ami.connected
        assert ami.lag < 1
        assert isinstance(sink.all[0], SnapshotTaken)
        assert ami.asterisk_version in await asterisk.cli("core show version")
        alive = await ami.pbx.get_global("PBXGUARD_ALIVE_AMI")
        await until(lambda: len(sink.all) > 40, "more beats")
        assert alive.isdigit() or (await ami.pbx.get_global("PBXGUARD_ALIVE_AMI")).isdigit()


async def test_a_second_look_shows_the_same_boot_and_the_same_people_together(
    asterisk: Asterisk, add_phone: AddPhone
) -> None:
    async with watching(asterisk) as (ami, sink):
        call, _, theirs, ours = await talking(asterisk, add_phone, sink)
        async with watching(asterisk, beside=True) as (again, second):
            picture = picture_of(second)
            assert again.boot == ami.boot
            assert frozenset({theirs.channel, ours.channel}) in bridged(second)
            seen = {channel.channel: channel for channel in picture.channels}
            assert seen[theirs.channel].caller_number == theirs.caller_number
            assert seen[theirs.channel].state is ChannelState.UP
            assert (seen[ours.channel].dialled, seen[theirs.channel].dialled) == (True, False)
        await call.hangup()
        await until(lambda: ChannelHungUp(theirs.channel) in sink.facts, "the hangup")


async def test_after_an_attended_transfer_picture_and_facts_agree(asterisk: Asterisk, add_phone: AddPhone) -> None:
    third = await add_phone(asterisk.line("trunk-b"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.1))
    async with watching(asterisk) as (_, sink):
        call, answered, theirs, _ours = await talking(asterisk, add_phone, sink)
        await answered.hold()
        question = await (await answered.phone.call(f"9{new_number()[1:]}")).answered()
        await answered.refer_replaces(question)
        await question.ended()
        await answered.ended()
        await until(lambda: any(theirs.channel in there and len(there) == 2 for there in bridged(sink)), "the transfer")
        async with watching(asterisk, beside=True) as (_, second):
            mine = {there for there in bridged(sink) if theirs.channel in there}
            assert {there for there in bridged(second) if theirs.channel in there} == mine
        await call.hangup()
        assert len(third.calls) == 1


async def test_after_a_local_pair_was_optimised_away_picture_and_facts_agree(phones: Phones) -> None:
    async with (
        Asterisk(dialplan=record_streams.DIALPLAN, files={"queues.conf": record_streams.QUEUES}) as own,
        watching(own) as (_, sink),
    ):
        member = await phones.add(own.line("101"), sends=Tone(COLLEAGUE_HZ))
        customer = await phones.add(own.line("trunk-a"), sends=Chirp())
        call = await (await customer.call("31209999000", caller_id=new_number())).answered()
        await until(lambda: any(isinstance(fact, LocalOptimizationEnded) for fact in sink.facts), "the optimisation")
        await until(lambda: len(bridged(sink)) == 1, "one bridge")
        async with watching(own, beside=True) as (_, second):
            assert bridged(second) == bridged(sink)
            kinds = {channel.name.partition("-0")[0]: channel.dialled for channel in picture_of(second).channels}
            assert kinds == {"PJSIP/trunk-a": False, "PJSIP/101": True}
        await call.hangup()
        for phone in (member, customer):  # before their Asterisk goes
            await phones.remove(phone)


async def test_a_recorder_keeps_both_voices_apart_and_stops_once(asterisk: Asterisk, add_phone: AddPhone) -> None:
    async with watching(asterisk) as (ami, sink):
        call, answered, _, ours = await talking(asterisk, add_phone, sink)
        segment = new_segment()
        own, others = asterisk.spool / f"{segment}-own.sln", asterisk.spool / f"{segment}-others.sln"
        handle = await ami.recorder.start(ours.channel, segment, own, others)
        assert handle.leg == ours.channel
        assert handle.mixmonitor_id.startswith("0x")
        await until(lambda: RecorderSeen(ours.channel) in sink.facts, "the recorder")
        await call.talk(1.0)
        assert await ami.recorder.stop(handle) is True
        await until(lambda: RecorderStopSeen(ours.channel) in sink.facts, "its stop")
        assert await ami.recorder.stop(handle) is False
        await call.hangup()
        await answered.ended()
    assert sorted(path.name for path in asterisk.spool.glob(f"{segment}*")) == [others.name, own.name]
    assert set(checker.voices(checker.read_raw(own), VOICES, Chirp())) == {f"{AGENT_HZ:g}"}
    assert set(checker.voices(checker.read_raw(others), VOICES, Chirp())) == {"chirp"}


async def test_a_recorder_of_a_run_that_died_is_found_and_stopped_by_the_next(
    asterisk: Asterisk, add_phone: AddPhone
) -> None:
    segment = new_segment()
    own, others = asterisk.spool / f"{segment}-own.sln", asterisk.spool / f"{segment}-others.sln"
    async with watching(asterisk) as (ami, sink):
        call, _, _, ours = await talking(asterisk, add_phone, sink)
        handle = await ami.recorder.start(ours.channel, segment, own, others)
    async with watching(asterisk) as (ami, sink):
        assert await ami.recorder.find(ours.channel, new_segment()) is None
        found = await ami.recorder.find(ours.channel, segment)
        assert found is not None
        assert found == handle
        assert await ami.recorder.stop(found) is True
        await ami.recorder.settle()
        assert await ami.recorder.find(ours.channel, segment) is None
        again = await ami.recorder.start(ours.channel, segment, own, others)
        assert again in await ami.recorder.find_all()
        assert await ami.recorder.stop_all() >= 1
        await ami.recorder.settle()
        assert ours.channel not in {handle.leg for handle in await ami.recorder.find_all()}
        await until(lambda: RecorderStopSeen(ours.channel) in sink.facts, "its stop")
        await call.hangup()
        await until(lambda: ChannelHungUp(ours.channel) in sink.facts, "the hangup")
        assert await ami.recorder.find(ours.channel, segment) is None


async def test_a_recorder_that_went_with_its_channel_was_not_stopped_by_us(
    asterisk: Asterisk, add_phone: AddPhone
) -> None:
    async with watching(asterisk) as (ami, sink):
        call, answered, _, ours = await talking(asterisk, add_phone, sink)
        segment = new_segment()
        base = asterisk.spool / segment
        handle = await ami.recorder.start(ours.channel, segment, base.with_suffix(".a.sln"), base.with_suffix(".b.sln"))
        await call.hangup()
        await answered.ended()
        assert await ami.recorder.stop(handle) is False
        await until(lambda: ChannelHungUp(ours.channel) in sink.facts, "the hangup")
        with pytest.raises(AmiRefused):
            await ami.recorder.start(ours.channel, segment, base.with_suffix(".c.sln"), base.with_suffix(".d.sln"))


async def test_a_stop_with_an_id_that_nobody_has_stops_nothing(asterisk: Asterisk, add_phone: AddPhone) -> None:
    async with watching(asterisk) as (ami, sink):
        call, _, _, ours = await talking(asterisk, add_phone, sink)
        segment = new_segment()
        base = asterisk.spool / segment
        handle = await ami.recorder.start(ours.channel, segment, base.with_suffix(".a.sln"), base.with_suffix(".b.sln"))
        with pytest.raises(AmiRefused):
            await ami.act("StopMixMonitor", {"Channel": ours.channel, "MixMonitorID": "0x1"})
        assert await ami.recorder.stop(handle) is True
        await call.hangup()


async def test_the_filter_lets_our_variables_through_and_nobody_elses(asterisk: Asterisk) -> None:
    seen: list[Mapping[str, str]] = []
    session = await Session.open(address(asterisk), Tuning(), seen.append)
    mark = f"PBXGUARD_TEST_{secrets.token_hex(4)}"
    try:
        for rule in FILTERS:
            await session.action("Filter", {"Operation": "Add", **rule})
        await session.action("Events", {"EventMask": EVENT_MASK})
        for name in ("FOREIGN", "P", "PB", "PBY", "XPBX", mark):
            await session.action("Setvar", {"Variable": name, "Value": mark})
        await until(lambda: any(event.get("Variable") == mark for event in seen), "our own variable")
    finally:
        session.close()
    ours = [event["Variable"] for event in seen if event["Event"] == "VarSet" and event.get("Value") == mark]
    # `P` and `PB` are shorter than what the filter looks at.
    assert set(ours) <= {"P", "PB", mark}
    assert not any(event["Event"] == "Newexten" for event in seen)


async def test_variables_lamps_and_hangups_work(asterisk: Asterisk, add_phone: AddPhone) -> None:
    async with watching(asterisk) as (ami, sink), lab_ami.connect(asterisk) as lab:
        call, answered, theirs, ours = await talking(asterisk, add_phone, sink)
        await ami.pbx.set_channel_variable(theirs.channel, "CDR(pbxguard)", "REC:abcd")
        read = await lab.action("Getvar", Channel=theirs.channel, Variable="CDR(pbxguard)")
        assert read["Value"] == "REC:abcd"
        await ami.pbx.set_device_state(Endpoint("PJSIP/100"), "INUSE")
        assert (await lab.action("Getvar", Variable="DEVICE_STATE(Custom:pbxguard-100)"))["Value"] == "INUSE"
        await ami.pbx.hang_up(ours.channel)
        await answered.ended()
        await call.ended()
        await until(lambda: ChannelHungUp(ours.channel) in sink.facts, "the hangup")
        await ami.pbx.hang_up(ours.channel)
        with pytest.raises(AmiRefused):
            await ami.pbx.set_channel_variable(ours.channel, "PBXGUARD_RESULT", "OFF")


async def test_what_check_asks_is_answered(asterisk: Asterisk) -> None:
    async with watching(asterisk) as (ami, _):
        allowed = await ami.pbx.permitted_actions()
        assert {"MixMonitor", "StopMixMonitor", "Setvar", "Getvar", "CoreShowChannels", "BridgeList"} <= allowed
        assert not {"Command", "Originate"} & allowed
        assert {"100", "trunk-a"} <= set(await ami.pbx.pjsip_endpoints())
        assert (await ami.pbx.pjsip_endpoint("100"))["DirectMedia"] == "false"
        assert await ami.pbx.dialplan_exists("from-trunk", "31201234100")
        assert not await ami.pbx.dialplan_exists("no-such-context")


async def test_a_wrong_password_is_refused(asterisk: Asterisk) -> None:
    with pytest.raises(LoginRefused):
        await Session.open(address(asterisk, secret="wrong"), Tuning())


async def test_an_answer_that_something_was_queued_harms_nobody(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    async with watching(asterisk) as (ami, _):
        call, _answered = await connected(agent, customer)
        name = next(name for name in await asterisk.channels() if name.startswith("PJSIP/100-"))
        answer = await ami.act("Atxfer", {"Channel": name, "Exten": "101", "Context": "internal"})
        assert answer[0]["Message"].endswith("successfully queued")
        assert ami.connected
        await call.hangup()


def manager_conf(asterisk: Asterisk, read: str, write: str) -> str:
    return (
        f"[general]\nenabled=yes\nbindaddr=127.0.0.1\nport={asterisk.ami_port}\n"
        f"[{asterisk.ami_user}]\nsecret={asterisk.ami_secret}\nread={read}\nwrite={write}\n"
        f"[lab]\nsecret={asterisk.lab_secret}\nread=all\nwrite=all\n"
    )


async def test_missing_rights_are_told_with_their_mend_and_mended_without_a_restart() -> None:
    async with Asterisk() as own:
        good = (own.run_dir / "etc" / "manager.conf").read_text()
        await own.write("manager.conf", manager_conf(own, "all", "call"))
        async with watching(own, wait=False, tuning=Tuning(most_backoff_s=0.3)) as (ami, _):
            await until(lambda: ami.trouble, "the missing right to write")
            assert isinstance(ami.trouble, AmiRefused)
            assert "write=system,call" in ami.trouble.diagnostics()
            await own.write("manager.conf", good)
            await asyncio.wait_for(ami.wait_connected(), 10)
            assert ami.trouble is None


async def test_without_the_right_to_see_beats_nothing_is_seen_at_all() -> None:
    async with Asterisk() as own:
        await own.write("manager.conf", manager_conf(own, "system,call", "system,call"))
        async with watching(own, wait=False, tuning=Tuning(silence_s=0.5, picture_s=0.5)) as (ami, sink):
            await until(lambda: ami.trouble, "the missing right to read")
            assert ami.trouble is not None
            assert "dialplan" in ami.trouble.diagnostics()
            assert sink.all == []


async def test_a_frozen_asterisk_shows_as_lag_and_comes_back_without_a_new_connection() -> None:
    async with Asterisk() as own, watching(own) as (ami, sink):
        os.kill(own.pid, signal.SIGSTOP)
        try:
            await until(lambda: ami.lag > 1, "the lag")
        finally:
            os.kill(own.pid, signal.SIGCONT)
        await until(lambda: ami.lag < 0.25, "the end of the lag")
        assert ConnectionLost() not in sink.facts


async def test_a_crashed_asterisk_is_a_loss_and_its_next_boot_has_another_name() -> None:
    async with Asterisk() as own, watching(own) as (ami, sink):
        await ami.pbx.set_global("PBXGUARD", "off")
        await until(lambda: SwitchedOff() in sink.facts, "the switch")
        first = ami.boot
        await own.kill()
        await until(lambda: ConnectionLost() in sink.facts, "the loss")
        assert not ami.connected
        with pytest.raises(Exception, match="not connected"):
            await ami.pbx.get_global("PBXGUARD")
        await asyncio.sleep(1)  # a boot is named by its second
        await own.start()
        await until(lambda: ami.connected, "sight")
        assert ami.boot != first
        assert isinstance(sink.facts[sink.facts.index(ConnectionLost()) + 1], SnapshotTaken)


async def test_in_a_storm_of_events_facts_stay_in_order_and_beats_come_back() -> None:
    async with Asterisk() as own, watching(own) as (ami, sink), lab_ami.connect(own) as lab:
        for n in range(400):
            await lab.action("Setvar", Variable=f"STORM_{n % 10}", Value=n)
            if n % 4 == 0:
                await lab.action("Setvar", Variable="PBXGUARD", Value="off" if n % 8 else "on")
        await until(lambda: len(sink.facts) == 102, "all switches")
        assert sink.facts[2:] == [SwitchedOn(), SwitchedOff()] * 50
        seen = len(sink.all)
        await until(lambda: len(sink.all) > seen + 5, "beats after the storm")
        assert ami.lag < 1
