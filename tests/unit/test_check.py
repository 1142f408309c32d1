"""`check`: every finding has its place and mend, and none is found where nothing is wrong."""

from __future__ import annotations

import configparser
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError, SettingsError, StorageFailed
from pbxguard.core.purposes import DisclosureKey
from pbxguard.pbx.probe import read_rights, write_rights
from pbxguard.service import check as service
from pbxguard.service import check_pbx, findings
from pbxguard.service.check import PromptState, check
from pbxguard.service.check_pbx import EndpointView, Rights
from pbxguard.service.findings import Finding, Severity
from pbxguard.service.folders import Account, lacks
from pbxguard.settings import Settings, from_mapping

REPO = Path(__file__).parents[2]
ENOUGH = Rights(frozenset({"call", "dialplan"}), frozenset({"system", "call"}))
PHONES = [EndpointView("PJSIP/100", False), EndpointView("PJSIP/trunk-a", False)]
PAPERS = {"references": {"balancing_test": "DPO-1", "employees_informed": "letter of 1 May"}}


class ScriptedPbx:
    """An Asterisk in order, unless told otherwise; `fails` maps a question to the error it raises."""

    def __init__(self, **fails: PbxguardError) -> None:
        self.fails = fails
        self.said_version = "22.10.1+dfsg"
        self.has = ENOUGH
        self.phones: Sequence[EndpointView] = PHONES
        self.subroutines = set(check_pbx.SUBROUTINES)

    def _maybe(self, question: str) -> None:
        if question in self.fails:
            raise self.fails[question]

    async def version(self) -> str:
        self._maybe("version")
        return self.said_version

    async def run_as(self) -> tuple[str, str]:
        self._maybe("run_as")
        return "root", ""

    async def rights(self) -> Rights:
        self._maybe("rights")
        return self.has

    async def endpoints(self) -> Sequence[EndpointView]:
        self._maybe("endpoints")
        return self.phones

    async def dialplan_exists(self, context: str, exten: str) -> bool:
        return context in self.subroutines and exten == "s"

    async def ari(self) -> None:
        self._maybe("ari")


class Prompts:
    """A shelf on which every prompt is approved, unless `change` says otherwise."""

    def __init__(self, settings: Settings, change: Callable[[DisclosureKey], PromptState] | None = None) -> None:
        self.settings, self.change = settings, change or (lambda key: PromptState(key, True, 4000))

    def states(self) -> Sequence[PromptState]:
        return [self.change(key) for key in self.settings.disclosure_keys()]


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Settings]:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o770)

    def make(**more: Any) -> Settings:
        return from_mapping(
            {
                "organisation": {"name": "Voorbeeld BV"},
                "employees": 10,
                "ami": {"secret": "long and random"},
                "ari": {"password": "long and random"},
                "parties": {"own": ["PJSIP/1??-*"], "external": ["PJSIP/trunk-*"]},
                "spool": {"path": str(spool)},
                "purposes": {"contract_evidence": PAPERS, "complaint_handling": PAPERS},
                **more,
            }
        )

    return make


async def codes(settings: Settings, pbx: ScriptedPbx | None = None, prompts: Prompts | None = None) -> set[str]:
    found = await check(settings, pbx or ScriptedPbx(), prompts or Prompts(settings))
    assert all(finding.place and finding.message and finding.mend for finding in found)
    return {finding.code for finding in found}


async def test_an_installation_in_order_has_no_finding(given: Callable[..., Settings]) -> None:
    assert await codes(given()) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ami": {"secret": "change-me"}}, "secret_example"),
        ({"ami": {"secret_file": "/nonexistent/secret"}}, "settings"),
        ({"ami": {"secret": "x", "host": "192.0.2.1"}}, "not_loopback"),
        ({"ari": {"password": "x", "url": "http://pbx.example:8088/ari"}}, "not_loopback"),
        ({"purposes": {"complaint_handling": PAPERS}}, "balancing_test_missing"),
        ({"purposes": {"complaint_handling": PAPERS}}, "employees_informed_missing"),
        ({"employees": 51}, "works_council_missing"),
        ({"languages": ["nl", "es"]}, "text_missing"),
        (
            {"purposes": {"contract_evidence": PAPERS | {"texts": {"nl": "{org} neemt op voor servicedoeleinden."}}}},
            "text_vague",
        ),
        ({"purposes": {"contract_evidence": PAPERS | {"texts": {"en": "This call may be recorded."}}}}, "text_vague"),
        (
            {"purposes": {"contract_evidence": PAPERS | {"texts": {"en": "We record to train our staff."}}}},
            "text_vague",
        ),
        ({"purposes": {"mifid_order": {"active": True}}}, "internal_calls"),
        ({"parties": {"own": ["PJSIP/2*"], "external": ["PJSIP/trunk-*"]}}, "endpoint_unknown"),
        ({"parties": {"own": ["PJSIP/2*"], "external": ["PJSIP/trunk-*"]}}, "pattern_idle"),
        (
            {"parties": {"own": ["PJSIP/1??-*"], "external": ["PJSIP/trunk-*"], "mandated": ["PJSIP/t1-*"]}},
            "mandates",
        ),
        ({"spool": {"path": "/nonexistent/spool"}}, "spool_unreadable"),
    ],
)
async def test_each_mistake_of_the_configuration_is_found(
    change: dict[str, Any], code: str, given: Callable[..., Settings]
) -> None:
    assert code in await codes(given(**change))


