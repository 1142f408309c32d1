"""Every fault of panoramisk 1.4 (ASTERISK.md), and every way in which a connection can be lost, against a fake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from pbxguard.core.errors import ConnectionFailed, UnsafeValue
from pbxguard.pbx.ami.connection import Address, AmiRefused, Line, LoginRefused, Session, Tuning
from pbxguard.pbx.ami.values import Ours
from pbxguard.pbx.ami.wire import LARGEST_MESSAGE
from tests.wire.fake_ami import SECRET, SILENCE, FakeAmi, WallClock, error, fake_ami, listed, success, until

QUICK = Tuning(login_s=1.0, answer_s=0.2, first_backoff_s=0.01, most_backoff_s=0.05, silence_s=0.4)
PATIENT = replace(QUICK, login_s=3.0, answer_s=10.0, silence_s=30.0)
Events = list[Mapping[str, str]]


def address(fake: FakeAmi, secret: str = SECRET) -> Address:
    return Address("127.0.0.1", fake.port, "pbxguard", secret)


@asynccontextmanager
async def session(fake: FakeAmi, events: Events | None = None) -> AsyncIterator[Session]:
    seen = [] if events is None else events
    opened = await Session.open(address(fake), QUICK, seen.append)
    try:
        yield opened
    finally:
        opened.close()


async def test_a_login_is_made_with_events_off() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        assert (await ami.action("Ping"))[0]["Response"] == "Success"
        assert (fake.asked[0]["Action"], fake.asked[0]["Events"]) == ("Login", "off")


async def test_a_refused_login_says_what_to_mend() -> None:
    async with fake_ami() as fake:
        with pytest.raises(LoginRefused) as caught:
            await Session.open(address(fake, "wrong"), QUICK)
    assert "manager.conf" in caught.value.diagnostics()
    assert "wrong" not in str(caught.value)


async def test_nobody_at_the_port_is_a_failed_connection() -> None:
    async with fake_ami() as fake:
        nowhere = address(fake)
    with pytest.raises(ConnectionFailed) as caught:
        await Session.open(nowhere, QUICK)
    assert caught.value.diagnostics()


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"\xff\xfe\0garbage\r\n\r\n" * 1000])
async def test_something_that_is_no_asterisk_fails_in_time(greeting: bytes) -> None:
    async with fake_ami() as fake:
        fake.greeting = greeting
        fake.answers["Login"] = SILENCE
        with pytest.raises(ConnectionFailed) as caught:
            await Session.open(address(fake), QUICK)
    assert not isinstance(caught.value, LoginRefused)


async def test_an_error_is_a_refusal_without_what_asterisk_said_in_its_text() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Getvar"] = error("No such channel: PJSIP/0612345678-1")
        with pytest.raises(AmiRefused) as caught:
            await ami.action("Getvar", {"Variable": "X"})
    assert "0612345678" in caught.value.answer
    assert "0612345678" not in str(caught.value) + caught.value.diagnostics()


async def test_a_missing_right_says_which_rights_to_give() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["MixMonitor"] = error("Permission denied")
        with pytest.raises(AmiRefused) as caught:
            await ami.action("MixMonitor")
    assert "write=system,call" in caught.value.diagnostics()


async def test_an_action_without_an_answer_ends_at_its_deadline_and_its_late_answer_is_nobodys() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Status"] = SILENCE
        with pytest.raises(ConnectionFailed):
            await ami.action("Status")
        late = next(one for one in fake.asked if one["Action"] == "Status")
        fake.peers[0].send({"Response": "Success", "ActionID": late["ActionID"]})
        assert (await ami.action("Ping"))[0]["Response"] == "Success"


async def test_a_list_is_whole_when_its_last_entry_has_come() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        entries = [{"Event": "CoreShowChannel", "Uniqueid": str(n)} for n in range(50)]
        fake.answers["CoreShowChannels"] = lambda action: listed(action, entries, "CoreShowChannelsComplete")
        found = await ami.action("CoreShowChannels")
        assert [entry["Uniqueid"] for entry in found[1:]] == [str(n) for n in range(50)]


async def test_a_list_of_one_and_an_empty_list_are_lists() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["BridgeList"] = lambda action: listed(action, [], "BridgeListComplete")
        assert len(await ami.action("BridgeList")) == 1


async def test_successfully_queued_without_async_neither_kills_nor_hangs() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Atxfer"] = lambda action: success(action, Message="Atxfer successfully queued")
        assert (await ami.action("Atxfer"))[0]["Message"] == "Atxfer successfully queued"
        assert ami.alive


@pytest.mark.parametrize("message", ["Added interface to queue", "list will follow", "Originate successfully queued"])
async def test_no_wording_of_an_answer_makes_us_wait_for_more(message: str) -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Ping"] = lambda action: success(action, Message=message)
        assert (await ami.action("Ping"))[0]["Message"] == message


async def test_a_header_given_twice_in_an_answer_disturbs_nobody() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Status"] = SILENCE
        asked = asyncio.ensure_future(ami.action("Status"))
        await until(lambda: fake.count("Status"), "the action")
        mark = fake.asked[-1]["ActionID"].encode()
        fake.peers[0].raw(b"Response: Success\r\nMessage: a\r\nMessage: b\r\nActionID: " + mark + b"\r\n\r\n")
        assert (await asked)[0]["Response"] == "Success"
        assert ami.alive


@pytest.mark.parametrize("value", ["a\r\nAction: Hangup", "x\ny", "a,b", "${SHELL(id)}", "a^b"])
async def test_an_unsafe_value_is_refused_before_anything_is_sent(value: str) -> None:
    async with fake_ami() as fake, session(fake) as ami:
        with pytest.raises(UnsafeValue):
            await ami.action("Setvar", {"Variable": "X", "Value": value})
        await ami.action("Ping")
        assert fake.count("Setvar") == 0


async def test_events_come_in_order_however_the_bytes_are_cut() -> None:
    events: Events = []
    async with fake_ami() as fake, session(fake, events):
        stream = b"".join(f"Event: E\r\nN: {n}\r\nName: \u20ac\r\n\r\n".encode() for n in range(40))
        for i in range(0, len(stream), 7):
            fake.peers[0].raw(stream[i : i + 7])
            await asyncio.sleep(0)
        await until(lambda: len(events) == 40, "all events")
    assert [event["N"] for event in events] == [str(n) for n in range(40)]
    assert {event["Name"] for event in events} == {"\u20ac"}


@pytest.mark.parametrize("garbage", [b"\0\xff\xfe: : :", b"nonsense", b"Event:", b": x", b"Ev\xffent: Hangup"])
async def test_something_that_is_no_message_ends_the_connection(garbage: bytes) -> None:
    """It may have been an event that must not be missed: only a snapshot tells."""
    async with fake_ami() as fake, session(fake) as ami:
        fake.peers[0].raw(garbage + b"\r\n\r\n")
        assert await asyncio.wait_for(ami.lost(), 5) == "something that is no message"


async def test_messages_that_nobody_asked_for_are_passed_over() -> None:
    events: Events = []
    async with fake_ami() as fake, session(fake, events) as ami:
        fake.peers[0].raw(b"\r\n\r\n\r\n\r\nResponse: What\r\n\r\n")
        fake.peers[0].send({"Event": "UnheardOf", "X": "1"}, {"Event": "Hangup", "Uniqueid": "1.1"})
        await until(lambda: any(event["Event"] == "Hangup" for event in events), "the event behind it")
        assert ami.alive


async def test_a_message_without_end_ends_the_connection_and_is_not_kept() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.peers[0].raw(b"Event: X\r\nLong: " + b"a" * (10 * LARGEST_MESSAGE))
        assert await asyncio.wait_for(ami.lost(), 5) == "a message without end"


ROW_1_1 = (
    b"Channel: PJSIP/1-1\r\nCallerIDNum: 1\r\nCallerIDName: \r\nConnectedLineNum: \r\nConnectedLineName: \r\n"
    b"Language: en\r\nAccountCode: \r\nContext: c\r\nExten: e\r\nPriority: 1\r\nUniqueid: 1.1\r\nLinkedid: 1.1\r\n"
)


async def test_of_a_header_that_comes_twice_an_event_keeps_the_first() -> None:
    events: Events = []
    async with fake_ami() as fake, session(fake, events):
        fake.peers[0].raw(
            b"Event: UserEvent\r\nPrivilege: user,all\r\n"
            + ROW_1_1
            + b"UserEvent: x\r\nuniqueid: 6.6\r\nUniqueid: 7.7\r\nuserevent: x\r\n\r\n"
        )
        await until(lambda: events, "the event")
    assert events[0]["Uniqueid"] == "1.1"


@pytest.mark.parametrize(
    "more",
    [
        "Event: Hangup",
        "Response: Success",
        "CommandID: 1\r\nCommandID: 2",
        "Uniqueid: 2.2",
        "userevent: Y\r\nuniqueid: 2.2",
    ],
)
async def test_a_dialplans_event_that_poses_as_an_answer_is_an_event_like_any_other(more: str) -> None:
    """UserEvent(X,Name: ${CALLERID(name)}): commas in a caller's name make headers of what stands between them."""
    events: Events = []
    async with fake_ami() as fake, session(fake, events) as ami:
        said = f"UserEvent: X\r\nName: N\r\n{more}\r\nActionID: 7\r\n\r\n"
        fake.peers[0].raw(b"Event: UserEvent\r\nPrivilege: user,all\r\n" + ROW_1_1 + said.encode())
        fake.peers[0].send({"Event": "Hangup", "Uniqueid": "3.3"})
        await until(lambda: len(events) == 2, "both events")
        assert ami.alive
    assert [events[0][name] for name in ("Event", "UserEvent", "Uniqueid")] == ["UserEvent", "X", "1.1"]


