"""panoramisk, mended: one connection's framing, parsing and matching of answers to actions.

panoramisk 1.4 is made for programs that may die with their connection. Here it is held to this:
- it never reconnects and never replays (`WireManager.connection_lost` only tells us);
- when the connection ends, whoever waits for an answer is told (it leaves its futures waiting);
- what a caller put into the stream by his number is taken out (`framing.py`);
- a message and an answer have a bound, and bytes are decoded when a message is whole (it decodes chunks);
- "successfully queued" without ``Async`` raises no KeyError in `data_received`; an odd answer costs an answer at most;
- of a header that comes twice, in whatever case, an event or an entry of a list keeps the first: later ones can come
  from a dialplan;
- nothing is logged: its log lines hold numbers, and the password.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.manager import Manager
from panoramisk.message import Message

from pbxguard.core.errors import ConnectionFailed, PeerMisbehaved

from .framing import BEGINNING, END, Verdict, goes_on, judge

LARGEST_MESSAGE = 1 << 20
"""Octets. Asterisk's largest (a channel with all its variables) stays far below."""
MOST_MENDED = 1 << 16
"""Octets of an event whose end is looked for behind an empty line; then it is none."""
LARGEST_ANSWER = 32 << 20
"""Octets of a whole list; of 10,000 channels it has about 7 million."""

VARIABLES = "Variable"
"""The one header that an entry of a list has for each of many things."""

LOG = logging.getLogger("pbxguard.ami")
QUIET = logging.Logger("pbxguard.ami.panoramisk", logging.CRITICAL + 1)

OnEvent = Callable[[Any], None]


def _one(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


class WireMessage(Message):  # type: ignore[misc]
    """A response or an event. An event's headers are single strings; a response may hold lists, and so may the
    variables of a channel in a list (`Status`), each of which has a header of that name.

    A UserEvent answers nothing, whatever it holds: commas in a text that a dialplan puts into one (a caller's name)
    make headers of what stands between them, an ActionID too.
    """

    octets = 0
    """How long it was on the wire."""

    def __init__(self, headers: dict[str, Any], content: str = "") -> None:
        of_dialplan = _one(headers.get("Event", "")) == "UserEvent"
        if "Event" in headers or "ActionID" not in headers:
            first: dict[str, tuple[str, str]] = {}
            listed = VARIABLES if "ActionID" in headers and not of_dialplan else ""
            for name, value in headers.items():
                first.setdefault(name.lower(), (name, value if name == listed else _one(value)))
            if of_dialplan:
                for name in ("actionid", "commandid", "response"):
                    first.pop(name, None)
            headers = dict(first.values())
        super().__init__(headers, content)


class AnswerTooLong(PeerMisbehaved):
    """A list does not end."""


class WireAction(Action):  # type: ignore[misc]
    """An action that knows when its answer is whole: a list is announced by its first response, by nothing else."""

    octets = 0

    def add_message(self, message: WireMessage) -> bool:
        """Whether the answer is whole with this. Raises AnswerTooLong."""
        self.octets += message.octets
        if self.octets > LARGEST_ANSWER:
            raise AnswerTooLong("an answer without end")
        return bool(super().add_message(message))

    @property
    def multi(self) -> bool:
        first = self.responses[0]
        return str(first.eventlist).lower() == "start" and first.response == "Success"


class WireProtocol(AMIProtocol):  # type: ignore[misc]
    """The bytes of one connection. `on_lost` is called once, with the reason."""

    def __init__(self, manager: WireManager, on_lost: Callable[[str], None]) -> None:
        self._manager = manager
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._complained: set[str] = set()
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.factory = self._manager
        self.log = QUIET

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        buffer = self._buffer
        look = max(0, len(buffer) - len(END) + 1)
        buffer += data
        begin = 0
        while not self.closed and (end := buffer.find(END, look)) >= 0:
            verdict, block = judge(bytes(buffer[begin:end]).lstrip(b"\r\n"))
            behind = bytes(buffer[end + len(END) : end + len(END) + BEGINNING])
            if end - begin < MOST_MENDED and (verdict is Verdict.MORE or goes_on(block, behind)):
                look = end + 2
                continue
            if verdict is not Verdict.OURS and self._first("forged"):
                LOG.error("ami.forged")
            if verdict in (Verdict.OURS, Verdict.MENDED):
                self._take(block)
            begin = look = end + len(END)
        del buffer[:begin]
        if len(buffer) > LARGEST_MESSAGE:
            self.end("a message without end")

    def _take(self, block: bytes) -> None:
        text = block.decode("utf-8", "replace").strip()
        if not text:
            return
        message = WireMessage.from_line(text)
        if message is None:
            # Neither event nor answer. It was one: what it said is not known, so begin anew with a snapshot.
            self.end("something that is no message")
            return
        message.octets = len(block)
        try:
            self.handle_message(message)
        except AnswerTooLong as error:
            self.end(str(error))
        except Exception as error:
            # An event that we cannot take in is a change that we did not see: begin anew with a snapshot.
            if self._first("unreadable"):
                LOG.error("ami.unreadable", extra={"error": type(error).__name__})
            if "event" in message:
                self.end("an event could not be taken in")

    def _first(self, fault: str) -> bool:
        """Told once for each connection: a peer must not fill the log."""
        first = fault not in self._complained
        self._complained.add(fault)
        return first

    def connection_lost(self, exc: object) -> None:
        self.end("Asterisk is shutting down" if isinstance(exc, Message) else "closed by the other side")

    def close(self) -> None:
        self.end("closed by us")

    def end(self, reason: str) -> None:
        """Close at once; those who wait for an answer get ConnectionFailed. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        self._buffer.clear()
        self.transport.abort()
        for action in self.responses.values():
            if not action.future.done():
                action.future.set_exception(ConnectionFailed("AMI", reason))
                action.future.exception()  # nobody may be waiting; that is no fault
        self.responses.clear()
        self._on_lost(reason)


class WireManager(Manager):  # type: ignore[misc]
    """One connection's manager; it is thrown away with it."""

    def __init__(self, on_event: OnEvent, **config: Any) -> None:
        super().__init__(log=QUIET, **config)
        self._on_event = on_event

    def dispatch(self, event: Any) -> list[str]:
        """Straight on, in order: panoramisk would start a task for each."""
        self._on_event(event)
        return []

    def login(self, future: Any) -> bool:
        return False  # the session looks at the answer itself

    def ping(self) -> None:
        """Never: panoramisk checks no answer. The beat, and the session's own pings, are checked."""

    def connection_lost(self, exc: object) -> None:
        """Never reconnects: what it had sent would be sent again."""
