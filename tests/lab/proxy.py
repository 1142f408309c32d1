"""Owns: a TCP proxy on loopback that a test breaks at will, between pbxguard and Asterisk's AMI or HTTP port.

It cuts (FIN or RST), holds back (a half-open connection: it stands, and nothing comes through), delays, puts bytes
into the middle of a line, and on AMI drops or doubles the events that a test names. What was held back comes late when
it is let through again, as TCP would have it. "Client" is who connects to the proxy, "server" is whom it stands for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from types import TracebackType
from typing import TypeAlias

from tests.lab.asterisk import LabError

HOST = "127.0.0.1"
READ = 256 * 1024
BLOCK_END = b"\r\n\r\n"
ACTION = b"action:"

Event: TypeAlias = Mapping[str, str]


def every_event(_event: Event) -> bool:
    """All events of the name."""
    return True


class Side(Flag):
    """Which way bytes go."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


class Cut(Enum):
    """How a connection ends: in order, or as if the machine had lost it."""

    FIN = "FIN"
    RST = "RST"


@dataclass
class Rule:
    """An AMI event of this name (``*``: of any) that `matches` is sent `copies` times; at most `most`: `hits`."""

    name: str
    matches: Callable[[Event], object]
    copies: int
    most: int
    hits: list[Event] = field(default_factory=list)

    def applies(self, event: Event) -> bool:
        wanted = len(self.hits) < self.most and self.name in ("*", event.get("Event")) and bool(self.matches(event))
        if wanted:
            self.hits.append(event)
        return wanted


class Pipe:
    """One direction of one connection: reads at once, delivers when it is allowed and due."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._some = asyncio.Event()
        self.open = asyncio.Event()
        """Unset: nothing is delivered."""
        self.open.set()
        self.delay_s = 0.0
        self.change: Callable[[bytes], list[bytes]] = lambda data: [data]
        """What is sent in place of what was read."""

    async def read(self) -> None:
        """Until the sender ends; an empty chunk stands for that end, and waits its turn."""
        while True:
            try:
                data = await self._reader.read(READ)
            except ConnectionError:
                data = b""
            self._waiting.extend((time.monotonic(), piece) for piece in (self.change(data) if data else [b""]))
            self._some.set()
            if not data:
                return

    async def deliver(self) -> None:
        """Until the end is delivered, or the receiver is gone."""
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            came, data = self._waiting[0]
            await asyncio.sleep(max(0.0, came + self.delay_s - time.monotonic()))
            await self.open.wait()
            self._waiting.popleft()
            if not data:
                return
            try:
                self._writer.write(data)
                await self._writer.drain()
            except ConnectionError:
                return


class Connection:
    """One client's connection and ours to the server for it."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        said: bytearray,
    ) -> None:
        self._writers = (client[1], server[1])
        self.to_server = Pipe(client[0], server[1])
        self.to_client = Pipe(server[0], client[1])
        self.to_server.change = self._note
        self.actions: set[str] = set()
        """On AMI: the names of the actions that the client has sent."""
        self.is_websocket = False
        """On HTTP: whether the client asked for one."""
        self._said = said

    @property
    def sees_events(self) -> bool:
        """On AMI: whether it asked for events."""
        return "Events" in self.actions

    def pipes(self, side: Side) -> list[Pipe]:
        return [
            *([self.to_server] if side & Side.TO_SERVER else []),
            *([self.to_client] if side & Side.TO_CLIENT else []),
        ]

    async def run(self) -> None:
        """Until one side has ended; then the other is ended too."""
        pipes = self.pipes(Side.BOTH)
        reading = [asyncio.create_task(pipe.read()) for pipe in pipes]
        ending = [asyncio.create_task(pipe.deliver()) for pipe in pipes]
        try:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*reading, *ending):
                task.cancel()
            await asyncio.gather(*reading, *ending, return_exceptions=True)
            self.cut(Cut.FIN)

    def cut(self, how: Cut) -> None:
        """End it towards both sides."""
        for writer in self._writers:
            if how is Cut.RST and not writer.transport.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()

    def _note(self, data: bytes) -> list[bytes]:
        self.is_websocket = self.is_websocket or b"upgrade: websocket" in data.lower()
        self._said += data
        for line in data.split(b"\r\n"):
            if line[: len(ACTION)].lower() == ACTION:
                self.actions.add(line[len(ACTION) :].strip().decode(errors="replace"))
        return [data]


Which: TypeAlias = Callable[[Connection], bool]


def every(_connection: Connection) -> bool:
    """All connections."""
    return True


def seeing_events(connection: Connection) -> bool:
    """AMI connections that asked for events."""
    return connection.sees_events


def without_events(connection: Connection) -> bool:
    """AMI connections that send actions only."""
    return not connection.sees_events


def websockets(connection: Connection) -> bool:
    return connection.is_websocket


