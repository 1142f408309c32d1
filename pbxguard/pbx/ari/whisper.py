"""Whispers: a sound for one party of a conversation alone, by an ARI snoop channel that only speaks.

Fulfils `service.ports.Whisper`. The snoop's channel is in our application; the party's own channel is not, so what
happens to it (hold, keys, hang-up, another bridge) is heard from AMI's facts (`observe`), and nothing counts as heard
before a beat came back that was sent after the last sample: by then everything that happened before is known. The
snoop channel is deleted in every case: by us, by its own time-out if we are dead, and at our next start by its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pbxguard.core import announcement as core
from pbxguard.core.announcement import Announcement, Outcome, Result, Timing
from pbxguard.core.errors import ConnectionFailed, PbxguardError
from pbxguard.core.facts import (
    BridgeLeft,
    ChannelHungUp,
    ConnectionLost,
    DigitPressed,
    Fact,
    HangupRequested,
    Held,
    Unheld,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.logs import Event, get_logger

from . import translate as ari
from .connection import AriConnection, ChannelNotOurs, part
from .performance import Listener, Ordered, Performance

PREFIX = "pbxguard-whisper-"
"""Begins the id of each snoop channel of ours; what follows is random, so that nobody can be there before us."""
ENTER_SECONDS = 1.0
"""For a snoop channel to come into our application."""
SETTLE_SECONDS = 1.0
"""For a beat to come back."""
LOOK_SECONDS = 0.02
ALLOWANCE = 10.0
"""Seconds beyond sound and key wait after which Asterisk itself ends a snoop channel."""
REMOVE_TRIES, REMOVE_AGAIN = 5, 0.5
MOST_TURNS = 4
"""Whispers that may wait for one party's ear."""

_log = get_logger()


class _Silent:
    """Nobody listens to what comes out of a sound that is no disclosure."""

    async def objected(self) -> None:
        pass

    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None:
        return None


