"""Owns: how the demo looks. Plain data in, Rich renderables out; no measuring and no waiting happens here.

Everything is readable without colour, since CI shows none, at 100 columns and, with less room for words, at 80, which
is what a terminal has when nobody made it wider.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

WIDTH, NARROW = 100, 80
FULL, THIN = "█", "━"
GUIDE = "┊"
TICK_CELLS = 7
"""Least cells between two labels of the time axis."""
CALL, WHY = 19, 35
"""Columns of the table's longest texts."""
PLACE = 14
LABELS = (17, 18)
"""Columns of who hears, and of whom."""


def fitting(columns: int) -> int:
    """The width to draw in, on a terminal of so many columns."""
    return min(max(columns, NARROW), WIDTH)


# -- while the calls last ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """How far one call is. `style` is Rich's; `seconds` since the call began, None before."""

    title: str
    state: str
    style: str = ""
    seconds: float | None = None


def progress(lines: Sequence[Line]) -> Table:
    """A line for each call, of 80 columns at most."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right", style="dim")
    table.add_column(width=32)
    table.add_column(width=32)
    table.add_column(justify="right", style="dim", width=7)
    for number, line in enumerate(lines, 1):
        passed = "" if line.seconds is None else f"{line.seconds:.1f} s"
        table.add_row(str(number), line.title, Text(line.state, style=line.style), passed)
    return table


# -- what became of them -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One call, or what a call became after a transfer (`then`). `why` are pbxguard's own words, one a line."""

    title: str
    recorded: bool
    why: Sequence[str]
    seconds: float | None = None
    place: str = ""
    then: bool = False
    wrong: str = ""
    """What is not as it should be."""


def table(rows: Sequence[Row], width: int = WIDTH) -> Table:
    """Call, decision, reasons, seconds of sound, and where it lies: below the call, where there is no room beside."""
    beside = width >= WIDTH
    why_columns = WHY if beside else width - WIDTH + WHY + PLACE + 2
    made = Table(box=None, padding=(0, 2, 0, 0), width=width, header_style="bold underline")
    made.add_column("", justify="right", style="dim", width=1)
    made.add_column("call", width=CALL)
    made.add_column("decision", width=14)
    made.add_column("why, in pbxguard's own words", width=why_columns)
    made.add_column("sound", justify="right", width=5)
    if beside:
        made.add_column("folder", width=PLACE)
    number = 0
    for row in rows:
        number += not row.then
        decision = Text("● recorded", style="bold red") if row.recorded else Text("○ not recorded", style="cyan")
        why = Text("\n".join(_hanging("· ", reason, why_columns) for reason in row.why))
        if row.wrong:
            why.append("\n" + _hanging("✗ ", row.wrong, why_columns), style="bold red")
        call = Text(_hanging("└ " if row.then else "", row.title, CALL))
        if row.place and not beside:
            call.append(f"\n{row.place}", style="dim")
        made.add_row(
            "" if row.then else str(number),
            call,
            decision,
            why,
            "none" if row.seconds is None else f"{row.seconds:.1f} s",
            *([Text(row.place)] if beside else []),
        )
    return made


def _hanging(bullet: str, text: str, width: int) -> str:
    return textwrap.fill(bullet + text, width, subsequent_indent=" " * len(bullet), break_long_words=True)


# -- who could hear whom -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """From `start_s` to `end_s`, with a text in it where it fits."""

    start_s: float
    end_s: float
    text: str = ""


@dataclass(frozen=True)
class Track:
    """One line of the picture: `who` hears `what` while a bar lasts."""

    who: str
    what: str
    bars: Sequence[Bar]
    style: str = ""
    fill: str = FULL


@dataclass(frozen=True)
class Mark:
    """An instant that the whole picture shows as a vertical line, explained below the axis."""

    at_s: float
    says: str


@dataclass(frozen=True)
class Timeline:
    """Everything on one axis that begins at 0 s and ends at `seconds`."""

    seconds: float
    tracks: Sequence[Track]
    marks: Sequence[Mark]


def timeline(picture: Timeline, width: int = WIDTH) -> Text:
    """The picture as lines of at most `width` columns."""
    cells = width - sum(LABELS) - 1
    axis = _Axis(cells, cells / picture.seconds)
    guides = {axis.cell(mark.at_s) for mark in picture.marks}
    margin = Text(" " * sum(LABELS))
    lines = [margin + Text(axis.numbers(), style="dim"), margin + Text(axis.ticks(), style="dim")]
    before = ""
    for track in picture.tracks:
        who, before = ("" if track.who == before else track.who), track.who
        line = Text(f"{who:<{LABELS[0]}}").append(f"{track.what:<{LABELS[1]}}", style="dim" if track.what else "")
        lines.append(line + _drawn(track, axis, guides))
    lines.append(margin + Text(_blank(cells, guides), style="dim"))
    for mark in sorted(picture.marks, key=lambda mark: mark.at_s):
        lines.append(_explained(mark, axis, guides))
        guides = guides - {axis.cell(mark.at_s)}
    for line in lines:
        line.rstrip()
    return Text("\n", no_wrap=True).join(lines)


@dataclass(frozen=True)
class _Axis:
    cells: int
    per_second: float

    def cell(self, at_s: float) -> int:
        """The cell that an instant falls into; what lies outside is drawn at the edge."""
        return min(max(int(at_s * self.per_second), 0), self.cells - 1)

    @property
    def step_s(self) -> int:
        return next((step for step in (1, 2, 5, 10, 20, 50) if step * self.per_second >= TICK_CELLS), 100)

    def numbers(self) -> str:
        row = [" "] * self.cells
        for second in range(0, int(self.cells / self.per_second) + 1, self.step_s):
            label = f"{second} s"
            at = self.cell(second)
            if at + len(label) <= self.cells:
                row[at : at + len(label)] = label
        return "".join(row)

    def ticks(self) -> str:
        row = ["─"] * self.cells
        for second in range(0, int(self.cells / self.per_second) + 1):
            row[self.cell(second)] = "┬" if second % self.step_s == 0 else "─"
        row[0] = "├"
        return "".join(row)


def _drawn(track: Track, axis: _Axis, guides: set[int]) -> Text:
    line = Text(_blank(axis.cells, guides), style="dim")
    for bar in track.bars:
        first, last = axis.cell(bar.start_s), max(axis.cell(bar.end_s), axis.cell(bar.start_s) + 1)
        inside = f" {bar.text} " if bar.text and len(bar.text) + 4 <= last - first else ""
        drawn = Text(inside.center(last - first, track.fill).replace(" ", "\0"), style=track.style)
        drawn.plain = drawn.plain.replace("\0", " ")
        line = line[:first] + drawn + line[last:]
    return line


def _blank(cells: int, guides: set[int]) -> str:
    return "".join(GUIDE if cell in guides else " " for cell in range(cells))


def _explained(mark: Mark, axis: _Axis, guides: set[int]) -> Text:
    """`└ 4.60 s  told ...`, or to the left of the mark, where there is no room to its right."""
    margin, at = sum(LABELS), axis.cell(mark.at_s)
    blank, says = " " * margin + _blank(axis.cells, guides), f"{mark.at_s:.2f} s  {mark.says}"
    if at + 2 + len(says) <= axis.cells:
        return Text(blank[: margin + at], style="dim") + Text(f"└ {says}")
    says = f"{says[: margin + at - 1]} ┘"
    begin = margin + at + 1 - len(says)
    return Text(blank[:begin], style="dim") + Text(says) + Text(blank[begin + len(says) :], style="dim")
