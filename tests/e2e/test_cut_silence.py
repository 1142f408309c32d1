"""A file that is shorter than its span: where neither side sends a packet, Asterisk writes no sample, and time stands.

Where in the file that was, nobody can tell from its samples: the manifest says that it is so, and how much is missing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from tests.lab import measure
from tests.lab.cutting import AGENT_HZ, CUSTOMER, Cut, Office, cut_of

pytestmark = pytest.mark.alone  # as every file with this office

TALK_S, SILENT_S = 1.5, 2.5
HANGS_ON_S = 1.2
"""A phone goes on sending for most of a second when its owner is silent (voice activity detection)."""
NOTE = "shorter_than_its_span"
TWO_FRAMES_MS = 40
SLACK_S = 0.4
"""What a phone needs to speak again, and frames that a busy machine loses."""


def span_s(cut: Cut) -> float:
    """From the first moment to the last that the manifest gives to the one interval of what is kept."""
    (interval,) = cut.manifest["intervals"]
    begin, end = (datetime.fromisoformat(interval[f"{edge}_utc"]) for edge in ("begin", "end"))
    return (end - begin).total_seconds()


async def test_a_file_in_which_time_stood_still_says_by_how_much(cut_office: Office) -> None:
    office = cut_office
    silent = await office.phones.add(office.site.asterisk.line("trunk-a"), sends=CUSTOMER, dtx=True)
    quiet, twin = await asyncio.gather(office.talk(dtx=True, carrier=silent), office.talk())
    both = (quiet.customer, quiet.agent)
    await twin.customer.talk(TALK_S)
    await asyncio.gather(*(call.mute() for call in both))
    await twin.customer.talk(SILENT_S)
    await asyncio.gather(*(call.mute(False) for call in both))
    await twin.customer.talk(TALK_S)
    stood, went_on = await cut_of(quiet), await cut_of(twin)
    await office.phones.remove(silent)
    for cut in (stood, went_on):
        missing = cut.segment["missing_ms"]
        assert (NOTE in cut.segment["notes"]) == (missing > TWO_FRAMES_MS)
        assert abs(span_s(cut) - cut.own.seconds - missing / 1000) < 0.005
        assert measure.voices(cut.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
        assert measure.voices(cut.others, CUSTOMER) == {"chirp"}
    assert SILENT_S - HANGS_ON_S < stood.segment["missing_ms"] / 1000 < SILENT_S + SLACK_S
    assert went_on.segment["missing_ms"] / 1000 < SLACK_S
