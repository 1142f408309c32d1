"""Owns: calls replayed from the bytes of AMI through the wire, the translation and the whole core, with no network.

Each call is the stream `plain` that a real Asterisk sent (tests/wire/streams), its channels and bridge renamed; it is
told and recorded. What the service would answer (heard, started, closed) is answered at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pbxguard.core.callee import CalleePrompts
from pbxguard.core.commands import SealRecording, StartRecording, StopRecording
from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    DisclosureHeard,
    DisclosureRequested,
    Fact,
    SegmentClosed,
    SegmentStarted,
    SnapshotTaken,
    SpoolHasRoom,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.policy import PartyPatterns
from pbxguard.core.purposes import Mode
from pbxguard.core.supervisor import Supervisor
from pbxguard.pbx.ami.framing import END
from pbxguard.pbx.ami.translate import translate
from pbxguard.pbx.ami.wire import WireManager, WireProtocol
from tests.property.world import PROOF, disclosure_key, make_policy

STREAM = Path(__file__).parents[1] / "tests/wire/streams/plain.jsonl"
KEY = disclosure_key((PROOF,), Mode.NOTICE)
PARTIES = PartyPatterns(own=("PJSIP/1????-*",), external=("PJSIP/trunk-*",))
CHUNK = 64 * 1024
"""Octets handed on at a time, as a socket that is behind would."""
EVENTS_A_BEAT = 250
"""A beat comes 20 times a second, a busy node sends 5,000 events a second."""


class _Nowhere:
    """A transport that sends nothing."""

    def abort(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Template:
    """One call's messages in two parts: until both talk, and to the end."""

    def __init__(self) -> None:
        events = [json.loads(line) for line in STREAM.read_text().splitlines()]
        hangup = next(n for n, event in enumerate(events) if event["Event"] == "HangupRequest")
        self._up, self._down = self._text(events[:hangup]), self._text(events[hangup:])
        self.events = len(events)
        caller, agent = (e["Uniqueid"] for e in events if e["Event"] == "Newchannel")
        bridge = next(e["BridgeUniqueid"] for e in events if e["Event"] == "BridgeCreate")
        self._names = (caller, agent, bridge)

    @staticmethod
    def _text(events: Sequence[dict[str, str]]) -> str:
        return "".join(
            "".join(f"{name}: {value}\r\n" for name, value in event.items() if name != "received") + "\r\n"
            for event in events
        )

    def _of(self, text: str, number: int) -> bytes:
        caller, agent, bridge = self._names
        extension = f"1{number % 10_000:04d}"  # a device with two calls is not recorded
        renamed = (
            text.replace(agent, f"b{number}")
            .replace(caller, f"a{number}")
            .replace(bridge, f"bridge-{number}")
            .replace("PJSIP/100-00000001", f"PJSIP/{extension}-{2 * number + 1:08x}")
            .replace("PJSIP/trunk-a-00000000", f"PJSIP/trunk-a-{2 * number:08x}")
        )
        return renamed.encode()

    def begin(self, number: int) -> bytes:
        return self._of(self._up, number)

    def end(self, number: int) -> bytes:
        return self._of(self._down, number)


class Replay:
    """`feed` what came from the socket. Counts what came out."""

    def __init__(self) -> None:
        self.supervisor = Supervisor(replace(make_policy(), parties=PARTIES), "bench")
        self.prompts = CalleePrompts()
        self.events = self.facts = self.started = self.stopped = self.sealed = 0
        manager = WireManager(self._event, loop=asyncio.get_running_loop(), events="on")
        self._wire = WireProtocol(manager, lambda reason: None)
        self._wire.connection_made(_Nowhere())
        manager.protocol = self._wire
        for fact in (AuditHealthy(True), SpoolHasRoom(True), SnapshotTaken("boot")):
            self._take(fact)
        self.beat()

    def feed(self, data: bytes) -> None:
        self._wire.data_received(data)

    def told(self, number: int) -> None:
        """The caller's door: he is asked for, and hears it."""
        channel = Uniqueid(f"a{number}")
        self._take(DisclosureRequested(channel, (PROOF,), "nl"))
        self._take(DisclosureHeard(channel, KEY, f"digest of {KEY}", "2026-01-01T00:00:00Z"))

    def begin(self, number: int, data: bytes) -> None:
        """A caller comes (`Template.begin`), is told as soon as his channel is seen, and talks with his agent."""
        seen = data.index(END) + len(END)
        self.feed(data[:seen])
        self.told(number)
        self.feed(data[seen:])

    def beat(self) -> None:
        self._take(BeatReturned(time.monotonic()))

    def _event(self, event: Any) -> None:
        self.events += 1
        for fact in translate(event, time.monotonic()):
            self._take(fact)
        if self.events % EVENTS_A_BEAT == 0:
            self.beat()

    def _take(self, fact: Fact) -> None:
        self.facts += 1
        policy = self.supervisor.policy
        self.prompts.handle(fact, policy)
        for command in self.supervisor.handle(fact, time.monotonic()):
            match command:
                case StartRecording():
                    self.started += 1
                    self._take(SegmentStarted(command.segment))
                case StopRecording():
                    self.stopped += 1
                    self._take(SegmentClosed(command.segment))
                case SealRecording():
                    self.sealed += 1
                case _:
                    pass


def chunks(data: bytes) -> Iterator[bytes]:
    """As a socket gives them: cut anywhere."""
    for begin in range(0, len(data), CHUNK):
        yield data[begin : begin + CHUNK]
