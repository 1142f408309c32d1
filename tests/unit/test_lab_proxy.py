"""The lab's proxy does to a connection what a test asks, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab.asterisk import LabError
from tests.lab.proxy import Cut, Proxy, Side, every, seeing_events, without_events

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
SECONDS = 5.0


def event(name: str, number: int) -> bytes:
    return f"Event: {name}\r\nNumber: {number}\r\n\r\n".encode()


class Pbx:
    """Sends its banner, then whatever a test writes to the connection; keeps what it read."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.read = bytearray()
        self.ended: list[str] = []
        self.news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BANNER)
        self.writers.append(writer)
        try:
            while data := await reader.read(1000):
                self.read += data
                await self._tell()
            self.ended.append("FIN")
        except ConnectionError:
            self.ended.append("RST")
        finally:
            writer.close()
            await self._tell()

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def until_read(self, text: bytes) -> None:
        async with asyncio.timeout(SECONDS), self.news:
            await self.news.wait_for(lambda: text in self.read)

    async def until_ended(self, count: int = 1) -> list[str]:
        async with asyncio.timeout(SECONDS), self.news:
            await self.news.wait_for(lambda: len(self.ended) >= count)
        return self.ended


@pytest_asyncio.fixture
async def pbx() -> AsyncIterator[Pbx]:
    yield Pbx()


@pytest_asyncio.fixture
async def proxy(pbx: Pbx) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(pbx.serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1], ami=True) as running:
        yield running
    server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: Proxy, pbx: Pbx, action: bytes = b"Ping") -> Client:
        """Once its action has come to the PBX."""
        client = cls(*await asyncio.open_connection("127.0.0.1", proxy.port))
        assert await client.line() == BANNER
        client.send(b"Action: " + action + b"\r\n\r\n")
        await pbx.until_read(action)
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readline()

    async def until(self, text: bytes) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self.reader.readuntil(text)

    async def is_silent(self) -> bool:
        """Whether nothing comes in 0.2 s; only after `release` something shows that it would have come."""
        try:
            async with asyncio.timeout(0.2):
                return not await self.reader.read(1)
        except TimeoutError:
            return True


async def test_without_a_fault_everything_passes_both_ways(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    for number in range(1000):
        pbx.writers[0].write(event("Newchannel", number))
    got = await client.until(b"Number: 999\r\n\r\n")
    assert got == b"".join(event("Newchannel", number) for number in range(1000))
    client.writer.close()
    assert await pbx.until_ended() == ["FIN"]


@pytest.mark.parametrize("how", list(Cut))
async def test_a_cut_ends_both_sides_as_asked(proxy: Proxy, pbx: Pbx, how: Cut) -> None:
    client = await Client.connect(proxy, pbx)
    assert proxy.cut(how) == 1
    assert await pbx.until_ended() == [how.value]
    try:
        assert await client.line() == b""
        seen = "FIN"
    except ConnectionResetError:
        seen = "RST"
    assert seen == how.value


async def test_only_the_connections_that_are_meant_are_cut(proxy: Proxy, pbx: Pbx) -> None:
    events, actions = await Client.connect(proxy, pbx, b"Events"), await Client.connect(proxy, pbx, b"Ping")
    assert proxy.cut(Cut.FIN, seeing_events) == 1
    assert await events.line() == b""
    pbx.writers[1].write(event("Newchannel", 1))
    assert await actions.line() == b"Event: Newchannel\r\n"
    assert proxy.cut(Cut.FIN, without_events) == 1
    assert await pbx.until_ended(2) == ["FIN", "FIN"]


async def test_who_is_held_is_told_late_and_not_at_all_before(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    assert proxy.hold(Side.TO_CLIENT, every) == 1
    pbx.writers[0].write(event("Hold", 1))
    client.send(b"Action: Other\r\n\r\n")  # the other way is open
    await pbx.until_read(b"Other")
    assert await client.is_silent()
    proxy.hold(Side.TO_SERVER)
    client.send(b"Action: Late\r\n\r\n")
    assert await client.is_silent()
    assert b"Late" not in pbx.read
    proxy.release()
    assert await client.until(b"\r\n\r\n") == event("Hold", 1)
    await pbx.until_read(b"Late")


async def test_the_end_of_one_side_is_held_back_as_well(proxy: Proxy, pbx: Pbx) -> None:
    """Which is what makes a connection half-open."""
    client = await Client.connect(proxy, pbx)
    proxy.hold()
    pbx.writers[0].close()
    assert await client.is_silent()
    proxy.release()
    assert await client.line() == b""


async def test_newcomers_are_held_or_refused_when_asked(proxy: Proxy, pbx: Pbx) -> None:
    proxy.hold(newcomers=True)
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await client.is_silent()
    proxy.release()
    assert await client.line() == BANNER
    port = proxy.port
    await proxy.shut()
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection("127.0.0.1", port)
    pbx.writers[0].write(event("Hold", 1))
    assert await client.line() == b"Event: Hold\r\n"
    await proxy.open()
    assert proxy.port == port
    await Client.connect(proxy, pbx)


async def test_a_delay_keeps_order_and_loses_nothing(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    loop = asyncio.get_running_loop()
    proxy.delay(0.3, Side.TO_CLIENT)
    sent = loop.time()
    pbx.writers[0].write(event("Hold", 1))
    pbx.writers[0].write(event("Hold", 2))
    assert await client.until(b"2\r\n\r\n") == event("Hold", 1) + event("Hold", 2)
    assert loop.time() - sent >= 0.3


async def test_events_are_dropped_and_doubled_one_by_one(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    lost = proxy.drop("Hold", lambda e: e["Number"] == "2")
    twice = proxy.double("Unhold", most=2)
    for number in (1, 2, 2):
        pbx.writers[0].write(event("Hold", number))
    for number in (4, 5, 6):
        pbx.writers[0].write(event("Unhold", number))
    got = await client.until(b"6\r\n\r\n")
    assert got == b"".join(
        event(name, n) for name, n in [("Hold", 1), ("Hold", 2), *(("Unhold", n) for n in (4, 4, 5, 5, 6))]
    )
    assert ([e["Number"] for e in lost.hits], [e["Number"] for e in twice.hits]) == (["2"], ["4", "5"])


async def test_a_message_in_two_pieces_is_one_message(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    lost = proxy.drop("Hold")
    whole = event("Hold", 1) + event("Hold", 2)
    for piece in (whole[:9], whole[9:30]):
        pbx.writers[0].write(piece)
        await pbx.writers[0].drain()
        await asyncio.sleep(0.05)
    pbx.writers[0].write(whole[30:])
    assert await client.until(b"\r\n\r\n") == event("Hold", 2)
    assert len(lost.hits) == 1


async def test_garbage_lands_in_the_middle_of_a_line_once(proxy: Proxy, pbx: Pbx) -> None:
    client = await Client.connect(proxy, pbx)
    proxy.inject(b"\xff\x00#")
    pbx.writers[0].write(event("Hold", 1))
    assert await client.line() == b"Event\xff\x00#: Hold\r\n"
    pbx.writers[0].write(event("Hold", 2))
    assert await client.until(b"2\r\n\r\n") == b"Number: 1\r\n\r\n" + event("Hold", 2)


async def test_events_can_only_be_told_apart_on_ami(pbx: Pbx) -> None:
    with pytest.raises(LabError):
        Proxy(1).drop("Hold")
    with pytest.raises(LabError):
        _ = Proxy(1).port
