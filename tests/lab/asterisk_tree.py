"""Owns: a place from which Asterisk 20 or later can be started, and what it takes to make one.

Debian stable carries no Asterisk; `sid` carries 22. So a small Debian tree is debootstrapped into a cache
folder outside the repo, once, and Asterisk and SIPp run in it by `chroot`. A machine that has an Asterisk of
version 20 or later on its PATH uses that one, without a tree. Runnable: `python -m tests.lab.asterisk_tree`.

Only the standard library, so that script/setup can run it before any package is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OLDEST_VERSION = 20
SUITES = ("sid", "forky")  # the first that installs is taken
PACKAGES = ("asterisk", "asterisk-core-sounds-en-wav", "sip-tester")

# Runs in mount and pid namespaces of its own: no mount and no process outlives it. $1 tree, $2 suite,
# $3 mirror, $4 debootstrap's script for the suite. Bookworm's debootstrap knows sid, not forky.
BUILD = r"""
set -eu
tree=$1 suite=$2 mirror=$3 recipe=$4
debootstrap --variant=minbase --include=ca-certificates "$suite" "$tree" "$mirror" "$recipe"
printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
cat /etc/resolv.conf >"$tree/etc/resolv.conf" 2>/dev/null || true
printf '127.0.0.1 localhost %s\n' "$(uname -n)" >"$tree/etc/hosts"
apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv)' >"$tree/etc/apt/apt.conf.d/90host" || true
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    cat /etc/ssl/certs/ca-certificates.crt >"$tree/etc/ssl/certs/ca-certificates.crt"
fi
mount -t proc proc "$tree/proc"
in_tree() { env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} chroot "$tree" "$@"; }
in_tree apt-get -o Acquire::Check-Valid-Until=false update
in_tree apt-get install --yes --no-install-recommends PACKAGES
in_tree apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/apt/apt.conf.d/90host"
umount "$tree/proc"
: >"$tree/etc/resolv.conf"
""".replace("PACKAGES", " ".join(PACKAGES))

WHAT_TO_DO = """\
There is no Asterisk {oldest} or later on PATH, and none can be made here: {reason}.
Any one of these helps:
  - run this as root on a Debian machine (or in a Debian container): a tree with Asterisk is then made in
    {cache} by debootstrap, about 740 MB and a minute or two;
  - install Asterisk {oldest} or later, so that `asterisk -V` works in this shell.
Unit and wire tests need neither: pytest tests/unit tests/wire tests/property tests/db"""


class NoAsterisk(RuntimeError):
    """No Asterisk here, and none can be made; the message says what to do."""


@dataclass(frozen=True)
class Tree:
    """Where Asterisk and SIPp are. `root` is None when they are this machine's own."""

    root: Path | None
    versions: dict[str, str]

    def inside(self, path: str) -> Path:
        """The host's spelling of a path inside the tree."""
        return Path(path) if self.root is None else self.root / path.lstrip("/")

    def argv(self, command: Sequence[str], *, binds: Sequence[Path] = ()) -> list[str]:
        """The command line that runs `command` in the tree, with each of `binds` at the same path inside.

        The mounts live in a namespace of the command's own and vanish with it; the process keeps the pid that
        the caller's spawn got, so it can be ended by that pid. Folders under /tmp leave no trace in the tree.
        """
        if self.root is None:
            return list(command)
        root = shlex.quote(str(self.root))
        lines = ["set -eu", f"mount -t tmpfs tmpfs {root}/tmp", f"mount -t proc proc {root}/proc"]
        # Without this machine's name, and with a resolver that never answers, every call stalls for seconds.
        lines.append(f"printf '127.0.0.1 localhost %s\\n' \"$(uname -n)\" >{root}/tmp/.hosts")
        lines.append(f"mount --bind {root}/tmp/.hosts {root}/etc/hosts")
        for bind in dict.fromkeys(path.resolve() for path in binds):
            inside = root + shlex.quote(str(bind))
            lines += [f"mkdir -p {inside}", f"mount --bind {shlex.quote(str(bind))} {inside}"]
        lines.append(f'exec chroot {root} "$@"')
        return [*unshare(), "sh", "-c", "\n".join(lines), "tree", *command]


