"""What must come of a fact besides starts and stops: hang-ups, looking anew, whose stop of a recorder it was.

Works on the oracle's tables, as plainly as the oracle does; told of each fact before and after the oracle learns it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from pbxguard.core.facts import (
    BeatReturned,
    BridgeEntered,
    BridgeLeft,
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelCreated,
    ChannelHungUp,
    ChannelState,
    ConnectionLost,
    DisclosureBegun,
    DisclosureHeard,
    DisclosureNotHeard,
    Fact,
    HangupRequested,
    InCall,
    MarkedPrivate,
    Objected,
    Paused,
    PictureSeen,
    RecorderStopSeen,
    Requested,
    SegmentClosed,
    SnapshotTaken,
    TransferredIntoApp,
)
from pbxguard.core.ids import Uniqueid

from .oracle import Oracle, kind_of

Note = Objected | Paused | MarkedPrivate
NEVER = float("-inf")
RETRY = 2.0
"""Seconds for which nothing starts on a leg that others keep stopping."""


@dataclass(frozen=True)
class Answer:
    """Who is to be hung up, who is to be looked at anew, which of our recorders another has stopped."""

    hang_up: frozenset[str] = frozenset()
    look_at: tuple[str, ...] = ()
    look_closer: tuple[tuple[str, ...], ...] = ()
    """Whom the PBX's lists are asked about at once, each time that they are."""
    near: frozenset[str] = frozenset()
    """Whose recorders are proven only up to `right`: those who are not where they were thought to be, and theirs."""
    right: float = NEVER
    stopped_by_other: str = ""
    closing: tuple[Note, ...] = ()
    """What was asked for in the call and holds at once."""
    resume: frozenset[str] = frozenset()
    """Whose pause is to end once that is written down."""
    begun: frozenset[str] = frozenset()
    """Who is to be told of a purpose once that is written down."""
    refused: bool = False


