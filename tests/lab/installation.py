"""Owns: a whole installation for tests and the demo: one Asterisk, its dialplan, and pbxguard as a process of its own.

pbxguard is installed and used as its users do it: a configuration file, prompts built and approved on the command
line, `pbxguard run` as a service, the Unix socket and the files it leaves. Nothing of it is imported here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.asterisk import REPO, Asterisk, Line, Ports, default_lines, die_with_parent
from tests.lab.proxy import Proxy
from tests.lab.site import POLL_S as POLL_S
from tests.lab.site import SEAL_DEADLINE_S as SEAL_DEADLINE_S
from tests.lab.site import PbxguardFailed as PbxguardFailed
from tests.lab.site import Ran as Ran
from tests.lab.site import Site
from tests.lab.supervisor import read_report

READY_DEADLINE_S = 40.0
LOAD_AGENT = "190"
"""The line on which SIPp answers."""
LOAD_NUMBER = "31201239002"
"""Reaches the load agent of the caller's last three digits: `load007`, a phone of its own, answered by SIPp."""
LOAD = {"load_agent": LOAD_AGENT, "load_number": LOAD_NUMBER}
STOP_DEADLINE_S = 25.0
WATCHDOG_S = 5.0
"""As in config/systemd/pbxguard.service."""
UNWATCHED_S = 3600.0
"""For who wants to see what a frozen pbxguard does to calls."""

DIALPLAN = """\
#include {repo}/dialplan/pbxguard.conf

[globals]
PBXGUARD_AGI=127.0.0.1:{agi}

[internal]
exten => _1XX,1,Dial(PJSIP/${{EXTEN}},60,tT)
exten => _[0+]X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${{EXTEN}}))
 same => n,Dial(PJSIP/${{EXTEN}}@trunk-b,60,tTU(pbxguard-callee^${{PBXGUARD_PROMPT}}))
exten => _11X,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${{EXTEN}}))
 same => n,Dial(PJSIP/${{EXTEN}}@trunk-c,60,tTU(pbxguard-callee^${{PBXGUARD_PROMPT}}))
; what a phone transfers to (REFER) is dialled without any disclosure: a third party is nobody's customer here
exten => _9X.,1,Dial(PJSIP/${{EXTEN:1}}@trunk-c,60,tT)

[from-trunk]
; 31201234NNN: straight to phone NNN, as proof
exten => _31201234XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 31201235NNN: to phone NNN, to train
exten => _31201235XXX,1,Gosub(pbxguard-disclose,s,1(quality_training))
 same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 31201236NNN: to phone NNN, for both
exten => _31201236XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence&quality_training,language=en,reference=C-1))
 same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 31201237NNN: to phone NNN, private
exten => _31201237XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence,private=yes))
 same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 31201238NNN: to phone NNN without any disclosure
exten => _31201238XXX,1,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 31201239000: forwarded to an outside number
exten => 31201239000,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/31109990000@trunk-c,60,tT)
; 31201239001: the sales queue
exten => 31201239001,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(sales,tT,,,60)
; the load agents: each is a device of its own, since a phone with two calls is not recorded
exten => {load_number},1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Set(agent=${{CALLERID(num):-3}})
 same => n,UserEvent(LoadCall,Number: ${{agent}},Result: ${{PBXGUARD_RESULT}},Reason: ${{PBXGUARD_REASON}})
 same => n,Dial(${{PJSIP_DIAL_CONTACTS(load${{agent}},{load_agent},${{agent}})}},60)
{more}
"""


FEATURES = f"""\
[general]
atxfernoanswertimeout=15
[featuremap]
atxfer=*2
blindxfer=##
#include {REPO}/config/asterisk/features.conf
"""
KEYS = "pbxguard-object#pbxguard-pause#pbxguard-resume#pbxguard-private#pbxguard-begin"
"""For DYNAMIC_FEATURES: every key of the shipped features.conf."""