async def test_an_unset_number_of_employees_is_a_note_and_no_problem(given: Callable[..., Settings]) -> None:
    found = await check(given(employees=None), ScriptedPbx(), Prompts(given()))
    assert [(f.code, f.severity) for f in found] == [("employees_unknown", Severity.NOTE)]
    assert findings.exit_code(found) == 0


@pytest.mark.parametrize(
    ("fails", "code", "exits"),
    [
        ({"rights": ConnectionFailed("AMI", "no connection", "Start it.")}, "ami_unreachable", 3),
        ({"rights": ActionRefused("login")}, "ami_refused", 1),
        ({"endpoints": ConnectionFailed("AMI", "lost")}, "ami_unreachable", 3),
        ({"ari": ConnectionFailed("ARI", "no connection")}, "ari_unreachable", 3),
        ({"ari": ActionRefused("read only")}, "ari_refused", 1),
    ],
)
async def test_a_component_that_does_not_answer_is_told_once(
    fails: dict[str, PbxguardError], code: str, exits: int, given: Callable[..., Settings]
) -> None:
    found = await check(given(), ScriptedPbx(**fails), Prompts(given()))
    assert [finding.code for finding in found] == [code]
    assert findings.exit_code(found) == exits


async def test_missing_rights_are_told_instead_of_what_fails_for_lack_of_them(given: Callable[..., Settings]) -> None:
    pbx = ScriptedPbx(version=ActionRefused("permission"))
    pbx.has = Rights(frozenset({"call"}), frozenset({"call"}))
    found = await check(given(), pbx, Prompts(given()))
    assert [finding.code for finding in found] == ["rights_too_few", "rights_too_few"]
    assert "read=dialplan" in found[0].message
    assert "write=system" in found[1].message


def test_read_rights_that_could_not_be_tried_are_held_against_manager_conf_alone() -> None:
    untried = Rights(None, frozenset({"system"}), frozenset({"system", "dialplan", "user"}))
    assert [finding.message for finding in check_pbx.check_rights(untried)] == [
        "the account lacks write=call",
        "manager.conf gives the account no read=call,dtmf",
    ]


async def test_rights_that_are_never_needed_are_found(given: Callable[..., Settings]) -> None:
    pbx = ScriptedPbx()
    pbx.has = Rights(ENOUGH.read, ENOUGH.write | {"command", "originate"})
    assert await codes(given(), pbx) == {"rights_too_many"}


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("22.10.1", None),
        ("22.10.1+dfsg+~cs6.17", None),
        ("20.20.1", None),
        ("23.1.0", None),
        ("22.10.0", "version_insecure"),
        ("22.9", "version_insecure"),
        ("20.20.0", "version_insecure"),
        ("18.26.4", "version_unsupported"),
        ("21.12.0", "version_unsupported"),
        ("certified/20.7-cert8", "version_unknown"),
        ("GIT-22-abcdef0", "version_unknown"),
        ("", "version_unknown"),
    ],
)
def test_a_version_is_held_against_the_security_floor(version: str, code: str | None) -> None:
    assert [finding.code for finding in check_pbx.check_version(version)] == ([code] if code else [])


async def test_direct_media_and_missing_subroutines_are_named(given: Callable[..., Settings]) -> None:
    pbx = ScriptedPbx()
    pbx.phones = [EndpointView("PJSIP/100", True), EndpointView("PJSIP/trunk-a", False)]
    pbx.subroutines.remove("pbxguard-callee")
    found = {f.code: f for f in await check(given(), pbx, Prompts(given()))}
    assert set(found) == {"direct_media", "dialplan_missing"}
    assert "PJSIP/100" in found["direct_media"].message
    assert "trunk" not in found["direct_media"].message
    assert found["dialplan_missing"].message.endswith(": pbxguard-callee")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (lambda key: PromptState(key, False), "prompt_unapproved"),
        (lambda key: PromptState(key, False, missing=("x",)), "prompt_sound_missing"),
        (lambda key: PromptState(key, False, problem="its words changed"), "prompt_changed"),
        (lambda key: PromptState(key, True, notice_ms=6001), "notice_long"),
    ],
)
async def test_each_trouble_with_prompts_is_found(
    state: Callable[[DisclosureKey], PromptState], code: str, given: Callable[..., Settings]
) -> None:
    settings = given()
    assert await codes(settings, prompts=Prompts(settings, state)) == {code}


async def test_a_confirmation_that_nobody_approved_is_a_warning(given: Callable[..., Settings]) -> None:
    settings = given()

    class Shelf(Prompts):
        def states(self) -> Sequence[PromptState]:
            keys = self.settings.confirmation_keys()
            return [*super().states(), *(PromptState(key, approved=key.language != "nl") for key in keys)]

    found = await check(settings, ScriptedPbx(), Shelf(settings))
    assert [(f.code, f.severity) for f in found] == [("confirmation_unsaid", Severity.WARNING)]
    assert "objection_locked.nl, objection_unrecorded.nl" in found[0].message


