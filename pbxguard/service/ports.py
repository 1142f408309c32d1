"""The shapes that the service needs of the adapters: Protocols only. `app.py` alone names who fulfils them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pbxguard.core.announcement import Outcome, Result, Timing
from pbxguard.core.commands import CallOutcome
from pbxguard.core.facts import Fact, InCall
from pbxguard.core.handles import RecorderHandle as RecorderHandle
from pbxguard.core.ids import Endpoint, RecordingId, SegmentId, Uniqueid
from pbxguard.core.purposes import Disclosure
from pbxguard.core.reasons import Reason
from pbxguard.core.records import AuditEntry as AuditEntry
from pbxguard.core.records import RecordingRow as RecordingRow
from pbxguard.core.records import SpoolState as SpoolState
from pbxguard.threads import Threads


class Clock(Protocol):
    """Time, in one place, so that a step of the wall clock can be told from the passing of time."""

    def now(self) -> float:
        """Monotonic seconds."""

    def utc(self, moment: float | None = None) -> datetime:
        """UTC of a monotonic moment (default: now)."""

    def wall_offset(self) -> float:
        """Wall clock less monotonic clock, in seconds: when it changes, the wall clock was stepped."""


class Recorder(Protocol):
    """MixMonitor by AMI, on the connection without events."""

    async def start(self, leg: Uniqueid, segment: SegmentId, own_file: Path, others_file: Path) -> RecorderHandle:
        """Start; both paths as Asterisk spells them. Raises ActionRefused, ConnectionFailed, UnsafeValue."""

    async def stop(self, handle: RecorderHandle) -> bool:
        """Stop; True when stopped by us, False when the channel or recorder was gone already (normal at hang-up).

        Raises ConnectionFailed when nobody answered: then nothing is known and the caller tries again.
        """

    async def stop_strays(self) -> int:
        """Stop those that run on in the place of a leg that is gone; gives how many. Raises as `stop`."""

    async def find(self, leg: Uniqueid, segment: SegmentId) -> RecorderHandle | None:
        """The recorder of a segment of before our restart, if its channel still has its variable."""


class Pbx(Protocol):
    """The little that we write to Asterisk besides the recorder (AMI)."""

    async def set_channel_variable(self, channel: Uniqueid, name: str, value: str) -> None: ...
    async def set_global(self, name: str, value: str) -> None: ...
    async def get_global(self, name: str) -> str: ...
    async def set_device_state(self, endpoint: Endpoint, state: str) -> None: ...
    async def hang_up(self, channel: Uniqueid) -> None: ...
    async def said(self) -> Mapping[Uniqueid, Sequence[InCall]]:
        """Channels with requests of the dialplan's that nobody took away (`service.requests`)."""

    def beat_now(self) -> None:
        """A beat more, at once, that begins after all that was decided until now; nothing while not connected."""

    def look_anew(self) -> None:
        """Events were lost: begin anew with a snapshot."""

    def look_closer(self) -> None:
        """Who is where may not be what events said: hold the lists against it at once."""


class WhisperListener(Protocol):
    """Told by a whispered disclosure while it runs; as at the caller's door."""

    async def objected(self) -> None: ...
    async def concluded(self, outcome: Outcome) -> tuple[Result, tuple[Reason, ...]] | None: ...


class Whisper(Protocol):
    """Sounds for one party of a conversation alone (ARI). Neither raises for what Asterisk does."""

    async def play(self, channel: Uniqueid, sound: str, length_ms: int) -> Reason | None:
        """`sound` as Asterisk spells it, without extension. None when it was heard in full, else why not.

        Takes its length and a few seconds at most; one sound at a time for each party, in the order asked.
        """

    async def announce(
        self,
        channel: Uniqueid,
        disclosure: Disclosure,
        timing: Timing,
        listener: WhisperListener,
        *,
        goes_on: bool = False,
    ) -> Outcome:
        """A whole disclosure, with its keys."""

    def cancel(self, channel: Uniqueid) -> None:
        """Break off the disclosure that this party is whispered, or is to be; other sounds go on."""


class FactSink(Protocol):
    """Where adapters put facts; bounded: `put` waits when the guard is behind (so that the socket is not read)."""

    async def put(self, fact: Fact) -> None: ...


class Audit(Protocol):
    """Append-only. `commit` returns only when the entries are on disk; raises AuditFailed."""

    async def commit(self, *entries: AuditEntry) -> None: ...

    async def check(self) -> None:
        """Whether an entry could be written now: raises AuditFailed when not; leaves none."""

    async def of_recording(self, recording: RecordingId) -> Sequence[AuditEntry]: ...

    async def of_channels(self, boot: str, channels: Sequence[str]) -> Sequence[AuditEntry]:
        """What was made known of these channels (heard, objected, consented, private), oldest first."""

    async def open_segments(self) -> Sequence[AuditEntry]:
        """``segment.permitted`` entries of this node without a ``segment.closed``."""

    async def permitted(self, recordings: Collection[RecordingId]) -> Sequence[SegmentId]:
        """Every segment that has a ``segment.permitted`` in one of these."""

    async def unsealed(self) -> Sequence[RecordingId]:
        """Recordings with a closed segment that are neither sealed nor destroyed nor empty."""


class Index(Protocol):
    """Recordings and calls, for those who look for them."""

    async def add_recording(self, row: RecordingRow) -> None:
        """Idempotent by id."""

    async def recording(self, id: RecordingId) -> RecordingRow: ...
    async def find(
        self,
        *,
        number: str = "",
        reference: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        extension: str = "",
        limit: int = 100,
        include_destroyed: bool = False,
    ) -> Sequence[RecordingRow]: ...
    async def set_outcome(self, id: RecordingId, outcome: str, contract_end: str) -> None: ...
    async def set_lock(self, id: RecordingId, until: datetime | None) -> None: ...
    async def mark_destroyed(self, id: RecordingId, at: datetime) -> None: ...
    def live_recordings(self) -> AsyncIterator[RecordingRow]:
        """All that are not destroyed, for the sweep."""

    async def put_call(self, outcome: CallOutcome, at: datetime, ended: bool, boot: str) -> None:
        """What is known of a call (for `calls` and `why`); idempotent by boot and call."""

    async def find_calls(
        self, *, who: str = "", since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, Any]]: ...


class Archive(Protocol):
    """Where sealed files live: whole or absent."""

    @property
    def threads(self) -> Threads:
        """For all that may hang there."""

    async def put(self, relative: str, source: Path) -> None:
        """fsync and atomic rename into place; idempotent for equal content, refused for other content."""

    async def put_bytes(self, relative: str, content: bytes) -> None: ...
    async def open_path(self, relative: str) -> Path: ...
    async def remove(self, relative: str) -> None:
        """Idempotent."""

    async def names(self, folder: str, recording: RecordingId) -> Sequence[str]:
        """All that there is of a recording in a day's folder (``YYYY/MM/DD``), under whatever name."""

    async def clear(self, folder: str, recording: RecordingId) -> None:
        """Remove all that a crash left of a recording in a day's folder (``YYYY/MM/DD``), under whatever name."""
