"""The counters of a channel against a scripted ARI: read together, and never half."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pbxguard.core.errors import ActionRefused, PbxguardError
from pbxguard.core.ids import Uniqueid
from pbxguard.pbx.ari.connection import AriAddress, AriConnection, AriTiming, ChannelNotOurs
from pbxguard.pbx.ari.counters import Counters
from tests.wire.fake_ari import CHANNEL, fake_ari

HIM = Uniqueid(CHANNEL)


async def read(status: int, body: Any) -> tuple[int, int]:
    async def connected() -> None:
        return

    async with fake_ari() as ari:
        ari.answers[f"GET /channels/{CHANNEL}/rtp_statistics"] = lambda: (status, body)
        address = AriAddress(ari.url, "pbxguard", "secret")
        connection = AriConnection(
            address,
            on_event=lambda event: None,
            on_connected=connected,
            on_lost=lambda: None,
            timing=AriTiming(request=0.3, first_backoff=0.01),
        )
        running = asyncio.create_task(connection.run())
        try:
            await ari.connected()
            return await Counters(connection).sent(HIM)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_packets_and_octets_come_from_one_answer() -> None:
    assert await read(200, {"txcount": 75, "txoctetcount": 24_000, "rxcount": 70}) == (75, 24_000)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"message": "Channel not found"}, ChannelNotOurs),
        (403, {"message": "Unsupported channel type"}, ActionRefused),
        (200, {"txcount": 75}, ActionRefused),
        (200, {"txcount": "many", "txoctetcount": 24_000}, ActionRefused),
        (200, None, ActionRefused),
    ],
)
async def test_no_counters_are_an_error_of_ours(status: int, body: Any, error: type[PbxguardError]) -> None:
    with pytest.raises(error):
        await read(status, body)
