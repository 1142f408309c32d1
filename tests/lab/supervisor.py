"""Owns: what systemd does for pbxguard, for tests and the demo, as a small process that survives what it watches.

A notify socket of its own, ``WATCHDOG_USEC``, SIGKILL to a main process that gives no sign of life in time, and the
command of ``ExecStopPost=`` after any end whatever. It restarts nothing by itself: whoever runs it says when. It reads
nothing of pbxguard's: as in a unit file, it is told what to run.

    python -m tests.lab.supervisor --report FILE --stop-post '["pbxguard", "stop-recorders"]' -- pbxguard run

SIGTERM stops it, SIGHUP is handed on. One JSON line in the report for each thing that happens: ``started``, ``told``,
``killed``, ``ended``, ``stopped``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from tests.lab.asterisk import die_with_parent

STOP_DEADLINE_S = 20.0
"""``TimeoutStopSec=``."""
STOP_POST_DEADLINE_S = 20.0


def read_report(path: Path) -> list[dict[str, Any]]:
    """What happened so far; `at` is monotonic seconds."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Supervisor:
    """One run of one command, watched."""

    def __init__(self, command: list[str], stop_post: list[str], watchdog_s: float, report: TextIO) -> None:
        self.command, self.stop_post, self.watchdog_s, self.report = command, stop_post, watchdog_s, report
        self._process: asyncio.subprocess.Process | None = None
        self._watched = False
        """From READY=1 to STOPPING=1, as systemd has it."""
        self._alive_at = 0.0
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Until the command has ended and what follows it is done; gives the command's exit code."""
        with tempfile.TemporaryDirectory(prefix="pbxguard-notify-") as folder:
            notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            notify.bind(str(Path(folder) / "notify"))
            notify.setblocking(False)
            asyncio.get_running_loop().add_reader(notify, self._read, notify)
            environment = {
                **os.environ,
                "NOTIFY_SOCKET": str(Path(folder) / "notify"),
                "WATCHDOG_USEC": str(int(self.watchdog_s * 1e6)),
            }
            self._process = await asyncio.create_subprocess_exec(
                *self.command, env=environment, preexec_fn=die_with_parent
            )
            self._say("started", pid=self._process.pid)
            watching = asyncio.create_task(self._watch(self._process))
            stopping = asyncio.create_task(self._stop(self._process))
            code = await self._process.wait()
            for task in (watching, stopping):
                task.cancel()
            asyncio.get_running_loop().remove_reader(notify)
            notify.close()
        self._say("ended", code=code)
        await self._after()
        return code

    def _say(self, what: str, **more: object) -> None:
        print(json.dumps({"what": what, "at": time.monotonic(), **more}), file=self.report, flush=True)

    def stop(self) -> None:
        """As `systemctl stop`."""
        self._stopping.set()

    def forward(self, number: signal.Signals) -> None:
        """As `systemctl kill --signal`, and `systemctl reload` for SIGHUP."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _read(self, notify: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                for line in notify.recv(8192).decode(errors="replace").splitlines():
                    self._told(line)

    def _told(self, line: str) -> None:
        self._alive_at = time.monotonic() if line in ("READY=1", "WATCHDOG=1") else self._alive_at
        if line == "READY=1":
            self._watched = True
        if line == "STOPPING=1":
            self._watched = False
        if line != "WATCHDOG=1":
            self._say("told", line=line)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self._watched and time.monotonic() - self._alive_at > self.watchdog_s:
                self._say("killed", why="no sign of life")
                process.kill()
                return

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        await self._stopping.wait()
        self._watched = False
        process.terminate()
        await asyncio.sleep(STOP_DEADLINE_S)
        self._say("killed", why="it does not stop")
        process.kill()

    async def _after(self) -> None:
        """``ExecStopPost=``: after any end, and bounded."""
        post = await asyncio.create_subprocess_exec(
            *self.stop_post, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(STOP_POST_DEADLINE_S):
                out, _ = await post.communicate()
        except TimeoutError:
            post.kill()
            out = b"it did not end"
            await post.wait()
        self._say("stopped", code=post.returncode, out=out.decode(errors="replace").strip())


async def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.lab.supervisor")
    parser.add_argument("--watchdog", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE")
    parser.add_argument("--stop-post", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    supervisor = Supervisor(given.command, given.stop_post, given.watchdog, given.report.open("a"))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGINT, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.forward, signal.SIGHUP)
    return await supervisor.run()


if __name__ == "__main__":
    code = asyncio.run(main(sys.argv[1:]))
    sys.exit(code if code >= 0 else 128 - code)
