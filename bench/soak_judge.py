"""Owns: what a soak's calls must have left, judged from AMI's events and the files' samples alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from bench.memory import resident_mib

SETTLING_S = 3.0
"""After an outage: a call of this time is not owed a recording yet."""
OWED_S = 1.5
"""A told call with so much permitted talk in one piece is owed exactly one recording."""
WINDOW_S = 0.05
AUDIBLE = 0.02
"""Amplitude of the forbidden tone, in a window, that counts; it is sent at 0.3 (the control says what is found)."""


@dataclass(frozen=True)
class Outage:
    kind: str
    began: float
    ended: float


@dataclass
class Life:
    """One caller's channel. Moments are monotonic seconds."""

    number: str
    began: float
    result: str = ""
    bridged: float | None = None
    held: float | None = None
    ended: float | None = None
    entered: int = 0


@dataclass
class Seen:
    """Every caller's channel by its uniqueid."""

    lives: dict[str, Life] = field(default_factory=dict)

    def take(self, events: Sequence[dict[str, str]]) -> None:
        for event in events:
            at = float(event["received"])
            if event["Event"] == "Newchannel" and event["Channel"].startswith("PJSIP/trunk-"):
                self.lives[event["Uniqueid"]] = Life(event.get("CallerIDNum", ""), at)
            elif event["Event"] == "BridgeEnter" and (life := self.lives.get(event["Linkedid"])):
                life.entered += 1
                if life.entered == 2:
                    life.bridged = at
            elif life := self.lives.get(event.get("Uniqueid", "")):
                match event["Event"]:
                    case "UserEvent" if event.get("UserEvent") == "LoadCall":
                        life.result = event["Result"]
                    case "Hold":
                        life.held = life.held or at
                    case "Hangup":
                        life.ended = at


@dataclass
class Samples:
    """File descriptors and resident memory of each process, by its pid."""

    rows: dict[tuple[str, int], list[tuple[float, int, float]]] = field(default_factory=dict)

    def take(self, name: str, pid: int) -> None:
        """Raises OSError when it is gone."""
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        self.rows.setdefault((name, pid), []).append((time.monotonic(), descriptors, resident_mib(pid)))

    def text(self) -> str:
        """The longest life of each program: descriptors and MiB at its begin, middle and end; most of all lives."""
        lines = []
        for program in ("asterisk", "pbxguard"):
            lives = [rows for (name, _), rows in self.rows.items() if name == program]
            longest = max(lives, key=len)
            points = [longest[min(len(longest) - 1, len(longest) * part // 4)] for part in (1, 2, 3, 4)]
            lines.append(
                f"{program}: {len(lives)} lives; the longest, {longest[-1][0] - longest[0][0]:.0f} s, at each quarter: "
                + ", ".join(f"{descriptors} descriptors {memory:.0f} MiB" for _, descriptors, memory in points)
                + f"; most of any: {max(d for rows in lives for _, d, _ in rows)} descriptors, "
                + f"{max(m for rows in lives for _, _, m in rows):.0f} MiB"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    good: bool
    text: str


def judge(
    seen: Seen,
    outages: Sequence[Outage],
    files: Sequence[Path],
    stays: Collection[str],
    *,
    held_hz: float,
    left: Sequence[Path],
) -> Verdict:
    """Everything that must hold, and how often it did."""
    down = [o for o in outages if o.kind.startswith("asterisk")]
    away = [o for o in outages if not o.kind.startswith("asterisk")]
    whole = {
        one: life
        for one, life in seen.lives.items()
        if life.ended is not None and not any(_meet(o, life.began, life.ended, SETTLING_S) for o in down)
    }
    lost = {one for one, life in whole.items() if life.bridged is None}
    named = [(json.loads(file.with_suffix(".json").read_text())["call"]["uniqueid"], file) for file in files]
    of_call = Counter(call for call, _ in named)
    doubled = {call for call, count in of_call.items() if count > 1}
    told = {one for one, life in whole.items() if life.result in ("DISCLOSED", "CONSENTED")}
    owed = {one for one in told if _talk(whole[one], away) >= OWED_S}
    missing = owed - set(of_call)
    untold = {call for call in of_call if call in whole and call not in told}
    levels = {call: loudest(file, held_hz) for call, file in named if call in seen.lives}
    staying = {call for call in levels if seen.lives[call].number in stays}
    controls = [levels[call] for call in staying if _undisturbed(seen.lives[call], outages)]
    deaf = sum(level <= AUDIBLE for level in controls)
    others = levels.keys() - staying
    forbidden = {call for call in others if levels[call] > AUDIBLE}
    quietest = max((levels[call] for call in others - forbidden), default=0.0)
    good = not (lost or doubled or missing or untold or forbidden or deaf or left) and bool(controls)
    lines = [
        f"{len(seen.lives)} calls seen, {len(whole)} of them whole (no end of Asterisk in them)",
        f"of these told: {len(told)}; recordings in all: {len(files)}",
        f"calls lost to pbxguard: {len(lost)} {_some(lost)}",
        f"recordings owed: {len(owed)}, missing {len(missing)} {_some(missing)}",
        f"recordings doubled: {len(doubled)} {_some(doubled)}",
        f"recordings of callers who were not told: {len(untold)} {_some(untold)}",
        f"files with the forbidden tone: {len(forbidden)} {_some(forbidden)} (elsewhere it is {quietest:.4f} at most)",
        f"controls that do not hold: {len(controls)}, the tone found in {len(controls) - deaf}",
        f"spool files left: {len(left)}",
    ]
    return Verdict(good, "\n".join(lines))


def _meet(outage: Outage, began: float, ended: float, more: float = 0.0) -> bool:
    return outage.began < ended and began < outage.ended + more


def _undisturbed(life: Life, outages: Sequence[Outage]) -> bool:
    return life.ended is not None and not any(_meet(o, life.began, life.ended, SETTLING_S) for o in outages)


def _talk(life: Life, away: Sequence[Outage]) -> float:
    """Seconds of the longest stretch of its talk in which pbxguard was well."""
    if life.bridged is None or life.ended is None:
        return 0.0
    begin, end, longest = life.bridged, life.held or life.ended, 0.0
    for outage in sorted(away, key=lambda o: o.began):
        if outage.began > end or outage.ended + SETTLING_S < begin:
            continue
        longest = max(longest, outage.began - begin)
        begin = max(begin, outage.ended + SETTLING_S)
    return max(longest, end - begin)


def loudest(file: Path, hertz: float) -> float:
    """The highest amplitude of a tone in any window of either track."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    size = round(WINDOW_S * rate)
    probe = np.exp(-2j * np.pi * hertz * np.arange(size) / rate) * np.hanning(size)
    scale, most = 2 / np.hanning(size).sum(), 0.0
    for track in samples.T:
        if len(track) >= size:
            frames = np.lib.stride_tricks.sliding_window_view(track, size)[:: size // 4]
            most = max(most, float(np.abs(frames @ probe).max() * scale))
    return most


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5])
