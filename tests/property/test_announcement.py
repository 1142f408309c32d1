"""Whatever happens, in whatever order: never heard without every proof, and always over in time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pbxguard.core.announcement import (
    Announcement,
    Answer,
    Answered,
    CommandFailed,
    Conclude,
    Continue,
    DeadlinePassed,
    DigitReceived,
    Entered,
    Event,
    Gone,
    Held,
    Outcome,
    Output,
    Play,
    PlaybackFinished,
    PlaybackStarted,
    PlaybackStopped,
    ReadStats,
    Result,
    ResultSet,
    SetResult,
    StatsRead,
    StopPlayback,
    Timing,
    Unheld,
    Wait,
)
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode

TIMING = Timing()
LENGTHS = (1.5, 1.0)
WALL = 1_000_000.0
FLAWS = ["", "", "", "", "", "", "", "", "", "", "", "cut", "unsent", "deaf", "held", "nine", "one", "failed"]
ODD = [
    "start",
    "start late",
    "finish",
    "fail",
    "deadline",
    "0",
    "1",
    "9",
    "#",
    "answered",
    "stopped",
    "hold",
    "unhold",
    "result",
    "refused",
    "gone",
    "counters",
]


class AnyChannel(RuleBasedStateMachine):
    """A channel that does anything; the model keeps its own, simpler account of what was proven."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tx = 0
        self.rx = 0
        self.out: list[Output] = []
        self.pending: Output | None = None
        """The last command, until Asterisk answered it."""
        self.deadline = 0.0
        self.outcome: Outcome | None = None
        self.played: list[str] = []
        self.started: dict[str, float] = {}
        self.whole: set[str] = set()
        self.baseline: tuple[int, int] | None = None
        self.held = False
        self.held_during = False
        self.set: list[SetResult] = []
        self.result_set = False
        self.agreed = False
        self.objected = False
        self.sounds = 1
        self.mode = Mode.NOTICE
        self.announcement: Announcement | None = None

    @initialize(mode=st.sampled_from(list(Mode)), up=st.booleans())
    def enter(self, mode: Mode, up: bool) -> None:
        key = DisclosureKey.of((PurposeName("p"),), "nl", mode, Direction.INBOUND)
        with_key = mode is not Mode.NOTICE
        self.disclosure = Disclosure(key, "t", "d", "/n", 1500, "/k" if with_key else "", 1000 if with_key else 0)
        self.mode = mode
        self.sounds = 2 if with_key else 1
        self.announcement = Announcement("v", self.disclosure, TIMING)
        self.give(Entered(up))

    def give(self, event: Event) -> None:
        if self.announcement is None:
            return
        over = self.outcome is not None
        self.out = self.announcement.handle(event, self.now)
        assert not (over and self.out), "it spoke after its end"
        for output in self.out:
            if isinstance(output, (Answer, ReadStats, Play, StopPlayback, SetResult)):
                self.pending = output
            match output:
                case Wait(until):
                    self.deadline = until
                case Play(id):
                    if not self.played:
                        self.baseline = (self.tx, self.rx)
                    assert not self.held, "played to one on hold"
                    self.played.append(id)
                case SetResult():
                    self.set.append(output)
                case Conclude(outcome):
                    self.outcome = outcome
                case _:
                    pass
        if self.outcome is None:
            assert isinstance(self.out[-1], Wait), "no deadline"

    @precondition(lambda self: self.announcement is not None)
    @rule(
        seconds=st.sampled_from([0.01, 0.05, 0.2, 2.0]),
        sent=st.sampled_from([0.0, 0.5, 1.0, 1.0]),
        received=st.integers(0, 3),
    )
    def time_passes(self, seconds: float, sent: float, received: int) -> None:
        """Not beyond the deadline: the shell fires it."""
        step = min(seconds, max(0.0, self.deadline - self.now))
        self.now += step
        self.tx += int(step * 8000 * sent) + (1 if sent == 1.0 else 0)
        self.rx += received
        if self.outcome is None and self.now >= self.deadline:
            self.give(DeadlinePassed())

    def the_deadline_passes(self) -> None:
        if self.outcome is None:
            self.now = max(self.now, self.deadline)
            self.give(DeadlinePassed())

    def counters(self) -> None:
        self.give(StatsRead(self.tx, self.rx, "(alaw)"))

    def playback_starts(self, number: int, late: bool) -> None:
        id = f"v-{number}"
        at = WALL + self.now + (0.5 if late else 0.0)
        if self.played and id == self.played[-1] and id not in self.started:
            self.started[id] = at
        self.give(PlaybackStarted(id, at))

    def playback_finishes(self, number: int, state: str) -> None:
        id = f"v-{number}"
        at = WALL + self.now
        length = LENGTHS[(number - 1) % 2]
        is_playing = bool(self.played) and id == self.played[-1] and id in self.started
        if is_playing and state == "done" and at - self.started[id] >= length - 0.06:
            self.whole.add(id)
        self.give(PlaybackFinished(id, state, at))

    def asterisk_behaves(self, flaw: str) -> None:
        """The likely answer to what was last asked, perhaps with one thing wrong, so that every end is reached."""
        asked, self.pending = self.pending, None
        match asked:
            case ReadStats():
                self.counters()
            case Play(id):
                number = int(id[-1])
                self.playback_starts(number, False)
                length = LENGTHS[number - 1] * (0.7 if flaw == "cut" else 1.0)
                if flaw == "held":
                    self.hold()
                    self.unhold()
                if flaw in ("nine", "one"):
                    self.digit("9" if flaw == "nine" else "1")
                self.now += length
                self.tx += 0 if flaw == "unsent" else int(LENGTHS[number - 1] * 8000)
                self.rx += 0 if flaw == "deaf" else 1
                self.playback_finishes(number, "failed" if flaw == "failed" else "done")
            case SetResult():
                self.result()
            case None:
                if flaw in ("nine", "one"):
                    self.digit("9" if flaw == "nine" else "1")
                else:
                    self.rx += 1 if not self.played else 0
                    self.the_deadline_passes()
            case _:
                self.give(Answered())
                self.give(PlaybackStopped())

    @rule(flaws=st.lists(st.sampled_from(FLAWS), min_size=1, max_size=14))
    def asterisk_behaves_for_a_while(self, flaws: list[str]) -> None:
        for flaw in flaws:
            if self.outcome is None:
                self.asterisk_behaves(flaw)

    @rule(what=st.sampled_from(ODD), number=st.integers(1, 3))
    def something_odd(self, what: str, number: int) -> None:
        match what:
            case "start":
                self.playback_starts(number, False)
            case "start late":
                self.playback_starts(number, True)
            case "finish":
                self.playback_finishes(number, "done")
            case "fail":
                self.playback_finishes(number, "failed")
            case "deadline":
                self.the_deadline_passes()
            case "0" | "1" | "9" | "#":
                self.digit(what)
            case "answered":
                self.give(Answered())
            case "stopped":
                self.give(PlaybackStopped())
            case "hold":
                self.hold()
            case "unhold":
                self.unhold()
            case "result":
                self.result()
            case "refused":
                self.give(CommandFailed(gone=int(self.now * 1000) % 2 == 0))
            case "gone" if self.now > 5:
                self.give(Gone())
            case _:
                self.counters()

    def hold(self) -> None:
        self.held = True
        if self.played and self.outcome is None and not self.set:
            self.held_during = self.held_during or len(self.whole) < self.sounds
        self.give(Held())

    def unhold(self) -> None:
        self.held = False
        self.give(Unheld())

    def digit(self, digit: str) -> None:
        if self.announcement is not None and self.outcome is None:
            self.agreed = self.agreed or (digit == "1" and bool(self.played))
            self.objected = self.objected or digit == "9"
        self.give(DigitReceived(digit))

    def result(self) -> None:
        if self.set:
            self.result_set = True
        self.give(ResultSet())

    @invariant()
    def heard_only_with_every_proof(self) -> None:
        if self.outcome is None or not self.outcome.heard:
            return
        assert self.played == [f"v-{n + 1}" for n in range(self.sounds)]
        assert self.whole >= set(self.played)
        assert not self.held_during
        assert self.result_set
        assert self.baseline is not None
        length = sum(LENGTHS[: self.sounds])
        assert self.tx - self.baseline[0] >= 0.95 * 8000 * length
        assert self.rx > self.baseline[1]

    @invariant()
    def consent_only_where_asked_and_given(self) -> None:
        if self.outcome is not None and self.outcome.consented:
            assert self.mode is Mode.OPT_IN
            assert self.agreed
            assert self.outcome.heard
            assert not self.objected
            assert self.outcome.result is Result.CONSENTED

    @invariant()
    def an_objection_is_never_lost(self) -> None:
        if self.outcome is not None and self.objected:
            assert self.outcome.objected
            assert self.outcome.result is Result.OBJECTED
            assert not self.outcome.consented

    @invariant()
    def it_ends_in_time(self) -> None:
        if self.announcement is not None and self.outcome is None:
            assert self.now <= TIMING.longest(self.disclosure) + 0.001
            assert self.deadline <= TIMING.longest(self.disclosure) + 0.001

    @invariant()
    def the_call_goes_on_whenever_it_is_ours(self) -> None:
        if self.outcome is not None and self.out and not isinstance(self.out[-1], Continue):
            assert self.out == [Conclude(self.outcome)]


TestAnyChannel = AnyChannel.TestCase
TestAnyChannel.settings = settings(max_examples=400, stateful_step_count=30, deadline=None)
