"""Owns: real PJSIP phones, each saying a sound of its own and keeping what it hears.

Each phone is a process (phone_worker.py) and here a mirror of what it told. Audio runs in threads of the library's,
so a busy test delays signalling but no sample. Nothing here knows pbxguard.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from tests.lab.asterisk import LabError, Line, free_ports
from tests.lab.signals import VOICES, Samples, Silence, Sound, Tone, file_of

POLL_S = 0.003
DEADLINE_S = 15.0
PORT_TRIES = 3
MOST_CALLS = 4  # at one phone at once; what the library is compiled for
RTP_PORTS = (29000, 3700)  # first, how many: above Asterisk's, below those that the kernel hands out
WORKER = Path(__file__).with_name("phone_worker.py")
SAYS = Tone(VOICES[0])


@dataclass(frozen=True)
class Answer:
    """Ring for `after_s` seconds, then answer."""

    after_s: float = 0.2


@dataclass(frozen=True)
class Ring:
    """Ring until told otherwise, by `PhoneCall.answer` or `PhoneCall.reject`."""


@dataclass(frozen=True)
class Reject:
    """Refuse at once: 486 busy, 603 decline, 480 unavailable."""

    code: int = 486


@dataclass(frozen=True)
class Forward:
    """Answer 302 with this target, a whole SIP URI."""

    target: str


Policy: TypeAlias = Answer | Ring | Reject | Forward


@dataclass(frozen=True)
class Heard:
    """A finished recording of one call at one phone: what came in, or what went out.

    Both files of a call begin at the same tick of the phone's sound clock; `began` is that instant on
    `time.monotonic`, to about 20 ms. Sample n was heard n / rate seconds later: silence is written while
    nothing comes in, so the timeline has no gap.
    """

    path: Path
    rate: int
    samples: Samples
    began: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


class Phones:
    """A set of phones: an async context manager that leaves no call and no process behind."""

    def __init__(self, rate: int = 8000, folder: Path | None = None) -> None:
        self.rate = rate
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pbxphones-", dir="/tmp"))
        self.phones: list[Phone] = []
        self._serial = 0

    async def __aenter__(self) -> Phones:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(phone.close() for phone in self.phones))
        if self._temporary and kind is None and os.environ.get("PBXGUARD_LAB_KEEP") != "1":
            shutil.rmtree(self.folder, ignore_errors=True)

    async def add(
        self,
        line: Line,
        *,
        sends: Sound = SAYS,
        on_incoming: Policy = Answer(),
        name: str = "",
        dtx: bool = False,
        codec: str = "",
    ) -> Phone:
        """A phone on the line, registered when the line registers. With `dtx` it sends no packets while it is silent.
        `codec` (``PCMU/8000``): the only one it has, instead of the usual.

        Of several on one trunk line, the first gets the calls that Asterisk sends there; all can place calls.
        """
        taken = any(phone.line.port == line.port for phone in self.phones)
        for tries in range(1, PORT_TRIES + 1):
            port = free_ports(1, line.host)[0] if line.registers or taken else line.port
            self._serial += 1
            phone = Phone(self, line, port, sends, on_incoming, name or f"{self._serial:03d}-{line.name}")
            phone.dtx, phone.codec = dtx, codec
            self.phones.append(phone)
            try:
                await phone.start()
                break
            except LabError:
                # Between our look and its bind somebody else took the port that was free.
                if tries == PORT_TRIES or port == line.port or "Address already in use" not in phone.failure:
                    raise
                await self.remove(phone)
        return phone

    async def remove(self, phone: Phone) -> None:
        """Hangs up what the phone still has, takes it off its line and ends it."""
        self.phones.remove(phone)
        await phone.close()

    async def until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Polls until `true()`; LabError with `what` after the deadline, or when a phone has failed."""
        end = time.monotonic() + deadline_s
        while not true():
            for phone in self.phones:
                if phone.failure and not phone.starting:  # whoever starts it sees to that
                    raise LabError(f"phone {phone.name} failed: {phone.failure}")
            if time.monotonic() > end:
                raise LabError(f"not after {deadline_s} s: {what}")
            await asyncio.sleep(POLL_S)


