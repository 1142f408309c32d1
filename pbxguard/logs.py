"""Logs: one JSON object a line, stable event names, numbers masked.

Owns the names of all events and how a line is made. People's numbers stand only in fields named in `NUMBER_FIELDS`,
never in an event's name or another text. What the standard library's `logging` is told goes the same way: adapters of
ours log an event's name and `extra` fields; what other libraries say stands under `library.logged`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from typing import Any, NamedTuple, TextIO, cast

import structlog

from pbxguard.core.numbers import mask

from .outlet import Outlet

FLUSH_SECONDS = 2.0
"""How long the end of the process waits for a log target that is slow."""
MAX_TEXT = 2000
"""Longer texts are cut: a peer must not fill the disk through one line."""

NUMBER_FIELDS = frozenset(
    {
        "number",
        "numbers",
        "caller",
        "caller_id",
        "caller_number",
        "called",
        "called_number",
        "connected",
        "dialled",
        "dialled_number",
        "did",
        "external_number",
        "own_number",
        "who",
    }
)
"""Fields that may hold a person's number: masked unless configured."""


class Event(StrEnum):
    """Every event that is logged. The value is stable: people's alerts hang on it."""

    # the service
    SERVICE_STARTING = "service.starting"
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPING = "service.stopping"
    SERVICE_STOPPED = "service.stopped"
    SERVICE_FAILED = "service.failed"
    SERVICE_RIVAL = "service.rival"
    SERVICE_DIED = "service.died"
    SETTINGS_LOADED = "settings.loaded"
    SETTINGS_REFUSED = "settings.refused"
    SWITCHED_ON = "switch.on"
    SWITCHED_OFF = "switch.off"
    TASK_FAILED = "task.failed"
    ERRAND_DROPPED = "errand.dropped"
    ERRAND_FAILED = "errand.failed"

    # connections: once per change of state
    AMI_CONNECTED = "ami.connected"
    AMI_LOST = "ami.lost"
    AMI_REFUSED = "ami.refused"
    AMI_UNREACHABLE = "ami.unreachable"
    AMI_UNREADABLE = "ami.unreadable"
    AMI_FORGED = "ami.forged"
    AMI_UNFILTERED = "ami.unfiltered"
    AMI_RESTLESS = "ami.restless"
    AMI_DOUBTFUL_RECORDER_STOPPED = "ami.doubtful_recorder_stopped"
    ARI_CONNECTED = "ari.connected"
    ARI_LOST = "ari.lost"
    ARI_REFUSED = "ari.refused"
    ARI_REPLACED = "ari.replaced"
    ARI_UNKNOWN_EVENT = "ari.unknown_event"
    ARI_REQUEST_FAILED = "ari.request_failed"
    AGI_LISTENING = "agi.listening"
    AGI_PEER_REFUSED = "agi.peer_refused"
    AGI_FAILED = "agi.failed"

    # the picture of the PBX
    SNAPSHOT_TAKEN = "snapshot.taken"
    PICTURE_WRONG = "picture.wrong"
    PICTURE_DOUBTED = "picture.doubted"
    BEAT_LATE = "beat.late"
    BEAT_RECOVERED = "beat.recovered"
    FACTS_BEHIND = "facts.behind"

    # doors
    DOOR_ENTERED = "door.entered"
    DOOR_LEFT = "door.left"
    DOOR_FAILED = "door.failed"
    DISCLOSURE_STARTED = "disclosure.started"
    DISCLOSURE_HEARD = "disclosure.heard"
    DISCLOSURE_NOT_HEARD = "disclosure.not_heard"
    OBJECTED = "party.objected"
    OBJECTION_BINDS = "objection.binds"
    OBJECTION_CONFIRMED = "objection.confirmed"
    OBJECTION_UNCONFIRMED = "objection.unconfirmed"
    CONSENTED = "party.consented"
    PURPOSE_BEGUN = "purpose.begun"
    MARKED_PRIVATE = "call.marked_private"

    # asked for in the call
    CALL_PAUSED = "call.paused"
    CALL_RESUMED = "call.resumed"
    PAUSE_LONG = "call.paused_long"
    REQUEST_REFUSED = "request.refused"
    REQUESTS_UNREAD = "request.unread"

    # calls and recordings
    CALL_REFUSED = "call.refused"
    CALL_ENDED = "call.ended"
    WOULD_RECORD = "call.would_record"
    RECORDER_STARTED = "recorder.started"
    RECORDER_START_FAILED = "recorder.start_failed"
    RECORDER_STOP_UNANSWERED = "recorder.stop_unanswered"
    RECORDER_STOPPED_BY_OTHER = "recorder.stopped_by_other"
    FOREIGN_RECORDER = "recorder.foreign"
    SPY_SEEN = "spy.seen"
    WHISPER_LEFT = "whisper.left"
    SPY_FORBIDDEN = "spy.forbidden"
    SEGMENT_CLOSED = "segment.closed"
    SEGMENT_EMPTY = "segment.empty"
    SEGMENT_UNCLOSED = "segment.unclosed"
    SEGMENT_RECOVERED = "segment.recovered"
    SEGMENT_QUARANTINED = "segment.quarantined"
    QUARANTINE_DESTROYED = "quarantine.destroyed"
    QUARANTINE_FAILED = "quarantine.failed"
    RECORDING_SEALED = "recording.sealed"
    RECORDING_EMPTY = "recording.empty"
    RECORDING_SEAL_FAILED = "recording.seal_failed"
    RECORDING_LOCKED = "recording.locked"
    RECORDING_DESTROYED = "recording.destroyed"
    RECORDING_EXPORTED = "recording.exported"
    RECORDING_REDACTED = "recording.redacted"
    REDACTION_FAILED = "recording.redaction_failed"
    SEALING_FAILED = "sealing.failed"
    SEALING_RECOVERED = "sealing.recovered"
    SPOOL_FULL = "spool.full"
    SPOOL_UNWRITABLE = "spool.unwritable"
    SPOOL_STALLED = "spool.stalled"
    SPOOL_HAS_ROOM = "spool.has_room"

    # keeping
    AUDIT_FAILED = "audit.failed"
    AUDIT_MISSED = "audit.missed"
    AUDIT_RECOVERED = "audit.recovered"
    INDEX_FAILED = "index.failed"
    SWEEP_DONE = "retention.swept"
    SWEEP_FAILED = "retention.failed"
    OUTCOME_SET = "outcome.set"

    # the rest
    API_FAILED = "api.failed"
    LOG_LINES_DROPPED = "log.lines_dropped"
    LIBRARY_LOGGED = "library.logged"


