"""`pbxguard check`: everything that is wrong, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import typer

from pbxguard import settings
from pbxguard.core.errors import SettingsError
from pbxguard.pbx.ami.connection import Address
from pbxguard.pbx.probe import Probe
from pbxguard.service import check as service
from pbxguard.service.check_pbx import EndpointView, Rights
from pbxguard.service.findings import Finding, Severity, exit_code, grouped
from pbxguard.settings import Settings

from .options import CONFIG, PROBLEM, Config, Json, emit
from .prompts import Shelf

DISCLAIMER = "pbxguard helps to keep the law; it is not legal advice."


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Examples: pbxguard check | pbxguard check --config ./pbxguard.toml --json")
    def check(config: Config = CONFIG, json: Json = False) -> None:
        """Report everything that is wrong at once, each with its place and what to do.

        Settings, disclosures, prompts and their approval, papers, connections and rights, Asterisk's version, the
        spool, endpoints and dialplan. Exits with 1 on a problem, with 3 when a component cannot be reached.
        """
        try:
            read = settings.load(config)
        except SettingsError as error:
            found = service.settings_findings(error)
            emit({"findings": [f.as_json() for f in found]}, json, lambda: _told(found, []))
            raise typer.Exit(PROBLEM) from None
        found = asyncio.run(_check(read))
        notes = ["It observes only: nothing is played or recorded."] if service.observes_only(read) else []
        emit({"findings": [f.as_json() for f in found]}, json, lambda: _told(found, notes))
        raise typer.Exit(exit_code(found))


async def _check(read: Settings) -> list[Finding]:
    # An unreadable secret is a finding of its own; the login then fails, which is another.
    ami_secret, ari_password = _or_empty(read.ami.read_secret), _or_empty(read.ari.read_password)
    probe = Probe(
        Address(read.ami.host, read.ami.port, read.ami.username, ami_secret),
        ari_url=read.ari.url,
        ari_username=read.ari.username,
        ari_password=ari_password,
        rights=Rights,
        endpoint=EndpointView,
    )
    async with probe:
        return await service.check(read, probe, Shelf(read))


def _or_empty(secret: Callable[[], str]) -> str:
    try:
        return secret()
    except SettingsError:
        return ""


def _told(found: Sequence[Finding], notes: Iterable[str]) -> str:
    lines: list[str] = []
    for severity, some in grouped(found).items():
        for finding in some:
            lines += [f"{severity.value:<8} {finding.place}: {finding.message}", f"         -> {finding.mend}"]
    problems = sum(finding.severity is not Severity.NOTE for finding in found)
    lines += notes
    lines.append(f"{problems} problem{'' if problems == 1 else 's'} found." if problems else "No problem found.")
    return "\n".join([*lines, DISCLAIMER])
