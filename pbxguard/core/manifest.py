"""The manifest: what a recording is and why it was allowed, as plain data and as canonical JSON (RFC 8785).

Pure. It says nothing that its arguments do not say, holds no moment of its own making, and so comes out the same when
sealing is repeated. A hash proves "unchanged since it was sealed", not who spoke.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785

from .commands import CallOutcome
from .segments import ClosedSegment, told_data

SCHEMA = "pbxguard-manifest/1"
OWN_CHANNEL, OTHERS_CHANNEL = "left", "right"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """The FLAC file and the tracks in it; digests are SHA-256, hex, of PCM as raw signed 16-bit little-endian."""

    name: str
    sha256: str
    samples: int
    rate: int
    own_pcm_sha256: str
    others_pcm_sha256: str


@dataclass(frozen=True, slots=True)
class Objection:
    """Somebody objected on this channel; `purposes` is empty when it was to all."""

    channel: str
    purposes: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Sealing:
    """Everything that a manifest and the tags are made of. `segments` are in order, those of which nothing was kept
    too: they explain the gaps."""

    outcome: CallOutcome
    segments: tuple[ClosedSegment, ...]
    node: str
    organisation: str
    software: str
    objections: tuple[Objection, ...] = ()
    locked: bool = False
    withdrawn: frozenset[str] = frozenset()
    """Purposes that somebody objected to: it may no longer be used for them, unless it is locked for all."""

    @property
    def kept(self) -> tuple[ClosedSegment, ...]:
        return tuple(segment for segment in self.segments if segment.kept > 0)

    @property
    def purposes(self) -> tuple[str, ...]:
        """Those of the permits under which something was kept, sorted; without what was withdrawn, if any is left."""
        permitted = {str(name) for segment in self.kept for name in segment.opening.purposes}
        return tuple(sorted(permitted - self.withdrawn or permitted))

    @property
    def started(self) -> datetime:
        return self.kept[0].begin_utc

    @property
    def ended(self) -> datetime:
        return self.kept[-1].end_utc


def utc(moment: datetime) -> str:
    """ISO 8601 with microseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def build(sealing: Sealing, file: SealedFile) -> dict[str, Any]:
    """The manifest. At least one segment must have kept samples."""
    outcome, first = sealing.outcome, sealing.segments[0]
    bases = {
        str(name): basis
        for segment in sealing.kept
        for name, basis in zip(segment.opening.purposes, segment.opening.bases, strict=True)
    }
    told = _told(sealing.segments)
    return {
        "schema": SCHEMA,
        "recording": outcome.recording,
        "node": sealing.node,
        "boot": first.opening.boot,
        "organisation": sealing.organisation,
        "software": {"name": "pbxguard", "version": sealing.software},
        "call": {
            "id": outcome.call,
            "uniqueid": outcome.call,
            "linkedid": outcome.linkedid,
            "own_uniqueids": _unique(segment.opening.leg for segment in sealing.segments),
            "other_external_uniqueids": list(outcome.others),
            "other_external_numbers": list(outcome.other_numbers),
            "direction": first.opening.direction,
            "caller_id": outcome.external_number,
            "called": called(outcome, first.opening.direction),
            "own_number": outcome.own_number,
            "own_endpoint": outcome.own_endpoint,
            "queue": outcome.queue,
            "reference": outcome.reference,
        },
        "purposes": [{"name": name, "basis": bases[name]} for name in sealing.purposes],
        "told": told,
        "consents": [
            {"channel": entry["channel"], "purposes": entry["consented"]} for entry in told if entry["consented"]
        ],
        "objections": [
            {"channel": o.channel, "purposes": list(o.purposes), "at_utc": utc(o.at)} for o in sealing.objections
        ],
        "jurisdictions": sorted({entry["jurisdiction"] for entry in told}),
        "locked": sealing.locked,
        "started_utc": utc(sealing.started),
        "ended_utc": utc(sealing.ended),
        "segments": _segments(sealing.segments),
        "intervals": _intervals(sealing.kept),
        "gaps": _gaps(sealing.segments),
        "ended_by": list(sealing.segments[-1].reasons),
        "file": {
            "name": file.name,
            "sha256": file.sha256,
            "format": "FLAC",
            "samples": file.samples,
            "rate": file.rate,
            "channels": 2,
        },
        "tracks": {
            "own": {"channel": OWN_CHANNEL, "pcm_sha256": file.own_pcm_sha256},
            "others": {"channel": OTHERS_CHANNEL, "pcm_sha256": file.others_pcm_sha256},
        },
    }


