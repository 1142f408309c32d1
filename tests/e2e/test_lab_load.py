"""The load generator: what it sends must be what is recorded, or a count of recordings proves nothing."""

from __future__ import annotations

import pytest

from tests.lab import checker, sipp
from tests.lab.asterisk import Asterisk
from tests.lab.asterisk_tree import Tree

pytestmark = pytest.mark.alone

CALLS = 20
DIALPLAN = """\
[internal]
[from-trunk]
exten => _X.,1,Answer()
 same => n,MixMonitor(${CALLERID(num)}.wav,r(${CALLERID(num)}-said.wav)t(${CALLERID(num)}-heard.wav))
 same => n,Dial(PJSIP/190,20)
"""


async def test_many_calls_at_once_each_say_their_own_tone(tree: Tree) -> None:
    async with Asterisk(dialplan=DIALPLAN) as asterisk, sipp.agents(asterisk):
        calls = sipp.distinct_calls(CALLS)
        result = await sipp.call_many(asterisk, calls, talk_s=2.0)
        assert (result.successful, result.failed) == (CALLS, 0)
        await asterisk.idle()
        folder = asterisk.spool / "monitor"
        tones = [call.hertz for call in calls] + [sipp.AGENT_HZ]
        for call in calls:
            (said,) = checker.read(folder / f"{call.caller_id}-said.wav")
            (heard,) = checker.read(folder / f"{call.caller_id}-heard.wav")
            assert loudest(said, tones) == call.hertz
            assert loudest(heard, tones) == sipp.AGENT_HZ


def loudest(track: checker.Track, tones: list[float]) -> float:
    middle = track.part(track.seconds / 2 - 0.25, track.seconds / 2 + 0.25)
    return max(tones, key=lambda hertz: checker.levels(middle, hertz, 0.25).loudest)
