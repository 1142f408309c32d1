"""AMI and ARI peers that are no Asterisk, or one gone mad: bounded memory, nothing hangs, and back when it is well."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count, repeat

import pytest
import structlog.testing
from aiohttp import web

from pbxguard.core.announcement import Result, Timing
from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.facts import ChannelCreated, ConnectionLost
from pbxguard.core.reasons import Reason
from pbxguard.pbx.ami import wire
from pbxguard.pbx.ami.ami import Ami
from pbxguard.pbx.ami.connection import Tuning
from pbxguard.pbx.ari import connection as ari_connection
from pbxguard.pbx.ari.announcer import Announcer, Visit
from pbxguard.pbx.ari.connection import AriAddress, AriTiming
from tests.wire.fake_ami import SECRET, Block, FakeAmi, ListSink, WallClock, fake_ami, listed, until
from tests.wire.fake_ari import CHANNEL, FakeAri, fake_ari

QUICK = Tuning(login_s=0.5, answer_s=0.5, first_backoff_s=0.01, most_backoff_s=0.05, silence_s=1.0, beat_s=0.02)
MEGA = 1 << 20
MOST_MEMORY = 32 * MEGA
"""Octets that we, and the peer with what it sends, may have taken at the worst moment."""
QUEUED = Timing(silence=0.01, media_poll=0.01, media_wait=0.1, command=0.3, start=0.3, finish=0.3)


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY


# -- AMI -------------------------------------------------------------------------------------------------------------


Chunks = Callable[[], Iterator[bytes]]

NO_ASTERISK: dict[str, Chunks] = {
    "silence": lambda: iter(()),
    "a web server": lambda: iter([b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n<html></html>\r\n\r\n"]),
    "binary": lambda: repeat(bytes(range(256)) * 256, 40),
    "a line of 10 MB": lambda: iter([b"Asterisk Call Manager/11.0.0\r\n", *repeat(b"x" * 65536, 160)]),
    "headers of 10 MB": lambda: repeat(b"X-Header: y\r\n" * 5000, 160),
    "an endless banner": lambda: repeat(b"Asterisk Call Manager/11.0.0\r\n" * 2000),
    "endless empty messages": lambda: repeat(b"\r\n" * 500),
    "endless unknown events": lambda: repeat(b"Event: Nonsense\r\nX: " + b"\xff" * 2000 + b"\r\n\r\n"),
    "half an answer": lambda: iter([b"Asterisk Call Manager/11.0.0\r\n", b"Response: Succ"]),
}


@pytest.mark.parametrize("what", NO_ASTERISK)
async def test_whatever_answers_at_amis_port_is_left_in_time_and_told_once(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(ConnectionError, asyncio.CancelledError):
            for chunk in NO_ASTERISK[what]():
                writer.write(chunk)
                await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ami = Ami(host="127.0.0.1", port=port, username="u", secret="s", sink=ListSink(), clock=WallClock(), tuning=QUICK)
    caplog.set_level(logging.INFO, "pbxguard.ami")
    running = asyncio.create_task(ami.run())
    try:
        with bounded_memory():
            await until(lambda: connections >= 3, "it comes again", deadline_s=30)
        assert not running.done()
        assert not ami.connected
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
    told = [record.getMessage() for record in caplog.records if record.name == "pbxguard.ami"]
    assert 0 < len(told) <= 4, "two connections, a change of state each"


@asynccontextmanager
async def watched(fake: FakeAmi) -> AsyncIterator[tuple[Ami, ListSink]]:
    """A connected adapter."""
    sink = ListSink()
    ami = Ami(
        host="127.0.0.1",
        port=fake.port,
        username="pbxguard",
        secret=SECRET,
        sink=sink,
        clock=WallClock(),
        tuning=QUICK,
    )
    running = asyncio.create_task(ami.run())
    try:
        await until(lambda: ami.connected, "connected")
        yield ami, sink
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("actions", [False, True])
@pytest.mark.parametrize(
    ("nonsense", "fatal"),
    [
        (b"\0\xff\r\n\r\n", False),
        (b"Event: Hangup\r\n\r\n" * 500, False),
        (b"Event: Newchannel\r\nUniqueid: " + b"9" * 900_000 + b"\r\n\r\n", False),
        (b"Event: VarSet\r\n" + b"Variable: PBXGUARD_BEAT\r\n" * 20_000 + b"\r\n", False),
        (b"Response: Success\r\nActionID: nobody\r\n\r\n" * 500, False),
        (b"Event: DTMFEnd\r\nDigit: 99\r\nDirection: Received\r\nUniqueid: x\r\n\r\n", False),
        (b"x" * (10 * MEGA), True),
        (b"Event: X\r\n" + b"A: b\r\n" * (2 * MEGA), True),
    ],
)
async def test_nonsense_in_a_living_connection_disturbs_nothing_or_ends_that_connection(
    nonsense: bytes, fatal: bool, actions: bool
) -> None:
    async with fake_ami() as fake, watched(fake) as (ami, sink):
        with bounded_memory():
            before = len(fake.asked)
            victim = next(peer for peer in fake.peers if peer.events is not actions)
            victim.raw(nonsense)
            if fatal:
                await until(lambda: victim not in fake.peers, "the connection is given up")
            await until(lambda: ami.connected and len(fake.asked) > before, "it is, or is back, at work")

            looks = count()

            def seen() -> bool:
                if next(looks) % 50 == 0:  # seldom: while channels come, no snapshot holds
                    fake.event("Newchannel", Channel="PJSIP/100-1", Uniqueid="17.1", Linkedid="17.1")
                return any(isinstance(fact, ChannelCreated) and fact.channel == "17.1" for fact in sink.facts)

            await until(seen, "what comes after it is seen", 30.0)
        if fatal and not actions:
            assert any(isinstance(fact, ConnectionLost) for fact in sink.facts)


async def test_a_list_without_end_is_given_up_and_another_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST_ANSWER", MEGA)
    entry: Block = {"Event": "CoreShowChannel", "Channel": "PJSIP/x", "Uniqueid": "1", "More": "x" * 10_000}
    async with fake_ami() as fake, watched(fake) as (ami, _):
        fake.answers["CoreShowChannels"] = lambda action: listed(action, [entry] * 300, "CoreShowChannelsComplete")
        with bounded_memory(), pytest.raises(ConnectionFailed, match="without end"):
            await ami.act("CoreShowChannels")
        del fake.answers["CoreShowChannels"]
        await until(lambda: ami.connected, "connected again")


async def test_an_entry_of_a_list_keeps_the_first_of_a_header_that_comes_twice() -> None:
    """What follows in it may be of a caller's making."""
    async with fake_ami() as fake:
        fake.answers["CoreShowChannels"] = lambda action: listed(
            action,
            [
                {
                    "Event": "CoreShowChannel",
                    "Channel": "PJSIP/1-1",
                    "Uniqueid": "1.1",
                    "More": "1\r\nMore: 2",
                    "Linkedid": "1.1",
                }
            ],
            "CoreShowChannelsComplete",
        )
        async with watched(fake) as (ami, _):
            entries = await ami.act("CoreShowChannels")
            assert (entries[1]["Uniqueid"], entries[1]["More"]) == ("1.1", "1")


