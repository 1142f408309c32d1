"""The caller's door in ARI: one visit of one channel, from StasisStart until it goes on in the dialplan.

Owns the requests of a visit and their order, not what is due or what counts as heard (`core.announcement`). Each
visit is fenced: after its StasisEnd, or when the channel comes again, it sends nothing more, since a late `continue`
would end the next visit. After a freeze the sockets are drained before a deadline is honoured.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, assert_never

from pbxguard.core import announcement as core
from pbxguard.core.announcement import Announcement, Outcome, Result, Timing
from pbxguard.core.errors import PbxguardError
from pbxguard.core.ids import Uniqueid
from pbxguard.core.purposes import Disclosure, Mode
from pbxguard.core.reasons import Reason
from pbxguard.logs import Event, get_logger

from . import translate as ari
from .connection import AriAddress, AriConnection, AriTiming, ChannelNotOurs, part

MOST_VISITS = 2000
MOST_WAITING = 200
"""Events that may wait for one visit; a channel that sends more is let go."""
ALLOWANCE = 3.0
"""Seconds that Asterisk gives us beyond the disclosure and its key wait before it takes the call back."""
LATE = 0.05
"""A deadline that fires so late (s) was delayed by a freeze: what came meanwhile is read first."""
DRAIN = 0.05
ORPHAN_AFTER = 1.0
"""Seconds after which a channel that was in the application as we connected has its StasisStart, or never gets one."""

_log = get_logger()


class Listener(Protocol):
    """What a visit tells while it runs."""

    async def objected(self) -> None:
        """He pressed 9."""

    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None:
        """It is over and the result is set. Returns quickly; gives another result to set before the call goes on."""


class Visit:
    """One channel in our application. `announce` or `leave` must be called, once."""

    def __init__(self, connection: AriConnection, start: ari.StasisStarted) -> None:
        self.channel = Uniqueid(start.channel)
        self.name = start.name
        self.caller_number = start.caller_number
        self.arguments = start.arguments[1:]
        self.id = f"pbxguard-{secrets.token_hex(8)}"
        self.over = False
        self._up = start.up
        self._connection = connection
        self._path = f"/channels/{part(start.channel)}"
        self._inbox: asyncio.Queue[core.Event] = asyncio.Queue(MOST_WAITING)
        self._formats = ""

    async def announce(
        self, disclosure: Disclosure, timing: Timing, listener: Listener, *, goes_on: bool = False
    ) -> Outcome:
        """Play it, listen, set the result, and let the channel go on. Never raises for what Asterisk does."""
        machine = Announcement(self.id, disclosure, timing, goes_on=goes_on)
        await self._allow(disclosure, timing)
        events: deque[core.Event] = deque([core.Entered(self._up)])
        loop = asyncio.get_running_loop()
        until = loop.time()
        while True:
            event = events.popleft() if events else await self._next(until)
            now = max(loop.time(), until) if isinstance(event, core.DeadlinePassed) else loop.time()
            for output in machine.handle(event, now):
                match output:
                    case core.Wait(moment):
                        until = moment
                    case core.ReportObjection():
                        await listener.objected()
                    case core.Conclude(outcome):
                        other = await listener.concluded(outcome)
                        if other is not None:
                            await self._try(self._set_result(*other))
                    case core.Continue():
                        await self._try(self._continue())
                    case _:
                        if (answer := await self._carry_out(output)) is not None:
                            events.append(answer)
            if machine.outcome is not None:
                return machine.outcome

    async def leave(self, result: Result, reasons: tuple[Reason, ...]) -> bool:
        """Set the result and let the channel go on, without a sound. False when it was gone."""
        return await self._try(self._set_result(result, reasons)) and await self._try(self._continue())

    def give(self, event: core.Event) -> None:
        """An event of this channel, in order."""
        try:
            self._inbox.put_nowait(event)
        except asyncio.QueueFull:
            self.over = True

    def end(self) -> None:
        """The channel left: nothing more is sent to it."""
        self.over = True
        self.give(core.Gone())

    # -- in

    async def _next(self, until: float) -> core.Event:
        if self.over and self._inbox.empty():
            return core.Gone()
        try:
            async with asyncio.timeout_at(until):
                return await self._inbox.get()
        except TimeoutError:
            late = asyncio.get_running_loop().time() - until > LATE
            for _ in range(5):
                await asyncio.sleep(0)
            if late:
                await asyncio.sleep(DRAIN)
            return core.DeadlinePassed() if self._inbox.empty() else self._inbox.get_nowait()

    # -- out

    async def _carry_out(
        self, output: core.Answer | core.ReadStats | core.Play | core.StopPlayback | core.SetResult
    ) -> core.Event | None:
        """One command; its answer, if the core waits for one, is the next event."""
        try:
            match output:
                case core.Answer():
                    await self._request("POST", f"{self._path}/answer")
                    return core.Answered()
                case core.ReadStats():
                    return await self._read_stats()
                case core.Play(id, sound):
                    await self._request("POST", f"{self._path}/play/{part(id)}", media=f"sound:{sound}")
                    return None
                case core.StopPlayback(id):
                    await self._stop(id)
                    return core.PlaybackStopped()
                case core.SetResult(result, reasons):
                    await self._set_result(result, reasons)
                    return core.ResultSet()
                case _:
                    assert_never(output)
        except ChannelNotOurs:
            return core.CommandFailed(gone=True)
        except PbxguardError as error:
            _log.warning(Event.ARI_REQUEST_FAILED, request=type(output).__name__, reason=str(error))
            return core.CommandFailed()

    async def _read_stats(self) -> core.Event:
        counters = await self._request("GET", f"{self._path}/rtp_statistics")
        if not self._formats:
            answer = await self._request("GET", f"{self._path}/variable", variable="CHANNEL(audionativeformat)")
            self._formats = str(answer["value"])
        try:
            return core.StatsRead(int(counters["txoctetcount"]), int(counters["rxcount"]), self._formats)
        except (KeyError, TypeError, ValueError):
            return core.CommandFailed()

    async def _stop(self, id: str) -> None:
        try:
            await self._request("DELETE", f"/playbacks/{part(id)}")
        except ChannelNotOurs:
            if self.over:
                raise
            # it had just ended by itself

    async def _set_result(self, result: Result, reasons: tuple[Reason, ...]) -> None:
        """The reason first: the 204 of the result is the proof that the channel was still ours."""
        if reasons:
            await self._set("PBXGUARD_REASON", "&".join(reason.value for reason in reasons))
        await self._set("PBXGUARD_RESULT", result.value)

    async def _allow(self, disclosure: Disclosure, timing: Timing) -> None:
        """Until here the dialplan gave us 2 s, since it does not know the disclosure's length."""
        length = disclosure.notice_ms / 1000 + (disclosure.key_ms / 1000 if disclosure.key_sound else 0.0)
        key_wait = 0.0 if disclosure.key.mode is Mode.NOTICE else timing.key_wait
        await self._try(self._set("TIMEOUT(absolute)", str(math.ceil(length + key_wait + ALLOWANCE))))

    async def _set(self, name: str, value: str) -> None:
        await self._request("POST", f"{self._path}/variable", variable=name, value=value)

    async def _continue(self) -> None:
        await self._request("POST", f"{self._path}/continue")

    async def _try(self, request: Awaitable[None]) -> bool:
        try:
            await request
            return True
        except PbxguardError:
            return False

    async def _request(self, method: str, path: str, **params: str) -> Any:
        if self.over:
            raise ChannelNotOurs("left")
        return await self._connection.request(method, path, params=params)


