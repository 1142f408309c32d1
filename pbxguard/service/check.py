"""`pbxguard check`: everything that is wrong at once, each with its place and its mend.

Owns the findings about disclosures, papers, prompts, the spool, parties and the PBX. It asks Asterisk through
`PbxProbe` (fulfilled by `pbx/probe.py`) and prompts through `PromptShelf` (by `sound/prompts.py`). What it cannot
see it does not guess: which read rights the account has too many, recorders begun before we connected, a dialplan
that calls our subroutines from where they must not be called.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pbxguard.core.defaults import full_text, vague
from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError, SettingsError
from pbxguard.core.jurisdictions import mode_for
from pbxguard.core.parties import PartyKind, classify
from pbxguard.core.policy import GuardMode, PartyPatterns
from pbxguard.core.purposes import Basis, DisclosureKey, Mode, Purpose
from pbxguard.settings import Settings

from .folders import Account, lacks

LONGEST_NOTICE_MS = 6000
"""LAW.md 4: a longer notice is not listened to."""
STAFF_WITHOUT_COUNCIL = 50
"""Above it the works council must consent (WOR 27)."""
FLOORS = {20: (20, 20, 1), 22: (22, 10, 1)}
"""Security floor of each supported branch; an older branch is out of support."""
NEEDED_READ = frozenset({"call", "dialplan"})
"""The read rights that can be proven without a call."""
NEEDED_WRITE = frozenset({"system", "call"})
SUBROUTINES = ("pbxguard-disclose", "pbxguard-outbound", "pbxguard-callee")
MOST_NAMED = 8
"""Names in one finding; the rest is counted."""
LOOPBACK = ("127.", "::1", "localhost", "[::1]")


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    """Something will not work, or must not be done so."""
    WARNING = "warning"
    NOTE = "note"
    """Nothing is wrong; somebody should know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: where, what, and what to do. `code` is stable."""

    code: str
    severity: Severity
    place: str
    message: str
    mend: str
    unreachable: bool = False
    """A component did not answer: what depends on it was not looked at."""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "place": self.place,
            "message": self.message,
            "mend": self.mend,
        }


@dataclass(frozen=True, slots=True)
class Rights:
    """What the AMI account may do, as far as it can be seen."""

    read: frozenset[str]
    """Of `NEEDED_READ`, those proven."""
    write: frozenset[str]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of Asterisk, e.g. ``PJSIP/100``."""

    name: str
    direct_media: bool