async def test_answers_that_cannot_be_matched_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_ami() as fake, watched(fake):
        for peer in fake.peers:
            peer.raw(b"Response: Success\r\nActionID: 1\r\nActionID: 2\r\n\r\n" * 1000)
        await asyncio.sleep(0.2)
    assert len([r for r in caplog.records if r.getMessage() == "ami.unreadable"]) <= 2


# -- ARI -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def door(fake: FakeAri) -> AsyncIterator[Announcer]:
    """An announcer that lets everybody go on, connected."""

    async def let_go(visit: Visit) -> None:
        await visit.leave(Result.REFUSED, (Reason.NEVER_RECORD,))

    pace = AriTiming(request=1.0, first_backoff=0.01, most_backoff=0.05, ping=0.5)
    announcer = Announcer(AriAddress(fake.url, "pbxguard", "secret"), let_go, pace)
    running = asyncio.create_task(announcer.run())
    try:
        await fake.connected()
        await until(lambda: announcer.connection.connected, "connected")
        yield announcer
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def works(fake: FakeAri, announcer: Announcer) -> None:
    """Somebody who comes now is let go on."""
    await until(lambda: announcer.connection.connected, "connected")
    before = len(fake.seen("/continue"))
    await fake.enters("caller", "x")
    await fake.until("/continue", after=before)


