"""Owns: a machine that a real systemd has booted, for who wants to see a unit file at work. Needs root.

Not a virtual one: systemd runs as process 1 of namespaces of its own (processes, mounts, cgroups, host name), with this
machine's programs, this network and folders of its own under `/etc`, `/opt`, `/run`, `/var/lib`, `/var/log` and
`/var/spool`. Nothing of it is left when it is switched off. It knows nothing of pbxguard: who uses it passes units in.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.lab import asterisk_tree
from tests.lab.asterisk import LabError, die_with_parent

DEADLINE_S = 60.0
POLL_S = 0.05
PROGRAM = "/lib/systemd/systemd"
TARGETS = ("sysinit", "basic", "network", "shutdown", "machine")
"""What every unit leans on by default; nothing of them is needed here but the names."""

OUTER = """\
set -eu
cgroups=$2/cgroups
mkdir "$cgroups"
mount -t cgroup2 cgroup2 "$cgroups"
mkdir "$cgroups/$3"
echo $$ >"$cgroups/$3/cgroup.procs"
umount "$cgroups"
exec unshare --cgroup --pid --fork --uts --ipc --kill-child sh -c "$1" inner "$2" "$4"
"""
INNER = """\
set -eu
root=$1/root
mkdir "$root"
mount --rbind / "$root"
mount --make-rprivate "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys" # this machine's, not ours to set
mount -o remount,bind,ro "$root/proc/sys"
[ -d "$root/sys/fs" ] || mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in opt run var/lib var/log var/spool; do mount -t tmpfs tmpfs "$root/$folder"; done
mount --bind "$1/etc" "$root/etc"
. "$1/binds"
exec chroot "$root" env -i container=lxc SYSTEMD_UNIT_PATH=/etc/units PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    "$2" --unit=machine.target --log-target=null --show-status=no
"""
AWAY = """\
mount -t cgroup2 cgroup2 "$1"
find "$1/$2" -depth -type d -exec rmdir {} \\;
"""


@dataclass(frozen=True)
class Account:
    """A user or group that is to exist there; of the same name it replaces this machine's."""

    name: str
    uid: int
    gid: int
    group: str


@dataclass
class Machine:
    """An async context manager: booted, and switched off by SIGKILL to its process 1.

    `units` are unit files by name (with `/` in it: a drop-in); `binds` are folders that are seen there under another
    name, read-only where that name is in `read_only`; `files` are made under `/etc`, by their path below it.
    """

    units: Mapping[str, str]
    binds: Mapping[Path, str] = field(default_factory=dict)
    read_only: Sequence[str] = ()
    accounts: Sequence[Account] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="pbxmachine-", dir="/tmp"))
        self._work.chmod(0o755)
        self._cgroup = f"pbxmachine-{secrets.token_hex(4)}"
        self._process: asyncio.subprocess.Process | None = None
        self.pid = 0
        """Its process 1, as we count processes."""

    @property
    def root(self) -> Path:
        """Its folders, as we spell them while it runs."""
        return Path(f"/proc/{self.pid}/root")

    def log(self) -> str:
        """What was said on the way to systemd, which says nothing itself: ask `systemctl`."""
        return (self._work / "console").read_text(errors="replace")

    async def __aenter__(self) -> Machine:
        self._write_etc()
        self._write_binds()
        command = [*asterisk_tree.unshare(), "sh", "-c", OUTER, "outer", INNER, str(self._work), self._cgroup, PROGRAM]
        with (self._work / "console").open("wb") as console:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=die_with_parent,
                process_group=0,
            )
        try:
            await self._booted()
        except BaseException:
            await self._off()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._off()

    async def run(self, *command: str, account: Account | None = None) -> tuple[int, str]:
        """Run a command there, as root or somebody else; gives its exit code and all that it printed."""
        who = []
        if account is not None:
            who = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]
        process = await asyncio.create_subprocess_exec(
            "nsenter",
            f"--target={self.pid}",
            *("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd=/", "--"),
            *who,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode(errors="replace")

    async def systemctl(self, *words: str) -> str:
        """Run `systemctl`; raises LabError, with what it said, when it fails."""
        code, out = await self.run("systemctl", "--no-pager", *words)
        if code:
            raise LabError(f"systemctl {' '.join(words)}: {code}: {out}")
        return out

    async def show(self, unit: str) -> dict[str, str]:
        """All properties of a unit."""
        lines = (await self.systemctl("show", unit)).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def status_of(self, pid: int) -> dict[str, str]:
        """What the kernel says of a process there, in `/proc/PID/status`; `pid` as it is counted there."""
        lines = (self.root / f"proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    # -- how it is made ----------------------------------------------------------------------------------------------

    def _write_etc(self) -> None:
        """This machine's settings, with units, accounts and files of our own."""
        etc = self._work / "etc"
        etc.mkdir()
        for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "ssl", "hosts"):
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(source, etc / name, symlinks=True)
            elif source.exists():
                shutil.copy(source, etc / name)
        ours = {account.name for account in self.accounts}
        groups = {account.group: account.gid for account in self.accounts}
        users = [row for row in Path("/etc/passwd").read_text().splitlines() if row.split(":")[0] not in ours]
        users += [f"{a.name}:x:{a.uid}:{a.gid}::/nonexistent:/usr/sbin/nologin" for a in self.accounts]
        others = [row for row in Path("/etc/group").read_text().splitlines() if row.split(":")[0] not in groups]
        others += [f"{name}:x:{gid}:" for name, gid in groups.items()]
        empty = "[Unit]\nDefaultDependencies=no\n"
        texts = {
            "passwd": "\n".join(users) + "\n",
            "group": "\n".join(others) + "\n",
            "machine-id": secrets.token_hex(16) + "\n",
            "hostname": "machine\n",
            **{f"units/{name}.target": empty for name in TARGETS},
            **{f"units/{name}": text for name, text in self.units.items()},
            **self.files,
        }
        for name, text in texts.items():
            (etc / name).parent.mkdir(parents=True, exist_ok=True)
            (etc / name).write_text(text)

    def _write_binds(self) -> None:
        lines = []
        for source, name in self.binds.items():
            lines += [f'mkdir -p "$root{name}"', f'mount --rbind "{source}" "$root{name}"']
            if name in self.read_only:
                lines.append(f'mount -o remount,bind,ro "$root{name}"')
        (self._work / "binds").write_text("\n".join(lines) + "\n")

    async def _booted(self) -> None:
        assert self._process is not None
        end = time.monotonic() + DEADLINE_S
        while True:
            if self._process.returncode is not None or time.monotonic() > end:
                raise LabError(f"systemd did not boot: {self.log()[-2000:]}")
            self.pid = self._systemd()
            if self.pid:
                code, said = await self.run("systemctl", "is-active", "machine.target")
                if (code, said.strip()) == (0, "active"):
                    return
            await asyncio.sleep(POLL_S)

    def _systemd(self) -> int:
        """Process 1, once it is systemd; else 0."""
        assert self._process is not None
        with suppress(OSError):  # one of them has just ended
            for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(PROGRAM.encode()):
                    return int(child)
        return 0

    async def _off(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            await self._process.wait()
            away = [*asterisk_tree.unshare(), "sh", "-c", AWAY, "away", str(self._work / "cgroups"), self._cgroup]
            cleaning = await asyncio.create_subprocess_exec(*away, stderr=asyncio.subprocess.DEVNULL)
            await cleaning.wait()
        if os.environ.get("PBXGUARD_LAB_KEEP") != "1":
            shutil.rmtree(self._work, ignore_errors=True)
