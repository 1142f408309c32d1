"""A whisper on the real Asterisk: heard by one party alone, in no recording, and known for what it was."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pbxguard.core.facts import Fact
from pbxguard.core.ids import Uniqueid
from pbxguard.core.reasons import Reason
from pbxguard.pbx.ari.announcer import Announcer, Visit
from pbxguard.pbx.ari.connection import AriAddress
from pbxguard.pbx.ari.whisper import PREFIX, Whispers
from tests.e2e.conftest import AddPhone
from tests.lab import ami, checker
from tests.lab.asterisk import Asterisk
from tests.lab.checker import Detector, Track
from tests.lab.phone import Heard
from tests.lab.raw_phone import RawPhone
from tests.lab.signals import VOICES, Chirp, Tone, write_wav

AGENT_HZ, WHISPER_HZ = VOICES[0], VOICES[2]
SOUND_S = 2.0


async def _no_door(visit: Visit) -> None:
    raise AssertionError("nobody came to a door")


@asynccontextmanager
async def whispering(asterisk: Asterisk) -> AsyncIterator[Whispers]:
    """The adapter alone: what AMI would tell is left out, so every moment counts as known."""

    async def put(fact: Fact) -> None:
        pass

    application = f"lab{secrets.token_hex(4)}"
    address = AriAddress(asterisk.ari_url, asterisk.ari_user, asterisk.ari_password, application)
    announcer = Announcer(address, _no_door)
    whispers = Whispers(announcer.connection, application=application, put=put, seen=time.monotonic)
    announcer.guests.append(whispers)
    running = asyncio.create_task(announcer.run())
    try:
        async with asyncio.timeout(10):
            while not announcer.connection.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield whispers
    finally:
        await whispers.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def sound(asterisk: Asterisk) -> str:
    """A tone of `SOUND_S`, as Asterisk spells it."""
    path = Path(asterisk.sounds) / f"whisper-{secrets.token_hex(4)}.wav"
    write_wav(path, Tone(WHISPER_HZ).samples(8000)[: round(SOUND_S * 8000)], 8000)
    return str(path.with_suffix(""))


def track(heard: Heard) -> Track:
    return Track(heard.samples, heard.rate)


async def test_a_whisper_is_heard_by_one_party_alone_and_by_no_recorder(
    asterisk: Asterisk, add_phone: AddPhone
) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    number = f"+316{secrets.randbelow(10**8):08d}"
    async with ami.connect(asterisk) as manager, whispering(asterisk) as whispers:
        call = await (await customer.call("31201234100", caller_id=number)).answered()
        leg = await (await agent.incoming(number=number)).answered()
        entered = await manager.event("BridgeEnter", lambda e: e["Channel"].startswith("PJSIP/100-"))
        told = await manager.event(
            "BridgeEnter",
            lambda e: e["BridgeUniqueid"] == entered["BridgeUniqueid"] and e["Uniqueid"] != entered["Uniqueid"],
        )
        files = [Path(asterisk.spool) / f"whisper-{secrets.token_hex(4)}.sln" for _ in range(2)]
        options = f"r({files[0]})t({files[1]})"
        await manager.action("MixMonitor", Channel=entered["Channel"], File="", Options=options)
        await call.talk(1.0)
        assert await whispers.play(Uniqueid(told["Uniqueid"]), sound(asterisk), round(SOUND_S * 1000)) is None
        spy = await manager.event("ChanSpyStop", lambda e: e["SpyerUniqueid"].startswith(PREFIX))
        assert spy["SpyerChannel"].startswith(f"Snoop/{told['Uniqueid']}-")
        await call.talk(1.0)
        await call.hangup()
        await leg.ended()
    customer_heard, agent_heard = track(await call.heard()), track(await leg.heard())
    before = customer_heard.part(0.2, 0.9)
    detector = Detector.calibrate(WHISPER_HZ, customer_heard, before)
    (heard,) = [span for span in detector.find(customer_heard) if span.seconds > 0.1]
    assert heard.seconds >= 0.97 * SOUND_S
    assert detector.find(agent_heard) == []
    for file in files:
        recorded = checker.read_raw(file)
        assert recorded.seconds > SOUND_S + 1.0
        assert detector.find(recorded) == []
        file.unlink()
    assert not [name for name in await asterisk.channels() if name.startswith("Snoop/")]


async def test_whispered_to_one_whose_peer_sends_nothing_it_is_known_that_he_heard_nothing(
    asterisk: Asterisk, add_phone: AddPhone, tmp_path: Path
) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(AGENT_HZ))
    number = f"+316{secrets.randbelow(10**8):08d}"
    sender = f"<sip:{number}@lab.invalid>".encode()
    async with (
        ami.connect(asterisk) as manager,
        whispering(asterisk) as whispers,
        RawPhone(asterisk.line("trunk-a"), tmp_path) as caller,
    ):
        await caller.call("31201234100", sender=sender)
        leg = await (await agent.incoming(number=number)).answered()
        entered = await manager.event("BridgeEnter", lambda e: e["Channel"].startswith("PJSIP/100-"))
        me = Uniqueid(entered["Uniqueid"])
        assert await whispers.play(me, sound(asterisk), round(SOUND_S * 1000)) is None, "while the peer speaks"
        caller.silent = True
        await caller.talk(0.3)
        quiet_from = time.monotonic()
        assert await whispers.play(me, sound(asterisk), round(SOUND_S * 1000)) is Reason.PROMPT_UNSENT
        quiet_s = time.monotonic() - quiet_from
        caller.silent = False
        await caller.talk(0.5)
        await caller.hang_up()
        await leg.ended()
    heard = await leg.heard()
    begin = quiet_from - heard.began
    detector = Detector.calibrate(WHISPER_HZ, track(heard), track(heard).part(begin - 0.2, begin))
    spans = [span for span in detector.find(track(heard)) if span.seconds > 0.1]
    assert sum(s.seconds for s in spans if s.end_s < begin) >= 0.97 * SOUND_S, "the control"
    assert not [s for s in spans if begin < s.start_s < begin + quiet_s], "and nothing of the other"
