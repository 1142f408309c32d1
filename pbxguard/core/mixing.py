"""Whether a sound that is mixed into what a party hears anyway really left with it.

A whispered sound is put into a queue at the pace of its own playback, and each packet that is written to the party
takes as much out of it as the packet is long (Asterisk's ``audiohook.c``). The party's octets grow by the other side's
voice alone, so that they grew proves little: while nothing is written the queue grows, and beyond 500 ms Asterisk
throws all of it away, unheard; packets that come in a burst later find nothing to take. So the queue itself is
followed, in the worst case that the counters allow: it must never have been so long that it was thrown away, and it
must have been emptied after the sound's end.
"""

from __future__ import annotations

QUEUE_MOST = 0.5
"""Seconds of sound that may wait; with more Asterisk throws the queue away (``AST_AUDIOHOOK_LONG_QUEUE_TOLERANCE``)."""

_NEVER = float("inf")
_EXACT = 1e-6


class Mixing:
    """The queue of one whisper at its longest. Times are monotonic s; `rate`: octets that make a second."""

    def __init__(self, rate: int, octets: int, asked: float) -> None:
        """`octets` had been written when they were asked for at `asked`, or a little later."""
        self._rate = rate
        self._octets, self._asked = octets, asked
        self._length = 0.0
        self._ordered = self._started = self._ended = _NEVER
        self._taken = 0.0
        """Seconds of the sound that have left, at least."""
        self._worst = 0.0

    @property
    def lost(self) -> bool:
        """Whether some of it may have been thrown away."""
        return self._worst > QUEUE_MOST

    @property
    def left(self) -> bool:
        """Whether all that was played has surely left."""
        return self._ended < _NEVER and self._taken >= self._length - _EXACT and not self.lost

    def ordered(self, length: float, now: float) -> None:
        """A sound of so many seconds was ordered: it is fed from now on at the earliest."""
        self._length, self._ordered, self._started, self._ended = length, now, _NEVER, _NEVER
        self._taken = 0.0

    def started(self, now: float) -> None:
        """It is being fed since now at the latest."""
        self._started = now

    def counted(self, octets: int, asked: float, now: float) -> None:
        """So many octets had been written at some moment between `asked` and `now`."""
        self._worst = max(self._worst, self._fed(self._ordered, now) - self._taken)
        # Of what was written since the last count only so much surely took of the sound as had been fed by then.
        waited = self._length if self._asked >= self._ended else self._fed(self._started, self._asked)
        written = (octets - self._octets) / self._rate
        self._taken = max(self._taken, min(self._taken + written, waited))
        self._octets, self._asked = octets, asked

    def finished(self, octets: int, asked: float, now: float) -> None:
        """As `counted`, after it was fed to its end."""
        self._ended = min(self._ended, asked)
        self.counted(octets, asked, now)

    def _fed(self, since: float, moment: float) -> float:
        return min(max(moment - since, 0.0), self._length)