class Proxy:
    """`await open()`, or `async with`; connect to `port`. `ami`: what the server sends is read as AMI."""

    def __init__(self, target: int, *, ami: bool = False) -> None:
        """`target`: the server's port on loopback."""
        self._target, self._ami = target, ami
        self._server: asyncio.Server | None = None
        self._port = 0
        self._rules: list[Rule] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._hold_newcomers = Side(0)
        self._garbage: list[tuple[Which, bytes]] = []
        self.connections: list[Connection] = []
        """Those that stand now, oldest first."""
        self.accepted = 0
        self.said = bytearray()
        """All that clients sent, over all connections, each piece as it came."""

    async def __aenter__(self) -> Proxy:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """Where it listens; the same one however often it was shut and opened."""
        if not self._port:
            raise LabError("the proxy was never opened")
        return self._port

    async def open(self) -> None:
        """Listen; connections are taken."""
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def shut(self) -> None:
        """Listen no more: who connects is refused. What stands goes on."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await asyncio.sleep(0)

    async def close(self) -> None:
        """The end of it, and of all its connections."""
        await self.shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- faults ------------------------------------------------------------------------------------------------------

    def cut(self, how: Cut, which: Which = every) -> int:
        """End the connections that stand; gives how many. A client may connect anew at once (see `shut`)."""
        found = [one for one in self.connections if which(one)]
        for connection in found:
            connection.cut(how)
        return len(found)

    def hold(self, side: Side = Side.BOTH, which: Which = every, *, newcomers: bool = False) -> int:
        """Black hole: nothing more comes through this way; gives on how many connections. Ended by `release`."""
        found = [one for one in self.connections if which(one)]
        for connection in found:
            for pipe in connection.pipes(side):
                pipe.open.clear()
        if newcomers:
            self._hold_newcomers = side
        return len(found)

    def release(self) -> None:
        """Let everything through again; what was held back comes late."""
        self._hold_newcomers = Side(0)
        for connection in self.connections:
            for pipe in connection.pipes(Side.BOTH):
                pipe.open.set()

    def delay(self, seconds: float, side: Side = Side.BOTH, which: Which = every) -> None:
        """Everything that comes from now on comes so much later; 0 ends it."""
        for connection in self.connections:
            if which(connection):
                for pipe in connection.pipes(side):
                    pipe.delay_s = seconds

    def inject(self, data: bytes, which: Which = every) -> None:
        """Put these bytes into the middle of the next line (or frame) that the server sends on such a connection."""
        self._garbage.append((which, data))

    def drop(self, name: str, matches: Callable[[Event], object] = every_event, *, most: int = 1) -> Rule:
        """The next `most` AMI events of this name that match never arrive."""
        return self._rule(Rule(name, matches, 0, most))

    def double(self, name: str, matches: Callable[[Event], object] = every_event, *, most: int = 1) -> Rule:
        """The next `most` AMI events of this name that match arrive twice."""
        return self._rule(Rule(name, matches, 2, most))

    def _rule(self, rule: Rule) -> Rule:
        if not self._ami:
            raise LabError("this proxy does not read AMI")
        self._rules.append(rule)
        return rule

    # -- serving -----------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy is closed
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            server = await asyncio.open_connection(HOST, self._target)
        except OSError:
            return  # as the server would have it: the client sees an end
        connection = Connection((reader, writer), server, self.said)
        for pipe in connection.pipes(self._hold_newcomers):
            pipe.open.clear()
        connection.to_client.change = _Blocks(self, connection).change if self._ami else self._in_mid_line(connection)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)

    def _in_mid_line(self, connection: Connection) -> Callable[[bytes], list[bytes]]:
        return lambda data: [self.spoil(data, connection)]

    def spoil(self, data: bytes, connection: Connection) -> bytes:
        """Put what is to be injected here into the middle of these bytes."""
        due = [item for item in self._garbage if item[0](connection)]
        self._garbage = [item for item in self._garbage if item not in due]
        line = data.find(b"\r\n")
        middle = (line if line > 0 else len(data)) // 2
        return data[:middle] + b"".join(garbage for _, garbage in due) + data[middle:]

    def copies(self, block: bytes) -> int:
        """How often an AMI message is to be sent on."""
        if not self._rules or not block.startswith(b"Event: "):
            return 1
        event = _parsed(block)
        for rule in self._rules:
            if rule.applies(event):
                return rule.copies
        return 1


class _Blocks:
    """What an AMI server sends, message by message; its banner is a line of its own."""

    def __init__(self, proxy: Proxy, connection: Connection) -> None:
        self._proxy, self._connection = proxy, connection
        self._rest = b""
        self._banner = False

    def change(self, data: bytes) -> list[bytes]:
        self._rest += data
        done: list[bytes] = []
        if not self._banner and b"\r\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\r\n")
            done.append(line + b"\r\n")
            self._banner = True
        *blocks, self._rest = self._rest.split(BLOCK_END)
        whole = b"".join((block + BLOCK_END) * self._proxy.copies(block) for block in blocks)
        if whole:
            done.append(self._proxy.spoil(whole, self._connection))
        return done


def _parsed(block: bytes) -> Event:
    pairs = (line.partition(": ") for line in block.decode(errors="replace").split("\r\n"))
    return {key: value for key, colon, value in pairs if colon}
