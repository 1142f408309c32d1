"""`pbxguard calls`: the calls that live now."""

from __future__ import annotations

import typer

from pbxguard import settings
from pbxguard.service.calls import CallView, says

from .client import ask
from .options import CONFIG, Config, Json, Language, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Examples: pbxguard calls | pbxguard calls --language nl | pbxguard calls --json")
    def calls(config: Config = CONFIG, json: Json = False, language: Language = Language.EN) -> None:
        """Show the live calls, one a line: told or not, being recorded, or why not and what to do."""
        data = ask(settings.load(config).socket.path, "GET", "/calls")
        emit(
            data,
            json,
            lambda: "\n".join(says(CallView.from_json(c), language.value) for c in data["calls"]) or "no live calls",
        )
