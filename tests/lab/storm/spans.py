"""Owns: arithmetic on sets of time, each a sorted list of (begin, end) in seconds that do not touch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Span: TypeAlias = tuple[float, float]
Spans: TypeAlias = list[Span]


def union(*sets: Iterable[Span], bridge_s: float = 0.0) -> Spans:
    """Everything that is in any of them; what is at most `bridge_s` apart becomes one."""
    made: Spans = []
    for begin, end in sorted(span for one in sets for span in one if span[1] > span[0]):
        if made and begin - made[-1][1] <= bridge_s:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((begin, end))
    return made


def common(one: Iterable[Span], two: Iterable[Span]) -> Spans:
    """What is in both."""
    others = union(two)
    found = ((max(a, c), min(b, d)) for a, b in union(one) for c, d in others)
    return union(span for span in found if span[1] > span[0])


def without(one: Iterable[Span], two: Iterable[Span]) -> Spans:
    """What is in the first and not in the second."""
    left = union(one)
    for begin, end in union(two):
        left = [piece for a, b in left for piece in ((a, min(b, begin)), (max(a, end), b)) if piece[1] > piece[0]]
    return left


def seconds(spans: Iterable[Span]) -> float:
    """How long it is in all."""
    return sum(end - begin for begin, end in spans)
