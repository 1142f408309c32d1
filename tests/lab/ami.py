"""Owns: a small AMI client for the lab: send an action, wait for an event. It shares no code with pbxguard's.

It also writes down what came, byte for byte, which is how event streams become fixtures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from tests.lab.asterisk import Asterisk, LabError

Message: TypeAlias = dict[str, str]  # a header that comes twice keeps its last value


class Ami:
    """One connection as the lab's own account, which has every right."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._serial = 0
        self._news = asyncio.Condition()
        self.events: list[Message] = []  # every event since the login, in order
        self.stream = bytearray()  # all that came, as it came
        self._responses: dict[str, Message] = {}

    async def action(self, name: str, **headers: str | int) -> Message:
        """Sends an action and returns its response; LabError when it is an error."""
        self._serial += 1
        mark = f"lab-{self._serial}"
        lines = [f"Action: {name}", f"ActionID: {mark}", *(f"{key}: {value}" for key, value in headers.items())]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: mark in self._responses)
        response = self._responses.pop(mark)
        if response["Response"] == "Error":
            raise LabError(f"{name}: {response.get('Message')}")
        return response

    async def event(
        self,
        name: str,
        matches: Callable[[Message], object] = lambda _: True,
        *,
        since: int = 0,
        deadline_s: float = 10.0,
    ) -> Message:
        """The first event of this name that matches, from number `since` on; waits for it."""

        def found() -> Message | None:
            return next((one for one in self.events[since:] if one["Event"] == name and matches(one)), None)

        try:
            async with asyncio.timeout(deadline_s), self._news:
                await self._news.wait_for(lambda: found() is not None)
        except TimeoutError:
            raise LabError(f"no {name} in {deadline_s} s") from None
        event = found()
        assert event is not None
        return event

    async def read(self) -> None:
        """Takes what comes, until the connection closes."""
        while True:
            try:
                block = await self._reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            self.stream += block
            message: Message = {"received": f"{time.monotonic():.6f}"}
            for line in block.decode(errors="replace").split("\r\n"):
                key, colon, value = line.partition(": ")
                if colon:
                    message[key] = value
            async with self._news:
                if "Event" in message:
                    self.events.append(message)
                elif "Response" in message:
                    self._responses[message.get("ActionID", "")] = message
                self._news.notify_all()


@asynccontextmanager
async def connect(asterisk: Asterisk) -> AsyncIterator[Ami]:
    """A logged-in connection to the lab's Asterisk."""
    reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.ami_port)
    await reader.readuntil(b"\r\n")  # the banner
    ami = Ami(reader, writer)
    reading = asyncio.create_task(ami.read(), name="lab-ami")
    try:
        await ami.action("Login", Username="lab", Secret=asterisk.lab_secret)
        yield ami
    finally:
        writer.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