class Service:
    """`pbxguard run` under the lab's supervisor; pid, signals and end are those of pbxguard itself."""

    def __init__(self, supervisor: asyncio.subprocess.Process, report: Path, since: int) -> None:
        self._supervisor, self._report, self._since = supervisor, report, since

    def happened(self, what: str = "") -> list[dict[str, Any]]:
        """What the supervisor saw of this run, of one kind if given."""
        return [row for row in read_report(self._report)[self._since :] if what in ("", row["what"])]

    @property
    def pid(self) -> int:
        return int(self.happened("started")[0]["pid"])

    @property
    def returncode(self) -> int | None:
        """As of a process of ours; None until pbxguard has ended."""
        ended = self.happened("ended")
        return int(ended[0]["code"]) if ended else self._supervisor.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """To pbxguard itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Until pbxguard has ended and its recorders were seen to; its exit code, or minus the signal's number."""
        code = await self._supervisor.wait()
        return code if self.returncode is None else self.returncode

    @property
    def ended_at(self) -> float:
        """When it ended, in monotonic seconds."""
        return float(self.happened("ended")[0]["at"])


def lines() -> list[Line]:
    """The lab's lines and a few agents more, a third carrier: calls overlap without sharing a phone."""
    more = [Line(str(number), "internal", password=f"secret{number}") for number in range(104, 116)]
    return [*default_lines(), *more, Line("trunk-c", "from-trunk", host="127.0.0.5")]


