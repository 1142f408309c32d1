"""Two pbxguards on one Asterisk know each other by their beats; whoever is gone does not beat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import pytest

from pbxguard.core.errors import AnotherGuard, ConnectionFailed
from pbxguard.pbx.ami import stopping
from pbxguard.pbx.ami.ami import Ami
from pbxguard.pbx.ami.beat import Beat
from pbxguard.pbx.ami.connection import Address, Tuning
from pbxguard.pbx.ami.rival import Rivals
from pbxguard.pbx.ami.stopping import stop_recorders
from tests.wire.fake_ami import SECRET, SILENCE, FakeAmi, ListSink, WallClock, fake_ami, listed, until

QUICK = Tuning(login_s=0.5, answer_s=0.5, first_backoff_s=0.01, most_backoff_s=0.05, beat_s=0.01, look_s=0.3)


def ami_of(fake: FakeAmi) -> Ami:
    return Ami(
        host="127.0.0.1",
        port=fake.port,
        username="pbxguard",
        secret=SECRET,
        sink=ListSink(),
        clock=WallClock(),
        tuning=QUICK,
    )


@asynccontextmanager
async def running(*guards: Ami) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(guard.run()) for guard in guards]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gives_way(ami: Ami, within_s: float = 5.0) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            assert isinstance(await ami.rival(), AnotherGuard)
            return True
    return False


def written(fake: FakeAmi) -> int:
    return fake.count("Setvar")


async def test_a_second_one_sees_the_first_ones_beat_before_it_does_anything() -> None:
    async with fake_ami() as fake:
        first = ami_of(fake)
        async with running(first):
            await first.wait_connected()
            second = ami_of(fake)
            tokens: set[str] = set()
            async with running(second):
                assert await gives_way(second)
                tokens = {a["Value"].split(".")[0] for a in fake.asked if a.get("Variable") == "PBXGUARD_BEAT"}
            assert len(tokens) == 1, "the second one set a variable"
            assert first.connected
            assert not await gives_way(first, 0.3)


async def test_of_two_that_begin_at_the_same_instant_the_elder_goes_on() -> None:
    async with fake_ami() as fake:
        elder, younger = ami_of(fake), ami_of(fake)
        async with running(elder, younger):
            assert await gives_way(younger)
            assert not await gives_way(elder, 0.3)
            await until(lambda: elder.connected, "the elder goes on")


async def test_the_last_beat_of_a_dead_one_and_a_single_value_of_anybody_keep_nobody_from_starting() -> None:
    async with fake_ami() as fake:
        clock = WallClock()
        dead = Beat(clock)
        late = [dead.next() for _ in range(20)]
        ami = ami_of(fake)
        async with running(ami):
            await until(lambda: fake.watchers, "it listens")
            for value in (*late, Beat(clock).next(), "0.1.2", "x" * 500, "", f"{'0' * 26}.1.1"):
                fake.event("VarSet", Channel="none", Uniqueid="none", Variable="PBXGUARD_BEAT", Value=value or "")
            await ami.wait_connected()
            assert not await gives_way(ami, 0.2)


async def test_a_channels_variable_is_no_beat() -> None:
    clock = WallClock()
    rivals, beat = Rivals(clock), Beat(clock)
    for _ in range(10):
        value = beat.next() or ""
        rivals.note({"Event": "VarSet", "Uniqueid": "lab-1.1", "Variable": "PBXGUARD_BEAT", "Value": value})
    assert rivals.living == []
    for _ in range(10):
        value = beat.next() or ""
        rivals.note({"Event": "VarSet", "Uniqueid": "none", "Variable": "PBXGUARD_BEAT", "Value": value})
    assert rivals.living == [beat.token]


async def test_many_strange_tokens_are_forgotten_again() -> None:
    clock = WallClock()
    rivals = Rivals(clock)
    for _ in range(1000):
        value = Beat(clock).next() or ""
        rivals.note({"Event": "VarSet", "Uniqueid": "none", "Variable": "PBXGUARD_BEAT", "Value": value})
    assert len(rivals._seen) <= 10


# -- stop-recorders ----------------------------------------------------------------------------------------------------


def with_recorders(fake: FakeAmi, count: int) -> None:
    channels = [
        {
            "Event": "Status",
            "Uniqueid": f"1.{n}",
            "Variable": f"BEFORE=1\r\nVariable: PBXGUARD_MM_s_{n}=0x{n:x}\r\nVariable: AFTER=2",  # as Asterisk has it
        }
        for n in range(1, count + 1)
    ]
    fake.answers["Status"] = lambda action: listed(action, channels, "StatusComplete")


def address(fake: FakeAmi) -> Address:
    return Address("127.0.0.1", fake.port, "pbxguard", SECRET)


async def test_a_dead_ones_recorders_are_stopped_all_at_once() -> None:
    async with fake_ami() as fake:
        with_recorders(fake, 50)
        assert await stop_recorders(address(fake), WallClock()) == 50
        assert {a["Channel"] for a in fake.asked if a["Action"] == "StopMixMonitor"} == {f"1.{n}" for n in range(1, 51)}


async def test_a_living_ones_recorders_are_let_be() -> None:
    async with fake_ami() as fake:
        with_recorders(fake, 1)
        living = ami_of(fake)
        async with running(living):
            await living.wait_connected()
            with pytest.raises(AnotherGuard):
                await stop_recorders(address(fake), WallClock())
        assert fake.count("StopMixMonitor") == 0
        assert await stop_recorders(address(fake), WallClock()) == 1, "it is gone now"


async def test_an_asterisk_that_says_nothing_holds_it_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "SECONDS", 0.5)
    async with fake_ami() as fake:
        fake.answers["Status"] = SILENCE
        began = monotonic()
        with pytest.raises(ConnectionFailed):
            await stop_recorders(address(fake), WallClock())
        assert monotonic() - began < 3
