"""Owns: an ARI application of an installation's own, beside pbxguard's: it bridges calls and transfers them itself.

It calls an agent for each caller that enters, and asks Asterisk to tell it of a REFER instead of acting on it
(`ChannelTransfer`, from 20.13 and 22.3 on): then it calls the wanted number, bridges it with the two, and tells the
agent's phone that the transfer has worked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp

from tests.lab.asterisk import Asterisk, LabError


class Desk:
    """One application; `events` has what it was told."""

    def __init__(self, asterisk: Asterisk, name: str, http: aiohttp.ClientSession) -> None:
        self._asterisk, self.name, self._http = asterisk, name, http
        self.events: list[dict[str, Any]] = []
        self._transferred = False
        self.joined = asyncio.Event()
        """Set it for the agent of a transfer to leave: until then the three are together."""

    async def post(self, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        """POST to ARI; raises for any answer but a good one."""
        async with self._http.post(f"{self._asterisk.ari_url}{path}", params=query, json=body) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.status != 204 else None

    async def read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Takes events until the socket closes."""
        async for message in socket:
            event = message.json()
            self.events.append(event)
            await self._on(event)

    async def _on(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "StasisStart", "args": ["caller", endpoint], "channel": {"id": caller}}:
                bridge = f"desk-{uuid4()}"
                await self.post(f"/bridges/{bridge}", type="mixing")
                await self.post(f"/bridges/{bridge}/addChannel", channel=caller)
                await self._dial(endpoint, caller, "agent", bridge, {"PJSIP_TRANSFER_HANDLING()": "ari-only"})
            case {"type": "StasisStart", "args": ["agent", bridge], "channel": {"id": channel}}:
                await self.post(f"/bridges/{bridge}/addChannel", channel=channel)
            case {"type": "StasisStart", "args": ["third", bridge, agent], "channel": {"id": channel}}:
                await self.post(f"/bridges/{bridge}/addChannel", channel=channel)
                await self.joined.wait()
                await self.post(f"/channels/{agent}/transfer_progress", states="channel_answered")
            case {"type": "ChannelTransfer", "refer_to": to, "referred_by": by} if not self._transferred:
                self._transferred = True  # told of it again with each progress of it
                wanted = to["requested_destination"]["destination"]
                agent, bridge = by["source_channel"]["id"], by["bridge"]["id"]
                await self._dial(f"PJSIP/{wanted}@trunk-d", agent, "third", f"{bridge},{agent}", {})

    async def _dial(self, endpoint: str, originator: str, role: str, rest: str, variables: dict[str, str]) -> None:
        await self.post(
            "/channels",
            {"variables": variables},
            endpoint=endpoint,
            app=self.name,
            appArgs=f"{role},{rest}",
            originator=originator,
        )


@asynccontextmanager
async def desk(asterisk: Asterisk, name: str) -> AsyncIterator[Desk]:
    """The application, connected; the dialplan sends callers in by `Stasis(<name>,caller,PJSIP/107)`."""
    login = {"Authorization": aiohttp.encode_basic_auth(asterisk.ari_user, asterisk.ari_password)}
    async with aiohttp.ClientSession(headers=login) as http:
        one = Desk(asterisk, name, http)
        async with http.ws_connect(f"{asterisk.ari_url}/events", params={"app": name}) as socket:
            reading = asyncio.create_task(one.read(socket), name="lab-desk")
            try:
                yield one
            finally:
                failed = reading.done() and reading.exception()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                if failed:
                    raise LabError(f"the application {name} failed: {failed!r}")
