"""What this adapter needs of its surroundings: the shapes of `service.ports`, which may not be imported from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pbxguard.core.facts import Fact


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds."""

    def utc(self, moment: float | None = None) -> datetime:
        """UTC of a monotonic moment (default: now)."""


class FactSink(Protocol):
    async def put(self, fact: Fact) -> None:
        """Waits while the other side is behind."""


class Act(Protocol):
    """Sends one action to Asterisk and waits for its answer."""

    async def __call__(self, name: str, headers: Mapping[str, str] = ...) -> Sequence[Mapping[str, str]]:
        """The response, then the list's entries if it is one.

        Raises UnsafeValue before anything is sent, ConnectionFailed without an answer, ActionRefused on Error.
        """
