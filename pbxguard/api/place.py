"""The Unix socket itself, for its owner and group only: taken before anything else, and long before it is served."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from pbxguard.core.errors import ConnectionFailed

MODE = 0o660
BACKLOG = 64


def bind(path: Path) -> socket.socket:
    """A socket that listens: who connects waits until it is served. In a thread.

    Raises ConnectionFailed when another service answers there, or none may be made.
    """
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


def remove(path: Path) -> None:
    """Nobody finds it any more."""
    with contextlib.suppress(OSError):
        path.unlink()
