"""What lies in files: settings, sounds, tags, manifests, the audit log's data, prompts, the spool."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pbxguard.archive.files import CallerIdStyle, stem
from pbxguard.archive.spool import Spool
from pbxguard.core.defaults import Wording, notice_text
from pbxguard.core.errors import NotFound, PromptRefused, SettingsError, StorageFailed, UnsafeValue
from pbxguard.core.ids import PurposeName, RecordingId, SegmentId
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.core.records import AuditEntry
from pbxguard.core.remembered import fact_of
from pbxguard.core.segments import ClosedSegment, OpenSegment
from pbxguard.service import watermark
from pbxguard.service.verification import _verify_manifest
from pbxguard.settings import load, load_ami
from pbxguard.sound import convert, flac
from pbxguard.sound.prompts import REGISTRY, Prompts
from tests.db.rows import NOON, recording

from .common import folder, json_of, require, shows_only, target, text_of

KEY = DisclosureKey.of((PurposeName("contract_evidence"),), "nl", Mode.OPT_OUT, Direction.INBOUND)


@target
def settings_toml(data: bytes) -> None:
    """The configuration file; all that is made of it when it is accepted."""
    with folder() as place:
        file = place / "pbxguard.toml"
        file.write_bytes(data)
        for read in (load, load_ami):
            try:
                read(file)
            except SettingsError as error:
                told = error.diagnostics()
                require(error.mistakes, "a mistake is named")
                require(shows_only(told), "a mistake is told in plain text")
        with suppress(SettingsError, KeyError):  # a language without words: its prompts are missing
            accepted = load(file)
            accepted.policy({})
            for key in accepted.disclosure_keys():
                require(notice_text(key, accepted.wording()), "every disclosure has words")


@target
def studio_sound(data: bytes) -> None:
    """A studio recording that becomes a prompt."""
    with folder() as place:
        file = place / "sound.wav"
        file.write_bytes(data)
        with suppress(PromptRefused):
            samples, rate = convert.read_sound(file)
            prompt = convert.to_prompt(samples, rate, 8000)
            seconds = len(prompt) / 8000
            require(convert.SHORTEST_SECONDS <= seconds <= convert.LONGEST_SECONDS + 1, "a prompt is of good length")
            require(abs(int(abs(prompt.astype("int32")).max()) - convert.PEAK * 32767) < 3000, "and levelled")


@target
def flac_comments(data: bytes) -> None:
    """Vorbis comments: what is written reads as itself, whatever else is in the file."""
    with suppress(StorageFailed):
        flac._parse_comment(data)
    tags = [(f"TAG{number}", text_of(line)) for number, line in enumerate(data.split(b"\n"))]
    read = flac._parse_comment(flac._comment_block(tags))
    require([name for name, _ in read] == [name for name, _ in tags], "every tag is there, once")
    require(all(shows_only(value, "") for _, value in read), "no tag holds a control character")
    with folder() as place:
        file = place / "a.flac"
        file.write_bytes(data)
        with suppress(StorageFailed):
            flac.read_tags(file)
        before = file.read_bytes()
        try:
            flac.write_tags(file, tags)
        except StorageFailed:
            require(file.read_bytes() == before, "a file that is refused stays as it is")
        else:
            require([value for _, value in flac.read_tags(file)] == [value for _, value in read], "the tags are there")
        require([one.name for one in place.iterdir()] == [file.name], "nothing else is left")


@target
def manifest(data: bytes) -> None:
    """A manifest that somebody wrote over."""
    row = recording()
    with folder() as place:
        file = place / "a.json"
        file.write_bytes(data)
        problems = _verify_manifest(row, file)
        require(json_of(data) == dict(row.manifest) or "manifest_changed" in problems, "a change is seen")


@target
def audit_data(data: bytes) -> None:
    """Lines of the audit log, of another make or damaged."""
    kind, _, rest = data.partition(b"\n")
    found = json_of(rest)
    entry = AuditEntry(text_of(kind), NOON, channel="1.1", data=found)
    fact_of(entry)
    for read in (OpenSegment.from_data, ClosedSegment.from_data):
        with suppress(KeyError, TypeError, ValueError):
            read(found)
    with folder() as place:
        file = place / "watermark"
        file.write_bytes(rest)
        mark = watermark.read(file, "this boot")
        require(isinstance(mark.at, float) and isinstance(mark.boot, str), "a watermark is one, or none")


@target
def prompts_registry(data: bytes) -> None:
    """The registry of the prompts."""
    with folder() as place:
        (place / REGISTRY).write_bytes(data)
        prompts = Prompts(place, PurePosixPath(place), 8000, Wording("Acme", ""))
        with suppress(StorageFailed):
            require(not prompts.approved([KEY]), "what has no sound is not played")
        with suppress(StorageFailed):
            prompts.states([KEY])
        with suppress(StorageFailed, NotFound, PromptRefused):
            prompts.approve(str(KEY), "somebody", NOON)
        with suppress(StorageFailed, NotFound):
            for file in prompts.played("digest").files:
                require(file.parent == place, "a sound lies in the folder")
        prompts.text_behind(str(KEY), "digest")


@target
def spool_names(data: bytes) -> None:
    """Names of files in the spool and in its quarantine."""
    names = {name[:60] for name in data.split(b"\n") if name and b"/" not in name and b"\0" not in name}
    names -= {b".", b"..", b"quarantine"}
    with folder() as place:
        spool = Spool(place, PurePosixPath("/spool"), 8000)
        (place / "quarantine").mkdir()
        for name in sorted(names)[:20]:
            (place / text_of(name)).touch()
            (place / "quarantine" / text_of(name)).touch()
        ours = [name for segment in spool.segments() for name in spool.names(segment)]
        strange = spool.strangers()
        require(len({*ours, *strange}) == min(len(names), 20), "each file is ours or strange")
        for stranger in strange:
            spool.set_apart(stranger, datetime(2026, 1, 1, tzinfo=UTC))
        for old in spool.set_apart_before(NOON):
            spool.destroy_set_apart(old)
        require(not spool.strangers(), "what is strange is set apart")


@target
def archive_name(data: bytes) -> None:
    """Where a recording is filed, whatever the caller shows and the purpose is called."""
    first, _, rest = data.partition(b"\n")
    for style in CallerIdStyle:
        with suppress(UnsafeValue):
            name = stem(NOON, [text_of(rest)], text_of(first), RecordingId("aaaaaaaaaaaaaaaa"), style)
            require(name.isascii() and name.count("/") == 3 and ".." not in name, "a path is of our making")
            require(name.replace("/", "").replace("_", "").replace("-", "").isalnum(), "and plain")
            require(Path(name).name.endswith("_aaaaaaaaaaaaaaaa"), "and ends in the recording's id")
    with suppress(UnsafeValue):
        files = Spool(Path("/s"), PurePosixPath("/s"), 8000).files(SegmentId(text_of(first)))
        require(files.own.parent == Path("/s") and files.own.name.isascii(), "a spool file lies in the spool")
