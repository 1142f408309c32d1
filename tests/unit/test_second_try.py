"""`script/test` runs once more what failed beside other tests: it fails for what fails twice, and names both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
RUN = """
set -euo pipefail
repo=$1
. "$repo/script/lib/common"
. "$repo/script/lib/second_try"
repo=$2 status=0
tests "$repo/.venv/bin/python" -m pytest -q -p xdist "${@:3}" || status=$?
tried
exit $status
"""
FIRST_TIME = """
import pytest
from pathlib import Path

def passes_the_second_time(name):
    mark = Path(name)
    if not mark.exists():
        mark.touch()
        assert False
"""
ONCE = "def test_once(): passes_the_second_time('once')\n"
TWICE = "def test_twice(): assert False\n"
GOOD = "def test_good(): Path('good').open('a').write('.')\n"
NAMED = "PASSED BY ITSELF ONLY: test_it.py::test_once"
GROUPED = """
@pytest.mark.xdist_group("calls")
@pytest.mark.parametrize("who", ["a [b] c - d"])
def test_grouped(who): passes_the_second_time('grouped')
"""
WORKERS = ["-n", "2", "--dist", "loadgroup"]


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(FIRST_TIME + tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = ["bash", "-c", RUN, "run", str(REPO), str(folder), *options]
    quick = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=quick, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("options", [[], WORKERS], ids=["alone", "two workers"])
def test_what_passes_by_itself_is_named_and_does_not_fail_the_run(tmp_path: Path, options: list[str]) -> None:
    ran = run(tmp_path, ONCE + GOOD, *options)
    assert ran.returncode == 0, ran.stdout
    assert f"{NAMED} (cores waited for: " in ran.stdout.splitlines()[-1]
    assert (tmp_path / "good").read_text() == ".", "what passed is not run again"


def test_a_test_of_a_group_is_found_again(tmp_path: Path) -> None:
    ran = run(tmp_path, GROUPED + GOOD, *WORKERS)
    assert ran.returncode == 0, ran.stdout
    assert "PASSED BY ITSELF ONLY: test_it.py::test_grouped[a [b] c - d]@calls (" in ran.stdout
    assert (tmp_path / "good").read_text() == "."


@pytest.mark.parametrize("options", [[], WORKERS], ids=["alone", "two workers"])
def test_what_fails_twice_fails_the_run_and_is_named(tmp_path: Path, options: list[str]) -> None:
    ran = run(tmp_path, ONCE + TWICE, *options)
    assert ran.returncode == 1
    passed, failed = ran.stdout.splitlines()[-2:]
    assert passed.startswith(NAMED)
    assert failed == "FAILED: test_it.py::test_twice"


def test_all_of_a_file_may_be_tried_again(tmp_path: Path) -> None:
    ran = run(tmp_path, "".join(f"def test_{n}(): passes_the_second_time('{n}')\n" for n in range(30)))
    assert ran.returncode == 0
    assert ran.stdout.count("PASSED BY ITSELF ONLY") == 30


def test_nothing_is_said_of_a_run_without_a_failure(tmp_path: Path) -> None:
    ran = run(tmp_path, GOOD)
    assert ran.returncode == 0
    assert (tmp_path / "good").read_text() == "."
    assert "1 passed" in ran.stdout.splitlines()[-1]


def test_where_many_fail_there_is_no_second_try(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"test_{n}.py").write_text(TWICE)
    ran = run(tmp_path, ONCE)
    assert ran.returncode == 1
    assert "Once more" not in ran.stderr
    assert "FAILED: test_it.py::test_once\n" in ran.stdout
    assert "6 failed" in ran.stdout.partition("FAILED: pytest ended with 1, and said at last: ")[2]


OTHER_NAMES = """
import os
@pytest.mark.parametrize("worker", [os.environ["PYTEST_XDIST_WORKER"]])
def test_it(worker): pass
"""


@pytest.mark.parametrize(
    ("tests", "options", "code", "said"),
    [("import nothing\n", [], 2, "1 error in"), (OTHER_NAMES, WORKERS, 1, "Known limitations")],
    ids=["no module", "other names on each worker"],
)
def test_where_none_could_run_there_is_no_second_try_and_it_says_why(
    tmp_path: Path, tests: str, options: list[str], code: int, said: str
) -> None:
    ran = run(tmp_path, tests, *options)
    assert ran.returncode == code
    assert "Once more" not in ran.stderr
    assert said in ran.stdout.partition(f"FAILED: pytest ended with {code}, and said at last: ")[2]


def test_a_second_try_that_cannot_run_fails_the_run(tmp_path: Path) -> None:
    ran = run(tmp_path, "def test_it():\n    Path(__file__).write_text('nonsense(')\n    assert False\n")
    assert ran.returncode != 0
    assert "PASSED BY ITSELF ONLY" not in ran.stdout
