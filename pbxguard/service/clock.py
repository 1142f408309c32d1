"""The machine's clocks: everything is timed by the monotonic one; UTC is for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_boot() -> str:
    """Names this boot of the machine, through which CLOCK_MONOTONIC runs on; empty where nobody tells."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class SystemClock:
    """Fulfils `ports.Clock`. CLOCK_MONOTONIC runs on through restarts of the service, not of the machine."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def utc(self, moment: float | None = None) -> datetime:
        """UTC of a monotonic moment (default: now), by the wall clock as it stands now."""
        wall = datetime.now(UTC)
        return wall if moment is None else wall - timedelta(seconds=time.monotonic() - moment)

    def wall_offset(self) -> float:
        """Wall clock less monotonic clock, in seconds: when it changes, the wall clock was stepped."""
        return time.time() - time.monotonic()