class Alert(NamedTuple):
    """What a person must act on at once, in words."""

    meaning: str
    mend: str
    """What to do."""
    over: Event | None = None
    """What is logged when it is over; None for what happened once."""


ALERTS: Mapping[Event, Alert] = {
    Event.SERVICE_DIED: Alert(
        "The pbxguard before this one ended without being stopped: killed, by its watchdog as well, crashed, or with "
        "the machine. Calls went on, unrecorded from its last beat (`last_seen`) until now; what it was recording is "
        "cut there and sealed.",
        "Find out why: the log's lines before this one, `journalctl -u pbxguard`, the kernel's (out of memory?). When "
        "it comes again, report it with these lines.",
    ),
    Event.AUDIT_FAILED: Alert(
        "The audit log cannot be written, so nothing may begin; what ran is stopped and kept.",
        "Nothing is recorded until the audit log can be written: look at the database's file or server, its disk's "
        "room and rights, and who else holds it locked.",
        Event.AUDIT_RECOVERED,
    ),
    Event.SPOOL_FULL: Alert(
        "The spool's disk has less room than `min_free_mb`; what ran is stopped and kept.",
        "Nothing is recorded until the spool's disk has room again (min_free_mb): free space there. Nothing is deleted "
        "to make room.",
        Event.SPOOL_HAS_ROOM,
    ),
    Event.SPOOL_UNWRITABLE: Alert(
        "pbxguard cannot write into the spool; what ran is stopped and kept.",
        "Nothing is recorded until pbxguard can write into the spool folder: look at its owner, its mode (2770) and "
        "whether its disk is mounted read-only.",
        Event.SPOOL_HAS_ROOM,
    ),
    Event.SPOOL_STALLED: Alert(
        "The spool's disk has not answered for seconds; calls go on.",
        "Nothing is recorded until the spool's disk answers again: look at the disk and at what uses it.",
        Event.SPOOL_HAS_ROOM,
    ),
    Event.SEGMENT_EMPTY: Alert(
        "A recorder ran for seconds and nothing came into the spool: that conversation is not recorded.",
        "A recorder ran and left no sample: let Asterisk's user write into the spool folder (its group, mode 2770) and "
        "see that the disk has room; see Asterisk's log, and whether somebody stops our recorders.",
    ),
    Event.SEGMENT_UNCLOSED: Alert(
        "What an ended pbxguard left in the spool cannot be cut to what its permit covers. Its recordings wait for it; "
        "they are never sealed without it.",
        "What an ended pbxguard left in the spool cannot be cut to what its permit covers; its recordings wait and "
        "lose nothing: see that the spool's disk is mounted, answers and can be read, and that the audit log can be "
        "written; they are cut and sealed by themselves then.",
        Event.SEGMENT_RECOVERED,
    ),
    Event.SEALING_FAILED: Alert(
        "A recording could not be put into the archive, or not into the index; it is tried again until it can be.",
        "Recordings wait in the spool and lose nothing: give the archive room and rights, or bring back the index; "
        "they are sealed by themselves then.",
        Event.SEALING_RECOVERED,
    ),
    Event.SPY_FORBIDDEN: Alert(
        "Somebody listens in (ChanSpy) on a conversation that nobody may record either.",
        "Somebody listens in on a private, never-record or third-party conversation, which is an offence too (art. "
        "139b/139c Sr): end it (`asterisk -rx 'channel request hangup ...'`) unless hung_up says that it was, find out "
        'who dialled ChanSpy and why he may, and keep it from such calls in the dialplan. mode = "enforce" hangs such '
        "spies up.",
    ),
    Event.RECORDER_STOP_UNANSWERED: Alert(
        "A recorder's permit is over, and Asterisk did not answer its stop. It is asked again until it does.",
        "Asterisk does not answer a stop, so a recorder may run on (what it writes is cut away): look at Asterisk, and "
        "run `pbxguard stop-recorders`.",
    ),
}
"""What an operator must act on at once (level ``alert``), and what to do."""

