"""An Asterisk that the machine has on PATH is used as it is, without a tree, and records a call.

Where the machine has none, the tree's own Asterisk is put on PATH, run on the machine's file system by the tree's
loader and libraries. Its packaged folders appear where a package would have put them, in a mount namespace that ends
with the run: nothing of it stays on the machine.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import asterisk_tree
from tests.lab.asterisk import REPO

TESTS = (
    "tests/e2e/test_lab.py::test_a_plain_call_is_heard_and_measured_at_both_ends",
    "tests/e2e/test_demo.py::test_an_inbound_call_is_recorded_after_the_disclosure_and_to_its_end",
)
"""A plain call, and the demo as a person runs it, of whose calls one is told, bridged, recorded and sealed."""
DEADLINE_S = 240.0

# $1 a folder to work in, then pairs: a folder of the tree, and where it is to appear. A folder that is not there
# cannot be mounted on, so its parent is first covered by a read-only view of itself with that folder in it.
INSIDE = r"""
set -eu
work=$1 && shift
while [ "$1" != -- ]; do
    from=$1 to=$2 && shift 2
    if [ ! -d "$to" ]; then
        mkdir -p "$work$to"
        mount -t overlay overlay -o "lowerdir=$work$(dirname "$to"):$(dirname "$to")" "$(dirname "$to")"
    fi
    mount --bind "$from" "$to"
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Machine:
    """How to run a command on a machine that has Asterisk on PATH; `binary` notes each of its starts in `starts`."""

    prefix: tuple[str, ...]
    binary: Path
    starts: Path

    async def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output of a command there."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix,
            *command,
            cwd=REPO,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"PATH": f"{self.binary.parent}:{os.environ['PATH']}", "PBXGUARD_E2E": "required"},
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, said.decode(errors="replace")


@pytest.fixture
def machine(tree: asterisk_tree.Tree, tmp_path: Path) -> Machine:
    binary, starts = tmp_path / "bin" / "asterisk", tmp_path / "starts"
    binary.parent.mkdir()
    note = f'#!/bin/sh\nprintf "%s\\n" "$*" >>{shlex.quote(str(starts))}\nexec '
    if tree.root is None:
        binary.write_text(f'{note}{shlex.quote(tree.versions["path"])} "$@"\n')
        prefix: tuple[str, ...] = ()
    else:
        (libraries,) = (tree.root / "usr/lib").glob("*-linux-gnu")
        loader, *_ = [*(tree.root / "usr").glob("lib64/ld-linux*"), *libraries.glob("ld-linux*")]
        run = [str(loader), "--library-path", str(libraries), str(tree.root / "usr/sbin/asterisk")]
        binary.write_text(f'{note}{shlex.join(run)} "$@"\n')
        shown = ["/etc/asterisk", f"/usr/lib/{libraries.name}/asterisk", "/usr/share/asterisk", "/var/lib/asterisk"]
        pairs = [text for folder in shown for text in (str(tree.inside(folder)), folder)]
        view = ("sh", "-c", INSIDE, "machine", str(tmp_path / "view"), *pairs, "--")
        prefix = (*asterisk_tree.unshare(), *view)
    binary.chmod(0o755)
    return Machine(prefix, binary, starts)


async def test_an_asterisk_on_path_is_chosen_and_records_a_call(machine: Machine) -> None:
    code, said = await machine.run(sys.executable, "-m", "tests.lab.asterisk_tree")
    assert code == 0, said
    assert said.rstrip().endswith(f", {machine.binary}")

    machine.starts.unlink()
    code, said = await machine.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert code == 0, said
    assert f"{len(TESTS)} passed" in said
    started = [line for line in machine.starts.read_text().splitlines() if line.startswith("-f -C /tmp/pbxlab-")]
    assert len(started) == len(TESTS)
