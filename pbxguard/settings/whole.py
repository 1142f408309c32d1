"""All settings together, and what the other parts take from them: policy, purposes, wording."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pbxguard.core import defaults, never_record
from pbxguard.core.defaults import Wording
from pbxguard.core.ids import PurposeName
from pbxguard.core.policy import GuardMode, Limits, PartyPatterns, Policy, Scope
from pbxguard.core.purposes import Basis, Disclosure, DisclosureKey, Purpose

from .sections import (
    AgiSettings,
    AmiSettings,
    ArchiveSettings,
    AriSettings,
    Country,
    DatabaseSettings,
    LimitSettings,
    LogSettings,
    Name,
    NeverRecordSettings,
    OrganisationSettings,
    PartySettings,
    PromptSettings,
    PurposeSettings,
    ScopeSettings,
    Section,
    SocketSettings,
    SpoolSettings,
)


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


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
