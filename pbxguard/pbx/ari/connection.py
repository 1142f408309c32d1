"""ARI on aiohttp: one WebSocket for events, a pool of HTTP connections for requests.

Owns reconnecting, the proof that the round trip works, and the mapping of foreign errors. Knows nothing of calls.
Asterisk does not notice a half-open socket, and with inbound WebSockets an application lives as long as its socket:
so both sides are pinged, and a beat of our own goes out by HTTP and must come back as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp

from pbxguard.core.errors import ActionRefused, ConnectionFailed
from pbxguard.logs import Event, get_logger

from .translate import BEAT, KNOWN, WANTED, AriEvent, BeatReturned, Replaced, translate

POOL = 60
"""HTTP connections at once; Asterisk allows 100 sessions (ASTERISK.md, "Load collapse")."""
UNPROVEN = 6
"""Connections at once on which Asterisk has answered nothing yet. It listens with a backlog of ten: what is beyond
gets lost, or is open for us alone."""
CONNECT_AGAIN = 0.1
"""Seconds. A connection that the backlog dropped would be tried again by the kernel after one second only, which is
all the time that a request has."""
MEND_REACH = "Is Asterisk running, with enabled=yes in http.conf and in ari.conf, at this address?"
MEND_LOGIN = "Compare the ari section with the user in ari.conf: name, password, read_only=no."

LARGEST_ANSWER = 16 << 20
"""Octets. A list of a thousand channels has about one million."""
CONNECTING = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_AGAIN)

_log = get_logger()


class ChannelNotOurs(ActionRefused):
    """404 or 409: the channel (or playback) is gone, or has left our application."""


@dataclass(frozen=True, slots=True)
class AriAddress:
    """`url` as far as ``/ari``, e.g. ``http://127.0.0.1:8088/ari``. The password is in no repr."""

    url: str
    username: str
    password: str = field(repr=False)
    application: str = "pbxguard"


@dataclass(frozen=True, slots=True)
class AriTiming:
    """Seconds."""

    request: float = 1.0
    connect: float = 5.0
    ping: float = 2.0
    """A WebSocket ping this often; no pong within half of it ends the connection."""
    first_backoff: float = 0.1
    most_backoff: float = 5.0


