"""`pbxguard status`: how the running service is."""

from __future__ import annotations

from typing import Any

import typer

from pbxguard import settings
from pbxguard.core.reasons import WORDS, Reason, words
from pbxguard.logs import ALERTS

from .client import ask
from .options import CONFIG, PROBLEM, Config, Json, Language, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Examples: pbxguard status | pbxguard status --json")
    def status(config: Config = CONFIG, json: Json = False, language: Language = Language.EN) -> None:
        """Show how the running service is: mode, connections, what keeps calls from being recorded.

        Exits with 1 when something does, with 3 when the service cannot be reached.
        """
        data = ask(settings.load(config).socket.path, "GET", "/status")
        emit(data, json, lambda: _told(data, language.value))
        if not data.get("healthy", False):
            raise typer.Exit(PROBLEM)


def _told(data: dict[str, Any], language: str) -> str:
    lines = []
    for code in data.get("closed", ()):
        try:
            reason = Reason(code)
        except ValueError:
            lines.append(f"closed: {code}")
            continue
        lines.append(f"closed: {words(reason, language)}. {WORDS[reason].mend}".rstrip())
    mends = {event.value: told.mend for event, told in ALERTS.items()}
    lines += [f"trouble: {code}. {mends.get(code, '')}".rstrip() for code in data.get("troubles", ())]
    width = max((len(key) for key in data), default=0)
    shown = {key: value for key, value in data.items() if key not in ("closed", "troubles")}
    return "\n".join([f"{key:<{width}}  {_plain(value)}" for key, value in shown.items()] + lines)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
        case list():
            return ", ".join(_plain(item) for item in value)
        case _:
            return str(value)
