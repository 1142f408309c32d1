"""One AMI connection: `Session` lives as long as its socket, `Line` makes a new one whenever it is gone.

Owns deadlines, login, backoff and the one log line per change of state; knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pbxguard.core.errors import ActionRefused, ConnectionFailed

from . import values
from .needs import Clock
from .values import Ours
from .wire import OnEvent, WireAction, WireManager, WireProtocol

LOG = logging.getLogger("pbxguard.ami")

MEND_REACH = "Is Asterisk running, with enabled=yes in manager.conf at this bindaddr and port?"
MEND_LOGIN = "Compare the ami section with the account in manager.conf: name, secret, permit= of our address."
MEND_RIGHTS = (
    "Give the account write=system,call and read=system,call,dialplan,user,dtmf,agent in manager.conf, "
    "then `manager reload`."
)
MEND_SILENT = "Something answers at this address, but not as Asterisk's AMI does, or Asterisk is overloaded or frozen."


@dataclass(frozen=True, slots=True)
class Address:
    """Where AMI is, and who we are there. The secret is in no repr."""

    host: str
    port: int
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Every time-out and pace of the adapter, in seconds."""

    login_s: float = 5.0
    answer_s: float = 5.0
    first_backoff_s: float = 0.1
    most_backoff_s: float = 5.0
    settled_s: float = 2.0
    """A connection that lived so long was a good one: the next backoff begins anew."""
    beat_s: float = 0.05
    silence_s: float = 4.0
    """No sign of life for so long, while we asked for one: the connection is lost. Noticed a quarter later at most,
    within the ten seconds for which a hold seen last is trusted: so what was recorded goes on afterwards."""
    picture_s: float = 10.0
    """How long a beat may take to come back while a picture is taken: at the start of everything in a flood, longer."""
    compare_s: float = 5.0
    """How often the PBX's lists are held against what its events said: a lost event is noticed in twice that."""
    look_s: float = 1.0
    """How long we listen for another pbxguard's beat before we do anything."""
    alive_s: float = 1.0
    settle_s: float = 0.5
    """How often a start that nobody answered is looked after."""
    restless_s: float = 0.05
    """First pause after a snapshot that was disturbed; doubled up to `restless_most_s`."""
    restless_most_s: float = 1.0


class LoginRefused(ConnectionFailed):
    """Asterisk answered, and does not want us."""


class AmiRefused(ActionRefused):
    """Asterisk answered Error. `answer` is its own text: it may hold what we sent, so it is no part of the message."""

    def __init__(self, action: str, answer: str) -> None:
        super().__init__(f"AMI {action} refused")
        self.answer = answer

    def diagnostics(self) -> str:
        return MEND_RIGHTS if self.not_permitted else ""

    @property
    def not_permitted(self) -> bool:
        return "permission" in self.answer.lower()


