"""panoramisk, mended: one connection's framing, parsing and matching of answers to actions.

panoramisk 1.4 is made for programs that may die with their connection. Here it is held to this:
- it never reconnects and never replays (`WireManager.connection_lost` only tells us);
- when the connection ends, whoever waits for an answer is told (it leaves its futures waiting);
- a message has a bound, and bytes are decoded when a message is whole (it decodes chunks);
- "successfully queued" without ``Async`` raises no KeyError in `data_received`; an odd answer costs an answer at most;
- of a header that comes twice, in whatever case, an event keeps the first: later ones can come from a dialplan;
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

from pbxguard.core.errors import ConnectionFailed

LARGEST_MESSAGE = 1 << 20
"""Octets. Asterisk's largest (a channel with all its variables) stays far below."""

END = b"\r\n\r\n"
LOG = logging.getLogger("pbxguard.ami")
QUIET = logging.Logger("pbxguard.ami.panoramisk", logging.CRITICAL + 1)

OnEvent = Callable[[Any], None]


def _one(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


class WireMessage(Message):  # type: ignore[misc]
    """A response or an event. An event's headers are single strings; answers to actions may hold lists.

    A UserEvent answers nothing, whatever it holds: commas in a text that a dialplan puts into one (a caller's name)
    make headers of what stands between them, an ActionID too.
    """

    def __init__(self, headers: dict[str, Any], content: str = "") -> None:
        of_dialplan = _one(headers.get("Event", "")) == "UserEvent"
        if of_dialplan or "ActionID" not in headers:
            first: dict[str, tuple[str, str]] = {}
            for name, value in headers.items():
                first.setdefault(name.lower(), (name, _one(value)))
            if of_dialplan:
                for name in ("actionid", "commandid", "response"):
                    first.pop(name, None)
            headers = dict(first.values())
        super().__init__(headers, content)


class WireAction(Action):  # type: ignore[misc]
    """An action that knows when its answer is whole: a list is announced by its first response, by nothing else."""

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
            self._take(bytes(buffer[begin:end]))
            begin = look = end + len(END)
        del buffer[:begin]
        if len(buffer) > LARGEST_MESSAGE:
            self.end("a message without end")

    def _take(self, block: bytes) -> None:
        message = WireMessage.from_line(block.decode("utf-8", "replace").strip())
        if message is None:
            return
        try:
            self.handle_message(message)
        except Exception as error:
            # An event that we cannot take in is a change that we did not see: begin anew with a snapshot.
            LOG.error("ami.unreadable", extra={"error": type(error).__name__})
            if "event" in message:
                self.end("an event could not be taken in")

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
