"""The configuration file: TOML in, checked settings out, every mistake at once.

Owns the names and defaults of all settings, and how a mistake is told. Whether the world agrees with them (files,
rights, connections) is `service/check.py`'s question.
"""

from __future__ import annotations

import difflib
import socket
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import phonenumbers
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pbxguard.core import defaults, never_record
from pbxguard.core.defaults import Wording
from pbxguard.core.errors import SettingsError
from pbxguard.core.ids import PurposeName
from pbxguard.core.policy import GuardMode, Limits, PartyPatterns, Policy, Scope
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, OnObjection, Purpose

DEFAULT_PATH = Path("/etc/pbxguard/pbxguard.toml")
_STATE = Path("/var/lib/pbxguard")
_SHIPPED_LANGUAGES = defaults.LANGUAGES


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
Port = Annotated[int, Field(ge=1, le=65535)]
Pattern = Annotated[str, Field(max_length=200), AfterValidator(_pattern)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Seconds = Annotated[float, Field(gt=0, le=600)]
Days = Annotated[int, Field(ge=1, le=3660)]


class Section(BaseModel):
    """A table of the file: unknown keys are mistakes, values never change afterwards, secrets are not shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, hide_input_in_errors=True)


class OrganisationSettings(Section):
    """Who records: named in every disclosure (art. 13 GDPR)."""

    name: Line
    site: str = Field(default="", max_length=200)
    """Where more can be read, e.g. ``example.nl/privacy``; spoken as "Meer op ..."."""


class ScopeSettings(Section):
    """A mode of its own for a queue, a DID or a context (of those that match, the most specific holds)."""

    mode: GuardMode
    queue: str = ""
    did: str = ""
    context: str = ""

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
    secret: str = Field(default="", repr=False)
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

    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")] = "http://127.0.0.1:8088/ari"
    username: Line = "pbxguard"
    password: str = Field(default="", repr=False)
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
    pairs: tuple[tuple[Name, Name], ...] = ((defaults.CONTRACT_EVIDENCE, defaults.QUALITY_TRAINING),)
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


class NeverRecordSettings(Section):
    """Numbers never recorded: help lines, and your own lawyers, doctor, works council, ..."""

    defaults: bool = True
    numbers: tuple[str, ...] = ()

    @field_validator("numbers", mode="after")
    @classmethod
    def _all_numbers(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        for position, text in enumerate(numbers, 1):
            try:
                never_record.entries([text], "NL", defaults=False)
            except ValueError as error:
                raise ValueError(f"entry {position} is {error}") from None
        return numbers


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

    balancing_test: str = ""
    """For basis f: the balancing of interests."""
    employees_informed: str = ""
    """When or in what the staff were told."""
    works_council: str = ""
    """Its consent (WOR 27); due above 50 staff."""


class PurposeSettings(Section):
    """Changes to a shipped purpose, or a purpose of your own (which needs `basis` and `texts`)."""

    active: bool | None = None
    mode: Mode | None = None
    directions: frozenset[Direction] | None = Field(default=None, min_length=1)
    basis: Basis | None = None
    on_objection: OnObjection | None = None
    listeners: tuple[Line, ...] | None = None
    texts: Mapping[Annotated[str, Field(pattern=r"^[a-z]{2}$")], Annotated[str, Field(max_length=500)]] = Field(
        default_factory=dict
    )
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


class Settings(Section):
    """All of it. What has a default may be left out: organisation, ami, ari and parties make a working file."""

    organisation: OrganisationSettings
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        default_factory=lambda: "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.") or "pbx"
    )
    """This installation's name in a fleet: part of every recording's id, so do not change it later."""
    country: Country = "NL"
    default_jurisdiction: Country = "NL"
    jurisdictions: Mapping[Annotated[str, Field(pattern=r"^\+[0-9]{1,15}$")], Country] = Field(default_factory=dict)
    """E.164 prefix -> country, where the number's own country is not the law that holds."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2}$")], ...] = Field(default=("nl", "en"), min_length=1)
    default_language: str = "nl"
    rate: Literal[8000, 16000] = 8000
    """Samples per second of the whole installation; nothing is resampled."""
    mode: GuardMode = GuardMode.OBSERVE
    scopes: tuple[ScopeSettings, ...] = ()
    employees: Annotated[int, Field(ge=1)] | None = None
    """How many people work here: above 50 the works council must consent."""
    ami: AmiSettings
    ari: AriSettings
    agi: AgiSettings = AgiSettings()
    spool: SpoolSettings = SpoolSettings()
    archive: ArchiveSettings = ArchiveSettings()
    database: DatabaseSettings = DatabaseSettings()
    prompts: PromptSettings = PromptSettings()
    parties: PartySettings
    never_record: NeverRecordSettings = NeverRecordSettings()
    purposes: Mapping[Name, PurposeSettings] = Field(default_factory=dict)
    limits: LimitSettings = LimitSettings()
    socket: SocketSettings = SocketSettings()
    logs: LogSettings = LogSettings()

    @field_validator("default_language")
    @classmethod
    def _spoken(cls, language: str, info: ValidationInfo) -> str:
        if "languages" in info.data and language not in info.data["languages"]:
            raise ValueError("is not one of languages")
        return language

    @field_validator("purposes")
    @classmethod
    def _whole(cls, purposes: Mapping[str, PurposeSettings], info: ValidationInfo) -> Mapping[str, PurposeSettings]:
        languages = info.data.get("languages", ())
        for name, given in purposes.items():
            if name in defaults.PURPOSES:
                continue
            if given.basis is None:
                raise ValueError(
                    f"{name} is not a shipped purpose{_near(name, defaults.PURPOSES)}: one of your own needs basis"
                )
            missing = [language for language in languages if language not in given.texts]
            if missing:
                raise ValueError(f"{name} needs texts in {', '.join(missing)}")
        return purposes

    def all_purposes(self) -> Mapping[PurposeName, Purpose]:
        """The shipped purposes as changed here, and those of your own."""
        merged = dict(defaults.PURPOSES)
        for name, given in self.purposes.items():
            merged[PurposeName(name)] = _merge(PurposeName(name), merged.get(PurposeName(name)), given)
        return MappingProxyType(merged)

    def wording(self) -> Wording:
        """What the disclosures' texts are made from."""
        own = {(name, language): text for name, p in self.purposes.items() for language, text in p.texts.items()}
        return Wording(
            self.organisation.name, self.organisation.site, MappingProxyType(own), self.prompts.outbound_opening
        )

    def pairs(self) -> tuple[tuple[PurposeName, PurposeName], ...]:
        """Purposes that one notice may name together."""
        return tuple((PurposeName(a), PurposeName(b)) for a, b in self.prompts.pairs)

    def disclosure_keys(self) -> list[DisclosureKey]:
        """Every disclosure that can become due, of the active purposes in the configured languages."""
        active = (purpose for purpose in self.all_purposes().values() if purpose.active)
        return defaults.disclosure_keys(active, self.languages, self.pairs())

    def policy(self, disclosures: Mapping[DisclosureKey, Disclosure] | Iterable[Disclosure]) -> Policy:
        """What the core decides by. `disclosures` are the approved ones."""
        if not isinstance(disclosures, Mapping):
            disclosures = {d.key: d for d in disclosures}
        return Policy(
            organisation=self.organisation.name,
            country=self.country,
            default_jurisdiction=self.default_jurisdiction,
            default_language=self.default_language,
            languages=self.languages,
            purposes=self.all_purposes(),
            disclosures=MappingProxyType(dict(disclosures)),
            parties=PartyPatterns(**self.parties.model_dump()),
            never_record=never_record.entries(
                self.never_record.numbers, self.country, defaults=self.never_record.defaults
            ),
            mode=self.mode,
            scopes=tuple(Scope(s.mode, s.queue, s.did, s.context) for s in self.scopes),
            jurisdiction_overrides=MappingProxyType(dict(self.jurisdictions)),
            limits=Limits(**self.limits.model_dump()),
        )


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Read and check the file; raises SettingsError with every mistake in it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError([(str(path), "does not exist", "`pbxguard init` writes one")]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8"
        raise SettingsError(
            [(str(path), f"cannot be read: {reason}", "mend its permissions or its encoding")]
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([(str(path), f"is not TOML: {error}", "texts stand in double quotes")]) from None
    return from_mapping(raw)


def from_mapping(raw: Mapping[str, Any]) -> Settings:
    """Check settings that were read already; raises SettingsError with every mistake."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # A list whose every entry is wrong is called too short as well: only the entries are worth telling.
        broken = {e["loc"][:-1] for e in found}
        told = [e for e in found if not (e["type"] == "too_short" and e["loc"] in broken)]
        raise SettingsError([_mistake(e) for e in told]) from None


def _merge(name: PurposeName, shipped: Purpose | None, given: PurposeSettings) -> Purpose:
    basis = given.basis or (shipped.basis if shipped else Basis.LEGITIMATE_INTEREST)
    base = shipped or Purpose(name, basis=basis, active=True)
    return Purpose(
        name,
        basis=basis,
        active=base.active if given.active is None else given.active,
        mode=given.mode or base.mode,
        directions=given.directions or base.directions,
        on_objection=given.on_objection or base.on_objection,
        listeners=base.listeners if given.listeners is None else given.listeners,
    )


def _one_of(text: str, file: Path | None, what: str) -> None:
    if bool(text) == (file is not None):
        raise ValueError(f"give {what} or {what}_file, and not both")
    if any(not c.isprintable() for c in text):
        raise ValueError(f"{what} must be one line of text")


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


_REASONS = {"missing": "is missing", "extra_forbidden": "is unknown", "too_short": "needs at least one entry"}
_MENDS = {
    "missing": "add it",
    "organisation.name": 'name = "Your organisation" under [organisation]: every disclosure names it',
    "organisation": 'add [organisation] with name = "Your organisation"',
    "ami": 'add [ami] with secret = "..." as in manager.conf',
    "ari": 'add [ari] with password = "..." as in ari.conf',
    "parties": 'add [parties] with own = ["PJSIP/1??-*"] and external = ["PJSIP/trunk-*"]',
}


def _mistake(error: Any) -> tuple[str, str, str]:
    """Key, reason and mend of one of pydantic's errors. Its input is never shown: it may be a secret."""
    loc = tuple(part for part in error["loc"] if part != "[key]")
    key = _key(loc)
    kind = error["type"]
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    reason = _REASONS.get(kind) or (message[:1].lower() + message[1:])
    if kind == "extra_forbidden":
        names = _names_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), names, n=1, cutoff=0.6)
        elsewhere = [k for k in _all_keys() if k.rpartition(".")[2] == str(loc[-1])]
        if near:
            return key, reason, f"did you mean {_key((*loc[:-1], near[0]))}?"
        if elsewhere:
            return key, reason, f"did you mean {elsewhere[0]}?"
        return key, reason, f"known here: {', '.join(sorted(names))}"
    if "[key]" in error["loc"]:
        reason = f"is no good name: {reason}"
    return key, reason, _MENDS.get(key, _MENDS.get(kind, "correct it; `pbxguard init` shows every setting"))


def _key(loc: Iterable[str | int]) -> str:
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _names_at(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the table at `loc` may have."""
    model: type[BaseModel] | None = Settings
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        if field is not None:
            model = _section_in(field.annotation)
    return list(model.model_fields) if model else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        for part in typing.get_args(annotation):
            found = _section_in(part)
            if found:
                return found
    return None


def _all_keys(model: type[BaseModel] = Settings, before: str = "") -> list[str]:
    """Every dotted key there is, for did-you-mean and for the reference page."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = _section_in(field.annotation)
        keys.append(before + name)
        if section:
            keys += _all_keys(section, f"{before}{name}.")
    return keys
