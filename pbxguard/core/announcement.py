"""One disclosure, played to one channel by ARI: what to do next, and whether it was heard in full.

Owns every rule of *heard in full* (ASTERISK.md, "Playback"): Asterisk's word ``done`` alone proves nothing, since a
stopped, a cancelled and an unsent prompt say it too. A disclosure was heard only when, for each of its sounds,
Started and then Finished(``done``) came, the time between them by ARI's own timestamps was the sound's length less
60 ms, nobody was put on hold meanwhile, the channel's sent octets grew by 95 % of what its codec makes of that
length, audio came in, and the channel was still ours when the result was set. One sound per playback, and a
deadline on every step, so that whatever happens the call goes on. A sound that is whispered into a conversation must
besides have left with it (`mixing`).

Not here: which disclosure is due (`selection`), the requests to Asterisk (`pbx.ari`), the audit log (`service`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from .mixing import Mixing
from .purposes import Disclosure, Mode
from .reasons import Reason


class Result(Enum):
    """What ``PBXGUARD_RESULT`` says to the dialplan."""

    DISCLOSED = "DISCLOSED"
    CONSENTED = "CONSENTED"
    OBJECTED = "OBJECTED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    OFF = "OFF"


@dataclass(frozen=True, slots=True)
class Timing:
    """Bounds, in seconds; why each is needed stands in ASTERISK.md."""

    key_wait: float = 5.0
    """After the last sound, for a key; not in mode `notice`."""
    media_wait: float = 1.0
    """For the first inbound RTP; then the prompt begins all the same."""
    media_poll: float = 0.1
    silence: float = 0.3
    """Between the first inbound RTP and the prompt: DTLS and NAT set-up would eat its first word."""
    command: float = 1.0
    """For Asterisk to answer one command."""
    start: float = 1.0
    """From the order to play until PlaybackStarted."""
    finish: float = 1.0
    """From when a sound should have ended until PlaybackFinished: a missing file may never finish."""
    short: float = 0.06
    """How much shorter than its sound a playback may look."""
    count_every: float = 0.08
    """Whispered: how often is counted what was sent."""
    drain: float = 1.0
    """Whispered: for the last of it to be sent after its end."""

    def usual(self, disclosure: Disclosure) -> float:
        """The most that a channel spends here while Asterisk answers promptly."""
        return self.media_wait + self.silence + _length(disclosure) + self._key_wait(disclosure)

    def longest(self, disclosure: Disclosure) -> float:
        """The most that it ever spends here, from the entry to `Continue`, if every answer is late or missing."""
        # answer, look for media, baseline, count, stop, result; start and finish of two sounds
        return self.usual(disclosure) + 6 * self.command + 2 * (self.start + self.finish)

    def _key_wait(self, disclosure: Disclosure) -> float:
        return 0.0 if disclosure.key.mode is Mode.NOTICE else self.key_wait


SENT_SHARE = 0.95
"""Of the octets that a sound makes in the channel's codec, how many must have been sent."""


def _length(disclosure: Disclosure) -> float:
    return ((disclosure.notice_ms if disclosure.notice_sound else 0) + _key_ms(disclosure)) / 1000


def _key_ms(disclosure: Disclosure) -> int:
    return disclosure.key_ms if disclosure.key_sound else 0


_BYTE_RATES = {
    "alaw": 8000,
    "ulaw": 8000,
    "g722": 8000,
    "slin": 16000,
    "slin12": 24000,
    "slin16": 32000,
    "slin24": 48000,
    "slin32": 64000,
    "slin44": 88200,
    "slin48": 96000,
    "slin96": 192000,
    "slin192": 384000,
    "g726": 4000,
    "g726aal2": 4000,
    "gsm": 1650,
    "g729": 1000,
}


def byte_rate(formats: str) -> int | None:
    """Octets a second of a channel, from Asterisk's list of its formats, e.g. ``(alaw)`` or ``(ulaw|alaw)``.

    The fastest when there are several; None when one has no fixed rate (opus, speex, ...): then nothing can be
    proven by counting octets.
    """
    rates = [_BYTE_RATES.get(name) for name in re.findall(r"[a-z0-9]+", formats.lower())]
    known = [rate for rate in rates if rate is not None]
    return max(known) if known and len(known) == len(rates) else None


