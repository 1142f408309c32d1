"""Owns: a running pbxguard as its users ask it: commands, Unix socket, log, and the files that it leaves.

Whoever started it may be another process: of an installation, its folder is all that is needed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.lab.asterisk import REPO, LabError

POLL_S = 0.05
SEAL_DEADLINE_S = 30.0


class PbxguardFailed(LabError):
    """pbxguard's command or service ended with an error; the message holds what it printed."""


@dataclass(frozen=True)
class Ran:
    """What a command of pbxguard gave."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Site:
    """The installation of which all but Asterisk itself lies in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.archive = home / "archive"
        self.spool = home / "spool"
        self.config = home / "pbxguard.toml"
        self.socket = home / "pbxguard.sock"
        self.logfile = home / "pbxguard.log"

    async def run(self, *words: str, check: bool = True) -> Ran:
        """Run a command of pbxguard's; raises PbxguardFailed when it fails and `check` is set."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pbxguard",
            "--config",
            str(self.config),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=REPO,
        )
        out, err = await process.communicate()
        ran = Ran(process.returncode or 0, out.decode(), err.decode())
        if check and ran.code:
            raise PbxguardFailed(f"pbxguard {' '.join(words)}: {ran.code}\n{ran.out}\n{ran.err}")
        return ran

    async def ask(self, path: str, **query: str) -> Any:
        """GET from the service's Unix socket."""
        # Without TLS, or every question reads the machine's certificates first: 25 ms of a core that calls need.
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket), verify=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://pbxguard", timeout=10) as client:
            answer = await client.get(path, params=query)
            answer.raise_for_status()
            return answer.json()

    async def status(self) -> dict[str, Any]:
        """The service's own word about itself; empty while it does not answer."""
        try:
            return dict(await self.ask("/status"))
        except (httpx.HTTPError, OSError):
            return {}

    def files(self, number: str) -> list[Path]:
        """Sealed files whose name shows this caller ID (digits, as in E.164)."""
        return sorted(self.archive.rglob(f"*_{number.lstrip('+')}_*.flac"))

    async def sealed(self, number: str, deadline_s: float = SEAL_DEADLINE_S) -> Path:
        """The one sealed file of a call with this number, once its manifest is there too."""
        end = time.monotonic() + deadline_s
        while True:
            found = [f for f in self.files(number) if f.with_suffix(".json").exists()]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                raise LabError(f"more than one recording: {found}")
            if time.monotonic() > end:
                raise LabError(f"no recording of {number}; log:\n{self.log()[-3000:]}")
            await asyncio.sleep(POLL_S)

    async def why(self, number: str) -> dict[str, Any]:
        """What `why` says of the last call with this number, once that call is known to be over."""
        end = time.monotonic() + SEAL_DEADLINE_S
        while True:
            rows = await self.ask("/calls/why", who=number)
            calls = rows["calls"] if isinstance(rows, dict) else rows
            if calls and calls[0]["ended"]:
                return dict(calls[0])
            if time.monotonic() > end:
                raise LabError(f"no ended call of {number}: {calls}")
            await asyncio.sleep(POLL_S)

    def leftovers(self) -> list[Path]:
        """Files in the spool."""
        return [p for p in self.spool.rglob("*") if p.is_file()]

    def log(self) -> str:
        return self.logfile.read_text(errors="replace") if self.logfile.exists() else ""

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The service's log lines (JSON), of one event name if given."""
        rows = []
        for line in self.log().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if not name or row.get("event") == name:
                rows.append(row)
        return rows
