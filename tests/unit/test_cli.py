"""The command line: exit codes, JSON, the socket, and what it does without the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main

from pbxguard import cli
from pbxguard.api.application import create
from pbxguard.api.server import serve
from pbxguard.cli.calls import DONE
from pbxguard.core.commands import CallOutcome
from pbxguard.core.errors import ActionRefused, ConnectionFailed, NotFound, SettingsError, StorageFailed, UnsafeValue
from pbxguard.core.facts import InCall
from pbxguard.core.ids import LinkedId, RecordingId, Uniqueid
from pbxguard.core.purposes import Direction
from pbxguard.core.reasons import Reason
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.service.calls import CallView
from pbxguard.settings import load
from pbxguard.sound.prompts import Prompts
from tests.unit.service_view import ScriptedService

VIEW = CallView(
    "17.1",
    datetime(2026, 5, 4, 12, 0, tzinfo=UTC),
    False,
    "inbound",
    "+31612345678",
    "31201234100",
    "PJSIP/100",
    "",
    "",
    ("contract_evidence",),
    False,
    False,
    ("unknown_party",),
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pbxguard.toml"
    path.write_text(
        f"""
[organisation]
name = "Voorbeeld BV"
[ami]
port = 1
secret = "s3cret-ami"
[ari]
url = "http://127.0.0.1:1/ari"
password = "s3cret-ari"
[parties]
own = ["PJSIP/1??-*"]
external = ["PJSIP/trunk-*"]
[socket]
path = "{tmp_path}/p.sock"
[database]
url = "sqlite+aiosqlite:///{tmp_path}/pbxguard.db"
[prompts]
directory = "{tmp_path}/prompts"
[spool]
path = "{tmp_path}/spool"
"""
    )
    return path


class Ran:
    """What one command gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def one(*words: str, configured: bool = True) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--config", str(config)] if configured else list(words))
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, out, err)

    return one


