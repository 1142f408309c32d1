"""Owns: what a sound file really holds, measured from its samples alone.

It imports nothing of pbxguard and reads no manifest: it says which tones and chirps are in a track, when, and how
loud. A "not there" counts only with a positive control: `Detector.calibrate` wants audio that certainly has the
tone and audio that certainly has not, and tells its floor and the shortest burst that it would have found.

Times are seconds from the first sample of the track; amplitudes are those of a sine, 1.0 being full scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import fftconvolve, filtfilt, iirnotch

from tests.lab.signals import Chirp, Samples

WINDOW_S = 0.005
HOP_S = 0.00125
CHIRP_WINDOW_S = 0.06
CHIRP_HOP_S = 0.01
SAME_LINE_S = 0.002  # windows whose chirp times agree to this belong to one unbroken stretch
PRESENT = 0.01  # amplitude (-40 dB) below which nothing counts as a voice
CUTS = 40  # places at which a calibration cuts the voices that are allowed
MARGIN = 2.0  # a detector's threshold above its floor
NOTCH_Q = 10.0  # a tone's frequency by the width of what is taken away with it
BLOCK_S = 0.1  # a prompt is heard block by block
BLOCK_SCORE = 0.8  # least correlation of a block that was heard; A-law alone gives 0.999


class CheckFailed(AssertionError):
    """A measurement that cannot be trusted, such as a control without the tone that it should have."""


@dataclass(frozen=True)
class Track:
    """One channel of sound: samples in -1..1, and their rate in Hz."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def part(self, start_s: float = 0.0, end_s: float | None = None) -> Track:
        """From `start_s` to `end_s`; times of the part count from its own beginning."""
        end = None if end_s is None else round(end_s * self.rate)
        return Track(self.samples[round(start_s * self.rate) : end], self.rate)


@dataclass(frozen=True)
class Span:
    """From `start_s` to `end_s`, with the highest amplitude in between."""

    start_s: float
    end_s: float
    amplitude: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Levels:
    """The amplitude of one tone in windows centred at `times_s`."""

    times_s: npt.NDArray[np.float64]
    amplitudes: npt.NDArray[np.float64]

    @property
    def loudest(self) -> float:
        return float(self.amplitudes.max()) if len(self.amplitudes) else 0.0


@dataclass(frozen=True)
class Stretch:
    """An unbroken stretch of a chirp: position p of the track was said at chirp time p + `offset_s`.

    The chirp time is that of the sender since its chirp began, modulo the sweep. `error_s` is how far single
    windows stray from the line: what a time read from it may be wrong by.
    """

    start_s: float
    end_s: float
    offset_s: float
    error_s: float
    amplitude: float

    def said_at(self, position_s: float) -> float:
        return position_s + self.offset_s

    @property
    def first_said_s(self) -> float:
        return self.said_at(self.start_s)

    @property
    def last_said_s(self) -> float:
        return self.said_at(self.end_s)


@dataclass(frozen=True)
class Found:
    """A known sound in a track: where it begins, and until where it was heard without a break.

    `heard_s` counts from the sound's beginning; `score` is the correlation of what was heard (1.0 is equal);
    `slipped_s` is how much later than due its end was heard.
    """

    start_s: float
    heard_s: float
    complete: bool
    score: float
    slipped_s: float = 0.0

    @property
    def end_s(self) -> float:
        return self.start_s + self.heard_s + self.slipped_s


def read(path: Path | str) -> list[Track]:
    """Every channel of a WAV or FLAC file, left first."""
    samples, rate = soundfile.read(str(path), dtype="float64", always_2d=True)
    return [Track(samples[:, channel].copy(), int(rate)) for channel in range(samples.shape[1])]


def read_raw(path: Path | str, rate: int = 8000) -> Track:
    """A raw file of 16 bit samples, as Asterisk writes `.sln` and `.sln16`."""
    return Track(np.fromfile(str(path), "<i2") / 32768.0, rate)


def levels(track: Track, hertz: float, window_s: float = WINDOW_S, hop_s: float = HOP_S) -> Levels:
    """How loud a tone is in each window (Hann), from the first sample to the last.

    The track is taken to have silence around it, so a tone that is cut by its edge shows half its amplitude there.
    """
    size = max(round(window_s * track.rate) | 1, 3)
    window = np.hanning(size + 2)[1:-1]
    window *= 2 / window.sum()
    turning = np.exp(-2j * np.pi * hertz * np.arange(len(track.samples)) / track.rate)
    return _sampled(np.abs(fftconvolve(track.samples * turning, window, mode="same")), track.rate, hop_s)


