"""A span cut out of a sealed recording: where it lies in the file, and the manifest of what is left.

Pure. The manifest names the file that there was by its digest, and says which span of it is gone, why and since when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import WrongUse
from .manifest import SealedFile, utc

REDACTED = "redacted"
"""The reason of the gap."""


@dataclass(frozen=True, slots=True)
class Span:
    """Samples of the file, from `begin` up to and without `end`."""

    begin: int
    end: int

    @property
    def samples(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was cut, by whose order; `old_sha256` and `old_manifest_sha256` name what it was cut from."""

    span: Span
    reason: str
    actor: str
    at: datetime
    old_sha256: str
    old_manifest_sha256: str


def span_of(begin_s: float, end_s: float, rate: int, samples: int) -> Span:
    """The samples between two moments of the file, in seconds; every sample that is touched goes.

    Raises WrongUse when there is nothing between them, when they are not in the file, or when nothing would be left.
    """
    if not (0 <= begin_s < end_s and math.isfinite(end_s)):
        raise WrongUse("--from and --to are seconds of the file, the first before the second")
    span = Span(math.floor(begin_s * rate), min(samples, math.ceil(end_s * rate)))
    if span.samples <= 0:
        raise WrongUse(f"the file is {samples / rate:.1f} s long: nothing of it lies there")
    if span.samples >= samples:
        raise WrongUse("nothing would be left: `pbxguard recordings destroy` is for that")
    return span


def manifest_without(old: Mapping[str, Any], cut: Redaction, file: SealedFile) -> dict[str, Any]:
    """The manifest of the file that is left; `file` describes it."""
    intervals, gaps = _apart(old, cut.span, file.rate)
    lost = _lost(old["intervals"], cut.span)
    return {
        **old,
        "segments": _segments(old["segments"], intervals, lost),
        "intervals": intervals,
        "gaps": gaps,
        "file": {**old["file"], "name": file.name, "sha256": file.sha256, "samples": file.samples},
        "tracks": {
            "own": {**old["tracks"]["own"], "pcm_sha256": file.own_pcm_sha256},
            "others": {**old["tracks"]["others"], "pcm_sha256": file.others_pcm_sha256},
        },
        "redactions": [
            *old.get("redactions", ()),
            {
                "file_offset": cut.span.begin,
                "samples": cut.span.samples,
                "reason": cut.reason,
                "actor": cut.actor,
                "at_utc": utc(cut.at),
                "old_file_sha256": cut.old_sha256,
                "old_manifest_sha256": cut.old_manifest_sha256,
            },
        ],
    }


def _moment(interval: Mapping[str, Any], sample: int) -> str:
    """When a sample of the file was captured, as far as its interval tells."""
    begin, end = (datetime.fromisoformat(interval[key]) for key in ("begin_utc", "end_utc"))
    share = (sample - interval["file_offset"]) / interval["samples"]
    return utc((begin + timedelta(seconds=(end - begin).total_seconds() * share)).astimezone(UTC))


def _apart(old: Mapping[str, Any], span: Span, rate: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The intervals that are left, and the gaps between them with everything that made them."""
    pieces: list[tuple[int, int, Mapping[str, Any]]] = []  # of the old file, with the interval that they are of
    for interval in old["intervals"]:
        begin, end = interval["file_offset"], interval["file_offset"] + interval["samples"]
        for first, last in ((begin, min(end, span.begin)), (max(begin, span.end), end)):
            if first < last:
                pieces.append((first, last, interval))
    intervals: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    offset = 0
    for number, (first, last, interval) in enumerate(pieces):
        made = {
            **interval,
            "file_offset": offset,
            "samples": last - first,
            "begin_utc": _moment(interval, first),
            "end_utc": _moment(interval, last),
        }
        if number:
            reasons = _between(old["gaps"], pieces[number - 1][1], first, span)
            gaps.append(
                {
                    "file_offset": offset,
                    "begin_utc": intervals[-1]["end_utc"],
                    "end_utc": made["begin_utc"],
                    "reasons": reasons,
                }
            )
        intervals.append(made)
        offset += last - first
    return intervals, gaps


def _between(gaps: Sequence[Mapping[str, Any]], last: int, first: int, span: Span) -> list[str]:
    """Why there is a gap between a piece that ended at `last` and one that begins at `first`, in the old file."""
    found = [reason for gap in gaps if last <= gap["file_offset"] <= first for reason in gap["reasons"]]
    cut_here = last <= span.begin and span.end <= first
    return list(dict.fromkeys([*found, *([REDACTED] if cut_here else [])]))


def _lost(intervals: Sequence[Mapping[str, Any]], span: Span) -> dict[str, int]:
    """Samples that each segment loses."""
    found: dict[str, int] = {}
    for interval in intervals:
        begin, end = interval["file_offset"], interval["file_offset"] + interval["samples"]
        gone = max(0, min(end, span.end) - max(begin, span.begin))
        if gone:
            found[interval["segment"]] = found.get(interval["segment"], 0) + gone
    return found


def _segments(
    old: Sequence[Mapping[str, Any]], intervals: Sequence[Mapping[str, Any]], lost: Mapping[str, int]
) -> list[dict[str, Any]]:
    first: dict[str, int] = {}
    for interval in intervals:
        first.setdefault(interval["segment"], interval["file_offset"])
    made = []
    for segment in old:
        gone = lost.get(segment["id"], 0)
        kept = segment["kept_samples"] - gone
        more = {"redacted_samples": segment.get("redacted_samples", 0) + gone} if gone else {}
        made.append({**segment, **more, "kept_samples": kept, "file_offset": first.get(segment["id"])})
    return made
