"""`pbxguard check`: everything that is wrong at once, each with its place and its mend.

Owns the findings about disclosures, papers, prompts, secrets; those about Asterisk stand in `check_pbx.py`. It asks
Asterisk through `PbxProbe` (fulfilled by `pbx/probe.py`) and prompts through `PromptShelf` (by `cli/prompts.py`).
What it cannot see it does not guess: recorders begun before we connected, a dialplan that calls
our subroutines from where they must not be called.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pbxguard.core.confirmations import ConfirmationKey
from pbxguard.core.defaults import full_text, vague
from pbxguard.core.errors import PbxguardError, SettingsError
from pbxguard.core.jurisdictions import mode_for
from pbxguard.core.policy import GuardMode
from pbxguard.core.purposes import Basis, DisclosureKey, Mode, Purpose
from pbxguard.settings import Settings

from .check_pbx import PbxProbe, check_pbx
from .findings import Finding, Severity, about

LONGEST_NOTICE_MS = 6000
"""LAW.md 4: a longer notice is not listened to."""
STAFF_WITHOUT_COUNCIL = 50
"""Above it the works council must consent (WOR 27)."""
LOOPBACK = ("127.", "::1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class PromptState:
    """What there is of one disclosure, or of one confirmation."""

    key: DisclosureKey | ConfirmationKey
    approved: bool
    notice_ms: int = 0
    missing: tuple[str, ...] = ()
    """Sound files that are not there."""
    problem: str = ""
    """E.g. that text or sound changed after the approval."""


class PromptShelf(Protocol):
    """What `check` asks about prompts."""

    def states(self) -> Sequence[PromptState]:
        """One for each prompt that the configuration can need. Blocks."""


async def check(settings: Settings, probe: PbxProbe, prompts: PromptShelf) -> list[Finding]:
    """All findings, the worst first; never raises for what it finds."""
    found = [*check_secrets(settings), *check_addresses(settings), *check_texts(settings), *check_papers(settings)]
    found += await asyncio.to_thread(check_prompts, settings, prompts)
    found += await check_pbx(settings, probe)
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def settings_findings(error: SettingsError) -> list[Finding]:
    """A broken configuration's mistakes as findings."""
    return [Finding("settings", Severity.ERROR, key, f"{key} {reason}", mend) for key, reason, mend in error.mistakes]


def check_secrets(settings: Settings) -> list[Finding]:
    """Secrets that are examples, or cannot be read."""
    found: list[Finding] = []
    for place, read in (("ami.secret", settings.ami.read_secret), ("ari.password", settings.ari.read_password)):
        try:
            secret = read()
        except SettingsError as error:
            found += settings_findings(error)
            continue
        if secret == "change-me":  # noqa: S105 the example's
            mend = "choose a long random one, in Asterisk's configuration as well"
            found.append(Finding("secret_example", Severity.ERROR, place, "is the example's", mend))
    return found


def check_addresses(settings: Settings) -> list[Finding]:
    """pbxguard stands beside its Asterisk: its AMI account is as good as a shell, so loopback only."""
    found = []
    host_of_ari = re.sub(r"^https?://", "", settings.ari.url)
    for place, host in (("ami.host", settings.ami.host), ("ari.url", host_of_ari)):
        if not host.startswith(LOOPBACK):
            message = "is not on this machine: the account is as good as a shell on the PBX"
            mend = "run pbxguard on the PBX itself, with bindaddr=127.0.0.1 in Asterisk"
            found.append(Finding("not_loopback", Severity.WARNING, place, message, mend))
    return found


def active(settings: Settings) -> list[Purpose]:
    """The purposes in use."""
    return [purpose for purpose in settings.all_purposes().values() if purpose.active]


def check_texts(settings: Settings) -> list[Finding]:
    """Vague disclosures, and purposes without a text in a configured language."""
    found: dict[tuple[str, str], Finding] = {}
    wording = settings.wording()
    for key in settings.disclosure_keys():
        place = f"purposes.{'+'.join(key.purposes)}.texts.{key.language}"
        try:
            text = full_text(key, wording)
        except KeyError:
            mend = "write one, or take the language out of languages"
            message = f"has no text in {key.language}"
            found[place, message] = Finding("text_missing", Severity.ERROR, place, message, mend)
            continue
        for passage in vague(text, key.language, key.purposes):
            message = f'"{passage.words}" {passage.why}'
            mend = "say what the recording is really used for: a vague notice costs the right to use it"
            found[place, message] = Finding("text_vague", Severity.ERROR, place, message, mend)
    return list(found.values())


