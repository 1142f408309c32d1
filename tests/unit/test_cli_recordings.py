"""`pbxguard recordings|outcome|retention` as people and programs call them, on a real database and real files."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import soundfile
import structlog

from pbxguard import cli
from pbxguard.archive.files import FileArchive
from pbxguard.cli.context import retention_rules, who_asks
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import DisclosureKey
from pbxguard.core.records import AuditEntry
from pbxguard.core.retention import Fixed, Period
from pbxguard.db.audit import SqlAudit
from pbxguard.db.engine import Database, upgrade
from pbxguard.db.index import SqlIndex
from pbxguard.settings import from_mapping, load
from pbxguard.sound.convert import Mono
from pbxguard.sound.prompts import Prompts
from tests.db.sealed import seal

A, B, C = (letter * 16 for letter in "abc")
NOW = datetime.now(UTC)


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@dataclass
class Office:
    config: Path
    root: Path
    url: str
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Answer:
        """Run one command; the configuration is given to each."""
        self.capture.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([*arguments, "--config", str(self.config)])
        printed = self.capture.readouterr()
        return Answer(int(left.value.code or 0), printed.out, printed.err)

    def add(self, id: str, *, age: timedelta = timedelta(minutes=10), **changes: Any) -> None:
        started = NOW - age

        async def work() -> None:
            database = await Database.open(self.url)
            async with SqlIndex(database, "pbx1") as index:
                ended = started + timedelta(seconds=90)
                await seal(
                    index, FileArchive(self.root / "archive"), self.root, id, started=started, ended=ended, **changes
                )
            await database.close()

        asyncio.run(work())

    def lines(self, id: str = A) -> list[AuditEntry]:
        async def work() -> list[AuditEntry]:
            database = await Database.open(self.url)
            async with SqlAudit(database, "pbx1") as audit:
                found = [entry for entry in await audit.read() if entry.recording == id]
            await database.close()
            return found

        return asyncio.run(work())

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.root / "archive").rglob("*") if path.is_file())


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.delenv("SUDO_USER", raising=False)
    url = f"sqlite+aiosqlite:///{tmp_path / 'pbxguard.db'}"
    config = tmp_path / "pbxguard.toml"
    config.write_text(
        f"""
        node = "pbx1"
        [organisation]
        name = "Voorbeeld BV"
        [ami]
        secret = "s3cret-ami"
        [ari]
        password = "s3cret-ari"
        [parties]
        own = ["PJSIP/1??-*"]
        external = ["PJSIP/trunk-*"]
        [database]
        url = "{url}"
        [archive]
        root = "{tmp_path / "archive"}"
        [prompts]
        directory = "{tmp_path / "prompts"}"
        """
    )
    asyncio.run(upgrade(url))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Office(config, tmp_path, url, capsys)
    structlog.reset_defaults()  # commands log on a stderr that ends with this test
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("notation", ["+31 20 123 45 67", "020-1234567", "0031201234567", "tel:+31201234567"])
def test_a_number_is_found_in_any_notation(office: Office, notation: str) -> None:
    office.add(A)
    office.add(B, external_number="+31209999999")
    answer = office("recordings", "list", "--number", notation, "--json")
    assert answer.code == 0
    assert [row["id"] for row in answer.data["recordings"]] == [A]
    assert answer.data["recordings"][0]["external_number"] == "+31201234567"


def test_a_list_is_a_table_with_numbers_that_can_be_hidden(office: Office) -> None:
    office.add(A)
    office.add(B, external_number="", locked=True)
    plain = office("recordings", "list").out
    assert "+31201234567" in plain
    assert "withheld" in plain
    assert "locked" in plain
    assert "1:30" in plain
    hidden = office("recordings", "list", "--mask").out
    assert "31201234567" not in hidden
    assert "567" in hidden
    assert "31201234567" not in office("recordings", "list", "--mask", "--json").out


def test_filters_narrow_the_list(office: Office) -> None:
    office.add(A, age=timedelta(days=3), reference="K-1")
    office.add(B, age=timedelta(hours=2), own_endpoint="PJSIP/101")
    office.add(C, age=timedelta(minutes=5))

    def ids(*filters: str) -> list[str]:
        return [row["id"] for row in office("recordings", "list", *filters, "--json").data["recordings"]]

    assert ids() == [C, B, A]
    assert ids("--since", "1h") == [C]
    assert ids("--since", "7d", "--until", "1d") == [A]
    assert ids("--reference", "K-1") == [A]
    assert ids("--extension", "101") == [B]
    assert ids("--limit", "1") == [C]
    assert ids("--since", (NOW - timedelta(days=1)).isoformat()) == [C, B]
    assert office("recordings", "list", "--reference", "none").out.strip() == "no recordings"


def test_control_characters_from_callers_do_not_reach_the_terminal(office: Office) -> None:
    office.add(A, reference="K\x1b[31m\r\nX", queue="[bold]q[/bold]")
    for answer in (office("recordings", "list"), office("recordings", "show", A)):
        assert "\x1b" not in answer.out
        assert "\r" not in answer.out
        assert "[bold]q[/bold]" in answer.out


def test_show_tells_until_when_it_is_kept_and_why(office: Office) -> None:
    office.add(A)
    answer = office("recordings", "show", A, "--language", "nl")
    assert "uitkomst onbekend, 30 dagen na het gesprek" in answer.out
    data = office("recordings", "show", A, "--json").data
    assert data["manifest"]["told"][0]["language"] == "nl"
    assert data["kept"].startswith("kept until ")
    assert "manifest" not in office("recordings", "show", A, "--json", "--mask").data


def test_a_copy_names_who_asked_and_why(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add(A)
    out = office.root / "out"
    out.mkdir()
    answer = office("recordings", "export", A, "--wav", "--reason", "request 12", "--to", str(out), "--actor", "jansen")
    assert answer.code == 0
    assert answer.out.split() == [str(out / f"{A}.{end}") for end in ("wav", "json", "disclosure.txt")]
    assert soundfile.info(out / f"{A}.wav").samplerate == 8000
    (line,) = office.lines()
    assert (line.kind, line.actor, (line.data or {})["reason"]) == ("recording.exported", "jansen", "request 12")


def test_a_copy_tells_the_words_that_were_spoken_while_the_prompt_is_still_that_one(office: Office) -> None:
    def tone(text: str, language: str) -> tuple[Mono, int]:
        return 0.3 * np.sin(np.arange(8000) / 3), 8000

    read = load(office.config)
    key = DisclosureKey.parse("contract_evidence.nl.notice.inbound")
    prompts = Prompts(read.prompts.directory, PurePosixPath(read.prompts.directory), read.rate, read.wording())
    prompts.build([key], speaker=tone)
    prompts.approve(str(key), "J. de Vries", NOW)
    digest = prompts.approved([key])[key].digest
    office.add(A, heard=digest)
    office.add(B)
    for id, spoken in ((A, True), (B, False)):
        answer = office("recordings", "export", id, "--reason", "request 12", "--to", str(office.root))
        assert answer.code == 0
        sheet = (office.root / f"{id}.disclosure.txt").read_text()
        assert ("Voorbeeld BV neemt dit gesprek op als bewijs" in sheet) is spoken


def test_a_locked_recording_is_refused_with_a_mend(office: Office) -> None:
    office.add(A, locked=True, lock_until=NOW + timedelta(days=14))
    answer = office("recordings", "export", A, "--reason", "request", "--to", str(office.root))
    assert answer.code == 1
    assert "locked" in answer.err
    assert "officer" in answer.err
    answer = office("recordings", "export", A, "--reason", "request", "--to", str(office.root), "--json")
    assert answer.data["error"]["code"] == "protected"


def test_destroying_asks_and_leaves_a_certificate(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add(A)
    dry = office("recordings", "destroy", A, "--reason", "request 12", "--dry-run", "--json")
    assert dry.data == {"dry_run": True, "recording": A, "purposes": ["contract_evidence"], "locked": False}
    assert len(office.files()) == 2
    for answer in ("", "n\n", "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert office("recordings", "destroy", A, "--reason", "request 12").code == 1
    assert len(office.files()) == 2
    assert office.lines() == []
    done = office("recordings", "destroy", A, "--reason", "request 12", "--actor", "jansen", "--yes", "--json")
    assert done.code == 0
    assert (done.data["recording"], done.data["ground"], done.data["actor"]) == (A, "by_hand", "jansen")
    assert office.files() == []
    assert [line.kind for line in office.lines()] == ["recording.destroying", "recording.destroyed"]
    assert office("recordings", "list", "--json").data == {"recordings": []}
    (row,) = office("recordings", "list", "--destroyed", "--json").data["recordings"]
    assert (row["id"], row["external_number"], row["path"]) == (A, "", "")
    again = office("recordings", "destroy", A, "--reason", "request 12", "--yes")
    assert again.code == 1


def test_verify_finds_a_changed_file_among_all(office: Office) -> None:
    office.add(A)
    office.add(B)
    assert office("recordings", "verify", "--all").code == 0
    (path,) = (path for path in (office.root / "archive").rglob(f"*{B}.flac"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x00")
    answer = office("recordings", "verify", "--all", "--json")
    assert answer.code == 1
    assert answer.data["checked"] == 2
    (problem,) = answer.data["problems"]
    assert problem["recording"] == B
    assert "file_changed" in problem["codes"]
    assert office("recordings", "verify", A).code == 0
    assert office("recordings", "verify", B).code == 1


def test_an_outcome_says_until_when_it_is_kept(office: Office) -> None:
    office.add(A, reference="K-4711")
    answer = office("outcome", "K-4711", "contract", "--contract-end", "2031-06-30", "--actor", "jansen")
    assert answer.code == 0
    assert answer.out.startswith(f"{A}: kept until 2032-07-01")
    dutch = office("outcome", A, "no_contract", "--language", "nl", "--json").data
    assert (dutch["outcome"], dutch["destroyed_next"]) == ("no_contract", False)
    assert "geen overeenkomst" in dutch["words"]
    assert [(line.kind, line.actor) for line in office.lines()] == [
        ("outcome.set", "jansen"),
        ("outcome.set", who_asks()),
    ]


def test_a_reference_that_fits_two_is_refused_with_their_ids(office: Office) -> None:
    office.add(A, reference="K-1")
    office.add(B, reference="K-1")
    answer = office("outcome", "K-1", "contract")
    assert answer.code == 1
    assert A in answer.err
    assert B in answer.err
    assert [*office.lines(A), *office.lines(B)] == []


def test_a_sweep_destroys_what_is_over_and_a_dry_run_nothing(office: Office) -> None:
    office.add(A, age=timedelta(days=40))
    office.add(B)
    dry = office("retention", "sweep", "--dry-run")
    assert f"{A}: would be destroyed (contract_evidence: no outcome reported, 30 days after the call)" in dry.out
    assert len(office.files()) == 4
    done = office("retention", "sweep", "--json")
    assert done.code == 0
    assert [one["recording"] for one in done.data["destroyed"]] == [A]
    assert len(office.files()) == 2


def test_a_sweep_that_could_not_destroy_exits_with_1(office: Office) -> None:
    office.add(A, age=timedelta(days=40))
    (path,) = (path for path in (office.root / "archive").rglob(f"*{A}.flac"))
    path.unlink()
    answer = office("retention", "sweep", "--json")
    assert answer.code == 1
    assert [one["recording"] for one in answer.data["failed"]] == [A]


def test_the_schedule_shows_what_is_configured(office: Office) -> None:
    config = office.config.read_text() + "\n[purposes.contract_evidence.retention]\nno_contract_days = 3\n"
    office.config.write_text(config)
    data = office("retention", "show", "--json").data
    assert {"when": "no_contract", "kept": "3 days"} in data["purposes"]["contract_evidence"]
    assert data["purposes"]["mifid_order"] == [{"when": "always", "kept": "5 years"}]
    assert "5 jaar" in office("retention", "show", "--language", "nl").out
    rules = retention_rules(load(office.config))
    assert rules[PurposeName("quality_training")] == Fixed(Period(days=28))


@pytest.mark.parametrize(
    "arguments",
    [
        ("recordings", "list", "--number", "anonymous"),
        ("recordings", "list", "--since", "soon"),
        ("recordings", "list", "--limit", "0"),
        ("recordings", "export", A),
        ("recordings", "export", A, "--reason", " "),
        ("recordings", "export", A, "--reason", "r", "--to", "/nonexistent"),
        ("recordings", "destroy", A, "--yes"),
        ("recordings", "verify"),
        ("recordings", "verify", A, "--all"),
        ("outcome", A, "sold"),
        ("outcome", A, "contract", "--contract-end", "soon"),
        ("outcome", A),
    ],
)
def test_wrong_use_exits_with_2_and_changes_nothing(office: Office, arguments: tuple[str, ...]) -> None:
    office.add(A)
    assert office(*arguments).code == 2
    assert office.lines() == []
    assert len(office.files()) == 2


@pytest.mark.parametrize(
    "arguments", [("recordings", "show", B), ("recordings", "verify", B), ("outcome", "K-9", "contract")]
)
def test_what_is_not_there_exits_with_1(office: Office, arguments: tuple[str, ...]) -> None:
    office.add(A)
    answer = office(*arguments, "--json")
    assert answer.code == 1
    assert answer.data["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "arguments", [("recordings", "verify", A), ("outcome", A, "contract"), ("recordings", "export", A, "--reason", "r")]
)
def test_what_was_destroyed_exits_with_1(office: Office, arguments: tuple[str, ...]) -> None:
    office.add(A)
    assert office("recordings", "destroy", A, "--reason", "r", "--yes").code == 0
    answer = office(*arguments, "--json")
    assert answer.code == 1
    assert answer.data["error"]["code"] == "protected"


def test_without_a_database_it_exits_with_3_and_makes_none(office: Office) -> None:
    (office.root / "pbxguard.db").unlink()
    for arguments in (("recordings", "list"), ("retention", "sweep"), ("outcome", A, "contract")):
        answer = office(*arguments)
        assert answer.code == 3
        assert "Start pbxguard once" in answer.err
    assert not (office.root / "pbxguard.db").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("recordings", "list"),
        ("recordings", "show"),
        ("recordings", "export"),
        ("recordings", "destroy"),
        ("recordings", "verify"),
        ("outcome",),
        ("retention", "sweep"),
        ("retention", "show"),
    ],
)
def test_every_help_has_an_example_and_both_options(office: Office, command: tuple[str, ...]) -> None:
    text = re.sub(r"\s+", " ", office(*command, "--help").out)
    assert "Example" in text
    assert f"pbxguard {' '.join(command)} " in text
    assert "--json" in text
    assert "--config" in text


def test_who_asks_is_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    def effective(user: int) -> Callable[[], int]:
        return lambda: user

    monkeypatch.setenv("SUDO_USER", "jansen")
    monkeypatch.setattr("os.geteuid", effective(0))
    assert who_asks() == "jansen"
    monkeypatch.setattr("os.geteuid", effective(12345678))  # anyone may set a variable; only sudo makes root
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    assert who_asks() == "somebody"


def test_a_purpose_of_ones_own_has_the_period_it_is_given_and_else_none() -> None:
    raw = {
        "organisation": {"name": "Voorbeeld BV"},
        "ami": {"secret": "x"},
        "ari": {"password": "y"},
        "parties": {"own": ["PJSIP/1??-*"], "external": ["PJSIP/trunk-*"]},
        "purposes": {
            name: {"basis": "f", "texts": {"nl": "{org} neemt op.", "en": "{org} records."}, "retention": retention}
            for name, retention in (("own_short", {"days": 5}), ("own_open", {}))
        },
    }
    rules = retention_rules(from_mapping(raw))
    assert rules[PurposeName("own_short")] == Fixed(Period(days=5))
    assert PurposeName("own_open") not in rules