def power(track: Track, window_s: float = WINDOW_S, hop_s: float = HOP_S) -> Levels:
    """How loud everything together is: the RMS in each window, as the amplitude of a sine of that power."""
    size = max(round(window_s * track.rate) | 1, 3)
    mean = fftconvolve(track.samples**2, np.ones(size) / size, mode="same")
    return _sampled(np.sqrt(2 * np.maximum(mean, 0)), track.rate, hop_s)


def spans(track: Track, hertz: float, threshold: float | None = None, window_s: float = WINDOW_S) -> list[Span]:
    """When a tone is there. By default at half its usual amplitude, which is where its edges truly are (+-1 ms)."""
    measured = levels(track, hertz, window_s)
    if threshold is None:
        threshold = max(usual_amplitude(measured) / 2, PRESENT)
    return _spans(measured, threshold)


def sounds(track: Track, threshold: float = PRESENT, bridge_s: float = 0.05) -> list[Span]:
    """When there is any sound at all; pauses shorter than `bridge_s` are ignored."""
    merged: list[Span] = []
    for span in _spans(power(track), threshold):
        if merged and span.start_s - merged[-1].end_s < bridge_s:
            last = merged.pop()
            span = Span(last.start_s, span.end_s, max(last.amplitude, span.amplitude))
        merged.append(span)
    return merged


def usual_amplitude(measured: Levels) -> float:
    """The amplitude that a tone has where it is there: the median of the windows within 10 dB of the loudest."""
    loud = measured.amplitudes[measured.amplitudes > 0.3 * measured.loudest]
    return float(np.median(loud)) if len(loud) else 0.0


def voices(track: Track, tones: Iterable[float], chirp: Chirp | None = None) -> dict[str, float]:
    """Which voices a track holds: amplitude by name ("1900", "chirp"), only of those above -40 dB.

    A 50 ms window: it tells neighbouring voices apart well, and a 5 ms remnant badly; for that use a `Detector`.
    """
    found = {f"{hertz:g}": levels(track, hertz, 0.05).loudest for hertz in tones}
    if chirp is not None:
        found["chirp"] = max((stretch.amplitude for stretch in chirp_stretches(track, chirp)), default=0.0)
    return {name: amplitude for name, amplitude in found.items() if amplitude > PRESENT}


def relative_db(track: Track, hertz: float, window_s: float = WINDOW_S) -> float:
    """The loudest window of a tone against the loudest window of everything, in dB."""
    loudest = power(track, window_s).loudest
    return 20 * math.log10(max(levels(track, hertz, window_s).loudest, 1e-9) / max(loudest, 1e-9))


@dataclass(frozen=True)
class Detector:
    """Finds remnants of a tone; knows what it can find, because it was shown the tone and its absence.

    A voice that is cut off clicks at every frequency, so the floor is measured on cuts in the other voices, too.
    `floor` is the most that it sees where the tone is not, `control` the tone's amplitude where it is, and
    `shortest_s` the shortest burst of it, so loud, that is found wherever it lies.
    """

    hertz: float
    window_s: float
    floor: float
    control: float
    shortest_s: float

    @property
    def threshold(self) -> float:
        return max(self.floor * MARGIN, PRESENT / 2)

    @classmethod
    def calibrate(
        cls, hertz: float, present: Track, absent: Track | Sequence[Track], window_s: float = WINDOW_S
    ) -> Detector:
        """From audio that has the tone somewhere, and audio that does not but has all other voices.

        Raises CheckFailed when the control does not rise at least four times above the floor.
        """
        quiet = [absent] if isinstance(absent, Track) else list(absent)
        floor = max((levels(one, hertz, window_s).loudest for one in (*quiet, *_cuts(quiet, window_s))), default=0.0)
        control = usual_amplitude(levels(present, hertz, window_s))
        blind = cls(hertz, window_s, floor, control, math.inf)
        if control < 2 * blind.threshold:
            raise CheckFailed(f"positive control has {hertz:g} Hz at {control:.4f}, floor is {floor:.4f}")
        return cls(hertz, window_s, floor, control, blind._shortest(quiet))

    def find(self, track: Track) -> list[Span]:
        """Where the tone is; empty means that no burst of `shortest_s` or longer is in the track."""
        return _spans(levels(track, self.hertz, self.window_s), self.threshold)

    def _shortest(self, quiet: Sequence[Track]) -> float:
        """Puts bursts of the control's loudness into the audio without, and sees which are found everywhere."""
        base = max(quiet, key=lambda track: track.seconds)
        for milliseconds in np.arange(0.5, 4 * self.window_s * 1000, 0.5):
            length = round(milliseconds / 1000 * base.rate)
            if length and all(
                self.find(self._with_burst(base, start, length))
                for start in np.linspace(0, len(base.samples) - length, 7).astype(int)
            ):
                return length / base.rate
        return math.inf

    def _with_burst(self, base: Track, start: int, length: int) -> Track:
        # At an edge a window sees half of what it sees inside; the burst's neighbourhood is enough to look at.
        margin = round(3 * self.window_s * base.rate)
        first = max(start - margin, 0)
        samples = base.samples[first : start + length + margin].copy()
        turn = 2 * np.pi * self.hertz / base.rate
        samples[start - first : start - first + length] += self.control * np.sin(turn * np.arange(length))
        return Track(samples, base.rate)


