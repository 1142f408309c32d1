"""What the wheel holds: who installs it needs the dialplan and the configuration as much as the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built in a copy: a build leaves folders behind."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("pbxguard", "config", "dialplan"):
        shutil.copytree(REPO / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / file, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "."]
    done = subprocess.run([*command, "-w", "out"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "out").glob("pbxguard-*.whl")
    return zipfile.ZipFile(built)


def shipped(folder: str) -> dict[str, bytes]:
    """Every file of a folder of the repo, by its path."""
    files = (file for file in (REPO / folder).rglob("*") if file.is_file())
    return {str(file.relative_to(REPO)): file.read_bytes() for file in files}


@pytest.mark.parametrize("folder", ["config", "dialplan"])
def test_the_wheel_has_the_configuration_and_the_dialplan_as_they_are(wheel: zipfile.ZipFile, folder: str) -> None:
    assert shipped(folder)
    for path, content in shipped(folder).items():
        assert wheel.read(f"pbxguard/{path}") == content


def test_the_wheel_has_every_module_and_nothing_beside_the_package(wheel: zipfile.ZipFile) -> None:
    modules = {str(file.relative_to(REPO)) for file in (REPO / "pbxguard").rglob("*.py")}
    names = set(wheel.namelist())
    assert modules | {"pbxguard/py.typed"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pbxguard"}


def test_the_wheel_names_its_licence_and_no_gpl_requirement(wheel: zipfile.ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(path))
    assert metadata["License-Expression"] == "Apache-2.0"
    always = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert always
    assert not [one for one in always if one.startswith("pjsua2")]
