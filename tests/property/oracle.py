"""A second reading of the law, written apart from the first: who hears whom, and what forbids recording it.

Shares with pbxguard the words (facts, reasons) and nothing of its reasoning: no switchboard, no permit, no number or
party module. Slow and plain: it works everything out anew from flat tables at every question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    BridgeCreated,
    BridgeDestroyed,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelHungUp,
    ChannelNumberChanged,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    ConnectionLost,
    Consented,
    DialBegun,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    HangupRequested,
    Held,
    LocalOptimizationBegun,
    LocalOptimizationEnded,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PurposeBegun,
    QueueJoined,
    Resumed,
    SnapshotTaken,
    SpoolHasRoom,
    SpyStarted,
    SpyStopped,
    SwitchedOff,
    SwitchedOn,
    Unheld,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import PurposeName
from pbxguard.core.reasons import Reason

R = Reason
_STRICT = ["notice", "opt_out", "opt_in"]
_KINDS = (
    (r"Local/", "local"),
    (r"CBAnn/|Announcer/", "machine"),
    (r"Snoop/", "monitor"),
    (r".*<", "unknown"),
    (r"PJSIP/7\d\d-", "private"),
    (r"PJSIP/tenant-", "mandated"),
    (r"PJSIP/1\d\d-", "own"),
    (r"PJSIP/trunk-", "external"),
)


@lru_cache(maxsize=10_000)
def kind_of(name: str) -> str:
    return next((kind for pattern, kind in _KINDS if re.match(pattern, name)), "unknown")


def plain(number: str) -> str:
    """E.164 where it is Dutch national or international; else the digits."""
    if number.startswith("+"):
        return number
    return f"+31{number[1:]}" if re.fullmatch(r"0\d{9}", number) else number


@dataclass
class Line:
    name: str
    up: bool
    ring: bool
    number: str
    exten: str
    dialled: bool
    order: int
    dialler: str = ""
    origin: str | None = None
    dialled_number: str = ""
    dialled_at: str = ""
    queue: str = ""
    last_number: str = ""
    leaving: bool = False


@dataclass
class Said:
    """What is known of one channel apart from its place."""

    asked: tuple[str, ...] = ()
    asked_callee: tuple[str, ...] = ()
    begun: set[str] = field(default_factory=set)
    private: bool = False
    paused: bool = False
    unheard: bool = False
    """Marked private in mid-call: what was captured of it is destroyed."""
    heard: list[DisclosureHeard] = field(default_factory=list)
    doubted: list[DisclosureHeard] = field(default_factory=list)
    not_heard: set[Reason] = field(default_factory=set)
    objected: set[str] = field(default_factory=set)
    bound: set[tuple[str, str]] = field(default_factory=set)
    """Who in its call objected, and to what."""
    consented: set[str] = field(default_factory=set)


@dataclass
class Verdict:
    """Of one conversation: all its channels, the reasons against, the purposes for."""

    channels: frozenset[str]
    reasons: frozenset[Reason]
    purposes: tuple[str, ...]
    own_legs: frozenset[str]
    calls: frozenset[str]
    frozen: bool
    company: int
    """2: two or more people, and nobody hanging up; 1: one, with somebody unseen; 0: one who waits."""


ALL = "*"


class Oracle:
    """Reads the same facts, and says what may be recorded."""

    def __init__(self, *, observe: bool = False, listen_only: bool = False) -> None:
        self.observe, self.listen_only = observe, listen_only
        self.said: dict[str, Said] = {}
        self.ended: dict[str, set[tuple[str, str]]] = {}
        """What stood in calls at their end."""
        self.met: dict[str, set[str]] = {}
        """Calls, and the other calls that each was ever in one conversation with."""
        self.whispers: dict[str, str] = {}
        """Our own spies, which hear nothing, and to whom each speaks."""
        self.audit = self.room = self.off = False
        self.connected = False
        self.beat = self.now = float("-inf")
        self.lost = float("-inf")
        self.boot = ""
        self.forget_picture()

    def forget_picture(self) -> None:
        self.lines: dict[str, Line] = {}
        self.place: dict[str, str] = {}
        self.holding: dict[str, bool] = {}
        self.dead: set[str] = set()
        self.held: dict[str, str | None] = {}
        self.hold_doubt: set[str] = set()
        self.spying: set[tuple[str, str]] = set()
        self.changes: dict[frozenset[str], tuple[frozenset[str], float]] = {}
        self.failed: dict[str, float] = {}
        self.doubts: dict[str, float] = {}
        """Bridges in which somebody may be unseen, and since when."""
        self.calls: set[str] = set()
        """Whoever was external once is a call until the end."""
        self.order = 0

    def restarted(self) -> None:
        """pbxguard was started anew: it knows what it is told again."""
        self.forget_picture()
        self.said, self.met, self.whispers = {}, {}, {}
        self.audit = self.room = self.off = self.connected = False
        self.beat = self.lost = float("-inf")
        self.boot = ""

    @property
    def lag(self) -> float:
        return self.now - self.beat

    # -- facts -------------------------------------------------------------------------------------------------------

    def learn(self, fact: Fact, now: float) -> None:
        self.now = now
        self.order += 1
        match fact:
            case ChannelCreated():
                self._created(fact)
            case ChannelStateChanged(channel=c, state=state):
                if line := self.lines.get(c):
                    self._state(line, state)
            case ChannelRenamed(channel=c, name=name):
                if line := self.lines.get(c):
                    line.name = name
            case ChannelNumberChanged(channel=c, caller_number=number):
                self._number(c, number)
            case ChannelHungUp(channel=c):
                self._dies(c)
            case DialBegun():
                if line := self.lines.get(fact.callee):
                    line.dialled = True
                    line.dialler = fact.caller or line.dialler
                    line.dialled_number = fact.dialled_number or line.dialled_number
                    line.dialled_at = fact.dialled_at or line.dialled_at
                    if root := self.lines.get(self.root(fact.callee) or ""):
                        line.origin = root.exten if root.origin is None else root.origin
            case QueueJoined(channel=c, queue=queue):
                if line := self.lines.get(c):
                    line.queue = queue
            case BridgeCreated():
                self.holding[fact.bridge] = "holding_bridge" in fact.technology or fact.type == "parking"
            case BridgeDestroyed(bridge=b):
                self.holding.pop(b, None)
                self.doubts.pop(b, None)
                self.place = {c: at for c, at in self.place.items() if at != b}
            case BridgeEntered(bridge=b, channel=c, swap=swap):
                if c not in self.dead:
                    self.holding[b] = "holding_bridge" in fact.technology or fact.type == "parking"
                    if swap is not None and self.place.get(swap) == b:
                        del self.place[swap]
                    if self.place.get(c) != b:
                        self.place[c] = b
                        self.hold_doubt.discard(c)
            case BridgeLeft(bridge=b, channel=c):
                if self.place.get(c) == b:
                    del self.place[c]
            case Held(channel=c):
                if c in self.lines:
                    self.held[c] = self.place.get(c)
                    self.hold_doubt.discard(c)
            case Unheld(channel=c):
                if c in self.lines:
                    self.held.pop(c, None)
                    self.hold_doubt.discard(c)
            case HangupRequested(channel=c):
                if line := self.lines.get(c):
                    line.leaving = True
            case SpyStarted():
                self._spies(fact)
            case SpyStopped():
                self.spying.discard((fact.spy, fact.spied))
                self.whispers.pop(fact.spy, None)
            case WhisperBegun():
                self.whispers[fact.spy] = fact.spied
            case WhisperEnded(spy=spy):
                self.whispers.pop(spy, None)
            case LocalOptimizationBegun(one=one, two=two):
                key = frozenset((str(one), str(two)))
                self.changes.setdefault(key, (self.group(one) | self.group(two), now + 0.1))
            case LocalOptimizationEnded(one=one, two=two):
                self.changes.pop(frozenset((str(one), str(two))), None)
            case AuditHealthy(healthy=healthy):
                self.audit = healthy
            case SpoolHasRoom(room=room):
                self.room = room
            case SwitchedOff():
                self.off = True
            case SwitchedOn():
                self.off = False
            case BeatReturned(sent=sent):
                self.beat = max(self.beat, sent)
            case ConnectionLost():
                if self.connected:
                    self.lost = self.beat
                self.connected = False
                self.changes.clear()
            case SnapshotTaken():
                self._snapshot(fact)
            case _:
                self._speech(fact)

    def _spies(self, fact: SpyStarted) -> None:
        alive = fact.spy not in self.dead and fact.spied not in self.dead
        if alive and self.whispers.get(fact.spy) != fact.spied:
            self.spying.add((fact.spy, fact.spied))

    def _speech(self, fact: Fact) -> None:
        if not isinstance(
            fact,
            (
                DisclosureRequested,
                DisclosureHeard,
                DisclosureNotHeard,
                Objected,
                ObjectionBinds,
                Consented,
                MarkedPrivate,
                Paused,
                PurposeBegun,
                Resumed,
            ),
        ):
            return
        if isinstance(fact, Objected):
            self._objects(str(fact.channel), {str(p) for p in fact.purposes} or {ALL})
        if fact.channel in self.dead:
            return
        said = self.said.setdefault(fact.channel, Said())
        match fact:
            case DisclosureRequested():
                if fact.for_callee:
                    said.asked_callee = fact.purposes
                else:
                    said.asked = fact.purposes
                said.private |= fact.private
            case DisclosureHeard():
                if fact not in said.doubted:
                    said.not_heard = set()
                    if fact not in said.heard:
                        said.heard.append(fact)
            case DisclosureNotHeard(reason=reason):
                if not said.heard:
                    said.not_heard.add(Reason(reason))
            case Objected(purposes=purposes):
                said.objected |= set(purposes) or {ALL}
            case ObjectionBinds(by=by, purposes=purposes):
                said.bound |= {(str(by), str(p)) for p in purposes or (ALL,)}
            case Consented(purposes=purposes):
                said.consented |= set(purposes)
            case MarkedPrivate(late=late):
                said.private = True
                said.unheard |= late
            case PurposeBegun(purposes=purposes):
                said.begun |= set(purposes)
            case Paused():
                said.paused = True
            case Resumed():
                said.paused = False
        if said.private:
            self._private_calls(fact.channel)

    def _objects(self, channel: str, to: set[str]) -> None:
        """It holds for every call that he talks with, and for those that he ever talked with."""
        now = self.group(channel)
        for call in self.calls & self.lines.keys():
            if call != channel and (call in now or channel in self.met.get(call, ())):
                self.said.setdefault(call, Said()).bound |= {(channel, p) for p in to}

    def _objections(self, c: str) -> set[tuple[str, str]]:
        said = self.said.get(c, Said())
        return said.bound | {(c, p) for p in said.objected}

    def _talk(self, people: list[str], group: frozenset[str]) -> None:
        """Who talks with somebody who objected, or is bound, is bound."""
        together = {c for c in group if c in self.calls and c in self.lines}
        standing = {objection for c in people for objection in self._objections(c)}
        for c in together:
            self.met.setdefault(c, set()).update(together - {c})
            more = {objection for objection in standing if objection[0] != c}
            if more:
                self.said.setdefault(c, Said()).bound |= more

    def _private_calls(self, channel: str) -> None:
        """Once private, the calls in the conversation stay so (checked again at each verdict)."""
        for other in self.group(channel):
            if other in self.lines and self.boot and other in self.calls:
                self.said.setdefault(other, Said()).private = True

    def _state(self, line: Line, state: ChannelState) -> None:
        if not line.up:
            line.up, line.ring = state is ChannelState.UP, state is ChannelState.RING

    def _created(self, fact: ChannelCreated) -> None:
        c = fact.channel
        if c in self.dead:
            return
        if line := self.lines.get(c):
            self._state(line, fact.state)
            return
        self.lines[c] = Line(
            fact.name,
            fact.state is ChannelState.UP,
            fact.state is ChannelState.RING,
            fact.caller_number,
            fact.exten,
            fact.dialled,
            self.order,
        )

    def _number(self, c: str, number: str) -> None:
        line = self.lines.get(c)
        if line is None:
            return
        if kind_of(line.name) == "external":
            after = plain(number)
            if not after:
                return
            candidates = [n for n in (line.last_number, plain(line.number), plain(line.dialled_number)) if n[:1] == "+"]
            if after.startswith("+"):
                if candidates and candidates[0] != after:
                    said = self.said.setdefault(c, Said())
                    said.doubted += said.heard
                    said.heard, said.consented = [], set()
                line.last_number = after
            elif candidates:
                line.last_number = candidates[0]
        line.number = number

    def _dies(self, c: str) -> None:
        self.dead.add(c)
        self.whispers.pop(c, None)
        self.lines.pop(c, None)
        self.place.pop(c, None)
        self.held.pop(c, None)
        self.ended[c] = self._objections(c)
        self.said.pop(c, None)
        self.failed.pop(c, None)
        self.spying = {pair for pair in self.spying if c not in pair}
        self.changes = {key: change for key, change in self.changes.items() if c not in key}

    def _snapshot(self, fact: SnapshotTaken) -> None:
        fresh = bool(self.boot) and fact.boot != self.boot
        distrust = not self.connected and self.now - self.lost > 10
        before, held, doubt = self.lines, self.held, self.hold_doubt
        gone = set(before) - {str(c.channel) for c in fact.channels}
        if fresh:
            before, held, doubt = {}, {}, set()
            self.said, self.met, self.dead, self.failed = {}, {}, set(), {}
        self.dead |= gone if not fresh else set()
        self.lines, self.place, self.holding, self.spying, self.changes = {}, {}, {}, set(), {}
        self.held, self.hold_doubt, self.doubts = {}, set(), {}
        for created in fact.channels:
            c = str(created.channel)
            self.dead.discard(c)
            self._created(created)
            line = self.lines[c]
            if (then := before.get(c)) is None:
                self.hold_doubt.add(c)
                continue
            line.dialler, line.dialled_number, line.queue = then.dialler, then.dialled_number, then.queue
            line.origin, line.dialled_at = then.origin, then.dialled_at
            line.dialled |= then.dialled
            line.last_number = then.last_number
            line.number = line.number or then.number
            if c in held:
                self.held[c] = held[c]
            if distrust or c in doubt:
                self.hold_doubt.add(c)
        if not fresh:
            for c in gone:
                self.ended[c] = self._objections(c)
                self.said.pop(c, None)
        for made, members in fact.bridges:
            self.holding[made.bridge] = "holding_bridge" in made.technology or made.type == "parking"
            for member in members:
                self.place[member] = made.bridge
        for spy in fact.spied:
            self._spies(spy)
        self.connected, self.boot = True, fact.boot

    # -- who hears whom ----------------------------------------------------------------------------------------------

    def _meets(self, c: str) -> bool:
        return c in self.place and not self.holding.get(self.place[c], False)

    def _other_half(self, c: str) -> str | None:
        name = self.lines[c].name
        if not name.startswith("Local/"):
            return None
        if not re.fullmatch(r"Local/.*;[12]", name):
            return None
        wanted = name[:-1] + ("2" if name.endswith("1") else "1")
        return next((d for d, line in self.lines.items() if line.name == wanted), None)

    def groups(self) -> list[frozenset[str]]:
        """Union-find over bridges and Local pairs; who meets nobody is a group of one."""
        parent: dict[str, str] = {}

        def find(x: str) -> str:
            while parent.setdefault(x, x) != x:
                x = parent[x]
            return x

        for c in self.lines:
            find(c)
        for c in self.place:
            find(c)
            if self._meets(c):
                parent[find(c)] = find(f"bridge {self.place[c]}")
        for c in self.lines:
            other = self._other_half(c)
            if other is not None and (self._meets(c) or self._meets(other)):
                parent[find(c)] = find(other)
        sets: dict[str, set[str]] = {}
        for x in list(parent):
            if not x.startswith("bridge "):
                sets.setdefault(find(x), set()).add(x)
        return [frozenset(group) for group in sets.values()]

    def group(self, c: str) -> frozenset[str]:
        """Everybody who can hear this one."""
        return next((g for g in self.groups() if c in g), frozenset({c}))

    def people(self, group: frozenset[str]) -> list[str]:
        """Whoever takes part: no Local halves; where there is a bridge, only those in it."""
        bridged = any(self._meets(c) for c in group)
        known = [c for c in sorted(group) if c in self.lines and kind_of(self.lines[c].name) != "local"]
        return [c for c in known if c in self.place or not bridged]

    # -- what forbids it ---------------------------------------------------------------------------------------------

    def verdicts(self, running: frozenset[str] = frozenset()) -> Iterator[Verdict]:
        """One for each conversation; `running` are the legs on which a recorder is wanted now."""
        for group in self.groups():
            yield self._verdict(group, bool(group & running))

    def _verdict(self, group: frozenset[str], running: bool) -> Verdict:
        kinds = {c: kind_of(self.lines[c].name) for c in group if c in self.lines}
        bridged = any(self._meets(c) for c in group)
        people = [c for c in self.people(group) if kinds[c] != "machine"]
        own = [c for c in people if kinds[c] == "own"]
        outside = [c for c in people if kinds[c] == "external"]
        self.calls |= set(outside) if self.boot else set()
        against: set[Reason] = set()

        def forbid(reason: Reason, when: bool) -> None:
            if when:
                against.add(reason)

        changing = [deadline for channels, deadline in self.changes.values() if channels & group]
        if not any(deadline > self.now for deadline in changing):
            self._talk(people, group)
        if any(self.said.get(c, Said()).private for c in people):
            self._private_calls(people[0])
        forbid(R.SWITCHED_OFF, self.off)
        forbid(R.OBSERVE_MODE, self.observe or any(self._arrived(c) == "0207654321" for c in outside))
        forbid(R.NEVER_RECORD, any(self._forbidden(c) for c in people))
        forbid(R.MARKED_PRIVATE, any(self.said.get(c, Said()).private for c in people))
        forbid(R.NOT_BRIDGED, not bridged)
        forbid(R.NO_OWN_PARTY, not own)
        forbid(R.OWN_NOT_ANSWERED, bool(own) and not any(self.lines[c].up for c in own))
        forbid(R.NO_EXTERNAL_PARTY, not outside)
        forbid(R.EXTERNAL_NOT_ANSWERED, any(not self.lines[c].up for c in outside))
        unseen = any(self._unseen(c) for c in group)
        leaving = any(self.lines[c].leaving for c, kind in kinds.items() if kind != "local" and c in self.place)
        forbid(R.UNKNOWN_PARTY, unseen or any(kinds[c] in ("unknown", "mandated") for c in people))
        forbid(R.PRIVATE_PARTY, any(kinds[c] == "private" for c in people))
        spied = not self.listen_only and any(spied in group for _, spied in self.spying)
        forbid(R.SPIED_ON, spied or any(kinds[c] == "monitor" for c in people))
        forbid(R.ON_HOLD, any(c in self.held for c in people))
        forbid(R.HOLD_UNKNOWN, any(c in self.hold_doubt for c in people))
        forbid(R.PAUSED, any(self.said.get(c, Said()).paused for c in people))
        forbid(R.SECOND_CALL, any(self._second(c) for c in people if kinds[c] in ("own", "private")))
        forbid(R.AUDIT_UNHEALTHY, not self.audit)
        forbid(R.SPOOL_FULL, not self.room)
        forbid(R.START_FAILED, any(self.failed.get(c, 0.0) > self.now for c in group))
        forbid(R.NOT_CONNECTED, not self.connected)
        forbid(R.BEAT_LATE, self.lag > (2 if running else 0.25))
        forbid(R.PICTURE_WRONG, self.doubted(group))
        forbid(R.CHANGE_HALF_DONE, any(deadline <= self.now for deadline in changing))
        asked = {p for c in people for p in self._asked(c)}
        asked |= {p for c in outside for h in self.said.get(c, Said()).heard for p in h.disclosure.purposes}
        forbid(R.NO_PURPOSE, not asked)
        each = {p: self._against(p, people, outside) for p in sorted(asked)}
        good = tuple(p for p, reasons in each.items() if not reasons)
        if not good:
            against |= {reason for reasons in each.values() for reason in reasons}
            if R.NOT_TOLD in against:
                against |= {r for c in outside for r in self.said.get(c, Said()).not_heard}
        return Verdict(
            group,
            frozenset(against),
            good,
            frozenset(c for c in own if self.lines[c].up),
            frozenset(outside),
            any(deadline > self.now for deadline in changing),
            (2 if len(people) > 1 else int(unseen)) if bridged and not leaving else 0,
        )

    def doubted(self, group: frozenset[str]) -> bool:
        """Somebody may be with them whom nobody told of."""
        return any(self.place.get(c) in self.doubts for c in group)

    def _unseen(self, c: str) -> bool:
        """An unknown member of a bridge, or half a Local channel that leads out of sight."""
        if not self._meets(c):
            return False
        if c not in self.lines:
            return True
        if kind_of(self.lines[c].name) != "local":
            return False
        other = self._other_half(c)
        return other is None or not self._meets(other)

    def _second(self, c: str) -> bool:
        device = self.lines[c].name.rpartition("-")[0]
        for other, line in self.lines.items():
            if other != c and line.name.rpartition("-")[0] == device and (line.up or line.ring):
                held_here = other in self.held and self.held[other] == self.place.get(other)
                if not held_here:
                    return True
        return False

    def _forbidden(self, c: str) -> bool:
        line = self.lines[c]
        shown = {plain(n) for n in (line.number, line.dialled_number, line.exten, line.dialled_at)}
        return bool(shown & {"113", "+31209990000"})

    def _arrived(self, c: str) -> str:
        """The number that its call came in on; of one that was dialled, that of the call which dialled it."""
        line = self.lines[c]
        return line.exten if line.origin is None else line.origin

    def root(self, c: str) -> str | None:
        """Who dialled it, through Local halves."""
        for _ in range(50):
            dialler = self.lines[c].dialler
            if not dialler or dialler not in self.lines:
                return None
            if kind_of(self.lines[dialler].name) != "local":
                return dialler
            c = self._other_half(dialler) or dialler
        return None

    def _asked(self, c: str) -> tuple[str, ...]:
        return (*self._asked_at_doors(c), *sorted(self.said.get(c, Said()).begun))

    def _asked_at_doors(self, c: str) -> tuple[str, ...]:
        said = self.said.get(c, Said())
        if said.asked or not self.lines[c].dialler:
            return said.asked
        root = self.root(c)
        asked = self.said.get(root, Said()).asked_callee if root else ()
        if asked and self.boot and kind_of(self.lines[c].name) == "external":
            self.said.setdefault(c, Said()).asked = asked  # whoever dialled may leave
        return asked

    def _needs(self, c: str, purpose: str) -> int:
        line = self.lines[c]
        number = plain(line.dialled_number if line.dialled and line.dialled_number else line.number)
        german = number.startswith("+49")
        if german or purpose in ("marketing_consent", "strange"):
            return 2
        return 1 if purpose == "quality_training" else 0

    def _heard(self, c: str, purpose: str) -> DisclosureHeard | None:
        found = None
        for heard in self.said.get(c, Said()).heard:
            mode = _STRICT.index(heard.disclosure.mode_name)
            if purpose in heard.disclosure.purposes and mode >= self._needs(c, purpose):
                found = heard
        return found

    def _against(self, purpose: PurposeName | str, people: list[str], outside: list[str]) -> set[Reason]:
        against: set[Reason] = set()
        objected = any(to in (purpose, ALL) for c in people for _, to in self._objections(c))
        if objected and purpose != "mifid_order":
            against.add(R.OBJECTED)
        if purpose == "strange":
            against.add(R.PURPOSE_UNKNOWN)
        if purpose == "sleeping":
            against.add(R.PURPOSE_INACTIVE)
        if purpose == "sales_only" and any(not self.lines[c].dialled for c in outside):
            against.add(R.WRONG_DIRECTION)
        for c in outside:
            heard = self._heard(c, purpose)
            if heard is None:
                against.add(R.NOT_TOLD)
                if purpose in ("draft", "strange"):
                    against.add(R.DISCLOSURE_UNAPPROVED)
            elif heard.digest != f"digest of {heard.disclosure}" or purpose in ("draft", "strange"):
                against.add(R.DISCLOSURE_UNAPPROVED)
        keys = [h.disclosure.mode_name for c in outside if (h := self._heard(c, purpose))]
        asks = "opt_in" in keys or any(self._needs(c, purpose) == 2 for c in outside)
        if asks and any(purpose not in self.said.get(c, Said()).consented for c in outside):
            against.add(R.CONSENT_MISSING)
        return against
