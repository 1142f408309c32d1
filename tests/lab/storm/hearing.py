"""Owns: when what is heard in a track was said, read from the chirps in it. Imports nothing of pbxguard.

Positions are seconds on the timeline of the speaker's leg: of both files that his phone kept of the call.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.lab import checker
from tests.lab.checker import Stretch, Track
from tests.lab.storm.history import Leg
from tests.lab.storm.spans import Spans, union
from tests.lab.storm.voices import SWEEP_S, VOICES

PHONE_DELAY_S = 0.1
"""About how long it takes from one phone to another, mostly the jitter buffer."""
STRAY_S = 0.5
"""How far from its expected moment something may have been said to be of that leg."""

Clock = Callable[[float], float]
"""From a position in a track to about when it was written, monotonic seconds."""


def read_wav(path: str) -> Track:
    """A phone's file."""
    with wave.open(path) as file:
        return Track(np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0, file.getframerate())


FAR_S = 1e9


class Timeline:
    """Between positions of a phone's files of a call and monotonic seconds, by what the phone wrote down meanwhile."""

    def __init__(self, leg: Leg, rate: int) -> None:
        rows = np.array([[leg.began, 0.0]])
        if leg.clock and Path(leg.clock).exists():
            ticks = np.loadtxt(leg.clock, ndmin=2)
            rows = np.concatenate([rows, ticks / [1.0, rate]])
        first, last = rows[0], rows[-1]
        self._moments: npt.NDArray[np.float64] = np.concatenate([[first[0] - FAR_S], rows[:, 0], [last[0] + FAR_S]])
        self._positions: npt.NDArray[np.float64] = np.concatenate([[first[1] - FAR_S], rows[:, 1], [last[1] + FAR_S]])

    def moment(self, position: float) -> float:
        """When the phone was there."""
        return float(np.interp(position, self._positions, self._moments))

    def position(self, moment: float) -> float:
        """Where it was then."""
        return float(np.interp(moment, self._moments, self._positions))

    def moments(self, spans: Spans) -> Spans:
        return union((self.moment(begin), self.moment(end)) for begin, end in spans)

    def positions(self, spans: Spans) -> Spans:
        return union((self.position(begin), self.position(end)) for begin, end in spans)


@dataclass(frozen=True)
class Piece:
    """What was said by `leg` from position `said_s` on, found in a track from `start_s` to `end_s`."""

    leg: Leg | None
    """None: a voice that nobody had then."""
    said_s: float
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass
class Ears:
    """Reads phones' files and chirps, each once."""

    _tracks: dict[str, Track] = field(default_factory=dict)
    _stretches: dict[tuple[str, str], list[Stretch]] = field(default_factory=dict)
    _offsets: dict[str, float] = field(default_factory=dict)
    _timelines: dict[str, Timeline] = field(default_factory=dict)

    def track(self, path: str) -> Track:
        if path not in self._tracks:
            self._tracks[path] = read_wav(path)
        return self._tracks[path]

    def stretches(self, path: str, voice: str) -> list[Stretch]:
        """Of a voice in a phone's file."""
        if (path, voice) not in self._stretches:
            self._stretches[path, voice] = checker.chirp_stretches(self.track(path), VOICES[voice])
        return self._stretches[path, voice]

    def timeline(self, leg: Leg) -> Timeline:
        """Of what this leg said and heard."""
        if leg.said not in self._timelines:
            self._timelines[leg.said] = Timeline(leg, self.track(leg.said).rate)
        return self._timelines[leg.said]

    def offset(self, leg: Leg) -> float:
        """Chirp time less position, of what this leg said."""
        if leg.said not in self._offsets:
            found = self.stretches(leg.said, leg.voice)
            if not found:
                raise checker.CheckFailed(f"{leg.name} said nothing that tells the time: {leg.said}")
            self._offsets[leg.said] = max(found, key=lambda one: one.end_s - one.start_s).offset_s
        return self._offsets[leg.said]

    def heard(self, listener: Leg, speakers: Sequence[Leg]) -> list[Piece]:
        """What a phone heard of legs that all have one voice."""
        if not listener.heard or not speakers:
            return []
        found = self.stretches(listener.heard, speakers[0].voice)
        own = self.timeline(listener)
        return self.said(found, speakers, lambda at: own.moment(at) - PHONE_DELAY_S)

    def said(
        self, found: Sequence[Stretch], speakers: Sequence[Leg], clock: Clock, stray_s: float = STRAY_S
    ) -> list[Piece]:
        """Who said these stretches of a track, and when; `clock` tells about when each place of it was written.

        The chirp repeats itself: of all times at which it may have been said, the one nearest to the clock's counts.
        """
        pieces = []
        for one in found:
            best: tuple[float, Leg, float] | None = None
            for leg in speakers:
                middle = clock((one.start_s + one.end_s) / 2)
                expected = self.timeline(leg).position(middle) - (one.end_s - one.start_s) / 2
                raw = one.first_said_s - self.offset(leg)
                said_s = raw + SWEEP_S * round((expected - raw) / SWEEP_S)
                stray = abs(said_s - expected)
                if said_s > -STRAY_S and (best is None or stray < best[0]):
                    best = (stray, leg, said_s)
            if best is None or best[0] > stray_s:
                pieces.append(Piece(None, 0.0, one.start_s, one.end_s))
            else:
                pieces.append(Piece(best[1], best[2], one.start_s, one.end_s))
        return pieces


def spans_of(pieces: Sequence[Piece], leg: Leg, bridge_s: float = 0.0) -> Spans:
    """What of a leg is in them, as positions."""
    return union(((p.said_s, p.said_s + p.seconds) for p in pieces if p.leg is leg), bridge_s=bridge_s)