def canonical(manifest: dict[str, Any]) -> bytes:
    """Canonical JSON (RFC 8785): the bytes that are stored, hashed and later signed."""
    return rfc8785.dumps(manifest)


def called(outcome: CallOutcome, direction: str) -> str:
    """The number dialled: ours for a call from outside, the external one for a call of ours."""
    return outcome.external_number if direction == "outbound" else outcome.own_number


def tags(sealing: Sealing) -> list[tuple[str, str]]:
    """The file's tags, in a fixed order; names may repeat (Vorbis comments). CALLER_ID is the external party's number
    in either direction, since that is what people look for."""
    outcome, first = sealing.outcome, sealing.kept[0]
    found = [
        ("ORGANISATION", sealing.organisation),
        ("RECORDING_ID", str(outcome.recording)),
        *(("PURPOSE", name) for name in sealing.purposes),
        ("CALLER_ID", outcome.external_number or "anonymous"),
        ("CALLED", called(outcome, first.opening.direction)),
        ("DIRECTION", first.opening.direction),
        ("DATE", utc(sealing.started)),
        ("CALL_ID", str(outcome.call)),
        ("UNIQUEID", str(outcome.call)),
        ("LINKEDID", str(outcome.linkedid)),
        *(("OWN_UNIQUEID", leg) for leg in _unique(s.opening.leg for s in sealing.kept)),
        ("OWN_ENDPOINT", str(outcome.own_endpoint)),
        ("QUEUE", outcome.queue),
        ("REFERENCE", outcome.reference),
    ]
    for heard in _told(sealing.kept):
        found += [
            ("DISCLOSURE", heard["disclosure"]),
            ("DISCLOSURE_LANGUAGE", heard["language"]),
            ("DISCLOSURE_MODE", heard["mode"]),
            ("DISCLOSURE_DIGEST", heard["digest"]),
        ]
    found.append(("NODE", sealing.node))
    return [(name, value) for name, value in found if value]


def _unique(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


def _told(segments: Sequence[ClosedSegment]) -> list[dict[str, Any]]:
    """Each party's disclosures once, in the order of the permits; the last permit knows all consents."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for segment in segments:
        for told in segment.opening.told:
            found[(told.channel, str(told.disclosure), told.ended_utc)] = told_data(told)
    return list(found.values())


def _segments(segments: Sequence[ClosedSegment]) -> list[dict[str, Any]]:
    offset, found = 0, []
    for segment in segments:
        found.append(
            {
                "id": segment.segment,
                "leg": segment.opening.leg,
                "purposes": list(segment.opening.purposes),
                "opened_utc": utc(segment.opening.opened_utc),
                "closed_utc": utc(segment.closed_utc),
                "ended_by": list(segment.reasons),
                "captured_samples": segment.captured,
                "cut_samples": segment.dropped,
                "kept_samples": segment.kept,
                "missing_ms": segment.missing_ms,
                "file_offset": offset if segment.kept else None,
                "notes": list(segment.notes),
            }
        )
        offset += segment.kept
    return found


def _intervals(kept: Sequence[ClosedSegment]) -> list[dict[str, Any]]:
    """What the file holds: from sample `file_offset` on, so many samples, captured between two moments."""
    offset, found = 0, []
    for segment in kept:
        found.append(
            {
                "segment": segment.segment,
                "file_offset": offset,
                "samples": segment.kept,
                "begin_utc": utc(segment.begin_utc),
                "end_utc": utc(segment.end_utc),
                "purposes": list(segment.opening.purposes),
                "reason": "permitted",
            }
        )
        offset += segment.kept
    return found


def _gaps(segments: Sequence[ClosedSegment]) -> list[dict[str, Any]]:
    """What lies between two intervals and is not in the file, with everything that ended a segment in between."""
    found: list[dict[str, Any]] = []
    last: ClosedSegment | None = None
    reasons: list[str] = []
    offset = 0
    for segment in segments:
        if segment.kept and last is not None:
            found.append(
                {
                    "file_offset": offset,
                    "begin_utc": utc(last.end_utc),
                    "end_utc": utc(segment.begin_utc),
                    "reasons": _unique(reasons),
                }
            )
        if segment.kept:
            last, reasons = segment, []
            offset += segment.kept
        reasons += segment.reasons
    return found
