"""`check` on a real Asterisk: rights, version, endpoints, dialplan, spool and ARI are really seen.

One Asterisk, which runs as another user than root, with an account for each trouble; each has its own configuration
file. The command is run as its users run it. Its twin is the same command where all is right.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError
from pbxguard.pbx.ami.connection import Address
from pbxguard.pbx.probe import Probe
from pbxguard.service import check as service
from pbxguard.service import check_pbx
from pbxguard.service.check import PromptState
from pbxguard.service.check_pbx import EndpointView, Rights
from pbxguard.settings import Settings, from_mapping
from tests.lab import asterisk_tree
from tests.lab.asterisk import REPO, Asterisk
from tests.lab.installation import Ran

USER = "daemon"
"""Asterisk runs as this one: every machine has it, with the same numbers."""
DEADLINE_S = 20.0
ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from pbxguard.cli import main
for words in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as left:
            code = left.code
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]))
"""
"""Commands as they are typed, in one process: a Python that starts costs more than all that `check` asks."""

READ = ("system", "call", "dialplan", "user", "dtmf", "agent")
WRITE = ("system", "call")
NEEDED = [("read", right) for right in READ if right != "agent"] + [("write", right) for right in WRITE]
"""Every right, without which something does not work."""


def account(name: str, read: Sequence[str], write: Sequence[str]) -> str:
    """A section of manager.conf."""
    rights = f"read={','.join(read)}\nwrite={','.join(write)}\n"
    return f"[{name}]\nsecret=secret-of-{name}\npermit=127.0.0.1/255.255.255.255\n{rights}"


def accounts() -> str:
    """One that lacks each needed right, and one that lacks most."""
    text = account("few", ["system"], ["system"])
    for kind, right in NEEDED:
        read, write = ([other for other in rights if other != right] for rights in (READ, WRITE))
        text += account(f"no-{kind}-{right}", read if kind == "read" else READ, write if kind == "write" else WRITE)
    return text


# Not by #include: the Asterisk of another user may not enter a clone in root's folder.
DIALPLAN = f"""\
{(REPO / "dialplan/pbxguard.conf").read_text()}
[internal]
exten => 100,1,Dial(PJSIP/100,60)
[writes]
exten => s,1,Answer()
 same => n,Wait(1)
"""
READ_ONLY = "[reader]\ntype=user\nread_only=yes\npassword=secret-of-reader\n"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asterisk(tree: asterisk_tree.Tree) -> AsyncIterator[Asterisk]:
    if os.geteuid() != 0:
        pytest.skip("an Asterisk of another user needs root")
    more = {"manager.conf": accounts(), "ari.conf": READ_ONLY}
    async with Asterisk(dialplan=DIALPLAN, more=more, user=USER) as running:
        yield running


def probe(asterisk: Asterisk, **change: Any) -> Probe:
    given: dict[str, Any] = {
        "port": asterisk.ami_port,
        "user": asterisk.ami_user,
        "secret": asterisk.ami_secret,
        "ari_url": asterisk.ari_url,
        "ari_password": asterisk.ari_password,
    } | change
    return Probe(
        Address("127.0.0.1", given["port"], given["user"], given["secret"]),
        ari_url=given["ari_url"],
        ari_username=asterisk.ari_user,
        ari_password=given["ari_password"],
        rights=Rights,
        endpoint=EndpointView,
    )


def configured(asterisk: Asterisk, spool: Path) -> Settings:
    return from_mapping(
        {
            "organisation": {"name": "Acme"},
            "employees": 10,
            "ami": {"port": asterisk.ami_port, "secret": asterisk.ami_secret},
            "ari": {"url": asterisk.ari_url, "password": asterisk.ari_password},
            "parties": {"own": ["PJSIP/10?-*"], "external": ["PJSIP/trunk-*"]},
            "spool": {"path": str(spool)},
        }
    )


class AllApproved:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def states(self) -> Sequence[PromptState]:
        return [PromptState(key, True, 4000) for key in self.settings.disclosure_keys()]


