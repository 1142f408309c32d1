"""What the core knows, together: the policy, the picture of the PBX, and what was told, said and pressed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .memory import Memory
from .policy import Policy
from .switchboard import Switchboard


@dataclass(slots=True)
class Knowledge:
    """Shared by the loop and the book of calls; `boot` names the boot of Asterisk, empty before the first snapshot."""

    policy: Policy
    node: str
    boot: str = ""
    memory: Memory = field(default_factory=Memory)
    board: Switchboard = field(init=False)

    def __post_init__(self) -> None:
        self.board = Switchboard(self.policy.parties)
