"""Owns: real PJSIP phones, many in one process, each saying a sound of its own and keeping what it hears.

pjsua2 allows one endpoint a process, so `Phones` is the set of all phones of a test run. SIP is pumped by an
asyncio task of the thread that entered it; audio runs in threads of the library's own, so a busy test delays
signalling but no sample. Nothing here knows pbxguard.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import pjsua2 as pj

from tests.lab.asterisk import LabError, Line
from tests.lab.signals import VOICES, Samples, Silence, Sound, Tone, file_of

PUMP_S = 0.003
DEADLINE_S = 15.0
MOST_CALLS = 30  # pjsua is compiled for 32
RTP_PORTS = (29000, 3700)  # first, how many: above Asterisk's, below those that the kernel hands out
SAYS = Tone(VOICES[0])
CODECS = {8000: ("PCMA/8000",), 16000: ("G722/16000", "PCMA/8000")}


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
    """All phones of this process: an async context manager. Leave it in the thread that entered it."""

    def __init__(self, rate: int = 8000, folder: Path | None = None) -> None:
        self.rate = rate
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pbxphones-", dir="/tmp"))
        self.phones: list[Phone] = []
        self.failures: list[BaseException] = []  # raised in a callback; re-raised by whoever waits
        self._pump: asyncio.Task[None] | None = None
        self._serial = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.legs: list[_Leg] = []  # kept to the end: a leg's destructor reaches for whatever call has its id

    async def __aenter__(self) -> Phones:
        self.endpoint = _Endpoint(self)
        with _quiet():  # it logs to the terminal until it has its configuration
            self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.maxCalls = MOST_CALLS
        config.uaConfig.userAgent = "lab-phone"
        config.logConfig.level = 4
        config.logConfig.consoleLevel = 0
        config.logConfig.filename = str(self.folder / "phones.log")
        media = config.medConfig
        media.clockRate = media.sndClockRate = self.rate
        media.channelCount = 1
        media.noVad = True
        media.ecTailLen = 0
        media.quality = 4
        # A fixed jitter buffer that drops and invents nothing: what is heard is what was sent, 60 ms later.
        media.jbInit = media.jbMinPre = media.jbMaxPre = 60
        media.jbMax = 600
        media.maxMediaPorts = 250
        self.endpoint.libInit(config)
        self.endpoint.audDevManager().setNullDev()
        self.endpoint.libStart()
        for codec in self.endpoint.codecEnum2():
            wanted = CODECS[self.rate]
            rank = next((n for n, name in enumerate(wanted) if codec.codecId.startswith(name)), None)
            self.endpoint.codecSetPriority(codec.codecId, 0 if rank is None else 200 - rank)
            if rank is not None:
                parameters = self.endpoint.codecGetParam(codec.codecId)
                parameters.setting.plc = False
                parameters.setting.vad = False
                self.endpoint.codecSetParam(codec.codecId, parameters)
        self.silence = self.player(Silence())  # keeps every recorder's timeline running
        self._pump = asyncio.create_task(self._pump_events(), name="phones")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.endpoint.hangupAllCalls()
            for phone in self.phones:
                for call in phone.calls:
                    await call.ended()
                await phone.unregister()
        finally:
            if self._pump is not None:
                self._pump.cancel()
                await asyncio.gather(self._pump, return_exceptions=True)
            for task in self.tasks:
                task.cancel()
            for phone in self.phones:
                phone.close()
            while self.legs:
                self.legs.pop().forget()
            del self.silence
            gc.collect()
            self.endpoint.libDestroy()
            if self._temporary and kind is None:
                shutil.rmtree(self.folder, ignore_errors=True)

    async def add(self, line: Line, *, sends: Sound = SAYS, on_incoming: Policy = Answer(), name: str = "") -> Phone:
        """A phone on the line, registered when the line registers."""
        phone = Phone(self, line, sends, on_incoming, name or line.name)
        self.phones.append(phone)
        await phone.register()
        return phone

    async def remove(self, phone: Phone) -> None:
        """Hangs up what the phone still has, takes it off its line and frees its port."""
        for call in phone.calls:
            await call.hangup()
        await phone.unregister()
        phone.close()
        self.phones.remove(phone)

    async def until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Polls until `true()`; LabError with `what` after the deadline."""
        end = time.monotonic() + deadline_s
        while not true():
            if self.failures:
                raise LabError(f"a phone failed: {self.failures[0]!r}") from self.failures[0]
            if time.monotonic() > end:
                raise LabError(f"not after {deadline_s} s: {what}")
            await asyncio.sleep(PUMP_S)

    def player(self, sound: Sound) -> Any:
        """The sound, looped, from its beginning once something is connected to it."""
        player = pj.AudioMediaPlayer()
        player.createPlayer(str(file_of(sound, self.rate, self.folder)))
        return player

    def new_path(self, label: str) -> Path:
        self._serial += 1
        return self.folder / f"{self._serial:04d}-{re.sub(r'[^A-Za-z0-9]+', '-', label)}.wav"

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """No exception may pass through the library; it is kept for whoever waits."""
        try:
            yield
        except BaseException as error:
            self.failures.append(error)

    def spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            with self.guarded():
                await work

        task = asyncio.get_running_loop().create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _pump_events(self) -> None:
        while True:
            self.endpoint.libHandleEvents(0)
            await asyncio.sleep(PUMP_S)


