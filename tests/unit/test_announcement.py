"""What makes a disclosure heard in full, and what each way of failing leaves behind."""

from __future__ import annotations

import pytest

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
    ReportObjection,
    Result,
    ResultSet,
    SetResult,
    StatsRead,
    StopPlayback,
    Timing,
    Unheld,
    Wait,
    byte_rate,
)
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason

NOTICE_S = 3.0
KEY_S = 2.0
TIMING = Timing()


def disclosure(mode: Mode = Mode.NOTICE) -> Disclosure:
    key = DisclosureKey.of((PurposeName("contract_evidence"),), "nl", mode, Direction.INBOUND)
    if mode is Mode.NOTICE:
        return Disclosure(key, "text", "d1", "/sounds/notice", 3000)
    return Disclosure(key, "text", "d1", "/sounds/notice", 3000, "/sounds/key", 2000)


class Told:
    """One announcement with a clock of its own; the channel sends and receives alaw as long as a sound plays."""

    def __init__(self, mode: Mode = Mode.NOTICE, *, goes_on: bool = False) -> None:
        self.announcement = Announcement("v", disclosure(mode), TIMING, goes_on=goes_on)
        self.now = 100.0
        self.out: list[Output] = []
        self.tx = 0
        self.rx = 50
        self.formats = "(alaw)"

    def give(self, event: Event) -> list[Output]:
        self.out = self.announcement.handle(event, self.now)
        return self.out

    def stats(self) -> list[Output]:
        return self.give(StatsRead(self.tx, self.rx, self.formats))

    def wait(self) -> list[Output]:
        """Let the deadline pass."""
        last = self.out[-1]
        assert isinstance(last, Wait)
        self.now = last.until
        return self.give(DeadlinePassed())

    def until_first_play(self) -> None:
        assert [type(o) for o in self.give(Entered(up=False))] == [Answer, Wait]
        assert [type(o) for o in self.give(Answered())] == [ReadStats, Wait]
        assert [type(o) for o in self.stats()] == [Wait]
        assert [type(o) for o in self.wait()] == [ReadStats, Wait]
        assert self.stats()[0] == Play("v-1", "/sounds/notice")

    def play(self, number: int, seconds: float, *, sent: float = 1.0) -> list[Output]:
        """The sound starts and finishes after `seconds`; `sent`: share of it that went out."""
        self.give(PlaybackStarted(f"v-{number}", 1000.0 + number * 10))
        self.now += seconds
        self.tx += int(seconds * 8000 * sent)
        self.rx += 10
        return self.give(PlaybackFinished(f"v-{number}", "done", 1000.0 + number * 10 + seconds))

    def finish(self) -> Outcome:
        """Asterisk accepts the result."""
        assert isinstance(self.out[0], SetResult), self.out
        concluded = self.give(ResultSet())
        assert isinstance(concluded[0], Conclude)
        assert concluded[1:] == [Continue()]
        return concluded[0].outcome


def told(mode: Mode = Mode.NOTICE) -> Told:
    """Until the counters were read after the last sound."""
    call = Told(mode)
    call.until_first_play()
    call.play(1, NOTICE_S)
    if mode is not Mode.NOTICE:
        assert call.out[0] == Play("v-2", "/sounds/key")
        call.play(2, KEY_S)
    assert call.out[0] == ReadStats()
    call.stats()
    return call


def test_a_notice_played_to_its_end_is_heard() -> None:
    call = told()
    assert call.out[0] == SetResult(Result.DISCLOSED, ())
    assert call.finish() == Outcome(Result.DISCLOSED, (), heard=True, ended_at=1013.0)


def test_after_a_notice_nobody_waits_for_a_key() -> None:
    assert isinstance(told().out[0], SetResult)


@pytest.mark.parametrize("mode", [Mode.OPT_OUT, Mode.OPT_IN])
def test_after_the_key_sentence_a_key_is_awaited_and_without_one_he_is_told_only(mode: Mode) -> None:
    call = told(mode)
    assert call.out == [Wait(call.now + TIMING.key_wait)]
    call.wait()
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.consented) == (Result.DISCLOSED, True, False)


def test_a_one_after_an_opt_in_is_consent() -> None:
    call = told(Mode.OPT_IN)
    call.give(DigitReceived("1"))
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.consented) == (Result.CONSENTED, True, True)


def test_a_one_where_only_a_nine_was_asked_ends_the_wait_and_is_no_consent() -> None:
    call = told(Mode.OPT_OUT)
    call.give(DigitReceived("1"))
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.consented) == (Result.DISCLOSED, True, False)


def test_a_one_before_the_end_counts_when_the_prompt_is_then_heard_in_full() -> None:
    call = Told(Mode.OPT_IN)
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.give(DigitReceived("1"))
    call.play(2, KEY_S)
    call.stats()
    assert call.finish().consented


