"""Bridges in which somebody may be whom we do not see, until the PBX's lists have told who is there.

A masquerade gives a channel's place in a bridge to another channel, and Asterisk reports neither move (channel.c,
`channel_do_masquerade`: the uniqueids are swapped under the bridge). An attended transfer into a ConfBridge is one
(bridge.c, `AST_BRIDGE_FLAG_MASQUERADE_ONLY`), and an INVITE with Replaces into it (res_pjsip_refer.c). It shows by
what is reported afterwards (`Switchboard.belied`). Owns which bridges are in doubt, since when, and no decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .facts import PictureSeen
from .ids import BridgeId, Uniqueid
from .switchboard import Component, Switchboard

NEVER = float("-inf")
_MOST_BEATS = 2_000
"""A minute and a half of them."""


@dataclass(slots=True)
class Judged:
    """What lists say of the bridges in doubt."""

    wrong: set[Uniqueid] = field(default_factory=set)
    """Channels in one of them that are not where we thought."""
    right: set[Uniqueid] = field(default_factory=set)
    """Channels in one that is as we thought, and no longer in doubt."""
    undecided: bool = False


class Doubts:
    """One for each supervisor. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[BridgeId, float] = {}
        self._beats: deque[tuple[int, float]] = deque(maxlen=_MOST_BEATS)
        """How many facts the switchboard had taken when a beat came back, and when that beat was sent."""

    def beat(self, board: Switchboard, sent: float) -> None:
        """A beat that was sent then came back: whatever the switchboard was told later happened later."""
        if not self._beats or self._beats[-1][1] < sent:
            self._beats.append((board.count, sent))

    def before(self, board: Switchboard) -> float:
        """A moment at which whoever may have taken a place unseen had not: he came to be, or left a bridge, later.

        `NEVER` when that is not known.
        """
        since = board.loose_since()
        return next((sent for count, sent in reversed(self._beats) if count < since), NEVER)

    def begin(self, places: Iterable[BridgeId], now: float) -> None:
        """Lists that were asked for up to `now` tell nothing of these."""
        for place in places:
            self._since[place] = now

    def end(self, place: BridgeId) -> None:
        """The bridge is gone."""
        self._since.pop(place, None)

    def clear(self) -> None:
        """A new picture of everything was taken."""
        self._since.clear()
        self._beats.clear()

    def hang_over(self, component: Component, board: Switchboard) -> bool:
        """Whether this conversation has a bridge in doubt."""
        return bool(self._since) and any(board.place(c) in self._since for c in component.channels)

    def judge(self, seen: PictureSeen, board: Switchboard, wrong: frozenset[Uniqueid]) -> Judged:
        """`wrong`: who is not where these lists show him, the restless left out. What is right is in doubt no more."""
        listed = {bridge.bridge: set(members) for bridge, members in seen.picture.bridges}
        judged = Judged()
        for place, since in list(self._since.items()):
            ours = set(bridge.members) if (bridge := board.bridges.get(place)) is not None else set()
            there = ours | listed.get(place, set())
            if seen.at <= since or not there.isdisjoint(seen.restless):
                judged.undecided = True
            elif there.isdisjoint(wrong):
                judged.right |= ours
                del self._since[place]
            else:
                judged.wrong |= there & wrong
        return judged
