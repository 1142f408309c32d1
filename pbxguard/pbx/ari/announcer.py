"""The caller's door in ARI: one visit of one channel, from StasisStart until it goes on in the dialplan.

Owns the requests of a visit and their order, not what is due or what counts as heard (`core.announcement`). Each
visit is fenced: after its StasisEnd, or when the channel comes again, it sends nothing more, since a late `continue`
would end the next visit.
"""

from __future__ import annotations

import asyncio
import secrets
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
from .performance import Listener, Ordered, Performance

MOST_VISITS = 2000
ALLOWANCE = 2.8
"""Seconds that Asterisk gives us beyond the disclosure and its key wait before it takes the call back: the 3 s that a
caller waits at most, less what it takes to get here and away."""
TRIES, ALLOW_WAIT = 2, 0.6
"""How often that is asked for, and how long (s) for an answer: both fit into what the dialplan gave us."""
ORPHAN_AFTER = 1.0
"""Seconds after which a channel that was in the application as we connected has its StasisStart, or never gets one."""

_log = get_logger()


class Visit(Performance):
    """One channel in our application. `announce` or `leave` must be called, once."""

    def __init__(self, connection: AriConnection, start: ari.StasisStarted) -> None:
        self.channel = Uniqueid(start.channel)
        self.name = start.name
        self.caller_number = start.caller_number
        self.arguments = start.arguments[1:]
        self.id = f"pbxguard-{secrets.token_hex(8)}"
        super().__init__()
        self._up = start.up
        self._connection = connection
        self._path = f"/channels/{part(start.channel)}"
        self._formats = ""

    async def announce(
        self, disclosure: Disclosure, timing: Timing, listener: Listener, *, goes_on: bool = False
    ) -> Outcome:
        """Play it, listen, set the result, and let the channel go on. Never raises for what Asterisk does."""
        machine = Announcement(self.id, disclosure, timing, goes_on=goes_on)
        return await self.perform(machine, await self._allowed(disclosure, timing), listener)

    async def leave(self, result: Result, reasons: tuple[Reason, ...]) -> bool:
        """Set the result and let the channel go on, without a sound. False when it was gone."""
        return await self._try(self._set_result(result, reasons)) and await self._try(self._continue())

    # -- out

    async def carry_out(self, output: Ordered) -> core.Event | None:
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

    async def concluded(self, other: tuple[Result, tuple[Reason, ...]] | None) -> None:
        if other is not None:
            await self._try(self._set_result(*other))

    async def go_on(self) -> None:
        await self._try(self._continue())

    async def _read_stats(self) -> core.Event:
        counters = await self._request("GET", f"{self._path}/rtp_statistics")
        if not self._formats:
            answer = await self._request("GET", f"{self._path}/variable", variable="CHANNEL(audionativeformat)")
            self._formats = str(answer["value"]) if isinstance(answer, dict) and "value" in answer else ""
        try:
            return core.StatsRead(int(counters["txoctetcount"]), int(counters["rxcount"]), self._formats)
        except (KeyError, TypeError, ValueError, ArithmeticError):
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

    async def _allowed(self, disclosure: Disclosure, timing: Timing) -> core.Event:
        """Until here the dialplan gave us 2 s, since it does not know the disclosure's length.

        Without more it would take the call back in the midst of a word: then nothing is begun.
        """
        length = disclosure.notice_ms / 1000 + (disclosure.key_ms / 1000 if disclosure.key_sound else 0.0)
        key_wait = 0.0 if disclosure.key.mode is Mode.NOTICE else timing.key_wait
        seconds = f"{length + key_wait + ALLOWANCE:.1f}"
        for _ in range(TRIES):
            try:
                await self._set("TIMEOUT(absolute)", seconds, within=ALLOW_WAIT)
                return core.Entered(self._up)
            except ChannelNotOurs:
                return core.CommandFailed(gone=True)
            except PbxguardError as error:
                _log.warning(Event.ARI_REQUEST_FAILED, request="Allow", reason=str(error))
        return core.CommandFailed()

    async def _set(self, name: str, value: str, within: float | None = None) -> None:
        await self._request("POST", f"{self._path}/variable", within, variable=name, value=value)

    async def _continue(self) -> None:
        await self._request("POST", f"{self._path}/continue")

    async def _try(self, request: Awaitable[None]) -> bool:
        try:
            await request
            return True
        except PbxguardError:
            return False

    async def _request(self, method: str, path: str, within: float | None = None, **params: str) -> Any:
        if self.over:
            raise ChannelNotOurs("left")
        return await self._connection.request(method, path, params=params, seconds=within)


Door = Callable[[Visit], Awaitable[None]]
"""Decides what a visit hears; calls `announce` or `leave`."""


class Guest(Protocol):
    """Somebody else who has channels of his own in our application: `whisper`."""

    def take(self, event: ari.AriEvent) -> bool:
        """Whether it is about a channel of his."""

    def lost(self) -> None:
        """Events were lost."""

    async def found(self, channels: list[Any]) -> None:
        """As we connected, these were there (ARI's list)."""


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
        self.guests: list[Guest] = []

    @property
    def visits(self) -> int:
        """Channels that are ours now."""
        return len(self._visits)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await self.connection.run()

    def _on_event(self, event: ari.AriEvent) -> None:
        if any(guest.take(event) for guest in self.guests):
            return
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
        for guest in self.guests:
            guest.lost()

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
        for guest in self.guests:
            await guest.found(listed)
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
