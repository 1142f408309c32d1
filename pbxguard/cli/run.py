"""`pbxguard run`: the service itself, in the foreground (systemd's business is to keep it there)."""

from __future__ import annotations

import gc
import importlib

import typer

from pbxguard import logs, settings

from .options import CONFIG, Config, Json

SERVICE = "pbxguard.app"
"""Loaded by name: it is the layer above this one, and every other command does without it."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: pbxguard run --config /etc/pbxguard/pbxguard.toml")
    def run(config: Config = CONFIG, json: Json = False) -> None:
        """Run the service in the foreground, until SIGTERM or SIGINT. It logs JSON on standard output."""
        del json  # its log is JSON anyway
        read = settings.load(config)
        logs.configure(level=read.logs.level, mask_numbers=read.logs.mask_numbers, node=read.node, background=True)
        # As in `main`; the service enables it, once nothing of what is there is looked at any more.
        gc.disable()
        importlib.import_module(SERVICE).run(read, config)
