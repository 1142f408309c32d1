"""Errands: a hang-up waits for no CDR variable."""

from __future__ import annotations

import asyncio

from pbxguard.service.errands import Errands


async def test_what_ends_a_call_does_not_queue_behind_a_stuck_errand() -> None:
    errands, never, hung_up = Errands(), asyncio.Event(), asyncio.Event()

    async def stuck() -> None:
        await never.wait()

    async def hang_up() -> None:
        hung_up.set()

    running = asyncio.create_task(errands.run())
    for number in range(100):
        errands.soon(("cdr", str(number)), stuck)
    errands.soon(("hangup", "1.1"), hang_up, closes=True)
    async with asyncio.timeout(3):
        await hung_up.wait()
    running.cancel()
    await asyncio.wait([running])