def chirp_time(track: Track, chirp: Chirp, position_s: float, window_s: float = CHIRP_WINDOW_S) -> float | None:
    """The sender's time, since its chirp began (modulo the sweep), of what is at `position_s`; None if no chirp."""
    start = round((position_s - window_s / 2) * track.rate)
    size = round(window_s * track.rate)
    if start < 0 or start + size > len(track.samples):
        return None
    estimate = _ChirpWindow(chirp, track.rate, size).measure(track.samples[start : start + size])
    if estimate is None:
        return None
    return (estimate[0] + position_s - (start + (size - 1) / 2) / track.rate) % chirp.sweep_s


def chirp_stretches(track: Track, chirp: Chirp) -> list[Stretch]:
    """The unbroken stretches of a chirp, with their edges to about 1 ms, in the order of the track."""
    size = round(CHIRP_WINDOW_S * track.rate)
    window = _ChirpWindow(chirp, track.rate, size)
    runs: list[list[tuple[float, float]]] = []  # (centre of the window, offset)
    for start in range(0, len(track.samples) - size + 1, round(CHIRP_HOP_S * track.rate)):
        estimate = window.measure(track.samples[start : start + size])
        if estimate is None:
            continue
        centre = (start + (size - 1) / 2) / track.rate
        offset = estimate[0] - centre
        if runs and abs(_wrapped(offset - runs[-1][-1][1], chirp.sweep_s)) < SAME_LINE_S:
            near = runs[-1][-1][1]
            runs[-1].append((centre, near + _wrapped(offset - near, chirp.sweep_s)))
        else:
            runs.append([(centre, offset)])
    lines = [_Line.fitted(track, chirp, run) for run in runs if len(run) >= 3]
    edges = [_border(track, before, after) for before, after in pairwise([None, *lines, None])]
    return [
        Stretch(start / track.rate, end / track.rate, one.offset_s, one.error_s, one.amplitude)
        for one, (_, start), (end, _) in zip(lines, edges, edges[1:], strict=False)
    ]


def locate(track: Track, sound: Track, *, after_s: float = 0.0, most_slip_s: float = 0.0) -> Found | None:
    """Where a known sound (a prompt) is best heard in a track, and how much of it; None when it is not there.

    Silence at the sound's end cannot be heard and does not count: what is silent there may be anything. A phone on a
    busy machine drops or repeats a packet: up to `most_slip_s` of a gap or shift is bridged, if the sound goes on.
    """
    part = track.part(after_s)
    audible = np.flatnonzero(np.abs(sound.samples) > PRESENT)
    sound = Track(sound.samples[: audible[-1] + 1 if len(audible) else 0], sound.rate)
    head = sound.samples[: round(max(BLOCK_S * 5, 0.5) * sound.rate)]
    if len(part.samples) < len(head) or not np.any(head):
        return None
    start = int(np.argmax(_correlation(part.samples, head)))
    block, most_slip = round(BLOCK_S * sound.rate), round(most_slip_s * sound.rate)
    good = slip = unlike = 0
    pieces: list[Samples] = []
    wanted: list[Samples] = []
    for begin in range(0, len(sound.samples), block):
        want = sound.samples[begin : begin + block]
        at = _near(part.samples, want, start + begin + slip, most_slip)
        if at is None:
            unlike += len(want)
            if unlike > most_slip:
                break
            continue
        slip, unlike, good = at - start - begin, 0, begin + len(want)
        pieces.append(part.samples[at : at + len(want)])
        wanted.append(want)
    if good == 0:
        return None
    score = _alike(np.concatenate(pieces), np.concatenate(wanted))
    complete = good == len(sound.samples)
    return Found(after_s + start / track.rate, good / track.rate, complete, score, slip / track.rate)