Door = Callable[[Visit], Awaitable[None]]
"""Decides what a visit hears; calls `announce` or `leave`."""


class Announcer:
    """Gives each channel that comes to the application its visit, and each visit its events."""

    def __init__(self, address: AriAddress, door: Door, timing: AriTiming | None = None) -> None:
        self.connection = AriConnection(
            address, on_event=self._on_event, on_connected=self._take_stock, on_lost=self._on_lost, timing=timing
        )
        self._application = address.application
        self._door = door
        self._visits: dict[str, Visit] = {}
        self._welcomed: set[str] | None = None
        """While stock is taken: who came, even if he has gone on already."""
        self._group: asyncio.TaskGroup | None = None

    @property
    def visits(self) -> int:
        """Channels that are ours now."""
        return len(self._visits)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self.connection.run()

    def _on_event(self, event: ari.AriEvent) -> None:
        match event:
            case ari.StasisStarted():
                self._welcome(event)
            case ari.BeatReturned() | ari.Replaced():
                pass
            case _:
                if (visit := self._visits.get(event.channel)) is not None:
                    self._tell(visit, event)

    def _tell(
        self,
        visit: Visit,
        event: ari.StasisEnded
        | ari.PlaybackBegan
        | ari.PlaybackEnded
        | ari.DigitReceived
        | ari.ChannelHeld
        | ari.ChannelUnheld
        | ari.ChannelGone,
    ) -> None:
        match event:
            case ari.StasisEnded() | ari.ChannelGone():
                visit.end()
            case ari.PlaybackBegan(_, id, at):
                visit.give(core.PlaybackStarted(id, at))
            case ari.PlaybackEnded(_, id, state, at):
                visit.give(core.PlaybackFinished(id, state, at))
            case ari.DigitReceived(_, digit):
                visit.give(core.DigitReceived(digit))
            case ari.ChannelHeld():
                visit.give(core.Held())
            case ari.ChannelUnheld():
                visit.give(core.Unheld())
            case _:
                assert_never(event)

    def _welcome(self, start: ari.StasisStarted) -> None:
        if (before := self._visits.get(start.channel)) is not None:
            before.end()
        if self._welcomed is not None:
            self._welcomed.add(start.channel)
        visit = Visit(self.connection, start)
        known = start.arguments[:1] == ("caller",)
        self._visits[start.channel] = visit
        if self._group is not None:
            door = self._door if known and len(self._visits) <= MOST_VISITS else _let_go
            self._group.create_task(self._host(visit, door), name=f"visit {visit.id}")

    async def _host(self, visit: Visit, door: Door) -> None:
        try:
            await door(visit)
        except Exception as error:  # a fault of ours must not keep the caller
            _log.error(Event.DOOR_FAILED, call=visit.channel, reason=type(error).__name__, exc_info=error)
            await visit.leave(Result.FAILED, (Reason.GUARD_AWAY,))
        finally:
            visit.over = True
            if self._visits.get(visit.channel) is visit:
                del self._visits[visit.channel]

    def _on_lost(self) -> None:
        """What happens from now on is not seen: end every visit, as far as requests still work."""
        for visit in self._visits.values():
            visit.give(core.CommandFailed())

    async def _take_stock(self) -> None:
        """Channels that are in the application since before we connected: nobody will ever speak to them.

        Listed at once, and looked at later: one that comes meanwhile may be in a list before its StasisStart is here.
        """
        try:
            channels = await self.connection.request("GET", "/channels", seconds=5.0)
        except PbxguardError as error:  # their time-out lets them go
            _log.warning(Event.ARI_REQUEST_FAILED, request="channels", reason=str(error))
            return
        listed = channels if isinstance(channels, list) else []
        suspects = [start for channel in listed if (start := self._in_application(channel)) is not None]
        self._welcomed = set(self._visits)
        await asyncio.sleep(ORPHAN_AFTER)
        welcomed, self._welcomed = self._welcomed, None
        for start in suspects:
            if start.channel not in welcomed:
                await Visit(self.connection, start).leave(Result.FAILED, (Reason.GUARD_AWAY,))

    def _in_application(self, channel: Any) -> ari.StasisStarted | None:
        """A listed channel that is in our application and has no visit yet; None for others, and for nonsense."""
        try:
            where = channel["dialplan"]
            ours = where["app_name"] == "Stasis" and where["app_data"].startswith(f"{self._application},")
            start = ari.StasisStarted(str(channel["id"]), str(channel["name"]), True, "", ())
        except (KeyError, TypeError, AttributeError):
            return None
        return start if ours and start.channel not in self._visits else None


async def _let_go(visit: Visit) -> None:
    await visit.leave(Result.FAILED, (Reason.GUARD_AWAY,))
