"""What systemd is told: that we are ready, reload, stop, and that we live (sd_notify(3), systemd.service(5)).

Owns the datagrams to ``NOTIFY_SOCKET`` and their pace. Nothing here waits or raises: a supervisor that does not read
must not hold anything up. Without one, nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

USEC = 1_000_000


class Systemd:
    """`environment`: usually ``os.environ``, from which the supervisor's address and the watchdog's time are read."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._status = ""
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog(environment)
        """Seconds without a sign of life after which we are killed; None when nobody watches."""

    def ready(self) -> None:
        """The service can answer: at its start, and after a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it, also where the old configuration is kept."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(time.monotonic() * USEC)}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it differs from the last one."""
        if text != self._status:
            self._status = text
            self._tell("STATUS=" + " ".join(text.split()))

    async def keep_alive(self, moves: Callable[[], bool]) -> None:
        """Until cancelled: a sign of life, two to five times in the watchdog's time, while `moves()` is true.

        It runs on the loop whose life it proves: a loop that stands still sends nothing.
        """
        if self.watchdog_s is None:
            return
        while True:
            if moves():
                self._tell("WATCHDOG=1")
            await asyncio.sleep(min(self.watchdog_s / 5, 1.0))

    def _tell(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # its buffer is full, or it is gone: the next sign of life comes soon
                self._socket.sendto(text.encode(), self._address)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """``WATCHDOG_USEC`` in seconds, if it is meant for this process."""
    meant = environment.get("WATCHDOG_PID", "")
    if meant and meant != str(os.getpid()):
        return None
    usec = environment.get("WATCHDOG_USEC", "")
    return int(usec) / USEC if usec.isascii() and usec.isdigit() and int(usec) > 0 else None