@dataclass(slots=True)
class _Ear:
    """One party: one sound at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    cancels: int = 0
    """How often its disclosures were broken off."""


class Whispers:
    """`play` or `announce`; a `Guest` of the announcer's application. `observe` is to hear every fact, in order."""

    def __init__(
        self,
        connection: AriConnection,
        *,
        application: str,
        put: Callable[[Fact], Awaitable[None]],
        seen: Callable[[], float],
    ) -> None:
        """`put`: takes facts to the core; `seen`: when (monotonic s) the last beat that came back was sent."""
        self._connection, self._application = connection, application
        self._put, self._seen = put, seen
        self._live: dict[str, _Whisper] = {}
        self._ears: dict[Uniqueid, _Ear] = {}
        self._closing = False

    async def play(self, channel: Uniqueid, sound: str, length_ms: int) -> Reason | None:
        """One sound (as Asterisk spells it, without extension) of `length_ms` to this party alone.

        None when it was heard in full, else why not. Takes at most its length and a few seconds, and so long for each
        sound that this party hears before. Never raises for what Asterisk does.
        """
        key = DisclosureKey.of((PurposeName("sound"),), "xx", Mode.NOTICE, Direction.INBOUND)
        outcome = await self._whisper(channel, Disclosure(key, "", "", sound, length_ms), Timing(), _Silent())
        return None if outcome.heard else (*outcome.reasons, Reason.PROMPT_FAILED)[0]

    async def announce(
        self,
        channel: Uniqueid,
        disclosure: Disclosure,
        timing: Timing,
        listener: Listener,
        *,
        goes_on: bool = False,
    ) -> Outcome:
        """A whole disclosure to this party alone, in the midst of a conversation; `listener` as at a door."""
        return await self._whisper(channel, disclosure, timing, listener, goes_on=goes_on, told=True)

    async def _whisper(
        self,
        channel: Uniqueid,
        disclosure: Disclosure,
        timing: Timing,
        listener: Listener,
        *,
        goes_on: bool = False,
        told: bool = False,
    ) -> Outcome:
        async with self._turn(channel, told) as reason:
            whisper = _Whisper(self._connection, self._application, channel, self._seen, told)
            if reason is not None or self._closing:
                refused = Outcome(Result.FAILED, (reason or Reason.PROMPT_TIMED_OUT,))
                await listener.concluded(refused)
                return refused
            self._live[whisper.id] = whisper
            await self._put(WhisperBegun(whisper.id, channel))
            try:
                machine = Announcement(whisper.id, disclosure, timing, goes_on=goes_on, mixed=True)
                return await whisper.perform(machine, await whisper.open(disclosure, timing), listener)
            finally:
                whisper.over = True
                await asyncio.shield(self._remove(whisper))

    def cancel(self, channel: Uniqueid) -> None:
        """A disclosure that is whispered to this party, or is to be, is broken off; other sounds are not."""
        if (ear := self._ears.get(channel)) is not None:
            ear.cancels += 1
        for whisper in self._of(channel):
            if whisper.told:
                whisper.give(core.CommandFailed())

    async def close(self) -> None:
        """Delete what there is, and make no more: the service ends. At most a second or so."""
        self._closing = True
        await asyncio.gather(*(self._delete(id) for id in tuple(self._live)))

    def observe(self, fact: Fact) -> None:
        """What happens to those who are spoken to."""
        match fact:
            case ConnectionLost():
                self.lost()
            case Held(channel):
                self._give(channel, core.Held())
            case Unheld(channel):
                self._give(channel, core.Unheld())
            case DigitPressed(channel, digit):
                self._give(channel, core.DigitReceived(digit))
            case BridgeLeft(channel=channel):
                self._give(channel, core.CommandFailed())  # he hears other people now, or music
            case HangupRequested(channel) | ChannelHungUp(channel):
                for whisper in self._of(channel):
                    whisper.end()
            case _:
                pass

    # -- a guest of the announcer's

    def take(self, event: ari.AriEvent) -> bool:
        """Whether it is about a snoop channel of ours."""
        match event:
            case ari.BeatReturned() | ari.Replaced():
                return False
            case _:
                whisper = self._live.get(event.channel)
        if whisper is None:
            return False
        match event:
            case ari.StasisStarted():
                whisper.entered.set()
            case ari.PlaybackBegan(_, id, at):
                whisper.give(core.PlaybackStarted(id, at))
            case ari.PlaybackEnded(_, id, state, at):
                whisper.give(core.PlaybackFinished(id, state, at))
            case ari.StasisEnded() | ari.ChannelGone():
                whisper.end()
            case _:
                pass
        return True

    def lost(self) -> None:
        """What happens from now on is not seen."""
        for whisper in self._live.values():
            whisper.give(core.CommandFailed())

    async def found(self, channels: list[Any]) -> None:
        """Snoop channels that a dead pbxguard left: deleted. A disclosure in their midst was not heard."""
        for channel in channels:
            id = str(channel.get("id", "")) if isinstance(channel, dict) else ""
            if id.startswith(PREFIX) and str(channel.get("name", "")).startswith("Snoop/") and id not in self._live:
                _log.warning(Event.WHISPER_LEFT, channel=id)
                await self._delete(id)

    # --

    def _of(self, channel: Uniqueid) -> list[_Whisper]:
        return [whisper for whisper in self._live.values() if whisper.channel == channel]

    def _give(self, channel: Uniqueid, event: core.Event) -> None:
        for whisper in self._of(channel):
            whisper.give(event)

    @asynccontextmanager
    async def _turn(self, channel: Uniqueid, told: bool) -> AsyncIterator[Reason | None]:
        """This party's ear; a reason when too many wait for it already, or it is no longer to be told."""
        ear = self._ears.setdefault(channel, _Ear())
        if ear.waiting > MOST_TURNS:
            yield Reason.PROMPT_TIMED_OUT
            return
        ear.waiting += 1
        cancels = ear.cancels
        try:
            async with ear.lock:
                yield Reason.PROMPT_FAILED if told and ear.cancels > cancels else None
        finally:
            ear.waiting -= 1
            if not ear.waiting:
                self._ears.pop(channel, None)

    async def _remove(self, whisper: _Whisper) -> None:
        try:
            await self._delete(whisper.id)
        finally:
            self._live.pop(whisper.id, None)
            await self._put(WhisperEnded(whisper.id))

    async def _delete(self, id: str) -> None:
        """Until Asterisk says that it is gone; if it never does, the channel's own time-out ends it."""
        for _ in range(REMOVE_TRIES):
            try:
                await self._connection.request("DELETE", f"/channels/{part(id)}")
                return
            except ChannelNotOurs:
                return
            except PbxguardError as error:
                _log.warning(Event.ARI_REQUEST_FAILED, request="delete snoop", reason=str(error))
                if self._closing:
                    return
                await asyncio.sleep(REMOVE_AGAIN)