@contextlib.contextmanager
def serving(service: ScriptedService, path: Path) -> Iterator[None]:
    """The API on its socket, in a thread of its own: the commands block."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(serve(create(service), path))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])), daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 10
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://pbxguard") as client:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.TransportError):
                    client.get("/metrics")
                    break
                time.sleep(0.01)
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        loop.close()


def commands(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        if hasattr(sub, "commands"):
            yield from commands(sub, (*before, name))
        else:
            yield (*before, name), sub


ALL = dict(commands(typer.main.get_command(cli.app)))


def test_the_commands_are_those_of_the_design() -> None:
    top = {words[0] for words in ALL}
    assert top >= {"run", "check", "status", "calls", "why", "on", "off", "init", "prompts", "recordings", "outcome"}
    assert {words for words in ALL if words[0] == "prompts"} == {
        ("prompts", "build"),
        ("prompts", "approve"),
        ("prompts", "list"),
    }


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_takes_config_and_json_and_shows_examples(words: tuple[str, ...], run: Any) -> None:
    options = {option for parameter in ALL[words].params for option in parameter.opts}
    assert {"--config", "--json"} <= options
    ran = run(*words, "--help", configured=False)
    assert ran.code == 0
    assert "Example" in ran.out


@pytest.mark.parametrize("words", [("nonsense",), ("why",), ("status", "--nonsense"), ("prompts", "approve", "x")])
def test_wrong_use_ends_with_2(words: tuple[str, ...], run: Any) -> None:
    assert run(*words).code == 2


@pytest.mark.parametrize("words", [("status",), ("calls",), ("why", "100"), ("check",), ("prompts", "list")])
def test_a_broken_configuration_is_told_whole(words: tuple[str, ...], config: Path, run: Any) -> None:
    config.write_text("rate = 1\n[organization]\n")
    ran = run(*words)
    assert ran.code == (1 if words == ("check",) else 2)
    assert all(key in ran.out + ran.err for key in ("rate", "organization", "ami", "parties"))


@pytest.mark.parametrize("words", [("status",), ("calls",), ("why", "100"), ("on",), ("off",)])
def test_a_service_that_is_down_ends_with_3_and_a_mend(words: tuple[str, ...], run: Any) -> None:
    ran = run(*words)
    assert ran.code == 3
    assert "service: does not answer" in ran.err
    told = run(*words, "--json").json["error"]
    assert (told["code"], bool(told["mend"])) == ("connection_failed", True)


@pytest.mark.parametrize("way", ["on", "off"])
def test_without_the_service_the_switch_tells_how_asterisk_does_it(way: str, run: Any) -> None:
    assert f"asterisk -rx 'dialplan set global PBXGUARD {way}'" in run(way).err


def test_the_switch_goes_through_the_socket(config: Path, run: Any) -> None:
    service = ScriptedService()
    with serving(service, load(config).socket.path):
        assert run("off").out.strip() == "pbxguard is off"
        assert not service.on
        assert run("on", "--json").json == {"on": True}
        assert service.on


def test_status_shows_what_keeps_calls_from_being_recorded(config: Path, run: Any) -> None:
    service = ScriptedService()
    with serving(service, load(config).socket.path):
        assert run("status").code == 0
        service.healthy = False
        ran = run("status", "--language", "nl")
        assert ran.code == 1
        assert "er is geen verbinding met de centrale" in ran.out


def test_calls_and_why_tell_each_call_in_one_line(config: Path, run: Any) -> None:
    with serving(ScriptedService(VIEW, replace(VIEW, ended=True)), load(config).socket.path):
        live = run("calls").out.splitlines()
        assert len(live) == 1
        assert "not told; not recorded: it is unknown who takes part" in live[0]
        lines = run("why", "0612345678", "--since", "2h", "--language", "nl").out.splitlines()
        assert len(lines) == 2
        assert "niet opgenomen: het is onbekend wie er meeluistert" in lines[0]
        assert run("why", "100", "--json").json["calls"][0]["why"]["mend"]


def test_start_begins_purposes_in_a_live_call_in_somebodys_name(config: Path, run: Any) -> None:
    service = ScriptedService()
    words = ("calls", "start", "1766400000.12", "--purpose", "contract_evidence", "--purpose", "quality_training")
    with serving(service, load(config).socket.path):
        ran = run(*words, "--actor", "els")
        assert ran.code == 0
        assert ran.out.strip() == DONE["begin"]
        assert run("calls", "start", "1766400000.12").code == 2, "what for must be said"
        service.fails = NotFound("no live call has that id")
        assert run(*words).code == 1
    assert service.requests == [("1766400000.12", InCall.BEGIN, "els")]
    assert service.begun == [("contract_evidence", "quality_training")]


def test_an_error_of_the_service_keeps_its_code_and_mend(config: Path, run: Any) -> None:
    service = ScriptedService()
    service.fails = ConnectionFailed("AMI", "gone", "Look at manager.conf.")
    with serving(service, load(config).socket.path):
        ran = run("off")
        assert ran.code == 3
        assert "Look at manager.conf." in ran.err
        service.fails = StorageFailed("disk")
        assert run("calls").code == 1


def test_why_works_on_the_index_when_the_service_is_down(config: Path, run: Any) -> None:
    url = load(config).database.url
    outcome = CallOutcome(
        call=Uniqueid("17.1"),
        linkedid=LinkedId("17.1"),
        recording=RecordingId("r"),
        direction=Direction.INBOUND,
        external_number="+31612345678",
        own_number="31201234100",
        own_endpoint="PJSIP/100",
        queue="",
        reference="",
        language="nl",
        purposes_asked=(),
        told=False,
        reasons=(Reason.NO_PURPOSE,),
        recorded=False,
    )

    async def fill() -> None:
        await upgrade(url)
        database = await Database.open(url)
        async with SqlIndex(database, "pbx1") as index:
            await index.put_call(outcome, datetime.now(UTC), True, "b1")
        await database.close()

    asyncio.run(fill())
    for who in ("06-12345678", "100", "PJSIP/100", "31201234100"):
        ran = run("why", who)
        assert ran.code == 0
        assert "not told; not recorded: no purpose was asked for. Call Gosub(pbxguard-disclose" in ran.out
    assert "no calls with anybody outside since" in run("why", "101").out


@pytest.mark.parametrize("since", ["yesterday", "999999w", ""])
def test_why_refuses_a_span_that_is_none(since: str, run: Any) -> None:
    assert run("why", "100", "--since", since).code == 2


def test_init_writes_a_configuration_that_observes_and_never_overwrites_one(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "new" / "pbxguard.toml"
    assert run("init", "--config", str(path), configured=False).code == 0
    assert load(path).mode.value == "observe"
    assert path.stat().st_mode & 0o007 == 0
    path.write_text("mine")
    assert run("init", "--config", str(path), configured=False).code == 1
    assert path.read_text() == "mine"
    assert run("init", "--config", str(path), "--force", configured=False).code == 0


def test_the_options_may_stand_before_the_command(config: Path, run: Any) -> None:
    ran = run("--config", str(config), "--json", "status", configured=False)
    assert ran.code == 3
    assert ran.json["error"]["code"] == "connection_failed"
    listed = run("--config", str(config), "--json", "prompts", "list", configured=False)
    assert listed.json["prompts"]


def test_check_reports_everything_at_once(run: Any) -> None:
    ran = run("check", "--json")
    assert ran.code == 3
    codes = {finding["code"] for finding in ran.json["findings"]}
    assert codes >= {
        "ami_unreachable",
        "ari_unreachable",
        "spool_unreadable",
        "prompt_sound_missing",
        "balancing_test_missing",
        "employees_informed_missing",
    }
    assert all(finding["place"] and finding["mend"] for finding in ran.json["findings"])
    text = run("check").out
    assert "not legal advice" in text
    assert "observes only" in text


def speak(text: str, language: str) -> Any:
    import numpy as np

    return (0.1 * np.sin(np.arange(16000 + 100 * len(text)) / 8)).astype(np.float32), 16000


def test_prompts_are_built_listed_and_approved_by_a_named_person(
    config: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prompts.build, "__defaults__", (None, speak, False))
    built = run("prompts", "build", "--json")
    assert built.code == 0
    assert len(built.json["built"]) == built.json["prompts"] > 0
    assert run("prompts", "build", "--json").json["built"] == []
    listed = run("prompts", "list", "--json").json["prompts"]
    assert {prompt["state"] for prompt in listed} == {"unapproved"}
    name = listed[0]["name"]
    assert run("prompts", "approve", name, "--by", "A. de Boer").code == 0
    assert run("prompts", "approve", "no.such.prompt.x", "--by", "A. de Boer").code == 1
    assert run("prompts", "approve", name, "--all", "--by", "x").code == 2
    assert f"approved {name}" not in run("prompts", "approve", "--all", "--by", "A. de Boer").out
    states = run("prompts", "list", "--json").json["prompts"]
    assert {(p["state"], p["approved_by"]) for p in states} == {("approved", "A. de Boer")}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), 1),
        (StorageFailed("x"), 1),
        (ActionRefused("x"), 1),
        (UnsafeValue("x"), 2),
        (SettingsError([("a", "b", "c")]), 2),
        (ConnectionFailed("AMI", "x"), 3),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: int, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pbxguard.cli.status.ask", fail)
    assert run("status").code == code


def test_run_loads_the_service_with_the_settings(
    config: Path, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stand_in.py").write_text("seen = []\ndef run(settings, path):\n    seen.append((settings, path))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("pbxguard.cli.run.SERVICE", "stand_in")
    assert run("run").code == 0
    import stand_in  # type: ignore[import-not-found]

    settings, path = stand_in.seen[0]
    assert settings.organisation.name == "Voorbeeld BV"
    assert path == config