def test_a_one_before_the_end_counts_for_nothing_when_the_prompt_is_then_cut() -> None:
    call = Told(Mode.OPT_IN)
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.give(DigitReceived("1"))
    call.play(2, 0.5)
    outcome = call.finish()
    assert (outcome.heard, outcome.consented, outcome.reasons) == (False, False, (Reason.PROMPT_CUT,))


def test_a_one_left_over_from_the_menu_before_is_no_consent() -> None:
    call = Told(Mode.OPT_IN)
    call.give(Entered(up=True))
    call.give(DigitReceived("1"))
    call.stats()
    call.wait()
    call.stats()
    call.play(1, NOTICE_S)
    call.play(2, KEY_S)
    call.stats()
    call.wait()
    assert not call.finish().consented


@pytest.mark.parametrize("mode", list(Mode))
def test_a_nine_stops_the_prompt_at_once(mode: Mode) -> None:
    call = Told(mode)
    call.until_first_play()
    call.give(PlaybackStarted("v-1", 1000.0))
    assert call.give(DigitReceived("9"))[:2] == [ReportObjection(), StopPlayback("v-1")]
    call.give(PlaybackStopped())
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.objected) == (Result.OBJECTED, False, True)


def test_a_nine_while_a_key_is_awaited_is_an_objection_of_one_who_was_told() -> None:
    call = told(Mode.OPT_OUT)
    assert call.give(DigitReceived("9"))[0] == ReportObjection()
    call.out = call.out[1:]
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.objected) == (Result.OBJECTED, True, True)


def test_a_nine_after_a_one_takes_the_consent_back() -> None:
    call = Told(Mode.OPT_IN)
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.give(DigitReceived("1"))
    call.give(PlaybackStarted("v-2", 1020.0))
    call.give(DigitReceived("9"))
    call.give(PlaybackStopped())
    outcome = call.finish()
    assert (outcome.consented, outcome.objected) == (False, True)


def test_where_the_law_demands_the_recording_a_nine_is_reported_and_stops_nothing() -> None:
    call = Told(goes_on=True)
    call.until_first_play()
    assert call.give(DigitReceived("9"))[0] == ReportObjection()
    assert not any(isinstance(o, StopPlayback) for o in call.out)
    call.play(1, NOTICE_S)
    call.stats()
    outcome = call.finish()
    assert (outcome.result, outcome.heard, outcome.objected) == (Result.DISCLOSED, True, True)


def test_a_prompt_cut_short_leaves_the_caller_untold_although_asterisk_says_done() -> None:
    call = Told()
    call.until_first_play()
    call.play(1, 1.97)
    assert call.finish() == Outcome(Result.FAILED, (Reason.PROMPT_CUT,))


@pytest.mark.parametrize(("short_ms", "heard"), [(0, True), (59, True), (61, False)])
def test_a_prompt_may_look_sixty_milliseconds_short(short_ms: int, heard: bool) -> None:
    call = Told()
    call.until_first_play()
    call.play(1, NOTICE_S - short_ms / 1000)
    call.tx = 24000
    if heard:
        call.stats()
    assert call.finish().heard is heard


@pytest.mark.parametrize(("octets", "heard"), [(22_799, False), (22_800, True)])
def test_ninety_five_percent_of_the_octets_must_have_been_sent(octets: int, heard: bool) -> None:
    call = Told()
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.tx = octets
    call.stats()
    outcome = call.finish()
    assert outcome.heard is heard
    assert heard or outcome.reasons == (Reason.PROMPT_UNSENT,)


def test_octets_sent_before_the_prompt_do_not_count() -> None:
    call = Told()
    call.tx = 100_000
    call.until_first_play()
    call.play(1, NOTICE_S, sent=0)
    call.stats()
    assert call.finish().reasons == (Reason.PROMPT_UNSENT,)


@pytest.mark.parametrize("formats", ["(opus)", "", "(alaw|opus)"])
def test_with_a_codec_without_a_fixed_rate_nothing_is_played_since_nothing_could_be_proven(formats: str) -> None:
    call = Told()
    call.formats = formats
    call.give(Entered(up=True))
    call.stats()
    call.wait()
    call.stats()
    assert call.finish().reasons == (Reason.PROMPT_UNSENT,)


def test_of_several_codecs_the_fastest_is_asked_for() -> None:
    assert byte_rate("(ulaw|slin16)") == 32000
    assert byte_rate("(g729)") == 1000


def test_a_caller_of_whom_nothing_comes_in_is_untold() -> None:
    call = Told()
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.rx = 50
    call.stats()
    assert call.finish().reasons == (Reason.PROMPT_NO_MEDIA,)


