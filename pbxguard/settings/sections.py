"""The tables of the configuration file: names, types, defaults, and what each value may be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import phonenumbers
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pbxguard.core import defaults, never_record
from pbxguard.core.errors import SettingsError
from pbxguard.core.policy import GuardMode, JoinerRule, Limits, PauseRule
from pbxguard.core.purposes import Basis, Direction, Mode, OnObjection

_STATE = Path("/var/lib/pbxguard")
LANGUAGE, PREFIX = r"^[a-z]{2}$", r"^\+[0-9]{1,15}$"
NAME, NODE = r"^[a-z][a-z0-9_]{0,39}$", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
URL = r"^https?://[^\s/?#]+(/[^\s?#]*)?$"
SEVERAL = "several"
"""An error of ours that stands for several mistakes: its context has `found`, of place below it, and reason."""


def _country(code: str) -> str:
    if code.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("no country of ISO 3166-1, e.g. NL")
    return code.upper()


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or any(not c.isprintable() for c in str(path)):
        raise ValueError("must be an absolute path")
    return path


def _spelled_for_asterisk(path: Path) -> Path:
    # It goes into AMI and dialplan arguments, where these would end or expand something.
    if set(str(path)) & set(",&;|${}^\"'\\ "):
        raise ValueError("may hold no space, quote or any of , & ; | $ { } ^ \\")
    return path


def _one_line(text: str) -> str:
    if not text.strip() or any(not c.isprintable() for c in text):
        raise ValueError("must be one line of text")
    return text.strip()


def _printable(text: str) -> str:
    if any(not c.isprintable() for c in text):
        raise ValueError("must be one line of text")
    return text


def _number(text: str) -> str:
    try:
        never_record.entries([text], "NL", defaults=False)
    except ValueError as error:
        raise ValueError(str(error)) from None
    return text


def _two(pair: tuple[str, str]) -> tuple[str, str]:
    if pair[0] == pair[1]:
        raise ValueError(f"names {pair[0]} twice")
    return pair


def _pattern(text: str) -> str:
    if "/" not in text or not _one_line(text):
        raise ValueError('must be a channel pattern with its technology, e.g. "PJSIP/1??-*"')
    if text.startswith("*") or text.split("/", 1)[1].strip("*") == "":
        raise ValueError("covers every channel: then nobody could be told from anybody")
    return text


Country = Annotated[str, AfterValidator(_country)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
AsteriskPath = Annotated[Path, AfterValidator(_absolute), AfterValidator(_spelled_for_asterisk)]
Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]
Port = Annotated[int, Field(ge=1, le=65535)]
Pattern = Annotated[str, Field(max_length=200), AfterValidator(_pattern)]
Name = Annotated[str, Field(pattern=NAME)]
Language = Annotated[str, Field(pattern=LANGUAGE)]
Number = Annotated[str, AfterValidator(_number)]
Secret = Annotated[str, AfterValidator(_printable)]
Free = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Pair = Annotated[tuple[Name, Name], AfterValidator(_two)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Days = Annotated[int, Field(ge=1, le=3660)]


class Section(BaseModel):
    """A table of the file: unknown keys are mistakes, values never change afterwards, secrets are not shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, hide_input_in_errors=True)


class OrganisationSettings(Section):
    """Who records: named in every disclosure (art. 13 GDPR)."""

    name: Line
    site: Free = ""
    """Where more can be read, e.g. ``example.nl/privacy``; spoken as "Meer op ..."."""


class ScopeSettings(Section):
    """A mode of its own for a queue, a DID or a context (of those that match, the most specific holds)."""

    mode: GuardMode
    queue: Free = ""
    did: Free = ""
    context: Free = ""

    @model_validator(mode="after")
    def _names_something(self) -> ScopeSettings:
        if not (self.queue or self.did or self.context):
            raise ValueError("name a queue, a did or a context; for all calls use the top-level mode")
        return self


class AmiSettings(Section):
    """The manager account (`config/asterisk/manager.conf`). Its secret stands here or in a file, not in both."""

    host: Line = "127.0.0.1"
    port: Port = 5038
    username: Line = "pbxguard"
    secret: Secret = Field(default="", repr=False)
    secret_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> AmiSettings:
        _one_of(self.secret, self.secret_file, "secret")
        return self

    def read_secret(self) -> str:
        """The secret, from wherever it stands; raises SettingsError when its file cannot be read."""
        return _secret(self.secret, self.secret_file, "ami.secret_file")