# -- what happens to the channel ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entered:
    """The channel is ours. `up`: it is answered already."""

    up: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer command was carried out."""


@dataclass(frozen=True, slots=True)
class StatsRead:
    """Counters of the channel's RTP, live. `formats` as `byte_rate` takes them."""

    tx_octets: int
    rx_packets: int
    formats: str


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """`at`: ARI's timestamp, UTC seconds."""

    id: str
    at: float


@dataclass(frozen=True, slots=True)
class PlaybackFinished:
    id: str
    state: str
    at: float


@dataclass(frozen=True, slots=True)
class PlaybackStopped:
    """Asterisk answered `StopPlayback` (also: there was none any more)."""


@dataclass(frozen=True, slots=True)
class Held:
    pass


@dataclass(frozen=True, slots=True)
class Unheld:
    pass


@dataclass(frozen=True, slots=True)
class DigitReceived:
    digit: str


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The result was set on the channel (204): it was still ours then."""


@dataclass(frozen=True, slots=True)
class CommandFailed:
    """Asterisk refused the last command or did not answer it. `gone`: since the channel is no longer ours."""

    gone: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """StasisEnd, hang-up, or the event stream was lost and with it whatever happened."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline of the last `Wait` is over."""


Event = (
    Entered
    | Answered
    | StatsRead
    | PlaybackStarted
    | PlaybackFinished
    | PlaybackStopped
    | Held
    | Unheld
    | DigitReceived
    | ResultSet
    | CommandFailed
    | Gone
    | DeadlinePassed
)

# -- what to do -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    pass


@dataclass(frozen=True, slots=True)
class ReadStats:
    """`settled`: answer only once whatever happened to him until now was given as an event."""

    settled: bool = False


@dataclass(frozen=True, slots=True)
class Play:
    id: str
    sound: str


@dataclass(frozen=True, slots=True)
class StopPlayback:
    id: str


@dataclass(frozen=True, slots=True)
class ReportObjection:
    """He pressed 9: tell the core at once, before anything else."""


@dataclass(frozen=True, slots=True)
class SetResult:
    result: Result
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Conclude:
    """Nothing more will become known: commit and tell what came out."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Continue:
    """Let the channel go on in the dialplan."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Until something happens, or this moment (as `now`); replaces any earlier deadline."""

    until: float


Output = Answer | ReadStats | Play | StopPlayback | ReportObjection | SetResult | Conclude | Continue | Wait


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the announcement came to. `reasons` say why it was not heard."""

    result: Result
    reasons: tuple[Reason, ...] = ()
    heard: bool = False
    consented: bool = False
    objected: bool = False
    ended_at: float = 0.0
    """ARI's timestamp of the end of the last sound, UTC seconds; 0 when there was none."""


class _Phase(Enum):
    NEW = "new"
    ANSWERING = "answering"
    LOOKING = "looking"
    """Asked whether audio comes in."""
    LISTENING = "listening"
    """Waits before asking again."""
    SILENCE = "silence"
    BASELINE = "baseline"
    """Reads the counters before the first sound."""
    STARTING = "starting"
    PLAYING = "playing"
    DRAINING = "draining"
    """Whispered: waits until the end of a sound was sent."""
    COUNTING = "counting"
    """Reads the counters after the last sound."""
    KEY_WAIT = "key_wait"
    STOPPING = "stopping"
    RESULT = "result"
    DONE = "done"


_PROMPT_PHASES = (_Phase.BASELINE, _Phase.STARTING, _Phase.PLAYING, _Phase.DRAINING, _Phase.COUNTING)