def without(track: Track, hertz: float) -> Track:
    """The track without a tone that is in all of it: what was said over the tone is left, like itself but for that."""
    b, a = iirnotch(hertz, NOTCH_Q, fs=track.rate)
    return Track(np.asarray(filtfilt(b, a, track.samples)), track.rate)


class _ChirpWindow:
    """Measures the chirp time at the centre of windows of one size: undo the sweep, then read the frequency."""

    def __init__(self, chirp: Chirp, rate: int, size: int) -> None:
        self._chirp, self._rate = chirp, rate
        t = (np.arange(size) - (size - 1) / 2) / rate
        self._taper = np.hanning(size + 2)[1:-1]
        self._undo = np.exp(-1j * np.pi * chirp.slope * t * t) * self._taper
        self._fft_size = 1 << (size * 8 - 1).bit_length()
        step = rate / self._fft_size
        self._low = max(int((chirp.low_hz - 20) / step), 1)
        self._high = int((chirp.high_hz + 20) / step) + 1

    def measure(self, samples: Samples) -> tuple[float, float] | None:
        """(chirp time, amplitude), or None when no chirp dominates its band in this window."""
        spectrum = np.abs(np.fft.fft(samples * self._undo, self._fft_size))
        band = spectrum[self._low : self._high]
        peak = int(np.argmax(band))
        if not 0 < peak < len(band) - 1:
            return None
        amplitude = 2 * float(band[peak]) / float(self._taper.sum())
        # A stretch broken inside the window, or another sound, leaves much of the power beside the peak.
        inside = band[max(peak - 24, 0) : peak + 25]
        if amplitude < PRESENT or np.sum(inside**2) < 0.8 * np.sum(band**2):
            return None
        before, at, after = np.log(np.maximum(band[peak - 1 : peak + 2], 1e-12))
        shift = 0.5 * (before - after) / (before - 2 * at + after)
        hertz = (self._low + peak + shift) * self._rate / self._fft_size
        return (hertz - self._chirp.low_hz) / self._chirp.slope % self._chirp.sweep_s, amplitude


@dataclass(frozen=True)
class _Line:
    """A chirp as it lies in a track: `first_s` and `last_s` are the centres of its first and last window."""

    chirp: Chirp
    first_s: float
    last_s: float
    offset_s: float
    error_s: float
    amplitude: float

    @classmethod
    def fitted(cls, track: Track, chirp: Chirp, run: list[tuple[float, float]]) -> _Line:
        offsets = np.array([offset for _, offset in run])
        offset = float(np.median(offsets))
        error = float(np.percentile(np.abs(offsets - offset), 95))
        bare = cls(chirp, run[0][0], run[-1][0], offset, error, 0.0)
        pieces = np.arange(bare.first_s, bare.last_s, CHIRP_HOP_S)
        return replace(
            bare, amplitude=float(np.median([abs(bare._phasor(track, at, at + CHIRP_HOP_S)) for at in pieces]))
        )

    def gain(self, track: Track, begin: int, end: int, near_s: float) -> Samples:
        """Sample by sample, how much better "this chirp" explains the track than "no chirp": below 0 where it is not.

        Its phase is taken from within the run, nearest to `near_s`.
        """
        start = min(max(near_s, self.first_s), max(self.last_s - CHIRP_WINDOW_S, self.first_s))
        phasor = self._phasor(track, start, min(start + CHIRP_WINDOW_S, max(self.last_s, start + CHIRP_HOP_S)))
        model = np.real(phasor * self._turning(track, begin, end))
        samples: Samples = track.samples[begin:end]
        return 2 * samples * model - model * model

    def _phasor(self, track: Track, start_s: float, end_s: float) -> complex:
        begin, end = round(start_s * track.rate), round(end_s * track.rate)
        return complex(2 * np.mean(track.samples[begin:end] * np.conj(self._turning(track, begin, end))))

    def _turning(self, track: Track, begin: int, end: int) -> npt.NDArray[np.complex128]:
        t = (np.arange(begin, end) / track.rate + self.offset_s) % self.chirp.sweep_s
        turning: npt.NDArray[np.complex128] = np.exp(
            2j * np.pi * (self.chirp.low_hz * t + self.chirp.slope / 2 * t * t)
        )
        return turning


