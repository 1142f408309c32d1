"""A caller's number with line ends in it, byte for byte as a real Asterisk 22.10.1 sent it: nobody believes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pbxguard.core.facts import ChannelCreated, Fact
from pbxguard.pbx.ami.framing import PREFIXES, ROW, Verdict, judge
from pbxguard.pbx.ami.translate import translate
from pbxguard.pbx.ami.wire import WireManager, WireProtocol

STREAMS = Path(__file__).parent / "streams"
BLANK, LINE = b"\r\n\r\n", b"\r\n"
MOST = 79
"""Octets of a number, as Asterisk keeps it."""


def event(kind: str = "Newchannel", *, number: bytes = b"123", exten: bytes = b"100", more: bytes = b"") -> bytes:
    """As Asterisk writes it, with what a caller chose in its place."""
    assert len(number) <= MOST
    assert len(exten) <= MOST
    return LINE.join(
        [
            b"Event: " + kind.encode(),
            b"Privilege: call,all",
            b"Timestamp: 1795570335.614025",
            b"SystemName: lab",
            b"Channel: PJSIP/trunk-a-00000000",
            b"ChannelState: 4",
            b"ChannelStateDesc: Ring",
            b"CallerIDNum: " + number,
            b"CallerIDName: x",
            b"ConnectedLineNum: <unknown>",
            b"ConnectedLineName: <unknown>",
            b"Language: en",
            b"AccountCode: ",
            b"Context: from-trunk",
            b"Exten: " + exten,
            b"Priority: 1",
            b"Uniqueid: lab-1795570335.0",
            b"Linkedid: lab-1795570335.0",
            more + LINE,
        ]
    ).replace(LINE * 3, BLANK)


class _Transport(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass


async def facts(*pieces: bytes) -> list[Fact]:
    """What is made of them, as they come in."""
    found: list[Fact] = []
    protocol = WireProtocol(WireManager(lambda one: found.extend(translate(one, 1.0))), lambda _: None)
    protocol.connection_made(_Transport())
    for piece in pieces:
        protocol.data_received(piece)
    return found


CREATED = ChannelCreated
BEHIND = event("Hold")
FORGERIES = {
    "a header": b"123\r\nUniqueid: forged\r\nX: y",
    "a header in lower case": b"123\r\nuniqueid: forged",
    "the switch": b"1\r\n\r\nEvent: VarSet\r\nVariable: PBXGUARD\r\nValue: off\r\n\r\n",
    "a privileged switch": b"1\r\n\r\nEvent: VarSet\r\nPrivilege: x\r\nVariable: PBXGUARD\r\nValue: off\r\n\r\n",
    "another's end": b"1\r\n\r\nEvent: Hangup\r\nPrivilege: call,all\r\nUniqueid: 1795570336.1\r\n\r\n",
    "a recorder": b"1\r\n\r\nEvent: MixMonitorStop\r\nUniqueid: 1795570336.1\r\n\r\n",
    "line ends alone": LINE * 39,
    "half the row": b"\r\nCallerIDName: \r\nConnectedLineNum: \r\nConnectedLineName: \r\nLanguage: ",
    "a line feed": b"123\nUniqueid: forged\nLinkedid: forged",
}


@pytest.mark.parametrize("what", FORGERIES)
@pytest.mark.parametrize("place", ["number", "exten"])
async def test_what_a_caller_writes_behind_a_number_is_taken_out(what: str, place: str) -> None:
    hostile: dict[str, Any] = {place: FORGERIES[what]}
    found = await facts(event(**hostile) + BEHIND)
    created = found[0]
    assert isinstance(created, CREATED)
    assert (created.channel, created.linkedid) == ("lab-1795570335.0", "lab-1795570335.0")
    assert created.context == "from-trunk"
    assert created.caller_number in ("", "123")
    assert [type(fact).__name__ for fact in found] == ["ChannelCreated", "Held"]


async def test_the_end_of_the_row_forged_in_the_number_dialled_is_pushed_back_by_asterisks_own() -> None:
    forged = b"1\r\nPriority: 1\r\nUniqueid: 1795570336.1\r\nLinkedid: x"
    for tail in (b"", BLANK, BLANK + b"Event: Z"):
        alone = await facts(event(exten=forged + tail))
        assert [fact.channel for fact in alone] == ["lab-1795570335.0"]  # type: ignore[union-attr]
        found = await facts(event(exten=forged + tail) + BEHIND)
        assert [(type(fact).__name__, fact.channel) for fact in found] == [  # type: ignore[union-attr]
            ("ChannelCreated", "lab-1795570335.0"),
            ("Held", "lab-1795570335.0"),
        ]


async def test_a_user_event_that_says_a_hostile_number_forges_no_event() -> None:
    """UserEvent(X,Num: ${CALLERID(num)}), where the number stands behind the row."""
    switch = b"1\r\n\r\nEvent: VarSet\r\nVariable: PBXGUARD\r\nValue: off\r\n\r\n"
    found = await facts(event("UserEvent", more=b"UserEvent: X\r\nNum: " + switch) + BEHIND)
    assert [type(fact).__name__ for fact in found] == ["Held"]


async def test_a_hostile_entry_of_a_list_is_that_of_its_own_channel() -> None:
    block = event("CoreShowChannel", number=FORGERIES["a header"]).replace(b"Privilege: call,all", b"ActionID: 1")
    verdict, mended = judge(block.rstrip())
    assert verdict is Verdict.MENDED
    assert b"forged" not in mended


async def test_an_honest_event_is_read_as_it_is_in_whatever_pieces_it_comes() -> None:
    stream = event() + BEHIND
    whole = await facts(stream)
    assert len(whole) == 2
    for size in (1, 7, 100):
        assert await facts(*(stream[at : at + size] for at in range(0, len(stream), size))) == whole


@pytest.mark.parametrize("stream", sorted(STREAMS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_event_that_a_real_asterisk_sent_is_taken_for_its_own(stream: Path) -> None:
    for line in stream.read_text().splitlines():
        headers = json.loads(line)
        headers.pop("received")
        block = LINE.join(f"{name}: {value}".encode() for name, value in headers.items())
        assert judge(block) == (Verdict.OURS, block), headers["Event"]


def test_the_row_is_longer_than_what_a_caller_may_write() -> None:
    row = sum(len(name) + len(b": \r\n") for name in ROW) + len("1795570336.1") * 2
    assert row > 2 * MOST - len(b"CallerIDName: \r\n")
    assert set(PREFIXES) >= {b"Newchannel", b"BridgeEnter", b"UserEvent", b"Hangup", b"CoreShowChannel"}
