"""Serves the application on the Unix socket, for its owner and group only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from pbxguard.core.errors import ConnectionFailed

MODE = 0o660
BACKLOG = 64
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


async def serve(app: FastAPI, path: Path, answers: Callable[[], None] = lambda: None) -> None:
    """Serve until cancelled; `answers` is called once it does.

    Raises ConnectionFailed when another service answers there, or none may be made.
    """
    bound = await asyncio.to_thread(_bind, path)
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
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _bind(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Nobody can connect before listen(), when its mode is right already.
            bound.bind(str(path))
            os.chmod(path, MODE)
            bound.listen(BACKLOG)
            bound.setblocking(False)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise ConnectionFailed(
            "socket", f"cannot be made: {error.strerror}", "Look at [socket] path and its folder's rights."
        ) from error
    return bound


def _clear(path: Path) -> None:
    """Remove a socket that a dead service left; never anything else, and none that answers."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConnectionFailed("socket", "its path holds something else", "Choose another [socket] path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise ConnectionFailed("socket", "another pbxguard answers there", "Stop it first: one pbxguard per Asterisk.")