def test_the_prompt_waits_for_the_first_audio_but_not_longer_than_a_second() -> None:
    call = Told()
    call.rx = 0
    call.give(Entered(up=True))
    began = call.now
    for _ in range(50):
        if any(isinstance(o, Play) for o in call.out):
            break
        call.stats() if isinstance(call.out[0], ReadStats) else call.wait()
    assert any(isinstance(o, Play) for o in call.out)
    assert call.now - began == pytest.approx(TIMING.media_wait + TIMING.silence, abs=TIMING.media_poll + 0.001)


def test_the_prompt_begins_300_ms_after_the_first_audio() -> None:
    call = Told()
    call.give(Entered(up=True))
    assert call.stats() == [Wait(call.now + 0.3)]


def test_a_hold_meanwhile_stops_the_prompt_and_leaves_the_caller_untold() -> None:
    call = Told()
    call.until_first_play()
    call.give(PlaybackStarted("v-1", 1000.0))
    assert call.give(Held())[0] == StopPlayback("v-1")
    call.give(Unheld())
    call.give(PlaybackFinished("v-1", "done", 1003.0))
    assert call.finish().reasons == (Reason.PROMPT_ON_HOLD,)


def test_a_hold_that_ends_meanwhile_shows_that_the_caller_was_on_hold_until_then() -> None:
    call = Told()
    call.until_first_play()
    call.give(PlaybackStarted("v-1", 1000.0))
    assert call.give(Unheld())[0] == StopPlayback("v-1")
    call.give(PlaybackFinished("v-1", "done", 1003.0))
    assert call.finish().reasons == (Reason.PROMPT_ON_HOLD,)


def test_nothing_is_played_to_a_caller_on_hold() -> None:
    call = Told()
    call.give(Entered(up=True))
    call.give(Held())
    call.stats()
    call.wait()
    call.stats()
    assert call.finish().reasons == (Reason.PROMPT_ON_HOLD,)


def test_a_hold_that_ended_before_the_prompt_does_no_harm() -> None:
    call = Told()
    call.give(Held())
    call.give(Unheld())
    call.until_first_play()
    call.play(1, NOTICE_S)
    call.stats()
    assert call.finish().heard


def test_a_playback_that_failed_leaves_the_caller_untold() -> None:
    call = Told()
    call.until_first_play()
    call.give(PlaybackStarted("v-1", 1000.0))
    call.give(PlaybackFinished("v-1", "failed", 1003.0))
    assert call.finish().reasons == (Reason.PROMPT_FAILED,)


def test_a_playback_that_never_started_or_never_finishes_is_stopped_at_its_deadline() -> None:
    for start in (False, True):
        call = Told()
        call.until_first_play()
        if start:
            call.give(PlaybackStarted("v-1", 1000.0))
        assert call.wait()[0] == StopPlayback("v-1")
        call.wait()
        assert call.finish().reasons == (Reason.PROMPT_TIMED_OUT,)


def test_a_finish_without_a_start_proves_nothing() -> None:
    call = Told()
    call.until_first_play()
    call.tx += 24000
    call.rx += 100
    call.give(PlaybackFinished("v-1", "done", 1003.0))
    assert call.finish().reasons == (Reason.PROMPT_CUT,)


def test_events_of_another_playback_are_not_ours() -> None:
    call = Told()
    call.until_first_play()
    call.give(PlaybackStarted("w-1", 900.0))
    call.give(PlaybackFinished("w-1", "done", 1003.0))
    call.wait()
    call.give(PlaybackStopped())
    assert call.finish().reasons == (Reason.PROMPT_TIMED_OUT,)


def test_when_the_result_cannot_be_set_the_channel_was_no_longer_ours() -> None:
    call = told()
    out = call.give(CommandFailed(gone=True))
    assert out == [Conclude(Outcome(Result.FAILED, (Reason.PROMPT_CHANNEL_GONE,)))]


def test_when_nobody_answers_the_result_the_caller_is_untold_and_let_go() -> None:
    call = told()
    conclude, go = call.wait()
    assert isinstance(conclude, Conclude)
    assert conclude.outcome.reasons == (Reason.PROMPT_TIMED_OUT,)
    assert go == Continue()


def test_a_hang_up_in_the_middle_ends_it_without_another_command() -> None:
    call = Told()
    call.until_first_play()
    call.give(PlaybackStarted("v-1", 1000.0))
    assert call.give(Gone()) == [Conclude(Outcome(Result.FAILED, (Reason.PROMPT_CHANNEL_GONE,)))]
    assert call.give(PlaybackFinished("v-1", "done", 1003.0)) == []


def test_counters_that_cannot_be_read_leave_the_caller_untold_and_play_nothing() -> None:
    call = Told()
    call.give(Entered(up=True))
    call.give(CommandFailed())
    assert call.finish().reasons == (Reason.PROMPT_UNSENT,)