class PbxProbe(Protocol):
    """What `check` asks Asterisk. Every method may raise ConnectionFailed or ActionRefused."""

    async def version(self) -> str: ...

    async def run_as(self) -> tuple[str, str]:
        """User and group that Asterisk was told to run as; empty where it was told none."""

    async def rights(self) -> Rights: ...
    async def endpoints(self) -> Sequence[EndpointView]: ...
    async def dialplan_exists(self, context: str, exten: str) -> bool: ...

    async def ari(self) -> None:
        """Raises ConnectionFailed when ARI does not answer, ActionRefused when it refuses us or lets us only read."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """What there is of one disclosure."""

    key: DisclosureKey
    approved: bool
    notice_ms: int = 0
    missing: tuple[str, ...] = ()
    """Sound files that are not there."""
    problem: str = ""
    """E.g. that text or sound changed after the approval."""


class PromptShelf(Protocol):
    """What `check` asks about prompts."""

    def states(self) -> Sequence[PromptState]:
        """One for each disclosure that the configuration can need. Blocks."""


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
        message = "tenants are recorded only with a dated, revocable mandate of theirs"
        found.append(Finding("mandates", Severity.NOTE, "parties.mandated", message, "keep each mandate at hand"))
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
    for state in states:
        key = str(state.key)
        if state.missing:
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
        *_about(
            "prompt_sound_missing", Severity.ERROR, place, "no sound, so not played and not recorded", silent, build
        ),
        *_about("prompt_changed", Severity.ERROR, place, "not played and not recorded", odd, approve),
        *_about(
            "prompt_unapproved", Severity.ERROR, place, f"not approved, and usual in {usual_place}", at_home, approve
        ),
        *_about("prompt_unapproved", Severity.NOTE, place, "not approved, for stricter countries", elsewhere, approve),
        *_about("notice_long", Severity.WARNING, place, "longer than 6 s", long, "use a shorter text"),
    ]


def _usual_mode(purposes: Iterable[Purpose], settings: Settings) -> Mode:
    mode = Mode.NOTICE
    for purpose in purposes:
        mode = mode.stricter(mode_for(purpose, [settings.default_jurisdiction]))
    return mode


async def check_pbx(settings: Settings, probe: PbxProbe) -> list[Finding]:
    """Connections, rights, version, the spool as Asterisk sees it, endpoints and dialplan."""
    found: list[Finding] = []
    account: list[tuple[str, str]] = []

    async def rights() -> list[Finding]:
        return check_rights(await probe.rights())

    async def version() -> list[Finding]:
        return check_version(await probe.version())

    async def run_as() -> list[Finding]:
        account.append(await probe.run_as())
        return []

    async def endpoints() -> list[Finding]:
        return check_endpoints(settings, await probe.endpoints())

    async def dialplan() -> list[Finding]:
        return check_dialplan([name for name in SUBROUTINES if not await probe.dialplan_exists(name, "s")])

    for question in (rights, version, run_as, endpoints, dialplan):
        try:
            found += await question()
        except PbxguardError as error:
            # One trouble, told once: without a login or the rights, the other questions fail alike.
            if isinstance(error, ConnectionFailed) or not any(f.code == "rights_too_few" for f in found):
                found.append(_unreachable("ami", "ami", error))
            break
    try:
        await probe.ari()
    except PbxguardError as error:
        found.append(_unreachable("ari", "ari", error))
    found += await asyncio.to_thread(check_spool, settings, account[0] if account else None)
    return found


def _unreachable(code: str, place: str, error: PbxguardError) -> Finding:
    refused = isinstance(error, ActionRefused)
    return Finding(
        f"{code}_{'refused' if refused else 'unreachable'}",
        Severity.ERROR,
        place,
        str(error),
        error.diagnostics() or f"compare [{place}] with Asterisk's configuration",
        unreachable=isinstance(error, ConnectionFailed),
    )


def check_version(version: str) -> list[Finding]:
    """Asterisk's version against the security floor."""
    digits = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if digits is None or "certified" in version.lower() or version.upper().startswith("GIT"):
        mend = "make sure that it has the security fixes of 20.20.1 / 22.10.1"
        shown = "".join(c for c in version if c.isprintable())[:40]
        return [Finding("version_unknown", Severity.NOTE, "asterisk", f"cannot place version {shown!r}", mend)]
    numbers = tuple(int(part or 0) for part in digits.groups())
    branch = numbers[0]
    floor = FLOORS.get(branch)
    shown = ".".join(str(n) for n in numbers)
    if floor is not None and numbers < floor:
        message = f"{shown} is below the security floor {'.'.join(str(n) for n in floor)}"
        return [Finding("version_insecure", Severity.WARNING, "asterisk", message, "upgrade Asterisk")]
    if floor is None and branch < max(FLOORS):
        message = f"branch {branch} is out of support or not tested"
        return [Finding("version_unsupported", Severity.WARNING, "asterisk", message, "use Asterisk 20 or 22")]
    return []


def check_rights(rights: Rights) -> list[Finding]:
    """Too few and nothing works; too many and whoever steals the account has the machine."""
    found = []
    for kind, needed, has in (("read", NEEDED_READ, rights.read), ("write", NEEDED_WRITE, rights.write)):
        if needed - has:
            message = f"the account lacks {kind}={','.join(sorted(needed - has))}"
            mend = "use read=system,call,dialplan,user,dtmf,agent and write=system,call, then `manager reload`"
            found.append(Finding("rights_too_few", Severity.ERROR, "manager.conf", message, mend))
    if rights.write - NEEDED_WRITE:
        message = f"the account has write={','.join(sorted(rights.write - NEEDED_WRITE))}, which pbxguard never needs"
        mend = "use write=system,call, then `manager reload`"
        found.append(Finding("rights_too_many", Severity.WARNING, "manager.conf", message, mend))
    return found