class AriSettings(Section):
    """The ARI account (`config/asterisk/ari.conf`)."""

    url: Annotated[str, Field(pattern=URL)] = "http://127.0.0.1:8088/ari"
    username: Line = "pbxguard"
    password: Secret = Field(default="", repr=False)
    password_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _one_password(self) -> AriSettings:
        _one_of(self.password, self.password_file, "password")
        return self

    def read_password(self) -> str:
        """The password, from wherever it stands; raises SettingsError when its file cannot be read."""
        return _secret(self.password, self.password_file, "ari.password_file")


class AgiSettings(Section):
    """Where our FastAGI server listens: it has no authentication, so loopback only."""

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: Port = 4573


class SpoolSettings(Section):
    """Where Asterisk writes while a call lasts."""

    path: AbsolutePath = Path("/var/spool/pbxguard")
    asterisk_path: AsteriskPath | None = None
    """The same folder as Asterisk spells it, where it runs in a container or chroot."""
    min_free_mb: Annotated[int, Field(ge=1)] = 500
    """Below it no new recording starts."""

    @property
    def for_asterisk(self) -> Path:
        return self.asterisk_path or self.path


class ArchiveSettings(Section):
    """Where sealed recordings live."""

    root: AbsolutePath = _STATE / "archive"
    caller_id: Literal["plain", "masked", "none"] = "plain"
    """What of the external number a file name shows."""


class DatabaseSettings(Section):
    """Index and audit log."""

    url: str = Field(default=f"sqlite+aiosqlite:///{_STATE}/pbxguard.db", repr=False)

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if not url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError("must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://")
        return url


class PromptSettings(Section):
    """Texts and sounds of the disclosures."""

    directory: AbsolutePath = _STATE / "prompts"
    asterisk_directory: AsteriskPath | None = None
    """The same folder as Asterisk spells it."""
    outbound_opening: bool = True
    """Outbound calls open with "This is ..., calling with an offer."; off where they sell nothing."""
    pairs: tuple[Pair, ...] = ((defaults.CONTRACT_EVIDENCE, defaults.QUALITY_TRAINING),)
    """Purposes that one notice may name together."""

    @property
    def for_asterisk(self) -> Path:
        return self.asterisk_directory or self.directory


class PartySettings(Section):
    """Shell patterns on channel names; the first match in the order private, mandated, own, external holds."""

    own: tuple[Pattern, ...] = Field(min_length=1)
    external: tuple[Pattern, ...] = Field(min_length=1)
    private: tuple[Pattern, ...] = ()
    mandated: tuple[Pattern, ...] = ()
    listen_only_spies: bool = False


def _endpoint(text: str) -> str:
    if "/" not in text or not _one_line(text) or text.split("/", 1)[1].strip("*") == "":
        raise ValueError('must be an endpoint with its technology, e.g. "PJSIP/110"')
    return text


EndpointPattern = Annotated[str, Field(max_length=200), AfterValidator(_endpoint)]


class DeviceSettings(Section):
    """Which endpoints are one telephone: while it has two calls that are not on hold, it may pass one into the other.
    Shell patterns; what stands in neither is one telephone for each endpoint."""

    groups: tuple[Annotated[tuple[EndpointPattern, ...], Field(min_length=2)], ...] = ()
    """Accounts that are on one telephone."""
    by_contact: tuple[EndpointPattern, ...] = ()
    """Endpoints on which several telephones are registered, told apart by their addresses."""


MOST_LISTED = 100_000
"""Lines of a file with numbers never to be recorded."""


