"""Copies what recorders write into a folder, as they write it: a program of its own, so that no busy test delays it.

`python spool_watcher.py FOLDER COPIES` says "ready" and runs until its standard input ends. A file in COPIES is its
namesake in FOLDER at its longest: what is cut away later is still here.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from pathlib import Path

LOOK_S = 0.01
"""A spool is cut 100 ms after its last write, at the earliest."""


def look(folder: Path, copies: Path, sizes: dict[str, int]) -> None:
    """Appends to each copy what its file has more than it."""
    for path in folder.glob("*.sln*"):
        had = sizes.get(path.name, 0)
        with suppress(FileNotFoundError):  # its call was never recorded in earnest
            if path.name.endswith(".part") or (path.stat().st_size <= had and had):
                continue
            with path.open("rb") as file, (copies / path.name).open("ab") as copy:
                file.seek(had)
                sizes[path.name] = had + copy.write(file.read())


def main() -> None:
    folder, copies = Path(sys.argv[1]), Path(sys.argv[2])
    with suppress(OSError):  # without the right to it, it looks when it can
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    sizes: dict[str, int] = {}
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        look(folder, copies, sizes)
    look(folder, copies, sizes)


if __name__ == "__main__":
    main()