class Phone:
    """One phone on one line. `calls` has every call that it had, also those that came in."""

    def __init__(self, phones: Phones, line: Line, port: int, sends: Sound, on_incoming: Policy, name: str) -> None:
        self.phones, self.line, self.port, self.name = phones, line, port, name
        self.dtx, self.codec = False, ""
        self.sends = sends
        self.calls: list[PhoneCall] = []
        self.failure = ""
        self.starting = True
        self._on_incoming = on_incoming
        self._serial = 0
        self._registered = False
        self._ready = False
        self._answers: dict[int, dict[str, Any]] = {}
        self._by_key: dict[str, PhoneCall] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id of the phone, for SIGSTOP and the like."""
        if self._process is None:
            raise LabError(f"phone {self.name} is closed")
        return self._process.pid

    # What the person at the phone does.

    async def call(
        self,
        target: str,
        *,
        caller_id: str = "",
        caller_name: str = "",
        headers: Mapping[str, str] | None = None,
        sends: Sound | None = None,
    ) -> PhoneCall:
        """Dials a number or a whole SIP URI; returns as soon as the INVITE is out.

        `caller_id` is the user part of the From header, as a carrier shows it.
        """
        self._serial += 1
        call = PhoneCall(self, f"out-{self._serial}", outgoing=True, number=target)
        self._by_key[call.key] = call
        self.calls.append(call)
        try:
            await self.do(
                "call",
                key=call.key,
                target=self.uri(target),
                sound=self._file(sends or self.sends),
                caller=[caller_id or self.line.name, caller_name] if caller_id or caller_name else None,
                headers=dict(headers or {}),
            )
        except LabError:
            call.ended_at = time.monotonic()
            raise
        return call

    async def answers(self, policy: Policy) -> None:
        """What to do with calls that come in from now on."""
        self._on_incoming = policy
        await self.do("policy", policy=_policy(policy))

    async def incoming(self, *, after: int = 0, number: str = "", deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Call number `after` (from 0) among those that came in, or came in from `number`; waits for it."""

        def received() -> list[PhoneCall]:
            return [call for call in self.calls if not call.outgoing and number in ("", call.number)]

        await self.phones.until(lambda: len(received()) > after, f"a call {number} at {self.name}", deadline_s)
        return received()[after]

    def uri(self, number: str) -> str:
        """The SIP URI of a number on the lab's Asterisk; a whole URI stays as it is."""
        return number if number.startswith("sip:") else f"sip:{number}@{self.line.server}"

    # The process.

    async def start(self) -> None:
        folder = self.phones.folder
        python = os.environ.get("PBXGUARD_PHONES_PYTHON", sys.executable)
        with (folder / f"{self.name}.err").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                python,
                "-P",
                str(WORKER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=1 << 20,
                process_group=0,  # Ctrl-C at the terminal is for us, who then hang up
            )
        self._reading = asyncio.get_running_loop().create_task(self._read(), name=f"phone {self.name}")
        self._send(
            {
                "name": self.name,
                "folder": str(folder),
                "log": str(folder / f"{self.name}.log"),
                "rate": self.phones.rate,
                "host": self.line.host,
                "packet_ms": self.line.packet_ms,
                "port": self.port,
                "rtp": RTP_PORTS,
                "user": self.line.name,
                "password": self.line.password,
                "server": self.line.server,
                "silence": self._file(Silence()),
                "sound": self._file(self.sends),
                "on_incoming": _policy(self._on_incoming),
                "dtx": self.dtx,
                "codec": self.codec,
            }
        )
        await self.phones.until(lambda: self._ready or self.failure, f"phone {self.name} started")
        if self.failure:
            raise LabError(f"phone {self.name} failed: {self.failure}")
        self.starting = False
        if self.line.registers:
            await self.register()

    async def register(self) -> None:
        await self.do("register", on=True)
        await self.phones.until(lambda: self._registered, f"{self.name} registered")

    async def unregister(self) -> None:
        await self.do("register", on=False)
        await self.phones.until(lambda: not self._registered, f"{self.name} unregistered")

    async def close(self) -> None:
        """Hangs up, unregisters and ends the process; a dead one is left as it is."""
        if self._process is None:
            return
        try:
            if not self.failure:
                for call in self.calls:
                    await call.hangup()
                if self._registered:
                    await self.unregister()
        finally:
            process, self._process = self._process, None
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            if self._reading is not None:
                await self._reading

    async def do(self, what: str, **arguments: Any) -> None:
        """Has the process do one thing; LabError when it could not."""
        self._serial += 1
        mark = self._serial
        self._send({"id": mark, "do": what, "with": arguments})
        await self.phones.until(lambda: mark in self._answers, f"{what} at {self.name}")
        answer = self._answers.pop(mark)
        if "error" in answer:
            raise LabError(f"{self.name} cannot {what} {arguments}: {answer['error']}")

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            raise LabError(f"phone {self.name} is closed")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            match message:
                case {"id": mark}:
                    self._answers[mark] = message
                case {"call": key, "is": facts}:
                    call = self._by_key.get(key) or PhoneCall(self, key, outgoing=False, number="")
                    self._by_key[key] = call
                    call.update(facts)
                case {"incoming": key, "invite": invite}:
                    call = self._by_key[key]
                    call.invite = invite
                    found = re.search(r"^From:.*?sip:([^@>;\r]*)", invite, re.MULTILINE | re.IGNORECASE)
                    call.number = found[1] if found else ""
                    self.calls.append(call)
                case {"registered": registered}:
                    self._registered = registered
                case {"ready": _}:
                    self._ready = True
                case {"failure": why}:
                    self.failure = why
        if self._process is not None:  # it ended by itself
            code = await self._process.wait()
            errors = (self.phones.folder / f"{self.name}.err").read_text(errors="replace")
            self.failure = self.failure or f"process ended with {code}: {errors[-2000:]}"

    def _file(self, sound: Sound) -> str:
        return str(file_of(sound, self.phones.rate, self.phones.folder))