def check_papers(settings: Settings) -> list[Finding]:
    """References to the papers that the law wants, and what is outside what pbxguard does."""
    found: list[Finding] = []
    for purpose in active(settings):
        given = settings.purposes.get(purpose.name)
        place = f"purposes.{purpose.name}.references"
        if purpose.basis is Basis.LEGITIMATE_INTEREST and not (given and given.references.balancing_test):
            message = "legitimate interest (6(1)(f)) without a balancing test"
            mend = f'weigh the interests, then {place}.balancing_test = "where it is"'
            found.append(Finding("balancing_test_missing", Severity.WARNING, place, message, mend))
        if not (given and given.references.employees_informed):
            message = "nothing says that the employees were informed"
            mend = f'inform them, then {place}.employees_informed = "when, how"'
            found.append(Finding("employees_informed_missing", Severity.WARNING, place, message, mend))
        if (settings.employees or 0) > STAFF_WITHOUT_COUNCIL and not (given and given.references.works_council):
            message = "above 50 staff the works council must consent (WOR 27)"
            mend = f'ask it, then {place}.works_council = "where its consent is"'
            found.append(Finding("works_council_missing", Severity.WARNING, place, message, mend))
        if purpose.basis is Basis.LEGAL_OBLIGATION:
            message = "relevant internal calls must be recorded as well, which pbxguard does not do"
            found.append(
                Finding("internal_calls", Severity.NOTE, f"purposes.{purpose.name}", message, "record them otherwise")
            )
    if settings.employees is None:
        message = "is not set: above 50 staff the works council must consent (WOR 27)"
        found.append(Finding("employees_unknown", Severity.NOTE, "employees", message, "set employees = N"))
    if settings.parties.mandated:
        message = "a mandate's date and revocation are not checked yet: these count as unknown, and are not recorded"
        found.append(Finding("mandates", Severity.NOTE, "parties.mandated", message, "nothing: they are refused"))
    return found


def check_prompts(settings: Settings, prompts: PromptShelf) -> list[Finding]:
    """Unapproved prompts, missing sounds, notices that are too long. Blocks."""
    try:
        states = prompts.states()
    except PbxguardError as error:
        mend = error.diagnostics() or "run `pbxguard prompts build`"
        return [Finding("prompts_unreadable", Severity.ERROR, "prompts.directory", str(error), mend)]
    purposes = settings.all_purposes()
    at_home: list[str] = []
    elsewhere: list[str] = []
    silent: list[str] = []
    long: list[str] = []
    odd: list[str] = []
    unsaid: list[str] = []
    for state in states:
        key = str(state.key)
        if isinstance(state.key, ConfirmationKey):
            if not state.approved:
                unsaid.append(key)
        elif state.missing:
            silent.append(key)
        elif state.problem:
            odd.append(f"{key} ({state.problem})")
        elif not state.approved:
            usual = _usual_mode([purposes[name] for name in state.key.purposes if name in purposes], settings)
            (at_home if state.key.mode is usual else elsewhere).append(key)
        if state.notice_ms > LONGEST_NOTICE_MS:
            long.append(f"{key} ({state.notice_ms / 1000:.1f} s)")
    place = "prompts.directory"
    build, approve = "run `pbxguard prompts build`", "listen to them, then `pbxguard prompts approve NAME --by PERSON`"
    usual_place = settings.default_jurisdiction
    return [
        *about(
            "prompt_sound_missing", Severity.ERROR, place, "no sound, so not played and not recorded", silent, build
        ),
        *about("prompt_changed", Severity.ERROR, place, "not played and not recorded", odd, approve),
        *about(
            "prompt_unapproved", Severity.ERROR, place, f"not approved, and usual in {usual_place}", at_home, approve
        ),
        *about("prompt_unapproved", Severity.NOTE, place, "not approved, for stricter countries", elsewhere, approve),
        *about(
            "confirmation_unsaid",
            Severity.WARNING,
            place,
            "not there or not approved, so who objects in a call is not told what came of it",
            unsaid,
            f"{build}, {approve}",
        ),
        *about("notice_long", Severity.WARNING, place, "longer than 6 s", long, "use a shorter text"),
    ]


def _usual_mode(purposes: Iterable[Purpose], settings: Settings) -> Mode:
    mode = Mode.NOTICE
    for purpose in purposes:
        mode = mode.stricter(mode_for(purpose, [settings.default_jurisdiction]))
    return mode


def observes_only(settings: Settings) -> bool:
    """Whether nothing is played or recorded anywhere: worth saying when all else is fine."""
    return all(mode is GuardMode.OBSERVE for mode in (settings.mode, *(scope.mode for scope in settings.scopes)))
