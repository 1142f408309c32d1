"""What the PBX looks like now: channels, bridges, Local pairs, holds, spies.

Owns the picture and nothing else: who may be recorded is not its business. `apply` takes one fact and gives the
channels whose conversation may have changed by it. Facts may come twice, late or never; a fact about what is not
known changes as much as can be believed.
"""

from __future__ import annotations

from collections import OrderedDict
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
    ContactSeen,
    DialBegun,
    Fact,
    HangupRequested,
    Held,
    QueueJoined,
    SnapshotTaken,
    SpyStarted,
    SpyStopped,
    TransferredIntoApp,
    Unheld,
    WhisperBegun,
    WhisperEnded,
)
from .ids import BridgeId, Endpoint, LinkedId, Uniqueid
from .parties import PartyKind, classify, endpoint_of, local_half
from .policy import PartyPatterns

_HOLDING = ("parking", "holding_bridge")
_OURS = (PartyKind.OWN, PartyKind.PRIVATE)
_MOST_GONE = 10_000
"""How many channels that hung up are remembered, so that what arrives late about them raises no ghost."""


@dataclass(slots=True)
class Channel:
    """One channel as last seen. `born` and `joined` count facts, not seconds: they order, they do not time."""

    uniqueid: Uniqueid
    name: str
    linkedid: LinkedId
    state: ChannelState
    kind: PartyKind
    endpoint: Endpoint
    device: Endpoint
    """The telephone that it is of: what it hears elsewhere, it may pass on here."""
    born: int
    contact: str = ""
    """Address of the telephone, where its endpoint is split by contact; empty while it is not known."""
    number: str = ""
    context: str = ""
    exten: str = ""
    dialled: bool = False
    """Somebody here dialled it, an originate included."""
    dialled_by: Uniqueid | None = None
    dialled_number: str = ""
    dialled_at: str = ""
    """The extension that dialled it: a ring group's, say."""
    origin: tuple[str, str] | None = None
    """Extension and context at which the call that dialled it arrived; stays when the dialler leaves."""
    queue: str = ""
    bridge: BridgeId | None = None
    joined: int = 0
    loose: int = 0
    """Since when it is in no bridge; 0 when that is not known."""
    held: bool = False
    held_in: BridgeId | None = None
    hold_known: bool = True
    leaving: bool = False
    """It was asked to hang up: Asterisk may still bridge it, for an instant."""

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

    `talkers` are its known channels that are no Local halves, in the order in which they joined; `dangling` says
    that a Local half leads to where nobody can see, or that a bridge has a member of whom no channel is known.
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
        self._spying: dict[Uniqueid, set[Uniqueid]] = {}
        """The same the other way round."""
        self._whispers: dict[Uniqueid, Uniqueid] = {}
        """Our own spies, which hear nothing, and to whom each of them speaks."""
        self.guessed: set[Uniqueid] = set()
        """Spies of whom only a snapshot tells whom they hear: it guesses."""
        self._unseen: dict[Uniqueid, BridgeId] = {}
        """Members of bridges of which no channel is known (yet)."""
        self._gone: OrderedDict[Uniqueid, None] = OrderedDict()
        self._pairs: dict[str, dict[int, Uniqueid]] = {}
        self._devices: dict[Endpoint, dict[Uniqueid, None]] = {}
        self.count = 0
        """Facts taken so far."""

    # -- questions ---------------------------------------------------------------------------------------------------

    def component(self, start: Uniqueid) -> Component:
        """Everybody who can hear the channel `start`; just itself where it is in no bridge that joins people."""
        first = self.channels.get(start)
        if first is None and start in self._unseen:  # a member of whom no channel is known: as good as its neighbours
            bridge = self.bridges.get(self._unseen[start])
            if bridge is not None and not bridge.holding:
                first = next((self.channels[m] for m in bridge.members if m in self.channels), None)
        if first is None:
            return Component((), frozenset({start}), False, False)
        if self._meeting(first) is None and first.kind is not PartyKind.LOCAL:
            return Component((first,), frozenset({start}), False, False)
        seen: dict[Uniqueid, Channel] = {}
        strangers: set[Uniqueid] = set()
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
                strangers.update(m for m in bridge.members if m not in self.channels)
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
        return Component(tuple(talkers), frozenset(seen) | strangers, dangling or bool(strangers), bridged)

    def other_half(self, channel: Channel) -> Channel | None:
        """The other half of a Local channel, if both are known."""
        half = local_half(channel.name)
        if half is None:
            return None
        other = self._pairs.get(half[0], {}).get(3 - half[1])
        return self.channels.get(other) if other is not None else None

    def beside(self, channel: Channel) -> Iterator[Channel]:
        """The other channels of its device. Of one endpoint split by contact: all but those known to be elsewhere."""
        split = self.patterns.devices.splits(channel.endpoint)
        for uniqueid in self._devices.get(channel.device, ()):
            other = self.channels.get(uniqueid)
            if other is None or other is channel:
                continue
            apart = split and other.endpoint == channel.endpoint and channel.contact and other.contact
            if not (apart and channel.contact != other.contact):
                yield other

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
        self.count += 1
        match fact:
            case ChannelCreated():
                return self._create(fact)
            case ChannelStateChanged():
                return self._on(fact.channel, lambda c: self._advance(c, fact.state))
            case ChannelRenamed():
                return self._rename(fact)
            case ChannelNumberChanged():
                return self._on(fact.channel, lambda c: setattr(c, "number", fact.caller_number))
            case HangupRequested():
                return self._on(fact.channel, lambda c: setattr(c, "leaving", True))
            case ChannelHungUp():
                return self._hang_up(fact.channel)
            case DialBegun():
                return self._dial(fact)
            case ContactSeen():
                return self._on(fact.channel, lambda c: setattr(c, "contact", fact.contact))
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
                return self._spy(fact)
            case WhisperBegun():
                self._whispers[fact.spy] = fact.spied
                return set()
            case WhisperEnded():
                self._whispers.pop(fact.spy, None)
                return set()
            case SpyStopped():
                self._whispers.pop(fact.spy, None)
                self._unspy(fact.spy, fact.spied)
                return self._near({fact.spied})
            case SnapshotTaken():
                return self._replace(fact)
            case _:
                return set()

    def _create(self, fact: ChannelCreated) -> set[Uniqueid]:
        if fact.channel in self._gone:
            return set()  # a late double: a channel that hung up never comes back
        if fact.channel in self.channels:
            return self._on(fact.channel, lambda c: self._advance(c, fact.state))
        channel = Channel(
            fact.channel,
            fact.name,
            fact.linkedid,
            fact.state,
            classify(fact.name, self.patterns),
            endpoint := endpoint_of(fact.name),
            self.patterns.devices.device_of(endpoint),
            self.count,
            number=fact.caller_number,
            context=fact.context,
            exten=fact.exten,
            dialled=fact.dialled,
            loose=self.count,
        )
        self.channels[fact.channel] = channel
        self._index(channel)
        if (bridge := self._unseen.pop(fact.channel, None)) is not None:  # it was in a bridge before we heard of it
            channel.bridge, channel.joined = bridge, self.count
        return self._near({fact.channel})

    def _index(self, channel: Channel) -> None:
        if half := local_half(channel.name):
            self._pairs.setdefault(half[0], {})[half[1]] = channel.uniqueid
        self._devices.setdefault(channel.device, {})[channel.uniqueid] = None

    def _unindex(self, channel: Channel) -> None:
        if half := local_half(channel.name):
            pair = self._pairs.get(half[0], {})
            if pair.get(half[1]) == channel.uniqueid:
                del pair[half[1]]
            if not pair:
                self._pairs.pop(half[0], None)
        device = self._devices.get(channel.device, {})
        device.pop(channel.uniqueid, None)
        if not device:
            self._devices.pop(channel.device, None)

    def _rename(self, fact: ChannelRenamed) -> set[Uniqueid]:
        channel = self.channels.get(fact.channel)
        if channel is None:
            return set()
        before = self._near({fact.channel}) | self._neighbours(channel)
        self._unindex(channel)
        channel.name = fact.name
        channel.kind = classify(fact.name, self.patterns)
        channel.endpoint = endpoint_of(fact.name)
        channel.device = self.patterns.devices.device_of(channel.endpoint)
        self._index(channel)
        return before | self._near({fact.channel})

    def _hang_up(self, uniqueid: Uniqueid) -> set[Uniqueid]:
        self._gone[uniqueid] = None
        if len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)
        self.guessed.discard(uniqueid)
        touched = self._near({uniqueid})
        channel = self.channels.pop(uniqueid, None)
        if channel is not None:
            touched |= self._neighbours(channel)
            self._unindex(channel)
        id = channel.bridge if channel is not None else self._unseen.pop(uniqueid, None)
        if id is not None and (bridge := self.bridges.get(id)):
            bridge.members.pop(uniqueid, None)
            touched |= set(bridge.members)
        self._whispers.pop(uniqueid, None)
        for spy in tuple(self.spies.get(uniqueid, ())):
            self._unspy(spy, uniqueid)
        for spied in tuple(self._spying.get(uniqueid, ())):
            self._unspy(uniqueid, spied)
            touched |= self._near({spied})
        return touched

    def _spy(self, fact: SpyStarted) -> set[Uniqueid]:
        if fact.spy in self._gone or fact.spied in self._gone or self._whispers.get(fact.spy) == fact.spied:
            return set()
        if fact.guessed:
            self.guessed.add(fact.spy)
        else:
            self.guessed.discard(fact.spy)
        self.spies.setdefault(fact.spied, set()).add(fact.spy)
        self._spying.setdefault(fact.spy, set()).add(fact.spied)
        return self._near({fact.spied})

    def _unspy(self, spy: Uniqueid, spied: Uniqueid) -> None:
        for table, key, value in ((self.spies, spied, spy), (self._spying, spy, spied)):
            if (others := table.get(key)) is not None:
                others.discard(value)
                if not others:
                    del table[key]

    def _dial(self, fact: DialBegun) -> set[Uniqueid]:
        callee = self.channels.get(fact.callee)
        if callee is None:
            return set()
        callee.dialled = True
        callee.dialled_by = fact.caller or callee.dialled_by
        callee.dialled_number = fact.dialled_number or callee.dialled_number
        callee.dialled_at = fact.dialled_at or callee.dialled_at
        if (dialler := self.root_dialler(callee)) is not None:
            callee.origin = dialler.origin or (dialler.exten, dialler.context)
        return {fact.callee}

    def _enter(self, fact: BridgeEntered) -> set[Uniqueid]:
        if fact.channel in self._gone:
            return set()
        touched: set[Uniqueid] = set()
        channel = self.channels.get(fact.channel)
        former = channel.bridge if channel is not None else self._unseen.get(fact.channel)
        if former is not None and former != fact.bridge:
            touched |= self._leave(former, fact.channel)
        bridge = self.bridges.setdefault(fact.bridge, Bridge(fact.bridge, fact.type, fact.technology))
        bridge.type, bridge.technology = fact.type, fact.technology
        touched |= set(bridge.members)
        if fact.swap is not None and fact.swap in bridge.members:
            touched |= self._leave(fact.bridge, fact.swap)
        bridge.members.setdefault(fact.channel, None)
        if channel is None:
            self._unseen[fact.channel] = fact.bridge
        elif channel.bridge != fact.bridge:
            channel.bridge = fact.bridge
            channel.joined = self.count
            channel.hold_known = True
        return touched | self._near({fact.channel})

    def _leave(self, id: BridgeId, uniqueid: Uniqueid) -> set[Uniqueid]:
        touched = self._near({uniqueid})
        if bridge := self.bridges.get(id):
            touched |= set(bridge.members)
            bridge.members.pop(uniqueid, None)
        if self._unseen.get(uniqueid) == id:
            del self._unseen[uniqueid]
        channel = self.channels.get(uniqueid)
        if channel is not None and channel.bridge == id:
            channel.bridge, channel.loose = None, self.count
        return touched | {uniqueid}

    def _empty(self, bridge: Bridge) -> set[Uniqueid]:
        touched = self._near(bridge.members)
        for member in bridge.members:
            self._unseen.pop(member, None)
            channel = self.channels.get(member)
            if channel is not None and channel.bridge == bridge.id:
                channel.bridge, channel.loose = None, self.count
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
        self.channels, self.bridges, self.spies, self._spying, self._unseen = {}, {}, {}, {}, {}
        self._pairs, self._devices = {}, {}
        for created in sorted(fact.channels, key=lambda c: _age(c.channel)):
            self._gone.pop(created.channel, None)
            self._create(created)
            now, then = self.channels[created.channel], before.get(created.channel)
            self.count += 1  # channels not known before are put in the order of their birth
            now.loose = then.loose if then is not None and then.bridge is None else 0
            if then is None:
                now.hold_known = False
                continue
            now.born, now.joined = then.born, then.joined
            now.dialled = now.dialled or then.dialled
            now.dialled_by, now.dialled_number = then.dialled_by, then.dialled_number
            now.dialled_at = then.dialled_at
            now.queue, now.origin = then.queue, then.origin
            now.context, now.exten = then.context or now.context, then.exten or now.exten
            now.number, now.contact = now.number or then.number, then.contact
            now.held, now.held_in, now.hold_known = then.held, then.held_in, then.hold_known
        for bridge, members in fact.bridges:
            self.bridges[bridge.bridge] = Bridge(bridge.bridge, bridge.type, bridge.technology)
            for member in members:
                self.bridges[bridge.bridge].members[member] = None
                if (channel := self.channels.get(member)) is not None:
                    channel.bridge = bridge.bridge
                    channel.joined = channel.joined or self.count
                else:
                    self._unseen[member] = bridge.bridge
        for spy in fact.spied:
            self._spy(spy)
        return touched | set(self.channels)

    def differs(self, fact: SnapshotTaken) -> set[Uniqueid]:
        """The channels that are not where, or not what, these lists of the PBX show them."""
        where = {member: bridge.bridge for bridge, members in fact.bridges for member in members}
        there = {created.channel: created for created in fact.channels}
        return {
            id
            for id in there.keys() | self.channels.keys()
            if (seen := there.get(id)) is None
            or (known := self.channels.get(id)) is None
            or known.bridge != where.get(id)
            or known.name != seen.name
            or (seen.state is ChannelState.UP and known.state is not ChannelState.UP)
        }

    def belied(self, fact: Fact) -> tuple[BridgeId, ...]:
        """The bridges in which somebody was not, or was, against what we thought, by what this fact says; mostly none.

        A channel hangs up in a bridge that it never left, or leaves one that it never came to, or comes to one while
        it is in another: Asterisk reports all moves in order, but none that is made by masquerade (`doubts.py`). Of
        one kind it tells beforehand that there may be one.
        """
        match fact:
            case ChannelHungUp(channel=uniqueid):
                places = {self.place(uniqueid)}
            case BridgeLeft(bridge=id, channel=uniqueid) if self.place(uniqueid) != id:
                places = {id, self.place(uniqueid)}
            case BridgeEntered(bridge=id, channel=uniqueid) if self.place(uniqueid) != id:
                places = {self.place(uniqueid)}
            case TransferredIntoApp(one=one, two=two):
                places = {self.place(one), self.place(two)}
            case _:
                return ()
        return tuple(sorted(place for place in places if place is not None and place in self.bridges))

    def place(self, uniqueid: Uniqueid) -> BridgeId | None:
        """The bridge that it is in, of whatever kind."""
        channel = self.channels.get(uniqueid)
        return self._unseen.get(uniqueid) if channel is None else channel.bridge

    def loose_since(self) -> int:
        """Since when nobody new is in no bridge, by `count`: who took a place unseen did it later. 0: not known."""
        return min((c.loose for c in self.channels.values() if c.bridge is None), default=0)

    def reclassify(self, patterns: PartyPatterns) -> None:
        """The patterns changed: who is behind each channel is told anew."""
        self.patterns = patterns
        for channel in self.channels.values():
            self._unindex(channel)
            channel.kind = classify(channel.name, patterns)
            channel.device = patterns.devices.device_of(channel.endpoint)
            self._index(channel)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _meeting(self, channel: Channel) -> Bridge | None:
        """The bridge in which it can hear others, if any."""
        bridge = self.bridges.get(channel.bridge) if channel.bridge is not None else None
        return None if bridge is None or bridge.holding else bridge

    @staticmethod
    def _advance(channel: Channel, state: ChannelState) -> None:
        """A channel that was answered stays so: what says otherwise is late."""
        if channel.state is not ChannelState.UP:
            channel.state = state

    def _neighbours(self, channel: Channel) -> set[Uniqueid]:
        """Whose conversation changes when this channel is no longer what, or where, it was."""
        bridge = self.bridges.get(channel.bridge) if channel.bridge is not None else None
        other = self.other_half(channel)
        return set(bridge.members if bridge else ()) | ({other.uniqueid} if other else set())

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
            if (channel := self.channels.get(uniqueid)) is not None and channel.kind in _OURS:
                touched.update(self._devices.get(channel.device, ()))
        return touched


def _age(uniqueid: Uniqueid) -> tuple[float, str]:
    """Sorts channels by birth: a uniqueid is ``[system-]epoch.number``, counted up by Asterisk."""
    epoch, _, number = uniqueid.rpartition("-")[2].partition(".")
    if not (epoch.isascii() and epoch.isdigit() and number.isascii() and number.isdigit()):
        return float("inf"), uniqueid
    return int(number), uniqueid
