"""What `check` asks Asterisk: connections, rights, version, endpoints, dialplan, and the spool as it sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError
from pbxguard.core.parties import PartyKind, classify
from pbxguard.core.policy import PartyPatterns
from pbxguard.settings import Settings

from .findings import Finding, Severity, about
from .folders import Account, lacks

FLOORS = {20: (20, 20, 1), 22: (22, 10, 1)}
"""Security floor of each supported branch; an older branch is out of support."""
NEEDED_READ = frozenset({"call", "dialplan"})
"""The read rights that can be proven without a call."""
NEEDED_WRITE = frozenset({"system", "call"})
USED_READ = frozenset({"system", "call", "dialplan", "user", "dtmf", "agent"})
"""All that the account may read: more shows it what is none of its business."""
CONFIGURED_READ = frozenset({"system", "call", "dialplan", "user", "dtmf"})
"""Without user and dtmf the callee's door hears neither its prompts nor a key."""
SUBROUTINES = ("pbxguard-disclose", "pbxguard-outbound", "pbxguard-callee")


@dataclass(frozen=True, slots=True)
class Rights:
    """What the AMI account may do, as far as it can be seen."""

    read: frozenset[str] | None
    """Of `NEEDED_READ`, those proven; None where they could not be tried."""
    write: frozenset[str]
    configured: frozenset[str] = frozenset()
    """Read rights as manager.conf names them; empty when that cannot be seen."""


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
    unproven = frozenset() if rights.read is None else NEEDED_READ - rights.read
    for kind, lacks_it in (("read", unproven), ("write", NEEDED_WRITE - rights.write)):
        if lacks_it:
            message = f"the account lacks {kind}={','.join(sorted(lacks_it))}"
            mend = "use read=system,call,dialplan,user,dtmf,agent and write=system,call, then `manager reload`"
            found.append(Finding("rights_too_few", Severity.ERROR, "manager.conf", message, mend))
    lacking = CONFIGURED_READ - rights.configured if rights.configured and "all" not in rights.configured else set()
    if lacking - unproven:
        message = f"manager.conf gives the account no read={','.join(sorted(lacking))}"
        mend = "use read=system,call,dialplan,user,dtmf,agent, then `manager reload`"
        found.append(Finding("rights_too_few", Severity.ERROR, "manager.conf", message, mend))
    if rights.configured - USED_READ:
        message = f"the account has read={','.join(sorted(rights.configured - USED_READ))}, which pbxguard never needs"
        mend = "use read=system,call,dialplan,user,dtmf,agent, then `manager reload`"
        found.append(Finding("rights_too_many", Severity.WARNING, "manager.conf", message, mend))
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
        *about(
            "endpoint_unknown",
            Severity.WARNING,
            "parties",
            "no pattern covers them, so no conversation with them is recorded",
            unknown,
            "add patterns under [parties]",
        ),
        *about(
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
    return about(
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
