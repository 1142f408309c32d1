"""One visit against a scripted ARI: which requests go out, in which order, and what is never sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import structlog

from pbxguard.core import announcement as core
from pbxguard.core.announcement import Outcome, Result, Timing
from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.pbx.ari import connection as connection_module
from pbxguard.pbx.ari.announcer import ORPHAN_AFTER, Announcer, Visit
from pbxguard.pbx.ari.connection import UNPROVEN, AriAddress, AriConnection, AriTiming, ChannelNotOurs
from pbxguard.pbx.ari.performance import MOST_WAITING
from tests.wire.fake_ari import CHANNEL, FakeAri, fake_ari, stamp

KEY = DisclosureKey.of((PurposeName("contract_evidence"),), "nl", Mode.NOTICE, Direction.INBOUND)
NOTICE = Disclosure(KEY, "t", "d", "/sounds/notice", 3000)
QUICK = Timing(silence=0.01, media_poll=0.01, media_wait=0.1, command=0.3, start=0.3, finish=0.3)
PACE = AriTiming(request=0.3, first_backoff=0.01, most_backoff=0.05, ping=0.5)
AT = 1_795_000_000.0
HERE = f"/channels/{CHANNEL}"


@dataclass
class Heard:
    """What a visit told; `other` is what the door wants set instead."""

    outcomes: list[Outcome] = field(default_factory=list)
    objections: int = 0
    other: tuple[Result, tuple[Reason, ...]] | None = None

    async def objected(self) -> None:
        self.objections += 1

    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None:
        self.outcomes.append(outcome)
        return self.other


@asynccontextmanager
async def door(heard: Heard, *, broken: bool = False) -> AsyncIterator[tuple[FakeAri, Announcer]]:
    """An announcer that plays `NOTICE` to whoever enters."""

    async def play(visit: Visit) -> None:
        if broken:
            raise RuntimeError("a fault of ours")
        await visit.announce(NOTICE, QUICK, heard)

    async with fake_ari() as ari:
        announcer = Announcer(AriAddress(ari.url, "pbxguard", "secret"), play, PACE)
        running = asyncio.create_task(announcer.run())
        try:
            await ari.connected()
            await ari.until("eventFilter")
            while not announcer.connection.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            yield ari, announcer
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def over(heard: Heard) -> Outcome:
    async with asyncio.timeout(5):
        while not heard.outcomes:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return heard.outcomes[0]


async def test_a_notice_is_played_counted_and_the_call_goes_on() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence", up=False)
        await ari.plays(AT, AT + 3.0)
        await ari.until("/continue")
        assert (await over(heard)).result is Result.DISCLOSED
        mine = [r.removeprefix("POST ").split("?")[0] for r in ari.requests if r.startswith("POST /channels")]
        assert [path.split("/")[3] for path in mine] == ["variable", "answer", "play", "variable", "continue"]
        assert "TIMEOUT%28absolute%29&value=5.8" in ari.seen("TIMEOUT")[0].replace("(", "%28").replace(")", "%29")
        assert "value=DISCLOSED" in ari.seen("PBXGUARD_RESULT")[0]


async def test_a_prompt_that_was_cut_is_told_with_its_reason_before_the_result() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        await ari.plays(AT, AT + 1.97)
        await ari.until("/continue")
        reason, result = (ari.requests.index(ari.seen(name)[0]) for name in ("PBXGUARD_REASON", "PBXGUARD_RESULT"))
        assert reason < result
        assert "value=prompt_cut" in ari.seen("PBXGUARD_REASON")[0]


async def test_a_nine_deletes_the_playback_before_the_call_goes_on() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        request = await ari.until("/play/")
        id = request.split("/play/")[1].split("?")[0]
        playback = {"id": id, "media_uri": "x", "target_uri": f"channel:{CHANNEL}", "state": "playing"}
        await ari.send("PlaybackStarted", playback=playback, timestamp=stamp(AT))
        await ari.send("ChannelDtmfReceived", digit="9", channel=ari.channel())
        await ari.until("/continue")
        deleted = ari.requests.index(f"DELETE /playbacks/{id}")
        assert deleted < ari.requests.index(ari.seen("/continue")[0])
        assert heard.objections == 1
        assert (await over(heard)).result is Result.OBJECTED


async def test_a_result_that_is_answered_404_leaves_the_caller_untold_and_sends_no_continue() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        ari.answers[f"POST {HERE}/variable?variable=PBXGUARD_RESULT"] = lambda: (404, {})
        await ari.enters("caller", "contract_evidence")
        await ari.plays(AT, AT + 3.0)
        outcome = await over(heard)
        assert (outcome.heard, outcome.reasons) == (False, (Reason.PROMPT_CHANNEL_GONE,))
        assert not ari.seen("/continue")


async def test_after_stasis_end_nothing_more_is_sent() -> None:
    heard = Heard()
    async with door(heard) as (ari, announcer):
        await ari.enters("caller", "contract_evidence")
        await ari.until("/play/")
        await ari.send("StasisEnd", channel=ari.channel())
        assert (await over(heard)).reasons == (Reason.PROMPT_CHANNEL_GONE,)
        assert not ari.seen("PBXGUARD_RESULT")
        assert not ari.seen("/continue")
        assert announcer.visits == 0


async def test_a_channel_that_comes_again_ends_its_earlier_visit() -> None:
    heard = Heard()
    async with door(heard) as (ari, announcer):
        await ari.enters("caller", "contract_evidence")
        first = await ari.until("/play/")
        await ari.enters("caller", "contract_evidence")
        second = await ari.until("/play/", after=1)
        assert (await over(heard)).reasons == (Reason.PROMPT_CHANNEL_GONE,)
        assert first.split("/play/")[1] != second.split("/play/")[1]
        assert announcer.visits == 1
        assert not ari.seen("/continue")


async def test_a_frozen_asterisk_ends_the_visit_within_its_deadlines() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        ari.silent = True
        await ari.enters("caller", "contract_evidence")
        assert not (await over(heard)).heard


async def test_a_time_that_is_not_granted_at_once_is_asked_for_again() -> None:
    heard = Heard()
    refusals: Iterator[tuple[int, dict[str, str] | None]] = iter([(500, {})])
    async with door(heard) as (ari, _):
        ari.answers[f"POST {HERE}/variable?variable=TIMEOUT"] = lambda: next(refusals, (204, None))
        await ari.enters("caller", "contract_evidence")
        await ari.plays(AT, AT + 3.0)
        await ari.until("/continue")
        assert (await over(heard)).heard
        assert len(ari.seen("TIMEOUT")) == 2


async def test_without_the_time_for_it_no_disclosure_is_begun_and_the_call_goes_on() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        ari.answers[f"POST {HERE}/variable?variable=TIMEOUT"] = lambda: (500, {})
        await ari.enters("caller", "contract_evidence")
        await ari.until("/continue")
        assert (await over(heard)).reasons == (Reason.PROMPT_FAILED,)
        assert "value=FAILED" in ari.seen("PBXGUARD_RESULT")[0]
        assert not ari.seen("/play/")


async def test_a_visit_that_was_over_before_it_began_asks_for_nothing() -> None:
    """A thawed service reads that somebody came and that he has gone: he is in his call, and stays there."""
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        await ari.send("StasisEnd", channel=ari.channel())
        time.sleep(0.2)  # noqa: ASYNC251  (we are frozen, the events lie in the socket)
        assert (await over(heard)).reasons == (Reason.PROMPT_CHANNEL_GONE,)
        assert not ari.seen(HERE)


async def test_when_the_events_are_lost_the_caller_is_untold_and_let_go() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        await ari.until("/play/")
        await ari.sockets[-1].close()
        assert not (await over(heard)).heard
        await ari.until("/continue")
        await ari.connected(2)


async def test_a_channel_that_sends_more_than_anybody_reads_is_let_go() -> None:
    heard = Heard()
    async with door(heard) as (ari, announcer):
        await ari.enters("caller", "contract_evidence")
        await ari.until("/play/")
        visit = announcer._visits[CHANNEL]
        for _ in range(10 * MOST_WAITING):
            visit.give(core.DigitReceived("5"))
        await ari.until("/continue")
        outcome = await over(heard)
        assert (outcome.heard, outcome.result) == (False, Result.FAILED)


async def test_a_fault_of_ours_lets_the_call_go_on() -> None:
    async with door(Heard(), broken=True) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        await ari.until("/continue")
        assert "value=FAILED" in ari.seen("PBXGUARD_RESULT")[0]


async def test_a_door_that_nobody_knows_lets_the_call_go_on() -> None:
    async with door(Heard()) as (ari, _):
        await ari.enters("cellar")
        await ari.until("/continue")
        assert not ari.seen("/play/")


async def test_when_the_audit_log_failed_the_result_is_taken_back_before_the_call_goes_on() -> None:
    heard = Heard(other=(Result.FAILED, (Reason.AUDIT_UNHEALTHY,)))
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        await ari.plays(AT, AT + 3.0)
        await ari.until("/continue")
        assert "value=audit_unhealthy" in ari.seen("PBXGUARD_REASON")[0]
        assert "value=FAILED" in ari.seen("PBXGUARD_RESULT")[-1]


async def test_channels_left_over_from_a_dead_pbxguard_are_let_go() -> None:
    heard = Heard()
    async with fake_ari() as ari:
        ari.channels.append(ari.channel("old-1.1"))
        ari.channels.append({**ari.channel("other"), "dialplan": {"app_name": "Dial", "app_data": "x"}})
        announcer = Announcer(AriAddress(ari.url, "pbxguard", "secret"), lambda visit: asyncio.sleep(0), PACE)
        running = asyncio.create_task(announcer.run())
        await ari.until("/channels/old-1.1/continue")
        assert not ari.seen("/channels/other")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not heard.outcomes


async def test_a_channel_that_comes_while_stock_is_taken_is_no_leftover() -> None:
    """It may be listed before its StasisStart is here, and it may come after the list was made."""
    heard = Heard()

    async def play(visit: Visit) -> None:
        await visit.announce(NOTICE, QUICK, heard)

    async with fake_ari() as ari:
        ari.channels.append(ari.channel())
        announcer = Announcer(AriAddress(ari.url, "pbxguard", "secret"), play, PACE)
        running = asyncio.create_task(announcer.run())
        await ari.until("GET /channels")
        await ari.enters("caller", "contract_evidence")
        ari.channels.append(ari.channel("later"))
        await ari.plays(AT, AT + 3.0)
        await ari.until("/continue")
        await asyncio.sleep(ORPHAN_AFTER + 0.2)
        assert [outcome.result for outcome in heard.outcomes] == [Result.DISCLOSED]
        assert not ari.seen("value=FAILED")
        assert not ari.seen("/channels/later")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_beat_proves_requests_and_events() -> None:
    async with door(Heard()) as (ari, announcer):
        await announcer.connection.round_trip()
        ari.answers["POST /events/user/"] = lambda: (204, None)  # accepted, and nothing comes back
        with pytest.raises(ConnectionFailed):
            await announcer.connection.round_trip()


async def test_a_refused_login_is_retried_and_not_proven() -> None:
    async with fake_ari() as ari:
        announcer = Announcer(AriAddress(ari.url, "pbxguard", "wrong"), lambda visit: asyncio.sleep(0), PACE)
        running = asyncio.create_task(announcer.run())
        await asyncio.sleep(0.05)
        assert not announcer.connection.connected
        with pytest.raises(ConnectionFailed):
            await announcer.connection.round_trip()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_each_change_of_state_is_logged_once() -> None:
    async with asyncio.timeout(60), fake_ari() as ari:
        ari.refuses = 503
        announcer = Announcer(AriAddress(ari.url, "pbxguard", "secret"), lambda visit: asyncio.sleep(0), PACE)
        with structlog.testing.capture_logs() as lines:

            def said(event: str) -> int:
                return [line["event"] for line in lines].count(event)

            running = asyncio.create_task(announcer.run())
            try:
                while ari.refused < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                ari.refuses = 0
                while said("ari.connected") < 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                ari.refuses = 503
                await ari.sockets[-1].close()
                while ari.refused < 8:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                ari.refuses = 0
                while said("ari.connected") < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    states = [line["event"] for line in lines if line["event"] in ("ari.connected", "ari.lost", "ari.refused")]
    assert states == ["ari.refused", "ari.connected", "ari.lost", "ari.refused", "ari.connected"]


async def test_a_connection_whose_first_request_fails_as_it_is_to_end_ends_all_the_same() -> None:
    greeting = asyncio.Event()

    async def fails_when_cancelled() -> None:
        greeting.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:  # as a request does whose time is over at that very moment
            raise ConnectionFailed("ari", "no answer in time") from error

    async with fake_ari() as ari:
        connection = AriConnection(
            AriAddress(ari.url, "pbxguard", "secret"),
            on_event=lambda _: None,
            on_connected=fails_when_cancelled,
            on_lost=lambda: None,
            timing=PACE,
        )
        running = asyncio.create_task(connection.run())
        await greeting.wait()
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=2)
        greeting.clear()
        running.cancel()
        assert done
        assert running.cancelled()


async def test_unknown_events_and_broken_ones_are_not_fatal() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.send("ChannelHologramStarted", channel={"id": CHANNEL})
        await ari.sockets[-1].send_str("{not json")
        await ari.sockets[-1].send_str("[]")
        await ari.send("StasisStart")
        await ari.enters("caller", "contract_evidence")
        await ari.plays(AT, AT + 3.0)
        assert (await over(heard)).heard
        assert ari.connections == 1


async def test_what_has_gone_is_told_from_what_went_wrong() -> None:
    async with door(Heard()) as (ari, announcer):
        ari.answers["GET /channels/gone"] = lambda: (404, {"message": "Channel not found"})
        ari.answers["GET /channels/left"] = lambda: (409, {"message": "not in Stasis"})
        for channel in ("gone", "left"):
            with pytest.raises(ChannelNotOurs):
                await announcer.connection.request("GET", f"/channels/{channel}")


async def test_after_a_freeze_what_came_meanwhile_goes_before_a_deadline_that_passed() -> None:
    heard = Heard()
    async with door(heard) as (ari, _):
        await ari.enters("caller", "contract_evidence")
        request = await ari.until("/play/")
        id = request.split("/play/")[1].split("?")[0]
        playback = {"id": id, "media_uri": "x", "target_uri": f"channel:{CHANNEL}", "state": "done"}
        ari.tx, ari.rx = 24_000, 100
        await ari.send("PlaybackStarted", playback=playback, timestamp=stamp(AT))
        await ari.send("PlaybackFinished", playback=playback, timestamp=stamp(AT + 3.0))
        time.sleep(QUICK.start + 0.2)  # noqa: ASYNC251  (we are frozen, the events lie in the socket)
        assert (await over(heard)).heard


async def test_a_client_that_took_the_application_over_is_not_fought_at_full_speed() -> None:
    async with door(Heard()) as (ari, announcer):
        await ari.send("ApplicationReplaced")
        await ari.sockets[-1].close()
        await ari.connected(2)
        assert ari.connections == 2
        while not announcer.connection.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_connection_that_a_full_backlog_dropped_is_tried_again_at_once() -> None:
    """The kernel itself would try again after a second only, and the request have no time left."""
    async with backlog_of_one() as (listening, url):
        _, first = await asyncio.open_connection(*listening.getsockname())  # it fills the queue: nobody accepts yet
        connection = AriConnection(
            AriAddress(url, "pbxguard", "secret"),
            on_event=lambda _: None,
            on_connected=_nothing,
            on_lost=lambda: None,
            timing=AriTiming(request=0.9, connect=60.0),
        )

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0)
        asked = asyncio.create_task(connection.request("POST", "/channels/1/answer"))
        await asyncio.sleep(0.3)
        assert not asked.done()
        server = await asyncio.start_server(serve, sock=listening)
        try:
            async with asyncio.timeout(5):
                assert await asked is None
        finally:
            running.cancel()
            first.close()
            server.close()


async def test_a_burst_opens_few_connections_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than Asterisk's backlog would be dropped, or be open for us and unknown to Asterisk."""
    # On a busy machine this loop, which is server as well, may be late to see that it is connected, and try again.
    monkeypatch.setattr(connection_module, "CONNECTING", aiohttp.ClientTimeout(total=None, sock_connect=10.0))
    unproven, most = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal unproven, most
        unproven += 1
        most = max(most, unproven)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.02)
            unproven -= 1
            while True:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        connection = AriConnection(
            AriAddress(f"http://127.0.0.1:{port}/ari", "pbxguard", "secret"),
            on_event=lambda _: None,
            on_connected=_nothing,
            on_lost=lambda: None,
            timing=AriTiming(request=10.0),
        )
        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(connection.request("POST", f"/channels/{n}/answer") for n in range(100)))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        server.close()
    assert answers == [None] * 100
    assert 1 < most <= UNPROVEN


@asynccontextmanager
async def backlog_of_one() -> AsyncIterator[tuple[socket.socket, str]]:
    """A listening socket whose queue holds one connection, and its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        yield listening, f"http://127.0.0.1:{listening.getsockname()[1]}/ari"


async def _nothing() -> None:
    pass