async def test_the_account_of_the_lab_has_exactly_the_rights_needed(asterisk: Asterisk) -> None:
    async with probe(asterisk) as asked:
        rights = await asked.rights()
        assert check_pbx.check_rights(rights) == []
        assert rights.configured == check_pbx.USED_READ  # GetConfig really showed them
        assert check_pbx.check_version(await asked.version()) == []
        await asked.ari()


async def test_an_account_with_all_rights_is_found_to_have_too_many(asterisk: Asterisk) -> None:
    async with probe(asterisk, user="lab", secret=asterisk.lab_secret) as asked:
        rights = await asked.rights()
    assert rights.write >= {"system", "call", "command", "originate"}
    found = check_pbx.check_rights(rights)
    assert [finding.code for finding in found] == ["rights_too_many", "rights_too_many"]
    assert "read=all" in found[0].message
    assert "write=" in found[1].message


async def test_check_names_what_the_lab_lacks_and_nothing_else(asterisk: Asterisk, tmp_path: Path) -> None:
    settings = configured(asterisk, tmp_path)
    async with probe(asterisk) as asked:
        found = await service.check(settings, asked, AllApproved(settings))
    by_code = {finding.code: finding for finding in found if not finding.code.startswith("version_")}
    assert set(by_code) == {
        "endpoint_unknown",  # 190, the load agent
        "balancing_test_missing",
        "employees_informed_missing",
        "spool_unwritable",  # pytest's own folder
    }
    assert "PJSIP/190" in by_code["endpoint_unknown"].message
    assert "PJSIP/100" not in by_code["endpoint_unknown"].message


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lacking(asterisk: Asterisk) -> dict[tuple[str, str], list[str]]:
    """What is said of each account that lacks one right; all at once, since an event is waited for that never comes."""

    async def messages(kind: str, right: str) -> list[str]:
        name = f"no-{kind}-{right}"
        async with probe(asterisk, user=name, secret=f"secret-of-{name}") as asked:
            found = check_pbx.check_rights(await asked.rights())
        assert {(finding.code, finding.place) for finding in found} == {("rights_too_few", "manager.conf")}
        return [finding.message for finding in found]

    return dict(zip(NEEDED, await asyncio.gather(*(messages(*one) for one in NEEDED)), strict=True))


@pytest.mark.parametrize(("kind", "right"), NEEDED)
async def test_each_right_that_is_lacking_is_named_and_no_other(
    kind: str, right: str, lacking: dict[tuple[str, str], list[str]]
) -> None:
    (message,) = lacking[kind, right]
    assert message.endswith(f" {kind}={right}")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"secret": "wrong"}, ActionRefused),
        ({"user": "nobody"}, ActionRefused),
        ({"port": 1}, ConnectionFailed),
    ],
)
async def test_a_login_that_fails_is_told_with_a_mend(
    change: dict[str, Any], kind: type[PbxguardError], asterisk: Asterisk
) -> None:
    async with probe(asterisk, **change) as asked:
        with pytest.raises(kind) as caught:
            await asked.version()
    assert isinstance(caught.value, PbxguardError)
    assert caught.value.diagnostics()


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"ari_password": "wrong"}, ActionRefused), ({"ari_url": "http://127.0.0.1:1/ari"}, ConnectionFailed)],
)
async def test_an_ari_that_refuses_or_is_away_is_told(
    change: dict[str, Any], kind: type[PbxguardError], asterisk: Asterisk
) -> None:
    async with probe(asterisk, **change) as asked:
        with pytest.raises(kind):
            await asked.ari()


async def test_a_context_is_there_or_missing_as_the_dialplan_has_it(asterisk: Asterisk) -> None:
    async with probe(asterisk) as asked:
        assert await asked.dialplan_exists("internal", "100")
        assert not await asked.dialplan_exists("pbxguard-no-such-context", "s")


# -- the command, and its twin


