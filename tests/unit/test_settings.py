"""Settings: a minimal file works, and a broken one is told whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pbxguard import settings
from pbxguard.core.errors import SettingsError
from pbxguard.core.ids import PurposeName
from pbxguard.core.never_record import is_listed
from pbxguard.core.numbers import parse
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode
from pbxguard.settings import Settings, from_mapping, load

MINIMAL = """
[organisation]
name = "Voorbeeld BV"
[ami]
secret = "s3cret-ami"
[ari]
password = "s3cret-ari"
[parties]
own = ["PJSIP/1??-*"]
external = ["PJSIP/trunk-*"]
"""


def given(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "pbxguard.toml"
    path.write_text(text)
    return path


def minimal(**more: Any) -> dict[str, Any]:
    return {
        "organisation": {"name": "Voorbeeld BV"},
        "ami": {"secret": "s3cret-ami"},
        "ari": {"password": "s3cret-ari"},
        "parties": {"own": ["PJSIP/1??-*"], "external": ["PJSIP/trunk-*"]},
        **more,
    }


def mistakes(raw: dict[str, Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(SettingsError) as caught:
        from_mapping(raw)
    return {key: (reason, mend) for key, reason, mend in caught.value.mistakes}


def test_a_minimal_file_observes_and_has_every_default(tmp_path: Path) -> None:
    read = load(given(MINIMAL, tmp_path))
    assert read.mode is GuardMode.OBSERVE
    assert (read.ami.host, read.ami.port, read.rate, read.languages) == ("127.0.0.1", 5038, 8000, ("nl", "en"))
    assert read.socket.path == Path("/run/pbxguard/pbxguard.sock")
    assert read.spool.for_asterisk == read.spool.path
    assert read.prompts.for_asterisk == read.prompts.directory


def test_every_mistake_is_told_at_once_with_its_mend() -> None:
    found = mistakes(
        {
            "organization": {"name": "x"},
            "rate": 44100,
            "default_language": "xx",
            "ami": {"prot": 5038, "secret": "hunter2", "port": 99999},
            "ari": {"password": "a", "password_file": "/x"},
            "parties": {"own": ["100"], "external": []},
            "scopes": [{"mode": "gaurd", "queue": "sales"}, {"mode": "guard"}],
            "never_record": {"numbers": ["112", "my lawyer"]},
            "spool": {"path": "relative", "asterisk_path": "/a,b"},
            "limits": {"beat_lag_start": 0.5, "beat_lag_stop": 0.1},
        }
    )
    assert set(found) == {
        "organisation",
        "organization",
        "rate",
        "default_language",
        "ami.prot",
        "ami.port",
        "ari",
        "parties.own[1]",
        "parties.external",
        "scopes[1].mode",
        "scopes[2]",
        "never_record.numbers[2]",
        "spool.path",
        "spool.asterisk_path",
        "limits.beat_lag_stop",
    }
    assert found["organization"][1] == "did you mean organisation?"
    assert found["ami.prot"][1] == "did you mean ami.port?"
    assert found["never_record.numbers[2]"][0] == "not a number"
    assert all(reason and mend for reason, mend in found.values())


def test_a_key_in_the_wrong_table_is_pointed_to_the_right_one() -> None:
    assert mistakes(minimal(min_free_mb=10))["min_free_mb"] == ("is unknown", "did you mean spool.min_free_mb?")


def test_a_mistyped_key_of_a_purpose_is_mended_in_place() -> None:
    found = mistakes(minimal(purposes={"quality_training": {"activ": True, "retention": {"dayz": 1}}}))
    assert found["purposes.quality_training.activ"][1] == "did you mean purposes.quality_training.active?"
    assert found["purposes.quality_training.retention.dayz"][1].endswith("retention.days?")


def test_no_mistake_shows_a_secret_or_a_number() -> None:
    raw = minimal(never_record={"numbers": ["06x12345678"]}, ami={"secret": "hunter2\nAction: x"})
    with pytest.raises(SettingsError) as caught:
        from_mapping(raw)
    told = caught.value.diagnostics() + str(caught.value)
    assert "hunter2" not in told
    assert "12345678" not in told
    assert "hunter2" not in repr(from_mapping(minimal(ami={"secret": "hunter2"})))


@pytest.mark.parametrize(
    ("content", "reason"), [("name = ", "is not TOML"), ("a = 1\na = 2", "is not TOML"), ("\udcff", "is not UTF-8")]
)
def test_a_file_that_cannot_be_read_says_so(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=reason):
        load(path)
    with pytest.raises(SettingsError, match="does not exist"):
        load(tmp_path / "absent.toml")


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    read = from_mapping(minimal(ami={"secret_file": str(file)}))
    assert read.ami.read_secret() == "from-a-file"
    file.unlink()
    with pytest.raises(SettingsError, match=r"ami\.secret_file"):
        read.ami.read_secret()


def test_no_secret_at_all_and_two_secrets_are_both_mistakes() -> None:
    assert "ami" in mistakes(minimal(ami={}))
    assert "ami" in mistakes(minimal(ami={"secret": "a", "secret_file": "/b"}))


@pytest.mark.parametrize("pattern", ["*", "PJSIP/*", "100", "*/100-*"])
def test_a_pattern_that_covers_everybody_or_no_channel_is_refused(pattern: str) -> None:
    assert "parties.own[1]" in mistakes(minimal(parties={"own": [pattern], "external": ["PJSIP/t-*"]}))


def test_the_policy_carries_all_that_the_core_decides_by() -> None:
    read = from_mapping(
        minimal(
            mode="guard",
            scopes=[{"mode": "observe", "queue": "support"}],
            jurisdictions={"+3170": "de"},
            never_record={"numbers": ["070-1234567", "0900*"]},
            purposes={
                "quality_training": {"active": True},
                "contract_evidence": {"basis": "b", "directions": ["outbound"]},
            },
            limits={"key_wait": 3.0},
        )
    )
    key = DisclosureKey.of((PurposeName("contract_evidence"),), "nl", Mode.NOTICE, Direction.INBOUND)
    policy = read.policy([Disclosure(key, "text", "00", "/x", 3000)])
    assert policy.mode is GuardMode.GUARD
    assert policy.mode_for(queue="support", did="", context="") is GuardMode.OBSERVE
    assert policy.jurisdiction_overrides == {"+3170": "DE"}
    assert is_listed(policy.never_record, parse("+31701234567", "NL"))
    assert is_listed(policy.never_record, parse("112", "NL"))
    training = policy.purposes[PurposeName("quality_training")]
    assert (training.active, training.mode) == (True, Mode.OPT_OUT)
    evidence = policy.purposes[PurposeName("contract_evidence")]
    assert (evidence.basis, evidence.directions) == (Basis.CONTRACT, frozenset({Direction.OUTBOUND}))
    assert not policy.purposes[PurposeName("mifid_order")].active
    assert policy.disclosures[key].digest == "00"
    assert policy.limits.key_wait == 3.0
    assert policy.parties.own == ("PJSIP/1??-*",)


def test_the_help_lines_can_be_left_off_the_list() -> None:
    policy = from_mapping(minimal(never_record={"defaults": False})).policy([])
    assert policy.never_record == frozenset()


def test_a_purpose_of_ones_own_needs_a_basis_and_texts() -> None:
    assert (
        "did you mean quality_training?"
        in mistakes(minimal(purposes={"quality_trainin": {}}))["purposes.quality_trainin"][0]
    )
    own = mistakes(minimal(purposes={"survey": {"basis": "a", "texts": {"nl": "x"}}, "polls": {"texts": {"en": "x"}}}))
    assert set(own) == {"purposes.survey.texts", "purposes.polls", "purposes.polls.texts"}
    assert "texts in en" in own["purposes.survey.texts"][0]
    whole = {"survey": {"basis": "a", "texts": {"nl": "{org} neemt op.", "en": "{org} records."}}}
    read = from_mapping(minimal(purposes=whole))
    assert read.all_purposes()[PurposeName("survey")].basis is Basis.CONSENT
    assert read.wording().own_texts["survey", "nl"] == "{org} neemt op."


@pytest.mark.parametrize("name", ["../x", "Contract", "a b", "x" * 41, "a+b"])
def test_a_purpose_that_could_not_be_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        from_mapping(minimal(purposes={name: {"basis": "f", "texts": {"nl": "x", "en": "x"}}}))


def test_settings_cannot_be_changed_afterwards() -> None:
    read = from_mapping(minimal())
    with pytest.raises(ValueError, match="frozen"):
        read.mode = GuardMode.GUARD


def test_every_setting_is_explained_in_the_commented_file() -> None:
    text = (Path(__file__).parents[2] / "config" / "pbxguard.toml").read_text()
    missing = [key for key in settings.all_keys() if key.rpartition(".")[2] not in text]
    assert missing == []


def test_the_commented_file_is_valid_and_so_is_each_example_in_it(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "config" / "pbxguard.toml").read_text()
    assert isinstance(load(given(text, tmp_path)), Settings)
    uncommented = "\n".join(re.sub(r"^#(?! )", "", line) for line in text.splitlines())
    read = load(given(uncommented, tmp_path))
    assert read.scopes
    assert read.purposes


def test_the_ami_section_is_read_although_another_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "pbxguard.toml"
    path.write_text('mode = 3\n[ami]\nusername = "u"\nsecret = "s"\n')
    ami = settings.load_ami(path)
    assert (ami.username, ami.read_secret()) == ("u", "s")
    with pytest.raises(SettingsError):
        settings.load(path)


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "9" * 5000, "x = " + "{a=" * 3000])
def test_what_toml_cannot_read_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not TOML"):
        load(given(text, tmp_path))


def test_a_pair_of_one_purpose_is_none() -> None:
    assert "twice" in mistakes(minimal(prompts={"pairs": [["contract_evidence"] * 2]}))["prompts.pairs[1]"][0]
    unknown = mistakes(minimal(prompts={"pairs": [["contract_evidense", "quality_training"]]}))["prompts.pairs"]
    assert "did you mean contract_evidence?" in unknown[0]


def test_the_default_language_must_be_spoken_also_where_it_is_not_written() -> None:
    assert "default_language" in mistakes(minimal(languages=["en"]))


def test_a_key_is_told_in_plain_text() -> None:
    assert list(mistakes(minimal(**{"\x1b[2J": 1}))) == ["?[2J"]


def test_numbers_never_to_be_recorded_are_read_from_files(tmp_path: Path) -> None:
    lawyers = tmp_path / "lawyers.txt"
    lawyers.write_text("# lawyers\n\n070-1234567  # Mr A\n_02X!\n".replace("_02X!", "_0208880!"))
    read = from_mapping(minimal(never_record={"numbers": ["250"], "files": [str(lawyers)]}))
    listed = read.policy([]).never_record
    for text in ("+31701234567", "0208880001", "250", "112"):
        assert is_listed(listed, parse(text, "NL"))


@pytest.mark.parametrize(
    ("content", "told"), [(b"250\nmy lawyer\n", "line 2"), (b"\xff\xfe", "UTF-8"), (None, "cannot be read")]
)
def test_a_file_of_numbers_that_cannot_be_read_is_told_by_its_line(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "lawyers.txt"
    if content is not None:
        path.write_bytes(content)
    found = mistakes(minimal(never_record={"files": [str(path)]}))
    assert told in found["never_record.files"][0]
