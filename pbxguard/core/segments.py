"""A segment from its permit to its cut, as the audit log remembers it: all that sealing needs, also after a restart.

Owns the data and its JSON form (``segment.permitted``, ``segment.closed``), nothing of how it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .ids import PurposeName, RecordingId, SegmentId, Uniqueid
from .permit import Told
from .purposes import DisclosureKey
from .records import AuditEntry

PERMITTED = "segment.permitted"
CLOSED = "segment.closed"

# Notes of a segment: what a judge may ask about. Stable codes, explained in the reference of the manifest.
SHORTER_THAN_SPAN = "shorter_than_its_span"
"""By more than two frames: somewhere in it no frames came; the place is unknown (ASTERISK.md, MixMonitor)."""
LONGER_THAN_SPAN = "longer_than_its_span"
"""By more than two frames: a burst; its sender had been stalled before."""
TRACKS_DIFFER = "tracks_differ"
"""By more than a frame; the longer track lost the difference at its end."""
UNPACED_END = "one_side_silent_at_its_end"
"""More was dropped than its time: while one side sends nothing, what the other sends late is written at once."""
WALL_CLOCK_STEPPED = "wall_clock_stepped"
"""The end of writing could not be read from the files: the recorder's stop alone counted."""
STILL_WRITTEN = "still_written_when_closed"
"""The files changed on after the stop was answered: the moment of reading counted as their end."""
CUT_AT_WATERMARK = "cut_at_watermark"
"""Left over by a pbxguard that ended without closing it."""
SPOOL_FAILED = "spool_failed"
"""The spool could not be read or shortened when the segment was closed."""
MISSING_AT_SEALING = "missing_at_sealing"
"""Less of it was found in the spool than was kept when it was closed."""


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """What was decided when a segment was opened. `opened` is monotonic seconds, the moment before its recorder was
    started; `wall_offset` the wall clock less the monotonic one then. Paths are as Asterisk spells them."""

    recording: RecordingId
    segment: SegmentId
    boot: str
    call: Uniqueid
    leg: Uniqueid
    purposes: tuple[PurposeName, ...]
    bases: tuple[str, ...]
    """Article 6(1) letter of each purpose, in their order."""
    direction: str
    told: tuple[Told, ...]
    opened: float
    opened_utc: datetime
    wall_offset: float
    own_file: Path
    others_file: Path

    def data(self) -> dict[str, Any]:
        """As JSON: what `from_data` reads back."""
        return {
            "recording": self.recording,
            "segment": self.segment,
            "boot": self.boot,
            "call": self.call,
            "leg": self.leg,
            "purposes": list(self.purposes),
            "bases": list(self.bases),
            "direction": self.direction,
            "told": [told_data(told) for told in self.told],
            "opened": self.opened,
            "opened_utc": self.opened_utc.isoformat(),
            "wall_offset": self.wall_offset,
            "own_file": str(self.own_file),
            "others_file": str(self.others_file),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> OpenSegment:
        """Raises KeyError, TypeError or ValueError on anything else than what `data` made."""
        with _readable():
            return cls._from(data)

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> OpenSegment:
        return cls(
            recording=RecordingId(data["recording"]),
            segment=SegmentId(data["segment"]),
            boot=data["boot"],
            call=Uniqueid(data["call"]),
            leg=Uniqueid(data["leg"]),
            purposes=tuple(PurposeName(name) for name in data["purposes"]),
            bases=tuple(data["bases"]),
            direction=data["direction"],
            told=tuple(_told(told) for told in data["told"]),
            opened=float(data["opened"]),
            opened_utc=datetime.fromisoformat(data["opened_utc"]),
            wall_offset=float(data["wall_offset"]),
            own_file=Path(data["own_file"]),
            others_file=Path(data["others_file"]),
        )

    def entry(self) -> AuditEntry:
        """The line that must be on disk before its recorder starts."""
        return AuditEntry(
            PERMITTED,
            self.opened_utc,
            boot=self.boot,
            channel=self.leg,
            call=self.call,
            recording=self.recording,
            segment=self.segment,
            data=self.data(),
        )


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """What is left of a segment. Sample counts are of each track; the kept ones are its first.

    `begin_utc` is the earliest moment that the first kept sample can be of, `end_utc` the latest for the last one;
    without a kept sample both are when the segment was opened.
    """

    opening: OpenSegment
    closed_utc: datetime
    """When its recorder can last have written (E in DESIGN.md)."""
    begin_utc: datetime
    end_utc: datetime
    reasons: tuple[str, ...]
    rate: int
    captured: int
    dropped: int
    kept: int
    missing_ms: int = 0
    """How much shorter than its span the captured audio was; negative: longer."""
    notes: tuple[str, ...] = ()
    destroy: bool = False
    """What ended it destroys the whole recording."""
    lock: bool = False
    """What ended it makes the recording disputed."""

    @property
    def recording(self) -> RecordingId:
        return self.opening.recording

    @property
    def segment(self) -> SegmentId:
        return self.opening.segment

    @property
    def kept_ms(self) -> int:
        return self.kept * 1000 // self.rate

    @property
    def cut_ms(self) -> int:
        """How much was captured and is not kept: it is destroyed unheard."""
        return self.dropped * 1000 // self.rate

    def found(self, samples: int) -> ClosedSegment:
        """The same, when sealing found only so many samples of it."""
        if samples >= self.kept:
            return self
        return replace(self, kept=samples, dropped=self.captured - samples, notes=(*self.notes, MISSING_AT_SEALING))

    def data(self) -> dict[str, Any]:
        """As JSON: what `from_data` reads back."""
        return {
            "opening": self.opening.data(),
            "closed_utc": self.closed_utc.isoformat(),
            "begin_utc": self.begin_utc.isoformat(),
            "end_utc": self.end_utc.isoformat(),
            "reasons": list(self.reasons),
            "rate": self.rate,
            "captured": self.captured,
            "dropped": self.dropped,
            "kept": self.kept,
            "missing_ms": self.missing_ms,
            "notes": list(self.notes),
            "destroy": self.destroy,
            "lock": self.lock,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ClosedSegment:
        """Raises KeyError, TypeError or ValueError on anything else than what `data` made."""
        with _readable():
            return cls._from(data)

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> ClosedSegment:
        return cls(
            opening=OpenSegment.from_data(data["opening"]),
            closed_utc=datetime.fromisoformat(data["closed_utc"]),
            begin_utc=datetime.fromisoformat(data["begin_utc"]),
            end_utc=datetime.fromisoformat(data["end_utc"]),
            reasons=tuple(data["reasons"]),
            rate=int(data["rate"]),
            captured=int(data["captured"]),
            dropped=int(data["dropped"]),
            kept=int(data["kept"]),
            missing_ms=int(data["missing_ms"]),
            notes=tuple(data["notes"]),
            destroy=bool(data["destroy"]),
            lock=bool(data["lock"]),
        )

    def entry(self) -> AuditEntry:
        """The line that lets a restart seal it."""
        return AuditEntry(
            CLOSED,
            self.closed_utc,
            boot=self.opening.boot,
            channel=self.opening.leg,
            call=self.opening.call,
            recording=self.recording,
            segment=self.segment,
            data=self.data(),
        )


@contextmanager
def _readable() -> Iterator[None]:
    """Numbers without end and texts where there is none are values that are wrong, like others."""
    try:
        yield
    except (ArithmeticError, AttributeError) as error:
        raise ValueError("not a segment") from error


def told_data(told: Told) -> dict[str, Any]:
    """One external party's disclosure as JSON, for audit log and manifest."""
    return {
        "channel": told.channel,
        "disclosure": str(told.disclosure),
        "purposes": list(told.disclosure.purposes),
        "language": told.disclosure.language,
        "mode": told.disclosure.mode_name,
        "digest": told.digest,
        "ended_utc": told.ended_utc,
        "consented": list(told.consented),
        "jurisdiction": told.jurisdiction,
    }


def _told(data: Mapping[str, Any]) -> Told:
    return Told(
        channel=Uniqueid(data["channel"]),
        disclosure=DisclosureKey.parse(data["disclosure"]),
        digest=data["digest"],
        ended_utc=data["ended_utc"],
        consented=tuple(PurposeName(name) for name in data["consented"]),
        jurisdiction=data["jurisdiction"],
    )