class PhoneCall:
    """One call at one phone. Times are `time.monotonic` seconds; `status` is the last SIP status."""

    def __init__(self, phone: Phone, key: str, *, outgoing: bool, number: str) -> None:
        self.phone = phone
        self.key = key
        self.outgoing = outgoing
        self.number = number  # dialled, or shown by the caller
        self.invite = ""  # an incoming call's INVITE as it came
        self.status = 0
        self.reason = ""
        self.digits = ""  # DTMF received
        self.rang_at: float | None = None
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.active = False  # there is sound both ways
        self.on_hold = False  # by us
        self.held = False  # by the other side
        self.transfer_status = 0  # of a REFER that we sent
        self.began = 0.0  # first sample of `heard` and `said`
        self.paths: dict[str, str] = {}

    # What the test waits for.

    async def ringing(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the other side rings (or has answered)."""
        return await self._until(lambda: self.rang_at or self.answered_at, "ringing", deadline_s)

    async def answered(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the call is up and has sound."""
        return await self._until(lambda: self.answered_at and self.active, "answered", deadline_s)

    async def ended(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the call is over; its status and reason are then final."""
        await self.phone.phones.until(lambda: self.ended_at, f"end of {self!r}", deadline_s)
        return self

    async def pressed(self, digits: str, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until these keys have come in from the other side."""
        return await self._until(lambda: digits in self.digits, f"keys {digits}", deadline_s)

    async def talk(self, seconds: float) -> PhoneCall:
        """Lets the call go on for so long. For time to talk in, not for waiting for something."""
        await asyncio.sleep(seconds)
        return self

    # What the person at the phone does.

    async def answer(self) -> PhoneCall:
        await self._do("respond", code=200)
        return await self.answered()

    async def progress(self) -> PhoneCall:
        """Has sound go both ways while it still rings (183)."""
        await self._do("respond", code=183)
        return self

    async def reject(self, code: int = 486) -> PhoneCall:
        await self._do("respond", code=code)
        return await self.ended()

    async def hangup(self) -> PhoneCall:
        """Ends the call, whatever state it is in; returns when it has ended."""
        if self.ended_at is None:
            try:
                await self._do("hangup")
            except LabError:
                if self.ended_at is None:
                    raise
        return await self.ended()

    async def hold(self) -> PhoneCall:
        await self._do("hold")
        return await self._until(lambda: self.on_hold, "on hold")

    async def unhold(self) -> PhoneCall:
        await self._do("unhold")
        return await self._until(lambda: not self.on_hold and self.active, "off hold")

    async def dtmf(self, digits: str) -> PhoneCall:
        """Presses keys (RFC 4733)."""
        await self._do("dtmf", digits=digits)
        return self

    async def refresh(self, codec: str = "", new_port: bool = False) -> PhoneCall:
        """Sends a re-INVITE; with another codec alone (``PCMU/8000``), or from another RTP port, where asked."""
        await self._do("refresh", codec=codec, new_port=new_port)
        return self

    async def say(self, sound: Sound) -> PhoneCall:
        """Says another sound from now on."""
        await self._do("say", sound=self.phone._file(sound))
        return self

    async def mute(self, on: bool = True) -> PhoneCall:
        """Packets go on, with silence in them."""
        await self._do("mute", on=on)
        return self

    async def refer(self, target: str) -> PhoneCall:
        """Blind transfer by REFER to a number or URI; hangs up when told that it worked, as phones do."""
        await self._do("refer", target=self.phone.uri(target))
        return await self._transferred()

    async def refer_replaces(self, other: PhoneCall) -> PhoneCall:
        """Attended transfer: joins the far ends of this call and of `other` (REFER with Replaces)."""
        await self._do("refer_replaces", other=other.key)
        return await self._transferred()

    async def join(self, other: PhoneCall) -> PhoneCall:
        """A three-way inside the phone: both far ends hear each other through it, as well as its owner."""
        await self._do("join", other=other.key)
        return self

    # What was heard and said. Waits for the end of the call.

    async def heard(self) -> Heard:
        """Everything that came in, from the first sound (early media too) to the end."""
        return await self._finished("heard")

    async def said(self) -> Heard:
        """Everything that went out, on the same timeline as `heard`."""
        return await self._finished("said")

    def update(self, facts: Mapping[str, Any]) -> None:
        """Takes over what the process told."""
        for name, value in facts.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"{self.phone.name} {'to' if self.outgoing else 'from'} {self.number} ({self.status} {self.reason})"

    async def _do(self, what: str, **arguments: Any) -> None:
        await self.phone.do(what, key=self.key, **arguments)

    async def _transferred(self) -> PhoneCall:
        await self.phone.phones.until(lambda: self.transfer_status >= 200 or self.ended_at, f"transfer of {self!r}")
        return self

    async def _finished(self, which: str) -> Heard:
        await self.ended()
        if which not in self.paths:
            raise LabError(f"{self!r} never had sound")
        path = Path(self.paths[which])
        await self.phone.phones.until(lambda: _complete(path), f"{path} written")
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
        return Heard(path, rate, samples, self.began)

    async def _until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> PhoneCall:
        await self.phone.phones.until(lambda: true() or self.ended_at, f"{what}: {self!r}", deadline_s)
        if not true():
            raise LabError(f"ended instead of {what}: {self!r}")
        return self


def _policy(policy: Policy) -> dict[str, Any]:
    match policy:
        case Answer(after_s):
            return {"do": "answer", "after_s": after_s}
        case Ring():
            return {"do": "ring"}
        case Reject(code):
            return {"do": "respond", "code": code}
        case Forward(target):
            return {"do": "respond", "code": 302, "headers": {"Contact": f"<{target}>"}}


def _complete(path: Path) -> bool:
    """Whether the WAV header tells the file's true length."""
    size = path.stat().st_size if path.exists() else 0
    if size < 44:
        return False
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little") == size - 8
