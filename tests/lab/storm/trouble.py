"""Owns: the faults of a storm, put in from outside: pbxguard killed, frozen, slow; floods; phones that stall."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import suppress

from tests.lab.ami import connect
from tests.lab.asterisk import LabError, Ports
from tests.lab.faults import standing_still
from tests.lab.loss import losing
from tests.lab.storm.history import Fault, History
from tests.lab.storm.office import Office

BEFORE_S = {"asterisk": 3.5}
"""How long before a fault what is there may be lost by it (1 s otherwise): a dead guard's watermark is written four
times a second; a dead Asterisk had up to 32 KiB of a track not written yet."""
SETTLE_S = 1.5
"""After a fault: until everything that may be recorded is recorded again."""
WATCHDOG_S = 5.0
KEPT = 20_000
"""Events that are remembered, for who looks for one that has come."""
BACK_S = 40.0
RTP_PORTS = Ports.usual().rtp
"""Asterisk's."""
PING_S, BUSY_S = 0.1, 0.2
"""How often Asterisk is asked for a sign of life, and how late an answer shows that the machine has no time."""


class Trouble:
    """Puts faults in, one at a time, and writes them down."""

    def __init__(self, office: Office, history: History, chance: random.Random) -> None:
        self.office, self.history, self.chance = office, history, chance
        self.kinds = {
            "killed": self.killed,
            "frozen": self.frozen,
            "slow": self.slow,
            "flood": self.flood,
            "stall": self.stall,
            "loss": self.loss,
            "asterisk": self.asterisk,
        }

    async def put_in(self, kind: str, seconds: float) -> None:
        """One fault, until all is well again; one that was begun is ended, whoever stops waiting."""
        task = asyncio.create_task(self._whole(kind, seconds), name=f"fault {kind}")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise

    async def _whole(self, kind: str, seconds: float) -> None:
        fault = Fault(kind, time.monotonic() - BEFORE_S.get(kind, 1.0), float("inf"))
        self.history.faults.append(fault)
        await self.kinds[kind](seconds)
        fault.ended = time.monotonic() + SETTLE_S

    async def killed(self, away_s: float) -> None:
        """pbxguard is killed, and started again after so long."""
        site = self.office.site
        await site.stop(signal.SIGKILL)
        await asyncio.sleep(away_s)
        await site.start()

    async def frozen(self, seconds: float) -> None:
        """pbxguard stands still; its watchdog ends it when that lasts too long."""
        site = self.office.site
        assert site.process is not None
        with suppress(ProcessLookupError), standing_still(site.process.pid):
            await asyncio.sleep(min(seconds, WATCHDOG_S + 1.0))
        if seconds > WATCHDOG_S - 0.5:
            await asyncio.sleep(0.2)
            if site.process.returncode is not None:
                await site.stop()
                await site.start()

    async def slow(self, seconds: float) -> None:
        """pbxguard gets no time for a moment, and again."""
        for _ in range(3):
            await self.frozen(seconds)
            await asyncio.sleep(0.3)

    async def flood(self, seconds: float) -> None:
        """Asterisk tells everybody of thousands of events a second."""
        with suppress(LabError):
            await self.office.ami.action(
                "Originate",
                Channel="Local/s@flood/n",
                Application="Wait",
                Data=f"{seconds:g}",
                Variable=f"seconds={seconds:g}",
                Async="true",
            )
        await asyncio.sleep(seconds + 0.5)

    async def stall(self, seconds: float) -> None:
        """A phone stands still for a moment, then sends all that is late at once."""
        desk = self.chance.choice(self.office.desks)
        phone = self.chance.choice((desk.first, desk.second, *self.office.carriers))
        with suppress(LabError, ProcessLookupError), standing_still(phone.pid):
            await asyncio.sleep(seconds)

    async def loss(self, seconds: float) -> None:
        """Some of the packets that phones send do not arrive at Asterisk."""
        share = self.chance.uniform(0.02, 0.25)
        with losing(self.office.site.asterisk.pid, share, RTP_PORTS):
            await asyncio.sleep(seconds)

    async def asterisk(self, away_s: float) -> None:
        """Asterisk dies, all its calls with it, and boots again after so long."""
        office = self.office
        office.up.clear()
        await office.site.asterisk.kill()
        for call in list(office.live):
            call.cancel()
        await asyncio.sleep(away_s)
        await office.site.asterisk.start()
        office.ami = await office.connections.enter_async_context(connect(office.site.asterisk))
        office.up.set()
        end = time.monotonic() + BACK_S
        while not (await office.site.status()).get("ready"):
            if time.monotonic() > end:
                raise LabError("pbxguard did not find Asterisk again")
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        """Without end: writes down when this machine had no time for Asterisk, or for us."""
        while True:
            asked = time.monotonic()
            with suppress(LabError, TimeoutError, OSError):
                await self.office.up.wait()
                await self.office.ami.action("Ping")
            await asyncio.sleep(PING_S)
            late = time.monotonic() - asked - PING_S
            if late > BUSY_S:
                self.history.faults.append(Fault("busy machine", asked - 0.2, time.monotonic() + 0.5))
            del self.office.ami.events[:-KEPT]
            self.office.ami.stream.clear()
