"""Owns: what script/demo prints, taken apart as who reads it would; it imports nothing of the demo that prints it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

HEADER = ("call", "decision", "why", "sound", "folder")
BAR = "█━"
NUMBER = r"(\d+(?:\.\d+)?)"


@dataclass
class Row:
    """One row of the table; `number` is empty for what a call became afterwards."""

    number: str
    call: str = ""
    decision: str = ""
    why: list[str] = field(default_factory=list)
    """Without any blanks, since a reason may go on in the next line."""
    sound: str = ""
    place: str = ""


def rows(text: str) -> list[Row]:
    """The table: its header says where each column begins, a reason begins with a dot, an empty line ends it."""
    lines = text.splitlines()
    begin, header = next((n, line) for n, line in enumerate(lines) if all(word in line for word in HEADER))
    edges = [0, *(header.index(word) for word in HEADER), None]
    found: list[Row] = []
    for line in lines[begin + 1 :]:
        if not line.strip():
            break
        number, call, decision, why, sound, place = (line[first:last].strip() for first, last in pairwise(edges))
        if number or call.startswith("└"):
            found.append(Row(number))
        row = found[-1]
        row.call = f"{row.call} {call.removeprefix('└')}".strip()
        row.decision = f"{row.decision} {decision}".strip()
        row.sound, row.place = row.sound + sound, row.place + place
        if why.startswith("·"):
            row.why.append("")
        if why:
            row.why[-1] += blankless(why.removeprefix("·"))
    return found


def blankless(text: str) -> str:
    """A sentence as `rows` gives it."""
    return "".join(text.split())


@dataclass(frozen=True)
class Picture:
    """The timeline. Bars are columns (first, behind the last) by what they show; marks are seconds and sentence."""

    bars: Mapping[str, list[tuple[int, int]]]
    per_second: float
    zero: int
    marks: list[tuple[float, str]]
    text: list[str]

    def seconds(self, column: int) -> float:
        """What instant a column shows, to `cell_s`."""
        return (column - self.zero) / self.per_second

    @property
    def cell_s(self) -> float:
        return 1 / self.per_second


def picture(text: str) -> Picture:
    """The timeline: an axis of seconds, bars below it, each named on its left, marks explained below them."""
    lines = text.splitlines()
    top = next(n for n, line in enumerate(lines) if re.match(r" +├[─┬]+$", line))
    zero = lines[top].index("├")
    labels = [(m.start(), int(m[1])) for m in re.finditer(r"(\d+) s", lines[top - 1])]
    (first, from_s), (last, to_s) = labels[0], labels[-1]
    bars: dict[str, list[tuple[int, int]]] = {}
    marks: list[tuple[float, str]] = []
    drawn: list[str] = []
    who = ""
    for line in lines[top + 1 :]:
        if not line.strip():
            break
        drawn.append(line)
        if mark := re.search(rf"{NUMBER} s  (.*?)(?: ┘|$)", line):
            marks.append((float(mark[1]), mark[2].rstrip(" ┊")))
        elif name := line[:zero].strip():
            who = line[:17].strip() or who
            bars[f"{who}: {line[17:zero].strip()}" if len(name) else who] = _bars(line, zero)
    return Picture(bars, (last - first) / (to_s - from_s), zero, marks, drawn)


def _bars(line: str, zero: int) -> list[tuple[int, int]]:
    """A bar may have a text in it, between two blanks."""
    return [(m.start() + zero, m.end() + zero) for m in re.finditer(rf"[{BAR}]+( [^{BAR}┊]+ [{BAR}]+)?", line[zero:])]


@dataclass(frozen=True)
class Softphone:
    """An account as it is printed, and what may be dialled with it: a promise by number."""

    who: str
    user: str
    password: str
    server: str
    numbers: Mapping[str, str]


def softphones(text: str) -> list[Softphone]:
    """Who one may be, in the order in which it is printed."""
    account = re.compile(r"^ +(as .*?)  +user (\S+) +password (\S+) +server (\S+)$")
    found: list[Softphone] = []
    numbers: dict[str, str] = {}
    for line in text.splitlines():
        if who := account.match(line):
            numbers = {}
            found.append(Softphone(who[1], who[2], who[3], who[4], numbers))
        elif found and (promise := re.match(r"^ +(\d+)  +(\S.*)$", line)):
            numbers[promise[1]] = promise[2]
        elif found and not line.strip():
            break
    return found


def commands(text: str) -> list[str]:
    """What may be typed in another terminal, `alias` first, in the order in which it is printed."""
    after = text[text.index("in another terminal") :]
    return re.findall(r"^ +((?:alias )?pbxguard\b.*)$", after, re.MULTILINE)
