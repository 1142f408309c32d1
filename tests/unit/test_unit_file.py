"""The systemd unit that is shipped: systemd's own tools find nothing wrong with it, and little that it could do."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from pbxguard.settings.sections import ArchiveSettings, SpoolSettings

UNIT = Path(__file__).resolve().parents[2] / "config" / "systemd" / "pbxguard.service"
EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts; 1.3 when this was written."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def unit() -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(UNIT.read_text())
    return read


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    """With a program in place of the one that this machine has not installed."""
    program = shutil.which("true")
    assert program is not None
    text = UNIT.read_text()
    copy = tmp_path / "pbxguard.service"
    copy.write_text(text.replace("/opt/pbxguard/bin/pbxguard", program))
    checked = analyze("verify", "--man=no", str(copy))
    assert (checked.returncode, checked.stderr) == (0, "")
    copy.write_text(text.replace("WatchdogSec=5", "WatchdogSek=5").replace("/opt/pbxguard/bin/pbxguard", program))
    assert "WatchdogSek" in analyze("verify", "--man=no", str(copy)).stderr, "it would find a mistake"


@needs_systemd
def test_it_can_do_little_on_the_machine() -> None:
    threshold = str(round(EXPOSURE * 10))
    checked = analyze("security", "--offline=true", f"--threshold={threshold}", "--no-pager", str(UNIT))
    assert checked.returncode == 0, checked.stdout[-300:]
    assert analyze("security", "--offline=true", "--threshold=1", "--no-pager", str(UNIT)).returncode != 0


def test_it_waits_for_the_disks_of_spool_and_archive() -> None:
    """Else what an earlier one left open would seem to hold nothing, and be closed as empty."""
    folders = {SpoolSettings().path, ArchiveSettings().root.parent}
    assert {Path(folder) for folder in unit()["Unit"]["RequiresMountsFor"].split()} == folders


def test_a_frozen_one_is_killed_and_whatever_ended_it_its_recorders_are_stopped() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["WatchdogSec"] == "5"
    assert service["WatchdogSignal"] == "SIGKILL", "a frozen process handles no other signal"
    assert service["ExecStopPost"].split()[1] == "stop-recorders"
    assert service["ExecStart"].split()[0] == service["ExecStopPost"].split()[0]
    assert service["Restart"] == "always"


def test_it_keeps_its_users_and_groups_for_the_spool() -> None:
    """In a user namespace of its own Asterisk's group would be nobody's."""
    assert "PrivateUsers" not in unit()["Service"]
