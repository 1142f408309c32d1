"""The list of fault points is held against the code: none is missing where it should stand, none is idle."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pbxguard
from pbxguard.fault_points import STANDS, VARIABLE, FaultPoint, Fuse

PACKAGE = Path(pbxguard.__file__).parent
ON_DISK = {"fsync", "unlink", "rename", "truncate", "ftruncate", "utime", "write_text", "write_bytes", "copyfileobj"}
"""Called, or handed to a thread, under these names."""
WRITES = {"write", "write_text", "write_bytes", "copyfileobj"}
"""Several of them in a row, on their way to one sync, are one step."""
ACTIONS = {"MixMonitor", "StopMixMonitor", "Setvar"}

ELSEWHERE = {
    "api/place.py": "the service's socket, no recording",
    "logs.py": "log lines",
    "outlet.py": "log lines",
    "cli": "what the command line prints and what a person builds by hand",
    "sound/prompts.py": "prompts, which are there before any permit",
    "db/engine.py": "a folder that is made at a start; what `write` and `scrub` do is the step of who calls them",
    "db/calls.py": "what is known of calls: no recording hangs on it",
    "service/check_pbx.py": "a manager account's right of that name",
    "service/life.py": "when the service began and ended: no recording",
    "service/doors.py": "what was heard and said is committed before any permit",
    "service/quarantine.py": "audio that nobody can explain comes from no permit that is known",
    "pbx/ami/pbx.py": "lamps, variables and hang-ups: no recorder",
    "pbx/agi/server.py": "bytes on the wire",
    "archive/files.py:FileArchive.put": "hands over how to write, to `_put`",
    "archive/files.py:FileArchive.put_bytes": "hands over how to write, to `_put`",
    "archive/spool.py:Spool.set_apart": "quarantine",
    "archive/spool.py:Spool.destroy_set_apart": "quarantine",
    "archive/spool.py:Spool._sync": "a sync: the step of who calls it",
    "archive/spool.py:Spool._write_nameless": "a page that only tries the disk",
    "archive/spool.py:sync_folder": "a sync: the step of who calls it",
    "archive/spool.py:make_folders": "at a start, before anything is recorded",
    "db/engine.py:Database.execute": "a transaction: the step of who calls it",
    "db/index.py:SqlIndex._change": "an outcome or a lock: nothing is made or destroyed",
    "service/access.py:Access.set_outcome": "an outcome: nothing is made or destroyed",
    "service/access.py:_take_back": "a copy that could not be made: its caller's step",
    "service/access.py:_write_wav": "a copy's audio: the step of who calls it",
    "service/requests.py:Requests._commit": "an operator's request, who is told whether it is on disk",
    "service/guard.py:Guard._note": "a doubt about a party, which only ever forbids",
}


@dataclass(frozen=True)
class Step:
    """In a function, in the order of its lines: something that a crash may come before or after, or a fault point."""

    line: int
    what: str
    point: str = ""


def step_of(node: ast.AST) -> Step | None:
    match node:
        case ast.Call(func=ast.Name(id="reached"), args=[ast.Attribute(attr=name)]):
            return Step(node.lineno, "reached", name)
        case ast.Call(func=ast.Name(id="sync_folder")) | ast.Call(func=ast.Attribute(attr="_sync")):
            return Step(node.lineno, "fsync")
        case ast.Call(func=ast.Name(id="write")):
            return Step(node.lineno, "write")
        case ast.Call(func=ast.Attribute(attr="_act" | "act" | "action"), args=[ast.Constant(value=str(name)), *_]):
            return Step(node.lineno, name) if name in ACTIONS else None
        case ast.Attribute(attr="commit", value=ast.Attribute(attr="_audit" | "audit")):
            return Step(node.lineno, "commit")
        case ast.Attribute(attr="write" | "execute" | "scrub" as name, value=ast.Attribute(attr="_database")):
            return Step(node.lineno, f"database.{name}")
        case ast.Attribute(attr="replace", value=ast.Name(id="os")):
            return Step(node.lineno, "rename")
        case ast.Attribute(attr=name) if name in ON_DISK | {"write"}:
            return Step(node.lineno, "write" if name in WRITES else name)
    return None


def functions(tree: ast.AST, above: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Methods and functions by their names, with what is nested in them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{above}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield above + node.name, node


def steps(function: ast.AST) -> list[Step]:
    """In the order of lines; writes in a row are one."""
    found = sorted((s for node in ast.walk(function) if (s := step_of(node))), key=lambda s: s.line)
    return [s for n, s in enumerate(found) if not (n and s.what == "write" == found[n - 1].what)]


def everywhere() -> Iterator[tuple[str, str, list[Step]]]:
    """(module, function, its steps), of those that have any."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        for name, node in functions(ast.parse(path.read_text())):
            if found := steps(node):
                yield module, name, found


def elsewhere(module: str, function: str) -> bool:
    return any(key in ELSEWHERE for key in (module, module.split("/")[0], f"{module}:{function}"))


