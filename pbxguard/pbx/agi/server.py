"""A FastAGI server: one task and one deadline for each session, and no session can disturb another.

FastAGI has no authentication: we listen on loopback and check the peer's address. Asterisk, once connected, waits
without end (ASTERISK.md): so every step has a deadline, and the connection is closed when one passes, upon which
Asterisk goes on in the dialplan.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError, PeerMisbehaved
from pbxguard.logs import Event, get_logger

from . import protocol
from .protocol import Reply, Request

_log = get_logger()


@dataclass(frozen=True, slots=True)
class AgiLimits:
    """Seconds, and sessions at once."""

    headers: float = 1.0
    command: float = 1.0
    session: float = 5.0
    """For everything; the dialplan takes the call back after 2 s anyway."""
    sessions: int = 500


class HungUp(PbxguardError):
    """The channel hung up (``HANGUP``), is dead (511), or Asterisk closed the connection."""

    code = "hung_up"


class Session:
    """One FastAGI session, on behalf of one channel."""

    def __init__(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: AgiLimits
    ) -> None:
        self.request = request
        self._reader, self._writer, self._limits = reader, writer, limits

    async def set_variable(self, name: str, value: str) -> None:
        """Raises HungUp, ActionRefused, ConnectionFailed (no answer in time), PeerMisbehaved, UnsafeValue."""
        await self.command(protocol.set_variable(name, value))

    async def get_variable(self, name: str) -> str:
        """Its value; empty when it is not set. Raises as `set_variable`."""
        return (await self.command(protocol.get_variable(name))).data

    async def command(self, line: str) -> Reply:
        """One command, already safe; its reply."""
        try:
            async with asyncio.timeout(self._limits.command):
                self._writer.write(line.encode() + b"\n")
                await self._writer.drain()
                reply = await self._reply()
        except TimeoutError as error:
            raise ConnectionFailed("agi", "no answer in time") from error
        except OSError as error:
            raise HungUp("the connection is gone") from error
        if reply.code == 511:
            raise HungUp("the channel is dead")
        if reply.code != 200:
            raise ActionRefused(f"{reply.code}")
        return reply

    async def _reply(self) -> Reply:
        while True:
            line = await _line(self._reader)
            if line == "HANGUP":  # may come between any two replies
                raise HungUp("hung up")
            code, more, rest = protocol.parse_status(line)
            if not more:
                return protocol.parse_reply(code, rest)
            for _ in range(protocol.MOST_HEADERS):
                if (await _line(self._reader)).startswith(f"{code} "):
                    return Reply(code)
            raise PeerMisbehaved("a reply without end")


Handler = Callable[[Session], Awaitable[None]]


class AgiServer:
    """`handlers` by the script's name, e.g. ``outbound`` for ``agi://127.0.0.1:4573/outbound``."""

    def __init__(self, handlers: Mapping[str, Handler], limits: AgiLimits | None = None) -> None:
        self._handlers = handlers
        self._limits = limits or AgiLimits()
        self._sessions: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def run(self, host: str = "127.0.0.1", port: int = 4573, *, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. Raises ConnectionFailed when the address is not loopback or is taken."""
        if not _is_loopback(host):
            raise ConnectionFailed("agi", "listens on loopback only", "FastAGI has no authentication.")
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=protocol.LONGEST_LINE, backlog=256)
        except OSError as error:
            raise ConnectionFailed("agi", "the port is taken", "Is another pbxguard running here?") from error
        self.port = server.sockets[0].getsockname()[1]
        _log.info(Event.AGI_LISTENING, port=self.port)
        try:
            if ready is not None:
                ready.set()
            await asyncio.Event().wait()
        finally:
            # Not `async with`: since Python 3.12 that waits for every peer to leave, and a peer may never leave.
            server.close()
            for session in self._sessions:
                session.cancel()

    async def answers(self, host: str = "127.0.0.1") -> None:
        """Asks itself, as Asterisk would: raises ConnectionFailed when no answer comes in time."""
        try:
            async with asyncio.timeout(self._limits.command):
                reader, writer = await asyncio.open_connection(host, self.port)
                try:
                    writer.write(b"agi_network_script: alive\nagi_uniqueid: self\n\n")
                    await writer.drain()
                    if await reader.readline() != b'VERBOSE "alive" 4\n':
                        raise ConnectionFailed("agi", "a wrong answer")
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise ConnectionFailed("agi", "no answer in time") from error

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._sessions.add(task)
        try:
            async with asyncio.timeout(self._limits.session):
                await self._serve(reader, writer)
        except TimeoutError:
            _log.warning(Event.AGI_FAILED, reason="no end in time")
        except HungUp:
            pass  # callers may hang up at any moment
        except (PbxguardError, OSError) as error:
            _log.warning(Event.AGI_FAILED, reason=type(error).__name__)
        except Exception as error:  # a fault in one session stays there
            _log.error(Event.AGI_FAILED, reason=type(error).__name__, exc_info=error)
        finally:
            self._sessions.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(self._limits.command):
                    await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if not peer or not _is_loopback(peer[0]):
            _log.warning(Event.AGI_PEER_REFUSED)
            return
        if len(self._sessions) > self._limits.sessions:
            _log.warning(Event.AGI_FAILED, reason="too many sessions")
            return
        request = await self._read_request(reader)
        if request.script == "alive":
            writer.write(b'VERBOSE "alive" 4\n')
            await writer.drain()
            return
        handler = self._handlers.get(request.script)
        if handler is None:
            raise PeerMisbehaved("no such script")
        await handler(Session(request, reader, writer, self._limits))

    async def _read_request(self, reader: asyncio.StreamReader) -> Request:
        lines: list[str] = []
        try:
            async with asyncio.timeout(self._limits.headers):
                while line := await _line(reader):
                    lines.append(line)
                    if len(lines) > protocol.MOST_HEADERS:
                        raise PeerMisbehaved("too many headers")
        except TimeoutError as error:
            raise PeerMisbehaved("no request in time") from error
        return protocol.parse_request(lines)


async def _line(reader: asyncio.StreamReader) -> str:
    """One line without its end. Raises HungUp at the end of the stream, PeerMisbehaved when it is too long."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        raise HungUp("the connection ended") from error
    except asyncio.LimitOverrunError as error:
        raise PeerMisbehaved("a line too long") from error
    except ConnectionError as error:
        raise HungUp("the connection is gone") from error
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
