"""Another pbxguard on the same Asterisk: known by its beat, which every AMI connection sees.

A beat is ``<token>.<number>.<µs>`` (`beat.py`). One value of another token proves nothing (a dead pbxguard's last one
may come late, and a dialplan can set anything once): only beats that go on, and were sent after we began to look, do.
Of two that run at once the one that began first goes on; a token begins with the moment at which its owner did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf

from pbxguard.core.errors import AnotherGuard

from .beat import BEGAN_DIGITS, VARIABLE
from .needs import Clock

ENOUGH = 3
"""Beats that go on: 0.15 s of them."""
COMPARABLE_SECONDS = 10.0
"""A beat that seems sent longer ago, or so much later, was timed by another machine's clock."""
_BEAT = re.compile(rf"([0-9a-f]{{{BEGAN_DIGITS + 12}}})\.([0-9]{{1,15}})\.([0-9]{{1,18}})", re.ASCII)


class Rivals:
    """Give every event to `note`; `living` are the tokens of others that beat now."""

    def __init__(self, clock: Clock, own: str = "", enough: int = ENOUGH) -> None:
        """`own`: the token that is ours. `enough`: how many beats of a token make it living."""
        self._clock, self._own, self._enough = clock, own, enough
        self._since = clock.now()
        self._seen: dict[str, tuple[int, float]] = {}
        """By token: how many in a row, and the last one's number."""

    def begin(self) -> None:
        """Forget what was seen: only what is sent from now on counts."""
        self._since = self._clock.now()
        self._seen.clear()

    def note(self, event: Mapping[str, str]) -> None:
        """One event of any kind."""
        if event.get("Variable") != VARIABLE or event.get("Event") != "VarSet" or event.get("Uniqueid") != "none":
            return
        read = _BEAT.fullmatch(event.get("Value", ""))
        if read is None or read[1] == self._own:
            return
        token, number, sent = read[1], int(read[2]), int(read[3]) / 1e6
        late = self._clock.now() - sent
        if sent < self._since and abs(late) < COMPARABLE_SECONDS:
            return
        count, last = self._seen.get(token, (0, -inf))
        if number > last:
            self._seen = {token: (count + 1, number), **{t: s for t, s in self._seen.items() if t != token}}
            while len(self._seen) > _MOST:
                self._seen.popitem()

    @property
    def living(self) -> list[str]:
        """Tokens of others that were seen to beat since `begin`, the oldest pbxguard's first."""
        return sorted(token for token, (count, _) in self._seen.items() if count >= self._enough)

    @property
    def elder(self) -> bool:
        """Whether one of them began before we did: then it goes on, and we do not."""
        return any(token < self._own for token in self.living)


_MOST = 10
"""Tokens that are remembered."""


def another_guard() -> AnotherGuard:
    """What a pbxguard says that must not run."""
    return AnotherGuard("another pbxguard runs on this Asterisk: its beat is seen", "Stop it first: one per Asterisk.")
