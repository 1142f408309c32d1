"""Lamps that were left lit are put out."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.ids import Endpoint
from pbxguard.service.lamps import put_out


@dataclass
class FakePanel:
    lit: dict[str, str] = field(default_factory=lambda: {"100": "INUSE", "102": "ONHOLD"})
    away: bool = False

    async def lit_lamps(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(name) for name in self.lit)

    async def set_device_state(self, endpoint: Endpoint, state: str) -> None:
        if self.away:
            raise ConnectionFailed("AMI", "gone")
        self.lit[endpoint] = state


async def test_lamps_left_lit_are_put_out() -> None:
    panel = FakePanel()
    await put_out(panel)
    assert panel.lit == {"100": "NOT_INUSE", "102": "NOT_INUSE"}


async def test_an_asterisk_that_goes_away_meanwhile_holds_up_nothing() -> None:
    panel = FakePanel(away=True)
    await put_out(panel)
    assert panel.lit == {"100": "INUSE", "102": "ONHOLD"}
