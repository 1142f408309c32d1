"""Owns: faults put in from outside: processes that stand still, packets that come late.

And the control that a cut needs: what was captured before it was cut. Knows the lab's Asterisk, nothing of pbxguard
but that its spool is a folder of raw files.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from tests.lab.ami import Ami
from tests.lab.asterisk import LabError
from tests.lab.checker import Track
from tests.lab.signals import Samples, Tone

SILENCE = b"\xfe"
"""A sample of next to nothing in mu-law: digital silence would be what nobody sent, to whoever looks."""
WATCHER = Path(__file__).with_name("spool_watcher.py")


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """These processes are stopped (SIGSTOP) meanwhile, as by a stalled machine or network."""
    stopped = []
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


async def until_it_stands(pid: int, deadline_s: float = 10.0) -> None:
    """Until a process that stops itself has done so. LabError when it does not."""
    end = time.monotonic() + deadline_s
    while _state(pid) != "T":
        if time.monotonic() > end:
            raise LabError(f"{pid} does not stand still after {deadline_s} s")
        await asyncio.sleep(0.005)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class RtpSender:
    """Sends a tone (mu-law) to one of Asterisk's RTP ports, in place of a phone that sends nothing. A context manager.

    Like one behind a bad network it may begin with what it had to say for `late_s` seconds, all at once; and again and
    again stall for `series_s` seconds, and send what was due meanwhile at once.
    """

    PACKET_S, SAMPLES = 0.02, 160
    STEP, FIRST = 20_000, 40_000
    """While a recorder runs, Asterisk takes packets whose numbers are less than half a turn (2**15) behind those of
    whom the sender replaces for old ones, and neither the recorder nor the recorded party hears them. The lab's phones
    begin anywhere below 2**15: some packets with the lower numbers first, and the higher ones are ahead of all."""
    STEPS, STEP_S = 8, 0.01
    """How many, so far apart, and silent: Asterisk drops what comes from a sender whom it does not know until it had
    four packets in a row and 22 ms of him (strictrtp, res_rtp_asterisk.c)."""

    def __init__(
        self, port: int, tone: Tone, late_s: float = 0.0, spacing_s: float = 0.0005, series_s: float = 0.0
    ) -> None:
        """`spacing_s`: between the packets that are late."""
        self._to = ("127.0.0.1", port)
        self._sound = mu_law(tone.samples(8000))
        self._late_s, self._spacing_s, self._series_s = late_s, spacing_s, series_s
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtp sender", daemon=True)
        self.spoke_at = float("inf")
        """When the first packet with a voice in it went, by `time.monotonic`."""

    def __enter__(self) -> RtpSender:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        with suppress(OSError):  # a voice has no jitter of its own on a busy machine; without the right to it, it has
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # this thread alone
        for number in range(self.STEPS):
            self._send(self.STEP + number, number, SILENCE * self.SAMPLES)
            time.sleep(self.STEP_S)
        self.spoke_at = time.monotonic()
        due = self.spoke_at - self._late_s
        packet = 0
        while not self._end.is_set():
            wait = self._leaves(due) - time.monotonic()
            time.sleep(wait if wait > 0 else self._spacing_s)
            start = packet * self.SAMPLES % len(self._sound)
            self._send(self.FIRST + packet, self.STEPS + packet, self._sound[start : start + self.SAMPLES])
            packet += 1
            due += self.PACKET_S

    def _leaves(self, due: float) -> float:
        """When a packet that is due then goes: where they stall in series, with the last of its stall."""
        if not self._series_s:
            return due
        stalls = math.ceil((due - self.spoke_at) / self._series_s)
        return max(due, self.spoke_at + stalls * self._series_s)

    def _send(self, number: int, place: int, sound: bytes, payload_type: int = 0) -> None:
        """`place`: on the sender's timeline, in packets."""
        header = struct.pack("!BBHII", 0x80, payload_type, number & 0xFFFF, place * self.SAMPLES, 0x1AB)
        self._socket.sendto(header + sound, self._to)


class ComfortNoise(RtpSender):
    """Sends nothing but comfort noise (RFC 3389), in place of a phone that does so while its owner is silent."""

    TYPE, LEVEL = 13, b"\x32"

    def __init__(self, port: int) -> None:
        super().__init__(port, Tone(0.0))

    def _run(self) -> None:
        packet = 0
        while not self._end.wait(self.PACKET_S):
            self._send(self.FIRST + packet, packet, self.LEVEL, self.TYPE)
            packet += 1