class AriConnection:
    """`run()` keeps one WebSocket up; `request()` may be used at any time.

    `on_event` is called in the order in which events came and must not block. `on_lost` is called when the stream
    of events broke: whatever happened since is unknown.
    """

    def __init__(
        self,
        address: AriAddress,
        *,
        on_event: Callable[[AriEvent], None],
        on_connected: Callable[[], Awaitable[None]],
        on_lost: Callable[[], None],
        timing: AriTiming | None = None,
    ) -> None:
        self._address = address
        self._on_event = on_event
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._timing = timing or AriTiming()
        self._headers = {
            "Authorization": aiohttp.encode_basic_auth(address.username, address.password),
            "Accept-Encoding": "identity",  # what is packed has no bound that shows
        }
        self._http: aiohttp.ClientSession | None = None
        self._connected = False
        self._complaint = ""
        self._replaced = False
        self._unknown: set[str] = set()
        self._beats = count(1)
        self._awaited: dict[str, asyncio.Future[None]] = {}

    @property
    def connected(self) -> bool:
        """Whether the WebSocket is up and the application registered."""
        return self._connected

    async def run(self) -> None:
        """Until cancelled: connect, read, and again after a pause that grows while it fails."""
        connector = aiohttp.TCPConnector(limit=POOL, keepalive_timeout=10)  # Asterisk closes idle ones after 15 s
        traces = [_one_by_one(UNPROVEN)]
        async with aiohttp.ClientSession(
            headers=self._headers, connector=connector, trace_configs=traces, auto_decompress=False
        ) as self._http:
            pause = self._timing.first_backoff
            while True:
                try:
                    if await self._connect_and_read():
                        pause = self._timing.first_backoff
                except ConnectionFailed as error:
                    self._complain(error)
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    # A group whose task fails as it is cancelled raises the failure and forgets that we are to end.
                    raise asyncio.CancelledError
                if self._replaced:  # no war with the other one at full speed
                    self._replaced, pause = False, self._timing.most_backoff
                # jitter, so that it is not in step with a failing Asterisk
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, self._timing.most_backoff)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """One request; `path` is below ``/ari`` with its parts quoted (`part`). Gives the JSON, or None for 204.

        Raises ChannelNotOurs (404, 409), ActionRefused (other answers), ConnectionFailed (none, in time).
        """
        if self._http is None:
            raise ConnectionFailed("ari", "not started")
        try:
            async with asyncio.timeout(seconds or self._timing.request):
                while True:
                    try:
                        return await self._exchange(self._http, method, path, params, body)
                    except aiohttp.ConnectionTimeoutError:
                        pass  # nothing was sent yet
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailed("ari", type(error).__name__, MEND_REACH) from error
        except TimeoutError as error:
            raise ConnectionFailed("ari", "no answer in time", MEND_REACH) from error
        except (ValueError, RecursionError) as error:
            raise ConnectionFailed("ari", "an answer that is not JSON", MEND_REACH) from error

    async def _exchange(
        self,
        http: aiohttp.ClientSession,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> Any:
        url = self._address.url + path
        async with http.request(method, url, params=params, json=body, timeout=CONNECTING) as answer:
            if answer.status in (404, 409):
                raise ChannelNotOurs(f"{answer.status}")
            if answer.status >= 400:
                raise ActionRefused(f"{answer.status}")
            text = bytearray()
            async for block in answer.content.iter_any():
                text += block
                if len(text) > LARGEST_ANSWER:
                    answer.close()
                    raise ValueError("too long")
            return json.loads(text) if text else None

    async def round_trip(self) -> None:
        """A beat out by HTTP, back as an event on our WebSocket. Raises ConnectionFailed or ActionRefused.

        This proves that requests and events work, and that the application is ours.
        """
        if not self._connected:
            raise ConnectionFailed("ari", "not connected", MEND_REACH)
        number = str(next(self._beats))
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited[number] = back
        try:
            await self.request(
                "POST",
                f"/events/user/{BEAT}",
                params={"application": self._address.application},
                body={"variables": {"number": number}},
            )
            async with asyncio.timeout(self._timing.request):
                await back
        except TimeoutError as error:
            raise ConnectionFailed("ari", "no event in time") from error
        finally:
            self._awaited.pop(number, None)

    async def _connect_and_read(self) -> bool:
        """True when it was connected for a while."""
        assert self._http is not None  # noqa: S101  (set by run)
        url = f"{self._address.url}/events"
        try:
            async with asyncio.timeout(self._timing.connect):
                socket = await self._http.ws_connect(
                    url, params={"app": self._address.application}, heartbeat=self._timing.ping, max_msg_size=2**20
                )
        except aiohttp.WSServerHandshakeError as error:
            mend = MEND_LOGIN if error.status in (401, 403) else MEND_REACH
            raise ConnectionFailed("ari", f"refused with {error.status}", mend) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionFailed("ari", type(error).__name__, MEND_REACH) from error
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._greet())
                await self._read(socket)
        except* (ConnectionFailed, ActionRefused) as failures:
            if not self._connected:
                self._complain(failures.exceptions[0])
        finally:
            was_connected, self._connected = self._connected, False
            self._on_lost()
            await socket.close()
        if was_connected:
            _log.warning(Event.ARI_LOST)
        return was_connected

    async def _greet(self) -> None:
        """Keep away what nobody needs, and look who is in the application already."""
        with contextlib.suppress(ActionRefused):  # then more comes than we need
            await self.request(
                "PUT",
                f"/applications/{self._address.application}/eventFilter",
                body={"allowed": [{"type": name} for name in WANTED]},
            )
        self._connected = True
        self._complaint = ""
        _log.info(Event.ARI_CONNECTED)
        await self._on_connected()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            self._take(message.data)
            if self._replaced:  # Asterisk leaves this connection open, and sends it nothing more
                break
        raise ConnectionFailed("ari", "the event stream ended", MEND_REACH)

    def _take(self, text: str) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        kind = str(message.get("type", ""))[:64] if isinstance(message, dict) else ""
        event = translate(message) if isinstance(message, dict) else None
        match event:
            case BeatReturned(number):
                if (back := self._awaited.get(number)) and not back.done():
                    back.set_result(None)
            case Replaced():
                self._replaced = True
                _log.error(Event.ARI_REPLACED)
            case None:
                if kind not in KNOWN and kind not in self._unknown and len(self._unknown) < 100:
                    self._unknown.add(kind)
                    _log.info(Event.ARI_UNKNOWN_EVENT, type=kind)
            case _:
                self._on_event(event)

    def _complain(self, error: Exception) -> None:
        """Once per change of state, not once per attempt."""
        complaint = str(error)
        if complaint != self._complaint:
            self._complaint = complaint
            mend = error.mend if isinstance(error, ConnectionFailed) else MEND_LOGIN
            _log.warning(Event.ARI_REFUSED, reason=complaint, mend=mend)


def _one_by_one(most: int) -> aiohttp.TraceConfig:
    """Makes a request that opens a connection wait until fewer than `most` others are the first on theirs."""
    places = asyncio.Semaphore(most)

    async def opens(_session: object, request: SimpleNamespace, _event: object) -> None:
        if not hasattr(request, "place"):
            await places.acquire()
            request.place = True

    async def answered(_session: object, request: SimpleNamespace, _event: object) -> None:
        if hasattr(request, "place"):
            del request.place
            places.release()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(opens)
    trace.on_request_end.append(answered)
    trace.on_request_exception.append(answered)
    return trace


def part(text: str) -> str:
    """One part of a path, quoted: ids may hold what a URL may not."""
    return quote(text, safe="")