class _Whisper(Performance):
    """One snoop channel, from its making to its deletion."""

    def __init__(
        self,
        connection: AriConnection,
        application: str,
        channel: Uniqueid,
        seen: Callable[[], float],
        told: bool,
    ) -> None:
        """`told`: it is a disclosure."""
        super().__init__()
        self.channel, self.told = channel, told
        self.id = Uniqueid(f"{PREFIX}{secrets.token_hex(16)}")
        self.entered = asyncio.Event()
        self._connection, self._application, self._seen = connection, application, seen
        self._party, self._snoop = f"/channels/{part(channel)}", f"/channels/{part(self.id)}"
        self._formats = ""

    async def open(self, disclosure: Disclosure, timing: Timing) -> core.Event:
        """Make it, and let Asterisk itself end it if we do not."""
        try:
            await self._request(
                "POST",
                f"{self._party}/snoop/{part(self.id)}",
                whisper="out",
                app=self._application,
                appArgs="whisper",
            )
            async with asyncio.timeout(ENTER_SECONDS):
                await self.entered.wait()
            seconds = (disclosure.notice_ms + disclosure.key_ms) / 1000 + timing.key_wait + ALLOWANCE
            await self._request("POST", f"{self._snoop}/variable", variable="TIMEOUT(absolute)", value=f"{seconds:.1f}")
            return core.Entered(up=True)
        except ChannelNotOurs:
            return core.CommandFailed(gone=True)
        except (PbxguardError, TimeoutError) as error:
            _log.warning(Event.ARI_REQUEST_FAILED, request="snoop", reason=str(error) or "not in time")
            return core.CommandFailed()

    async def carry_out(self, output: Ordered) -> core.Event | None:
        match output:
            case core.Answer():
                return core.Answered()  # a party of a conversation is
            case core.ReadStats(settled):
                if not settled:
                    return await self._read_stats()
                await self._settled()
                self.give(await self._read_stats())  # behind what happened before
                return None
            case core.Play(id, sound):
                await self._request("POST", f"{self._snoop}/play/{part(id)}", media=f"sound:{sound}")
                return None
            case core.StopPlayback(id):
                with contextlib.suppress(ChannelNotOurs):  # it had just ended by itself
                    await self._request("DELETE", f"/playbacks/{part(id)}")
                return core.PlaybackStopped()
            case core.SetResult(result, _):
                if result in (Result.DISCLOSED, Result.CONSENTED):
                    await self._settled()
                    await self._request("GET", self._snoop)  # ours to the end, so what it whispered went through it
                self.give(core.ResultSet())  # behind a key that he pressed before
                return None

    async def concluded(self, other: tuple[Result, tuple[Reason, ...]] | None) -> None:
        """No dialplan waits for a result."""

    async def go_on(self) -> None:
        """Its end is `Whispers.announce`'s."""

    async def _read_stats(self) -> core.Event:
        counters = await self._request("GET", f"{self._party}/rtp_statistics")
        if not self._formats:
            answer = await self._request("GET", f"{self._party}/variable", variable="CHANNEL(audionativeformat)")
            self._formats = str(answer["value"]) if isinstance(answer, dict) and "value" in answer else ""
        try:
            return core.StatsRead(int(counters["txoctetcount"]), int(counters["rxcount"]), self._formats)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return core.CommandFailed()

    async def _settled(self) -> None:
        """A beat that is sent from now on came back. Raises ConnectionFailed."""
        now = time.monotonic()
        while self._seen() < now:
            if time.monotonic() > now + SETTLE_SECONDS:
                raise ConnectionFailed("ami", "no beat in time")
            await asyncio.sleep(LOOK_SECONDS)

    async def _request(self, method: str, path: str, **params: str) -> Any:
        if self.over:
            raise ChannelNotOurs("left")
        return await self._connection.request(method, path, params=params)