async def test_a_prompt_for_stricter_countries_only_is_a_note(given: Callable[..., Settings]) -> None:
    settings = given()
    shelf = Prompts(settings, lambda key: PromptState(key, key.mode_name == "notice", 4000))
    found = await check(settings, ScriptedPbx(), shelf)
    assert [(f.code, f.severity) for f in found] == [("prompt_unapproved", Severity.NOTE)]


async def test_a_prompts_folder_that_cannot_be_read_is_a_finding(given: Callable[..., Settings]) -> None:
    def broken(_: DisclosureKey) -> PromptState:
        raise StorageFailed("the registry is broken")

    settings = given()
    assert await codes(settings, prompts=Prompts(settings, broken)) == {"prompts_unreadable"}


def test_the_worst_comes_first_and_decides_the_exit_code() -> None:
    note = Finding("a", Severity.NOTE, "p", "m", "d")
    warning = Finding("b", Severity.WARNING, "p", "m", "d")
    away = Finding("c", Severity.ERROR, "p", "m", "d", unreachable=True)
    assert [findings.exit_code(f) for f in ([], [note], [note, warning], [warning, away])] == [0, 0, 1, 3]


def test_mistakes_of_the_settings_are_findings_too() -> None:
    [finding] = service.settings_findings(SettingsError([("rate", "is 1", "make it 8000")]))
    assert (finding.place, finding.mend) == ("rate", "make it 8000")


@pytest.mark.parametrize(
    ("mode", "uid", "gids", "needs", "fine"),
    [
        (0o2770, 1, {5}, "rwx", True),
        (0o2770, 2, {5}, "wx", True),
        (0o2770, 2, {6}, "wx", False),
        (0o750, 2, {5}, "wx", False),
        (0o750, 2, {5}, "rx", True),
        (0o070, 1, {5}, "rwx", False),  # the owner is not the group
        (0o000, 0, set(), "rwx", True),
    ],
)
def test_a_folder_is_judged_by_owner_group_and_others(
    mode: int, uid: int, gids: set[int], needs: str, fine: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    with tempfile.TemporaryDirectory() as above:  # not under tmp_path, which is its owner's alone
        os.chmod(above, 0o755)
        folder = Path(above) / "spool"
        folder.mkdir()
        os.chown(folder, 1, 5)
        folder.chmod(mode)
        assert (lacks(folder, Account(uid, frozenset(gids)), needs) == "") is fine


def test_a_closed_folder_above_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "spool"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    nobody = Account(65534, frozenset({65534}))
    assert "may not enter" in lacks(inner, nobody, "rwx")
    assert lacks(tmp_path / "absent", nobody, "r") == "it does not exist"


def test_write_rights_are_read_from_what_the_account_may_do() -> None:
    listed = {
        "Response": "Success",
        "MixMonitor": "Record a call and mix the audio.  (Priv: system,all)",
        "Atxfer": "Attended transfer.  (Priv: call,all)",
        "Setvar": "Sets a channel variable or function value.  (Priv: call,all)",
        "GetConfig": "Retrieve configuration.  (Priv: system,config,all)",
        "Ping": "Keepalive command.  (Priv: <none>)",
        "Odd": "text that ends in (Priv: nothing of the kind",
    }
    assert write_rights(listed) == {"system", "call"}
    assert write_rights(listed | {"Command": "Execute Asterisk CLI Command.  (Priv: command,all)"}) >= {"command"}


def read_conf(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(comment_prefixes=(";",))
    parser.read(REPO / "config" / "asterisk" / name)
    return parser


def test_the_shipped_accounts_have_exactly_the_rights_that_check_wants() -> None:
    account = read_conf("manager.conf")["pbxguard"]
    read, write = (frozenset(account[kind].split(",")) for kind in ("read", "write"))
    assert check_pbx.check_rights(Rights(read, write)) == []
    assert write == check_pbx.NEEDED_WRITE
    assert account["permit"].startswith("127.0.0.1/")
    assert read_conf("ari.conf")["pbxguard"]["read_only"] == "no"
    assert {read_conf(name)["general"]["bindaddr"] for name in ("manager.conf", "http.conf")} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("read", "codes"),
    [
        ("system,call,dialplan,user,dtmf,agent", []),
        ("system,call,dialplan,agent", ["rights_too_few"]),
        ("all", ["rights_too_many"]),
        ("system,call,dialplan,user,dtmf,cdr", ["rights_too_many"]),
    ],
)
def test_the_read_rights_that_manager_conf_gives_are_held_against_what_is_needed(read: str, codes: list[str]) -> None:
    configured = read_rights(["secret=x", "read = cdr", f"read = {read}", "write=all"])
    found = check_pbx.check_rights(Rights(ENOUGH.read, ENOUGH.write, configured))
    assert [finding.code for finding in found] == codes
