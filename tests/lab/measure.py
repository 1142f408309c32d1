"""Owns: a sealed file held against what the phones of its call said and heard. Imports nothing of pbxguard.

Positions are seconds on the timeline of one phone's recordings of one call (`heard` and `said` share it).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab import checker
from tests.lab.checker import Detector, Found, Track
from tests.lab.phone import Heard, PhoneCall
from tests.lab.signals import VOICES, Chirp

CHIRP_SLIP_S = 0.06
"""How far a stretch may seem to begin before the one before it has ended."""
SLIP_S = 0.2
"""How much of a prompt a phone on this busy machine may lose or hear late, while the rest of it is heard."""
QUIET_S = 0.8
"""So long before somebody is first heard for good there is nothing of him: no bit that a stall tore off either."""


def track(heard: Heard) -> Track:
    """A phone's recording as a track."""
    return Track(heard.samples, heard.rate)


@dataclass(frozen=True)
class Recorded:
    """What a sealed file holds: both tracks, and which part of what the customer said is in the right one."""

    own: Track
    others: Track
    first_s: float
    """Position, on the customer's timeline, of the first of his sounds in the file."""
    last_s: float

    @property
    def seconds(self) -> float:
        return self.own.seconds


def recorded(file: Path, said: Heard, chirp: Chirp) -> Recorded:
    """Measure a two-track file against the chirp that the customer said in this call."""
    own, others = checker.read(file)
    stretches = checker.chirp_stretches(others, chirp)
    assert stretches, f"no chirp in the right track of {file.name}"
    sent = checker.chirp_stretches(track(said), chirp)
    assert sent, "the customer's phone sent no chirp"

    def position(said_s: float) -> float:
        return (said_s - sent[0].first_said_s) % chirp.sweep_s + sent[0].start_s

    return Recorded(own, others, position(stretches[0].first_said_s), position(stretches[-1].last_said_s))


def positions(track_: Track, said: Heard, chirp: Chirp) -> list[tuple[float, float]]:
    """Of each stretch of the chirp in a track of a file, from when to when it was said, on the speaker's timeline.

    The chirp repeats itself, and a call may be longer than it; the file goes on in the order of time.
    """
    first_said = checker.chirp_stretches(track(said), chirp)[0]
    found: list[tuple[float, float]] = []
    until = 0.0
    for stretch in checker.chirp_stretches(track_, chirp):
        begin = (stretch.first_said_s - first_said.first_said_s) % chirp.sweep_s + first_said.start_s
        while begin < until - CHIRP_SLIP_S:
            begin += chirp.sweep_s
        until = begin + stretch.end_s - stretch.start_s
        found.append((begin, until))
    return found


def prompt_heard(heard: Heard, prompt: Path) -> Found | None:
    """Where and how far a prompt was heard; None when it was not."""
    return checker.locate(track(heard), checker.read(prompt)[0], most_slip_s=SLIP_S)


def prompt_over_tone(heard: Heard, prompt: Path, hertz: float) -> Found | None:
    """As `prompt_heard`, of one that was whispered to somebody while a tone was said to him."""
    sound = checker.without(checker.read(prompt)[0], hertz)
    return checker.locate(checker.without(track(heard), hertz), sound, most_slip_s=SLIP_S)


def prompt_end(heard: Heard, prompt: Path) -> float:
    """Where the prompt ends on the phone's timeline; it must have been heard whole."""
    found = prompt_heard(heard, prompt)
    assert found is not None, f"{prompt.name} was not heard at all"
    assert found.complete, f"{prompt.name} was heard for {found.heard_s:.2f} s only"
    return found.end_s


def first_heard(heard: Heard, hertz: float) -> float:
    """Where a tone is first heard."""
    spans = [s for s in checker.spans(track(heard), hertz) if s.seconds > 0.05]
    assert spans, f"{hertz:g} Hz was never heard"
    return spans[0].start_s


def voices(one: Track, chirp: Chirp) -> set[str]:
    """Names of the lab's voices in a track: "chirp", "1900", ..."""
    return set(checker.voices(one, VOICES, chirp))


def detector(hertz: float, control: Heard, *quiet: Track) -> Detector:
    """A detector of a forbidden voice, calibrated on a phone that heard it and on audio that certainly has it not."""
    return Detector.calibrate(hertz, track(control), list(quiet))


async def pair(call: PhoneCall) -> tuple[Heard, Heard]:
    """(heard, said) of a call that has ended."""
    return await call.heard(), await call.said()
