"""What was sent to a channel, whoever's it is: RTP counters, live, over ARI.

Any channel's may be read, also of one that is in no application; the dialplan has no count of octets.
"""

from __future__ import annotations

from pbxguard.core.errors import ActionRefused
from pbxguard.core.ids import Uniqueid

from .connection import AriConnection, part


class Counters:
    """`await counters.sent(channel)`."""

    def __init__(self, connection: AriConnection) -> None:
        self._connection = connection

    async def sent(self, channel: Uniqueid) -> tuple[int, int]:
        """Packets and octets, of one instant. Raises ActionRefused (gone, or no RTP) and ConnectionFailed."""
        counters = await self._connection.request("GET", f"/channels/{part(channel)}/rtp_statistics")
        try:
            return int(counters["txcount"]), int(counters["txoctetcount"])
        except (KeyError, TypeError, ValueError) as error:
            raise ActionRefused("rtp_statistics without counters") from error