@dataclass
class Checked:
    """What `check` said of one trouble: to people, and as JSON."""

    told: Ran
    json: Ran

    @property
    def found(self) -> list[dict[str, str]]:
        """All but what is said of Asterisk's version: that is whatever this machine has."""
        return [row for row in self.json.json()["findings"] if not row["code"].startswith("version_")]

    def says_the_same(self) -> None:
        """Each finding with its severity, place, message and mend, and nothing that is only in one of the two."""
        rows = self.json.json()["findings"]
        lines = self.told.out.splitlines()
        for row in rows:
            at = lines.index(f"{row['severity']:<8} {row['place']}: {row['message']}")
            assert lines[at + 1] == f"         -> {row['mend']}"
        assert sum("         -> " in line for line in lines) == len(rows)
        assert self.told.code == self.json.code
        assert self.told.err == self.json.err == ""


def toml(asterisk: Asterisk, **change: str) -> str:
    """A configuration in which nothing is wrong but what is changed."""
    home = asterisk.run_dir / "check"
    given = {
        "ami_user": asterisk.ami_user,
        "ami_secret": asterisk.ami_secret,
        "ari_user": asterisk.ari_user,
        "ari_password": asterisk.ari_password,
        "spool": str(home / "spool"),
    } | change
    papers = 'references = { balancing_test = "DPO-1", employees_informed = "handbook" }'
    return f"""\
employees = 10
languages = ["nl"]
organisation = {{ name = "Acme" }}
ami = {{ port = {asterisk.ami_port}, username = "{given["ami_user"]}", secret = "{given["ami_secret"]}" }}
ari = {{ url = "{asterisk.ari_url}", username = "{given["ari_user"]}", password = "{given["ari_password"]}" }}
parties = {{ own = ["PJSIP/1??-*"], external = ["PJSIP/trunk-*"] }}
spool = {{ path = "{given["spool"]}" }}
prompts = {{ directory = "{home}/prompts", outbound_opening = false }}
[purposes]
contract_evidence = {{ {papers} }}
complaint_handling = {{ {papers} }}
"""


