"""A scripted ARI: answers requests over HTTP and sends events over a WebSocket, as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

CHANNEL = "lab-1700000000.1"


@dataclass
class FakeAri:
    """`requests` lists what came as ``METHOD path?query``; `answers` overrides by a prefix of that."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[], tuple[int, Any]]] = field(default_factory=dict)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    tx: int = 0
    rx: int = 50
    channels: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Of answers that are given as bytes."""
    silent: bool = False
    """Accept requests and never answer, as a frozen Asterisk does."""
    refuses: int = 0
    """The status by which a WebSocket is refused; 0 for none."""
    refused: int = 0
    """How many were."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    connections: int = 0

    async def send(self, kind: str, **fields: Any) -> None:
        """One event on the newest WebSocket."""
        await self.sockets[-1].send_json({"type": kind, "timestamp": stamp(), "application": "pbxguard", **fields})

    async def enters(self, *arguments: str, up: bool = True, channel: str = CHANNEL) -> None:
        """The channel comes to the application."""
        await self.send("StasisStart", args=list(arguments), channel=self.channel(channel, up))

    async def plays(self, started_s: float, finished_s: float, *, state: str = "done", sent: int = 24_000) -> str:
        """Waits for the next playback, and runs it; gives its id."""
        seen = len([r for r in self.requests if "/play/" in r])
        request = await self.until("/play/", after=max(0, seen - 1) if seen else 0)
        id = request.split("/play/")[1].split("?")[0]
        playback = {"id": id, "media_uri": "sound:x", "target_uri": f"channel:{CHANNEL}", "state": state}
        await self.send("PlaybackStarted", playback=playback, timestamp=stamp(started_s))
        self.tx += sent
        self.rx += 10
        await self.send("PlaybackFinished", playback=playback, timestamp=stamp(finished_s))
        return id

    async def until(self, text: str, *, after: int = 0, deadline_s: float = 5.0) -> str:
        """The request number `after` (from 0) that contains `text`; waits for it."""

        def found() -> list[str]:
            return [request for request in self.requests if text in request]

        async with asyncio.timeout(deadline_s), self.news:
            await self.news.wait_for(lambda: len(found()) > after)
        return found()[after]

    def seen(self, text: str) -> list[str]:
        return [request for request in self.requests if text in request]

    def channel(self, id: str = CHANNEL, up: bool = True) -> dict[str, Any]:
        return {
            "id": id,
            "name": "PJSIP/trunk-a-00000001",
            "state": "Up" if up else "Ring",
            "caller": {"name": "", "number": "+31612345678"},
            "dialplan": {"app_name": "Stasis", "app_data": "pbxguard,caller,x"},
        }

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path_qs.removeprefix("/ari")
        if request.path == "/ari/events":
            return await self._events(request)
        said = f"{request.method} {path}"
        async with self.news:
            self.requests.append(said)
            self.news.notify_all()
        if self.silent:
            await asyncio.sleep(3600)
        for prefix, answer in self.answers.items():
            if said.startswith(prefix):
                status, body = answer()
                if isinstance(body, bytes):
                    return web.Response(body=body, status=status, headers=self.headers)
                return web.json_response(body, status=status)
        if "/rtp_statistics" in path:
            return web.json_response({"txoctetcount": self.tx, "rxcount": self.rx})
        if request.method == "GET" and "/variable" in path:
            return web.json_response({"value": "(alaw)"})
        if request.path == "/ari/channels":
            return web.json_response(self.channels)
        if request.path.startswith("/ari/events/user/"):
            body = await request.json()
            await self.send("ChannelUserevent", eventname="PbxguardBeat", userevent=body["variables"])
            return web.Response(status=204)
        if "/play/" in path:
            return web.json_response({}, status=201)
        return web.Response(status=204)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != aiohttp.encode_basic_auth("pbxguard", "secret"):
            return web.Response(status=401)
        if self.refuses:
            self.refused += 1
            return web.Response(status=self.refuses)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with self.news:
            self.connections += 1
            self.sockets.append(socket)
            self.news.notify_all()
        async for _ in socket:
            pass
        return socket

    async def connected(self, times: int = 1) -> None:
        """Until the application connected so many times."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: self.connections >= times)


def stamp(seconds: float | None = None) -> str:
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


@asynccontextmanager
async def fake_ari() -> AsyncIterator[FakeAri]:
    fake = FakeAri()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake._answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"http://127.0.0.1:{port}/ari"
    try:
        yield fake
    finally:
        for socket in fake.sockets:
            await socket.close()
        await runner.cleanup()
