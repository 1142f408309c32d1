"""What peers send: AMI, ARI, FastAGI, and what a dialplan passes on of its callers."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pbxguard.core import numbers
from pbxguard.core.errors import PeerMisbehaved, UnsafeValue
from pbxguard.core.facts import Fact
from pbxguard.core.purposes import DisclosureKey
from pbxguard.core.request import INVALID, parse_request
from pbxguard.core.supervisor import Supervisor
from pbxguard.pbx.agi import protocol as agi
from pbxguard.pbx.ami import values
from pbxguard.pbx.ami.framing import PREFIXES
from pbxguard.pbx.ami.snapshot import picture
from pbxguard.pbx.ami.translate import translate
from pbxguard.pbx.ami.wire import LARGEST_MESSAGE, WireAction, WireManager, WireMessage, WireProtocol
from pbxguard.pbx.ari.announcer import Announcer, Visit
from pbxguard.pbx.ari.connection import AriAddress
from tests.property.world import make_policy

from .common import require, target, text_of

POLICY = make_policy()
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


class _Transport:
    """Takes what is written; nothing is at its other end."""

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass

    close = abort


def _ami(pieces: Sequence[bytes]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """What a connection with one unanswered action makes of them: (events, the answer, why it was lost)."""
    asyncio.set_event_loop(_LOOP)
    events: list[dict[str, Any]] = []
    lost: list[str] = []
    protocol = WireProtocol(WireManager(lambda event: events.append(dict(event.items())), loop=_LOOP), lost.append)
    protocol.connection_made(_Transport())
    action = WireAction({"Action": "CoreShowChannels", "ActionID": "1"})
    protocol.responses["1"] = action
    for piece in pieces:
        protocol.data_received(piece)
        require(len(protocol._buffer) <= LARGEST_MESSAGE, "the buffer is bounded")
    answer: list[dict[str, Any]] = []
    if action.future.done() and action.future.exception() is None:
        found = action.future.result()
        answer = [dict(one.items()) for one in (found if isinstance(found, list) else [found])]
    return events, answer, lost


@target
def ami_wire(data: bytes) -> None:
    """Framing and matching; the pieces in which the bytes arrive make no difference."""
    cut = data[0] if data else 0
    whole = _ami([data])
    pieces = [data[place : place + cut + 1] for place in range(0, len(data), cut + 1)]
    if not any(
        kind in data for kind in (*PREFIXES, b"VarSet")
    ):  # what a caller forges is told by what follows it, as far as that has come
        require(_ami(pieces) == whole, "the pieces make no difference")
    events, answer, _ = whole
    for event in events:
        require(all(isinstance(value, str) for value in event.values()), "an event's headers are texts")
        translate(event, 1.0)
    picture("boot", answer[1:], answer[1:])


@target
def ami_facts(data: bytes) -> None:
    """Events as Asterisk spells them, one after another, through translation and into the core."""
    supervisor = Supervisor(POLICY, "node")
    blocks = data.decode("utf-8", "replace").replace("\n", "\r\n").split("\r\n\r\n")
    messages = [WireMessage.from_line(block.strip()) for block in blocks]
    events = [dict(message.items()) for message in messages if message is not None and "Event" in message]
    moment = 1.0
    _feed(supervisor, [picture("boot", events, events)], moment)
    for event in events:
        moment += 0.01
        _feed(supervisor, translate(event, moment), moment)


def _feed(supervisor: Supervisor, facts: Sequence[Fact], moment: float) -> None:
    for fact in facts:
        for command in supervisor.handle(fact, moment):
            leg = getattr(command, "leg", None)
            if leg is not None:
                with suppress(UnsafeValue):  # refused whole: nothing of it is sent
                    sent = values.header(values.uniqueid(leg))
                    require(sent.isascii() and not set(sent) & set("\r\n,${}^ "), "no AMI value carries it unescaped")


@target
def ari_event(data: bytes) -> None:
    """WebSocket messages, one a line, through translation to the visits."""
    asyncio.set_event_loop(_LOOP)
    announcer = Announcer(AriAddress("http://127.0.0.1:1/ari", "user", "password"), _nobody)
    for line in data.split(b"\n"):
        announcer.connection._take(line.decode("utf-8", "replace"))
    require(len(announcer.connection._unknown) <= 100, "what is unknown is remembered up to a bound")
    for visit in announcer._visits.values():
        require(len(visit.id) < 64 and visit.id.isascii(), "a visit's id is ours")


async def _nobody(visit: Visit) -> None:
    raise NotImplementedError


@target
def agi_session(data: bytes) -> None:
    """The request's lines, and the same lines as replies."""
    lines = [line.rstrip("\r\n") for line in data.decode("utf-8", "replace").split("\n")]
    with suppress(PeerMisbehaved):
        request = agi.parse_request(lines[: agi.MOST_HEADERS])
        require(request.uniqueid, "a request is about a channel")
        parse_request(request.arguments)
    for line in lines:
        with suppress(PeerMisbehaved):
            code, more, rest = agi.parse_status(line)
            require(0 <= code <= 999, "a code has three digits")
            if not more:
                agi.parse_reply(code, rest)
        with suppress(UnsafeValue):
            sent = agi.set_variable("X", line)
            require("\n" not in sent and "\r" not in sent, "a command is one line")
        with suppress(UnsafeValue):
            require(" " not in agi.get_variable(line).removeprefix("GET VARIABLE "), "a name is one word")


_SAFE = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*#+_.@-")


@target
def door_request(data: bytes) -> None:
    """A dialplan's arguments; they may hold what a caller typed."""
    request = parse_request(text_of(data).split(","))
    for name in request.purposes:
        require(name == INVALID or _SAFE.issuperset(name), "a purpose is a plain name")
    require(request.language in ("", "??") or len(request.language) == 2, "a language has two letters")
    require(request.reference.isprintable() and len(request.reference) <= 64, "a reference is a short line")
    for text in (request.did, request.context, request.queue):
        require(_SAFE.issuperset(text), "a place is a plain name")


@target
def number(data: bytes) -> None:
    """A number as somebody shows it."""
    text = text_of(data)
    for country in ("NL", "DE", "US", "ZZ"):
        read = numbers.parse(text, country)
        require(set(read.digits) <= set("0123456789"), "digits are digits")
        require(len(read.digits) <= numbers.MAX_DIGITS, "and not too many")
        plus, rest = read.e164[:1], read.e164[1:]
        require(plus in ("", "+") and (not plus or (rest.isascii() and rest.isdigit())), "E.164 is plus and digits")
        if read.e164:
            require(numbers.parse(read.e164, country).e164 == read.e164, "E.164 reads as itself")
    hidden = numbers.mask(text)
    require(len(hidden) <= 12 and set(hidden) <= set("+0123456789*"), "a masked number is short and plain")
    require(not text or "*****" in hidden, "and masked")


@target
def ami_value(data: bytes) -> None:
    """Whatever we are asked to send to Asterisk is sent as one value or not at all."""
    text = text_of(data)
    for make in (values.header, values.variable, values.word, lambda given: values.uniqueid(given)):
        with suppress(UnsafeValue):
            sent = make(text)
            require(not any(ord(mark) < 32 or ord(mark) == 127 for mark in sent), "no control code")
            require(not set(sent) & set(",${}^"), "nothing that Asterisk expands")
    with suppress(ValueError):
        key = DisclosureKey.parse(text)
        require(DisclosureKey.parse(str(key)) == key, "a disclosure's name reads as itself")