DEEP = "[" * 200_000
WRONG = [
    "",
    "null",
    "7",
    "[]",
    '"x"',
    "{",
    DEEP,
    '{"type":' + DEEP,
    json.dumps({"type": "StasisStart", "channel": None, "args": []}),
    json.dumps(
        {"type": "StasisStart", "channel": {"id": 1, "name": 2, "state": 3, "caller": {"number": 4}}, "args": 5}
    ),
    json.dumps({"type": "StasisEnd", "channel": {"id": {"not": "ours"}}}),
    json.dumps({"type": "PlaybackFinished", "playback": {"id": "x", "target_uri": "channel:nobody", "state": "done"}}),
    json.dumps({"type": "ChannelDtmfReceived", "digit": ["9"] * 1000, "channel": {"id": CHANNEL}}),
    json.dumps({"type": ["StasisStart"]}),
    json.dumps({"type": "Nonsense" * 10_000}),
    json.dumps({"type": "ChannelUserevent", "eventname": "PbxguardBeat", "userevent": {"number": 1e999}}),
]


async def test_events_of_no_sense_are_passed_over() -> None:
    async with fake_ari() as fake:
        with structlog.testing.capture_logs() as lines:
            async with door(fake) as announcer:
                for text in WRONG * 3:
                    await fake.sockets[-1].send_str(text)
                await works(fake, announcer)
                assert fake.connections == 1
        assert len([line for line in lines if line["event"] == "ari.unknown_event"]) <= 5
        assert max(len(str(line)) for line in lines) < 400


async def _raw(socket: web.WebSocketResponse, data: bytes) -> None:
    assert socket._req is not None
    assert socket._req.transport is not None
    socket._req.transport.write(data)


NO_EVENTS: list[Callable[[web.WebSocketResponse], Awaitable[None]]] = [
    lambda socket: socket.send_bytes(b"\0\xff"),
    lambda socket: socket.send_str('{"type":"' + "x" * (4 * MEGA) + '"}'),
    lambda socket: _raw(socket, b"\xff" * 1000),
    lambda socket: _raw(socket, b"HTTP/1.1 200 OK\r\n\r\n"),
]


async def test_what_is_no_event_ends_that_connection_and_another_is_made() -> None:
    async with fake_ari() as fake, door(fake) as announcer:
        with bounded_memory():
            for times, nonsense in enumerate(NO_EVENTS, start=2):
                with suppress(ConnectionError):
                    await nonsense(fake.sockets[-1])
                await fake.connected(times)
        await works(fake, announcer)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"<html>", {"Content-Type": "text/html"}),
        (b"\xff\xfe\0", {"Content-Type": "application/json; charset=nonsense"}),
        (DEEP.encode(), {}),
        (b'{"a":' * 50_000, {}),
        (b"[" + b"1," * (6 * MEGA) + b"1]", {}),
        (gzip.compress(b" " * (64 * MEGA), mtime=0), {"Content-Encoding": "gzip"}),
        (json.dumps([{"id": 1}, {"dialplan": {"app_name": "Stasis", "app_data": 5}}, None]).encode(), {}),
    ],
)
async def test_answers_of_no_sense_are_failures_of_that_request(
    body: bytes, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ari_connection, "LARGEST_ANSWER", 4 * MEGA)
    async with fake_ari() as fake:
        fake.headers = headers
        fake.answers["GET /channels"] = lambda: (200, body)
        async with door(fake) as announcer:
            with bounded_memory(), suppress(ConnectionFailed):
                await announcer.connection.request("GET", "/channels", seconds=3.0)
            fake.answers.clear()
            await works(fake, announcer)


@pytest.mark.parametrize(
    "value", ["null", "[]", "7", '{"value": null}', '{"txoctetcount": 1e999, "rxcount": "x"}', DEEP]
)
async def test_counters_of_no_sense_leave_the_caller_untold_and_let_him_go_on(value: str) -> None:
    from tests.wire.test_ari_announcer import HERE, Heard
    from tests.wire.test_ari_announcer import door as telling

    heard = Heard()
    async with telling(heard) as (fake, _):
        fake.answers[f"GET {HERE}/"] = lambda: (200, value.encode())
        await fake.enters("caller", "contract_evidence")
        await fake.until("/continue")
        await until(lambda: heard.outcomes, "told")
    assert not heard.outcomes[0].heard
