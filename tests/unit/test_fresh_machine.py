"""script/fresh-machine leaves nothing behind, however it ends: no mount, no process, no folder. Needs root to mount."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
CAN_MOUNT = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="mounts need root")

DEBOOTSTRAP = """\
#!/bin/sh
# In the place of the real one: half a machine, with what the real one mounts in it. $4 is the machine.
mkdir -p "$4/proc" "$4/sys" "$4/usr/bin"
mount -t proc proc "$4/proc"
mount -t tmpfs sysfs "$4/sys"
mkdir "$4/sys/deeper"
mount -t tmpfs deeper "$4/sys/deeper"
echo "half made" >"$4/usr/bin/half"
readlink /proc/self/ns/mnt >"$FAKE_DIR/mounts-of"
end=$(($(date +%s) + 30))
while [ "$(date +%s)" -lt $end ]; do echo on >>"$4/written"; sleep 0.01; done
"""
"""Writes on and on: whoever removes the machine under it before its end finds the folder there again."""


def in_own_mounts(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Bash, with script/lib/common, in a mount namespace that vanishes with it."""
    whole = f'set -euo pipefail\n. "{REPO}/script/lib/common"\n{script}'
    command = ["unshare", "--mount", "bash", "-c", whole, "bash", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_what_is_mounted_in_a_tree_is_undone_before_the_tree_goes(tmp_path: Path) -> None:
    tree, beside, ours = tmp_path / "ma chine[1]", tmp_path / "ma chine[1]-not", tmp_path / "ours"
    for folder in (tree / "sys", tree / "bound", tree / "tab\\\there", beside, ours):
        folder.mkdir(parents=True)
    (ours / "file").write_text("this machine's own")
    ran = in_own_mounts(
        """
        mount -t tmpfs one "$1/sys"; mkdir "$1/sys/deeper"
        mount -t tmpfs two "$1/sys/deeper"; mount -t tmpfs again "$1/sys/deeper"
        mount -t tmpfs odd "$1/tab\\\\"$'\\t'"here"
        mount --bind "$3" "$1/bound"
        mount -t tmpfs beside "$2"
        exec {busy}>"$1/sys/deeper/open"
        mounts_below "$1" | tr '\\0' '\\n' | sed 's,^,mounted ,'
        remove_tree "$1"
        mounts_below "$1" | tr '\\0' '\\n' | sed 's,^,left ,'
        mounts_below "$2" | tr '\\0' '\\n' | sed 's,^,beside ,'
        """,
        *map(str, (tree, beside, ours)),
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert [line for line in said if line.startswith("mounted")] == [
        f"mounted {tree}/tab\\\there",
        *[f"mounted {tree}/sys/deeper"] * 2,
        f"mounted {tree}/sys",
        f"mounted {tree}/bound",
    ]
    assert [line for line in said if not line.startswith("mounted")] == [f"beside {beside}"]
    assert not tree.exists()
    assert (ours / "file").read_text() == "this machine's own"


def test_a_tree_in_which_a_mount_stays_is_not_removed(tmp_path: Path) -> None:
    tree, ours = tmp_path / "machine", tmp_path / "ours"
    (tree / "bound").mkdir(parents=True)
    ours.mkdir()
    (ours / "file").write_text("this machine's own")
    ran = in_own_mounts('mount --bind "$2" "$1/bound"; umount() { return 32; }; remove_tree "$1"', str(tree), str(ours))
    assert ran.returncode == 1
    assert f"still mounted there: {tree}/bound" in ran.stderr
    assert (ours / "file").read_text() == "this machine's own"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_a_fresh_machine_killed_while_it_is_made_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    tools, machines, temporary = tmp_path / "tools", tmp_path / "machines", tmp_path / "tmp"
    for folder in (tools, machines, temporary):
        folder.mkdir()
    (tools / "debootstrap").write_text(DEBOOTSTRAP)
    (tools / "debootstrap").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PBXGUARD_FRESH_DIR": str(machines),
        "FAKE_DIR": str(tmp_path),
        "TMPDIR": str(temporary),
    }
    script = [str(REPO / "script/fresh-machine"), "true"]
    with subprocess.Popen(
        script,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),  # bash traps nothing that was ignored before it (nohup)
    ) as run:
        until(lambda: list(machines.glob("*/written")), "a half-made machine")
        inside = (tmp_path / "mounts-of").read_text().strip()
        assert living_in(inside), "the control: whoever makes the machine is found"
        assert list(temporary.iterdir()), "the control: debootstrap's log"
        run.send_signal(how)
        assert run.wait(DEADLINE_S) == -how
        assert run.stderr is not None
        assert "Not removed" not in run.stderr.read()
    assert living_in(inside) == []
    assert list(machines.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert str(machines) not in Path("/proc/self/mountinfo").read_text()


def living_in(mounts: str) -> list[str]:
    """The processes of a mount namespace (`mnt:[...]`); a namespace without any is gone, and its mounts with it."""
    found = []
    for one in Path("/proc").iterdir():
        try:
            if one.name.isdigit() and os.readlink(one / "ns/mnt") == mounts:
                found.append(one.name)
        except OSError:
            continue  # it ended while we looked
    return found


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, f"not after {DEADLINE_S} s: {what}"
        time.sleep(0.01)
