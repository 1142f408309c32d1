"""An Asterisk that was there before: the shipped configuration, `pbxguard init` and README's lines, nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.asterisk import REPO, Asterisk, Ports, die_with_parent
from tests.lab.phone import Answer, Phones
from tests.lab.signals import VOICES, Chirp, Tone

READY_S = 30.0
SECRET = secrets.token_hex(12)
CALLER = "+31612349001"


@dataclass
class Attached:
    """The Asterisk, and pbxguard beside it as `init` sets it up."""

    asterisk: Asterisk
    config: Path

    async def pbxguard(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pbxguard", *words, "--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=REPO,
        )
        out, _ = await process.communicate()
        return int(process.returncode or 0), out.decode()

    async def told(self, *words: str) -> Any:
        """What a command prints with --json."""
        return json.loads((await self.pbxguard(*words, "--json"))[1])


def dialplan() -> str:
    """README's lines, where its reader would put them."""
    (lines,) = re.findall(r"```ini\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    include, inbound, outbound = str(lines).split("; ")
    return (
        include.replace("pbxguard.conf", f"{REPO}/dialplan/pbxguard.conf")
        + f"[from-trunk]\nexten => _X.,1,NoOp()\n; {inbound}"
        + f"[internal]\nexten => _0X.,1,NoOp()\n; {outbound}".replace("@trunk,", "@trunk-b,")
    )


def shipped(name: str, ports: Ports) -> str:
    """A file of config/asterisk, on this run's ports."""
    text = (REPO / "config" / "asterisk" / name).read_text()
    text = text.replace("change-me", SECRET)
    return text.replace("port = 5038", f"port = {ports.ami}").replace("bindport = 8088", f"bindport = {ports.http}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attached(tree: asterisk_tree.Tree, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attached]:
    ports = Ports.free()
    files = {name: shipped(name, ports) for name in ("manager.conf", "ari.conf", "http.conf")}
    async with Asterisk(dialplan=dialplan(), files=files, ports=ports) as asterisk:
        home = asterisk.run_dir / "home"
        site = Attached(asterisk, home / "pbxguard.toml")
        code, said = await site.pbxguard("init")
        assert code == 0, said
        (home / "spool").mkdir()
        text = site.config.read_text()
        for setting, here in (
            ("#port = 5038", f"port = {ports.ami}"),
            ('#url = "http://127.0.0.1:8088/ari"', f'url = "http://127.0.0.1:{ports.http}/ari"'),
            ("#port = 4573", f"port = {ports.agi}"),
            ('#directory = "/var/lib/pbxguard/prompts"', f'directory = "{home}/prompts"'),
            ('#path = "/var/spool/pbxguard"', f'path = "{home}/spool"'),
            ('#root = "/var/lib/pbxguard/archive"', f'root = "{home}/archive"'),
            ('#url = "sqlite+aiosqlite:////var/lib/pbxguard/', f'url = "sqlite+aiosqlite:///{home}/'),
            ('#path = "/run/pbxguard/pbxguard.sock"', f'path = "{home}/pbxguard.sock"'),
        ):
            assert setting in text, setting
            text = text.replace(setting, here)
        text = text.replace('"change-me"', f'"{SECRET}"')
        site.config.write_text(text)
        for words in (("prompts", "build"), ("prompts", "approve", "--all", "--by", "the test's officer")):
            code, said = await site.pbxguard(*words)
            assert code == 0, said
        with (home / "log").open("wb") as log:
            service = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pbxguard", "run", "--config", str(site.config)),
                stdout=log,
                stderr=log,
                cwd=REPO,
                preexec_fn=die_with_parent,
            )
        try:
            async with asyncio.timeout(READY_S):
                while (await site.pbxguard("status"))[0] != 0:  # 3: not there yet, 1: not connected yet
                    assert service.returncode is None, (home / "log").read_text()
            yield site
        finally:
            if service.returncode is None:
                service.terminate()
            await service.wait()


async def test_check_finds_nothing_amiss_between_the_two(attached: Attached) -> None:
    found = (await attached.told("check"))["findings"]
    about = {one["place"].split(".")[0].strip("[]") for one in found if one["severity"] == "error"}
    assert about & {"ami", "ari", "agi", "dialplan", "spool"} == set(), found


async def test_in_observe_a_call_is_neither_told_nor_recorded_and_why_says_that_it_would_be(attached: Attached) -> None:
    asterisk = attached.asterisk
    async with Phones() as phones:
        agent = await phones.add(asterisk.line("101"), sends=Tone(VOICES[0]), on_incoming=Answer(0.2))
        carrier = await phones.add(asterisk.line("trunk-a"), sends=Chirp())
        call = await carrier.call("31201234100", caller_id=CALLER)
        answered = await (await agent.incoming(number=CALLER)).answered()
        await call.talk(1.0)
        (live,) = (await attached.told("calls"))["calls"]
        await call.hangup()
        await answered.ended()
        heard = await call.heard()
    assert live["would_record"], live
    assert not live["recorded"]
    (first, *_) = checker.spans(measure.track(heard), VOICES[0])
    assert first.start_s < 2.0, "nothing was played before the queue"
    _, said = await attached.pbxguard("why", CALLER)
    assert "would be recorded (pbxguard only observes here)" in said
    assert not list((attached.config.parent / "archive").rglob("*.flac"))
    assert not list((attached.config.parent / "spool").iterdir())
