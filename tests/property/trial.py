"""One supervisor on trial before the oracle: every fact goes to both, and every command is judged at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pbxguard.core.commands import (
    Command,
    CommitBegin,
    CommitResume,
    HangUp,
    LookAnew,
    LookCloser,
    NoteBinding,
    NoteRequest,
    RefuseRequest,
    ReportCall,
    SealRecording,
    StartRecording,
    StopRecording,
    StopTelling,
    Tell,
)
from pbxguard.core.conversation import converse
from pbxguard.core.facts import (
    AuditHealthy,
    BeatReturned,
    ChannelHungUp,
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    MarkedPrivate,
    Objected,
    ObjectionBinds,
    Paused,
    PictureSeen,
    PolicyReloaded,
    PurposeBegun,
    Resumed,
    SegmentClosed,
    SegmentStartFailed,
    SpoolHasRoom,
)
from pbxguard.core.ids import PurposeName, RecordingId, SegmentId, Uniqueid, recording_id
from pbxguard.core.permit import CONVERSATION, Permit, Refusal, Sight, decide
from pbxguard.core.policy import GuardMode, JoinerRule
from pbxguard.core.purposes import Mode, OnObjection
from pbxguard.core.reasons import Reason, ordered
from pbxguard.core.supervisor import Supervisor

from .expected import NEVER, Answer, Expected
from .oracle import ALL, Oracle, Said, Verdict, kind_of
from .world import World, make_policy

NOTHING = Answer()
_NOTES = (
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
)

STAY_S = 0.4
"""A joiner must have stayed so long."""


class Trial:
    """Holds the clock, the wanted recorders as told by the commands, and the memory that a restart reads."""

    def __init__(self, *, observe: bool = False, listen_only: bool = False, tell: bool = False) -> None:
        """`tell`: who joins untold is told by whisper."""
        mode = GuardMode.OBSERVE if observe else GuardMode.GUARD
        self.policy = replace(make_policy(mode, listen_only_spies=listen_only), joiners=JoinerRule(tell, STAY_S))
        self.begun: set[Uniqueid] = set()
        self.world = World()
        self.oracle = Oracle(observe=observe, listen_only=listen_only)
        self.expected = Expected(self.oracle)
        self.now = 100.0
        self.history: list[Fact] = []
        self.log: list[Fact] = []
        """What the audit log would hold."""
        self.wanted: dict[SegmentId, StartRecording] = {}
        self.stopped: dict[SegmentId, StopRecording] = {}
        """Stopped, not closed."""
        self.segments: dict[SegmentId, RecordingId] = {}
        self.permitted: dict[RecordingId, set[str]] = {}
        """Of the recordings of this run: what their segments were for."""
        self.sealed: set[RecordingId] = set()
        self.ended: set[RecordingId] = set()
        self.excused: set[RecordingId] = set()
        """Calls that ended while pbxguard was away: their leftovers are not the supervisor's."""
        self.reported: dict[str, ReportCall] = {}
        self.company: dict[str, int] = {}
        """The best that each call ever had."""
        self.bypassed: set[str] = set()
        """Calls that nothing was asked for while the switch was off: that is why, until something is."""
        self.whispers: dict[Uniqueid, Tell] = {}
        """Disclosures that are whispered now; each ends with a DisclosureHeard or a DisclosureNotHeard."""
        self.broken_off: set[Uniqueid] = set()
        """Of these, those that the supervisor wants no longer."""
        self.blessed: set[SegmentId] = set()
        """Wanted and rightly so when a change began: they stand while it lasts."""
        self.looks = 0
        """How often the PBX's lists were asked for at once."""
        self.supervisor = Supervisor(self.policy, "node")
        self.wake()

    # -- feeding -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        for fact in (AuditHealthy(True), SpoolHasRoom(True), self.world.snapshot()):
            self.feed(fact)
        self.beat()

    def beat(self) -> None:
        self.feed(BeatReturned(self.now - 0.002))

    def feed(self, *facts: Fact) -> None:
        for fact in facts:
            self.history.append(fact)
            if isinstance(fact, _NOTES):
                self.log.append(fact)
            running = frozenset(str(s.leg) for s in self.wanted.values())
            closing = {str(id): str(stop.leg) for id, stop in self.stopped.items()}
            answer = self.expected.before(fact, self.now, running, closing)
            for unmet in self.expected.unmet:
                self.company.pop(unmet, None)
            self.expected.unmet.clear()
            self.log += answer.closing

            if isinstance(fact, PurposeBegun):
                self.begun.add(fact.channel)
            if isinstance(fact, SegmentClosed | SegmentStartFailed):
                self._closed(fact.segment)
            if isinstance(fact, ChannelHungUp):
                self.ended.add(recording_id("node", self.world.boot, fact.channel))
            if isinstance(fact, DisclosureHeard | DisclosureNotHeard):
                self.whispers.pop(fact.channel, None)
                self.broken_off.discard(fact.channel)
            self.oracle.learn(fact, self.now)
            self.judge(self.supervisor.handle(fact, self.now), answer)
            self.expected.after(fact)

    def tell_joiners(self, tell: bool) -> None:
        """Whether who joins untold is told by whisper, from now on."""
        self.policy = self.supervisor.policy = replace(self.policy, joiners=JoinerRule(tell, STAY_S))

    def play(self, facts: Iterable[Fact]) -> None:
        self.feed(*facts)

    def wait(self, seconds: float, *, beats: bool = True) -> None:
        """Time passes; with beats it is seen to pass."""
        steps = max(1, min(20, round(seconds / 0.2))) if beats else 1
        for _ in range(steps):
            self.now += seconds / steps
            self.oracle.now = self.now
            if beats:
                self.beat()
            self.judge(self.supervisor.tick(self.now))

    def fail_start(self, segment: SegmentId) -> None:
        self.oracle.failed[str(self.wanted[segment].leg)] = self.now + 2
        self.feed(SegmentStartFailed(segment, "refused"))

    def close(self, segment: SegmentId, *, ran: bool = True) -> None:
        """Its recorder is gone: after our stop, or by itself. `ran`: our stop found it running."""
        if segment in self.wanted:
            leg = str(self.wanted[segment].leg)
            if leg in self.oracle.lines:
                self.oracle.failed[leg] = self.now + 2
        self.feed(SegmentClosed(segment, ran))

    def whispered(self, channel: Uniqueid, *, heard: bool = True, agrees: bool = False) -> None:
        """What is whispered to it is over."""
        key = self.whispers[channel].disclosure
        if heard:
            self.feed(DisclosureHeard(channel, key, f"digest of {key}", "2026-01-01T00:00:00Z"))
            if agrees:
                self.feed(Consented(channel, key.purposes))
        else:
            self.feed(DisclosureNotHeard(channel, key, Reason.PROMPT_UNSENT.value))

    def close_all(self) -> None:
        for segment in list(self.stopped):
            self.close(segment)

    def look(self, *restless: Uniqueid) -> None:
        """The PBX's lists are held against the picture."""
        at = self.oracle.beat if self.oracle.beat > NEVER else 0.0
        self.feed(PictureSeen(self.world.snapshot(), frozenset(restless), at))

    def reload(self, *, observe: bool = False, listen_only: bool = False) -> None:
        """The organisation decides otherwise."""
        mode = GuardMode.OBSERVE if observe else GuardMode.GUARD
        self.policy = self.supervisor.policy = make_policy(mode, listen_only_spies=listen_only)
        self.oracle.observe, self.oracle.listen_only = observe, listen_only
        self.feed(PolicyReloaded())

    def restart(self, away: Iterable[Fact] = (), *, seconds: float = 1.0) -> None:
        """pbxguard dies; `away` happens unseen; it comes back, reads its log, and takes a snapshot."""
        self.now += seconds
        live = {str(c) for c in self.world.lines}
        for recording in self.segments.values():
            lines = self.world.lines.items()
            calls = {recording_id("node", self.world.boot, c) for c, line in lines if kind_of(line.name) == "external"}
            if recording not in calls:
                self.excused.add(recording)
        self.wanted, self.stopped, self.reported, self.company, self.bypassed = {}, {}, {}, {}, set()
        self.whispers, self.broken_off = {}, set()
        self.blessed, self.permitted = set(), {}
        numbering: dict[RecordingId, int] = {}
        for segment, recording in self.segments.items():
            numbering[recording] = max(numbering.get(recording, 0), int(segment[-3:]))
        self.supervisor = Supervisor(self.policy, "node", numbering)
        said = self.oracle.said
        self.oracle.restarted()
        self.expected = Expected(self.oracle)
        self.oracle.now = self.now
        replay = [
            f
            for f in self.log
            if isinstance(f, _NOTES)
            and str(f.channel) in live
            and not (isinstance(f, DisclosureHeard) and f in said[str(f.channel)].doubted)
            if str(f.channel) in said
        ]
        self.log = []
        self.feed(*replay)
        for channel in live:
            if channel in said and said[channel].private:  # spread from another leg: logged by whoever acts on it
                fact = MarkedPrivate(next(c for c in self.world.lines if c == channel))
                self.feed(fact)
        self.wake()

    # -- judging -----------------------------------------------------------------------------------------------------

    def judge(self, commands: Iterable[Command], answer: Answer = NOTHING) -> None:
        commands = list(commands)
        self.looks += sum(isinstance(command, LookCloser) for command in commands)
        started: list[StartRecording] = []
        any_start = False
        self._judge_answer(commands, answer)
        for command in commands:
            match command:
                case StartRecording():
                    any_start = True
                    assert command.segment not in self.segments, "a segment's id comes once"
                    if command.recording not in self.segments.values():
                        self.permitted[command.recording] = set()
                    if command.recording in self.permitted:
                        self.permitted[command.recording] |= {str(p) for p in command.permit.purposes}
                    self.segments[command.segment] = command.recording
                    self.wanted[command.segment] = command
                    started.append(command)
                    assert command.recording not in self.sealed, "nothing starts in what is sealed"
                case StopRecording():
                    assert not any_start, "what closes comes before what opens"
                    start = self.wanted.pop(command.segment, None)
                    assert start is not None, "only what runs is stopped, and once"
                    assert start.leg == command.leg
                    assert command.proven <= self.oracle.beat, "nothing is proven beyond the last beat"
                    assert command.reasons
                    parties = {start.permit.call, *(t.channel for t in start.permit.told)}
                    unheard = any(c in self.oracle.said and self.oracle.said[c].unheard for c in parties)
                    assert command.destroy or not unheard, "what was private is destroyed unheard"
                    self.expected.own_stops[str(command.leg)] += 1
                    self.stopped[command.segment] = command
                case Tell():
                    self._judge_whisper(command)
                case StopTelling(channel=channel):
                    assert channel in self.whispers, "only what is whispered is broken off"
                    assert channel not in self.broken_off, "and once"
                    self.broken_off.add(channel)
                case SealRecording():
                    self._seal(command)
                case NoteBinding(facts=facts):
                    assert facts
                    self.log += facts
                case NoteRequest(facts=facts):
                    self.log += [fact for fact in facts if isinstance(fact, ObjectionBinds)]
                case ReportCall():
                    self._judge_end(command)
                    self.reported[command.outcome.call] = command
                case _:
                    pass
        self._judge_recorders(started)
        self._judge_bindings()

    def _judge_bindings(self) -> None:
        """Every objection that binds a call that lives is written down, and none that does not."""
        written: set[tuple[str, str, str]] = set()
        for fact in self.log:
            if isinstance(fact, ObjectionBinds):
                written |= {(str(fact.channel), str(fact.by), str(p)) for p in fact.purposes or (ALL,)}
        bound = {(c, by, to) for c, said in self.oracle.said.items() for by, to in said.bound}
        for c, by, to in bound:
            assert {(c, by, to), (c, by, ALL)} & written, "bound, and a restart would not know it"
        for c, by, to in written:
            assert c not in self.oracle.said or (c, by, to) in bound, "bound by nobody"

    def _judge_answer(self, commands: list[Command], answer: Answer) -> None:
        stops = [c for c in commands if isinstance(c, StopRecording)]
        assert {str(c.channel) for c in commands if isinstance(c, HangUp)} == answer.hang_up
        assert [c.channels for c in commands if isinstance(c, LookAnew)] == ([answer.look_at] if answer.look_at else [])
        assert tuple(c.channels for c in commands if isinstance(c, LookCloser)) == answer.look_closer
        for stop in stops:
            wrong = stop.reasons == (Reason.PICTURE_WRONG,)
            if str(stop.leg) in answer.near:
                assert wrong
                assert stop.proven == answer.right, "proven while the picture was known to be right"
            else:  # whoever comes into a bridge in doubt
                assert not wrong or self.oracle.doubted(self.oracle.group(stop.leg)), "near nobody who is elsewhere"
        noted = [note for c in commands if isinstance(c, NoteRequest) for note in c.facts]
        noted = [note for note in noted if not isinstance(note, ObjectionBinds)]
        assert sorted(noted, key=repr) == sorted(answer.closing, key=repr)
        resumed = [{str(f.channel) for f in c.facts} for c in commands if isinstance(c, CommitResume)]
        assert resumed == ([answer.resume] if answer.resume else [])
        begun = [{str(f.channel) for f in c.facts} for c in commands if isinstance(c, CommitBegin)]
        assert begun == ([answer.begun] if answer.begun else [])
        assert any(isinstance(c, RefuseRequest) for c in commands) is answer.refused
        by_others = [str(s.leg) for s in stops if s.reasons == (Reason.RECORDER_STOPPED,)]
        assert by_others == ([answer.stopped_by_other] if answer.stopped_by_other else [])

    def _judge_whisper(self, command: Tell) -> None:
        """It is told where nothing else is missing, for what it has not been told, and one sentence at a time."""
        channel = command.channel
        assert channel not in self.whispers, "one whisper at a time"
        said = self.oracle.said.get(str(channel), Said())
        needed = {str(p) for p in command.disclosure.purposes}
        strict = list(Mode).index(command.disclosure.mode)
        heard = [h.disclosure for h in said.heard if list(Mode).index(h.disclosure.mode) >= strict]
        assert not any(needed <= {str(p) for p in key.purposes} for key in heard), "told already"
        for verdict in self.oracle.verdicts(frozenset(str(s.leg) for s in self.wanted.values())):
            if str(channel) not in verdict.channels:
                continue
            assert str(channel) in verdict.calls, "only somebody from outside is told"
            assert verdict.own_legs, "and only in a conversation of ours"
            against = verdict.reasons & CONVERSATION.keys() - {Reason.BEAT_LATE, Reason.START_FAILED}
            assert not against, f"told although {against}"
            assert self.policy.joiners.tell or channel in self.begun, "nobody asked for it"
        self.whispers[channel] = command

    def _judge_recorders(self, started: list[StartRecording]) -> None:
        legs = frozenset(str(s.leg) for s in self.wanted.values())
        assert len(legs) == len(self.wanted), "one recorder a leg"
        by_leg = {str(s.leg): s for s in self.wanted.values()}
        placed: set[str] = set()
        for verdict in self.oracle.verdicts(legs):
            here = sorted(legs & verdict.channels)
            placed |= set(here)
            assert len(here) <= 1 or verdict.frozen, "one recorder a conversation"
            for leg in here:
                start = by_leg[leg]
                if verdict.frozen:
                    assert start not in started, "nothing starts while a change is half done"
                    continue
                self._judge_one(start, start in started, verdict)
            if not verdict.frozen:
                self._judge_absence(verdict, bool(here))
        for leg in legs - placed:
            assert any(leg in channels for channels, _ in self.oracle.changes.values()), "its leg is gone"

    def _judge_one(self, start: StartRecording, new: bool, verdict: Verdict) -> None:
        names = [r.value for r in ordered(verdict.reasons)]
        assert not verdict.reasons, f"recorded although {names}"
        assert str(start.leg) in verdict.own_legs, "the recorder hangs on an answered own leg"
        assert str(start.permit.call) in verdict.calls
        assert tuple(start.permit.purposes) == verdict.purposes, "for every purpose that holds, and no other"
        assert {str(t.channel) for t in start.permit.told} >= verdict.calls, "the permit names everybody outside"
        if new:
            assert self.oracle.lag <= 0.25, "nothing starts on a late beat"

    def _judge_absence(self, verdict: Verdict, recorded: bool) -> None:
        if not verdict.reasons and not recorded:
            raise AssertionError(f"not recorded, and nothing is against it: {sorted(verdict.channels)}")
        known = sorted(verdict.channels & self.oracle.lines.keys())
        if known and not verdict.calls and verdict.company and verdict.reasons:
            decision = self.decision(Uniqueid(known[0]))
            assert isinstance(decision, Refusal)
            assert set(decision.reasons) == verdict.reasons, "refused for the oracle's reasons"
        between = 0.25 < self.oracle.lag <= 2
        for call in verdict.calls:
            best = self.company[call] = max(self.company.get(call, 0), verdict.company)
            report = self.reported.get(call)
            assert report is not None or not self.oracle.boot, "every call is reported"
            if report is None or verdict.company < best:
                continue
            assert report.outcome.recorded is recorded
            told = set(report.outcome.reasons)
            want = set() if recorded else set(verdict.reasons)
            if Reason.NO_PURPOSE not in want:
                self.bypassed.discard(call)
            elif Reason.SWITCHED_OFF in want:
                self.bypassed.add(call)
            if call in self.bypassed:
                want.add(Reason.SWITCHED_OFF)
            if between:
                told, want = told - {Reason.BEAT_LATE}, want - {Reason.BEAT_LATE}
            assert told == want, f"reasons told: {told}, the oracle's: {want}"
            assert report.outcome.reasons == ordered(set(report.outcome.reasons))

    def _judge_end(self, command: ReportCall) -> None:
        """What was last told of a call that was never recorded stays; a beat late at the end may go."""
        before, now = self.reported.get(command.outcome.call), set(command.outcome.reasons)
        if before is not None and command.ended and not command.outcome.ever_recorded:
            told = set(before.outcome.reasons)
            assert now
            assert now <= told
            assert told - now <= {Reason.BEAT_LATE}, "no reason is lost at the end"

    def decision(self, channel: Uniqueid) -> Permit | Refusal:
        """What `decide` says of the channel's conversation, with the oracle's own sight."""
        supervisor, oracle = self.supervisor, self.oracle
        component = supervisor.board.component(channel)
        half_done = any(d <= self.now and c & component.channels for c, d in oracle.changes.values())
        doubted = oracle.doubted(frozenset(map(str, component.channels)))
        conversation = converse(
            component, supervisor.board, supervisor.memory, self.policy, half_done=half_done, doubted=doubted
        )
        failed = any(until > self.now and leg in component.channels for leg, until in oracle.failed.items())
        running = any(s.leg in component.channels for s in self.wanted.values())
        sight = Sight(oracle.connected, oracle.lag, oracle.audit, oracle.room, oracle.off, failed, running)
        return decide(conversation, sight, self.policy)

    def _closed(self, segment: SegmentId) -> None:
        self.stopped.pop(segment, None)
        self.wanted.pop(segment, None)

    def _seal(self, command: SealRecording) -> None:
        recording = command.recording
        assert recording in self.segments.values(), "only what had segments is sealed"
        assert recording not in self.sealed, "sealed once"
        open_ones = [s for s in (*self.wanted, *self.stopped) if self.segments[s] == recording]
        assert not open_ones, "sealed when all its segments are closed"
        self.sealed.add(recording)
        assert command.outcome.call not in self.oracle.lines, "sealed when its call has ended"
        if recording in self.permitted:
            standing = {to for _, to in self.oracle.ended.get(str(command.outcome.call), ())}
            objected = {p for p in self.permitted[recording] if standing & {p, ALL}}
            assert {str(p) for p in command.objected} == objected, "the objections are of the whole call"
            effects = {self.policy.purposes[PurposeName(p)].on_objection for p in objected}
            destroy = objected == self.permitted[recording] and effects == {OnObjection.DESTROY}
            assert (command.destroy, command.lock) == (destroy, OnObjection.LOCK in effects)

    # -- at the end --------------------------------------------------------------------------------------------------

    def settle_down(self) -> None:
        """The facts stop, the picture is true again, a fresh beat has returned: now all must agree."""
        self.now += 0.01
        self.feed(self.world.snapshot())
        self.close_all()
        self.wait(2.5)

    def finish(self) -> None:
        """Everybody hangs up: all that had segments is sealed."""
        self.settle_down()
        for channel in list(self.world.lines):
            self.play(self.world.hang_up(channel))
        self.wait(0.2)
        for bridge in list(self.world.bridges):
            self.play(self.world.destroy(bridge))
        self.close_all()
        assert not self.wanted
        assert not self.stopped
        assert set(self.segments.values()) - self.sealed <= self.excused
