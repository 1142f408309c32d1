"""The beat: a global variable set 20 times a second, whose VarSet in the event stream is the watermark.

Channel and bridge events and the VarSet of a *global* Setvar go through one queue of Asterisk and stay in order
(ASTERISK.md): when the beat sent at t comes back, all that happened before t has been seen. It is sent on the
connection without events, which answers sooner under a flood; what counts is where it comes back. Sent there it also
proves that a stop would go out. It is known by a token of our own, so that nobody else's VarSet is taken for one.

The dialplan's heartbeat is a second variable, PBXGUARD_ALIVE_AMI, in seconds of the epoch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from math import inf

from pbxguard.core.facts import BeatReturned

from .needs import Clock

VARIABLE = "PBXGUARD_BEAT"
ALIVE = "PBXGUARD_ALIVE_AMI"
BEGAN_DIGITS = 14
"""A token begins with the monotonic microsecond at which its pbxguard did, in so many hexadecimal digits."""
MOST_UNDER_WAY = 200
"""Ten seconds of beats: more are not sent while none comes back."""


class Beat:
    """Which beats are under way, and how late the last one was. All times are monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.token = f"{int(clock.now() * 1e6):0{BEGAN_DIGITS}x}{secrets.token_hex(6)}"
        self._number = 0
        self._under_way: dict[int, float] = {}
        self._calls: dict[int, Callable[[], None]] = {}
        self._lag = inf
        self.returned_at = -inf
        """When the last one came back."""

    def next(self, on_return: Callable[[], None] | None = None) -> str | None:
        """The value to send now; None while too many are under way.

        `on_return` is called at the very event with which it comes back.
        """
        if len(self._under_way) >= MOST_UNDER_WAY:
            return None
        self._number += 1
        now = self._clock.now()
        self._under_way[self._number] = now
        if on_return is not None:
            self._calls[self._number] = on_return
        return f"{self.token}.{self._number}.{int(now * 1e6)}"

    def came_back(self, event: Mapping[str, str]) -> BeatReturned | None:
        """The fact, if this event is a beat of ours that was under way."""
        if event.get("Variable") != VARIABLE or event.get("Event") != "VarSet" or event.get("Uniqueid") != "none":
            return None  # a channel's variable of that name is no beat
        token, _, rest = event.get("Value", "").partition(".")
        number = rest.partition(".")[0]
        if token != self.token or not (number.isascii() and number.isdigit() and len(number) < 16):
            return None
        sent = self._under_way.get(int(number))
        if sent is None:
            return None
        for earlier in [n for n in self._under_way if n <= int(number)]:
            del self._under_way[earlier]
            call = self._calls.pop(earlier, None)
            if call is not None:
                call()
        self.returned_at = self._clock.now()
        self._lag = self.returned_at - sent
        return BeatReturned(sent)

    @property
    def lag(self) -> float:
        """Seconds from sending to coming back, of the last beat or of the oldest under way, the longer."""
        oldest = next(iter(self._under_way.values()), None)
        return self._lag if oldest is None else max(self._lag, self._clock.now() - oldest)

    def forget(self) -> None:
        """The connection is gone, and with it all that was under way."""
        self._under_way.clear()
        self._calls.clear()
        self._lag = inf
