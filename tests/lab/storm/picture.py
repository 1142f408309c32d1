"""Owns: a call of a storm drawn as parties over time (SVG): who was there, what was recorded, what is wrong."""

from __future__ import annotations

from html import escape

from tests.lab.storm.history import CUSTOMER, OWN, History
from tests.lab.storm.oracle import Judged
from tests.lab.storm.spans import Span, Spans, union

WIDTH, LEFT, ROW, BAR = 1200, 210, 26, 14
COLOURS = {CUSTOMER: "#3b6fb5", OWN: "#3f8f4f", "stranger": "#b0457b"}
PERMITTED, RECORDED, CLOSED, FAULT, GUILTY = "#bfe3c5", "#c9302c", "#d9a441", "#999999", "#ff0000"


def draw(history: History, judged: Judged) -> str:
    """The whole call, from its first step to its last, as an SVG document."""
    play = judged.play
    moments = [at for at, _ in play.steps] + [leg.began for leg in play.legs if leg.began]
    moments += [leg.ended for leg in play.legs if leg.ended]
    begin, end = min(moments, default=0.0), max(moments, default=1.0) + 0.5
    picture = _Picture(begin, end)
    picture.title(f"{play.number}: {play.title} (seed {history.seed})")
    for leg in play.legs:
        if leg.answered is not None or leg.began:
            since = leg.answered or leg.began
            picture.row(leg.name, [(since, leg.ended or end)], COLOURS[leg.role])
    picture.row("talks with ours", union(state.perhaps() for state in play.talks), COLOURS[OWN])
    for state in play.closures:
        picture.row(state.kind, [state.perhaps()], CLOSED)
    if judged.told is not None:
        picture.mark(judged.told, "told")
    picture.row("may be recorded", judged.permitted, PERMITTED)
    picture.row("is recorded", judged.recorded, RECORDED)
    picture.row("declared gaps", judged.declared, CLOSED)
    for fault in history.faults:
        if fault.of in ("", play.number) and fault.began < end and fault.ended > begin:
            picture.row(f"fault: {fault.kind}", [(fault.began, fault.ended)], FAULT)
    for at, what in play.steps:
        picture.step(at, what)
    for wrong in [*map(str, judged.guilty), *judged.wrong]:
        picture.line(wrong, GUILTY)
    return picture.svg()


class _Picture:
    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end
        self.y = 20
        self.parts: list[str] = []
        self.over: list[str] = []

    def x(self, at: float) -> float:
        at = min(max(at, self.begin), self.end)
        return LEFT + (at - self.begin) / (self.end - self.begin) * (WIDTH - LEFT - 20)

    def title(self, text: str) -> None:
        self.line(text, "#000000")
        for second in range(int(self.end - self.begin) + 1):
            x = self.x(self.begin + second)
            if second % 5 == 0:
                self.parts.append(f'<text x="{x:.1f}" y="{self.y + 10}" text-anchor="middle">{second} s</text>')
            self.over.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.y + 14}" y2="YEND" stroke="#00000018"/>')
        self.y += ROW

    def row(self, name: str, spans: Spans | list[Span], colour: str) -> None:
        self.parts.append(f'<text x="8" y="{self.y + BAR - 2}">{escape(name)}</text>')
        for begin, end in spans:
            x, right = self.x(begin), self.x(end)
            self.parts.append(
                f'<rect x="{x:.1f}" y="{self.y}" width="{max(right - x, 1):.1f}" height="{BAR}" fill="{colour}">'
                f"<title>{escape(name)}: {begin - self.begin:.3f} s to {end - self.begin:.3f} s</title></rect>"
            )
        self.y += ROW

    def mark(self, at: float, says: str) -> None:
        x = self.x(at)
        self.over.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="YEND" stroke="#000000"/>')
        self.over.append(f'<text x="{x + 3:.1f}" y="{self.y + 8}">{escape(says)}</text>')

    def step(self, at: float, what: str) -> None:
        x = self.x(at)
        anchor = "end" if x > WIDTH * 0.6 else "start"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{self.y + 6}" r="3"/>')
        shift = -6 if anchor == "end" else 6
        self.parts.append(
            f'<text x="{x + shift:.1f}" y="{self.y + 10}" text-anchor="{anchor}">{escape(what[:110])}</text>'
        )
        self.y += 18

    def line(self, text: str, colour: str) -> None:
        self.parts.append(f'<text x="8" y="{self.y + 10}" fill="{colour}">{escape(text)}</text>')
        self.y += ROW

    def svg(self) -> str:
        height = self.y + 10
        body = "\n".join([*self.parts, *self.over]).replace("YEND", str(height - 10))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
        )
