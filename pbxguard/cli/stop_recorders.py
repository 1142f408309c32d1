"""`pbxguard stop-recorders`: stop what a dead or frozen pbxguard left running. Small, and independent of the service.

AMI alone: no database, no socket, nothing of the service's. It finds our recorders by the variable that holds their
id, on any channel. For systemd's `ExecStopPost`, a watchdog, or a hand.
"""

from __future__ import annotations

import asyncio

import typer

from pbxguard import settings
from pbxguard.core.errors import ConnectionFailed
from pbxguard.pbx.ami.connection import Address, Session, Tuning
from pbxguard.pbx.ami.recorder import MixMonitor
from pbxguard.settings import Settings

from .options import CONFIG, Config, Json, emit

SECONDS = 5.0
"""For all of it."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("stop-recorders", epilog="Example: pbxguard stop-recorders   (in a unit: ExecStopPost=)")
    def stop_recorders(config: Config = CONFIG, json: Json = False) -> None:
        """Stop every recorder of pbxguard's on this Asterisk, at once; for when the service is gone.

        What was captured is cut and sealed by the next start. Calls go on.
        """
        stopped = asyncio.run(_stop_all(settings.load(config)))
        emit({"stopped": stopped}, json, f"{stopped} recorders stopped")


async def _stop_all(read: Settings) -> int:
    """How many ran. Raises ConnectionFailed, ActionRefused."""
    address = Address(read.ami.host, read.ami.port, read.ami.username, read.ami.read_secret())
    try:
        async with asyncio.timeout(SECONDS):
            session = await Session.open(address, Tuning())
            try:
                return await MixMonitor(session.action).stop_all()
            finally:
                session.close()
    except TimeoutError:
        raise ConnectionFailed("AMI", "no answer in time", "Is Asterisk running?") from None
