"""Owns: a caller whose every byte a test chooses: SIP headers that no phone library would send, and RTP at any rate.

It knows as much SIP as a call needs: INVITE, ACK, BYE, INFO, and a 200 to whatever Asterisk asks. It says a sound and
keeps what it hears (A-law). Nothing here knows pbxguard.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from tests.lab.asterisk import LabError, Line
from tests.lab.phone import Heard
from tests.lab.signals import Chirp, Samples, Sound, Wav, alaw, from_alaw, write_wav

FRAME = 160
FRAME_S = 0.02
RATE = 8000
PCMA, EVENTS = 8, 101
KEYS = "0123456789*#ABCD"
_LOW, _HIGH = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0)
_PAD = ("123A", "456B", "789C", "*0#D")
DEADLINE_S = 15.0


def dual_tone(key: str, seconds: float, level: float = 0.3) -> Samples:
    """The two tones of a key (ITU-T Q.23)."""
    row = next(number for number, keys in enumerate(_PAD) if key in keys)
    column = _PAD[row].index(key)
    t = np.arange(round(seconds * RATE)) / RATE
    return level * (np.sin(2 * np.pi * _LOW[row] * t) + np.sin(2 * np.pi * _HIGH[column] * t)) / 2


class RawPhone:
    """An async context manager: one call from a carrier's line. `status` is the last SIP status of its INVITE."""

    def __init__(self, line: Line, folder: Path, *, says: Sound | None = None) -> None:
        self.line, self.folder = line, folder
        self.status = 0
        self.silent = False
        """No packet goes out as long as this is set, as from a phone that sends none while nobody speaks (DTX)."""
        self.ended = asyncio.Event()
        self.answered = asyncio.Event()
        self._final = asyncio.Event()
        self.began = 0.0
        self._says = says or Chirp()
        self._mark = secrets.token_hex(6)
        self._cseq = 1
        self._sip: asyncio.DatagramTransport | None = None
        self._rtp: asyncio.DatagramTransport | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dialog: list[bytes] = []
        self._target = ""
        self._invite = b""
        self._media: tuple[str, int] | None = None
        self._heard: list[tuple[float, bytes]] = []
        self._said: list[bytes] = []
        self._inband: list[bytes] = []
        self._sequence, self._stamp, self._source = 1, 1000, secrets.randbits(32)

    async def __aenter__(self) -> RawPhone:
        loop = asyncio.get_running_loop()
        here = (self.line.host, 0)
        self._sip, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._on_sip), local_addr=here)
        self._rtp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._on_rtp), local_addr=here)
        self.here = "{}:{}".format(*self._sip.get_extra_info("sockname"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.answered.is_set() and not self.ended.is_set():
            await self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in (self._sip, self._rtp):
            if transport is not None:
                transport.close()

    # What the caller does.

    async def call(
        self,
        number: str | bytes,
        *,
        sender: bytes = b"<sip:+31612345678@lab.invalid>",
        headers: Iterable[bytes] = (),
        deadline_s: float = DEADLINE_S,
    ) -> RawPhone:
        """Send the INVITE; returns with its final answer. `sender` is the From header's value without its tag."""
        dialled = number if isinstance(number, bytes) else number.encode()
        uri = b"sip:" + dialled + b"@" + self.line.server.encode()
        self._dialog = [
            b"From: " + sender + b";tag=" + self._mark.encode(),
            b"Call-ID: " + self._mark.encode() + b"@lab",
        ]
        self._to, self._target = b"To: <" + uri + b">", uri.decode("latin-1")
        self._invite = self._request(b"INVITE", uri, [*headers, b"Content-Type: application/sdp"], self._sdp())
        self._tasks.append(asyncio.create_task(self._resend()))
        async with asyncio.timeout(deadline_s):
            await self._final.wait()
        if self.status < 300:
            self.answered.set()
        return self

    async def hang_up(self) -> None:
        """BYE; the call is over for us."""
        self._send(self._request(b"BYE", self._target.encode("latin-1")))
        self.ended.set()

    async def ask_for_fax(self, deadline_s: float = DEADLINE_S) -> int:
        """A re-INVITE for T.38 alone, as a carrier sends it upon a fax tone; gives the final answer. Sound goes on."""
        assert self._sip is not None
        host, port = self._sip.get_extra_info("sockname")  # where nothing is to arrive
        sdp = (
            f"v=0\r\no=raw 1 2 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=image {port} udptl t38\r\n"
            "a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxRateManagement:transferredTCF\r\n"
            "a=T38FaxMaxDatagram:400\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
        )
        self.status = 0
        self._final.clear()
        target = self._target.encode("latin-1")
        self._invite = self._request(b"INVITE", target, [b"Content-Type: application/sdp"], sdp.encode())
        self._tasks.append(asyncio.create_task(self._resend()))
        async with asyncio.timeout(deadline_s):
            await self._final.wait()
        return self.status

    async def cancel(self) -> None:
        """Give up before the answer."""
        self._send(self._invite.replace(b"INVITE ", b"CANCEL ", 1).replace(b" INVITE", b" CANCEL", 1))

    async def talk(self, seconds: float) -> None:
        """Let the call go on for so long."""
        await asyncio.sleep(seconds)

    def press_inband(self, keys: str, *, on_s: float = 0.1, off_s: float = 0.1) -> float:
        """Mix dual tones into what is said next; gives how long they last."""
        parts = [np.concatenate([dual_tone(key, on_s), np.zeros(round(off_s * RATE))]) for key in keys]
        data = alaw(np.concatenate(parts))
        self._inband += [data[place : place + FRAME].ljust(FRAME, b"\xd5") for place in range(0, len(data), FRAME)]
        return len(data) / RATE

    def press_info(self, keys: str, *, ms: int = 100, body: str = "Signal={key}\r\nDuration={ms}\r\n") -> None:
        """One SIP INFO a key, all at once."""
        for key in keys:
            text = body.format(key=key, ms=ms).encode()
            self._send(
                self._request(b"INFO", self._target.encode("latin-1"), [b"Content-Type: application/dtmf-relay"], text)
            )

    async def press(
        self,
        keys: str,
        *,
        on_s: float = 0.1,
        off_s: float = 0.06,
        clock: int = RATE,
        ends: int = 3,
        every: float = 0.02,
    ) -> None:
        """RFC 4733 events; `clock` is the rate in which durations are counted, right is 8000."""
        for key in keys:
            stamp, duration = self._stamp, 0
            began = time.monotonic()
            while time.monotonic() - began < on_s:
                duration += round(every * clock)
                self._event(key, stamp, duration, end=False, mark=duration == round(every * clock))
                await asyncio.sleep(every)
            for _ in range(ends):
                self._event(key, stamp, duration, end=True)
            await asyncio.sleep(off_s)

    def flood(self, events: Sequence[tuple[str, int, int, bool]]) -> None:
        """(key, timestamp's distance, duration, end): raw events, all at once."""
        for key, distance, duration, end in events:
            self._event(key, self._stamp + distance, duration & 0xFFFF, end=end)

    # What it heard and said.

    def heard(self) -> Heard:
        """What came in, on a timeline that begins with the first packet sent; silence where nothing came."""
        return self._track("heard", self._placed())

    def said(self) -> Heard:
        """What went out, on the same timeline."""
        return self._track("said", from_alaw(b"".join(self._said)))

    def _placed(self) -> Samples:
        if not self._heard:
            return np.zeros(0)
        length = round((self._heard[-1][0] - self.began) * RATE) + FRAME
        track = np.zeros(length)
        place = 0
        for at, payload in self._heard:
            place = max(place, round((at - self.began) * RATE) - 2 * FRAME) if place == 0 else place
            samples = from_alaw(payload)[: max(0, length - place)]
            track[place : place + len(samples)] = samples
            place += len(samples)
        return track

    def _track(self, what: str, samples: Samples) -> Heard:
        path = self.folder / f"raw-{self._mark}-{what}.wav"
        write_wav(path, samples, RATE)
        return Heard(path, RATE, samples, self.began)

    # SIP.

    def _request(
        self, method: bytes, uri: bytes, headers: Sequence[bytes] = (), body: bytes = b"", branch: str = ""
    ) -> bytes:
        if method not in (b"ACK", b"CANCEL"):
            self._cseq += 1
        branch = branch or secrets.token_hex(8)
        lines = [
            method + b" " + uri + b" SIP/2.0",
            f"Via: SIP/2.0/UDP {self.here};branch=z9hG4bK{branch};rport".encode(),
            b"Max-Forwards: 70",
            *self._dialog,
            self._to,
            f"CSeq: {self._cseq} ".encode() + method,
            f"Contact: <sip:raw@{self.here}>".encode(),
            *headers,
            f"Content-Length: {len(body)}".encode(),
            b"",
            b"",
        ]
        return b"\r\n".join(lines) + body

    def _sdp(self) -> bytes:
        assert self._rtp is not None
        host, port = self._rtp.get_extra_info("sockname")
        return (
            f"v=0\r\no=raw 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {PCMA} {EVENTS}\r\na=rtpmap:{PCMA} PCMA/8000\r\n"
            f"a=rtpmap:{EVENTS} telephone-event/8000\r\na=fmtp:{EVENTS} 0-15\r\na=ptime:20\r\n"
        ).encode()

    def _send(self, data: bytes) -> None:
        assert self._sip is not None
        host, _, port = self.line.server.rpartition(":")
        self._sip.sendto(data, (host, int(port)))

    async def _resend(self) -> None:
        pause = 0.5
        while self.status == 0:
            self._send(self._invite)
            await asyncio.sleep(pause)
            pause *= 2

    def _on_sip(self, data: bytes, where: tuple[str, int]) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        first = head.split(b"\r\n", 1)[0]
        method = _header(head, b"CSeq").rpartition(b" ")[2]
        if not first.startswith(b"SIP/2.0 "):
            self._obey(first.split(b" ", 1)[0], head)
        elif method == b"INVITE":
            self._take_answer(int(first.split(b" ")[1]), head, body)

    def _obey(self, method: bytes, head: bytes) -> None:
        if method == b"ACK":
            return
        kept = [
            line
            for line in head.split(b"\r\n")
            if line.lower().startswith((b"via:", b"from:", b"to:", b"call-id:", b"cseq:"))
        ]
        self._send(b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""]))
        if method == b"BYE":
            self.ended.set()

    def _take_answer(self, status: int, head: bytes, body: bytes) -> None:
        found = re.search(rb"c=IN IP4 (\S+)[\s\S]*?m=audio (\d+)", body)
        if found and self._media is None:
            self._media = (found[1].decode(), int(found[2]))
            self._tasks.append(asyncio.create_task(self._speak()))
        if status >= 200:
            self._to = b"To: " + _header(head, b"To")
            contact = re.search(rb"<([^>]*)>", _header(head, b"Contact"))
            branch = ""
            if status < 300 and contact:
                self._target = contact[1].decode("latin-1")
            else:
                branch = _header(self._invite, b"Via").rpartition(b"z9hG4bK")[2].split(b";")[0].decode()
            self._send(self._request(b"ACK", self._target.encode("latin-1"), branch=branch))
        self.status = status
        if status >= 200:
            self._final.set()

    # RTP.

    async def _speak(self) -> None:
        """A packet every 20 ms, by the clock: a busy test sends what it owes at once."""
        sound = self._says
        if isinstance(sound, Wav):
            raise LabError("a raw phone says tones")
        data = alaw(sound.samples(RATE))
        self.began = time.monotonic()
        sent = 0
        while not self.ended.is_set():
            due = int((time.monotonic() - self.began) / FRAME_S) + 1
            while sent < due:
                place = sent * FRAME % len(data)
                payload = self._inband.pop(0) if self._inband else (data + data[:FRAME])[place : place + FRAME]
                self._said.append(bytes([0xD5]) * FRAME if self.silent else payload)
                if not self.silent:
                    self._packet(PCMA, self._stamp, payload)
                self._stamp += FRAME
                sent += 1
            await asyncio.sleep(0.005)

    def _event(self, key: str, stamp: int, duration: int, *, end: bool, mark: bool = False) -> None:
        payload = struct.pack("!BBH", KEYS.index(key), 10 | (0x80 if end else 0), duration & 0xFFFF)
        self._packet(EVENTS, stamp, payload, mark)

    def _packet(self, kind: int, stamp: int, payload: bytes, mark: bool = False) -> None:
        if self._media is None or self._rtp is None or self._rtp.is_closing():
            return
        head = struct.pack(
            "!BBHII", 0x80, kind | (0x80 if mark else 0), self._sequence & 0xFFFF, stamp & 0xFFFFFFFF, self._source
        )
        self._sequence += 1
        self._rtp.sendto(head + payload, self._media)

    def _on_rtp(self, data: bytes, where: tuple[str, int]) -> None:
        if len(data) > 12 and data[1] & 0x7F == PCMA:
            self._heard.append((time.monotonic(), data[12:]))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: object) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr)  # type: ignore[operator]


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^" + name + rb"\s*:\s*(.*?)\r?$", head)
    return found[1] if found else b""
