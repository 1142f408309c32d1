"""What the audit log and the index hold, shared by ports and adapters (which may not import the service)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from .ids import RecordingId


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log.

    `kind` is a stable dotted name (``disclosure.heard``, ``segment.permitted``, ``segment.closed``, ``objected``,
    ``recording.sealed``, ``recording.exported``, ``recording.destroyed``, ...). `data` is JSON without content of
    calls; `actor` is who did it (a person's login, or ``pbxguard``).
    """

    kind: str
    at: datetime
    actor: str = "pbxguard"
    boot: str = ""
    channel: str = ""
    call: str = ""
    recording: str = ""
    segment: str = ""
    data: Mapping[str, Any] | None = None
    number: int = 0
    """Row number once stored."""


class SpoolState(Enum):
    """Whether the spool can take a new segment; `STALLED` is said by who waited for it."""

    READY = "ready"
    FULL = "full"
    UNWRITABLE = "unwritable"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """One sealed recording in the index."""

    id: RecordingId
    node: str
    path: str
    """Relative to the archive's root."""
    purposes: tuple[str, ...]
    started: datetime
    ended: datetime
    duration_ms: int
    external_number: str
    own_number: str
    own_endpoint: str
    queue: str
    direction: str
    reference: str
    language: str
    call: str
    uniqueid: str
    linkedid: str
    sha256: str
    manifest: Mapping[str, Any]
    outcome: str = ""
    contract_end: str = ""
    """ISO date."""
    locked: bool = False
    """Disputed (art. 18(1)(d) GDPR): nobody plays or exports it, nothing deletes it before the officer decides."""
    lock_until: datetime | None = None
    written_acceptance_required: bool = False
    destroyed: datetime | None = None
    other_numbers: tuple[str, ...] = ()
    """Of other external parties of the conversation, written as `external_number` is."""