@dataclass
class Phone:
    """One phone on one line. `calls` has every call it had; `on_incoming` may be changed at any time."""

    phones: Phones
    line: Line
    sends: Sound
    on_incoming: Policy
    name: str
    calls: list[PhoneCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        transport = pj.TransportConfig()
        transport.boundAddress = transport.publicAddress = self.line.host
        transport.port = self.line.port
        self.transport = self.phones.endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        config = pj.AccountConfig()
        config.idUri = self._uri(self.line.name)
        config.sipConfig.transportId = self.transport
        config.mediaConfig.transportConfig.boundAddress = self.line.host
        config.mediaConfig.transportConfig.publicAddress = self.line.host
        config.mediaConfig.transportConfig.port, config.mediaConfig.transportConfig.portRange = RTP_PORTS
        config.natConfig.contactRewriteUse = 0
        config.natConfig.viaRewriteUse = 0
        config.natConfig.sdpNatRewriteUse = 0
        config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
        if self.line.registers:
            config.regConfig.registrarUri = f"sip:{self.line.server}"
            config.regConfig.registerOnAdd = False
            config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", self.line.name, 0, self.line.password))
        self.account = _Account(self)
        self.account.create(config)

    def uri(self, number: str) -> str:
        """The SIP URI of a number on the lab's Asterisk."""
        return f"sip:{number}@{self.line.server}"

    async def register(self) -> None:
        if self.line.registers:
            self.account.setRegistration(True)
            await self.phones.until(lambda: self._registered(), f"{self.name} registered")

    async def unregister(self) -> None:
        if self.line.registers and self._registered():
            self.account.setRegistration(False)
            await self.phones.until(lambda: not self._registered(), f"{self.name} unregistered")

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
        call = PhoneCall(self, sends or self.sends, outgoing=True, number=target)
        self.calls.append(call)
        parameters = pj.CallOpParam(True)
        if caller_id or caller_name:
            parameters.txOption.localUri = self._uri(caller_id or self.line.name, caller_name)
        _add_headers(parameters, headers or {})
        call.leg.makeCall(target if target.startswith("sip:") else self.uri(target), parameters)
        return call

    async def incoming(self, *, after: int = 0, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """The phone's call number `after` among those that came in, counted from 0; waits for it."""

        def received() -> list[PhoneCall]:
            return [call for call in self.calls if not call.outgoing]

        await self.phones.until(lambda: len(received()) > after, f"a call at {self.name}", deadline_s)
        return received()[after]

    def received(self, leg_id: int, whole_message: str) -> None:
        """The library's callback for an INVITE to this phone."""
        found = re.search(r"^From:.*?sip:([^@>;]*)", whole_message, re.MULTILINE | re.IGNORECASE)
        call = PhoneCall(self, self.sends, outgoing=False, number=found[1] if found else "", leg_id=leg_id)
        call.invite = whole_message
        self.calls.append(call)
        match self.on_incoming:
            case Answer(after_s):
                call._respond(180)
                self.phones.spawn(call._answer_after(after_s))
            case Ring():
                call._respond(180)
            case Reject(code):
                call._respond(code)
            case Forward(target):
                call._respond(302, {"Contact": f"<{target}>"})

    def close(self) -> None:
        self.account.shutdown()
        self.phones.endpoint.transportClose(self.transport)

    def _registered(self) -> bool:
        info = self.account.getInfo()
        return bool(info.regIsActive) and info.regStatus == 200

    def _uri(self, user: str, name: str = "") -> str:
        shown = f'"{name}" ' if name else ""
        return f"{shown}<sip:{user}@{self.line.host}:{self.line.port}>"


class PhoneCall:
    """One call at one phone. Times are `time.monotonic` seconds; `status` is the last SIP status."""

    def __init__(self, phone: Phone, sends: Sound, *, outgoing: bool, number: str, leg_id: int = -1) -> None:
        self.phone = phone
        self.outgoing = outgoing
        self.number = number  # dialled, or shown by the caller
        self.invite = ""  # an incoming call's INVITE as it came
        self.status = 0
        self.reason = ""
        self.digits = ""  # DTMF received
        self.rang_at: float | None = None
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.on_hold = False  # by us
        self.held = False  # by the other side
        self.transfer_status = 0  # of a REFER that we sent
        self._phones = phone.phones
        self._sound = sends
        self._began = 0.0
        self._active = False
        self._joined: set[PhoneCall] = set()
        self._player: Any = None
        self._recorders: dict[str, Any] = {}
        self._paths: dict[str, Path] = {}
        self.leg = _Leg(self, leg_id)

    # What the test waits for.

    async def ringing(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the other side rings (or has answered)."""
        await self._until(lambda: self.rang_at or self.answered_at, "ringing", deadline_s)
        return self

    async def answered(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the call is up and has sound."""
        await self._until(lambda: self.answered_at and self._active, "answered", deadline_s)
        return self

    async def ended(self, deadline_s: float = DEADLINE_S) -> PhoneCall:
        """Until the call is over; its status and reason are then final."""
        await self._phones.until(lambda: self.ended_at, f"end of {self!r}", deadline_s)
        return self

    async def talk(self, seconds: float) -> PhoneCall:
        """Lets the call go on for so long. For time to talk in, not for waiting for something."""
        await asyncio.sleep(seconds)
        return self

    # What the person at the phone does.

    async def answer(self) -> PhoneCall:
        self._respond(200)
        return await self.answered()

    async def reject(self, code: int = 486) -> PhoneCall:
        self._respond(code)
        return await self.ended()

    async def hangup(self) -> PhoneCall:
        """Ends the call, whatever state it is in; returns when it has ended."""
        if self.ended_at is None:
            try:
                self.leg.hangup(pj.CallOpParam())
            except pj.Error:
                if self.ended_at is None and self.leg.isActive():
                    raise
        return await self.ended()

    async def hold(self) -> PhoneCall:
        self.leg.setHold(pj.CallOpParam())
        await self._until(lambda: self.on_hold, "on hold")
        return self

    async def unhold(self) -> PhoneCall:
        parameters = pj.CallOpParam(True)
        parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
        self.leg.reinvite(parameters)
        await self._until(lambda: not self.on_hold and self._active, "off hold")
        return self

    def dtmf(self, digits: str) -> None:
        """Presses keys (RFC 4733)."""
        self.leg.dialDtmf(digits)

    async def refer(self, target: str) -> None:
        """Blind transfer by REFER to a number or URI; hangs up when told that it worked, as phones do."""
        uri = target if target.startswith("sip:") else self.phone.uri(target)
        self.leg.xfer(uri, pj.CallOpParam())
        await self._phones.until(lambda: self.transfer_status >= 200 or self.ended_at, f"transfer of {self!r}")

    async def refer_replaces(self, other: PhoneCall) -> None:
        """Attended transfer: joins the far ends of this call and of `other` (REFER with Replaces)."""
        self.leg.xferReplaces(other.leg, pj.CallOpParam())
        await self._phones.until(lambda: self.transfer_status >= 200 or self.ended_at, f"transfer of {self!r}")

    def join(self, other: PhoneCall) -> None:
        """A three-way inside the phone: both far ends hear each other through it, as well as its owner."""
        self._joined.add(other)
        other._joined.add(self)
        self._connect()

    # What was heard and said. Only when the call has ended.

    async def heard(self) -> Heard:
        """Everything that came in, from the first sound (early media too) to the end."""
        return await self._finished("heard")

    async def said(self) -> Heard:
        """Everything that went out, on the same timeline as `heard`."""
        return await self._finished("said")

    def __repr__(self) -> str:
        return f"{self.phone.name} {'to' if self.outgoing else 'from'} {self.number} ({self.status})"

    async def _finished(self, which: str) -> Heard:
        await self.ended()
        if which not in self._paths:
            raise LabError(f"{self!r} never had sound")
        path = self._paths[which]
        await self._phones.until(lambda: _complete(path), f"{path} written")
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
        return Heard(path, rate, samples, self._began)

    async def _until(self, true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
        await self._phones.until(lambda: true() or self.ended_at, f"{what}: {self!r}", deadline_s)
        if not true():
            raise LabError(f"ended instead of {what}: {self!r} {self.reason}")

    async def _answer_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.ended_at is None:
            self._respond(200)

    def _respond(self, code: int, headers: Mapping[str, str] | None = None) -> None:
        parameters = pj.CallOpParam(code < 300)
        parameters.statusCode = code
        _add_headers(parameters, headers or {})
        self.leg.answer(parameters)

    # The library's callbacks.

    def state_changed(self, state: int, status: int, reason: str) -> None:
        now = time.monotonic()
        self.status, self.reason = status or self.status, reason
        if state == pj.PJSIP_INV_STATE_EARLY and self.rang_at is None:
            self.rang_at = now
        elif state == pj.PJSIP_INV_STATE_CONFIRMED and self.answered_at is None:
            self.answered_at = now
        elif state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.ended_at = now
            self._active = False
            self._finish()

    def media_changed(self, status: int) -> None:
        self.on_hold = status == pj.PJSUA_CALL_MEDIA_LOCAL_HOLD
        self.held = status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD
        self._active = status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
        if not self._recorders and self._active:
            self._record()
        if self._recorders:
            self._connect()

    def transfer_progressed(self, status: int, final: bool) -> None:
        self.transfer_status = status
        if final and 200 <= status < 300 and self.ended_at is None and self.leg.isActive():
            self.leg.hangup(pj.CallOpParam())

    def _record(self) -> None:
        label = f"{self.phone.name}-{'to' if self.outgoing else 'from'}-{self.number}"
        base = self._phones.new_path(label)
        for which in ("heard", "said"):
            self._paths[which] = base.with_name(f"{base.stem}-{which}.wav")
            recorder = pj.AudioMediaRecorder()
            recorder.createRecorder(str(self._paths[which]))
            self._recorders[which] = recorder
        self._player = self._phones.player(self._sound)
        self._began = time.monotonic()
        for recorder in self._recorders.values():
            self._phones.silence.startTransmit(recorder)
        self._player.startTransmit(self._recorders["said"])

    def _connect(self) -> None:
        """Wires the call's sound as its state wants it; harmless when it is wired already."""
        sound = self._audio()
        if sound is None:
            return
        sound.startTransmit(self._recorders["heard"])
        if self._active:
            self._player.startTransmit(sound)
        for other in self._joined:
            far = other._audio() if other._recorders else None
            if far is not None and self._active and other._active:
                sound.startTransmit(far)
                far.startTransmit(sound)

    def _audio(self) -> Any:
        if self.ended_at is not None or not self.leg.isActive():
            return None
        try:
            return self.leg.getAudioMedia(-1)
        except pj.Error:
            return None  # on hold: no audio port

    def _finish(self) -> None:
        """Files are written to their end, and their headers, only when the recorders are destroyed."""
        recorders, self._recorders, self._player = self._recorders, {}, None
        for other in self._joined:
            other._joined.discard(self)
        for recorder in recorders.values():
            self._phones.silence.stopTransmit(recorder)
            recorder.this.own(True)
        recorders.clear()
        gc.collect()


class _Endpoint(pj.Endpoint):  # type: ignore[misc]
    """Gives each INVITE to the account whose port it came to."""

    def __init__(self, phones: Phones) -> None:
        super().__init__()
        self._phones = phones

    def onSelectAccount(self, prm: Any) -> None:
        with self._phones.guarded():
            found = re.match(r"\w+ sip:(?:[^@ ]*@)?([\d.]+):(\d+)", prm.rdata.wholeMsg)
            for phone in self._phones.phones:
                if found and (phone.line.host, phone.line.port) == (found[1], int(found[2])):
                    prm.accountIndex = phone.account.getId()


class _Account(pj.Account):  # type: ignore[misc]
    def __init__(self, phone: Phone) -> None:
        super().__init__()
        self._phone = phone

    def onIncomingCall(self, prm: Any) -> None:
        with self._phone.phones.guarded():
            self._phone.received(prm.callId, prm.rdata.wholeMsg)


class _Leg(pj.Call):  # type: ignore[misc]
    def __init__(self, call: PhoneCall, leg_id: int) -> None:
        super().__init__(call.phone.account, leg_id)
        self._call = call
        self._phones = call.phone.phones
        self._phones.legs.append(self)

    def forget(self) -> None:
        del self._call.leg, self._call

    def onCallState(self, prm: Any) -> None:
        with self._phones.guarded():
            info = self.getInfo()
            self._call.state_changed(info.state, info.lastStatusCode, info.lastReason)

    def onCallMediaState(self, prm: Any) -> None:
        with self._phones.guarded():
            info = self.getInfo()  # its `media` lives as long as it does
            for media in info.media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO:
                    self._call.media_changed(media.status)

    def onDtmfDigit(self, prm: Any) -> None:
        with self._phones.guarded():
            self._call.digits += prm.digit

    def onCallTransferStatus(self, prm: Any) -> None:
        with self._phones.guarded():
            self._call.transfer_progressed(prm.statusCode, prm.finalNotify)


@contextmanager
def _quiet() -> Iterator[None]:
    """Sends this process's standard output nowhere."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _add_headers(parameters: Any, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        header = pj.SipHeader()
        header.hName, header.hValue = name, value
        parameters.txOption.headers.append(header)


def _complete(path: Path) -> bool:
    """Whether the WAV header tells the file's true length."""
    size = path.stat().st_size if path.exists() else 0
    if size < 44:
        return False
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little") == size - 8
