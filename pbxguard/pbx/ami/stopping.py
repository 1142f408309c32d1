"""Stop all recorders of ours, when whoever started them is gone: one connection of its own, and nothing else."""

from __future__ import annotations

import asyncio

from pbxguard.core.errors import ConnectionFailed

from .connection import Address, Session, Tuning
from .recorder import MixMonitor

SECONDS = 5.0
"""For all of it."""


async def stop_recorders(address: Address) -> int:
    """Stop every recorder that one of our variables names, on any channel; gives how many ran.

    Raises ConnectionFailed, ActionRefused.
    """
    try:
        async with asyncio.timeout(SECONDS):
            session = await Session.open(address, Tuning())
            try:
                return await MixMonitor(session.action).stop_all()
            finally:
                session.close()
    except TimeoutError:
        raise ConnectionFailed("AMI", "no answer in time", "Is Asterisk running?") from None
