"""Owns: a wall clock that a test steps for one process (libfaketime), as NTP or a hand on the machine would.

CLOCK_MONOTONIC stays real, and so do the times of files, which come from the kernel. Knows nothing of pbxguard.
"""

from __future__ import annotations

import os
from pathlib import Path

LIBRARIES = "usr/lib/*/faketime/libfaketimeMT.so.1"


class WallClock:
    """`environment` is for a process that shall see it; `step` changes it while that runs. Begins at the true time."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where to keep what it shows. Raises FileNotFoundError where there is no libfaketime."""
        self._shown = folder / "wall_clock"
        found = sorted(Path("/").glob(LIBRARIES))
        if not found:
            raise FileNotFoundError("libfaketime (a Debian package) is not installed")
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._shown),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """From now on it is so much ahead of the true time (negative: behind)."""
        part = self._shown.with_suffix(".part")
        part.write_text(f"{seconds:+d}\n")
        os.replace(part, self._shown)
