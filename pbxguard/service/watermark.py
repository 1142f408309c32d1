"""The watermark: the last moment up to which everything was seen, in a file that a restart reads.

By the monotonic clock, which runs on as long as the machine does, and by the wall clock for when the machine was
started anew. A file that cannot be read is none: then nothing is kept of what was left open.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pbxguard.core.ids import Uniqueid
from pbxguard.fault_points import FaultPoint, reached

from .ports import Clock


@dataclass(frozen=True, slots=True)
class Bound:
    """Up to when a segment is proven: `wall` in wall-clock seconds; `monotonic` where this machine's clock knows."""

    wall: float
    monotonic: float | None = None


NOTHING = Bound(0.0)


def bound(clock: Clock, proven: float) -> Bound:
    """Of a monotonic moment; `NOTHING` when nothing was proven."""
    return Bound(clock.utc(proven).timestamp(), proven) if math.isfinite(proven) else NOTHING


@dataclass(frozen=True, slots=True)
class Watermark:
    """The last moment up to which everything was seen, and what no snapshot tells of it."""

    at: float
    """When the last beat that came back was sent; wall-clock seconds."""
    boot: str
    unheld: frozenset[Uniqueid]
    """Who was in a bridge then, and known not to be on hold."""
    revoked: Mapping[str, Bound] = field(default_factory=dict)
    """Segments whose permit had ended before, and were not closed: the last moment proven for each."""
    monotonic: float | None = None
    """The same as `at` on this machine's monotonic clock; None when the machine was started anew since."""

    @property
    def bound(self) -> Bound:
        return Bound(self.at, self.monotonic)


def read(path: Path, machine: str) -> Watermark:
    """Of another boot of the machine, or an unknown one, the monotonic moments mean nothing here."""
    try:
        data = json.loads(path.read_text())
        unheld = frozenset(Uniqueid(str(channel)) for channel in data["unheld"])
        same = bool(machine) and data.get("machine") == machine

        def moment(wall: Any, monotonic: Any = None) -> Bound:
            return Bound(float(wall), float(monotonic) if same and monotonic is not None else None)

        # An earlier version wrote moments of the wall clock alone.
        revoked = {
            str(segment): moment(*proven) if isinstance(proven, list) else moment(proven)
            for segment, proven in data["revoked"].items()
        }
        last = moment(data["at"], data.get("monotonic"))
        return Watermark(last.wall, str(data["boot"]), unheld, revoked, last.monotonic)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return Watermark(0.0, "", frozenset())


def write(path: Path, mark: Watermark, machine: str) -> None:
    """Over the last one. Raises OSError; then that one stands."""
    part = path.with_suffix(".part")
    data = {
        "at": mark.at,
        "monotonic": mark.monotonic,
        "machine": machine,
        "boot": mark.boot,
        "unheld": sorted(mark.unheld),
        "revoked": {segment: [proven.wall, proven.monotonic] for segment, proven in mark.revoked.items()},
    }
    reached(FaultPoint.WATERMARK_WRITING)
    part.write_text(json.dumps(data))
    reached(FaultPoint.WATERMARK_WRITTEN)
    os.replace(part, path)
    reached(FaultPoint.WATERMARK_REPLACED)
