"""Peers that lie, stall or flood, beside calls on the real Asterisk: a bad one is left, a good one is served as usual.

One installation. While FastAGI peers of every bad kind hang on its server, an outbound call asks it and its callee is
told. Then nonsense is put into the living AMI and ARI connections of a recorded call, and thrown at the API's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.evidence import prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, Phones
from tests.lab.proxy import seeing_events, websockets, without_events
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
TALK_S = 2.5
OUTBOUND = "contract_evidence.nl.notice.outbound"
INBOUND = "contract_evidence.nl.notice.inbound"
MOST_WAIT_S = 2.0
"""What the dialplan gives the FastAGI server at most."""
MEGA = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(proxied=True) as running:
        yield running


Bad = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REQUEST = (
    b"agi_network: yes",
    b"agi_network_script: outbound",
    b"agi_channel: PJSIP/100-00000001",
    b"agi_uniqueid: 1700000000.1",
    b"agi_callerid: 100",
    b"agi_arg_1: contract_evidence",
    b"agi_arg_2: 0612345678",
    b"",
)


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def binary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 100)
    await reader.read()


async def over_long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(160):
        writer.write(b"agi_" + b"x" * 65536)
        await writer.drain()
    await reader.read()


async def a_byte_a_second(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"\n".join(REQUEST):
        writer.write(bytes([byte]))
        await asyncio.sleep(1.0)


async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\n".join(REQUEST) + b"\n")
    await reader.read()


async def endless_usage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\n".join(REQUEST) + b"\n")
    await reader.readline()
    while not reader.at_eof():
        writer.write(b"520-Usage\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.01)


def hangs_up_after(steps: int, *, says_so: bool) -> Bad:
    """Gone after so many lines of the request, and then after so many commands."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in REQUEST[:steps]:
            writer.write(line + b"\n")
        for _ in range(steps - len(REQUEST)):
            await reader.readline()
            writer.write(b"200 result=1\n")
        if says_so:
            writer.write(b"HANGUP\n")
            await reader.read()

    return peer


BAD: list[Bad] = [
    *[silent] * 20,
    *[binary] * 5,
    *[over_long] * 3,
    *[a_byte_a_second] * 10,
    *[never_answers] * 20,
    *[endless_usage] * 3,
    *(hangs_up_after(steps, says_so=says_so) for steps in range(len(REQUEST) + 7) for says_so in (True, False)),
]


async def besiege(port: int, peers: list[Bad]) -> None:
    """All of them at once, again and again, until cancelled."""

    async def one(peer: Bad) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    async with asyncio.timeout(8):
                        await peer(reader, writer)
                except TimeoutError:
                    pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(one(peer))


async def outbound(site: Installation, agent: Phone, callee: Phone, number: str) -> float:
    """The agent calls; the callee is told and recorded. Gives the seconds until the callee's phone rang."""
    began = asyncio.get_running_loop().time()
    before = len(callee.calls)
    own = await agent.call(number)
    leg = await callee.incoming(after=before, deadline_s=20)
    rang = asyncio.get_running_loop().time() - began
    await own.answered(20)
    await until_recorded(site, number)
    await own.talk(TALK_S)
    await own.hangup()
    heard, said = await measure.pair(await leg.ended())
    told = measure.prompt_end(heard, prompt(site, OUTBOUND))
    assert measure.first_heard(heard, AGENT_HZ) >= told
    recorded = measure.recorded(await site.sealed(number), said, CUSTOMER)
    assert recorded.seconds > TALK_S - 0.8
    return rang


async def test_bad_peers_of_the_fastagi_server_disturb_no_good_one(site: Installation, phones: Phones) -> None:
    lab = site.asterisk
    agent = await phones.add(lab.line("100"), sends=Tone(AGENT_HZ), name="peers-agent")
    callee = await phones.add(lab.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.1), name="peers-callee")
    try:
        siege = asyncio.create_task(besiege(lab.agi_port, BAD))
        try:
            await asyncio.sleep(1.0)
            assert await outbound(site, agent, callee, "+31612346001") < MOST_WAIT_S + 1.0
            flood = [asyncio.open_connection("127.0.0.1", lab.agi_port) for _ in range(400)]
            idle = [one for one in await asyncio.gather(*flood, return_exceptions=True) if isinstance(one, tuple)]
            assert len(idle) > 300
            assert await outbound(site, agent, callee, "+31612346002") < MOST_WAIT_S + 1.0
            for _, writer in idle:
                writer.transport.abort()
        finally:
            siege.cancel()
            await asyncio.gather(siege, return_exceptions=True)
        assert (await site.status())["ready"]
        for line in site.log().splitlines():
            assert json.loads(line)["event"] != "task.failed"
    finally:
        await phones.remove(callee)
        await phones.remove(agent)


