"""A PBX to play with: what people do on it, and the facts that Asterisk (and the doors) would report of it.

Knows the truth of who is where, so that a snapshot can be taken of it at any time. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pbxguard.core.facts import (
    BridgeCreated,
    BridgeDestroyed,
    BridgeEntered,
    BridgeLeft,
    BridgesMerged,
    ChannelCreated,
    ChannelHungUp,
    ChannelState,
    ChannelStateChanged,
    DialBegun,
    DisclosureHeard,
    DisclosureRequested,
    Fact,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    SnapshotTaken,
    SpyStarted,
    WhisperBegun,
)
from pbxguard.core.ids import BridgeId, LinkedId, PurposeName, Uniqueid
from pbxguard.core.policy import GuardMode, PartyPatterns, Policy, Scope
from pbxguard.core.purposes import Basis, Direction, Disclosure, DisclosureKey, Mode, OnObjection, Purpose

PROOF = PurposeName("contract_evidence")
TRAINING = PurposeName("quality_training")
MIFID = PurposeName("mifid_order")
CONSENTING = PurposeName("marketing_consent")
SLEEPING = PurposeName("sleeping")
DRAFT = PurposeName("draft")
SALES = PurposeName("sales_only")
STRANGE = PurposeName("strange")

NL_NUMBER, NL_OTHER, DE_NUMBER, FORBIDDEN = "+31612345678", "+31687654321", "+4915112345678", "+31209990000"
DID, DID_SCOPE = "0201234567", "0207654321"

_F = Basis.LEGITIMATE_INTEREST
PURPOSES = {
    p.name: p
    for p in (
        Purpose(PROOF, _F, True),
        Purpose(TRAINING, _F, True, on_objection=OnObjection.DESTROY),
        Purpose(MIFID, Basis.LEGAL_OBLIGATION, True, on_objection=OnObjection.IGNORE),
        Purpose(CONSENTING, Basis.CONSENT, True),
        Purpose(SLEEPING, _F, False),
        Purpose(DRAFT, _F, True),
        Purpose(SALES, _F, True, directions=frozenset({Direction.OUTBOUND})),
    )
}


def disclosure_key(
    purposes: Sequence[PurposeName], mode: Mode, direction: Direction = Direction.INBOUND
) -> DisclosureKey:
    return DisclosureKey.of(tuple(purposes), "nl", mode, direction)


def _approved() -> dict[DisclosureKey, Disclosure]:
    singles = [(p,) for p in PURPOSES if p != DRAFT]
    keys = [
        disclosure_key(purposes, mode, direction)
        for purposes in (*singles, (PROOF, TRAINING), (PROOF, MIFID))
        for mode in Mode
        for direction in Direction
    ]
    return {key: Disclosure(key, "text", f"digest of {key}", "sound", 3000) for key in keys}


def make_policy(mode: GuardMode = GuardMode.GUARD, *, listen_only_spies: bool = False) -> Policy:
    """Extensions 1xx are own, 7xx private, trunks external, tenants mandated; one DID is only observed."""
    return Policy(
        "Acme",
        purposes=PURPOSES,
        disclosures=_approved(),
        parties=PartyPatterns(
            own=("PJSIP/1??-*",),
            external=("PJSIP/trunk-*",),
            private=("PJSIP/7??-*",),
            mandated=("PJSIP/tenant-*",),
            listen_only_spies=listen_only_spies,
        ),
        never_record=frozenset({"113", FORBIDDEN, "0209990000", "31209990000"}),
        mode=mode,
        scopes=(Scope(GuardMode.OBSERVE, did=DID_SCOPE),),
    )


@dataclass(slots=True)
class Line:
    """One channel as it truly is."""

    name: str
    state: ChannelState
    number: str = ""
    exten: str = ""
    dialled: bool = False
    bridge: BridgeId | None = None


@dataclass(slots=True)
class World:
    """Operations on the PBX; each gives the facts that report it, in order."""

    boot: str = "boot-1"
    lines: dict[Uniqueid, Line] = field(default_factory=dict)
    bridges: dict[BridgeId, BridgeCreated] = field(default_factory=dict)
    spies: list[SpyStarted] = field(default_factory=list)
    count: int = 0

    def create(self, name: str, state: ChannelState, number: str = "", exten: str = "") -> tuple[Uniqueid, Fact]:
        """A new channel; `name` is without its trailing number unless it is half a Local one."""
        self.count += 1
        channel = Uniqueid(f"1700000000.{self.count}")
        full = name if name.startswith("Local/") else f"{name}-{self.count:08x}"
        self.lines[channel] = Line(full, state, number, exten)
        return channel, ChannelCreated(channel, full, LinkedId(channel), state, number, "from", exten)

    def incoming(
        self,
        purposes: Sequence[PurposeName] = (PROOF,),
        number: str = NL_NUMBER,
        exten: str = DID,
        told: Mode | None = Mode.NOTICE,
        name: str = "PJSIP/trunk-a",
    ) -> tuple[Uniqueid, list[Fact]]:
        """Somebody calls in, is asked for at a door and (unless `told` is None) told of every purpose; answered."""
        channel, created = self.create(name, ChannelState.RING, number, exten)
        facts: list[Fact] = [created]
        if purposes:
            facts.append(DisclosureRequested(channel, tuple(purposes), "nl"))
        facts += self.up(channel)
        if told is not None and purposes:
            facts.append(self.hears(channel, purposes, told))
        return channel, facts

    def hears(self, channel: Uniqueid, purposes: Sequence[PurposeName], mode: Mode) -> Fact:
        direction = Direction.OUTBOUND if channel in self.lines and self.lines[channel].dialled else Direction.INBOUND
        key = disclosure_key(purposes, mode, direction)
        return DisclosureHeard(channel, key, f"digest of {key}", "2026-01-01T00:00:00Z")

    def up(self, channel: Uniqueid) -> list[Fact]:
        self.lines[channel].state = ChannelState.UP
        return [ChannelStateChanged(channel, ChannelState.UP)]

    def dial(
        self, caller: Uniqueid | None, name: str, number: str = "", *, answered: bool = True, at: str = ""
    ) -> tuple[Uniqueid, list[Fact]]:
        """`caller` (nobody for an originate) dials a new channel, from the extension `at`."""
        callee, created = self.create(name, ChannelState.DOWN)
        self.lines[callee].dialled = True
        facts = [created, DialBegun(caller or Uniqueid(""), callee, number, at)]
        facts.append(ChannelStateChanged(callee, ChannelState.RINGING))
        return callee, facts + (self.up(callee) if answered else [])

    def local(self, caller: Uniqueid) -> tuple[Uniqueid, Uniqueid, list[Fact]]:
        """`caller` dials a Local channel: its two halves."""
        pair = f"Local/x@members-{self.count + 1:08x}"
        one, first = self.create(f"{pair};1", ChannelState.DOWN)
        two, second = self.create(f"{pair};2", ChannelState.RING)
        self.lines[one].dialled = True
        facts = [first, second, DialBegun(caller, one, "x")]
        return one, two, [*facts, *self.up(one), *self.up(two)]

    def meet(self, *channels: Uniqueid, type: str = "basic", technology: str = "simple_bridge") -> list[Fact]:
        """They are put into a new bridge."""
        self.count += 1
        bridge = BridgeId(f"bridge-{self.count}")
        created = BridgeCreated(bridge, type, technology)
        self.bridges[bridge] = created
        facts: list[Fact] = [created]
        for channel in channels:
            facts += self.enter(bridge, channel)
        return facts

    def bridge_of(self, channel: Uniqueid) -> BridgeId:
        bridge = self.lines[channel].bridge
        assert bridge is not None
        return bridge

    def enter(self, bridge: BridgeId, channel: Uniqueid, swap: Uniqueid | None = None) -> list[Fact]:
        facts = self.leave(channel)
        self.lines[channel].bridge = bridge
        if swap is not None and self.lines[swap].bridge == bridge:
            self.lines[swap].bridge = None
        made = self.bridges[bridge]
        return [*facts, BridgeEntered(bridge, channel, made.type, made.technology, swap)]

    def leave(self, channel: Uniqueid) -> list[Fact]:
        bridge, self.lines[channel].bridge = self.lines[channel].bridge, None
        return [] if bridge is None else [BridgeLeft(bridge, channel)]

    def destroy(self, bridge: BridgeId) -> list[Fact]:
        for line in self.lines.values():
            if line.bridge == bridge:
                line.bridge = None
        del self.bridges[bridge]
        return [BridgeDestroyed(bridge)]

    def hang_up(self, channel: Uniqueid) -> list[Fact]:
        facts = self.leave(channel)
        del self.lines[channel]
        self.spies = [s for s in self.spies if channel not in (s.spy, s.spied)]
        return [*facts, ChannelHungUp(channel)]

    def replace(self, channel: Uniqueid, by: Uniqueid) -> list[Fact]:
        """`by` takes its place by masquerade: neither move is reported, only that `channel` hangs up (bridge.c)."""
        place, self.lines[channel].bridge = self.lines[channel].bridge, None
        facts = self.leave(by)
        self.lines[by].bridge = place
        return [*facts, *self.hang_up(channel)]

    def spy(self, spied: Uniqueid) -> tuple[Uniqueid, list[Fact]]:
        spy, created = self.create("PJSIP/199", ChannelState.UP)
        fact = SpyStarted(spy, spied)
        self.spies.append(fact)
        return spy, [created, fact]

    def whisper(self, spied: Uniqueid) -> tuple[Uniqueid, list[Fact]]:
        """We speak to one party alone: announced before Asterisk makes the snoop channel."""
        spy, created = self.create("Snoop/9", ChannelState.UP)
        fact = SpyStarted(spy, spied)
        self.spies.append(fact)
        return spy, [WhisperBegun(spy, spied), created, fact]

    def optimise(self, agent: Uniqueid, one: Uniqueid, two: Uniqueid, *, ends: bool = True) -> list[Fact]:
        """The Local pair between the agent's and the customer's bridge is taken out (ASTERISK.md, event stream)."""
        bridge = self.lines[one].bridge
        facts: list[Fact] = [LocalOptimizationBegun(one, two), *self.leave(agent)]
        if bridge is not None:
            facts += [*self.leave(one), *self.enter(bridge, agent, swap=one)]
        if ends:
            facts += [LocalOptimizationEnded(one, two), *self.hang_up(one), *self.hang_up(two)]
        return facts

    def merge(self, into: BridgeId, gone: BridgeId) -> list[Fact]:
        """All members of `gone` move to `into`."""
        facts: list[Fact] = [BridgesMerged(into, gone)]
        for channel in [c for c, line in self.lines.items() if line.bridge == gone]:
            facts += self.enter(into, channel)
        return [*facts, *self.destroy(gone)]

    def snapshot(self) -> SnapshotTaken:
        """What is truly so now."""
        channels = tuple(
            ChannelCreated(c, x.name, LinkedId(c), x.state, x.number, "from", x.exten, x.dialled)
            for c, x in self.lines.items()
        )
        bridges = tuple(
            (made, tuple(c for c, line in self.lines.items() if line.bridge == bridge))
            for bridge, made in self.bridges.items()
        )
        return SnapshotTaken(self.boot, channels, bridges, tuple(self.spies))
