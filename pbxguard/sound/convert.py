"""Any sound to mono 16-bit at the installation's rate, for prompts; recordings of calls are never converted.

The rate is changed in the frequency domain, over the whole sound at once: prompts are short. Blocking: call it in a
thread.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pbxguard.core.errors import PromptRefused

Mono = NDArray[np.float64]
"""Samples from -1 to 1."""
LONGEST_SECONDS = 60.0
SHORTEST_SECONDS = 0.2
PEAK = 0.7
"""About -3 dBFS: loud enough for a telephone, with room for a codec's overshoot."""
AUDIBLE = 10 ** (-50 / 20)
"""Of full scale; what stays below, after levelling, is silence."""
_EDGE_SECONDS = 0.05
"""Silence kept before and after what is audible."""
_MARGIN_SECONDS = 0.1


def read_sound(path: Path) -> tuple[Mono, int]:
    """Read a sound file of any kind that libsndfile knows, mixed to mono, with its rate; raises PromptRefused."""
    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.samplerate <= 192_000:
                raise PromptRefused("the sound's rate is not one of a sound")
            if file.frames > LONGEST_SECONDS * file.samplerate:
                raise PromptRefused(f"the sound is longer than {LONGEST_SECONDS:.0f} s")
            audio = file.read(dtype="float64", always_2d=True)
            rate = int(file.samplerate)
    except (OSError, soundfile.LibsndfileError) as error:
        raise PromptRefused("the sound file cannot be read", "Give a WAV file, mono, 16-bit.") from error
    return audio.mean(axis=1), rate


def resample(sound: Mono, rate: int, wanted: int) -> Mono:
    """The sound at `wanted` samples a second. Everything above 0.45 of the lower rate fades out, above 0.49 is gone."""
    if rate == wanted or not len(sound):
        return sound
    divisor = math.gcd(rate, wanted)
    before, after = rate // divisor, wanted // divisor
    margin = math.ceil(_MARGIN_SECONDS * rate / before) * before
    padded_length = math.ceil((len(sound) + 2 * margin) / before) * before
    padded = np.zeros(padded_length)
    padded[margin : margin + len(sound)] = sound
    length = padded_length // before * after
    spectrum = np.fft.rfft(padded)
    frequencies = np.fft.rfftfreq(padded_length, 1 / rate)
    lower = min(rate, wanted)
    fade = np.clip((0.49 * lower - frequencies) / (0.04 * lower), 0.0, 1.0)
    spectrum *= 0.5 - 0.5 * np.cos(np.pi * fade)
    bins = length // 2 + 1
    kept = np.zeros(bins, dtype=np.complex128)
    kept[: min(bins, len(spectrum))] = spectrum[:bins]
    result = np.fft.irfft(kept, length) * (length / padded_length)
    begin = margin // before * after
    return result[begin : begin + math.ceil(len(sound) * wanted / rate)]


def level(sound: Mono) -> Mono:
    """The sound with its peak at `PEAK`; raises PromptRefused for silence."""
    peak = float(np.abs(sound).max(initial=0.0))
    if not np.isfinite(peak) or peak < AUDIBLE:
        raise PromptRefused("the sound is silent")
    return sound * (PEAK / peak)


def trim(sound: Mono, rate: int) -> Mono:
    """Without the silence at its ends, but for a little."""
    audible = np.flatnonzero(np.abs(sound) >= AUDIBLE)
    edge = int(_EDGE_SECONDS * rate)
    return sound[max(0, audible[0] - edge) : audible[-1] + 1 + edge] if len(audible) else sound[:0]


def to_prompt(sound: Mono, rate: int, wanted: int) -> NDArray[np.int16]:
    """Levelled, trimmed, 16-bit, at the `wanted` rate; raises PromptRefused for silence and for less than 0.2 s."""
    ready = trim(level(resample(sound, rate, wanted)), wanted)
    if len(ready) < SHORTEST_SECONDS * wanted:
        raise PromptRefused(f"the sound is shorter than {SHORTEST_SECONDS} s")
    return np.round(ready * 32767).astype(np.int16)
