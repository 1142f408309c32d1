"""The rules that keep the lab honest: where Asterisk comes from, no silent skip, and what the locks may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.lab import asterisk_tree

REPO = Path(__file__).resolve().parents[2]
RunPytest: TypeAlias = Callable[..., str]
SKIPPED = """\
import pytest
@pytest.mark.e2e
def test_on_the_real_asterisk():
    pytest.skip("there is none")
@pytest.mark.slow
def test_long():
    pass
def test_short():
    pass
"""

LONG = """
import pytest
@pytest.mark.parametrize("value", ["x" * 61, "short"])
def test_long(value):
    pass
"""


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_it.py").write_text(SKIPPED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  e2e: x\n  slow: x\n")

    def run(*arguments: str, **variables: str) -> str:
        kept = {key: value for key, value in os.environ.items() if key not in ("CI", "PBXGUARD_E2E")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(tmp_path)]
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=kept | {"PYTHONPATH": str(REPO)} | variables,
        ).stdout

    return run


def test_a_skipped_e2e_test_is_a_failure_only_where_it_is_required(run_pytest: RunPytest) -> None:
    assert "1 passed, 1 skipped, 1 deselected" in run_pytest()
    for variables in ({"CI": "true"}, {"PBXGUARD_E2E": "required"}):
        output = run_pytest(**variables)
        assert "1 failed, 1 passed, 1 deselected" in output
        assert "may not be skipped here: Skipped: there is none" in output


def test_a_long_value_names_no_test(run_pytest: RunPytest, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LONG)
    output = run_pytest("-vv")
    assert "test_it.py::test_long[value of 61] PASSED" in output
    assert "test_it.py::test_long[short] PASSED" in output


def test_long_runs_need_the_option(run_pytest: RunPytest) -> None:
    assert "2 passed, 1 skipped" in run_pytest("--slow")


@pytest.mark.parametrize(
    ("says", "version"),
    [("Asterisk 22.10.1~dfsg", "22.10.1"), ("Asterisk 20.3.0", "20.3.0"), ("Asterisk 18.10.0", None)],
)
def test_an_asterisk_on_path_is_used_when_it_is_recent(
    says: str, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "asterisk"
    binary.write_text(f"#!/bin/sh\necho '{says}'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said: list[str] = []
    tree = asterisk_tree.own(said.append)
    assert (tree.versions["asterisk"] if tree else None) == version
    refused = "is version 18.10.0, and 20 or later is needed: it is not used"
    assert [text.endswith(refused) for text in said] == ([] if version else [True])
    if tree is not None:
        assert tree.argv(["asterisk", "-f"], binds=[tmp_path]) == ["asterisk", "-f"]


def test_without_asterisk_and_root_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(asterisk_tree, "own", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(asterisk_tree.NoAsterisk, match=r"run this as root on a Debian machine[\s\S]*asterisk -V"):
        asterisk_tree.find(lambda _: None)


LAB = sorted((REPO / "tests" / "lab").rglob("*.py"))
JUDGES = ("checker", "measure", "signals", "verdicts")
"""What decides in the lab what is in a file, and whether it may be there."""


def imported(path: Path) -> set[str]:
    """The names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{one.name}" for one in node.names)}
    return found


def said(path: Path) -> str:
    """The program text of a file, without its docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.unparse(tree)


@pytest.mark.parametrize("path", LAB, ids=lambda path: str(path.relative_to(REPO)))
def test_the_lab_imports_nothing_of_pbxguard(path: Path) -> None:
    assert not [name for name in imported(path) if name.split(".")[0] == "pbxguard"]


def test_the_search_for_imports_finds_those_of_others() -> None:
    assert "pbxguard.core.permit" in imported(REPO / "tests" / "unit" / "test_reasons.py") | imported(
        REPO / "tests" / "unit" / "test_permit.py"
    )


@pytest.mark.parametrize("name", JUDGES)
def test_what_judges_a_file_reads_no_manifest(name: str) -> None:
    path = REPO / "tests" / "lab" / f"{name}.py"
    assert not re.search(r"manifest|json", said(path), re.IGNORECASE)
    lab = {one.removeprefix("tests.lab.").split(".")[0] for one in imported(path) if one.startswith("tests.lab.")}
    # Where these need pbxguard's word for a reason, they ask `installation` or `site`: neither reads a recording.
    assert lab <= {*JUDGES, "asterisk", "installation", "phone", "site", "stories"}
    assert "manifest" in said(REPO / "tests" / "lab" / "evidence.py"), "the search is blind"


def test_no_file_names_a_host_of_packages() -> None:
    """A machine's own settings say where packages come from. (No pattern here may match itself.)"""
    hosts = re.compile(
        r"pyp[i]\.|python[h]osted\.|debia[n]\.(?:org|net)|ubunt[u]\.com|anacond[a]\.(?:org|com)|npmj[s]\.|crate[s]\.io"
    )
    assert hosts.search("https://" + "p" + "ypi.org/simple"), "the search is blind"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    paths = [REPO / name for name in listed.split("\0") if name]
    assert len(paths) > 300
    texts = {path: path.read_bytes().decode(errors="replace") for path in paths if path.is_file()}
    assert [(str(path), found[0]) for path, text in texts.items() if (found := hosts.search(text))] == []


def lock(name: str) -> str:
    return (REPO / "requirements" / f"{name}.lock").read_text()


@pytest.mark.parametrize("name", ["run", "test", "phones", "fuzz", "mutants"])
def test_locks_hold_names_versions_and_hashes_and_nothing_else(name: str) -> None:
    marker = r'[()a-z_ ]*(?:python_version|platform_machine) == "[\w.]+"[()a-z_ ."=\d]*'
    line = re.compile(
        r"# Made by script/lock; do not edit\."
        rf"|[a-z0-9-]+==[\w.]+(?: ; {marker})? \\"
        r"|    --hash=sha256:[0-9a-f]{64}(?: \\)?"
    )
    assert [text for text in lock(name).splitlines() if not line.fullmatch(text)] == []


def test_every_requirement_is_locked() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    locks = "".join(lock(name) for name in ("run", "test", "phones", "fuzz", "mutants"))
    locked = set(re.findall(r"^([a-z0-9-]+)==", locks, re.MULTILINE))
    for requirement in (
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ):
        name = re.split(r"[\[<>=;~! ]", requirement)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in locked, f"run script/lock: {name} is not locked"