async def pbxguard(*commands: Sequence[str]) -> list[Ran]:
    """What each prints, and its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands)), stdout=asyncio.subprocess.PIPE, cwd=REPO
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return [Ran(*json.loads(line)) for line in printed.splitlines()]


def spool(path: Path, group: int, mode: int = 0o2770) -> Path:
    """As `install -d -g GROUP -m MODE` makes it."""
    path.mkdir(parents=True)
    os.chown(path, 0, group)
    path.chmod(mode)
    return path


async def direct_media(asterisk: Asterisk, name: str, on: bool) -> None:
    """Of one endpoint; returns once Asterisk has it so."""
    said = {True: "yes", False: "no"}
    conf = asterisk.run_dir / "etc" / "pjsip.conf"
    before, section, after = conf.read_text().partition(f"[{name}]\ntype=endpoint\n")
    after = after.replace(f"direct_media={said[not on]}", f"direct_media={said[on]}", 1)
    await asterisk.write("pjsip.conf", before + section + after)
    end = time.monotonic() + DEADLINE_S
    while f"direct_media : {on}".lower() not in " ".join((await asterisk.cli(f"pjsip show endpoint {name}")).split()):
        assert time.monotonic() < end, "pjsip.conf was not read anew"
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def checked(asterisk: Asterisk) -> dict[str, Checked]:
    """Each trouble by its name, and "right"; nothing else is wrong beside it."""
    home = asterisk.run_dir / "check"
    _, group = asterisk.account()
    spool(home / "spool", group)
    spool(home / "closed", 0)
    spool(spool(home / "above", 0, 0o700) / "spool", group)
    changes: dict[str, dict[str, str]] = {
        "right": {},
        "few rights": {"ami_user": "few", "ami_secret": "secret-of-few"},
        "reads only": {"ari_user": "reader", "ari_password": "secret-of-reader"},
        "closed": {"spool": str(home / "closed")},
        "closed above": {"spool": str(home / "above" / "spool")},
        "direct media": {},
    }
    configs = {name: home / f"{name.replace(' ', '-')}.toml" for name in changes}
    for name, change in changes.items():
        configs[name].write_text(toml(asterisk, **change))

    def typed(name: str, *words: str) -> list[str]:
        return ["--config", str(configs[name]), *words]

    made = await pbxguard(
        typed("right", "prompts", "build"), typed("right", "prompts", "approve", "--all", "--by", "the lab")
    )
    assert [ran.code for ran in made] == [0, 0], made
    usual = [name for name in changes if name != "direct media"]
    told, data = await asyncio.gather(
        pbxguard(*(typed(name, "check") for name in usual)),
        pbxguard(*(typed(name, "check", "--json") for name in usual)),
    )
    seen = {name: Checked(*both) for name, *both in zip(usual, told, data, strict=True)}
    await direct_media(asterisk, "101", True)
    seen["direct media"] = Checked(
        *await pbxguard(typed("direct media", "check"), typed("direct media", "check", "--json"))
    )
    await direct_media(asterisk, "101", False)
    return seen


def test_where_all_is_right_it_says_so_and_exits_with_0(checked: dict[str, Checked]) -> None:
    right = checked["right"]
    right.says_the_same()
    assert right.found == []
    warned = any(row["severity"] != "note" for row in right.json.json()["findings"])  # of an old Asterisk
    assert right.told.code == (1 if warned else 0)
    assert warned or "No problem found." in right.told.out


RIGHTS = "use read=system,call,dialplan,user,dtmf,agent"
SPOOL = "install -d -o pbxguard -g asterisk -m 2770 {home}/{path} (and let both enter every folder above it)"


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (
            "few rights",
            [
                (
                    "rights_too_few",
                    "manager.conf",
                    "the account lacks write=call",
                    f"{RIGHTS} and write=system,call, then `manager reload`",
                ),
                (
                    "rights_too_few",
                    "manager.conf",
                    "manager.conf gives the account no read=call,dialplan,dtmf,user",
                    f"{RIGHTS}, then `manager reload`",
                ),
            ],
        ),
        (
            "reads only",
            [
                (
                    "ari_refused",
                    "ari",
                    "ARI lets us only read",
                    "Set read_only=no for the account in ari.conf, then `module reload res_ari`.",
                )
            ],
        ),
        (
            "direct media",
            [
                (
                    "direct_media",
                    "pjsip.conf",
                    "direct_media=yes: a recorder's start forces a re-INVITE and the first audio is lost: PJSIP/101",
                    "set direct_media=no on every endpoint, then `pjsip reload`",
                )
            ],
        ),
        (
            "closed",
            [
                (
                    "spool_unwritable",
                    "spool.path",
                    "Asterisk: may not write {home}/closed",
                    SPOOL.replace("{path}", "closed"),
                )
            ],
        ),
        (
            "closed above",
            [
                (
                    "spool_unwritable",
                    "spool.path",
                    "Asterisk: may not enter {home}/above",
                    SPOOL.replace("{path}", "above/spool"),
                )
            ],
        ),
    ],
)
def test_each_trouble_is_told_with_its_place_and_its_mend_and_exits_with_1(
    trouble: str, expected: list[tuple[str, str, str, str]], asterisk: Asterisk, checked: dict[str, Checked]
) -> None:
    seen, home = checked[trouble], str(asterisk.run_dir / "check")
    seen.says_the_same()
    assert seen.told.code == 1
    assert [tuple(row[key] for key in ("code", "place", "message", "mend")) for row in seen.found] == [
        tuple(text.replace("{home}", home) for text in row) for row in expected
    ]


@pytest.mark.parametrize(("folder", "may"), [("spool", True), ("closed", False), ("above/spool", False)])
async def test_what_is_said_of_a_spool_is_what_asterisk_finds(
    folder: str, may: bool, asterisk: Asterisk, checked: dict[str, Checked]
) -> None:
    """It is told from modes and owners alone: here Asterisk really tries."""
    file = asterisk.run_dir / "check" / folder / "tried"
    done = asterisk.run_dir / "spool" / f"done-{folder.replace('/', '-')}"
    await asterisk.cli(f'channel originate Local/s@writes application System "touch {file}; touch {done}"')
    end = time.monotonic() + DEADLINE_S
    while not done.exists():
        assert time.monotonic() < end, "Asterisk did not try"
        await asyncio.sleep(0.02)
    assert file.exists() is may
    assert not may or file.stat().st_uid == asterisk.account()[0]
