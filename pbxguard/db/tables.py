"""The tables as they are now, for queries. How a database gets there is told by `migrations/versions`.

Portable between SQLite and PostgreSQL: moments are ISO 8601 text in UTC with six decimals (which sorts as time does and
reads the same everywhere), JSON is text that only we look into.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column, Dialect, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

HEAD = "0001"
"""The revision these tables belong to; a test holds it against the migrations."""

MOST_ASKED = 500
"""Values in one query: SQLite bounds a statement's parameters."""


def iso(moment: datetime) -> str:
    """A moment as it is stored; a naive one is a mistake of ours and raises ValueError."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as ISO 8601 text in UTC."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else iso(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


metadata = MetaData()

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("node", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("call", Text, nullable=False),
    Column("recording", String(32), nullable=False),
    Column("segment", String(40), nullable=False),
    Column("data", Text),
    Index("audit_recording", "recording", "kind"),
    Index("audit_channel", "channel", "boot"),
    Index("audit_kind", "kind", "segment"),
    Index("audit_at", "at"),
    sqlite_autoincrement=True,  # a number is never given twice
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("node", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("started", Moment, nullable=False),
    Column("ended", Moment, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("external_number", Text, nullable=False),
    Column("other_numbers", Text, nullable=False),
    Column("own_number", Text, nullable=False),
    Column("own_endpoint", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("reference", Text, nullable=False),
    Column("language", String(8), nullable=False),
    Column("call", Text, nullable=False),
    Column("uniqueid", Text, nullable=False),
    Column("linkedid", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("contract_end", String(10), nullable=False),
    Column("locked", Boolean, nullable=False),
    Column("lock_until", Moment),
    Column("written_acceptance_required", Boolean, nullable=False),
    Column("destroyed", Moment),
    Index("recordings_started", "started"),
    Index("recordings_reference", "reference"),
    Index("recordings_extension", "extension"),
    Index("recordings_own_number", "own_number"),
    Index("recordings_uniqueid", "uniqueid"),
    Index("recordings_destroyed", "destroyed", "id"),
)

recording_numbers = Table(
    "recording_numbers",
    metadata,
    Column("recording", String(32), primary_key=True),
    Column("digits", String(40), primary_key=True),
    Index("recording_numbers_digits", "digits"),
)
"""Every external party of a recording, by digits: who asks for his own calls finds those he joined as well."""

calls = Table(
    "calls",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("boot", String(128), primary_key=True),
    Column("call", String(160), primary_key=True),
    Column("began", Moment, nullable=False),
    Column("at", Moment, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("linkedid", Text, nullable=False),
    Column("recording", String(32), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("external_number", Text, nullable=False),
    Column("external_digits", Text, nullable=False),
    Column("own_number", Text, nullable=False),
    Column("own_endpoint", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("language", String(8), nullable=False),
    Column("purposes", Text, nullable=False),
    Column("told", Boolean, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("recorded", Boolean, nullable=False),
    Column("ever_recorded", Boolean, nullable=False),
    Column("would_record", Boolean, nullable=False),
    Column("others", Text, nullable=False),
    Index("calls_at", "at"),
    Index("calls_external", "external_digits"),
    Index("calls_extension", "extension"),
    Index("calls_own_number", "own_number"),
    Index("calls_recording", "recording"),
)


def digits_of(number: str) -> str:
    """The digits by which a number is looked up: ``+31 20...``, ``0031 20...`` and ``3120...`` are one.

    At most 40, so that hostile caller ids stay small; what has no digits has the empty string, which matches nobody.
    """
    digits = "".join(c for c in number if c in "0123456789")
    if not number.lstrip().startswith("+") and digits.startswith("00"):
        digits = digits[2:]
    return digits[:40]


def extension_of(endpoint: str) -> str:
    """``PJSIP/100`` -> ``100``."""
    return endpoint.rpartition("/")[2]


def clean(text: str) -> str:
    """Text that every database takes: no NUL, no lone surrogate (peers send both)."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
