"""A scripted AMI server: it answers as Asterisk does, unless a test tells it what to say instead.

`answers[ACTION]` replaces the answer to an action: a function of the action that gives the blocks to send, or
`SILENCE`. What was asked stands in `asked`, in order, over all connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic

from pbxguard.core.facts import BeatReturned, Fact
from pbxguard.pbx.ami.framing import PREFIXES, ROW

Block = dict[str, str]
Answer = Callable[[Block], list[Block]]

SECRET = "s3cret-of-the-fake"


def SILENCE(action: Block) -> list[Block]:
    return []


def success(action: Block, **headers: str) -> list[Block]:
    return [{"Response": "Success", **headers}]


def error(message: str) -> Answer:
    return lambda action: [{"Response": "Error", "Message": message}]


def listed(action: Block, entries: list[Block], complete: str) -> list[Block]:
    start = {"Response": "Success", "EventList": "start", "Message": "List will follow"}
    return [start, *entries, {"Event": complete, "EventList": "Complete", "ListItems": str(len(entries))}]


def as_asterisk(event: Block) -> Block:
    """With the row of headers that Asterisk puts into each event about a channel; what the test names stays."""
    made = dict(event)
    if "Event" in made and "ActionID" not in made:
        made = {"Event": made.pop("Event"), "Privilege": made.pop("Privilege", "call,all"), **made}
    for prefix in PREFIXES.get(event.get("Event", "").encode(), ()):
        row = {f"{prefix.decode()}{name}": "" for name in ("CallerIDNum", *(name.decode() for name in ROW))}
        given = {name: made.pop(name) for name in row if name in made}
        body = {name: made.pop(name) for name in list(made) if event["Event"] == "UserEvent" and name not in FIRST}
        made |= {**row, **given, **body}
    return made


FIRST = ("Event", "Privilege", "ActionID")


class Peer:
    """One connection to the fake."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.events = False

    def send(self, *blocks: Block) -> None:
        self.raw("".join(f"{_text(as_asterisk(block))}\r\n" for block in blocks).encode())

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def cut(self) -> None:
        self.writer.transport.abort()


def _text(block: Block) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in block.items())


class FakeAmi:
    """Listens on a free port. `channels` and `bridges` are what its lists show."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self.asked: list[Block] = []
        self.answers: dict[str, Answer] = {}
        self.globals: dict[str, str] = {}
        self.channels: list[Block] = []
        self.bridges: list[Block] = []
        self.started = "22:00:00"
        self.greeting = b"Asterisk Call Manager/11.0.0\r\n"
        self.beats_come_back = True
        self.on_list: Callable[[], None] = lambda: None

    @property
    def watchers(self) -> list[Peer]:
        """Connections that want events."""
        return [peer for peer in self.peers if peer.events]

    def event(self, name: str, **headers: str) -> None:
        """An event to everybody who wants events."""
        for peer in self.watchers:
            peer.send({"Event": name, **headers})

    def count(self, action: str) -> int:
        return sum(one["Action"] == action for one in self.asked)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer)
        self.peers.append(peer)
        peer.raw(self.greeting)
        try:
            while True:
                block = await reader.readuntil(b"\r\n\r\n")
                action = dict(line.split(": ", 1) for line in block.decode().split("\r\n") if ": " in line)
                self.asked.append(action)
                answer = self.answers.get(action["Action"], self._usual)
                for reply in answer(action):
                    first: Block = {key: reply[key] for key in ("Response", "Event") if key in reply}
                    peer.send({**first, "ActionID": action["ActionID"], **reply})
                self._after(peer, action)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled: the fake itself is closing
        finally:
            self.peers.remove(peer)
            writer.close()

    def _usual(self, action: Block) -> list[Block]:
        match action["Action"]:
            case "Login":
                if action["Secret"] != SECRET:
                    return error("Authentication failed")(action)
                return success(action, Message="Authentication accepted")
            case "CoreSettings":
                return success(action, AsteriskVersion="22.10.1", SystemName="fake")
            case "CoreStatus":
                return success(action, CoreStartupDate="2026-11-24", CoreStartupTime=self.started)
            case "CoreShowChannels":
                return listed(action, self.channels, "CoreShowChannelsComplete")
            case "BridgeList":
                self.on_list()
                return listed(action, self.bridges, "BridgeListComplete")
            case "Getvar":
                return success(action, Value=self.globals.get(action["Variable"], ""))
            case "MixMonitor":
                return success(action, Message="Started monitoring", MixMonitorID="0xfeed")
            case _:
                return success(action)

    def _after(self, peer: Peer, action: Block) -> None:
        match action["Action"]:
            case "Events":
                peer.events = True
            case "Setvar" if "Channel" not in action:
                name, value = action["Variable"], action["Value"]
                self.globals[name] = value
                if name != "PBXGUARD_BEAT" or self.beats_come_back:
                    self.event("VarSet", Channel="none", Uniqueid="none", Variable=name, Value=value)


@asynccontextmanager
async def fake_ami() -> AsyncIterator[FakeAmi]:
    fake = FakeAmi()
    server = await asyncio.start_server(fake._serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for peer in list(fake.peers):
            peer.cut()
        await server.wait_closed()


class WallClock:
    """Monotonic time and the UTC that belongs to it."""

    def now(self) -> float:
        return monotonic()

    def utc(self, moment: float | None = None) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=0.0 if moment is None else monotonic() - moment)


class ListSink:
    """Keeps every fact; `gate` closed makes `put` wait, as a guard that is behind does."""

    def __init__(self) -> None:
        self.all: list[Fact] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def put(self, fact: Fact) -> None:
        await self.gate.wait()
        self.all.append(fact)

    @property
    def facts(self) -> list[Fact]:
        """Without the beats."""
        return [fact for fact in self.all if not isinstance(fact, BeatReturned)]


POLL_S = 0.005


async def until(true: Callable[[], object], what: str, deadline_s: float = 10.0) -> None:
    """Polls until `true()`; AssertionError with `what` after as many looks as fit into the deadline.

    Looks are counted, not seconds: a machine that stands still for a while takes nobody's time away.
    """
    for _ in range(int(deadline_s / POLL_S)):
        if true():
            return
        await asyncio.sleep(POLL_S)
    assert true(), f"not after {deadline_s:g} s of looking: {what}"