async def test_who_waits_for_an_answer_is_told_when_the_connection_goes() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Status"] = SILENCE
        asked = asyncio.ensure_future(ami.action("Status", deadline_s=30))
        await until(lambda: fake.count("Status"), "the action")
        fake.peers[0].cut()
        with pytest.raises(ConnectionFailed):
            await asyncio.wait_for(asked, 5)
        assert not ami.alive
        with pytest.raises(ConnectionFailed):
            await ami.action("Ping")


async def test_a_shutdown_event_ends_the_connection() -> None:
    async with fake_ami() as fake, session(fake) as ami:
        fake.peers[0].send({"Event": "Shutdown", "Shutdown": "Cleanly"})
        assert "shutting down" in await asyncio.wait_for(ami.lost(), 5)


async def test_an_event_that_we_fail_to_take_in_ends_the_connection_so_that_nothing_is_missed() -> None:
    def fail(event: Mapping[str, str]) -> None:
        raise ValueError("a bug of ours")

    async with fake_ami() as fake:
        ami = await Session.open(address(fake), QUICK, fail)
        fake.peers[0].send({"Event": "Hangup"})
        assert await asyncio.wait_for(ami.lost(), 5) == "an event could not be taken in"


async def test_nothing_unanswered_is_sent_again_after_a_reconnect() -> None:
    async with fake_ami() as fake:
        fake.answers["MixMonitor"] = SILENCE
        async with line(fake) as connection:
            await until(lambda: connection.session, "a session")
            assert connection.session is not None
            asked = asyncio.ensure_future(
                connection.session.action("MixMonitor", {"Options": Ours("i(X)")}, deadline_s=30)
            )
            await until(lambda: fake.count("MixMonitor"), "the action")
            fake.peers[0].cut()
            with pytest.raises(ConnectionFailed):
                await asked
            await until(lambda: fake.count("Login") == 2 and connection.session, "a second session")
            assert connection.session is not None
            fake.peers[0].send({"Event": "FullyBooted", "Status": "Fully Booted"})
            await connection.session.action("Ping")
            assert fake.count("MixMonitor") == 1