def unguarded(found: list[Step]) -> list[Step]:
    """Steps without a fault point directly before and directly after them."""
    kinds = ["", *(s.what for s in found), ""]
    return [
        s for n, s in enumerate(found, 1) if s.what != "reached" and not (kinds[n - 1] == "reached" == kinds[n + 1])
    ]


def test_every_step_from_permit_to_erased_spool_and_of_a_destruction_stands_between_two_fault_points() -> None:
    bare = [
        f"{module}:{step.line} {function}: {step.what}"
        for module, function, found in everywhere()
        if not elsewhere(module, function)
        for step in unguarded(found)
    ]
    assert bare == []


def test_what_stands_elsewhere_is_still_there_and_has_no_fault_point() -> None:
    found = list(everywhere())
    for key in ELSEWHERE:
        module, _, function = key.partition(":")
        of_key = [f for m, name, f in found if key in (m, m.split("/")[0]) or (m, name) == (module, function)]
        assert not any(step.what == "reached" for of in of_key for step in of), key
    idle = {key for key in ELSEWHERE if not any(key in (m, m.split("/")[0], f"{m}:{name}") for m, name, _ in found)}
    assert idle == set(), "nothing there any more that would want a fault point"


def test_every_fault_point_is_in_the_code_once() -> None:
    used = Counter(step.point for _, _, found in everywhere() for step in found if step.point)
    assert used == {point.name: 1 for point in FaultPoint}


@pytest.mark.parametrize(
    ("body", "bare"),
    [
        ("reached(FaultPoint.A)\n    os.fsync(1)\n    reached(FaultPoint.B)", []),
        ("os.fsync(1)\n    reached(FaultPoint.B)", ["fsync"]),
        (
            "reached(FaultPoint.A)\n    p.unlink()\n    os.replace(a)\n    reached(FaultPoint.B)",
            ["unlink", "rename"],
        ),
        ("reached(FaultPoint.A)\n    f.write(a)\n    f.write(b)\n    reached(FaultPoint.B)", []),
        ("self._audit.commit(x)", ["commit"]),
        ("self._act('StopMixMonitor', x)", ["StopMixMonitor"]),
        ("asyncio.to_thread(work.unlink, missing_ok=True)", ["unlink"]),
        ("async with self._database.write() as c: pass", ["database.write"]),
    ],
)
def test_a_step_without_its_fault_points_would_be_found(body: str, bare: list[str]) -> None:
    ((_, function),) = functions(ast.parse(f"async def f():\n    {body}\n"))
    assert [step.what for step in unguarded(steps(function))] == bare


def test_names_are_dotted_and_every_point_says_what_has_happened() -> None:
    for point in FaultPoint:
        assert all(part.isidentifier() for part in point.value.split(".")), point
        assert "." in point.value
        assert point.meaning.endswith(".")


def test_a_fuse_burns_at_its_pass_of_its_point_and_never_again() -> None:
    fuse = Fuse("segment.cut:2")
    passes = [FaultPoint.SEGMENT_CUT, FaultPoint.SEGMENT_CLOSED, FaultPoint.SEGMENT_CUT, FaultPoint.SEGMENT_CUT]
    assert [fuse.burns(point) for point in passes] == [False, False, True, False]
    assert Fuse("segment.cut").burns(FaultPoint.SEGMENT_CUT)


@pytest.mark.parametrize("text", ["", "no.such.point", "segment.cut:x", "SEGMENT_CUT"])
def test_a_fuse_without_a_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"FaultPoint|literal"):
        Fuse(text)


PROGRAM = """
import os, sys
sys.argv[1:] and os.environ.update({sys.argv[1]: sys.argv[2]}) if "late" not in sys.argv else None
from pbxguard.fault_points import FaultPoint, reached
if "late" in sys.argv:
    os.environ[sys.argv[1]] = sys.argv[2]
reached(FaultPoint.SEGMENT_CUT)
print("alive", flush=True)
"""


def ended(*words: str, armed: str = "") -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=environment | ({VARIABLE: armed} if armed else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ran.returncode, ran.stdout.strip()


def test_a_process_dies_only_where_it_was_started_to_die() -> None:
    assert ended(armed="segment.cut") == (-signal.SIGKILL, "")
    assert ended(armed="segment.cut:2") == (0, "alive")
    assert ended(armed="segment.closed") == (0, "alive")
    assert ended() == (0, "alive")


def test_a_running_process_cannot_be_armed() -> None:
    assert ended(VARIABLE, "segment.cut", "late") == (0, "alive")


def test_a_process_stands_still_only_where_it_was_started_to_and_goes_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env={**os.environ, STANDS: "segment.cut"}, stdout=subprocess.PIPE, text=True
    )
    try:
        pid, status = os.waitpid(process.pid, os.WUNTRACED)
        assert pid == process.pid
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
    finally:
        process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "alive")
