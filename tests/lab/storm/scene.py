"""Owns: one call of a storm while it is played, and its log of who was connected to whom, as its phones saw it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.lab.asterisk import LabError
from tests.lab.phone import Phone, PhoneCall
from tests.lab.storm.history import CUSTOMER, OWN, STRANGER, Leg, Play, State
from tests.lab.storm.office import Desk, Office

SETTLE_S = 0.25
"""How long a change may still take at the PBX once a phone knows it: a join after the answer, an end after the BYE."""
ANSWER_S = 20.0


@dataclass
class Scene:
    """A live call. `agent`: the leg of ours that is with the customer; `talk`: that they are connected."""

    office: Office
    desk: Desk
    play: Play
    customer: PhoneCall | None = None
    agent: PhoneCall | None = None
    talk: State | None = None
    keys: bool = False
    """Keys pressed in this call mean something: the connection came about by a Dial that says so."""
    _legs: dict[int, tuple[PhoneCall, str, str, str]] = field(default_factory=dict)

    # -- the log -----------------------------------------------------------------------------------------------------

    def note(self, what: str) -> float:
        """Something is done now."""
        now = time.monotonic()
        self.play.steps.append((now, what))
        return now

    def takes_part(self, call: PhoneCall, role: str) -> PhoneCall:
        """A phone's call is a leg of this one."""
        phone = call.phone
        voice = {CUSTOMER: "customer", STRANGER: "stranger", OWN: ""}[role] or self.desk.voice(phone)
        name = role if role != OWN else phone.line.name
        self._legs[id(call)] = (call, name, role, voice)
        return call

    def connected(self, agent: PhoneCall, asked: float | None = None) -> None:
        """One of ours has the customer, since he answered, or since this was asked for."""
        begin = (asked or agent.rang_at or agent.answered_at or time.monotonic(), time.monotonic())
        self.agent, self.talk = agent, State("talk", begin)
        self.play.talks.append(self.talk)

    def leaving(self) -> None:
        """What connects him with the customer is about to end: asked for now."""
        if self.talk is not None and self.talk.end[0] == float("inf"):
            self.talk.end = (time.monotonic(), float("inf"))

    def left(self) -> None:
        """It has ended."""
        if self.talk is not None:
            self.talk.end = (self.talk.end[0], time.monotonic() + SETTLE_S)

    @asynccontextmanager
    async def closed(self, kind: str) -> AsyncIterator[Closing]:
        """While this is so, nothing may be recorded. Whoever opens it again says `ends` before and `over` after."""
        state = State(kind, (self.note(f"{kind} begins"), float("inf")))
        self.play.closures.append(state)
        closing = Closing(self, state)
        yield closing
        closing.over()

    def closes(self, kind: str) -> Closing:
        """The same for what is not ended where it was begun."""
        state = State(kind, (self.note(f"{kind} begins"), float("inf")))
        self.play.closures.append(state)
        return Closing(self, state)

    # -- the people --------------------------------------------------------------------------------------------------

    async def customer_calls(self, did: str) -> PhoneCall:
        """He calls one of our numbers."""
        self.note(f"the customer calls {did}")
        call = await self.office.carrier.call(did, caller_id=self.play.number)
        self.customer = self.takes_part(call, CUSTOMER)
        return call

    async def rings(self, phone: Phone, number: str, since: int) -> PhoneCall:
        """The call that comes in at a phone from `number`, after the first `since` from there."""
        what = f"a call from {number} at {phone.name}"
        await self.office.phones.until(lambda: self.had(phone, number) > since, what, ANSWER_S)
        return self.calls_from(phone, number)[since]

    async def arrives(self, phone: Phone, number: str, since: int) -> PhoneCall:
        """The same, once it is answered."""
        call = await self.rings(phone, number, since)
        return await call.answered(ANSWER_S)

    @staticmethod
    def calls_from(phone: Phone, number: str) -> list[PhoneCall]:
        """Those that came in at a phone from a number so far."""
        return [call for call in phone.calls if not call.outgoing and _same(call.number, number)]

    @classmethod
    def had(cls, phone: Phone, number: str) -> int:
        """How many they are."""
        return len(cls.calls_from(phone, number))

    async def calls_stranger(self, agent: PhoneCall) -> tuple[PhoneCall, PhoneCall]:
        """The agent's phone calls a stranger outside: (its call, the stranger's)."""
        line = agent.phone.line.name
        before = self.had(self.office.third, line)
        self.note(f"{line} calls a stranger")
        own = self.takes_part(await agent.phone.call(f"9311088800{line}"), OWN)
        third = self.takes_part(await self.arrives(self.office.third, line, before), STRANGER)
        await own.answered(ANSWER_S)
        return own, third

    async def talks(self, seconds: float) -> None:
        """Lets the call go on."""
        await asyncio.sleep(seconds)

    async def parking_space(self, since: float) -> str:
        """Where the customer is parked; since this moment at the earliest."""
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            for event in reversed(self.office.ami.events):
                if (
                    event["Event"] == "ParkedCall"
                    and _same(event["ParkeeCallerIDNum"], self.play.number)
                    and float(event["received"]) > since
                ):
                    return event["ParkingSpace"]
            await asyncio.sleep(0.05)
        raise LabError(f"{self.play.number} is not parked")

    async def told_of(self, what: str, since: float, deadline_s: float = 8.0) -> None:
        """Until Asterisk has told of this request, made by a key after this moment, in this call."""

        def there() -> bool:
            legs = {self.play.number, *(call.phone.line.name for call, *_ in self._legs.values())}
            return any(
                event["Event"] == "UserEvent"
                and event.get("What") == what
                and float(event["received"]) > since
                and any(_same(event["CallerIDNum"], leg) for leg in legs)
                for event in list(self.office.ami.events)
            )

        await self.office.phones.until(there, f"{what} by key", deadline_s)

    # -- the end -----------------------------------------------------------------------------------------------------

    def ends_with_asterisk(self) -> None:
        """Asterisk is gone, and every connection with it."""
        self.note("Asterisk dies")
        self.play.trouble = "Asterisk died"
        self.leaving()

    async def end(self) -> None:
        """Hangs up all that is left, and writes down the legs."""
        self.leaving()
        for closing in self.play.closures:
            if closing.end[0] == float("inf"):
                closing.end = (time.monotonic(), float("inf"))
        for call, *_ in self._legs.values():
            if call.ended_at is None:
                with suppress(LabError):
                    await call.hangup()
        self.left()
        for call, name, role, voice in self._legs.values():
            files = {which: call.paths.get(which, "") for which in ("heard", "said")}
            for which in files:
                if files[which]:
                    with suppress(LabError):
                        await (call.heard() if which == "heard" else call.said())
            files["clock"] = call.paths.get("clock", "")
            self.play.legs.append(Leg(name, role, voice, call.began, call.answered_at, call.ended_at, **files))


def _same(one: str, two: str) -> bool:
    """Whether two spellings are one number: whom we called is shown as he was dialled."""
    return one.removeprefix("+31").lstrip("0") == two.removeprefix("+31").lstrip("0")


@dataclass
class Closing:
    """A closure that goes on."""

    scene: Scene
    state: State

    def sure(self) -> None:
        """It is so, beyond doubt."""
        self.state.begin = (self.state.begin[0], time.monotonic())

    def ends(self) -> None:
        """Its end is asked for now."""
        if self.state.end[0] == float("inf"):
            self.state.end = (time.monotonic(), float("inf"))

    def over(self) -> None:
        """It has ended."""
        self.ends()
        self.state.end = (self.state.end[0], time.monotonic() + SETTLE_S)
        self.scene.note(f"{self.state.kind} is over")
