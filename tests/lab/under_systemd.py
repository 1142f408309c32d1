"""Owns: an installation whose pbxguard is the shipped systemd unit, run by a real systemd. Needs root.

pbxguard is a user in Asterisk's group, and stands where the unit says: `/opt`, `/etc`, `/var/lib`, `/var/spool` and
`/run` of a machine of its own. Asterisk runs beside it as a user of its own, as a packaged one does. The unit file is
unchanged; a drop-in says where its output goes. Nothing of pbxguard is imported here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import asterisk_tree
from tests.lab.asterisk import REPO, LabError
from tests.lab.installation import POLL_S, READY_DEADLINE_S, Installation, PbxguardFailed, Ran
from tests.lab.machine import Account, Machine

UNIT = "pbxguard.service"
SHIPPED = REPO / "config" / "systemd" / UNIT
PROGRAM = "/opt/pbxguard/bin/pbxguard"
USER_ID = 64990
DEADLINE_S = 60.0
DROP_IN = "[Service]\nStandardOutput=append:/var/log/pbxguard.log\nStandardError=inherit\n"


class UnderSystemd(Installation):
    """Use it inside its `machine`: `async with site.machine, site:`."""

    def __init__(self, *, dialplan: str = "") -> None:
        super().__init__(dialplan=dialplan)
        self.asterisk.user = "asterisk"
        self.asterisk.tree = asterisk_tree.find()
        _, group = self.asterisk.account()
        self.account = Account("pbxguard", USER_ID, group, "asterisk")
        self.state = self.home / "state"
        logs, programs = self.home / "log", self.home / "bin"
        for folder in (self.state, logs, programs, self.spool):
            folder.mkdir(parents=True)
        os.chown(self.spool, USER_ID, group)  # install -d -o pbxguard -g asterisk -m 2770
        self.spool.chmod(0o2770)
        # systemd makes it, at the first start; here `prompts build` comes before that
        os.chown(self.state, USER_ID, group)
        self.state.chmod(0o750)
        self.logfile = logs / "pbxguard.log"
        text, python = _program()
        (programs / "pbxguard").write_text(text)
        (programs / "pbxguard").chmod(0o755)
        code = {REPO: "/opt/pbxguard/source", Path(sysconfig.get_paths()["purelib"]): "/opt/pbxguard/site", **python}
        folders = {self.spool: "/var/spool/pbxguard", self.state: "/var/lib/pbxguard", logs: "/var/log"}
        self.machine = Machine(
            units={UNIT: SHIPPED.read_text(), f"{UNIT}.d/output.conf": DROP_IN},
            accounts=[self.account],
            files={"pbxguard/pbxguard.toml": self.toml()},
            binds={programs: "/opt/pbxguard/bin", **code, **folders},
            read_only=list(code.values()),
        )

    async def __aenter__(self) -> UnderSystemd:
        self.socket = self.machine.root / "run/pbxguard/pbxguard.sock"
        await super().__aenter__()
        self.archive = self.state / "archive"
        return self

    def toml(self) -> str:
        """Only what must be said: the unit's folders are the defaults."""
        a = self.asterisk
        return f"""\
mode = "guard"
organisation = {{ name = "Acme" }}
ami = {{ port = {a.ami_port}, secret = "{a.ami_secret}" }}
ari = {{ url = "{a.ari_url}", password = "{a.ari_password}" }}
agi = {{ port = {a.agi_port} }}
spool = {{ asterisk_path = "{self.spool}", min_free_mb = 10 }}
prompts = {{ asterisk_directory = "{self.home}/state/prompts" }}
parties = {{ own = ["PJSIP/1[0-9][0-9]-*"], external = ["PJSIP/trunk-*"] }}
"""

    async def run(self, *words: str, check: bool = True) -> Ran:
        """A command of pbxguard's, by its own user on that machine; what it printed is all in `out`."""
        code, out = await self.machine.run(PROGRAM, *words, account=self.account)
        if check and code:
            raise PbxguardFailed(f"pbxguard {' '.join(words)}: {code}\n{out}")
        return Ran(code, out, "")

    async def start(self) -> None:
        """`systemctl start`, which returns once the unit has told systemd that it is ready."""
        await self.machine.systemctl("start", UNIT)
        end = time.monotonic() + READY_DEADLINE_S
        while not (status := await self.status()).get("ready"):
            if time.monotonic() > end:
                raise PbxguardFailed(f"pbxguard is not ready: {status}\n{self.log()[-4000:]}")
            await asyncio.sleep(POLL_S)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """`systemctl stop`."""
        assert how == signal.SIGTERM
        await self.machine.systemctl("stop", UNIT)

    async def until(self, holds: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """Until something holds of the unit's properties; gives them."""
        end = time.monotonic() + DEADLINE_S
        while True:
            shown = await self.machine.show(UNIT)
            if holds(shown):
                return shown
            if time.monotonic() > end:
                raise LabError(f"{what}: {shown}\n{self.log()[-4000:]}")
            await asyncio.sleep(POLL_S)


def _program() -> tuple[str, dict[Path, str]]:
    """`/opt/pbxguard/bin/pbxguard` from this checkout and this environment, and what must be seen there for it.

    A Python in somebody's home is out of the unit's sight, and of its user's.
    """
    place, binds = sys.base_prefix, {}
    if sys.base_prefix not in ("/usr", "/usr/local"):
        place = "/opt/pbxguard/python"
        binds = {Path(sys.base_prefix): place}
    python = f"{place}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    lines = [
        "#!/bin/sh",
        "export PYTHONPATH=/opt/pbxguard/source:/opt/pbxguard/site",
        *([f"export LD_LIBRARY_PATH={place}/lib"] if binds else []),
        f'exec {python} -m pbxguard "$@"',
    ]
    return "\n".join(lines) + "\n", binds
