"""What the adapters hand back and take again, shared by ports and adapters (which do not know each other)."""

from __future__ import annotations

from dataclasses import dataclass

from .ids import Uniqueid


@dataclass(frozen=True, slots=True)
class RecorderHandle:
    """A running MixMonitor: the channel it is on and the id that Asterisk gave (`i(VAR)`)."""

    leg: Uniqueid
    mixmonitor_id: str