class Expected:
    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.telling: set[str] = set()
        self.failed: dict[str, float] = {}
        self.hearing: set[str] = set()
        self.loose: dict[str, float] = {}
        """Who is in no bridge, and the last beat since the last snapshot, and before he was in none."""
        self.last = NEVER
        self.suspects: set[str] = set()
        self.right: float | None = None
        self.own_stops: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.unmet: set[str] = set()
        """Whoever's bridge turned out to be no conversation: its prompt failed since it was hanging up."""

    def before(self, fact: Fact, now: float, running: frozenset[str], closing: dict[str, str]) -> Answer:
        """`running`: legs on which a recorder is wanted; `closing`: the legs of the segments that we stopped."""
        answer = self._moved_unseen(fact, now)
        match fact:
            case HangupRequested(channel=c) | ChannelHungUp(channel=c):
                goes = self._goes(c, now, hearing=isinstance(fact, ChannelHungUp))
                answer = replace(answer, hang_up=goes.hang_up)
            case CalleePromptBegun(channel=c):
                self.telling.add(c)
            case CalleePromptEnded(channel=c, state=state):
                if c in self.telling and state not in ("SUCCESS", "OK", "TIMEOUT"):
                    self.failed[c] = now
                self.telling.discard(c)
            case DisclosureBegun(channel=c):
                self.hearing.add(c)
            case DisclosureHeard(channel=c) | DisclosureNotHeard(channel=c) | Objected(channel=c):
                self.hearing.discard(c)
            case ConnectionLost():
                self._blind()
            case BeatReturned(sent=sent):
                self.failed = {c: at for c, at in self.failed.items() if at >= sent}
                if self.right is None and self.oracle.connected:
                    self.right = max(self.oracle.beat, sent)
            case PictureSeen():
                answer = self._compare(fact, now)
            case SnapshotTaken():
                self.suspects, self.right = set(), None
                there = {str(c.channel) for c in fact.channels}
                fresh = bool(self.oracle.boot) and fact.boot != self.oracle.boot
                for gone in set(self.oracle.lines) if fresh else set(self.oracle.lines) - there:
                    self._forget(gone)
            case RecorderStopSeen(channel=c):
                answer = self._recorder_stopped(c, now, running)
            case Requested(channel=c, what=what, purposes=purposes):
                answer = self._asked(c, what, bool(purposes))
                for note in answer.closing:
                    self.oracle.learn(note, now)
            case SegmentClosed(segment=segment, ran=ran):
                if not ran and segment in closing:
                    self.own_stops[closing[segment]] -= 1
        return answer

    def after(self, fact: Fact) -> None:
        """The commands that came of it are known."""
        oracle = self.oracle
        if isinstance(fact, SnapshotTaken):
            self.loose, self.last = dict.fromkeys(oracle.lines, NEVER), NEVER
        if isinstance(fact, BeatReturned):
            self.last = oracle.beat
        still = {c: beat for c, beat in self.loose.items() if c in oracle.lines and c not in oracle.place}
        self.loose = {c: still.get(c, self.last) for c in oracle.lines if c not in oracle.place}
        if isinstance(fact, ChannelHungUp):
            self._forget(fact.channel)

    def _moved_unseen(self, fact: Fact, now: float) -> Answer:
        """A channel hangs up where it sat, leaves where it was not, comes while it is elsewhere: others moved too."""
        oracle = self.oracle
        if oracle.connected and isinstance(fact, TransferredIntoApp):
            return self._doubt({oracle.place.get(fact.one), oracle.place.get(fact.two)}, now)
        if not oracle.connected or not isinstance(fact, ChannelHungUp | BridgeLeft | BridgeEntered):
            return Answer()
        there = oracle.place.get(fact.channel)
        claimed = there if isinstance(fact, ChannelHungUp) else fact.bridge
        places = {there} if isinstance(fact, ChannelHungUp) or claimed != there else set()
        if isinstance(fact, BridgeLeft) and claimed != there:
            places.add(claimed)
        return self._doubt(places, now)

    def _doubt(self, places: Collection[str | None], now: float) -> Answer:
        oracle = self.oracle
        doubted = {place for place in places if place in oracle.holding}
        if not doubted:
            return Answer()
        near = {c for c, place in oracle.place.items() if place in doubted}
        named = tuple(sorted(near))
        oracle.doubts.update(dict.fromkeys(map(str, doubted), now))
        right = max(NEVER if self.right is None else self.right, min(self.loose.values(), default=NEVER))
        return Answer(look_closer=(named,), near=self._company(near), right=right)

    def _company(self, near: set[str]) -> frozenset[str]:
        return frozenset(near | {c for group in self.oracle.groups() if group & near for c in group})

    def _goes(self, leaver: str, now: float, *, hearing: bool) -> Answer:
        """It hangs up: whoever it had dialled is told no more of a call that is over."""
        told = {c for c in self.telling if self._dialled_by(c, leaver)}
        cut = told | ({leaver} & (self.telling | self.failed.keys() | (self.hearing if hearing else set())))
        self.telling -= cut
        self.hearing -= cut
        for gone in sorted(cut):
            if self.failed.pop(gone, None) is not None:
                self.unmet.add(gone)
            self.oracle.learn(DisclosureNotHeard(Uniqueid(gone), None, "prompt_channel_gone"), now)
        return Answer(hang_up=frozenset(told))

    def _dialled_by(self, callee: str, caller: str) -> bool:
        line = self.oracle.lines.get(callee)
        return line is not None and caller in (line.dialler, self.oracle.root(callee))

    def _compare(self, fact: PictureSeen, now: float) -> Answer:
        oracle = self.oracle
        if not oracle.connected:
            return Answer()
        there: dict[str, ChannelCreated] = {str(c.channel): c for c in fact.picture.channels}
        where = {str(m): made.bridge for made, members in fact.picture.bridges for m in members}
        wrong: set[str] = set()
        for c in there.keys() | oracle.lines.keys():
            line, seen = oracle.lines.get(c), there.get(c)
            if line is None or seen is None:
                wrong.add(c)
                continue
            moved = oracle.place.get(c) != where.get(c) or line.name != seen.name
            if moved or (seen.state is ChannelState.UP and not line.up):
                wrong.add(c)
        restless = {str(c) for c in fact.restless}
        wrong -= restless
        sure, self.suspects = wrong & self.suspects, wrong
        if not wrong:
            self.right = fact.at
        company = {str(made.bridge): {str(m) for m in members} for made, members in fact.picture.bridges}
        undecided = False
        for place, since in list(oracle.doubts.items()):
            here = {c for c, at in oracle.place.items() if at == place} | company.get(place, set())
            if since >= fact.at or here & restless:
                undecided = True
            elif here & wrong:
                sure |= here & wrong
            else:
                del oracle.doubts[place]
        if not sure:
            return Answer(look_closer=((),) if undecided else ())
        near = sure | {c for group in company.values() if group & sure for c in group}
        right = NEVER if self.right is None else self.right
        answer = Answer(look_at=tuple(sorted(sure)), near=self._company(near), right=right)
        self._blind()
        oracle.learn(ConnectionLost(), now)
        return answer

    def _recorder_stopped(self, leg: str, now: float, running: frozenset[str]) -> Answer:
        if self.own_stops[leg] > 0:
            self.own_stops[leg] -= 1
            return Answer()
        if leg not in running:
            return Answer()
        self.others[leg] += 1
        if self.others[leg] > 1:
            self.oracle.failed[leg] = now + RETRY
        return Answer(stopped_by_other=leg)

    def _asked(self, asker: str, what: InCall, purposes: bool) -> Answer:
        """An outside party may object for itself; our own people may ask for all, for whoever is outside with them."""
        oracle = self.oracle
        kind = kind_of(oracle.lines[asker].name) if asker in oracle.lines else ""
        here = oracle.people(oracle.group(asker))
        outside = sorted(c for c in here if kind_of(oracle.lines[c].name) == "external")
        if what is InCall.OBJECT and kind in ("external", "mandated"):
            return Answer(closing=(Objected(Uniqueid(asker)),))
        if kind not in ("own", "private"):
            return Answer(refused=True)
        of = [Uniqueid(c) for c in outside or ([] if what is InCall.OBJECT else [asker])]
        match what:
            case InCall.OBJECT:
                return Answer(closing=tuple(Objected(c) for c in of), refused=not of)
            case InCall.PAUSE:
                return Answer(closing=tuple(Paused(c) for c in of))
            case InCall.PRIVATE:
                return Answer(closing=tuple(MarkedPrivate(c, late=True) for c in of))
            case InCall.RESUME:
                paused = {c for c in {asker, *here} if c in oracle.said and oracle.said[c].paused}
                return Answer(resume=frozenset(paused), refused=not paused)
            case InCall.BEGIN:
                begins = kind == "own" and purposes and outside
                return Answer(begun=frozenset(outside if begins else ()), refused=not begins)

    def _blind(self) -> None:
        self.telling.clear()
        self.failed.clear()

    def _forget(self, c: str) -> None:
        self.telling.discard(c)
        self.hearing.discard(c)
        self.failed.pop(c, None)
        self.own_stops.pop(c, None)
        self.others.pop(c, None)