_FIRST = ("ts", "level", "event", "node", "call", "recording", "reason")
"""In this order at the front of each line, for people who read along."""
_NAMES = frozenset(event.value for event in Event)
_FREE_TEXTS = ("exception", "text", "error")
_LIKE_A_NUMBER = re.compile(r"(?<![\w.])\+?[0-9]{7,15}(?![\w.])")
"""In a text of somebody else's making; a uniqueid (1700000000.12) is none."""

Log = structlog.stdlib.BoundLogger
"""The type of a logger, for annotations."""


def get_logger(**bound: Any) -> Log:
    """A logger; what is bound (``call=``, ``recording=``) stands in each of its lines.

    Use: ``log.info(Event.RECORDER_STARTED, call=..., recording=...)``.
    """
    return cast(Log, structlog.get_logger(**bound))


def alert(event: Event, **more: Any) -> None:
    """Log one of `ALERTS`, with what to do. For changes of state only: it wakes people."""
    structlog.get_logger().critical(event, **more, mend=ALERTS[event].mend)


def configure(
    *,
    level: str = "info",
    mask_numbers: bool = True,
    node: str = "",
    stream: TextIO | None = None,
    background: bool = False,
) -> None:
    """Set up the whole process's logging, once, from `app.py` or the command line. `stream` defaults to stdout.

    `background`: a thread writes the lines to the stream's descriptor, for a service that must never wait for its log.
    """
    lines = _Lines(stream or sys.stdout, background)
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.stdlib.add_log_level,
        _name_alerts,
    ]
    last: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        _Node(node),
        *([mask_number_fields] if mask_numbers else []),
        clean,
        structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _from_logging],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Other libraries' chatter may hold what peers sent: only their warnings are ours to show.
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("pbxguard").setLevel(number)
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "panoramisk", "aiohttp", "asyncio", "sqlalchemy"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True