class Announcement:
    """Feed it every event of the channel with the time; do what it returns, in order.

    `visit` is an id unique to this visit: playbacks are named after it, so a late event of another visit is not
    mistaken for one of this. `goes_on`: the law demands the recording (`mifid_order`), so a 9 is reported but
    stops nothing. `mixed`: it is whispered into a conversation that goes on.
    """

    def __init__(
        self, visit: str, disclosure: Disclosure, timing: Timing, *, goes_on: bool = False, mixed: bool = False
    ) -> None:
        sounds = [(disclosure.notice_sound, disclosure.notice_ms), (disclosure.key_sound, disclosure.key_ms)]
        self._sounds = [(f"{visit}-{n}", sound, ms / 1000) for n, (sound, ms) in enumerate(sounds, 1) if sound]
        self._mode = disclosure.key.mode
        self._timing = timing
        self._goes_on = goes_on
        self._mixed = mixed
        self._mixing: Mixing | None = None
        self._asked_at = 0.0
        """When the counters were asked for last."""
        self._count_at: float | None = None
        """Whispered: when to count next."""
        self._phase = _Phase.NEW
        self._deadline = 0.0
        self._media_until = 0.0
        self._playing = -1
        self._started_at: float | None = None
        self._ended_at = self._finished_at = 0.0
        self._baseline: StatsRead | None = None
        self._held = False
        self._objected = False
        self._agreed = False
        self._heard = False
        self._failure: Reason | None = None
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """None until concluded."""
        return self._outcome

    def handle(self, event: Event, now: float) -> list[Output]:
        """What to do after `event`; ends in a `Wait` unless it is over."""
        if self._outcome is not None:
            return []
        out = self._step(event, now)
        if self._outcome is None:
            out.append(Wait(self._deadline if self._count_at is None else min(self._deadline, self._count_at)))
        return out

    def _step(self, event: Event, now: float) -> list[Output]:
        match event:
            case Gone():
                return self._lost()
            case Held() | Unheld():
                return self._on_hold(isinstance(event, Held), now)
            case DigitReceived(digit):
                return self._on_digit(digit, now)
            case Entered(up):
                if self._phase is not _Phase.NEW:
                    return []
                self._media_until = now + self._timing.media_wait
                if up:
                    return self._look(now)
                return self._go(_Phase.ANSWERING, now, self._timing.command, Answer())
            case Answered():
                if self._phase is not _Phase.ANSWERING:
                    return []
                self._media_until = now + self._timing.media_wait
                return self._look(now)
            case StatsRead():
                return self._on_stats(event, now)
            case PlaybackStarted(id, at):
                return self._on_started(id, at, now)
            case PlaybackFinished(id, state, at):
                return self._on_finished(id, state, at, now)
            case PlaybackStopped():
                return self._set_result(now) if self._phase is _Phase.STOPPING else []
            case ResultSet():
                return self._conclude(self._planned()) if self._phase is _Phase.RESULT else []
            case CommandFailed(gone):
                return self._on_failure(gone, now)
            case DeadlinePassed():
                if now >= self._deadline:
                    return self._on_deadline(now)
                return self._count(now) if self._count_at is not None and now >= self._count_at else []
            case _:
                assert_never(event)

    # -- before the first sound

    def _look(self, now: float) -> list[Output]:
        return self._go(_Phase.LOOKING, now, self._timing.command, ReadStats())

    def _count(self, now: float) -> list[Output]:
        """While it is whispered, and until the rest of it was sent; the phase and its deadline stay."""
        self._count_at, self._asked_at = None, now
        return [ReadStats()]

    def _on_stats(self, stats: StatsRead, now: float) -> list[Output]:
        if self._phase is _Phase.LOOKING:
            if stats.rx_packets > 0 or now >= self._media_until:
                return self._go(_Phase.SILENCE, now, self._timing.silence)
            return self._go(_Phase.LISTENING, now, self._timing.media_poll)
        if self._phase is _Phase.BASELINE:
            if (rate := byte_rate(stats.formats)) is None:  # nothing could be proven: do not trouble him with it
                return self._fail(Reason.PROMPT_UNSENT, now)
            self._baseline = stats
            if self._mixed:
                self._mixing = Mixing(rate, stats.tx_octets, self._asked_at)
            return self._play_next(now)
        if self._mixing is not None and self._phase in (_Phase.PLAYING, _Phase.DRAINING):
            return self._on_counted(self._mixing, stats, now)
        if self._phase is _Phase.COUNTING:
            if reason := self._unproven(stats):
                return self._fail(reason, now)
            self._heard = True
            if self._mode is Mode.NOTICE or self._agreed:
                return self._set_result(now)
            return self._go(_Phase.KEY_WAIT, now, self._timing.key_wait)
        return []

    def _on_counted(self, mixing: Mixing, stats: StatsRead, now: float) -> list[Output]:
        if self._phase is _Phase.PLAYING:
            mixing.counted(stats.tx_octets, self._asked_at, now)
        else:
            mixing.finished(stats.tx_octets, self._asked_at, now)
        if mixing.lost:
            return self._fail(Reason.PROMPT_UNSENT, now)
        if self._phase is _Phase.PLAYING or not mixing.left:
            self._count_at = now + self._timing.count_every
            return []
        if self._playing + 1 < len(self._sounds):
            return self._play_next(now)
        self._ended_at += now - self._finished_at
        return self._go(_Phase.COUNTING, now, self._timing.command, ReadStats(settled=True))

    # -- the sounds

    def _play_next(self, now: float) -> list[Output]:
        if self._held:
            return self._fail(Reason.PROMPT_ON_HOLD, now)
        self._playing += 1
        self._started_at = None
        id, sound, seconds = self._sounds[self._playing]
        if self._mixing is not None:
            self._mixing.ordered(seconds, now)
        return self._go(_Phase.STARTING, now, self._timing.start, Play(id, sound))

    def _on_started(self, id: str, at: float, now: float) -> list[Output]:
        if self._phase is not _Phase.STARTING or id != self._sounds[self._playing][0]:
            return []
        self._started_at = at
        out = self._go(_Phase.PLAYING, now, self._sounds[self._playing][2] + self._timing.finish)
        if self._mixing is not None:
            self._mixing.started(now)
            out += self._count(now)
        return out

    def _on_finished(self, id: str, state: str, at: float, now: float) -> list[Output]:
        if self._phase is _Phase.STOPPING and id == self._sounds[self._playing][0]:
            return self._set_result(now)
        if self._phase not in (_Phase.STARTING, _Phase.PLAYING) or id != self._sounds[self._playing][0]:
            return []
        if state != "done":
            return self._fail(Reason.PROMPT_FAILED, now, playing=False)
        length = self._sounds[self._playing][2]
        if self._started_at is None or at - self._started_at < length - self._timing.short:
            return self._fail(Reason.PROMPT_CUT, now, playing=False)
        self._ended_at, self._finished_at = at, now
        if self._mixing is not None:
            self._go(_Phase.DRAINING, now, self._timing.drain)
            return self._count(now)
        if self._playing + 1 < len(self._sounds):
            return self._play_next(now)
        return self._go(_Phase.COUNTING, now, self._timing.command, ReadStats())

    def _unproven(self, stats: StatsRead) -> Reason | None:
        """Why the counters do not show that it was sent to somebody who is there; None when they do."""
        if self._baseline is None or (rate := byte_rate(stats.formats)) is None:
            return Reason.PROMPT_UNSENT
        length = sum(seconds for _, _, seconds in self._sounds)
        if stats.tx_octets - self._baseline.tx_octets < SENT_SHARE * length * rate:
            return Reason.PROMPT_UNSENT
        if stats.rx_packets <= self._baseline.rx_packets:
            return Reason.PROMPT_NO_MEDIA
        return None

    def _on_hold(self, held: bool, now: float) -> list[Output]:
        """That a hold ended tells as much as its begin: until now he was on hold."""
        self._held = held
        return self._fail(Reason.PROMPT_ON_HOLD, now) if self._phase in _PROMPT_PHASES else []

    def _on_digit(self, digit: str, now: float) -> list[Output]:
        if digit == "9":
            if self._objected:
                return []
            self._objected = True
            out: list[Output] = [ReportObjection()]
            if self._goes_on or self._phase in (_Phase.STOPPING, _Phase.RESULT):
                return out
            return out + self._leave(now)
        if digit == "1" and self._playing >= 0:  # an earlier 1 answered the menu before us
            self._agreed = True
            if self._phase is _Phase.KEY_WAIT:
                return self._set_result(now)
        return []

    # -- the end

    def _on_failure(self, gone: bool, now: float) -> list[Output]:
        if gone:
            return self._lost()
        match self._phase:
            case _Phase.LOOKING | _Phase.BASELINE | _Phase.DRAINING | _Phase.COUNTING:
                return self._fail(Reason.PROMPT_UNSENT, now)
            case _Phase.NEW | _Phase.ANSWERING | _Phase.STARTING | _Phase.PLAYING:
                return self._fail(Reason.PROMPT_FAILED, now)
            case _Phase.LISTENING | _Phase.SILENCE | _Phase.KEY_WAIT:
                # No command is under way: the event stream broke, and a 9 pressed since then would never be known.
                return self._fail(Reason.PROMPT_FAILED, now)
            case _Phase.STOPPING:
                return self._set_result(now)
            case _Phase.RESULT:
                self._failure = self._failure or Reason.PROMPT_TIMED_OUT
                return self._conclude(self._untold(self._failure))
            case _:
                return []

    def _on_deadline(self, now: float) -> list[Output]:
        match self._phase:
            case _Phase.LISTENING:
                return self._look(now)
            case _Phase.SILENCE:
                self._asked_at = now
                return self._go(_Phase.BASELINE, now, self._timing.command, ReadStats())
            case _Phase.DRAINING:
                return self._fail(Reason.PROMPT_UNSENT, now)
            case _Phase.KEY_WAIT | _Phase.STOPPING:
                return self._set_result(now)
            case _Phase.RESULT:
                return self._on_failure(False, now)
            case _:
                return self._fail(Reason.PROMPT_TIMED_OUT, now)

    def _fail(self, reason: Reason, now: float, *, playing: bool = True) -> list[Output]:
        self._failure = self._failure or reason
        self._heard = False
        return self._leave(now, playing=playing)

    def _leave(self, now: float, *, playing: bool = True) -> list[Output]:
        """Towards the dialplan; a running playback goes first, since `continue` waits for its end (ASTERISK.md)."""
        if playing and self._phase in (_Phase.STARTING, _Phase.PLAYING):
            return self._go(_Phase.STOPPING, now, self._timing.command, StopPlayback(self._sounds[self._playing][0]))
        return self._set_result(now)

    def _set_result(self, now: float) -> list[Output]:
        planned = self._planned()
        return self._go(_Phase.RESULT, now, self._timing.command, SetResult(planned.result, planned.reasons))

    def _planned(self) -> Outcome:
        if self._objected and not (self._goes_on and self._heard):
            reasons = (Reason.OBJECTED,) if self._heard else (Reason.OBJECTED, self._failure or Reason.PROMPT_CUT)
            return Outcome(Result.OBJECTED, reasons, self._heard, objected=True, ended_at=self._ended_at)
        if not self._heard:
            return self._untold(self._failure or Reason.PROMPT_FAILED)
        # Nobody asked for a 1 except in mode opt_in: elsewhere it is no consent, it only ends the wait.
        consented = self._agreed and self._mode is Mode.OPT_IN
        result = Result.CONSENTED if consented else Result.DISCLOSED
        return Outcome(result, (), True, consented, self._objected, self._ended_at)

    def _untold(self, reason: Reason) -> Outcome:
        if self._objected:
            return Outcome(Result.OBJECTED, (Reason.OBJECTED, reason), objected=True)
        return Outcome(Result.FAILED, (reason,))

    def _lost(self) -> list[Output]:
        """Not ours any more: nothing can be set, and nothing was proven."""
        self._phase = _Phase.DONE
        self._outcome = self._untold(self._failure or Reason.PROMPT_CHANNEL_GONE)
        return [Conclude(self._outcome)]

    def _conclude(self, outcome: Outcome) -> list[Output]:
        self._phase = _Phase.DONE
        self._outcome = outcome
        return [Conclude(outcome), Continue()]

    def _go(self, phase: _Phase, now: float, wait: float, *then: Output) -> list[Output]:
        self._phase = phase
        self._deadline = now + wait
        self._count_at = None
        return list(then)
