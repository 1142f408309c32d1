"""What the running service shows and lets do through its socket; `app.py` fulfils it, `api/` serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from pbxguard.core.facts import InCall

from .calls import CallView


class ServiceView(Protocol):
    """Every method may raise a PbxguardError; `api/errors.py` knows each one's HTTP status."""

    async def status(self) -> Mapping[str, Any]:
        """What `pbxguard status` shows: JSON. At least `node`, `mode`, `on` (bool), `healthy` (bool: nothing but the
        mode and the switch keeps calls from being recorded) and `closed` (reason codes that forbid all recording)."""

    async def live_calls(self) -> Sequence[CallView]:
        """Calls that live now, oldest first."""

    async def why(self, who: str, since: datetime | None) -> Sequence[CallView]:
        """As `service.calls.why`."""

    async def set_switch(self, on: bool) -> None:
        """`pbxguard on` / `off`; returns when every door sees it.

        Raises ConnectionFailed when Asterisk cannot be told.
        """

    async def ask(self, call: str, what: InCall, actor: str, purposes: Sequence[str] = ()) -> None:
        """As `service.requests.Requests.ask`."""

    def metrics(self) -> bytes:
        """Prometheus' text format."""
