"""What the PBX looks like now: channels, bridges, Local pairs, holds, spies.

Owns the picture and nothing else: who may be recorded is not its business. `apply` takes one fact and gives the
channels whose conversation may have changed by it. Facts may come twice, late or never; a fact about what is not
known changes as much as can be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from .facts import (
    BridgeCreated,
    BridgeDestroyed,
    BridgeEntered,
    BridgeLeft,
    BridgesMerged,
    ChannelCreated,
    ChannelHungUp,
    ChannelNumberChanged,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    Fact,
    Held,
    QueueJoined,
    SnapshotTaken,
    SpyStarted,
    SpyStopped,
    Unheld,
)
from .ids import BridgeId, Endpoint, LinkedId, Uniqueid
from .parties import PartyKind, classify, endpoint_of, local_half
from .policy import PartyPatterns

_HOLDING = ("parking", "holding_bridge")


@dataclass(slots=True)
class Channel:
    """One channel as last seen. `born` and `joined` count facts, not seconds: they order, they do not time."""

    uniqueid: Uniqueid
    name: str
    linkedid: LinkedId
    state: ChannelState
    kind: PartyKind
    endpoint: Endpoint
    born: int
    number: str = ""
    context: str = ""
    exten: str = ""
    dialled_by: Uniqueid | None = None
    dialled_number: str = ""
    queue: str = ""
    bridge: BridgeId | None = None
    joined: int = 0
    held: bool = False
    held_in: BridgeId | None = None
    hold_known: bool = True

    @property
    def surely_held(self) -> bool:
        """On hold in the very bridge it is in: a hold belongs to a channel *in a bridge* (ASTERISK.md)."""
        return self.held and self.held_in == self.bridge


@dataclass(slots=True)
class Bridge:
    id: BridgeId
    type: str
    technology: str
    members: dict[Uniqueid, None] = field(default_factory=dict)

    @property
    def holding(self) -> bool:
        """Those in it hear music, not each other."""
        return self.type in _HOLDING or self.technology in _HOLDING


@dataclass(frozen=True, slots=True)
class Component:
    """The channels that can hear each other: bridges joined through Local pairs.

    `talkers` are its channels that are no Local halves, in the order in which they joined; `dangling` says that a
    Local half leads to where nobody can see.
    """

    talkers: tuple[Channel, ...]
    channels: frozenset[Uniqueid]
    dangling: bool
    bridged: bool


class Switchboard:
    """The picture. Not a source of decisions, and never asked about what it was not told."""

    def __init__(self, patterns: PartyPatterns) -> None:
        self.patterns = patterns
        self.channels: dict[Uniqueid, Channel] = {}
        self.bridges: dict[BridgeId, Bridge] = {}
        self.spies: dict[Uniqueid, set[Uniqueid]] = {}
        """Spied channel -> the spies on it."""
        self._pairs: dict[str, dict[int, Uniqueid]] = {}
        self._devices: dict[Endpoint, dict[Uniqueid, None]] = {}
        self._count = 0

    # -- questions ---------------------------------------------------------------------------------------------------

    def component(self, start: Uniqueid) -> Component:
        """Everybody who can hear the channel `start`; just itself where it is in no bridge that joins people."""
        first = self.channels.get(start)
        if first is None:
            return Component((), frozenset({start}), False, False)
        if self._meeting(first) is None and first.kind is not PartyKind.LOCAL:
            return Component((first,), frozenset({start}), False, False)
        seen: dict[Uniqueid, Channel] = {}
        waiting, dangling, bridged = [first], False, False
        while waiting:
            channel = waiting.pop()
            if channel.uniqueid in seen:
                continue
            seen[channel.uniqueid] = channel
            bridge = self._meeting(channel)
            if bridge is not None:
                bridged = True
                waiting.extend(self.channels[m] for m in bridge.members if m in self.channels and m not in seen)
                dangling = dangling or any(m not in self.channels for m in bridge.members)
            if channel.kind is PartyKind.LOCAL:
                other = self.other_half(channel)
                if other is None or (self._meeting(other) is None and bridge is not None):
                    dangling = dangling or bridge is not None
                if other is not None and (bridge is not None or self._meeting(other) is not None):
                    waiting.append(other)
        talkers = sorted(
            (c for c in seen.values() if c.kind is not PartyKind.LOCAL and c.bridge is not None),
            key=lambda c: (c.joined, c.born),
        )
        return Component(tuple(talkers), frozenset(seen), dangling, bridged)

    def other_half(self, channel: Channel) -> Channel | None:
        """The other half of a Local channel, if both are known."""
        half = local_half(channel.name)
        if half is None:
            return None
        other = self._pairs.get(half[0], {}).get(3 - half[1])
        return self.channels.get(other) if other is not None else None

    def device(self, endpoint: Endpoint) -> Iterator[Channel]:
        """All channels of one device."""
        return (self.channels[c] for c in self._devices.get(endpoint, ()) if c in self.channels)

    def root_dialler(self, channel: Channel) -> Channel | None:
        """Who dialled it, through Local halves up to a real channel; None when nobody is known."""
        seen: set[Uniqueid] = set()
        current = channel
        while current.dialled_by is not None and current.dialled_by not in seen:
            seen.add(current.dialled_by)
            dialler = self.channels.get(current.dialled_by)
            if dialler is None:
                return None
            if dialler.kind is not PartyKind.LOCAL:
                return dialler
            current = self.other_half(dialler) or dialler
        return None

    # -- facts -------------------------------------------------------------------------------------------------------

    def apply(self, fact: Fact) -> set[Uniqueid]:
        """Change the picture; gives the channels to decide anew (a conversation is decided if it holds one)."""
        self._count += 1
        match fact:
            case ChannelCreated():
                return self._create(fact)
            case ChannelStateChanged():
                return self._on(fact.channel, lambda c: setattr(c, "state", fact.state))
            case ChannelRenamed():
                return self._rename(fact)
            case ChannelNumberChanged():
                return self._on(fact.channel, lambda c: setattr(c, "number", fact.caller_number))
            case ChannelHungUp():
                return self._hang_up(fact.channel)
            case DialBegun():
                return self._dial(fact)
            case QueueJoined():
                return self._on(fact.channel, lambda c: setattr(c, "queue", fact.queue))
            case BridgeCreated():
                bridge = self.bridges.setdefault(fact.bridge, Bridge(fact.bridge, fact.type, fact.technology))
                bridge.type, bridge.technology = fact.type, fact.technology
                return set(bridge.members)
            case BridgeDestroyed():
                gone = self.bridges.pop(fact.bridge, None)
                return self._empty(gone) if gone else set()
            case BridgeEntered():
                return self._enter(fact)
            case BridgeLeft():
                return self._leave(fact.bridge, fact.channel)
            case BridgesMerged():
                return self._merge(fact)
            case Held():
                return self._on(fact.channel, self._hold)
            case Unheld():
                return self._on(fact.channel, self._unhold)
            case SpyStarted():
                self.spies.setdefault(fact.spied, set()).add(fact.spy)
                return self._near({fact.spied})
            case SpyStopped():
                self.spies.get(fact.spied, set()).discard(fact.spy)
                return self._near({fact.spied})
            case SnapshotTaken():
                return self._replace(fact)
            case _:
                return set()

    def _create(self, fact: ChannelCreated) -> set[Uniqueid]:
        if fact.channel in self.channels:
            return self._on(fact.channel, lambda c: setattr(c, "state", fact.state))
        channel = Channel(
            fact.channel,
            fact.name,
            fact.linkedid,
            fact.state,
            classify(fact.name, self.patterns),
            endpoint_of(fact.name),
            self._count,
            fact.caller_number,
            fact.context,
            fact.exten,
        )
        self.channels[fact.channel] = channel
        self._index(channel)
        return self._near({fact.channel})

    def _index(self, channel: Channel) -> None:
        if half := local_half(channel.name):
            self._pairs.setdefault(half[0], {})[half[1]] = channel.uniqueid
        self._devices.setdefault(channel.endpoint, {})[channel.uniqueid] = None

    def _unindex(self, channel: Channel) -> None:
        if half := local_half(channel.name):
            pair = self._pairs.get(half[0], {})
            if pair.get(half[1]) == channel.uniqueid:
                del pair[half[1]]
            if not pair:
                self._pairs.pop(half[0], None)
        device = self._devices.get(channel.endpoint, {})
        device.pop(channel.uniqueid, None)
        if not device:
            self._devices.pop(channel.endpoint, None)

    def _rename(self, fact: ChannelRenamed) -> set[Uniqueid]:
        channel = self.channels.get(fact.channel)
        if channel is None:
            return set()
        before = self._near({fact.channel})
        self._unindex(channel)
        channel.name = fact.name
        channel.kind = classify(fact.name, self.patterns)
        channel.endpoint = endpoint_of(fact.name)
        self._index(channel)
        return before | self._near({fact.channel})

    def _hang_up(self, uniqueid: Uniqueid) -> set[Uniqueid]:
        before = self._near({uniqueid})
        channel = self.channels.pop(uniqueid, None)
        if channel is None:
            return set()
        if channel.bridge is not None and (bridge := self.bridges.get(channel.bridge)):
            bridge.members.pop(uniqueid, None)
        self._unindex(channel)
        self.spies.pop(uniqueid, None)
        for spies in self.spies.values():
            spies.discard(uniqueid)
        return before | {uniqueid}

    def _dial(self, fact: DialBegun) -> set[Uniqueid]:
        callee = self.channels.get(fact.callee)
        if callee is None:
            return set()
        callee.dialled_by = fact.caller or None
        callee.dialled_number = fact.dialled_number
        return {fact.callee}

    def _enter(self, fact: BridgeEntered) -> set[Uniqueid]:
        touched: set[Uniqueid] = set()
        channel = self.channels.get(fact.channel)
        if channel is not None and channel.bridge is not None and channel.bridge != fact.bridge:
            touched |= self._leave(channel.bridge, fact.channel)
        bridge = self.bridges.setdefault(fact.bridge, Bridge(fact.bridge, fact.type, fact.technology))
        bridge.type, bridge.technology = fact.type, fact.technology
        touched |= set(bridge.members)
        if fact.swap is not None and fact.swap in bridge.members:
            touched |= self._leave(fact.bridge, fact.swap)
        bridge.members.setdefault(fact.channel, None)
        if channel is not None and channel.bridge != fact.bridge:
            channel.bridge = fact.bridge
            channel.joined = self._count
            channel.hold_known = True
        return touched | self._near({fact.channel})

    def _leave(self, id: BridgeId, uniqueid: Uniqueid) -> set[Uniqueid]:
        touched = self._near({uniqueid})
        if bridge := self.bridges.get(id):
            touched |= set(bridge.members)
            bridge.members.pop(uniqueid, None)
        channel = self.channels.get(uniqueid)
        if channel is not None and channel.bridge == id:
            channel.bridge = None
        return touched | {uniqueid}

    def _empty(self, bridge: Bridge) -> set[Uniqueid]:
        touched = self._near(bridge.members)
        for member in bridge.members:
            channel = self.channels.get(member)
            if channel is not None and channel.bridge == bridge.id:
                channel.bridge = None
        return touched

    def _merge(self, fact: BridgesMerged) -> set[Uniqueid]:
        """Members of the bridge that goes arrive in the other by events of their own: nothing to move here."""
        touched: set[Uniqueid] = set()
        for id in (fact.into, fact.gone):
            if bridge := self.bridges.get(id):
                touched |= set(bridge.members)
        return touched

    def _hold(self, channel: Channel) -> None:
        channel.held, channel.held_in, channel.hold_known = True, channel.bridge, True

    def _unhold(self, channel: Channel) -> None:
        channel.held, channel.held_in, channel.hold_known = False, None, True

    def _replace(self, fact: SnapshotTaken) -> set[Uniqueid]:
        """A new picture; of channels known before, what no snapshot shows (who dialled, hold) is kept."""
        before = self.channels
        touched = set(before)
        self.channels, self.bridges, self.spies = {}, {}, {}
        self._pairs, self._devices = {}, {}
        for created in fact.channels:
            self._create(created)
            now, then = self.channels[created.channel], before.get(created.channel)
            if then is None:
                now.hold_known = False
                continue
            now.born, now.joined = then.born, then.joined
            now.dialled_by, now.dialled_number, now.queue = then.dialled_by, then.dialled_number, then.queue
            now.context, now.exten = then.context or now.context, then.exten or now.exten
            now.number = now.number or then.number
            now.held, now.held_in, now.hold_known = then.held, then.held_in, then.hold_known
        for bridge, members in fact.bridges:
            self.bridges[bridge.bridge] = Bridge(bridge.bridge, bridge.type, bridge.technology)
            for member in members:
                self.bridges[bridge.bridge].members[member] = None
                if (channel := self.channels.get(member)) is not None:
                    channel.bridge = bridge.bridge
                    channel.joined = channel.joined or self._count
        for spy in fact.spied:
            self.spies.setdefault(spy.spied, set()).add(spy.spy)
        return touched | set(self.channels)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _meeting(self, channel: Channel) -> Bridge | None:
        """The bridge in which it can hear others, if any."""
        bridge = self.bridges.get(channel.bridge) if channel.bridge is not None else None
        return None if bridge is None or bridge.holding else bridge

    def _on(self, uniqueid: Uniqueid, change: Callable[[Channel], None]) -> set[Uniqueid]:
        channel = self.channels.get(uniqueid)
        if channel is None:
            return set()
        change(channel)
        return self._near({uniqueid})

    def _near(self, uniqueids: Iterable[Uniqueid]) -> set[Uniqueid]:
        """These, and the other channels of their devices: a second call of a phone bears on its first."""
        touched: set[Uniqueid] = set()
        for uniqueid in uniqueids:
            touched.add(uniqueid)
            if (channel := self.channels.get(uniqueid)) is not None and channel.kind is PartyKind.OWN:
                touched.update(self._devices.get(channel.endpoint, ()))
        return touched
