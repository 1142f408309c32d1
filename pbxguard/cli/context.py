"""What the commands about recordings stand on: database and archive of the configuration, opened for one command.

The service need not run: these commands work beside it, on the same database (`db/engine.py` lets both write). Here,
and in `app.py`, concrete adapters are named; they are imported when asked for, so that `pbxguard --help` stays quick.
"""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from pbxguard.core.ids import PurposeName
from pbxguard.core.retention import RULES, Rule, adjusted
from pbxguard.settings import Settings

if TYPE_CHECKING:
    from pbxguard.archive.files import FileArchive
    from pbxguard.db.audit import SqlAudit
    from pbxguard.db.index import SqlIndex
    from pbxguard.service.access import Access
    from pbxguard.service.redaction import Redactions
    from pbxguard.service.retention import Retention


@dataclass(frozen=True, slots=True)
class Store:
    """Everything that a command about recordings needs, open."""

    settings: Settings
    audit: SqlAudit
    index: SqlIndex
    archive: FileArchive
    retention: Retention
    access: Access
    redactions: Redactions


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """Open what the configuration names. Raises ConnectionFailed when there is no database, or another revision."""
    from pbxguard.archive.files import FileArchive
    from pbxguard.db.audit import SqlAudit
    from pbxguard.db.engine import Database
    from pbxguard.db.index import SqlIndex
    from pbxguard.service.access import Access
    from pbxguard.service.redaction import Redactions
    from pbxguard.service.retention import Retention

    database = await Database.open(settings.database.url)
    try:
        async with SqlAudit(database, settings.node) as audit, SqlIndex(database, settings.node) as index:
            archive = FileArchive(settings.archive.root)
            redactions = Redactions(index=index, audit=audit, archive=archive)
            retention = Retention(
                index=index, audit=audit, archive=archive, rules=retention_rules(settings), redactions=redactions
            )
            access = Access(
                index=index,
                audit=audit,
                archive=archive,
                retention=retention,
                utc=now,
                disclosure_text=lambda key, digest: _spoken(settings, key, digest),
            )
            yield Store(settings, audit, index, archive, retention, access, redactions)
    finally:
        await database.close()


def retention_rules(settings: Settings) -> Mapping[PurposeName, Rule]:
    """Each configured purpose's rule; a purpose of one's own without a period has none, and is kept."""
    rules: dict[PurposeName, Rule] = {}
    for name in settings.all_purposes():
        given = settings.purposes.get(name)
        asked = given.retention.model_dump() if given is not None else {}
        rule = adjusted(RULES.get(name), **asked)
        if rule is not None:
            rules[name] = rule
    return MappingProxyType(rules)


def _spoken(settings: Settings, key: str, digest: str) -> str:
    """The text behind a manifest's digest, also of a prompt that was changed since; empty when it is not known."""
    from pbxguard.sound.prompts import Prompts

    folder = settings.prompts.directory
    return Prompts(folder, PurePosixPath(folder), settings.rate, settings.wording()).text_behind(key, digest)


def now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


def who_asks() -> str:
    """The login name for the audit log: of the person behind sudo, where there is one."""
    behind = os.environ.get("SUDO_USER", "")
    if behind and os.geteuid() == 0:
        return behind
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return getpass.getuser()
