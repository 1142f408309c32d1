"""Whispers against a scripted ARI: one snoop channel each, deleted in every case, and what counts as heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pbxguard.core.announcement import Timing
from pbxguard.core.facts import (
    BridgeLeft,
    ChannelHungUp,
    ConnectionLost,
    DigitPressed,
    Fact,
    Held,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import BridgeId, PurposeName, Uniqueid
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.pbx.ari.announcer import Announcer, Visit
from pbxguard.pbx.ari.connection import AriAddress
from pbxguard.pbx.ari.whisper import PREFIX, Whispers
from tests.wire.fake_ari import CHANNEL, FakeAri, fake_ari, stamp
from tests.wire.test_ari_announcer import PACE, Heard

PARTY = Uniqueid(CHANNEL)
SOUND_MS = 600
KEY = DisclosureKey.of((PurposeName("contract_evidence"),), "nl", Mode.NOTICE, Direction.INBOUND)
NOTICE = Disclosure(KEY, "t", "d", "/sounds/notice", SOUND_MS)


@dataclass
class Line:
    """Asterisk, as far as a whisper sees it: the peer's voice goes out all the time, unless `silent`."""

    ari: FakeAri
    announcer: Announcer
    whispers: Whispers
    facts: list[Fact] = field(default_factory=list)
    silent: bool = False
    beats: bool = True
    refuses: bool = False
    cut: bool = False
    """The sound ends before its time, and Asterisk says that it is done."""

    async def talk(self) -> None:
        """The peer's voice in the party's ear: 8000 octets a second."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if not self.silent:
                self.ari.tx += round((now - last) * 8000)
                self.ari.rx += 1
            last = now

    async def serve(self) -> None:
        """Answers each snoop with its StasisStart, and each sound with its begin and end."""
        snoops = plays = 0
        while True:
            if len(found := self.ari.seen("/snoop/")) > snoops and not self.refuses:
                snoops += 1
                id = found[-1].split("/snoop/")[1].split("?")[0]
                await self.ari.send("StasisStart", args=["whisper"], channel=self.ari.channel(id))
            if len(found := self.ari.seen("/play/")) > plays:
                plays += 1
                snoop, id = found[-1].split("?")[0].removeprefix("POST /channels/").split("/play/")
                playback = {"id": id, "target_uri": f"channel:{snoop}", "state": "playing"}
                at = time.time()
                await self.ari.send("PlaybackStarted", playback=playback, timestamp=stamp(at))
                length = SOUND_MS / 1000 * (0.5 if self.cut else 1.0)
                await asyncio.sleep(length)
                playback = playback | {"state": "done"}
                await self.ari.send("PlaybackFinished", playback=playback, timestamp=stamp(at + length))
            await asyncio.sleep(0.005)

    def deleted(self) -> list[str]:
        return [r.removeprefix("DELETE /channels/") for r in self.ari.seen("DELETE /channels/")]

    def made(self) -> str:
        return self.ari.seen("/snoop/")[0].split("/snoop/")[1].split("?")[0]


async def _no_door(visit: Visit) -> None:
    raise AssertionError("nobody came to a door")


@asynccontextmanager
async def line(*, left: tuple[str, ...] = ()) -> AsyncIterator[Line]:
    async with fake_ari() as ari:
        facts: list[Fact] = []

        async def put(fact: Fact) -> None:
            facts.append(fact)

        announcer = Announcer(AriAddress(ari.url, "pbxguard", "secret"), _no_door, PACE)
        whispers = Whispers(
            announcer.connection,
            application="pbxguard",
            put=put,
            seen=lambda: time.monotonic() if it.beats else 0.0,
        )
        announcer.guests.append(whispers)
        it = Line(ari, announcer, whispers, facts)
        ari.channels = [ari.channel(id) | {"name": f"Snoop/{CHANNEL}-00000001"} for id in left]
        running = [asyncio.create_task(work) for work in (announcer.run(), it.talk(), it.serve())]
        try:
            await ari.connected()
            while not announcer.connection.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            yield it
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def test_a_sound_is_heard_when_all_of_it_went_out_with_the_conversation() -> None:
    async with line() as it:
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is None
        id = it.made()
        assert id.startswith(PREFIX)
        assert f"POST /channels/{CHANNEL}/snoop/{id}?whisper=out&app=pbxguard&appArgs=whisper" in it.ari.requests
        assert it.deleted() == [id]
        assert it.facts == [WhisperBegun(Uniqueid(id), PARTY), WhisperEnded(Uniqueid(id))]
        assert "media=sound:/sounds/tone" in it.ari.seen("/play/")[0].replace("%3A", ":").replace("%2F", "/")
        bound = next(r for r in it.ari.requests if "TIMEOUT" in r)
        assert bound.startswith(f"POST /channels/{id}/variable"), "Asterisk ends it by itself when we are dead"


async def test_to_a_party_whose_peer_sends_nothing_it_was_not_heard_though_its_playback_is_done() -> None:
    async with line() as it:
        it.silent = True
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is Reason.PROMPT_UNSENT
        assert it.deleted() == [it.made()]


async def test_a_sound_that_was_cut_was_not_heard() -> None:
    async with line() as it:
        it.cut = True
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is Reason.PROMPT_CUT
        assert it.deleted() == [it.made()]


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (Held(PARTY), Reason.PROMPT_ON_HOLD),
        (BridgeLeft(BridgeId("b"), PARTY), Reason.PROMPT_FAILED),
        (ConnectionLost(), Reason.PROMPT_FAILED),
        (ChannelHungUp(PARTY), Reason.PROMPT_CHANNEL_GONE),
    ],
)
async def test_what_happens_to_the_party_in_its_midst_ends_it(fact: Fact, reason: Reason) -> None:
    async with line() as it:
        asked = asyncio.create_task(it.whispers.play(PARTY, "/sounds/tone", SOUND_MS))
        await it.ari.until("/play/")
        it.whispers.observe(Held(Uniqueid("somebody.else")))
        it.whispers.observe(fact)
        assert await asked is reason
        assert it.deleted() == [it.made()]


async def test_a_hold_that_is_seen_only_after_the_sounds_end_ends_it_too() -> None:
    async with line() as it:
        it.beats = False
        asked = asyncio.create_task(it.whispers.play(PARTY, "/sounds/tone", SOUND_MS))
        await it.ari.until("/play/")
        await asyncio.sleep(SOUND_MS / 1000 + 0.3)  # it is over, and waits for what happened to be known
        assert not asked.done()
        it.whispers.observe(Held(PARTY))
        it.beats = True
        assert await asked is Reason.PROMPT_ON_HOLD


async def test_without_a_beat_nothing_is_heard() -> None:
    async with line() as it:
        it.beats = False
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is Reason.PROMPT_UNSENT


async def test_a_nine_in_its_midst_is_an_objection_and_ends_it() -> None:
    async with line() as it:
        heard = Heard()
        asked = asyncio.create_task(it.whispers.announce(PARTY, NOTICE, Timing(), heard))
        await it.ari.until("/play/")
        it.whispers.observe(DigitPressed(PARTY, "9"))
        outcome = await asked
        assert (outcome.objected, outcome.heard, heard.objections) == (True, False, 1)
        assert it.deleted() == [it.made()]


async def test_who_asks_to_break_it_off_is_obeyed() -> None:
    async with line() as it:
        heard = Heard()
        first, second = (asyncio.create_task(it.whispers.announce(PARTY, NOTICE, Timing(), heard)) for _ in "12")
        sound = asyncio.create_task(it.whispers.play(PARTY, "/sounds/tone", SOUND_MS))
        await it.ari.until("/play/")
        it.whispers.cancel(PARTY)
        assert (await first).reasons == (await second).reasons == (Reason.PROMPT_FAILED,)
        assert it.ari.seen("DELETE /playbacks/")
        assert await sound is None, "it is no disclosure"
        assert len(it.deleted()) == 2, "the second never had a channel"
        assert len(heard.outcomes) == 2


async def test_a_snoop_that_never_comes_is_deleted_all_the_same() -> None:
    async with line() as it:
        it.refuses = True
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is Reason.PROMPT_FAILED
        assert it.deleted() == [it.made()]
        assert not it.ari.seen("/play/")


async def test_one_party_hears_one_sound_at_a_time() -> None:
    async with line() as it:
        first, second = (asyncio.create_task(it.whispers.play(PARTY, f"/sounds/{n}", SOUND_MS)) for n in "12")
        assert await first is None
        assert len(it.ari.seen("/play/")) == 1
        assert await second is None
        assert [it.facts[n].__class__ for n in range(4)] == [WhisperBegun, WhisperEnded] * 2


async def test_what_a_dead_guard_left_is_deleted_by_its_name_and_nobody_elses_snoop_is() -> None:
    async with line(left=(f"{PREFIX}0123", "someone-elses")) as it:
        await it.ari.until("DELETE /channels/")
        await asyncio.sleep(0.05)
        assert it.deleted() == [f"{PREFIX}0123"]


async def test_as_the_service_ends_whatever_is_whispered_ends() -> None:
    async with line() as it:
        asked = asyncio.create_task(it.whispers.play(PARTY, "/sounds/tone", SOUND_MS))
        await it.ari.until("/play/")
        await it.whispers.close()
        assert it.made() in it.deleted()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert await it.whispers.play(PARTY, "/sounds/tone", SOUND_MS) is Reason.PROMPT_TIMED_OUT
