"""`pbxguard why`: was this call recorded, and if not, why not and what to do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pbxguard import settings
from pbxguard.core.errors import ConnectionFailed
from pbxguard.service import calls as service
from pbxguard.service.calls import CallView, parse_since, says
from pbxguard.settings import Settings

from .client import ask
from .options import CONFIG, WRONG_USE, Config, Json, Language, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog="Examples: pbxguard why 0612345678 | pbxguard why 100 --since 2h | "
        "pbxguard why +31201234100 --since 2026-05-04 --language nl"
    )
    def why(
        who: Annotated[
            str, typer.Argument(metavar="NUMBER|EXTENSION", help="A number in any notation, or an own one.")
        ],
        config: Config = CONFIG,
        json: Json = False,
        since: Annotated[str, typer.Option("--since", metavar="SPAN|TIME", help="30m, 1h, 2d, or a date.")] = "1d",
        language: Annotated[Language, typer.Option("--language", help="nl or en.")] = Language.EN,
    ) -> None:
        """Show the calls of a number or an extension, newest first, one a line.

        Each says whether the other party was told, from when to when it was recorded, or else the first reason why
        it was not, and what to do. Works on the index when the service is down.
        """
        try:
            moment = parse_since(since, datetime.now(UTC))
        except (ValueError, OverflowError):
            typer.echo("pbxguard: --since wants a span (30m, 1h, 2d) or a date (2026-05-04)", err=True)
            raise typer.Exit(WRONG_USE) from None
        data = _ask(settings.load(config), who[:64], moment)
        views = [CallView.from_json(call) for call in data["calls"]]
        emit(
            data,
            json,
            lambda: (
                "\n".join(says(v, language.value) for v in views)
                or f"no calls with anybody outside since {moment:%F %H:%M} UTC"
            ),
        )


def _ask(read: Settings, who: str, since: datetime) -> dict[str, Any]:
    try:
        return ask(read.socket.path, "GET", "/calls/why", params={"who": who, "since": since.isoformat()})
    except ConnectionFailed as down:
        try:
            return asyncio.run(_from_index(read, who, since))
        except ConnectionFailed:
            raise down from None


async def _from_index(read: Settings, who: str, since: datetime) -> dict[str, Any]:
    from .context import open_store

    async with open_store(read) as store:
        views = await service.why(store.index, who, since=since, country=read.country)
    return {"calls": [view.as_json() for view in views]}
