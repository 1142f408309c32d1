"""Whether the tests would see it, if the rules were wrong: `python -m bench.mutants permit parties [--minutes 30]`.

Each mutant is a module of `pbxguard/core` with one small fault (`bench.mutations`). Against each, the fast tests run
in a process of their own, in memory (nothing of the tree is changed), until the first fails. One that passes them
all survived: a test is missing, or the fault is none. The latter stand in `bench/equivalent_mutants.toml` with the
reason why. Ends with an error when a survivor is not explained, or an explanation fits none. Works as politely as it
can, and remembers: `--again` runs only what survived last time. Needs Cosmic Ray:

    .venv/bin/python -m pip install --no-deps --require-hashes -r requirements/mutants.lock
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bench.mutations import Mutant, mutants

REPO = Path(__file__).resolve().parents[1]
MODULES = ("permit", "parties", "switchboard", "supervisor")
UNIT = ("permit", "parties", "law_table", "switchboard", "supervisor", "conversation", "memory", "never_record")
KILLERS = (
    *(f"tests/unit/test_{name}.py" for name in UNIT),
    *("tests/unit/test_supervisor_callee.py", "tests/unit/test_untold.py", "tests/unit/test_lamps.py"),
    *("tests/property/test_supervisor.py",),
)
EXPLAINED = REPO / "bench/equivalent_mutants.toml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pbxguard/mutants"
EXAMPLES = "40"
"""Of the property test; always the same ones."""
LONGEST = 60.0
"""Seconds for one mutant: one that hangs is killed, and counts so."""


class Instead(importlib.abc.MetaPathFinder):
    """Imports one module from a text instead of its file."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._loader = name, FromText(source)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self._loader) if fullname == self._name else None


class FromText(importlib.abc.InspectLoader):
    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="of pbxguard/core, without .py")
    parser.add_argument("--minutes", type=float, default=120.0, help="for all modules together")
    parser.add_argument("--again", action="store_true", help="only those that survived, or were not run, last time")
    options = parser.parse_args()
    os.nice(19 - os.nice(0))
    os.chdir(REPO)
    until = time.monotonic() + options.minutes * 60
    unexplained = 0
    for module in options.modules:
        unexplained += examine(module, until, again=options.again)
    if unexplained:
        raise SystemExit(f"{unexplained} to look at")


def examine(module: str, until: float, *, again: bool) -> int:
    """Run and print all mutants of one module; gives how many survivors and explanations are in want of the other."""
    source = (REPO / f"pbxguard/core/{module}.py").read_text()
    found = mutants(source)
    _import_before_forking()
    if not _passes(module, source):
        raise SystemExit("the tests fail without any fault")
    memory = CACHE / f"{module}.json"
    killed: set[str] = set(json.loads(memory.read_text())) if again and memory.exists() else set()
    survivors, left = [], 0
    for mutant in found:
        if mutant.digest in killed:
            continue
        if time.monotonic() > until:
            left += 1
        elif _passes(module, mutant.source):
            survivors.append(mutant)
        else:
            killed.add(mutant.digest)
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(sorted(killed)))
    explained = [entry for entry in tomllib.loads(EXPLAINED.read_text())["mutant"] if entry["module"] == module]
    bare = [mutant for mutant in survivors if not any(_is_of(entry, mutant) for entry in explained)]
    idle = [entry for entry in explained if not left and not any(_is_of(entry, m) for m in survivors)]
    print(
        f"{module}: {len(found)} mutants, {len(found) - left - len(survivors)} killed,"
        f" {len(survivors) - len(bare)} equivalent and explained, {len(bare)} survived"
        + (f", {left} not run for want of time" if left else "")
    )
    for mutant in bare:
        print(f"  {module}.py:{mutant.line} {mutant.kind}\n    - {mutant.before}\n    + {mutant.after}")
    for entry in idle:
        print(f"  an explanation that fits no survivor: {entry}")
    sys.stdout.flush()
    return len(bare) + len(idle)


def _is_of(entry: dict[str, str], mutant: Mutant) -> bool:
    return (entry["before"], entry["after"]) == (mutant.before, mutant.after)


def _import_before_forking() -> None:
    """What takes long to import and is not under test."""
    import hypothesis.stateful  # noqa: F401
    import numpy as np  # noqa: F401
    import phonenumbers  # noqa: F401
    import pytest  # noqa: F401
    import pytest_asyncio  # noqa: F401

    assert not any(name == "pbxguard" or name.startswith("pbxguard.") for name in sys.modules)


def _passes(module: str, source: str) -> bool:
    """Whether all the tests pass with this source in the module's place."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _run_tests(module, source)
        finally:
            os._exit(code)
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _run_tests(module: str, source: str) -> int:
    import pytest

    os.environ |= {"CI": "1", "PBXGUARD_EXAMPLES": EXAMPLES}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.meta_path.insert(0, Instead(f"pbxguard.core.{module}", source))
    with contextlib.suppress(SystemExit):
        return int(pytest.main(["-q", "-x", "--tb=no", "-p", "no:cacheprovider", *KILLERS]))
    return 70


if __name__ == "__main__":
    main()