class Installation(Site):
    """An async context manager. `mode`, `head` and `settings` (TOML text) go into the configuration file.

    `head` holds top-level keys, `settings` tables. Every prompt is approved but those named in `unapproved`.
    `files` replaces files of Asterisk's configuration, by name. With `proxied`, pbxguard reaches AMI and ARI through
    `ami_proxy` and `ari_proxy`, which a test may break.

    pbxguard runs under `tests.lab.supervisor`, as it does under systemd: one that gives no sign of life for
    `watchdog_s` is killed, and after any end of it `pbxguard stop-recorders` is run.
    """

    officer = "the lab's officer"
    """In whose name prompts are approved."""

    def __init__(
        self,
        *,
        mode: str = "guard",
        dialplan: str = "",
        head: str = "",
        settings: str = "",
        unapproved: Collection[str] = (),
        rate: int = 8000,
        ports: Ports | None = None,
        keep: bool = False,
        queues: str = "",
        files: Mapping[str, str] | None = None,
        languages: Sequence[str] = ("nl", "en"),
        extra_lines: Sequence[Line] = (),
        load_agents: int = 0,
        python_options: Sequence[str] = (),
        proxied: bool = False,
        watchdog_s: float = WATCHDOG_S,
    ) -> None:
        ports = ports or Ports.free()
        self.asterisk = Asterisk(
            dialplan=DIALPLAN.format(repo=REPO, more=dialplan, agi=ports.agi, **LOAD),
            rate=rate,
            ports=ports,
            keep=keep,
            lines=[
                *lines(),
                *extra_lines,
                *(Line(f"load{n:03d}", "internal", password="-") for n in range(load_agents)),
            ],
            files={"features.conf": FEATURES, **(files or {}), **({"queues.conf": queues} if queues else {})},
        )
        self.mode, self.head, self.more_settings, self.rate = mode, head, settings, rate
        self.unapproved, self.languages = unapproved, tuple(languages)
        self.python_options = python_options
        self.proxied = proxied
        self.ami_proxy = Proxy(ports.ami, ami=True)
        self.ari_proxy = Proxy(ports.http)
        super().__init__(self.asterisk.run_dir / "pbxguard")
        self.private = ""
        """More lines (TOML) of the section on parties."""
        self.environment: dict[str, str] = {}
        """What the service is given at its next start, beside our own."""
        self.report = self.home / "supervisor.jsonl"
        self.watchdog_s = watchdog_s
        self.process: Service | None = None

    async def __aenter__(self) -> Installation:
        for folder in (self.home, self.archive, self.spool, self.home / "prompts"):
            folder.mkdir(parents=True, exist_ok=True)
        if self.proxied:
            await self.ami_proxy.open()
            await self.ari_proxy.open()
        self.config.write_text(self.toml())
        await self.asterisk.start()
        try:
            await self.run("prompts", "build")
            await self.approve(*(await self.prompts() if self.unapproved else ()))
            await self.start()
        except BaseException:
            await self.stop()
            await self.asterisk.stop()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self.stop()
        finally:
            await self.asterisk.stop()
            await self.ami_proxy.close()
            await self.ari_proxy.close()
            if not self.asterisk.keep and os.environ.get("PBXGUARD_LAB_KEEP") != "1":
                shutil.rmtree(self.asterisk.run_dir, ignore_errors=True)

    def toml(self) -> str:
        """The configuration file: what differs from the defaults, and why it must."""
        a = self.asterisk
        ami_port = self.ami_proxy.port if self.proxied else a.ami_port
        ari_url = f"http://127.0.0.1:{self.ari_proxy.port}/ari" if self.proxied else a.ari_url
        return f"""\
node = "lab"
mode = "{self.mode}"
{self.head}
rate = {self.rate}
languages = {json.dumps(self.languages)}

[organisation]
name = "Acme"

[ami]
port = {ami_port}
username = "{a.ami_user}"
secret = "{a.ami_secret}"

[ari]
url = "{ari_url}"
username = "{a.ari_user}"
password = "{a.ari_password}"

[agi]
port = {a.agi_port}

[spool]
path = "{self.spool}"
min_free_mb = 10

[archive]
root = "{self.archive}"

[database]
url = "sqlite+aiosqlite:///{self.home}/pbxguard.db"

[prompts]
directory = "{self.home}/prompts"

[socket]
path = "{self.socket}"

[parties]
own = ["PJSIP/1[0-9][0-9]-*", "PJSIP/load[0-9]*-*"]
external = ["PJSIP/trunk-*"]
{self.private}

[purposes.quality_training]
active = true

{self.more_settings}
"""

    # -- prompts -----------------------------------------------------------------------------------------------------

    async def prompts(self) -> list[str]:
        """The names of the prompts that are to be approved."""
        listed = (await self.run("prompts", "list", "--json")).json()["prompts"]
        return [one["name"] for one in listed if one["name"] not in self.unapproved]

    async def approve(self, *names: str) -> None:
        """Approve these prompts, or all when none is named; the service plays them after its next start."""
        await self.run("prompts", "approve", *(names or ("--all",)), "--by", self.officer)

    # -- the service -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start `pbxguard run` and wait until it says that it guards."""
        since = len(read_report(self.report))
        command = [sys.executable, *self.python_options, "-m", "pbxguard", "--config", str(self.config)]
        with self.logfile.open("ab") as log:
            supervisor = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.lab.supervisor",
                f"--watchdog={self.watchdog_s}",
                f"--report={self.report}",
                f"--stop-post={json.dumps([*command, 'stop-recorders', '--json'])}",
                "--",
                "env",
                *(f"{key}={value}" for key, value in self.environment.items()),
                *command,
                "run",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPO,
                preexec_fn=die_with_parent,
                process_group=0,  # Ctrl-C at the terminal is for us, who then end it
            )
        self.process = Service(supervisor, self.report, since)
        end = time.monotonic() + READY_DEADLINE_S
        while True:
            status = await self.status()
            if status.get("ready"):
                return
            if self.process.returncode is not None:
                raise PbxguardFailed(f"pbxguard ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            if time.monotonic() > end:
                raise PbxguardFailed(f"pbxguard is not ready: {status}\n{self.log()[-4000:]}")
            await asyncio.sleep(POLL_S)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the service, by default gently."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
