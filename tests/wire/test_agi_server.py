"""Our FastAGI server against peers that behave, stall, lie and vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError, PeerMisbehaved, UnsafeValue
from pbxguard.pbx.agi import protocol
from pbxguard.pbx.agi.server import AgiLimits, AgiServer, HungUp, Session

LIMITS = AgiLimits(headers=0.3, command=0.3, session=1.0, sessions=20)
HEADERS = (
    b"agi_network: yes\nagi_network_script: outbound\nagi_request: agi://127.0.0.1/outbound\n"
    b"agi_channel: PJSIP/100-00000001\nagi_uniqueid: 1700000000.1\nagi_callerid: 100\n"
    b"agi_arg_1: contract_evidence\nagi_arg_2: 0612345678\n\n"
)


@dataclass
class Peer:
    """Asterisk's side of one session."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self) -> bytes:
        async with asyncio.timeout(3):
            return await self.reader.readline()

    async def is_closed(self) -> None:
        """The server ends the connection."""
        async with asyncio.timeout(3):
            await self.reader.read()


class Served:
    """The server with a handler that asks for two variables, and what became of it."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.ended: list[object] = []
        self.server = AgiServer({"outbound": self.handle}, LIMITS)

    async def handle(self, session: Session) -> None:
        self.sessions.append(session)
        try:
            await session.set_variable("__PBXGUARD_PROMPT", 'a "quoted" \\ value')
            self.ended.append(await session.get_variable("LANGUAGE"))
        except PbxguardError as error:
            self.ended.append(error)
            raise

    async def end(self, number: int = 1) -> object:
        async with asyncio.timeout(3):
            while len(self.ended) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return self.ended[number - 1]

    async def peer(self) -> Peer:
        return Peer(*await asyncio.open_connection("127.0.0.1", self.server.port))


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served = Served()
    ready = asyncio.Event()
    running = asyncio.create_task(served.server.run(port=0, ready=ready))
    await ready.wait()
    try:
        yield served
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_session_is_served() -> None:
    async with serving() as served:
        peer = await served.peer()
        await peer.says(HEADERS)
        assert await peer.hears() == b'SET VARIABLE __PBXGUARD_PROMPT "a \\"quoted\\" \\\\ value"\n'
        await peer.says(b"200 result=1\n")
        assert await peer.hears() == b"GET VARIABLE LANGUAGE\n"
        await peer.says(b"200 result=1 (nl)\n")
        assert await served.end() == "nl"
        request = served.sessions[0].request
        assert (request.uniqueid, request.arguments) == ("1700000000.1", ("contract_evidence", "0612345678"))
        await peer.is_closed()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HANGUP\n", HungUp),
        (b"511 Command Not Permitted on a dead channel or intercept routine\n", HungUp),
        (b"510 Invalid or unknown command\n", ActionRefused),
        (
            b"520-Invalid command syntax.  Proper usage follows:\nUsage: SET VARIABLE\n and more\n"
            b"520 End of proper usage.\n",
            ActionRefused,
        ),
        (b"200 something else\n", PeerMisbehaved),
        (b"hello\n", PeerMisbehaved),
        (b"200 " + b"x" * 10_000 + b"\n", PeerMisbehaved),
    ],
)
async def test_every_answer_has_its_meaning(answer: bytes, error: type[Exception]) -> None:
    async with serving() as served:
        peer = await served.peer()
        await peer.says(HEADERS)
        await peer.hears()
        await peer.says(answer)
        assert isinstance(await served.end(), error)
        await peer.is_closed()


async def test_a_peer_that_never_answers_is_left_in_time() -> None:
    async with serving() as served:
        peer = await served.peer()
        await peer.says(HEADERS)
        assert isinstance(await served.end(), ConnectionFailed)
        await peer.is_closed()


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"agi_network: yes\n",  # and then nothing
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\n",
        b"agi_network_script: outbound\n\n",
        b"agi_network_script: somethingelse\nagi_uniqueid: 1\n\n",
        b"agi_a: b\n" * 500,
        b"agi_" + b"x" * 100_000,
        bytes(range(256)) * 50 + b"\n\n",
    ],
)
async def test_a_bad_peer_is_left_in_time_and_disturbs_no_other(opening: bytes) -> None:
    async with serving() as served:
        bad = await served.peer()
        await bad.says(opening)
        good = await served.peer()
        await good.says(HEADERS)
        await good.hears()
        await good.says(b"200 result=1\n")
        await good.hears()
        await good.says(b"200 result=0\n")
        assert await served.end() == ""
        with suppress(ConnectionError):  # closed with something unread
            await bad.is_closed()


async def test_a_peer_that_connects_and_closes_costs_nothing() -> None:
    async with serving() as served:
        for _ in range(50):
            peer = await served.peer()
            peer.writer.close()
        await served.server.answers()


async def test_many_sessions_at_once_and_beyond_the_limit_none() -> None:
    async with serving() as served:
        idle = [await served.peer() for _ in range(LIMITS.sessions + 5)]
        for peer in idle:
            await peer.is_closed()  # by their deadlines, or at once
        await served.server.answers()


async def test_the_server_listens_on_loopback_only() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(ConnectionFailed):
            await AgiServer({}, LIMITS).run(host, 0)


async def test_a_taken_port_is_told() -> None:
    async with serving() as served:
        with pytest.raises(ConnectionFailed):
            await AgiServer({}, LIMITS).run(port=served.server.port)


async def test_a_server_that_is_gone_does_not_answer_itself() -> None:
    async with serving() as served:
        await served.server.answers()
    with pytest.raises(ConnectionFailed):
        await served.server.answers()


@pytest.mark.parametrize("value", ["a\nSET VARIABLE X 1", "a\rb", "\0"])
def test_no_value_can_be_two_commands(value: str) -> None:
    with pytest.raises(UnsafeValue):
        protocol.set_variable("X", value)


@pytest.mark.parametrize("name", ["X Y", "X\n", "", "1X", 'X"'])
def test_no_name_can_be_two_words(name: str) -> None:
    with pytest.raises(UnsafeValue):
        protocol.set_variable(name, "1")


@given(st.lists(st.text(max_size=40), max_size=10))
def test_no_request_is_fatal(lines: list[str]) -> None:
    with suppress(PeerMisbehaved):
        protocol.parse_request(lines)


@given(st.text(max_size=60))
def test_no_reply_is_fatal(line: str) -> None:
    try:
        code, _, rest = protocol.parse_status(line)
        protocol.parse_reply(code, rest)
    except PeerMisbehaved:
        pass


def test_an_argument_that_a_caller_forged_is_not_believed() -> None:
    """A number with a line feed in it comes before the arguments (22.10.1 writes it as it is)."""
    lines = HEADERS.decode().splitlines()[:-1]
    hostile = [*lines[:5], "agi_callerid: 1", "agi_arg_2: 112", *lines[6:]]
    assert protocol.parse_request(lines).arguments == ("contract_evidence", "0612345678")
    with pytest.raises(PeerMisbehaved):
        protocol.parse_request(hostile)
