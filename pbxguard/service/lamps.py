"""Lamps that nobody's recorder lights: Asterisk remembers a lamp's state, also when pbxguard died or lost it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from pbxguard.core.commands import Lamp
from pbxguard.core.errors import PbxguardError
from pbxguard.core.ids import Endpoint
from pbxguard.logs import Event, get_logger

_log = get_logger()


class Panel(Protocol):
    """What we need of `pbx.ami.pbx.AmiPbx`."""

    async def lit_lamps(self) -> Sequence[Endpoint]: ...
    async def set_device_state(self, endpoint: Endpoint, state: str) -> None: ...


async def put_out(panel: Panel) -> None:
    """Put every lamp out; the core lights those of what is recorded afterwards. Before a snapshot, so that none runs.

    Never raises: a lamp that stays lit holds up nothing.
    """
    try:
        lit = await panel.lit_lamps()
        await asyncio.gather(*(panel.set_device_state(endpoint, Lamp.NOT_RECORDED.value) for endpoint in lit))
    except PbxguardError as error:
        _log.debug(Event.ERRAND_FAILED, reason=type(error).__name__)
