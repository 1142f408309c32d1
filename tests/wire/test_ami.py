"""The adapter as a whole against a fake: picture first, then facts in order; blind when it must be; one stop per id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from pbxguard.core.errors import ConnectionFailed, UnsafeValue
from pbxguard.core.facts import (
    BeatReturned,
    BridgeCreated,
    ChannelHungUp,
    ChannelState,
    ConnectionLost,
    HangupRequested,
    Held,
    InCall,
    PictureSeen,
    SnapshotTaken,
    SpyStarted,
    SwitchedOff,
    SwitchedOn,
)
from pbxguard.core.handles import RecorderHandle
from pbxguard.core.ids import BridgeId, Endpoint, SegmentId, Uniqueid
from pbxguard.pbx.ami import inbox
from pbxguard.pbx.ami.ami import Ami
from pbxguard.pbx.ami.connection import AmiRefused, Tuning
from pbxguard.pbx.ami.needs import FactSink
from pbxguard.pbx.ami.pbx import AmiPbx
from pbxguard.pbx.ami.recorder import MixMonitor
from pbxguard.service import ports
from tests.wire.fake_ami import (
    SECRET,
    SILENCE,
    Block,
    FakeAmi,
    ListSink,
    WallClock,
    error,
    fake_ami,
    listed,
    success,
    until,
)

QUICK = Tuning(
    login_s=0.5, answer_s=0.2, first_backoff_s=0.01, most_backoff_s=0.05, beat_s=0.01, silence_s=0.6, picture_s=0.6,
    alive_s=0.05,
    settle_s=0.02, restless_s=0.005, restless_most_s=0.02,
)  # fmt: skip
LEG, SEGMENT = Uniqueid("lab-1.1"), SegmentId("abcdefgh23456777-001")
OWN, OTHERS = Path("/spool/a-own.sln"), Path("/spool/a-others.sln")


@asynccontextmanager
async def running(
    fake: FakeAmi, sink: ListSink, *, secret: str = SECRET, wait: bool = True, tuning: Tuning = QUICK
) -> AsyncIterator[Ami]:
    ami = Ami(
        host="127.0.0.1",
        port=fake.port,
        username="pbxguard",
        secret=secret,
        sink=sink,
        clock=WallClock(),
        tuning=tuning,
    )
    task = asyncio.create_task(ami.run())
    try:
        if wait:
            await asyncio.wait_for(ami.wait_connected(), 5)
        yield ami
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def channel(number: int, *, name: str = "", bridge: str = "", **more: str) -> Block:
    entry = {
        "Event": "CoreShowChannel",
        "Channel": name or f"PJSIP/10{number}-{number:08x}",
        "Uniqueid": f"lab-1.{number}",
        "Linkedid": "lab-1.1",
        "ChannelStateDesc": "Up",
        "CallerIDNum": "<unknown>",
        "BridgeId": bridge,
    }
    return entry | more


# -- seeing ----------------------------------------------------------------------------------------------------------


async def test_the_picture_comes_first_and_then_what_happens() -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.channels = [channel(1, bridge="b"), channel(2, bridge="b", CallerIDNum="0612"), channel(3)]
        fake.bridges = [
            {"Event": "BridgeListItem", "BridgeUniqueid": "b", "BridgeType": "basic", "BridgeTechnology": "x"}
        ]
        async with running(fake, sink) as ami:
            fake.event("Hangup", Uniqueid="lab-1.3")
            await until(lambda: ChannelHungUp(Uniqueid("lab-1.3")) in sink.facts, "the hangup")
            assert (ami.connected, ami.trouble, ami.boot) == (True, None, "2026-11-24T22:00:00")
            assert ami.asterisk_version == "22.10.1"
    picture = sink.facts[0]
    assert isinstance(picture, SnapshotTaken)
    assert [(c.channel, c.caller_number, c.state) for c in picture.channels] == [
        ("lab-1.1", "", ChannelState.UP),
        ("lab-1.2", "0612", ChannelState.UP),
        ("lab-1.3", "", ChannelState.UP),
    ]
    assert picture.bridges == (
        (BridgeCreated(BridgeId("b"), "basic", "x"), (Uniqueid("lab-1.1"), Uniqueid("lab-1.2"))),
    )
    assert sink.facts[1:] == [SwitchedOn(), ChannelHungUp(Uniqueid("lab-1.3"))]


async def test_lists_are_held_against_events_again_and_again_without_those_who_move_meanwhile() -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.channels = [channel(1)]
        async with running(fake, sink, tuning=replace(QUICK, compare_s=0.05)) as ami:
            await until(lambda: len(pictures(sink)) > 1, "a second look")
            assert [c.channel for c in pictures(sink)[0].picture.channels] == ["lab-1.1"]
            assert pictures(sink)[0].restless == frozenset()
            assert pictures(sink)[1].at > pictures(sink)[0].at
            fake.on_list = lambda: fake.event("BridgeLeave", Uniqueid="lab-1.7", BridgeUniqueid="b")
            await until(lambda: pictures(sink)[-1].restless, "a look while somebody moves")
            assert pictures(sink)[-1].restless == {"lab-1.7"}
            fake.on_list = lambda: None
            before = len(sink.facts)
            ami.pbx.look_anew()
            await until(lambda: ConnectionLost() in sink.facts[before:], "the loss")
            await until(lambda: any(isinstance(fact, SnapshotTaken) for fact in sink.facts[before:]), "a snapshot")


async def test_lists_are_held_against_events_at_once_when_somebody_asks() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink, tuning=replace(QUICK, compare_s=60)) as ami:
        ami.pbx.look_closer()
        await until(lambda: len(pictures(sink)) == 1, "a look")
        ami.pbx.look_closer()
        await until(lambda: len(pictures(sink)) == 2, "another")


async def test_a_spoilt_event_about_who_is_where_is_a_loss_and_not_passed_over() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.event("BridgeLeave", BridgeUniqueid="b")
        await until(lambda: ConnectionLost() in sink.facts, "the loss")
        await until(lambda: ami.connected, "sight")


def pictures(sink: ListSink) -> list[PictureSeen]:
    return [fact for fact in sink.facts if isinstance(fact, PictureSeen)]


async def test_a_picture_in_which_something_changed_is_taken_again() -> None:
    sink = ListSink()
    async with fake_ami() as fake:

        def disturb() -> None:
            if fake.count("BridgeList") < 4:
                fake.event("Newchannel", Uniqueid="lab-1.9", Channel="PJSIP/109-1")
            else:
                fake.event("Hold", Uniqueid="lab-1.1")

        fake.on_list = disturb
        fake.channels = [channel(1)]
        async with running(fake, sink):
            await until(lambda: len(sink.facts) == 3, "the facts")
        assert fake.count("BridgeList") == 4
    assert isinstance(sink.facts[0], SnapshotTaken)
    assert sink.facts[1:] == [SwitchedOn(), Held(LEG)]  # what came during the good try is not lost


async def test_a_pbx_that_never_rests_is_told_once_and_never_believed(caplog: pytest.LogCaptureFixture) -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.on_list = lambda: fake.event("Newchannel", Uniqueid="lab-1.9", Channel="PJSIP/109-1")
        async with running(fake, sink, wait=False) as ami:
            await until(lambda: fake.count("BridgeList") > 25, "many tries")
            assert not ami.connected
    assert sink.all == []
    assert caplog.messages.count("ami.restless") == 1


async def test_possible_spies_in_the_picture_count_as_spies() -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.channels = [
            channel(1),
            channel(2),
            channel(3, Application="ChanSpy", ApplicationData="PJSIP/101,q"),
            channel(4, name="Snoop/lab-1.2-00000001"),
        ]
        async with running(fake, sink):
            picture = sink.facts[0]
    assert isinstance(picture, SnapshotTaken)
    assert set(picture.spied) == {
        SpyStarted(Uniqueid("lab-1.3"), Uniqueid("lab-1.1"), guessed=True),
        SpyStarted(Uniqueid("lab-1.4"), Uniqueid("lab-1.2")),
    }


async def test_a_lost_connection_is_told_once_and_a_new_picture_follows() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.watchers[0].cut()
        await until(lambda: sum(isinstance(fact, SnapshotTaken) for fact in sink.facts) == 2, "a second picture")
        await until(lambda: ami.connected, "sight")
        kinds = [type(fact) for fact in sink.facts]
    assert kinds == [SnapshotTaken, SwitchedOn, ConnectionLost, SnapshotTaken, SwitchedOn]


async def test_another_boot_of_asterisk_has_another_name() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        first = ami.boot
        fake.started = "22:00:07"
        for peer in list(fake.peers):
            peer.cut()
        await until(lambda: ami.connected and ami.boot != first, "the new boot")


async def test_the_switch_is_read_on_connecting_and_afterwards() -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.globals["PBXGUARD"] = "off"
        async with running(fake, sink) as ami:
            assert sink.facts[1] == SwitchedOff()
            await ami.pbx.set_global("PBXGUARD", "on")
            await until(lambda: sink.facts[-1] == SwitchedOn(), "the switch")


async def test_while_the_guard_is_behind_nothing_is_read_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "FULL", 50)
    monkeypatch.setattr(inbox, "DRAINED", 10)
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        sink.gate.clear()
        for n in range(500):
            fake.event("HangupRequest", Uniqueid=f"lab-1.{n}")
            if n % 50 == 0:
                await asyncio.sleep(0.005)
        box = ami._inbox
        assert box is not None
        await until(lambda: box.paused, "the pause")
        beats = len(sink.all)
        await asyncio.sleep(QUICK.silence_s * 1.5)
        assert ami.connected, "a guard that is behind is no dead connection"
        assert len(sink.all) == beats
        assert ami.lag > QUICK.silence_s
        sink.gate.set()
        await until(lambda: len(sink.facts) == 502, "all facts")
        await until(lambda: ami.lag < 0.5, "the lag to fall")
    assert [fact for fact in sink.facts if isinstance(fact, HangupRequested)] == [
        HangupRequested(Uniqueid(f"lab-1.{n}")) for n in range(500)
    ]
    assert ConnectionLost() not in sink.facts


# -- the beat --------------------------------------------------------------------------------------------------------


async def test_a_beat_that_comes_back_tells_when_it_was_sent() -> None:
    sink, clock = ListSink(), WallClock()
    began = clock.now()
    async with fake_ami() as fake, running(fake, sink) as ami:
        await until(lambda: len(sink.all) > 10, "beats")
        assert 0 <= ami.lag < 1
    sent = [fact.sent for fact in sink.all if isinstance(fact, BeatReturned)]
    assert sent == sorted(sent)
    assert began < sent[0] < sent[-1] < clock.now()


async def test_a_beat_that_is_asked_for_goes_at_once_and_one_for_all_who_ask_together() -> None:
    sink, clock = ListSink(), WallClock()
    async with fake_ami() as fake, running(fake, sink, tuning=replace(QUICK, beat_s=60.0, silence_s=60.0)) as ami:

        def sent() -> list[float]:
            return [fact.sent for fact in sink.all if isinstance(fact, BeatReturned)]

        await until(lambda: len(sent()) == 2, "the beats around the snapshot")
        asked = clock.now()
        ami.pbx.beat_now()
        ami.pbx.beat_now()
        await until(lambda: len(sent()) > 2, "the beat")
        ami.pbx.beat_now()
        await until(lambda: len(sent()) > 3, "another one")
    assert len(sent()) == 4
    assert asked < sent()[2] < sent()[3]


async def test_a_beat_that_is_asked_for_while_nobody_listens_is_none() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink, secret="wrong", wait=False) as ami:
        ami.pbx.beat_now()
        await until(lambda: ami.trouble, "the trouble")
    assert sink.all == []


@pytest.mark.parametrize("value", ["", "x", "other.1.5", "....", "other.99999999999999999999.1"])
async def test_a_beat_of_somebody_else_is_none(value: str) -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink):
        fake.beats_come_back = False
        fake.event("HangupRequest", Uniqueid="lab-1.1")
        await until(lambda: HangupRequested(LEG) in sink.all, "the mark")
        seen = len(sink.all)
        fake.event("VarSet", Uniqueid="none", Variable="PBXGUARD_BEAT", Value=value)
        stolen = fake.globals["PBXGUARD_BEAT"]
        fake.event("VarSet", Uniqueid="lab-1.1", Variable="PBXGUARD_BEAT", Value=stolen)
        fake.event("Hold", Uniqueid="lab-1.1")
        await until(lambda: Held(LEG) in sink.all, "the event behind them")
        assert sink.all[seen:] == [Held(LEG)]


async def test_the_dialplans_heartbeat_is_set_only_while_beats_come_back() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink):
        await until(lambda: fake.globals.get("PBXGUARD_ALIVE_AMI"), "the heartbeat")
        assert abs(int(fake.globals["PBXGUARD_ALIVE_AMI"]) - WallClock().utc().timestamp()) < 5
        fake.beats_come_back = False
        sent = fake.count("Setvar")
        await until(lambda: fake.count("Setvar") > sent + 20, "beats that do not come back")
        alive = [a for a in fake.asked[-15:] if a.get("Variable") == "PBXGUARD_ALIVE_AMI"]
        assert alive == []


async def test_a_connection_on_which_nothing_comes_back_is_given_up() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.beats_come_back = False
        await until(lambda: ConnectionLost() in sink.facts, "the loss")
        assert ami.lag == inf


async def test_a_freeze_of_ours_is_not_taken_for_silence() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        await asyncio.sleep(QUICK.silence_s / 4)
        time.sleep(QUICK.silence_s * 2)  # noqa: ASYNC251 - the whole process stands still
        await asyncio.sleep(QUICK.silence_s / 2)
        assert ConnectionLost() not in sink.facts
        assert ami.connected


async def test_without_beats_there_is_no_picture_and_the_mend_is_told() -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.beats_come_back = False
        async with running(fake, sink, wait=False) as ami:
            await until(lambda: ami.trouble, "the trouble")
            assert ami.trouble is not None
            assert "read=" in ami.trouble.diagnostics()
    assert sink.all == []


async def test_an_asterisk_that_knows_no_filters_is_watched_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    sink = ListSink()
    async with fake_ami() as fake:
        fake.answers["Filter"] = error("Filter format error")
        async with running(fake, sink) as ami:
            assert ami.connected
    assert "ami.unfiltered" in caplog.messages


async def test_a_refused_login_is_tried_again_and_its_mend_told() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink, secret="wrong", wait=False) as ami:
        await until(lambda: fake.count("Login") > 4, "more tries")
        assert ami.trouble is not None
        assert "permit=" in ami.trouble.diagnostics()
        with pytest.raises(ConnectionFailed):
            await ami.pbx.get_global("X")


async def test_actions_go_on_while_the_events_are_lost() -> None:
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.answers["Events"] = error("not now")
        fake.watchers[0].cut()
        await until(lambda: ConnectionLost() in sink.facts, "the loss")
        assert await ami.recorder.stop(handle)


# -- the recorder ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


async def test_a_recorder_writes_two_tracks_and_is_stopped_by_its_id(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        assert handle == RecorderHandle(LEG, "0xfeed")
        assert await ami.recorder.stop(handle) is True
        started = next(a for a in fake.asked if a["Action"] == "MixMonitor")
        stopped = next(a for a in fake.asked if a["Action"] == "StopMixMonitor")
    assert started["Channel"] == LEG
    assert not started["File"].strip()
    assert started["Options"] == f"r({OWN})t({OTHERS})i(PBXGUARD_MM_abcdefgh23456777_001)"
    assert "Command" not in started
    assert (stopped["Channel"], stopped["MixMonitorID"]) == (LEG, "0xfeed")


async def test_a_spent_id_is_never_sent_again(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        assert await ami.recorder.stop(handle) is True
        assert await ami.recorder.stop(handle) is False
        assert fake.count("StopMixMonitor") == 1


async def test_an_id_is_not_trusted_across_a_hangup(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.event("Hangup", Uniqueid=LEG)
        await until(lambda: ChannelHungUp(LEG) in sink.facts, "the hangup")
        assert await ami.recorder.stop(handle) is False
        assert fake.count("StopMixMonitor") == 0


@pytest.mark.parametrize("message", ["No such channel", "Could not stop monitoring channel"])
async def test_a_recorder_that_is_gone_was_not_stopped_by_us(sink: ListSink, message: str) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.answers["StopMixMonitor"] = error(message)
        assert await ami.recorder.stop(handle) is False


async def test_a_stop_that_nobody_answered_can_be_tried_again(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.answers["StopMixMonitor"] = SILENCE
        with pytest.raises(ConnectionFailed):
            await ami.recorder.stop(handle)
        del fake.answers["StopMixMonitor"]
        assert await ami.recorder.stop(handle) is True


async def test_a_start_that_nobody_answered_is_stopped_if_it_took_place(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.answers["MixMonitor"] = SILENCE
        with pytest.raises(ConnectionFailed):
            await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.globals["PBXGUARD_MM_abcdefgh23456777_001"] = "0xbeef"
        await until(lambda: fake.count("StopMixMonitor"), "its stop")
        stopped = next(a for a in fake.asked if a["Action"] == "StopMixMonitor")
        assert (stopped["Channel"], stopped["MixMonitorID"]) == (LEG, "0xbeef")


async def test_a_refused_start_is_an_error(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.answers["MixMonitor"] = error("No such channel")
        with pytest.raises(AmiRefused):
            await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)


async def test_a_refused_stop_is_an_error_and_not_a_recorder_that_is_gone(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        fake.answers["StopMixMonitor"] = error("Permission denied")
        with pytest.raises(AmiRefused):
            await ami.recorder.stop(handle)


async def test_a_path_of_somebody_elses_making_starts_nothing(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        with pytest.raises(UnsafeValue):
            await ami.recorder.start(LEG, SEGMENT, Path("/spool/x)i(Y,b,touch /tmp/x"), OTHERS)
        assert fake.count("MixMonitor") == 0


async def test_a_recorder_of_an_earlier_run_is_found_by_its_variable(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        assert await ami.recorder.find(LEG, SEGMENT) is None
        fake.globals["PBXGUARD_MM_abcdefgh23456777_001"] = "0xcafe"
        handle = await ami.recorder.find(LEG, SEGMENT)
        assert handle is not None
        assert handle == RecorderHandle(LEG, "0xcafe")
        assert await ami.recorder.stop(handle)


async def test_an_id_that_came_again_is_another_recorder(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        first = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        assert await ami.recorder.stop(first) is True
        second = await ami.recorder.start(LEG, SegmentId("abcdefgh23456777-002"), OWN, OTHERS)
        assert second == first
        assert await ami.recorder.stop(first) is False
        assert fake.count("StopMixMonitor") == 1
        assert await ami.recorder.stop(second) is True


async def test_the_variable_of_a_stopped_recorder_is_emptied_so_that_nobody_stops_by_it_again(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        handle = await ami.recorder.start(LEG, SEGMENT, OWN, OTHERS)
        await ami.recorder.stop(handle)
        name = "PBXGUARD_MM_abcdefgh23456777_001"
        await until(
            lambda: any(a.get("Variable") == name and a["Action"] == "Setvar" for a in fake.asked), "the emptying"
        )


async def test_every_recorder_of_ours_can_be_stopped_and_nobody_elses(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        held = ("SIPCALLID=x", "PBXGUARD_MM_a_001=0x1", "PBXGUARD_MM_a_002=0x3", "LAST=1")  # a header each
        variables = "\r\nVariable: ".join(held)
        status = {"Event": "Status", "Uniqueid": "lab-1.1", "Variable": variables}
        others = {"Event": "Status", "Uniqueid": "lab-1.2", "Variable": "MIXMONITOR_ID=0x2"}
        spent = {"Event": "Status", "Uniqueid": "lab-1.3", "Variable": "PBXGUARD_MM_b_001="}
        fake.answers["Status"] = lambda action: listed(action, [status, others, spent], "StatusComplete")
        assert await ami.recorder.stop_all() == 2
        stopped = [(a["Channel"], a["MixMonitorID"]) for a in fake.asked if a["Action"] == "StopMixMonitor"]
        assert stopped == [("lab-1.1", "0x1"), ("lab-1.1", "0x3")]


async def test_a_recorder_in_the_place_of_a_leg_that_is_gone_is_stopped_and_no_other(sink: ListSink) -> None:
    """Its variable went to the channel that took the place; what has a handle, and what was stopped, stays alone."""
    async with fake_ami() as fake, running(fake, sink) as ami:
        replaced, runs, other = SEGMENT, SegmentId(f"{SEGMENT[:-1]}2"), Uniqueid("lab-1.6")
        await ami.recorder.start(LEG, replaced, OWN, OTHERS)
        await ami.recorder.start(other, runs, OWN, OTHERS)
        held = {LEG: replaced, other: runs}
        rows = [
            {"Event": "Status", "Uniqueid": on, "Variable": f"PBXGUARD_MM_{segment.replace('-', '_')}=0xfeed"}
            for on, segment in (("lab-1.9", held[LEG]), (other, held[other]))
        ]
        fake.answers["Status"] = lambda action: listed(action, rows, "StatusComplete")
        assert await ami.recorder.stop_strays() == 0
        fake.event("Hangup", Uniqueid=LEG)
        await until(lambda: ChannelHungUp(LEG) in sink.facts, "the hangup")
        assert await ami.recorder.stop_strays() == 1
        stopped = [(a["Channel"], a["MixMonitorID"]) for a in fake.asked if a["Action"] == "StopMixMonitor"]
        assert stopped == [("lab-1.9", "0xfeed")]


async def test_each_request_that_a_channel_still_holds_is_read(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        held = "PBXGUARD_SAID_OBJECT=yes\r\nVariable: PBXGUARD_SAID_PAUSE=yes\r\nVariable: PBXGUARD_SAID_PRIVATE="
        both = {"Event": "Status", "Uniqueid": "lab-1.1", "Variable": held}
        none = {"Event": "Status", "Uniqueid": "lab-1.2", "Variable": held.replace("yes", "(null)")}
        fake.answers["Status"] = lambda action: listed(action, [both, none], "StatusComplete")
        assert await ami.pbx.said() == {Uniqueid("lab-1.1"): (InCall.OBJECT, InCall.PAUSE)}
        (asked,) = [a["Variables"] for a in fake.asked if a["Action"] == "Status"]
        assert asked == "PBXGUARD_SAID_OBJECT,PBXGUARD_SAID_PAUSE,PBXGUARD_SAID_PRIVATE"


def _fit(recorder: MixMonitor, pbx: AmiPbx, sink: FactSink) -> tuple[ports.Recorder, ports.Pbx, ports.FactSink]:
    """No test: mypy holds that the adapter is what the service asks for."""
    return recorder, pbx, sink


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_variables_lamps_and_hangups_are_written_as_asterisk_wants_them(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        await ami.pbx.set_channel_variable(LEG, "CDR(pbxguard)", "REC:abcd")
        await ami.pbx.set_device_state(Endpoint("PJSIP/100"), "INUSE")
        fake.answers["Hangup"] = error("No such channel")
        await ami.pbx.hang_up(LEG)
        written = [a for a in fake.asked if a["Action"] in ("Setvar", "Hangup") and "BEAT" not in a.get("Variable", "")]
    shown = [{k: v for k, v in a.items() if k != "ActionID"} for a in written if "ALIVE" not in a.get("Variable", "")]
    assert shown == [
        {"Action": "Setvar", "Channel": LEG, "Variable": "CDR(pbxguard)", "Value": "REC:abcd"},
        {"Action": "Setvar", "Variable": "DEVICE_STATE(Custom:pbxguard-100)", "Value": "INUSE"},
        {"Action": "Hangup", "Channel": LEG},
    ]


async def test_a_channels_contact_is_asked_of_pjsip_and_none_is_no_error(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        target = {"is": ""}
        fake.answers["Getvar"] = lambda action: success(action, Value=target["is"])
        for uri, contact in (
            ("sip:112@192.0.2.1:5070;ob", "192.0.2.1:5070"),
            ("sip:192.0.2.1", "192.0.2.1:5060"),
            ("sips:112@[2001:DB8::1]:5061;transport=tls", "[2001:db8::1]:5061"),
            ("sip:a@b@c", ""),
            ("", ""),
        ):
            target["is"] = uri
            assert await ami.pbx.contact(LEG) == contact
        asked = [a for a in fake.asked if a["Action"] == "Getvar"][-1]
        assert (asked["Channel"], asked["Variable"]) == (LEG, "CHANNEL(pjsip,target_uri)")
        fake.answers["Getvar"] = error("No such channel")
        assert await ami.pbx.contact(LEG) == ""


async def test_lamps_that_are_lit_are_ours_and_not_dark(sink: ListSink) -> None:
    states = {
        "Custom:pbxguard-100": "INUSE",
        "Custom:pbxguard-101": "NOT_INUSE",
        "Custom:pbxguard-102": "ONHOLD",
        "Custom:DND100": "INUSE",
        "PJSIP/100": "INUSE",
    }
    shown = [{"Event": "DeviceStateChange", "Device": device, "State": state} for device, state in states.items()]
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.answers["DeviceStateList"] = lambda action: listed(action, shown, "DeviceStateListComplete")
        assert await ami.pbx.lit_lamps() == ("100", "102")


async def test_what_the_account_may_do_can_be_asked(sink: ListSink) -> None:
    async with fake_ami() as fake, running(fake, sink) as ami:
        fake.answers["ListCommands"] = lambda action: success(action, MixMonitor="Record. (Priv: system)", Ping="Ping.")
        assert await ami.pbx.permitted_actions() == {"MixMonitor", "Ping"}


async def test_no_log_line_holds_a_number(sink: ListSink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_ami() as fake, running(fake, sink):
        fake.event("Newchannel", Uniqueid="lab-1.1", Channel="PJSIP/100-1", CallerIDNum="0612345678")
        await until(lambda: len(sink.facts) == 3, "the channel")
    assert "0612345678" not in caplog.text


async def test_a_picture_that_was_asked_for_over_a_dead_connection_is_asked_for_again_over_the_next() -> None:
    """Both may be dead, and the one with events noticed first: its picture must not wait for what never comes."""
    sink = ListSink()
    async with fake_ami() as fake, running(fake, sink, tuning=replace(QUICK, picture_s=60.0, silence_s=3.0)) as ami:
        acting = next(peer for peer in fake.peers if not peer.events)
        fake.beats_come_back = False
        next(iter(fake.watchers)).cut()
        await until(lambda: ConnectionLost() in sink.facts, "the loss")
        await until(lambda: len(fake.watchers) == 1, "the next connection")
        fake.beats_come_back = True
        acting.cut()
        await until(lambda: ami.connected, "sight")
