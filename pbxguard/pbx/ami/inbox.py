"""Facts on their way from the socket to the guard: in order, bounded, none lost.

While somebody takes a snapshot it gathers what comes; after that it hands on. When it fills up while it hands on,
the socket is not read until it has drained, so Asterisk's own buffer fills, beats come back late and nothing is
recorded on old knowledge. When it fills up while it gathers, the snapshot is begun again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.facts import Fact, PictureSeen, SnapshotTaken
from pbxguard.core.ids import Uniqueid

from .beat import Beat
from .needs import Clock, FactSink
from .translate import translate

FULL = 2000
"""Facts; one more read of the socket (256 KiB) may come on top."""
DRAINED = 500

STRUCTURAL = frozenset(
    (
        "Newchannel",
        "Newstate",
        "Rename",
        "Hangup",
        "BridgeCreate",
        "BridgeDestroy",
        "BridgeEnter",
        "BridgeLeave",
        "BridgeMerge",
        "LocalOptimizationBegin",
        "LocalOptimizationEnd",
    )
)
"""Events that make a snapshot of before them untrue."""

_NAMES = ("Uniqueid", "DestUniqueid", "SwapUniqueid", "LocalOneUniqueid", "LocalTwoUniqueid")
"""Headers of structural events that name the channels which move."""

MEND_BLIND = "Beats do not come back: give the account read=system,call,dialplan,user,dtmf,agent in manager.conf."


class Inbox:
    """One per events session. `take_in` is called by the protocol, `hand_on` runs beside it."""

    def __init__(self, beat: Beat, clock: Clock, send_beat: Callable[[Callable[[], None]], None]) -> None:
        self._beat = beat
        self._clock = clock
        self._send_beat = send_beat
        self._facts: deque[Fact] = deque()
        self._some = asyncio.Event()
        self._gathering = True
        self._disturbed = False
        self._movers: set[Uniqueid] | None = None
        """Who moved since `watch_movers`; None while nobody asks."""
        self._marked = clock.now()
        self._paused = False
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None
        self.heard_at = clock.now()
        """When the last event came, in monotonic seconds."""

    def throttle(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """What to call when it is full, and when it has drained."""
        self._pause, self._resume = pause, resume

    @property
    def paused(self) -> bool:
        return self._paused

    def take_in(self, event: Mapping[str, str]) -> None:
        """One event, in the order of the socket. Raises ConnectionFailed for a spoilt one that must not be missed."""
        now = self.heard_at = self._clock.now()
        if (returned := self._beat.came_back(event)) is not None:
            self._facts.append(returned)
        else:
            facts = translate(event, now)
            structural = event.get("Event") in STRUCTURAL
            if not facts:
                if structural:  # somebody went somewhere, and it does not say who or where
                    raise ConnectionFailed("AMI", "an event without what it must hold")
                return
            self._facts.extend(facts)
            if structural:
                self._disturbed = True
                if self._movers is not None:
                    self._movers.update(Uniqueid(event[name]) for name in _NAMES if name in event)
        self._some.set()
        if len(self._facts) < FULL:
            return
        if self._gathering:
            self._facts.clear()
            self._disturbed = True
        elif not self._paused:
            self._paused = True
            self._pause()

    # -- while a snapshot is taken -----------------------------------------------------------------------------------

    async def mark(self, deadline_s: float) -> None:
        """Everything up to a beat that is sent now is forgotten. Raises ConnectionFailed when it does not come back."""

        def anew() -> None:
            self._facts.clear()
            self._disturbed = False

        await self._round_trip(anew, deadline_s)

    async def undisturbed(self, deadline_s: float) -> bool:
        """Whether no channel or bridge changed between `mark` and a beat that is sent now.

        If so, everything that came since `mark` is kept from now on. Raises ConnectionFailed.
        """

        def keep() -> None:
            self._gathering = self._disturbed

        await self._round_trip(keep, deadline_s)
        return not self._gathering

    # -- while the lists are held against events -----------------------------------------------------------------------

    async def watch_movers(self, deadline_s: float) -> None:
        """From a beat that is sent now, see who moves. Raises ConnectionFailed."""
        self._marked = self._clock.now()

        def anew() -> None:
            self._movers = set()

        await self._round_trip(anew, deadline_s)

    async def compare(self, picture: SnapshotTaken, deadline_s: float) -> None:
        """Put these lists, made since `watch_movers`, in their place among the facts. Raises ConnectionFailed."""

        def place() -> None:
            movers, self._movers = self._movers or set(), None
            self._facts.append(PictureSeen(picture, frozenset(movers), self._marked))

        await self._round_trip(place, deadline_s)

    async def _round_trip(self, call: Callable[[], None], deadline_s: float) -> None:
        back = asyncio.Event()

        def returned() -> None:
            call()
            back.set()

        self._send_beat(returned)
        try:
            async with asyncio.timeout(deadline_s):
                await back.wait()
        except TimeoutError:
            raise ConnectionFailed("AMI", "no beat came back", MEND_BLIND) from None

    # -- after it ----------------------------------------------------------------------------------------------------

    async def hand_on(self, sink: FactSink) -> None:
        """Put what comes into the sink, in order, for ever."""
        while True:
            while self._facts:
                await sink.put(self._facts[0])
                self._facts.popleft()
                if self._paused and len(self._facts) <= DRAINED:
                    self._paused = False
                    self.heard_at = self._clock.now()
                    self._resume()
            self._some.clear()
            await self._some.wait()
