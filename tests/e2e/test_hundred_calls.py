"""A hundred calls at once: each told, bridged, recorded, sealed; each file checked for its own two voices alone.

All callers' and agents' tones lie on a grid of 20 Hz, so that a window of 0.1 s tells each from every other. Where a
packet was lost the own voice jumps, and for a moment reaches the next two tones on either side, loud as a foreign
burst (0.13 of the voice's 0.3): there alone a foreign voice must be longer to be found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, load
from tests.lab.checker import Track
from tests.lab.installation import Installation
from tests.lab.load import Burst
from tests.lab.signals import LEVEL, Tone

pytestmark = pytest.mark.alone

CALLS = 100
TALK_S = 14.0
"""From the caller's answer to his hanging up; the disclosure takes about 5 s of it."""
LEAST_S = 1.0
"""So much of each talk must be in its file at least, however busy the machine was."""
WINDOW_S = 0.1
SHORTEST_S = 0.05
"""Of a foreign voice: a burst so long is found wherever it lies."""
NEXT = 2
"""Places on the grid to each side that a jump reaches; there, a tenth of the file is found."""
GRID = np.arange(300.0, 3400.0, load.STEP_HZ)


@dataclass(frozen=True)
class Evening:
    """The site after its hundred calls."""

    site: Installation
    burst: Burst


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def evening(tree: asterisk_tree.Tree) -> AsyncIterator[Evening]:
    async with Installation(load_agents=CALLS) as site:
        yield Evening(site, await load.burst(site, CALLS, talk_s=TALK_S))


def spectrum(track: Track) -> npt.NDArray[np.float64]:
    """The amplitude of each tone of the grid (columns) in all windows (rows) that lie whole in the track."""
    size = round(WINDOW_S * track.rate)
    frames = np.lib.stride_tricks.sliding_window_view(track.samples, size)[:: size // 4]
    window = np.hanning(size + 1)[:-1]
    bins = np.abs(np.fft.rfft(frames * window)) * 2 / window.sum()
    found: npt.NDArray[np.float64] = bins[:, np.round(GRID * WINDOW_S).astype(int)]
    return found


def place(hertz: float) -> int:
    return int(np.flatnonzero(hertz == GRID)[0])


async def test_every_caller_is_told_in_full(evening: Evening) -> None:
    assert (evening.burst.placed.successful, evening.burst.placed.failed) == (CALLS, 0)
    untold = [line for line in evening.burst.log if line["event"] == "door.left" and line.get("reason")]
    assert Counter(evening.burst.results.values()) == {"DISCLOSED": CALLS}, untold[:5]


async def test_every_call_has_one_file_with_its_own_two_voices_and_nobody_elses(evening: Evening) -> None:
    for call, agent_hz in zip(evening.burst.calls, evening.burst.agents, strict=True):
        (file,) = evening.site.files(call.caller_id)  # all was waited for already
        own, others = checker.read(file)
        for track, voice in ((own, agent_hz), (others, call.hertz)):
            assert track.seconds > LEAST_S, call
            heard = spectrum(track)
            near, far = neighbours(voice)
            least = control(track, voice) / 2
            assert np.median(heard[:, place(voice)]) > LEVEL / 2, (call, voice)
            assert heard[:, far].max() < least, (call, GRID[far[heard[:, far].max(axis=0).argmax()]])
            assert np.quantile(heard[:, near], 0.9, axis=0).max() < least, (call, voice)


def neighbours(voice: float) -> tuple[list[int], list[int]]:
    """Places of the grid next to a voice's, and all others but its own."""
    own = place(voice)
    others = [n for n in range(len(GRID)) if n != own]
    return [n for n in others if abs(n - own) <= NEXT], [n for n in others if abs(n - own) > NEXT]


def control(track: Track, voice: float) -> float:
    """What is seen of the shortest burst of a foreign voice, as loud as all voices are, in the middle of the track."""
    foreign = GRID[(place(voice) + 7) % len(GRID)]
    samples = track.samples.copy()
    size = round(SHORTEST_S * track.rate)
    start = len(samples) // 2
    samples[start : start + size] += Tone(foreign).samples(track.rate)[:size]
    return float(spectrum(Track(samples, track.rate))[:, place(foreign)].max())


async def test_no_recorder_failed_and_nothing_is_left_in_the_spool(evening: Evening) -> None:
    sealed = [line["recording"] for line in evening.burst.log if line["event"] == "recording.sealed"]
    assert (len(sealed), len(set(sealed))) == (CALLS, CALLS), why_not(evening)
    assert [line for line in evening.burst.log if line["level"] in ("error", "critical")] == []
    assert evening.site.leftovers() == []
    assert len(list(evening.site.archive.rglob("*.flac"))) == CALLS


def why_not(evening: Evening) -> dict[tuple[str, str], int]:
    """What the service's log tells of calls that are missing, counted: event and reasons."""
    told = ((line["event"], ",".join(line.get("reasons", [line.get("reason", "")]))) for line in evening.burst.log)
    return dict(Counter(told))


async def test_every_recording_is_what_its_manifest_says(evening: Evening) -> None:
    ran = await evening.site.run("recordings", "verify", "--all", "--json")
    assert ran.json() == {"checked": CALLS, "problems": []}
