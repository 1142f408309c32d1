"""Prompts as Asterisk plays them, and what Asterisk records as it is sealed: files made and read by both sides."""

from __future__ import annotations

import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from pbxguard.archive.spool import Spool
from pbxguard.core.cut import dropped_samples, on_monotonic, recorder_end
from pbxguard.core.defaults import CONTRACT_EVIDENCE, Wording
from pbxguard.core.ids import Uniqueid, recording_id, segment_id
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.service.clock import SystemClock
from pbxguard.sound.flac import encode, write_tags
from pbxguard.sound.prompts import Prompts
from pbxguard.sound.tracks import Joined, Piece
from tests.e2e.conftest import AddPhone
from tests.lab import ami, checker
from tests.lab.asterisk import Asterisk
from tests.lab.checker import Track
from tests.lab.phone import Phones
from tests.lab.signals import VOICES, Tone

KEY = DisclosureKey.of((CONTRACT_EVIDENCE,), "nl", Mode.OPT_OUT, Direction.INBOUND)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_prompt_is_heard_whole_and_as_long_as_it_says(tmp_path: Path, rate: int) -> None:
    async with Asterisk(rate=rate) as asterisk, Phones(rate) as phones:
        folder = Path(asterisk.sounds) / "prompts"
        prompts = Prompts(folder, PurePosixPath(folder), rate, Wording("Acme"))
        prompts.build([KEY])
        prompts.approve(str(KEY), "the test", datetime.now(UTC))
        disclosure = prompts.approved([KEY])[KEY]
        dialplan = asterisk.dialplan.replace(
            "[from-trunk]",
            "[from-trunk]\n"
            "exten => 999,1,Answer()\n"
            f" same => n,Playback({prompts.silence_sound})\n"
            " same => n,UserEvent(PromptBegun)\n"
            f" same => n,Playback({disclosure.notice_sound})\n"
            " same => n,UserEvent(PromptEnded,State: ${PLAYBACKSTATUS})\n"
            " same => n,Wait(0.5)\n same => n,Hangup()\n",
            1,
        )
        await asterisk.write("extensions.conf", dialplan)
        caller = await phones.add(asterisk.line("trunk-a"))
        async with ami.connect(asterisk) as manager:
            call = await caller.call("999", caller_id="+31612345678")
            begun = await manager.event("UserEvent", lambda e: e["UserEvent"] == "PromptBegun", deadline_s=20)
            ended = await manager.event("UserEvent", lambda e: e["UserEvent"] == "PromptEnded", deadline_s=20)
            await call.ended()
        assert ended["State"] == "SUCCESS"
        took_ms = (float(ended["received"]) - float(begun["received"])) * 1000
        assert took_ms >= disclosure.notice_ms - 60

        (prompt,) = checker.read(next(folder.glob("*-notice-*")))
        heard = await call.heard()
        said, arrived = checker.sounds(prompt), checker.sounds(Track(heard.samples, heard.rate))
        # A busy machine stretches pauses and drops packets; a sound of the wrong rate or format would lose half or all.
        assert sum(span.seconds for span in arrived) >= 0.9 * sum(span.seconds for span in said)


async def test_what_asterisk_recorded_is_cut_and_sealed_with_each_voice_on_its_side(
    asterisk: Asterisk, add_phone: AddPhone, tmp_path: Path
) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(VOICES[0]))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Tone(VOICES[1]))
    spool = Spool(Path(asterisk.spool), PurePosixPath(asterisk.spool), 8000, floor=1)
    segment = segment_id(recording_id("e2e", tmp_path.name, Uniqueid(secrets.token_hex(4))), 1)
    files = spool.asterisk_files(segment)
    clock = SystemClock()
    async with ami.connect(asterisk) as manager:
        number = f"+316{secrets.randbelow(10**8):08d}"
        call = await (await customer.call("31201234100", caller_id=number)).answered()
        await (await agent.incoming(number=number)).answered()
        entered = await manager.event("BridgeEnter", lambda event: event["Channel"].startswith("PJSIP/100-"))
        opened, offset = clock.now(), clock.wall_offset()
        options = f"r({files.own})t({files.others})i(LAB_MIXMONITOR)"
        started = await manager.action("MixMonitor", Channel=entered["Channel"], File="", Options=options)
        await call.talk(2.0)
        await manager.action("StopMixMonitor", Channel=entered["Channel"], MixMonitorID=started["MixMonitorID"])
        stopped = clock.now()
        assert await spool.wait_complete(segment, 5.0)
        await call.hangup()

    captured = spool.captured(segment)
    assert captured.written is not None
    assert captured.difference == 0
    assert captured.samples == pytest.approx((stopped - opened) * 8000, abs=8000 * 0.25)
    written = on_monotonic(captured.written, offset, clock.wall_offset(), clock.now() - opened)
    assert written is not None
    assert opened < written < stopped + 0.1
    dropped = dropped_samples(recorder_end(stopped, written), stopped - 0.5, 8000, captured.samples)
    assert 0.5 * 8000 < dropped <= 0.67 * 8000
    kept = captured.samples - dropped
    spool.shorten(segment, kept, captured.written)
    assert spool.captured(segment).samples == kept

    local = spool.files(segment)
    flac = tmp_path / "x.flac"
    joined = Joined([Piece(local.own, local.others, kept)])
    assert encode(flac, joined.blocks(), 8000) == kept
    write_tags(flac, [("CALLER_ID", number)])
    own, others = checker.read(flac)
    assert set(checker.voices(own, VOICES)) == {f"{VOICES[0]:g}"}
    assert set(checker.voices(others, VOICES)) == {f"{VOICES[1]:g}"}
    spool.erase(segment)
