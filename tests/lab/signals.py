"""Owns: what the lab's parties say. Each sound tells who spoke, and a chirp also tells when.

The bands are apart, so that a 5 ms window knows every voice from every other: chirps sweep 300-900 Hz, music on
hold is 1150 Hz, voices are the tones of `VOICES`. A voice that is cut off clicks at every frequency: to 800 Hz away
with a tenth of its amplitude, to 400 Hz with a quarter. So the first three are 800 Hz apart; the fourth is not.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float64]  # -1..1

LEVEL = 0.3  # of full scale: loud enough for A-law, and three voices at once do not clip
MUSIC_HZ = 1150.0
VOICES = (1500.0, 2300.0, 3100.0, 1900.0)


@dataclass(frozen=True)
class Tone:
    """A steady sine. `hertz` should be a multiple of 10, so that it loops without a click."""

    hertz: float
    level: float = LEVEL

    def samples(self, rate: int) -> Samples:
        """Ten seconds of it, to be looped."""
        return self.level * np.sin(2 * np.pi * self.hertz * np.arange(rate * 10) / rate)


@dataclass(frozen=True)
class Chirp:
    """A linear sweep from `low_hz` to `high_hz` in `sweep_s` seconds, again and again.

    Its frequency tells the time since its start, modulo `sweep_s`.
    """

    low_hz: float = 300.0
    high_hz: float = 900.0
    sweep_s: float = 15.0
    level: float = LEVEL

    @property
    def slope(self) -> float:
        """Hz per second."""
        return (self.high_hz - self.low_hz) / self.sweep_s

    def frequency_at(self, time_s: float) -> float:
        return self.low_hz + self.slope * (time_s % self.sweep_s)

    def samples(self, rate: int) -> Samples:
        """One sweep, to be looped."""
        t = np.arange(round(rate * self.sweep_s)) / rate
        return self.level * np.sin(2 * np.pi * (self.low_hz * t + self.slope / 2 * t * t))


@dataclass(frozen=True)
class Silence:
    """Packets with nothing in them: an open microphone in a quiet room."""

    def samples(self, rate: int) -> Samples:
        return np.zeros(rate)


@dataclass(frozen=True)
class Wav:
    """A file that is there already: mono, 16 bits, at the lab's rate."""

    path: Path


Sound: TypeAlias = Tone | Chirp | Silence | Wav


def file_of(sound: Sound, rate: int, folder: Path) -> Path:
    """A WAV of the sound in `folder`, made once."""
    if isinstance(sound, Wav):
        return sound.path
    mark = "-".join([type(sound).__name__, *(f"{value:g}" for value in vars(sound).values()), str(rate)])
    path = folder / f"{mark}.wav"
    if not path.exists():
        write_wav(path, sound.samples(rate), rate)
    return path


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Mono, 16 bits."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm(samples).tobytes())


def pcm(samples: Samples) -> npt.NDArray[np.int16]:
    return np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")


def alaw(samples: Samples) -> bytes:
    """G.711 A-law (ITU-T G.711), one byte a sample, as telephony carries and SIPp's `rtp_stream` sends it."""
    value = pcm(samples).astype(np.int32) >> 3
    sign = np.where(value >= 0, 0xD5, 0x55)
    size = np.where(value >= 0, value, -value - 1)
    exponent = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 4, 0)
    segment = np.minimum(exponent, 7)
    mantissa = np.where(segment == 0, size >> 1, size >> np.maximum(segment, 1)) & 0x0F
    return ((segment << 4 | mantissa) ^ sign).astype(np.uint8).tobytes()


def from_alaw(data: bytes) -> Samples:
    """What a G.711 decoder makes of it."""
    code = np.frombuffer(data, np.uint8).astype(np.int32) ^ 0x55
    segment, mantissa = (code & 0x70) >> 4, code & 0x0F
    size = np.where(segment == 0, mantissa * 2 + 1, (mantissa * 2 + 33) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, size, -size) * 8 / 32768.0