async def recorded_call(
    site: Installation, phones: Phones, number: str, disturb: Callable[[], Awaitable[None]]
) -> measure.Recorded:
    """An inbound call that is disturbed in the middle, and what was recorded of it in all."""
    lab = site.asterisk
    customer = await phones.add(lab.line("trunk-a"), sends=CUSTOMER, name=f"peers-{number}")
    agent = await phones.add(lab.line("101"), sends=Tone(AGENT_HZ), name=f"peers-{number}-agent")
    try:
        call = await customer.call("31201234101", caller_id=number)
        await (await agent.incoming(deadline_s=20)).answered()
        await until_recorded(site, number)
        await call.talk(TALK_S)
        await disturb()
        await until_recorded(site, number)
        await call.talk(TALK_S)
        await call.hangup()
        heard, said = await measure.pair(call)
        told = measure.prompt_end(heard, prompt(site, INBOUND))
        found = measure.recorded(await site.sealed(number), said, CUSTOMER)
        assert found.first_s > told
        return found
    finally:
        await phones.remove(agent)
        await phones.remove(customer)


async def test_nonsense_in_living_connections_costs_a_recording_no_more_than_a_lost_one(
    site: Installation, phones: Phones
) -> None:
    async def disturb() -> None:
        # In mid-line: what stood there is not known any more, and that costs the connection, once each.
        for nonsense, which, lost in (
            (b"\r\n\r\n\xff\xfe\r\n\r\nEvent: Hangup\r\nUniqueid: 1.1\r\n\r\n", seeing_events, 1),
            (b"\r\n\r\n\xff\xfe\r\n\r\nEvent: Hangup\r\nUniqueid: 1.1\r\n\r\n", without_events, 2),
            (b"x" * (10 * MEGA), seeing_events, 3),
        ):
            # Not while one is being set up again: that would be the failure of a connection that does not live yet.
            await _until(partial(_all_again, site, "ami"))
            site.ami_proxy.inject(nonsense, which)
            await _until(partial(_lost, site, lost))
        await _until(partial(_all_again, site, "ami"))
        await _until(partial(_all_again, site, "ari"))
        before = len(site.events("ari.lost"))
        site.ari_proxy.inject(b"\xff" * 5000, websockets)
        await _until(lambda: len(site.events("ari.lost")) > before)
        await _until(partial(_all_again, site, "ari"))
        await _until_ready(site)

    recorded = await recorded_call(site, phones, "+31612346003", disturb)
    assert recorded.seconds > 2 * TALK_S - 1.6
    assert [e["connection"] for e in site.events("ami.lost")] == ["events", "actions", "events"]
    assert len(site.events("ari.lost")) <= 2


def _lost(site: Installation, times: int) -> bool:
    return len(site.events("ami.lost")) >= times


def _all_again(site: Installation, which: str) -> bool:
    """As often connected as lost, and once more: for each connection."""
    connected = Counter(e.get("connection") for e in site.events(f"{which}.connected"))
    lost = Counter(e.get("connection") for e in site.events(f"{which}.lost"))
    return bool(connected) and all(times == lost[name] + 1 for name, times in connected.items())


async def _until(true: Callable[[], bool], deadline_s: float = 30.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _until_ready(site: Installation) -> None:
    async with asyncio.timeout(20):
        while not (await site.status()).get("ready"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_nonsense_at_the_services_socket_disturbs_nobody(site: Installation) -> None:
    nonsense = [
        b"",
        b"\0" * 5000,
        b"GET " + b"/x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /calls HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"GET /calls/why?who=" + b"%00%0d%0a" * 20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /calls/why?since=9999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /switch/on HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{",
        b"POST /switch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]

    async def one(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(site.socket))
        try:
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(data)
                await writer.drain()
                async with asyncio.timeout(2):
                    return await reader.read(65536)
            return b""
        finally:
            writer.transport.abort()

    answers = await asyncio.gather(*(one(data) for data in nonsense * 5))
    for answer in answers:
        assert answer == b"" or answer.split()[1] in (b"200", b"400", b"404", b"405", b"422", b"431"), answer[:200]
        assert b"root:" not in answer
    assert (await site.status())["ready"]
    assert site.events("api.failed") == []
