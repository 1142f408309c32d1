"""Serves the application on the Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from . import place

GRACE_SECONDS = 2
"""How long a request may still take once the service stops."""


class _Server(uvicorn.Server):
    """Signals belong to `app.py`, which stops everything in order. `answers` is called once requests are answered."""

    answers: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.answers()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: FastAPI, path: Path, answers: Callable[[], None] = lambda: None, bound: socket.socket | None = None
) -> None:
    """Serve until cancelled; `answers` is called once it does. `bound`: its socket, where it was taken before.

    Raises ConnectionFailed as `place.bind` does.
    """
    if bound is None:
        bound = await asyncio.to_thread(place.bind, path)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    server.answers = answers
    serving = asyncio.create_task(server.serve(sockets=[bound]), name="api")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait([serving], timeout=GRACE_SECONDS + 1)
        bound.close()
        place.remove(path)
