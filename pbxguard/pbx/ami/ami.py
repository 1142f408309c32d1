"""AMI as pbxguard uses it: two connections, their facts in order, the recorder, and the little that we write.

`events` sees everything and sends nothing; `actions` has events off, so that a stop goes out at once also in a flood
of events. Each comes back by itself. Facts flow only after a snapshot; a loss of `events` is a ConnectionLost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any

from pbxguard.core.errors import AnotherGuard, ConnectionFailed, PbxguardError
from pbxguard.core.facts import ConnectionLost, SnapshotTaken
from pbxguard.core.ids import Uniqueid

from . import snapshot
from .beat import ALIVE, VARIABLE, Beat
from .connection import MEND_REACH, Address, AmiRefused, Line, Session, Tuning
from .inbox import Inbox
from .needs import Clock, FactSink
from .pbx import AmiPbx
from .recorder import MixMonitor
from .rival import Rivals, another_guard
from .translate import SWITCH, switched
from .values import Ours

LOG = logging.getLogger("pbxguard.ami")

EVENT_MASK = Ours("system,call,dialplan,user,dtmf,agent")
FILTERS: tuple[Mapping[str, str], ...] = (
    {"MatchCriteria": Ours("action(exclude),name(Newexten)")},
    {
        "MatchCriteria": Ours("action(exclude),name(VarSet),header(Variable),method(regex)"),
        "Filter": Ours("^([^P]|P[^B]|PB[^X])"),
    },
)
"""Newexten and the VarSets that are not ours: a dialplan makes thousands of them."""

COMPARE_SHARE = 100
"""A comparison costs at most one part in so many of our time, however many calls there are."""

DRAIN_S = 0.1
DEFAULTS = Tuning()


class Ami:
    """Run it in a TaskGroup; `recorder` and `pbx` may be used at any time and raise ConnectionFailed when cut off."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        username: str,
        secret: str,
        sink: FactSink,
        clock: Clock,
        tuning: Tuning = DEFAULTS,
    ) -> None:
        address = Address(host, port, username, secret)
        self._sink = sink
        self._clock = clock
        self._tuning = tuning
        self._beat = Beat(clock)
        self._rivals = Rivals(clock, self._beat.token)
        self._rival = asyncio.Event()
        self._alone = asyncio.Event()
        self._younger_told = False
        self._inbox: Inbox | None = None
        self._closer = asyncio.Event()
        """Somebody asks for a comparison at once."""
        self._seeing = asyncio.Event()
        self._told = False
        """A snapshot was handed on and no loss since."""
        self._version = ""
        self._boot = ""
        self._actions = Line("actions", address, clock, tuning, serve=self._serve_actions, left=self._actions_left)
        self._events = Line(
            "events",
            address,
            clock,
            tuning,
            serve=self._serve_events,
            left=self._events_left,
            on_event=self._on_event,
        )
        self._acting = asyncio.Event()
        self._beat_due = False
        self.recorder = MixMonitor(self.act)
        self.pbx = AmiPbx(self.act, self._look_anew, self._beat_now, self._closer.set)

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Both connections are up and the snapshot was taken."""
        return self._seeing.is_set() and self._actions.session is not None

    async def wait_connected(self) -> None:
        """Until `connected` was true once."""
        await self._seeing.wait()

    async def wait_alone(self) -> None:
        """Until we have looked once, and seen no other pbxguard's beat: nobody may do anything to Asterisk before."""
        await self._alone.wait()

    async def rival(self) -> AnotherGuard:
        """Until another pbxguard is found that goes on instead of us; the error to end with."""
        await self._rival.wait()
        return another_guard()

    @property
    def trouble(self) -> PbxguardError | None:
        """Why it is not connected, with its mend in `diagnostics()`; None when nothing is known to be wrong."""
        return self._actions.trouble or self._events.trouble

    @property
    def lag(self) -> float:
        """Seconds that the beat is late; infinite while we do not see."""
        return self._beat.lag if self.connected else inf

    @property
    def asterisk_version(self) -> str:
        """As Asterisk spells it, e.g. ``22.10.1``; empty before the first connection."""
        return self._version

    @property
    def boot(self) -> str:
        """Names the boot of Asterisk that the last snapshot was taken of."""
        return self._boot

    async def act(self, name: str, headers: Mapping[str, str] | None = None) -> list[Mapping[str, str]]:
        """One action on the connection without events. Raises UnsafeValue, ConnectionFailed, AmiRefused."""
        session = self._actions.session
        if session is None:
            raise ConnectionFailed("AMI", "not connected", MEND_REACH)
        return await session.action(name, headers)

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._actions.run(), name="ami-actions")
            group.create_task(self._events.run(), name="ami-events")
            group.create_task(self._beats(), name="ami-beat")

    async def _serve_actions(self, session: Session) -> None:
        self._version = (await session.action("CoreSettings"))[0].get("AsteriskVersion", "")
        self._acting.set()
        self._actions.ready()
        pinged = -inf
        while True:
            await self.recorder.settle()
            if self._clock.now() - pinged > self._tuning.silence_s / 4:
                await session.action("Ping", deadline_s=self._tuning.silence_s)
                pinged = self._clock.now()
            await asyncio.sleep(self._tuning.settle_s)

    async def _actions_left(self) -> None:
        self._acting.clear()

    async def _serve_events(self, session: Session) -> None:
        self._beat.forget()
        inbox = self._inbox = Inbox(self._beat, self._clock, self._send_beat)
        inbox.throttle(session.pause_reading, session.resume_reading)
        await self._select_events(session)
        await self._look()
        picture = await self._picture(inbox)
        switch = switched(await self.pbx.get_global(SWITCH))
        self._boot = picture.boot
        self._told = True
        await self._sink.put(picture)
        await self._sink.put(switch)
        self._seeing.set()
        self._events.ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(inbox.hand_on(self._sink), name="ami-hand-on")
            group.create_task(self._watch(session, inbox), name="ami-watch")
            group.create_task(self._compare(inbox), name="ami-compare")

    async def _picture(self, inbox: Inbox) -> SnapshotTaken:
        """Of a time through which the other connection stood: what a dead one was to send never comes back."""
        while True:
            await self._acting.wait()
            acting = self._actions.session
            if acting is None or not acting.alive:
                await asyncio.sleep(self._tuning.beat_s)
                continue
            taking = asyncio.ensure_future(snapshot.take(self.act, inbox, self._tuning))
            lost = asyncio.ensure_future(acting.lost())
            try:
                await asyncio.wait({taking, lost}, return_when=asyncio.FIRST_COMPLETED)
                if not lost.done():
                    return taking.result()
            finally:
                for task in (taking, lost):
                    task.cancel()
                await asyncio.gather(taking, lost, return_exceptions=True)

    async def _look(self) -> None:
        """Once, before the first beat of ours: somebody who beats was here before us."""
        self._rivals.begin()
        if self._alone.is_set():
            return
        await asyncio.sleep(self._tuning.look_s)
        if self._rivals.living:
            self._rival.set()
            await asyncio.Event().wait()  # whoever runs us ends us
        self._rivals.begin()
        self._alone.set()

    async def _events_left(self) -> None:
        self._inbox = None
        self._beat.forget()
        self._seeing.clear()
        if self._told:
            self._told = False
            await self._sink.put(ConnectionLost())

    async def _select_events(self, session: Session) -> None:
        for rule in FILTERS:
            try:
                await session.action("Filter", {"Operation": "Add", **rule})
            except AmiRefused as error:
                if error.not_permitted:
                    raise
                LOG.warning("ami.unfiltered")  # an older Asterisk: more to read, nothing else
        await session.action("Events", {"EventMask": EVENT_MASK})

    def _on_event(self, event: Mapping[str, str]) -> None:
        if self._inbox is None:
            return
        self._rivals.note(event)
        if event.get("Event") == "Hangup":
            self.recorder.channel_gone(Uniqueid(event.get("Uniqueid", "")))
        self._inbox.take_in(event)

    async def _watch(self, session: Session, inbox: Inbox) -> None:
        """Beats go out, so silence while we read means that this connection is dead."""
        while True:
            await asyncio.sleep(self._tuning.silence_s / 4)
            if self._silent(inbox):
                # After a freeze of ours what came meanwhile lies in the socket: it is read first.
                await asyncio.sleep(DRAIN_S)
                if self._silent(inbox):
                    session.end("silence")

    def _silent(self, inbox: Inbox) -> bool:
        silence = self._clock.now() - inbox.heard_at
        return silence > self._tuning.silence_s and not inbox.paused and self._acting.is_set()

    async def _compare(self, inbox: Inbox) -> None:
        """Every few seconds, and when asked for: what the lists say, for the core to hold against what events said."""
        pause = self._tuning.compare_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closer.wait()
            self._closer.clear()
            began = self._clock.now()
            try:
                await snapshot.compare(self.act, inbox, self._tuning)
            except (ConnectionFailed, AmiRefused):
                continue  # the other connection is gone, or late: its own watch sees to that
            pause = max(self._tuning.compare_s, COMPARE_SHARE * (self._clock.now() - began))
            await asyncio.sleep(self._tuning.restless_s)  # who asks again and again waits for his answer

    def _look_anew(self) -> None:
        if (session := self._events.session) is not None:
            session.end("events were lost")

    # -- the beat ----------------------------------------------------------------------------------------------------

    def _send_beat(self, on_return: Callable[[], None] | None = None) -> None:
        session = self._actions.session
        if session is None:
            raise ConnectionFailed("AMI", "not connected", MEND_REACH)
        value = self._beat.next(on_return)
        if value is not None:
            session.send("Setvar", {"Variable": VARIABLE, "Value": value}).add_done_callback(_look_at)

    def _beat_now(self) -> None:
        """One for all who ask in this turn of the loop; sent after what they decided in it."""
        if not self._beat_due:
            self._beat_due = True
            asyncio.get_running_loop().call_soon(self._beat_that_is_due)

    def _beat_that_is_due(self) -> None:
        self._beat_due = False
        session = self._actions.session
        if session is not None and session.alive and self._seeing.is_set():
            self._send_beat()

    async def _beats(self) -> None:
        alive_at = told = -inf
        while True:
            await asyncio.sleep(self._tuning.beat_s)
            session = self._actions.session
            if session is None or not session.alive or not self._seeing.is_set():
                continue
            self._send_beat()
            self._look_around()
            now = self._clock.now()
            if now - told >= self._tuning.alive_s and self._beat.returned_at > alive_at:
                told, alive_at = now, self._beat.returned_at
                seconds = str(int(self._clock.utc().timestamp()))
                session.send("Setvar", {"Variable": ALIVE, "Value": seconds}).add_done_callback(_look_at)

    def _look_around(self) -> None:
        """Two at once (they began at the same instant, or one was frozen): the elder goes on."""
        if self._rivals.elder:
            self._rival.set()
        elif self._rivals.living and not self._younger_told:
            self._younger_told = True
            LOG.error("service.rival", extra={"mend": another_guard().diagnostics()})


def _look_at(future: asyncio.Future[Any]) -> None:
    """A beat that was refused tells by not coming back; its answer is of no other use."""
    if not future.cancelled():
        future.exception()
