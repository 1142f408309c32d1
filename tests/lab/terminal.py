"""Owns: a program at a terminal of its own, as a person runs it: what it printed, the keys pressed, what is left of it.

The program leads a session, with the terminal as its controlling one: Ctrl-C there is what it is to a person.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.lab.asterisk import LabError, die_with_parent

POLL_S = 0.05
END_DEADLINE_S = 60.0
KILLED_S = 10.0
CTRL_C = b"\x03"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
"""Colours and movements of the cursor (ECMA-48, control sequences)."""


class Terminal:
    """An async context manager: the program runs until it ends by itself; whatever is left then is killed."""

    def __init__(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], columns: int = 100, rows: int = 50
    ) -> None:
        self.command, self.cwd, self.environment = command, cwd, environment
        self.size = (rows, columns)
        self._raw = bytearray()
        self._process: asyncio.subprocess.Process | None = None
        self._master = -1

    async def __aenter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *self.size, 0, 0))

        def at_the_terminal() -> None:
            die_with_parent()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.began = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.cwd,
            env=dict(self.environment),
            preexec_fn=at_the_terminal,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            if self.process.returncode is None:
                self.press(CTRL_C)
                with suppress(TimeoutError):
                    await self.ended()
        finally:
            for pid in self.left():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await self.process.wait()
            for _ in range(round(KILLED_S / POLL_S)):
                if not self.left():  # a killed one is gone once the kernel has run it again
                    break
                await asyncio.sleep(POLL_S)
            self._forget()

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise LabError("the program was not started")
        return self._process

    @property
    def text(self) -> str:
        """All that was printed so far, without colours; what was drawn over is there too, in its turn."""
        return ESCAPES.sub("", self._raw.decode(errors="replace"))

    async def shows(self, text: str, deadline_s: float) -> str:
        """Wait until this was printed, and give all that was; LabError when it ends without, or has not in time."""
        end = time.monotonic() + deadline_s
        while text not in self.text:
            if self.process.returncode is not None and not self._read():
                raise LabError(f"ended with {self.process.returncode}, and never said {text!r}:\n{self.text}")
            if time.monotonic() > end:
                raise LabError(f"not after {deadline_s} s: {text!r}:\n{self.text}")
            await asyncio.sleep(POLL_S)
        return self.text

    def press(self, keys: bytes) -> None:
        """Ctrl-C goes to the whole foreground of the terminal, as from a keyboard."""
        os.write(self._master, keys)

    async def ended(self) -> int:
        """Wait for the end of the program, and for all that it printed; its exit code."""
        async with asyncio.timeout(END_DEADLINE_S):
            code = await self.process.wait()
        while self._read():
            pass
        return code

    def left(self) -> dict[int, str]:
        """The processes of its session that live, with their command lines."""
        found = {}
        for one in Path("/proc").iterdir():
            with suppress(OSError):  # it ended while we looked
                if one.name.isdigit() and _session(one) == self.process.pid:
                    found[int(one.name)] = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found

    def _read(self) -> bool:
        """Take what is there; whether there was anything."""
        try:
            found = os.read(self._master, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the other end open any more
            asyncio.get_running_loop().remove_reader(self._master)
            return False
        self._raw += found
        return bool(found)

    def _forget(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


def _session(process: Path) -> int:
    """proc(5): the fourth field after the name, which is in parentheses and may hold anything; 0 of a zombie."""
    state, _parent, _group, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    return 0 if state == "Z" else int(session)
