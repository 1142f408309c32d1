"""`pbxguard stop-recorders`: stop what a dead or frozen pbxguard left running. Small, and independent of the service.

AMI alone: no database, no socket, nothing of the service's. It finds our recorders by the variable that holds their
id, on any channel. For systemd's `ExecStopPost`, a watchdog, or a hand.
"""

from __future__ import annotations

import asyncio

import typer

from pbxguard import settings
from pbxguard.pbx.ami.connection import Address
from pbxguard.pbx.ami.stopping import stop_recorders
from pbxguard.service.clock import SystemClock

from .options import CONFIG, Config, Json, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("stop-recorders", epilog="Example: pbxguard stop-recorders   (in a unit: ExecStopPost=)")
    def stop(config: Config = CONFIG, json: Json = False) -> None:
        """Stop every recorder of pbxguard's on this Asterisk, at once; for when the service is gone.

        What was captured is cut and sealed by the next start. Calls go on. While a pbxguard lives there, nothing is
        stopped: its recorders are its own.
        """
        ami = settings.load_ami(config)  # a mistake elsewhere in the file must not keep a recorder running
        address = Address(ami.host, ami.port, ami.username, ami.read_secret())
        stopped = asyncio.run(stop_recorders(address, SystemClock()))
        emit({"stopped": stopped}, json, f"{stopped} recorders stopped")
