"""All settings together, and what the other parts take from them: policy, purposes, wording."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pbxguard.core import defaults, never_record
from pbxguard.core.confirmations import Confirmation, ConfirmationKey, confirmation_keys
from pbxguard.core.defaults import Wording
from pbxguard.core.devices import DeviceRules
from pbxguard.core.ids import PurposeName
from pbxguard.core.policy import GuardMode, Limits, PartyPatterns, Policy, Scope
from pbxguard.core.purposes import Basis, Disclosure, DisclosureKey, Purpose

from .sections import (
    NODE,
    PREFIX,
    SEVERAL,
    AgiSettings,
    AmiSettings,
    ArchiveSettings,
    AriSettings,
    Country,
    DatabaseSettings,
    DeviceSettings,
    JoinerSettings,
    Language,
    LimitSettings,
    LogSettings,
    Name,
    NeverRecordSettings,
    OrganisationSettings,
    PartySettings,
    PauseSettings,
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
    node: Annotated[str, Field(pattern=NODE)] = Field(
        default_factory=lambda: "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.") or "pbx"
    )
    """This installation's name in a fleet: part of every recording's id, so do not change it later."""
    country: Country = "NL"
    default_jurisdiction: Country = "NL"
    jurisdictions: Mapping[Annotated[str, Field(pattern=PREFIX)], Country] = Field(default_factory=dict)
    """E.164 prefix -> country, where the number's own country is not the law that holds."""
    languages: tuple[Language, ...] = Field(default=("nl", "en"), min_length=1)
    default_language: str = Field(default="nl", validate_default=True)
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
    devices: DeviceSettings = DeviceSettings()
    never_record: NeverRecordSettings = NeverRecordSettings()
    purposes: Mapping[Name, PurposeSettings] = Field(default_factory=dict)
    limits: LimitSettings = LimitSettings()
    pause: PauseSettings = PauseSettings()
    joiners: JoinerSettings = JoinerSettings()
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
        found: list[tuple[tuple[str, ...], str]] = []
        for name, given in purposes.items():
            if name in defaults.PURPOSES:
                continue
            if given.basis is None:
                near = _near(name, defaults.PURPOSES)
                found.append(((name,), f"is not a shipped purpose{near}: one of your own needs basis"))
            missing = [language for language in info.data.get("languages", ()) if language not in given.texts]
            if missing:
                found.append(((name, "texts"), f"a purpose of your own needs texts in {', '.join(missing)}"))
        _refuse(found)
        return purposes

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        known = {*defaults.PURPOSES, *self.purposes}
        _refuse(
            [
                (("prompts", "pairs"), f"{name} is no purpose{_near(name, known)}")
                for pair in self.prompts.pairs
                for name in pair
                if name not in known
            ]
        )
        return self

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

    def confirmation_keys(self) -> list[ConfirmationKey]:
        """Every sentence that an objection during a call can call for, in the configured languages."""
        return confirmation_keys([p for p in self.all_purposes().values() if p.active], self.languages)

    def policy(
        self,
        disclosures: Mapping[DisclosureKey, Disclosure] | Iterable[Disclosure],
        confirmations: Iterable[Confirmation] = (),
    ) -> Policy:
        """What the core decides by. `disclosures` and `confirmations` are the approved ones."""
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
            confirmations=MappingProxyType({c.key: c for c in confirmations}),
            parties=PartyPatterns(
                **self.parties.model_dump(), devices=DeviceRules(self.devices.groups, self.devices.by_contact)
            ),
            never_record=never_record.entries(
                self.never_record.listed, self.country, defaults=self.never_record.defaults
            ),
            mode=self.mode,
            scopes=tuple(Scope(s.mode, s.queue, s.did, s.context) for s in self.scopes),
            jurisdiction_overrides=MappingProxyType(dict(self.jurisdictions)),
            limits=Limits(**self.limits.model_dump()),
            pause=self.pause.rule,
            joiners=self.joiners.rule,
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


def _refuse(found: list[tuple[tuple[str, ...], str]]) -> None:
    """All of these mistakes at once, if there is one: (place below, reason)."""
    if found:
        raise PydanticCustomError(SEVERAL, "several mistakes", {"found": found})


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""