class Session:
    """A connection that is logged in, until it is lost; then every call raises ConnectionFailed."""

    def __init__(self, on_event: OnEvent, address: Address, tuning: Tuning) -> None:
        self._tuning = tuning
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._manager = WireManager(
            on_event,
            loop=asyncio.get_running_loop(),
            events="off",
            username=values.header(Ours(address.username)),
            secret=values.header(Ours(address.secret)),
        )

    @classmethod
    async def open(cls, address: Address, tuning: Tuning, on_event: OnEvent = lambda _: None) -> Session:
        """Connect and log in, with events off. Raises ConnectionFailed, LoginRefused, UnsafeValue."""
        session = cls(on_event, address, tuning)
        loop = asyncio.get_running_loop()
        made: asyncio.Future[Any] = loop.create_future()
        try:
            async with asyncio.timeout(tuning.login_s):
                made.set_result(await loop.create_connection(session._protocol, address.host, address.port))
        except TimeoutError:
            raise ConnectionFailed("AMI", "no connection in time", MEND_REACH) from None
        except OSError as error:
            why = errno.errorcode.get(error.errno or 0, "no such host")
            raise ConnectionFailed("AMI", f"cannot connect ({why})", MEND_REACH) from None
        session._manager.connection_made(made)
        try:
            answer = (await session._answer("Login", session._manager.authenticated_future, tuning.login_s))[0]
        except ConnectionFailed as error:
            session.close()
            raise ConnectionFailed("AMI", f"no login ({error})", MEND_SILENT) from None
        except BaseException:
            session.close()
            raise
        if answer.get("Response") != "Success":
            session.close()
            raise LoginRefused("AMI", "login refused", MEND_LOGIN)
        return session

    def _protocol(self) -> WireProtocol:
        return WireProtocol(self._manager, self._ended)

    def _ended(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    @property
    def alive(self) -> bool:
        return not self._lost.done()

    async def lost(self) -> str:
        """Wait until it is lost; gives the reason."""
        return await asyncio.shield(self._lost)

    def end(self, reason: str) -> None:
        """Give it up."""
        self._manager.protocol.end(reason)

    def close(self) -> None:
        self.end("closed by us")

    def pause_reading(self) -> None:
        """Let Asterisk wait: nothing is read until `resume_reading`."""
        if self.alive:
            self._manager.protocol.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.alive:
            self._manager.protocol.transport.resume_reading()

    def send(self, name: str, headers: Mapping[str, str] | None = None) -> asyncio.Future[Any]:
        """Send without waiting; gives panoramisk's future. Raises UnsafeValue, ConnectionFailed."""
        checked = {key: values.header(value) for key, value in (headers or {}).items()}
        if not self.alive:
            raise ConnectionFailed("AMI", "not connected", MEND_REACH)
        action = WireAction({"Action": name, **checked})
        future: asyncio.Future[Any] = self._manager.send_action(action)
        return future

    async def action(
        self, name: str, headers: Mapping[str, str] | None = None, *, deadline_s: float | None = None
    ) -> list[Mapping[str, str]]:
        """The response, and behind it the entries of a list without its closing event.

        Raises UnsafeValue, ConnectionFailed (also when no answer came in time: then nobody knows whether it was
        done), AmiRefused.
        """
        future = self.send(name, headers)
        answer = await self._answer(name, future, deadline_s or self._tuning.answer_s)
        if answer[0].get("Response") not in ("Success", "Follows", "Goodbye"):
            raise AmiRefused(name, str(answer[0].get("Message", "")))
        return answer[:1] + answer[1:-1]

    async def _answer(self, name: str, future: asyncio.Future[Any], deadline_s: float) -> list[Mapping[str, str]]:
        try:
            await asyncio.wait({future}, timeout=deadline_s)
            if not future.done():
                # After a freeze of ours the deadline is over although the answer lies in the socket: read it first.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if not future.done():
                raise ConnectionFailed("AMI", f"no answer to {name} in {deadline_s:g} s", MEND_SILENT)
            found = future.result()
        finally:
            if not future.done():
                self._forget(future)
        return list(found) if isinstance(found, list) else [found]

    def _forget(self, future: asyncio.Future[Any]) -> None:
        """A late answer belongs to nobody."""
        responses = self._manager.protocol.responses
        for key in [key for key, action in responses.items() if action.future is future]:
            del responses[key]
        future.cancel()


Serve = Callable[[Session], Awaitable[None]]


class Line:
    """Keeps one session going: connects, serves, and connects again with growing, jittered pauses.

    `serve` is awaited with each new session and cancelled when that is lost; `left` is awaited after that, but not
    when the line itself is cancelled.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        clock: Clock,
        tuning: Tuning,
        *,
        serve: Serve,
        left: Callable[[], Awaitable[None]],
        on_event: OnEvent = lambda _: None,
    ) -> None:
        self._name = name
        self._address = address
        self._serve = serve
        self._left = left
        self._clock = clock
        self._tuning = tuning
        self._on_event = on_event
        self._state = ""
        self.session: Session | None = None
        self.trouble: ConnectionFailed | ActionRefused | None = None
        """Why there is no connection; None while there is one."""

    async def run(self) -> None:
        """For a TaskGroup; ends only when cancelled."""
        pause = self._tuning.first_backoff_s
        while True:
            began = self._clock.now()
            await self._once()
            if self._clock.now() - began > self._tuning.settled_s:
                pause = self._tuning.first_backoff_s
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 2, self._tuning.most_backoff_s)

    async def _once(self) -> None:
        try:
            session = await Session.open(self._address, self._tuning, self._on_event)
        except LoginRefused as error:
            self._say("refused", error)
            return
        except ConnectionFailed as error:
            self._say("unreachable", error)
            return
        self.session = session
        try:
            await self._until_lost(session)
        finally:
            self.session = None
            session.close()
        await self._left()

    async def _until_lost(self, session: Session) -> None:
        serving = asyncio.ensure_future(self._serve(session))
        lost = asyncio.ensure_future(session.lost())
        try:
            await asyncio.wait({serving, lost}, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                self._say("lost", ConnectionFailed("AMI", lost.result(), MEND_REACH))
            else:
                serving.result()
        except ActionRefused as error:
            self._say("refused", error)
        except ConnectionFailed as error:
            self._say("lost", error)
        finally:
            for task in (serving, lost):
                task.cancel()
            await asyncio.gather(serving, lost, return_exceptions=True)

    def ready(self) -> None:
        """To be called by who serves, once the connection is of use."""
        self._say("connected", None)

    def _say(self, state: str, trouble: ConnectionFailed | ActionRefused | None) -> None:
        """Once per change of state."""
        self.trouble = trouble
        if state == self._state:
            return
        self._state = state
        more = {"connection": self._name}
        if trouble is None:
            LOG.info("ami.connected", extra=more)
        else:
            LOG.warning(_EVENTS[state], extra={**more, "error": str(trouble), "mend": trouble.diagnostics()})


_EVENTS = {"refused": "ami.refused", "unreachable": "ami.unreachable", "lost": "ami.lost"}