@pytest.mark.parametrize("mode", [Mode.OPT_OUT, Mode.OPT_IN])
def test_when_events_are_lost_in_the_key_wait_nobody_knows_of_a_nine_so_he_is_untold(mode: Mode) -> None:
    call = told(mode)
    call.give(CommandFailed())
    assert call.finish() == Outcome(Result.FAILED, (Reason.PROMPT_FAILED,), ended_at=0.0)


def test_an_answer_that_is_refused_lets_the_call_go_on() -> None:
    call = Told()
    call.give(Entered(up=False))
    call.give(CommandFailed())
    assert call.finish().result is Result.FAILED


def test_a_deadline_that_fires_early_changes_nothing() -> None:
    call = Told()
    call.until_first_play()
    assert call.give(DeadlinePassed()) == [Wait(call.now + TIMING.start)]


class Whispered(Told):
    """As `Told`, in a conversation whose other side speaks all the time: its voice takes the sound along."""

    def __init__(self, mode: Mode = Mode.NOTICE) -> None:
        super().__init__(mode)
        self.announcement = Announcement("v", disclosure(mode), TIMING, mixed=True)

    def until_first_play(self) -> None:
        assert [type(o) for o in self.give(Entered(up=True))] == [ReadStats, Wait]
        self.stats()
        assert [type(o) for o in self.wait()] == [ReadStats, Wait]
        assert self.stats()[0] == Play("v-1", "/sounds/notice")

    def whisper(self, number: int, seconds: float, *, silent_from: float = 9.0) -> list[Output]:
        """The sound plays; the other side falls silent so many seconds after its begin."""
        self.give(PlaybackStarted(f"v-{number}", 1000.0 + number * 10))
        begin = self.now
        while self.now < begin + seconds and type(self.out[0]) is ReadStats:
            self.stats()
            last = self.out[-1]
            if not isinstance(last, Wait) or len(self.out) > 1:
                return self.out  # it was given up
            spoken = max(0.0, min(last.until, begin + silent_from) - self.now)
            self.tx += round(spoken * 8000)
            self.rx += 4
            self.now = last.until
            if self.now < begin + seconds:
                self.give(DeadlinePassed())
        return self.give(PlaybackFinished(f"v-{number}", "done", 1000.0 + number * 10 + seconds))

    def drain(self, *, silent: bool = False) -> list[Output]:
        """Until the rest of it was sent, or it is given up."""
        for _ in range(100):
            if self.out[0] == ReadStats():
                self.stats()
            elif isinstance(self.out[0], Wait):
                wait = self.out[0].until - self.now
                self.tx += 0 if silent else round(wait * 8000)
                self.wait()
            else:
                break
        return self.out


def test_a_whisper_was_heard_once_the_last_of_it_was_sent_and_everything_before_is_known() -> None:
    call = Whispered()
    call.until_first_play()
    call.whisper(1, NOTICE_S)
    assert call.drain()[0] == ReadStats(settled=True)
    call.stats()
    outcome = call.finish()
    assert (outcome.heard, outcome.result) == (True, Result.DISCLOSED)
    assert outcome.ended_at > 1010.0 + NOTICE_S, "it left a little after it was played"


def test_between_two_whispered_sounds_the_first_is_let_out() -> None:
    call = Whispered(Mode.OPT_IN)
    call.until_first_play()
    call.whisper(1, NOTICE_S)
    assert call.drain()[0] == Play("v-2", "/sounds/key")
    call.whisper(2, KEY_S)
    assert call.drain()[0] == ReadStats(settled=True)
    call.stats()
    call.give(DigitReceived("1"))
    assert call.finish().consented


def test_a_whisper_during_which_the_other_side_falls_silent_is_stopped_and_was_not_heard() -> None:
    call = Whispered()
    call.until_first_play()
    call.whisper(1, NOTICE_S, silent_from=1.0)
    assert call.out[0] == StopPlayback("v-1")
    call.give(PlaybackStopped())
    assert call.finish().reasons == (Reason.PROMPT_UNSENT,)


def test_a_whisper_whose_end_is_not_sent_was_not_heard() -> None:
    call = Whispered()
    call.until_first_play()
    call.whisper(1, NOTICE_S)
    call.drain(silent=True)
    assert call.finish().reasons == (Reason.PROMPT_UNSENT,)


def test_who_is_put_on_hold_before_the_end_of_a_whisper_was_sent_did_not_hear_it() -> None:
    call = Whispered()
    call.until_first_play()
    call.whisper(1, NOTICE_S)
    call.give(Held())
    assert call.finish().reasons == (Reason.PROMPT_ON_HOLD,)