def mu_law(samples: Samples) -> bytes:
    """G.711 mu-law (ITU-T G.711)."""
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="RAW", subtype="ULAW")
    return out.getvalue()


PROMPT_S, PROMPT_DEADLINE_S = 0.05, 10.0


def beats(ami: Ami) -> list[tuple[float, float]]:
    """When each of pbxguard's beats was sent, and came to this connection, by `time.monotonic`; the newest last."""
    found = []
    for event in ami.events[-1000:]:
        if event["Event"] == "VarSet" and event.get("Variable") == "PBXGUARD_BEAT" and event["Uniqueid"] == "none":
            found.append((int(event["Value"].rpartition(".")[2]) / 1e6, float(event["received"])))
    return found


async def quiet_moment(ami: Ami) -> None:
    """Until a beat came back at once: nobody is behind with anything. On a machine that is never quiet, goes on."""
    end = time.monotonic() + PROMPT_DEADLINE_S
    while time.monotonic() < end:
        sent, received = (beats(ami) or [(0.0, 0.0)])[-1]
        if received - sent < PROMPT_S and time.monotonic() - received < PROMPT_S:
            return
        await asyncio.sleep(PROMPT_S / 5)


async def last_proven(ami: Ami) -> float:
    """Of a service that stands still: the beat before the last that came back, since it may not have read that one."""
    await ami.action("Ping")  # what Asterisk had to say before has been read
    return beats(ami)[-2][0]


async def rtp_port(ami: Ami, channel: str) -> int:
    """The UDP port on which Asterisk takes the audio of a channel."""
    end = time.monotonic() + 10
    while not (there := await _source(ami, channel)):
        if time.monotonic() > end:
            raise LabError(f"{channel} has no RTP port")
        await asyncio.sleep(0.02)
    return int(there.rpartition(":")[2])


async def until_taken(ami: Ami, channel: str, packets: int, deadline_s: float = 10.0) -> None:
    """Until Asterisk has taken so many more packets from a channel's phone, or from whoever sends in its place."""
    end = time.monotonic() + deadline_s
    wanted = await _taken(ami, channel) + packets
    while await _taken(ami, channel) < wanted:
        if time.monotonic() > end:
            raise LabError(f"{channel} is not heard")
        await asyncio.sleep(0.02)


async def _taken(ami: Ami, channel: str) -> int:
    return int((await ami.action("Getvar", Channel=channel, Variable="CHANNEL(rtcp,rxcount)")).get("Value") or 0)


async def _source(ami: Ami, channel: str) -> str:
    return (await ami.action("Getvar", Channel=channel, Variable="CHANNEL(rtp,src)")).get("Value", "")


class SpoolWatch:
    """Keeps all that recorders write into a folder, while it is open: what is cut away later is still here.

    A program of its own looks (spool_watcher.py), so a busy test delays it not. Use as a context manager.
    """

    def __init__(self, folder: Path, rate: int = 8000) -> None:
        self.folder, self.rate = folder, rate

    def __enter__(self) -> SpoolWatch:
        self._copies = Path(tempfile.mkdtemp(prefix="pbxspool-", dir="/tmp"))
        self._watcher = subprocess.Popen(
            [sys.executable, "-P", str(WATCHER), str(self.folder), str(self._copies)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._watcher.stdout is not None
        if self._watcher.stdout.readline() != b"ready\n":
            raise LabError("the spool cannot be watched")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.communicate()
        shutil.rmtree(self._copies, ignore_errors=True)

    @property
    def segments(self) -> list[str]:
        """Names of the segments seen, in order."""
        return sorted({path.name.split(".")[0] for path in self._copies.iterdir()})

    def uncut(self, segment: str) -> tuple[Track, Track]:
        """(own, others) as they were at their longest."""
        found = []
        for which in ("own", "others"):
            (copy,) = self._copies.glob(f"{segment}.{which}.*")
            found.append(Track(np.frombuffer(copy.read_bytes(), "<i2") / 32768.0, self.rate))
        return found[0], found[1]