class NeverRecordSettings(Section):
    """Numbers never recorded: help lines, and your own lawyers, doctor, works council, ..."""

    defaults: bool = True
    numbers: tuple[Number, ...] = ()
    """In any notation; one that ends in ``*`` is a prefix, one that begins with ``_`` a pattern as in Asterisk."""
    files: tuple[AbsolutePath, ...] = ()
    """Further entries, one a line; ``#`` begins a comment. Read at the start and on SIGHUP."""
    _read: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("files")
    @classmethod
    def _readable(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """A mistake in a file is told of `files`."""
        for path in files:
            deque(_entries_of(path), maxlen=0)
        return files

    @property
    def listed(self) -> tuple[str, ...]:
        """The entries of here and of the files, as they were when the settings were read."""
        return self.numbers + self._read

    @model_validator(mode="after")
    def _read_files(self) -> NeverRecordSettings:
        self._read = tuple(entry for path in self.files for entry in _entries_of(path))
        return self


class RetentionSettings(Section):
    """How long a purpose's recordings are kept; what is left out keeps LAW.md 4's period."""

    days: Days | None = None
    """For every outcome, or where none is asked."""
    no_contract_days: Days | None = None
    undecided_days: Days | None = None
    contract_months: Annotated[int, Field(ge=1, le=120)] | None = None
    """Counted from the contract's end."""


class ReferenceSettings(Section):
    """Where the papers are: references only, e.g. ``DPO-2026-04``. `pbxguard check` asks for those that are due."""

    balancing_test: Free = ""
    """For basis f: the balancing of interests."""
    employees_informed: Free = ""
    """When or in what the staff were told."""
    works_council: Free = ""
    """Its consent (WOR 27); due above 50 staff."""


class PurposeSettings(Section):
    """Changes to a shipped purpose, or a purpose of your own (which needs `basis` and `texts`)."""

    active: bool | None = None
    mode: Mode | None = None
    directions: frozenset[Direction] | None = Field(default=None, min_length=1)
    basis: Basis | None = None
    on_objection: OnObjection | None = None
    listeners: tuple[Line, ...] | None = None
    texts: Mapping[Language, Text] = Field(default_factory=dict)
    """Language -> the notice's sentence, with ``{org}`` and ``{site}``."""
    retention: RetentionSettings = RetentionSettings()
    references: ReferenceSettings = ReferenceSettings()


class LimitSettings(Section):
    """Bounds in seconds; the defaults are measured (see `core.policy.Limits`)."""

    beat_lag_start: Annotated[float, Field(gt=0, le=2)] = Limits().beat_lag_start
    beat_lag_stop: Annotated[float, Field(gt=0, le=10)] = Limits().beat_lag_stop
    half_done: Annotated[float, Field(gt=0, le=1)] = Limits().half_done
    hold_trust: Seconds = Limits().hold_trust
    retry_start: Seconds = Limits().retry_start
    key_wait: Annotated[float, Field(gt=0, le=30)] = Limits().key_wait

    @field_validator("beat_lag_stop")
    @classmethod
    def _stops_after_it_no_longer_starts(cls, stop: float, info: ValidationInfo) -> float:
        if stop < info.data.get("beat_lag_start", 0.0):
            raise ValueError("must be at least beat_lag_start")
        return stop


class PauseSettings(Section):
    """A pause (card entry) that nobody ends."""

    timeout_seconds: Annotated[float, Field(gt=0, le=7200)] = PauseRule().timeout
    then: Literal["stay", "resume"] = "stay"
    """After that time it stays paused, and the log tells of it; or recording goes on."""

    @property
    def rule(self) -> PauseRule:
        return PauseRule(self.timeout_seconds, self.then == "resume")


class JoinerSettings(Section):
    """External parties who join a conversation untold: they close its recording while they are there, or are told."""

    tell: bool = JoinerRule().tell
    """Whisper the disclosure to them, in the language of the call; the recording goes on once they heard it in full."""
    after_seconds: Annotated[float, Field(ge=0, le=600)] = JoinerRule().after
    """How long they must have stayed before."""

    @property
    def rule(self) -> JoinerRule:
        return JoinerRule(self.tell, self.after_seconds)


class SocketSettings(Section):
    """The service's own socket (mode 0660): who may open it may look and switch."""

    path: AbsolutePath = Path("/run/pbxguard/pbxguard.sock")

    @field_validator("path")
    @classmethod
    def _fits(cls, path: Path) -> Path:
        if len(str(path).encode()) > 100:
            raise ValueError("is too long for a Unix socket (100 bytes)")
        return path


class LogSettings(Section):
    mask_numbers: bool = True
    level: Literal["debug", "info", "warning", "error"] = "info"


def _entries_of(path: Path) -> Iterator[str]:
    """The entries of a file of numbers; raises ValueError, naming the line and no number, on one that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8"
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if len(lines) > MOST_LISTED:
        raise ValueError(f"{path} has more than {MOST_LISTED} lines")
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            never_record.entries([entry], "NL", defaults=False)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is {error}") from None
        yield entry


def _one_of(text: str, file: Path | None, what: str) -> None:
    if bool(text) == (file is not None):
        raise ValueError(f"give {what} or {what}_file, and not both")


def _secret(text: str, file: Path | None, key: str) -> str:
    if file is None:
        return text
    try:
        content = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError([(key, "cannot be read", "let pbxguard's user read it, and nobody else")]) from None
    if not content or any(not c.isprintable() for c in content):
        raise SettingsError([(key, "must hold one line of text", "write the secret into it")])
    return content