def _border(track: Track, before: _Line | None, after: _Line | None) -> tuple[int, int]:
    """Where one chirp ends and the next begins, as sample numbers: the two that explain the samples best.

    The search stays within a window of the outermost ones measured; beyond, the chirp is certainly there or not.
    """
    reach = round(1.5 * CHIRP_WINDOW_S * track.rate)
    low = 0 if before is None else round(before.last_s * track.rate)
    high = len(track.samples) if after is None else round(after.first_s * track.rate)
    if before is not None and after is not None and high - low > 2 * reach:
        return _border(track, before, None)[0], _border(track, None, after)[1]
    if before is None:
        low = max(low, high - reach)
    if after is None:
        high = min(high, low + reach)
    nothing = np.zeros(max(high - low, 0))
    left = nothing if before is None else before.gain(track, low, high, before.last_s)
    right = nothing if after is None else after.gain(track, low, high, after.first_s)
    until = np.concatenate(([0.0], np.cumsum(left)))  # what `before` explains, ending at each sample
    onward = np.concatenate((np.cumsum(right[::-1])[::-1], [0.0]))
    begin = int(np.argmax(onward + np.maximum.accumulate(until)))
    return low + int(np.argmax(until[: begin + 1])), low + begin


def _cuts(tracks: Sequence[Track], window_s: float) -> Iterator[Track]:
    """Short pieces of the tracks with nothing around them, as a recording that begins or ends there has."""
    for track in tracks:
        length = 3 * window_s
        for start_s in np.linspace(0, max(track.seconds - length, 0), CUTS):
            yield track.part(start_s, start_s + length)


def _sampled(values: npt.NDArray[np.float64], rate: int, hop_s: float) -> Levels:
    hop = max(round(hop_s * rate), 1)
    return Levels(np.arange(0, len(values), hop) / rate, values[::hop])


def _spans(measured: Levels, threshold: float) -> list[Span]:
    above = np.concatenate(([False], measured.amplitudes > threshold, [False]))
    edges = np.flatnonzero(np.diff(above.astype(np.int8)))
    return [
        Span(
            float(measured.times_s[first]),
            float(measured.times_s[past - 1]),
            float(measured.amplitudes[first:past].max()),
        )
        for first, past in zip(edges[::2], edges[1::2], strict=True)
    ]


def _correlation(long: Samples, short: Samples) -> npt.NDArray[np.float64]:
    """Normalised cross-correlation at every start, with nearly silent places counted as no match."""
    dot = fftconvolve(long, short[::-1], mode="valid")
    energy = np.cumsum(np.concatenate(([0.0], long**2)))
    local = energy[len(short) :] - energy[: -len(short)]
    own = float(np.sum(short**2))
    score: npt.NDArray[np.float64] = dot / np.sqrt(np.maximum(local, own * 1e-3) * own)
    return score


def _alike(a: Samples, b: Samples) -> float:
    """Correlation of two equally long pieces; two silences are alike."""
    power_a, power_b = float(np.sum(a * a)), float(np.sum(b * b))
    silent = len(a) * (PRESENT / 4) ** 2
    if power_b < silent:
        return 1.0 if power_a < 4 * silent else 0.0
    return float(np.sum(a * b)) / math.sqrt(max(power_a, 1e-12) * power_b)


def _near(samples: Samples, want: Samples, at: int, most_slip: int) -> int | None:
    """Where a block of a sound is heard, at most `most_slip` samples from where it is due; None when it is not."""
    if len(samples[at : at + len(want)]) == len(want) and _alike(samples[at : at + len(want)], want) >= BLOCK_SCORE:
        return at
    first = max(at - most_slip, 0)
    around = samples[first : at + len(want) + most_slip]
    if most_slip == 0 or len(around) < len(want) or not np.any(want):
        return None
    best = int(np.argmax(_correlation(around, want)))
    return first + best if _alike(around[best : best + len(want)], want) >= BLOCK_SCORE else None


def _wrapped(difference: float, period: float) -> float:
    return (difference + period / 2) % period - period / 2
