"""Owns: the timeline of the transferred call, measured: who heard whom at which phone, and what the sealed file holds.

Seconds count from the first sample of the customer's phone. Only the last row is pbxguard's word: its manifest, put
on the same axis, so that it can be compared.
"""

from __future__ import annotations

import json
import time
from datetime import datetime

from tests.lab import checker, measure
from tests.lab.phone import Heard
from tests.lab.picture import THIN, Bar, Mark, Timeline, Track
from tests.lab.stories import AGENT_HZ, CUSTOMER, THIRD_HZ, Story
from tests.lab.verdicts import Verdict

SHORTEST_S = 0.05
"""Shorter sounds of a tone are clicks of another one's edge."""
PAUSE_S = 0.2
"""A shorter one does not end a bar."""


async def hearing(story: Story, verdict: Verdict) -> Timeline:
    """The picture of the transferred call; the verdict must have found its recording."""
    file, recorded, disclosed = verdict.file, verdict.recorded, verdict.disclosed_s
    assert file is not None
    assert recorded is not None
    assert disclosed is not None
    customer = await story.calls["customer"].heard()
    agent, third = await story.calls["agent"].heard(), await story.calls["third"].heard()
    speech = [s for s in checker.sounds(measure.track(customer)) if s.start_s < disclosed]
    told = Bar(speech[0].start_s, disclosed, "notice")
    manifest = json.loads(file.with_suffix(".json").read_text())
    held = Bar(recorded.first_s, recorded.last_s, f"{recorded.seconds:.2f} s")
    tracks = [
        Track("the customer", "the disclosure", [told], "yellow"),
        Track("  hears", "the agent", tone(customer, AGENT_HZ, 0.0), "green"),
        Track("", "the third party", tone(customer, THIRD_HZ, 0.0), "magenta"),
        Track("the agent hears", "the customer", chirp(agent, agent.began - customer.began), "blue"),
        Track("the third hears", "the customer", chirp(third, third.began - customer.began), "blue"),
        Track("the sealed file", "(measured)", [held], "bold red", THIN),
        Track("the manifest", "(pbxguard's word)", intervals(manifest, customer), "red", THIN),
    ]
    arrives = tracks[2].bars[0].start_s
    marks = [
        Mark(disclosed, "told: he heard it to its end"),
        Mark(recorded.first_s, f"recorded from here, to {recorded.last_s:.2f} s"),
        Mark(story.moments["refer"] - customer.began, "the agent's phone transfers him (REFER)"),
        Mark(arrives, "the third party is heard; nobody records"),
    ]
    return Timeline(customer.seconds, tracks, marks)


def tone(heard: Heard, hertz: float, later_s: float) -> list[Bar]:
    """When a tone is heard, `later_s` being where that phone's recording begins on the axis."""
    found = [s for s in checker.spans(measure.track(heard), hertz) if s.seconds > SHORTEST_S]
    return joined([Bar(s.start_s + later_s, s.end_s + later_s) for s in found])


def chirp(heard: Heard, later_s: float) -> list[Bar]:
    """When the customer is heard."""
    found = checker.chirp_stretches(measure.track(heard), CUSTOMER)
    return joined([Bar(s.start_s + later_s, s.end_s + later_s) for s in found])


def joined(bars: list[Bar]) -> list[Bar]:
    """Bars with nothing but a short pause between them become one."""
    made: list[Bar] = []
    for bar in bars:
        if made and bar.start_s - made[-1].end_s < PAUSE_S:
            made[-1] = Bar(made[-1].start_s, bar.end_s)
        else:
            made.append(bar)
    return made


def intervals(manifest: dict[str, list[dict[str, str]]], customer: Heard) -> list[Bar]:
    """The manifest's intervals; its moments are UTC, those of the phones `time.monotonic`."""
    zero = customer.began + (time.time() - time.monotonic())

    def position(moment: str) -> float:
        return datetime.fromisoformat(moment).timestamp() - zero

    return [Bar(position(one["begin_utc"]), position(one["end_utc"])) for one in manifest["intervals"]]
