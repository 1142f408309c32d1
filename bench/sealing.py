"""How fast recordings are sealed: `python -m bench.sealing [--minutes 10]`.

From the two spool files of a call to the tagged, hashed FLAC file with its manifest's digests: reading and joining,
encoding, tags, SHA-256; one core. Not in it: index, audit log, and fsync, which is the disk's. Speech is imitated:
syllables of filtered noise, one side at a time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from pbxguard.sound.flac import encode, sha256, write_tags
from pbxguard.sound.tracks import Joined, Piece

SYLLABLE_S, TURN_S = 0.25, 4.0
FORMANTS = ([1.0], [1.0, -1.6, 0.81])
TAGS = [("PURPOSES", "contract_evidence"), ("CALLER_ID", "+31600000000")]


def speech(seconds: float, rate: int, *, first: bool, seed: int) -> npt.NDArray[np.int16]:
    """One side of a talk in turns of 4 s, with line noise in the other's turns."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    noise = lfilter(*FORMANTS, random.standard_normal(len(t)))
    loud = np.sin(np.pi * t / SYLLABLE_S) ** 2 * ((t // TURN_S).astype(int) % 2 == (0 if first else 1))
    found: npt.NDArray[np.int16] = (noise * (1500 * loud + 4)).astype("<i2")
    return found


def seal(own: Path, others: Path, target: Path, rate: int) -> int:
    """All of sealing that costs CPU. Gives the samples in each channel."""
    joined = Joined([Piece(own, others, own.stat().st_size // 2)])
    samples = encode(target, joined.blocks(), rate)
    write_tags(target, TAGS)
    sha256(target)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=int, default=8000, choices=(8000, 16000))
    options = parser.parse_args()
    seconds, speeds = options.minutes * 60, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own, others = folder / "own.sln", folder / "others.sln"
        speech(seconds, options.rate, first=True, seed=1).tofile(own)
        speech(seconds, options.rate, first=False, seed=2).tofile(others)
        kept = own.stat().st_size // 2
        for run in range(options.runs):
            target = folder / f"{run}.flac"
            began = time.process_time()
            samples = seal(own, others, target, options.rate)
            spent = time.process_time() - began
            assert samples == kept
            speeds.append(seconds / spent)
            share = target.stat().st_size / (4 * kept)
            print(
                f"run {run + 1}: {speeds[-1]:,.0f} times real time on a core, {share:.0%} of the PCM's size", flush=True
            )
    print(f"median of {options.runs}: {statistics.median(speeds):,.0f} times real time (least {min(speeds):,.0f})")


if __name__ == "__main__":
    main()
