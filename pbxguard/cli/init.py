"""`pbxguard init`: write a commented configuration, in mode observe, to begin with."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pbxguard.core.errors import StorageFailed
from pbxguard.settings.example import template

from .options import CONFIG, PROBLEM, Config, Json, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: pbxguard init --config ./pbxguard.toml")
    def init(
        config: Config = CONFIG,
        json: Json = False,
        force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    ) -> None:
        """Write a commented configuration that observes only: it plays nothing, records nothing, stops nothing."""
        if config.exists() and not force:
            emit({"written": None, "exists": str(config)}, json, f"{config} is there already (--force overwrites it)")
            raise typer.Exit(PROBLEM)
        text = template()
        try:
            config.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(os.open(config, flags, 0o640), "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StorageFailed(f"{config} cannot be written: {error.strerror}") from error
        emit(
            {"written": str(config)},
            json,
            f"wrote {config}. Fill in [organisation], [ami], [ari] and [parties], then run "
            f"`pbxguard check --config {config}`. It observes only, until you set mode or [[scopes]].",
        )