def mask_number_fields(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: mask `NUMBER_FIELDS`, nested ones too, and what looks like a number in foreign texts."""
    masked = cast(MutableMapping[str, Any], _masked(line))
    for key in _FREE_TEXTS:
        if isinstance(masked.get(key), str):
            masked[key] = _LIKE_A_NUMBER.sub(lambda found: mask(found.group(0)), masked[key][: MAX_TEXT + 1])
    return masked


def clean(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no line break and no control character survives, no text is endless."""
    first = {key: line[key] for key in _FIRST if key in line}
    return {_one_line(key): _cleaned(value) for key, value in {**first, **line}.items()}


def _name_alerts(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The highest level has a name of its own here: that a person is to act."""
    if line.get("level") == "critical":
        line["level"] = "alert"
    return line


class _Lines:
    """What structlog and the standard library write finished lines to."""

    def __init__(self, stream: TextIO, background: bool) -> None:
        self._stream = stream
        self._one = threading.Lock()
        self._outlet: Outlet | None = None
        descriptor = -1
        with contextlib.suppress(io.UnsupportedOperation):  # a stream in memory stalls nobody
            descriptor = stream.fileno()
        if background and descriptor >= 0:
            self._outlet = Outlet(descriptor, lambda lost: get_logger().warning(Event.LOG_LINES_DROPPED, in_all=lost))
            atexit.register(self._outlet.flush, FLUSH_SECONDS)

    def write(self, line: str, keep: bool = False) -> None:
        if self._outlet is not None:
            self._outlet.put(line + "\n", keep)
            return
        with self._one:
            self._stream.write(line + "\n")
            self._stream.flush()

    def msg(self, line: str) -> None:
        self.write(line)

    def critical(self, line: str) -> None:
        self.write(line, keep=True)

    debug = info = warning = warn = error = exception = log = msg


class _Handler(logging.Handler):
    """The standard library's way to the same lines."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.write(self.format(record), keep=record.levelno >= logging.CRITICAL)
        except Exception:  # what logging itself does: a line that cannot be made harms nobody
            self.handleError(record)


class _Node:
    """Adds the node's name."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if self._node:
            line.setdefault("node", self._node)
        return line


def _from_logging(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = line.get("_record")
    name = record.name if record is not None else ""
    if name.partition(".")[0] == "pbxguard" and line.get("event") in _NAMES:
        return line
    line["text"] = line.get("event", "")
    line["event"] = Event.LIBRARY_LOGGED.value
    line["logger"] = name
    return line


def _masked(value: Any, hide: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: _masked(item, hide or str(key) in NUMBER_FIELDS) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item, hide) for item in value]
    if not hide or value is None or isinstance(value, bool):
        return value
    return mask(str(value))


def _cleaned(value: Any, depth: int = 0) -> Any:
    if depth > 4:
        return "..."
    match value:
        case Mapping():
            return {_one_line(str(key)): _cleaned(item, depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_cleaned(item, depth + 1) for item in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _one_line(str(value))


def _one_line(text: str) -> str:
    cut = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
    return "".join(c if c.isprintable() else " | " if c == "\n" else " " for c in cut)
