"""The running service as its socket shows it: fulfils `view.ServiceView` from guard, index and the connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pbxguard import __version__
from pbxguard.core.facts import InCall, SwitchedOff, SwitchedOn
from pbxguard.core.ids import PurposeName
from pbxguard.core.policy import Policy

from . import calls
from .calls import CallIndex, CallView
from .guard import Guard
from .ports import Clock, Pbx

SWITCH = "PBXGUARD"
"""The global variable that every door reads; ``off`` bypasses them all."""


class Running:
    """What `status`, `calls`, `why`, `on` and `off` ask for."""

    def __init__(
        self,
        *,
        guard: Guard,
        index: CallIndex,
        pbx: Pbx,
        clock: Clock,
        node: str,
        policy: Callable[[], Policy],
        connections: Mapping[str, Callable[[], bool]],
        asterisk_version: Callable[[], str],
        lag: Callable[[], float],
        metrics: Callable[[], bytes],
    ) -> None:
        """`connections`: by name, whether it is up. `lag` of the beat in seconds."""
        self._guard, self._index, self._pbx, self._clock = guard, index, pbx, clock
        self._node, self._policy, self._connections = node, policy, connections
        self._asterisk_version, self._lag, self._metrics = asterisk_version, lag, metrics
        self._began = clock.utc()

    async def status(self) -> Mapping[str, Any]:
        """JSON; `ready`: every connection is up and nothing but the mode keeps calls from being recorded."""
        closed = [reason.value for reason in self._guard.closed()]
        up = {name: is_up() for name, is_up in self._connections.items()}
        lag = self._lag()
        policy = self._policy()
        return {
            "version": __version__,
            "node": self._node,
            "since": self._began.isoformat(timespec="seconds"),
            "asterisk": self._asterisk_version(),
            "mode": policy.mode.value,
            "on": "switched_off" not in closed,
            "closed": closed,
            "healthy": not [reason for reason in closed if reason != "switched_off"] and all(up.values()),
            "ready": not closed and all(up.values()),
            "connections": up,
            "beat_lag_ms": None if lag == float("inf") else round(lag * 1000, 1),
            "live_calls": len(self._guard.supervisor.calls),
            "recording": self._guard.running,
            "sealed": self._guard.sealed,
            "waiting_to_seal": self._guard.health.waiting_to_seal,
            "troubles": list(self._guard.health.troubles),
            "facts_waiting": self._guard.waiting,
            "approved_disclosures": len(policy.disclosures),
        }

    async def live_calls(self) -> Sequence[CallView]:
        """Calls that live now, oldest first."""
        supervisor = self._guard.supervisor
        return [calls.live(supervisor.outcome(call)) for call in supervisor.calls.values()]

    async def why(self, who: str, since: datetime | None) -> Sequence[CallView]:
        """As `service.calls.why`."""
        waiting = self._guard.health.waiting
        return await calls.why(self._index, who, since=since, country=self._policy().country, waiting=waiting)

    async def set_switch(self, on: bool) -> None:
        """Set Asterisk's global variable, which every door reads, and tell the guard. Raises ConnectionFailed."""
        await self._pbx.set_global(SWITCH, "on" if on else "off")
        await self._guard.put(SwitchedOn() if on else SwitchedOff())

    async def ask(self, call: str, what: InCall, actor: str, purposes: Sequence[str] = ()) -> None:
        """As `Requests.ask`."""
        await self._guard.requests.ask(call, what, actor, [PurposeName(name) for name in purposes])

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        return self._metrics()
