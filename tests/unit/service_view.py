"""A scripted service for the tests of API and command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pbxguard.core.errors import PbxguardError
from pbxguard.core.facts import InCall
from pbxguard.metrics import Metrics
from pbxguard.service.calls import CallView


class ScriptedService:
    """Fulfils `service.view.ServiceView`; `fails` is raised by whatever is asked next."""

    def __init__(self, *views: CallView) -> None:
        self.views = views
        self.on = True
        self.healthy = True
        self.fails: Exception | None = None
        self.requests: list[tuple[str, InCall, str]] = []
        self.begun: list[tuple[str, ...]] = []
        self.asked: list[tuple[str, datetime | None]] = []

    def _maybe_fail(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def status(self) -> Mapping[str, Any]:
        self._maybe_fail()
        closed = [] if self.healthy else ["not_connected"]
        return {"node": "pbx1", "mode": "guard", "on": self.on, "healthy": self.healthy, "closed": closed, "calls": 2}

    async def live_calls(self) -> Sequence[CallView]:
        self._maybe_fail()
        return [view for view in self.views if not view.ended]

    async def why(self, who: str, since: datetime | None) -> Sequence[CallView]:
        self._maybe_fail()
        self.asked.append((who, since))
        return self.views

    async def ask(self, call: str, what: InCall, actor: str, purposes: Sequence[str] = ()) -> None:
        self._maybe_fail()
        self.requests.append((call, what, actor))
        self.begun.append(tuple(purposes))

    async def set_switch(self, on: bool) -> None:
        self._maybe_fail()
        self.on = on

    def metrics(self) -> bytes:
        return Metrics().text()


class Unforeseen(PbxguardError):
    """An error that the API has no status for."""

    code = "unforeseen"
