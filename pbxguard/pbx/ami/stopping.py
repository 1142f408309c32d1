"""Stop all recorders of ours, when whoever started them is gone: one connection of its own, and nothing else.

A pbxguard that lives is in charge of its recorders: while one beats, nothing is stopped. A dead or frozen one does not
beat, and what it sent before it died does not count.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pbxguard.core.errors import ConnectionFailed

from .connection import MEND_REACH, Address, AmiRefused, Session, Tuning
from .needs import Clock
from .recorder import MixMonitor
from .rival import Rivals, another_guard
from .values import Ours

SECONDS = 5.0
"""For all of it."""
LOOK_SECONDS = 0.25
"""In which a living pbxguard beats five times."""
ENOUGH = 2
FILTER = {
    "Operation": "Add",
    "MatchCriteria": Ours("action(include),name(VarSet),header(Variable),method(exact)"),
    "Filter": "PBXGUARD_BEAT",
}


async def stop_recorders(address: Address, clock: Clock) -> int:
    """Stop every recorder that one of our variables names, on any channel; gives how many ran.

    Raises AnotherGuard (one lives: nothing was stopped), ConnectionFailed, ActionRefused.
    """
    rivals = Rivals(clock, enough=ENOUGH)
    try:
        async with asyncio.timeout(SECONDS):
            session = await Session.open(address, Tuning(login_s=SECONDS), rivals.note)
            try:
                return await _stop(session, rivals)
            finally:
                session.close()
    except TimeoutError:
        raise ConnectionFailed("AMI", "no answer in time", MEND_REACH) from None


async def _stop(session: Session, rivals: Rivals) -> int:
    with suppress(AmiRefused):  # an older Asterisk, or no right to read: then we see nobody, and stop
        await session.action("Filter", FILTER)
        await session.action("Events", {"EventMask": Ours("dialplan")})
    rivals.begin()
    recorder = MixMonitor(session.action)
    found, _ = await asyncio.gather(recorder.find_all(), asyncio.sleep(LOOK_SECONDS))
    if rivals.living:
        raise another_guard()
    return await recorder.stop_all(found)