@asynccontextmanager
async def line(fake: FakeAmi, secret: str = SECRET, tuning: Tuning = QUICK) -> AsyncIterator[Line]:
    made: Line

    async def serve(session: Session) -> None:
        made.ready()
        await session.lost()

    async def left() -> None:
        pass

    made = Line("test", address(fake, secret), WallClock(), tuning, serve=serve, left=left)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_change_of_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_ami() as fake:
        fake.answers["Login"] = error("Authentication failed")
        async with line(fake, tuning=PATIENT):  # a busy machine's silence is no loss
            await until(lambda: fake.count("Login") >= 4, "several refused logins")
            del fake.answers["Login"]
            await until(lambda: "ami.connected" in caplog.messages, "a connection", 30.0)
            fake.peers[0].cut()
            await until(lambda: caplog.messages.count("ami.connected") == 2, "a second connection", 30.0)
    ours = [record.message for record in caplog.records if record.name.startswith(("pbxguard", "panoramisk"))]
    # A machine that stands still for longer than a login may take makes a state of its own.
    assert [said for said in ours if said != "ami.unreachable"] == [
        "ami.refused", "ami.connected", "ami.lost", "ami.connected"
    ]  # fmt: skip
    assert all(said != before for before, said in pairwise(ours))


async def test_the_password_and_what_is_sent_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_ami() as fake, line(fake) as connection:
        await until(lambda: connection.session, "a session")
        assert connection.session is not None
        fake.peers[0].send({"Event": "Newchannel", "CallerIDNum": "0612345678"})
        await connection.session.action("Setvar", {"Variable": "X", "Value": "0612345678"})
        fake.answers["Setvar"] = SILENCE
        with pytest.raises(ConnectionFailed):
            await connection.session.action("Setvar", {"Variable": "X", "Value": "0612345678"})
        fake.peers[0].cut()
        await until(lambda: fake.count("Login") == 2, "a second login")
        said = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
        assert SECRET not in said + repr(address(fake))
        assert "0612345678" not in said


async def test_answers_that_lie_in_the_socket_after_a_freeze_are_read_before_the_deadline_counts() -> None:
    import time

    async with fake_ami() as fake, session(fake) as ami:
        fake.answers["Status"] = SILENCE
        asked = asyncio.ensure_future(ami.action("Status"))
        await until(lambda: fake.count("Status"), "the action")
        fake.peers[0].send({"Response": "Success", "ActionID": fake.asked[-1]["ActionID"]})
        time.sleep(QUICK.answer_s * 2)  # noqa: ASYNC251 - the freeze
        assert (await asked)[0]["Response"] == "Success"