def cache_dir() -> Path:
    """The folder outside the repo that holds trees: `$XDG_CACHE_HOME/pbxguard`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "pbxguard"


def recipe_hash() -> str:
    return hashlib.sha256("\n".join((BUILD, *SUITES)).encode()).hexdigest()[:12]


def own(say: Callable[[str], None] = lambda text: None) -> Tree | None:
    """This machine's own Asterisk, when it is recent enough; `say` hears why one that is there is not used."""
    binary = shutil.which("asterisk", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if binary is None:
        return None
    said = subprocess.run([binary, "-V"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.search(r"(\d+)[.\d]*", said)
    if found and int(found[1]) >= OLDEST_VERSION:
        return Tree(None, {"asterisk": found[0], "path": binary})
    version = f"version {found[0]}" if found else "of no version that it tells"
    say(f"The Asterisk on PATH ({binary}) is {version}, and {OLDEST_VERSION} or later is needed: it is not used")
    return None


def cached() -> Tree | None:
    """The finished tree of this recipe, when there is one."""
    place = cache_dir() / f"asterisk-{recipe_hash()}"
    try:
        return Tree(place / "root", json.loads((place / "versions.json").read_text()))
    except FileNotFoundError:
        return None


def find(say: Callable[[str], None] | None = None) -> Tree:
    """The Asterisk to use: PATH's, the cached tree's, or that of a tree made now.

    Raises NoAsterisk, with what to do about it, when there is none.
    """
    say = say or (lambda text: print(text, file=sys.stderr, flush=True))
    return own(say) or _checked(cached()) or _build(say)


def _checked(tree: Tree | None) -> Tree | None:
    if tree is not None and os.geteuid() != 0:
        raise NoAsterisk(_what_to_do(f"the tree {tree.root} can be entered by root only"))
    return tree


def _build(say: Callable[[str], None]) -> Tree:
    if os.geteuid() != 0:
        raise NoAsterisk(_what_to_do("making one needs root"))
    for tool in ("debootstrap", "unshare", "apt-get"):
        if shutil.which(tool) is None:
            raise NoAsterisk(_what_to_do(f"{tool} is missing (script/setup installs it on Debian)"))
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "asterisk.lock"):
        tree = cached()  # another process may have made it while we waited
        if tree is not None:
            return tree
        for leftover in cache.glob("asterisk-*.building"):
            shutil.rmtree(leftover)
        final = cache / f"asterisk-{recipe_hash()}"
        log = cache / "asterisk-build.log"
        log.write_text("")
        for suite in SUITES:
            began = time.monotonic()
            say(f"Making a Debian {suite} tree with {', '.join(PACKAGES)} in {final} (log: {log})")
            building = final.with_suffix(".building")
            building.mkdir()
            if _build_suite(suite, building, log):
                building.rename(final)
                tree = cached()
                assert tree is not None
                say(f"Made in {time.monotonic() - began:.0f} s: {json.dumps(tree.versions)}")
                return tree
            shutil.rmtree(building)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise NoAsterisk(_what_to_do(f"debootstrap failed, see {log}, which ends:\n{tail}\n"))


def _build_suite(suite: str, building: Path, log: Path) -> bool:
    """Makes the tree of one suite; false when it does not install."""
    script = Path("/usr/share/debootstrap/scripts", suite)
    recipe = script if script.exists() else script.with_name("sid")
    root = building / "root"
    command = [*unshare(), "--pid", "--fork", "--kill-child", "sh", "-c", BUILD, "build"]
    command += [str(root), suite, _mirror(), str(recipe)]
    with log.open("ab") as out:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_build_environment(), check=False
        )
    if done.returncode != 0:
        return False
    query = ["chroot", str(root), "dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    versions = dict(line.split(" ", 1) for line in listed.splitlines())
    (building / "versions.json").write_text(json.dumps({"suite": suite, **versions}, indent=1) + "\n")
    return True


def _build_environment() -> dict[str, str]:
    """The caller's environment with apt's own proxy, when it has one, for debootstrap's downloader."""
    environment = dict(os.environ)
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    for scheme in ("http", "https"):
        if found := re.search(rf'^Acquire::{scheme}::Proxy "([^"]+)"', dump, re.MULTILINE):
            environment[f"{scheme}_proxy"] = found[1]
    return environment


def _mirror() -> str:
    """The package mirror that this machine's apt uses for Debian itself."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(wanted, capture_output=True, text=True, check=True).stdout.split()
    mirrors = [uri for uri in dict.fromkeys(listed) if "security" not in uri]
    debian = [uri for uri in mirrors if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise NoAsterisk(_what_to_do("apt names no package mirror"))
    return (debian or mirrors)[0]


@cache
def unshare() -> tuple[str, ...]:
    """`unshare` with a mount namespace; inside a chroot its change of propagation is refused."""
    plain = ("unshare", "--mount")
    if subprocess.run([*plain, "true"], capture_output=True, check=False).returncode == 0:
        return plain
    return (*plain, "--propagation", "unchanged")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _what_to_do(reason: str) -> str:
    return WHAT_TO_DO.format(oldest=OLDEST_VERSION, reason=reason, cache=cache_dir())


def main() -> int:
    try:
        tree = find()
    except NoAsterisk as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Asterisk {tree.versions['asterisk']}, {tree.root or tree.versions['path']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