def check_endpoints(settings: Settings, endpoints: Collection[EndpointView]) -> list[Finding]:
    """Endpoints that no pattern covers, and those whose audio may leave Asterisk."""
    patterns = PartyPatterns(**settings.parties.model_dump())
    kinds = {e.name: classify(f"{e.name}-00000000", patterns) for e in endpoints}
    unknown = [name for name, kind in kinds.items() if kind is PartyKind.UNKNOWN]
    direct = [e.name for e in endpoints if e.direct_media]
    found = [
        *_about(
            "endpoint_unknown",
            Severity.WARNING,
            "parties",
            "no pattern covers them, so no conversation with them is recorded",
            unknown,
            "add patterns under [parties]",
        ),
        *_about(
            "direct_media",
            Severity.WARNING,
            "pjsip.conf",
            "direct_media=yes: a recorder's start forces a re-INVITE and the first audio is lost",
            direct,
            "set direct_media=no on every endpoint, then `pjsip reload`",
        ),
    ]
    for kind in (PartyKind.OWN, PartyKind.EXTERNAL):
        if endpoints and kind not in kinds.values():
            message = "its patterns match no endpoint that Asterisk has now"
            found.append(
                Finding(
                    "pattern_idle", Severity.WARNING, f"parties.{kind.value}", message, "compare `pjsip show endpoints`"
                )
            )
    return found


def check_dialplan(missing: Sequence[str]) -> list[Finding]:
    """The shipped subroutines."""
    mend = "#include pbxguard's dialplan/pbxguard.conf in extensions.conf, then `dialplan reload`"
    return _about(
        "dialplan_missing", Severity.ERROR, "extensions.conf", "the dialplan lacks the subroutines", missing, mend
    )


def check_spool(settings: Settings, run_as: tuple[str, str] | None) -> list[Finding]:
    """Whether Asterisk can write the spool and we can read it. Blocks."""
    spool = settings.spool
    found: list[Finding] = []
    mend = f"install -d -o pbxguard -g asterisk -m 2770 {spool.path} (and let both enter every folder above it)"
    ours = lacks(spool.path, Account.ourselves(), "rwx")
    if ours:
        found.append(Finding("spool_unreadable", Severity.ERROR, "spool.path", f"pbxguard: {ours}", mend))
    if spool.for_asterisk != spool.path:
        message = "Asterisk sees it under another path, which cannot be checked from here"
        found.append(
            Finding("spool_elsewhere", Severity.NOTE, "spool.asterisk_path", message, "make one call and see its file")
        )
    asterisk = Account.of_asterisk(*run_as) if run_as is not None else None
    if asterisk is None:
        if run_as is not None:
            message = "cannot tell as whom Asterisk runs"
            found.append(Finding("spool_unknown", Severity.NOTE, "spool.path", message, "see that it can write there"))
        return found
    theirs = lacks(spool.path, asterisk, "wx")
    if theirs and theirs != ours:
        found.append(Finding("spool_unwritable", Severity.ERROR, "spool.path", f"Asterisk: {theirs}", mend))
    return found


def exit_code(findings: Iterable[Finding]) -> int:
    """0 fine (notes only), 1 found a problem, 3 a component cannot be reached."""
    found = list(findings)
    if any(finding.unreachable for finding in found):
        return 3
    return 1 if any(finding.severity is not Severity.NOTE for finding in found) else 0


def observes_only(settings: Settings) -> bool:
    """Whether nothing is played or recorded anywhere: worth saying when all else is fine."""
    return all(mode is GuardMode.OBSERVE for mode in (settings.mode, *(scope.mode for scope in settings.scopes)))


def _about(code: str, severity: Severity, place: str, message: str, names: Sequence[str], mend: str) -> list[Finding]:
    if not names:
        return []
    shown = ", ".join("".join(c for c in name if c.isprintable())[:80] for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [Finding(code, severity, place, f"{message}: {shown}{more}", mend)]


def grouped(findings: Iterable[Finding]) -> Mapping[Severity, list[Finding]]:
    """By severity, the worst first."""
    found: dict[Severity, list[Finding]] = {severity: [] for severity in Severity}
    for finding in findings:
        found[finding.severity].append(finding)
    return found
