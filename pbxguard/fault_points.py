"""The places where a crash must do no harm, by name: every action, commit, write, sync, rename and removal on the way
from a permit to the erased spool, of a destruction and of an export.

The code passes `reached(...)` before and after each of them. That does nothing, unless a test started the process with
``PBXGUARD_DIE_AT=name[:n]`` in its environment: then the process ends there by SIGKILL, at the n-th pass (1 when not
given). With ``PBXGUARD_STAND_AT=name[:n]`` it stands still there by SIGSTOP, until the test lets it go on: what it has
decided is old by then. The variables are read once, when this module is loaded; nothing that reaches a running process
can set them.
tests/unit/test_fault_points.py holds the list against the code, tests/e2e/test_fault_points.py kills at each.
"""

from __future__ import annotations

import itertools
import os
import signal
from enum import Enum

VARIABLE = "PBXGUARD_DIE_AT"
STANDS = "PBXGUARD_STAND_AT"


class FaultPoint(Enum):
    """A stable name, and what has and has not happened when it is reached."""

    # A segment, from its permit to its closed files.
    PERMIT_DECIDED = "permit.decided", "A permit holds; nothing says so yet, and no recorder was asked for."
    PERMIT_COMMITTED = "permit.committed", "The permit's line is on disk; no recorder was asked for."
    RECORDER_STARTING = "recorder.starting", "Asterisk is about to be asked for a recorder."
    RECORDER_STARTED = "recorder.started", "The recorder runs; nobody but Asterisk knows."
    RECORDER_STOPPING = "recorder.stopping", "The permit is over, and the recorder still runs."
    RECORDER_STOPPED = "recorder.stopped", "The recorder is stopped; its files hold more than may be kept."
    RECORDER_FORGETTING = "recorder.forgetting", "The channel's variable still holds a stopped recorder's id."
    RECORDER_FORGOTTEN = "recorder.forgotten", "That variable is empty."
    SPOOL_CUTTING = "spool.cutting", "One spool file is about to be cut to what may be kept."
    SPOOL_CUT = "spool.cut", "It is shorter, perhaps not on disk."
    SPOOL_COPYING = "spool.copying", "It belongs to somebody else: what may be kept of it is about to be copied."
    SPOOL_COPY_RENEWED = "spool.copy.renewed", "An earlier copy, half made, is gone; the file is as it was."
    SPOOL_COPY_WRITTEN = "spool.copy.written", "The copy is written, perhaps not on disk; the file is as it was."
    SPOOL_COPY_SYNCED = "spool.copy.synced", "The copy is on disk; the file is as it was."
    SPOOL_COPIED = "spool.copied", "The copy has taken the file's place."
    SPOOL_CUT_SYNCED = "spool.cut.synced", "What is kept of it is on disk; its time is that of the cut."
    SPOOL_DATED = "spool.dated", "Its time is the end of what is kept."
    SPOOL_BOTH_CUT = "spool.both.cut", "Both files are cut and on disk, their folder perhaps not."
    SPOOL_SHORTENED = "spool.shortened", "Both files are cut and on disk, their folder too."
    SEGMENT_CUT = "segment.cut", "The segment's files are cut; no line says that it is closed."
    SEGMENT_CLOSED = "segment.closed", "The line that it is closed is on disk."

    # What was asked for in the call.
    REQUEST_ACTED = "request.acted", "An objection, a pause or a private mark holds; no line says so."
    REQUEST_NOTED = "request.noted", "The line about it is on disk; the asker's channel still says it too."
    RESUME_DUE = "resume.due", "A pause is to end; it still stands, and no line says otherwise."
    RESUME_COMMITTED = "resume.committed", "The line that it ended is on disk; nothing is recorded yet."
    BEGIN_DUE = "begin.due", "A purpose is asked for in the call; nobody is told of it, and no line says so."
    BEGIN_COMMITTED = "begin.committed", "The line that it is asked for is on disk; nobody was told of it yet."

    # What a dead guard left.
    LEFTOVER_CUT = (
        "leftover.cut",
        "A leftover is stopped and its files are cut at the watermark; no line says so.",
    )
    LEFTOVER_CLOSED = "leftover.closed", "The line that the leftover is closed is on disk."
    WATERMARK_WRITING = "watermark.writing", "A new watermark is due; the old one stands."
    WATERMARK_WRITTEN = "watermark.written", "The new one is written beside it."
    WATERMARK_REPLACED = "watermark.replaced", "The new one stands."

    # Sealing.
    ENCODING = "seal.encoding", "The segments are known; nothing is encoded."
    ENCODED = "seal.encoded", "The work folder has the audio, without tags."
    TAGGING = "seal.tagging", "The audio without tags is whole; tags are about to be written."
    TAGS_WRITTEN = "seal.tags.written", "The tagged file is written beside it, perhaps not on disk."
    TAGS_SYNCED = "seal.tags.synced", "The tagged file is on disk, beside it."
    TAGS_IN_PLACE = "seal.tags.in_place", "The tagged file has taken its place in the work folder."
    TAGGED = "seal.tagged", "Nothing else is left beside it."
    ARCHIVE_CLEARING = "archive.clearing", "What an earlier attempt left in the archive is about to be removed."
    ARCHIVE_LEFTOVER_REMOVED = "archive.leftover.removed", "One such file is removed, perhaps not on disk."
    ARCHIVE_CLEARED = "archive.cleared", "The archive holds nothing of the recording, on disk."
    FOLDER_MADE = "archive.folder.made", "A folder of the archive was missing and is made, perhaps not on disk."
    FOLDER_SYNCED = "archive.folder.synced", "The folder is on disk."
    ARCHIVE_PUTTING = "archive.putting", "The folder is there; the file, or the manifest, is about to be written."
    ARCHIVE_PART_WRITTEN = "archive.part.written", "It is written under a passing name, perhaps not on disk."
    ARCHIVE_PART_SYNCED = "archive.part.synced", "It is on disk under that name."
    ARCHIVE_IN_PLACE = "archive.in_place", "It has its name, perhaps not on disk."
    ARCHIVE_PART_GONE = "archive.part.gone", "Nothing has the passing name."
    ARCHIVE_PUT = "archive.put", "It is on disk under its name; the index does not know it."
    WORK_CLEARING = "seal.work.clearing", "File and manifest are in the archive; the work folder still has the audio."
    WORK_FILE_CLEARED = "seal.work.file.cleared", "The file is removed from it; a half-made one may be left."
    WORK_CLEARED = "seal.work.cleared", "The work folder is empty of it; the index does not know it."
    INDEXING = "index.adding", "The row is about to be committed."
    INDEXED = "index.added", "The row is on disk; the spool still has the audio."
    SPOOL_ERASING = "spool.erasing", "One spool file is about to be removed."
    SPOOL_FILE_ERASED = "spool.file.erased", "It is removed, perhaps not on disk."
    SPOOL_COPY_ERASED = "spool.copy.erased", "A half-made copy of it as well."
    SPOOL_ERASED = "spool.erased", "Both files of the segment are gone, on disk."
    RESULT_DUE = "recording.result.due", "All is done but the line about it: sealed, empty, or destroyed unsealed."
    RESULT_COMMITTED = "recording.result.committed", "That line is on disk."

    # The databases' own, for every line of the audit log.
    AUDIT_WRITING = "audit.writing", "Lines are about to be committed; who waits for them has not acted."
    AUDIT_WRITTEN = "audit.written", "They are on disk; who waits for them does not know."

    # Destroying what was sealed.
    DESTRUCTION_DECIDED = "destroy.decided", "A recording is to be destroyed; nothing says so yet."
    DESTRUCTION_BEGUN = "destroy.begun", "The line that it begins is on disk; all of it is still there."
    ARCHIVE_REMOVING = "archive.removing", "The file, or the manifest, is about to be removed."
    ARCHIVE_REMOVED = "archive.removed", "It is removed, perhaps not on disk."
    ARCHIVE_REMOVED_SYNCED = "archive.removed.synced", "It is gone, on disk."
    INDEX_WIPING = "index.wiping", "Both are gone; the index still tells of people."
    INDEX_WIPED = "index.wiped", "The index tells nothing; what was overwritten may stand in the write-ahead log."
    INDEX_SCRUBBED = "index.scrubbed", "That log is empty as well, where no reader held it."
    DESTRUCTION_DONE = "destroy.done", "All of it is gone; no line says so."
    DESTRUCTION_CERTIFIED = "destroy.certified", "The line that it is done is on disk."

    # Cutting a span out of what was sealed.
    REDACTION_DECIDED = "redact.decided", "A span is to be cut out; nothing says so yet."
    REDACTION_BEGUN = "redact.begun", "The line that it begins is on disk; the old file is the recording."
    REDACTION_INDEXING = (
        "redact.indexing",
        "New file and manifest are in the archive; the index names the old ones.",
    )
    REDACTION_INDEXED = "redact.indexed", "The index names the new ones; the old ones are still there."
    REDACTION_DONE = "redact.done", "The old ones are gone; no line says so."
    REDACTION_CERTIFIED = "redact.certified", "The line that it is done is on disk."

    # Giving a copy.
    EXPORT_ALLOWED = "export.allowed", "A copy may be given; no line says so, and there is none."
    EXPORT_COMMITTED = "export.committed", "The line about the copy is on disk; there is none."
    EXPORT_COPYING = "export.copying", "The copy's files are about to be written."
    EXPORT_AUDIO_COPIED = "export.audio.copied", "The audio is copied."
    EXPORT_MANIFEST_COPIED = "export.manifest.copied", "The manifest too."
    EXPORT_COPIED = "export.copied", "The disclosure's page too."

    meaning: str

    def __new__(cls, name: str, meaning: str) -> FaultPoint:
        point = object.__new__(cls)
        point._value_ = name
        point.meaning = meaning
        return point


class Fuse:
    """Burns at the n-th pass of one point. `text`: ``name[:n]``; raises ValueError for anything else."""

    def __init__(self, text: str) -> None:
        name, _, count = text.partition(":")
        self._point = FaultPoint(name)  # type: ignore[call-arg]  # looked up by its value
        self._last = int(count or 1)
        self._passes = itertools.count(1)  # threads pass too: taking the next number is one step

    def burns(self, point: FaultPoint) -> bool:
        """Whether it does, at this pass."""
        return point is self._point and next(self._passes) == self._last


def _from(variable: str) -> Fuse | None:
    return Fuse(os.environ[variable]) if os.environ.get(variable) else None


_fuse, _pause = _from(VARIABLE), _from(STANDS)


def reached(point: FaultPoint) -> None:
    """Nothing, but in a process that a test started to die, or to stand still, here."""
    if _fuse is not None and _fuse.burns(point):
        os.kill(os.getpid(), signal.SIGKILL)
    if _pause is not None and _pause.burns(point):
        os.kill(os.getpid(), signal.SIGSTOP)
