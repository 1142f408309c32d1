"""The storm's oracle on doctored sound: an oracle that cannot find anything is worth nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.lab.signals import MUSIC_HZ, Chirp, Samples, Tone, write_wav
from tests.lab.storm.history import CUSTOMER, OWN, STRANGER, Fault, Foreign, History, Leg, Play, State
from tests.lab.storm.oracle import Verdict, judge
from tests.lab.storm.spans import Spans, common, seconds, union, without
from tests.lab.storm.voices import STRANGER as STRANGER_TONE
from tests.lab.storm.voices import VOICES

RATE = 8000
ZERO = 1000.0
"""When the customer's files begin, on the monotonic clock of the made-up storm."""
LENGTH_S = 30.0
TOLD = (1.0, 4.0)
ANSWERED, OVER = 6.0, 29.0
HELD = (12.0, 15.0)
JOINED = (18.0, 21.0)
DELAY_S = 0.08
GOOD: Spans = [(6.1, 11.8), (15.1, 17.8), (21.3, 28.8)]
"""What a good recorder keeps, in seconds of the customer's files."""


def voice(sound: Chirp | Tone, length_s: float, since_s: float = 0.0) -> Samples:
    t = round(since_s * RATE) + np.arange(round(length_s * RATE))
    if isinstance(sound, Tone):
        return np.asarray(sound.level * np.sin(2 * np.pi * sound.hertz * t / RATE))
    s = t / RATE % sound.sweep_s
    return np.asarray(sound.level * np.sin(2 * np.pi * (sound.low_hz * s + sound.slope / 2 * s * s)))


def during(samples: Samples, spans: Spans) -> Samples:
    """Silent but for these seconds."""
    made = np.zeros_like(samples)
    for begin, end in spans:
        made[round(begin * RATE) : round(end * RATE)] = samples[round(begin * RATE) : round(end * RATE)]
    return made


@dataclass
class Storm:
    """One made-up call: told at 4 s, answered at 6, on hold from 12 to 15, with a stranger in it from 18 to 21."""

    folder: Path
    play: Play = field(default_factory=lambda: Play("+31612000001", "made up"))
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = np.random.default_rng(1)
        notice = 0.2 * chance.standard_normal(round((TOLD[1] - TOLD[0]) * RATE)).clip(-2, 2)
        self.play.told_by = self.wav("notice", notice)
        self.customer = voice(VOICES["customer"], LENGTH_S)
        self.agent = np.concatenate([np.zeros(round(ANSWERED * RATE)), voice(VOICES["first"], LENGTH_S - ANSWERED)])
        heard = during(self.agent, [(ANSWERED + 0.1, HELD[0]), (HELD[1], OVER)])
        heard += during(voice(STRANGER_TONE, LENGTH_S), [JOINED])
        heard += during(voice(Tone(MUSIC_HZ), LENGTH_S), [HELD])
        heard[round(TOLD[0] * RATE) : round(TOLD[0] * RATE) + len(notice)] += notice
        self.leg("customer", CUSTOMER, "customer", 0.0, heard, self.customer)
        agent_heard = self.late(during(self.customer, [(ANSWERED + 0.1, HELD[0]), (HELD[1], OVER)]))
        self.leg(
            "100", OWN, "first", ANSWERED, agent_heard[round(ANSWERED * RATE) :], self.agent[round(ANSWERED * RATE) :]
        )
        both = self.late(during(self.customer + self.agent, [JOINED]))
        begin = round((JOINED[0] - 1.0) * RATE)
        self.leg(
            "stranger", STRANGER, "stranger", JOINED[0] - 1.0, both[begin:], voice(STRANGER_TONE, LENGTH_S - JOINED[0])
        )
        self.play.talks = [State("talk", self.edge(ANSWERED), self.edge(OVER))]
        self.play.closures = [
            State("hold", self.edge(HELD[0]), self.edge(HELD[1])),
            State("a stranger in the conversation", self.edge(JOINED[0]), self.edge(JOINED[1])),
        ]

    @staticmethod
    def edge(at: float) -> tuple[float, float]:
        return ZERO + at, ZERO + at + 0.05

    @staticmethod
    def late(samples: Samples) -> Samples:
        return np.concatenate([np.zeros(round(DELAY_S * RATE)), samples])[: len(samples)]

    def wav(self, name: str, samples: Samples) -> str:
        write_wav(self.folder / f"{name}.wav", samples, RATE)
        return str(self.folder / f"{name}.wav")

    def leg(self, name: str, role: str, speaks: str, began: float, heard: Samples, said: Samples) -> None:
        files = self.wav(f"{name}-heard", heard), self.wav(f"{name}-said", said)
        self.play.legs.append(Leg(name, role, speaks, ZERO + began, ZERO + began, ZERO + LENGTH_S, *files))

    def tracks(self, parts: Spans) -> tuple[Samples, Samples]:
        cut = [slice(round(a * RATE), round(b * RATE)) for a, b in parts]
        return np.concatenate([self.agent[one] for one in cut]), np.concatenate([self.customer[one] for one in cut])

    def seal(self, parts: Spans, doctor: Callable[[Samples, Samples], None] | None = None) -> Storm:
        """A sealed file of these seconds, as pbxguard leaves it; `doctor` puts into it what may not be there."""
        own, others = self.tracks(parts)
        if doctor is not None:
            doctor(own, others)
        name = self.folder / f"x_contract_evidence_31612000001_{len(self.play.files)}.flac"
        soundfile.write(name, np.stack([own, others], axis=1), RATE)
        offsets = np.cumsum([0, *(round((b - a) * RATE) for a, b in parts)])
        manifest = {
            "file": {"rate": RATE},
            "intervals": [
                {"file_offset": int(offset), "begin_utc": utc(a), "end_utc": utc(b)}
                for offset, (a, b) in zip(offsets, parts, strict=False)
            ],
            "gaps": [{"begin_utc": utc(one[1]), "end_utc": utc(two[0])} for one, two in pairwise(parts)],
            "segments": [{"closed_utc": utc(b), "cut_samples": round(0.2 * RATE)} for _, b in parts],
        }
        name.with_suffix(".json").write_text(json.dumps(manifest))
        self.play.files.append(str(name))
        return self

    def judged(self) -> Verdict:
        return judge(History(1, {}, rate=RATE, plays=[self.play], faults=self.faults))


def utc(at: float) -> str:
    return datetime.fromtimestamp(ZERO + at, UTC).isoformat()


@pytest.fixture
def storm(tmp_path: Path) -> Storm:
    return Storm(tmp_path)


def guilt(verdict: Verdict) -> list[str]:
    return [str(one) for judged in verdict.judged for one in judged.guilty]


def wrong(verdict: Verdict) -> list[str]:
    return [*verdict.wrong, *(what for judged in verdict.judged for what in judged.wrong)]


def add(side: str, samples: Samples, at_s: float) -> Callable[[Samples, Samples], None]:
    def doctor(own: Samples, others: Samples) -> None:
        track = own if side == "own" else others
        track[round(at_s * RATE) : round(at_s * RATE) + len(samples)] += samples

    return doctor


def test_a_file_of_what_was_permitted_is_innocent(storm: Storm) -> None:
    verdict = storm.seal(GOOD).judged()
    assert guilt(verdict) == []
    assert wrong(verdict) == []
    assert verdict.is_good()
    figures = verdict.figures()
    assert figures["permitted seconds"] == pytest.approx(16.2, abs=0.8)
    assert verdict.share() == pytest.approx(0.946, abs=0.01)


@pytest.mark.parametrize("side", ["own", "others"])
@pytest.mark.parametrize("milliseconds", [5, 20, 1000])
def test_a_strangers_voice_is_found(storm: Storm, side: str, milliseconds: int) -> None:
    tone = voice(STRANGER_TONE, milliseconds / 1000)
    verdict = storm.seal(GOOD, add(side, tone, 3.0)).judged()
    assert any("3300 Hz" in one and side in one for one in guilt(verdict))


def test_music_on_hold_is_found(storm: Storm) -> None:
    verdict = storm.seal(GOOD, add("others", voice(Tone(MUSIC_HZ), 0.1), 3.0)).judged()
    assert any("1150 Hz" in one for one in guilt(verdict))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param((2.5, 3.5), "the customer without a permit", id="before he was told"),
        pytest.param((13.0, 13.2), "the customer without a permit", id="on hold"),
        pytest.param((13.0, 13.2), "100 without a permit", id="on hold, ours"),
        pytest.param((19.0, 19.1), "the customer as a stranger heard", id="with a stranger"),
        pytest.param((19.0, 19.1), "100 as a stranger heard", id="with a stranger, ours"),
        pytest.param((29.3, 29.6), "the customer without a permit", id="after the end"),
    ],
)
def test_what_was_said_without_a_permit_is_found(storm: Storm, more: tuple[float, float], says: str) -> None:
    verdict = storm.seal(sorted([*GOOD, more])).judged()
    assert any(says in one for one in guilt(verdict)), guilt(verdict)


def test_what_runs_on_into_a_hold_for_a_tenth_of_a_second_is_found(storm: Storm) -> None:
    late = [(6.1, HELD[0] + 0.05 + 0.1), *GOOD[1:]]
    assert any("the customer without a permit" in one for one in guilt(storm.seal(late).judged()))


def test_a_hundredth_of_a_second_that_a_stranger_heard_is_found(storm: Storm) -> None:
    late = [GOOD[0], (15.1, JOINED[0] + 0.01), GOOD[2]]
    assert any("as a stranger heard" in one for one in guilt(storm.seal(late).judged()))


def test_a_call_that_was_not_told_may_have_no_file(storm: Storm) -> None:
    storm.play.told_by = ""
    assert guilt(storm.seal(GOOD).judged())


def test_sound_that_nobody_made_is_found(storm: Storm) -> None:
    def doctor(own: Samples, others: Samples) -> None:
        others[8000:12000] = voice(Chirp(300, 900, 15), 0.5, 4.0)  # of another call
        own[20000:22400] = voice(Tone(600), 0.3)

    found = guilt(storm.seal(GOOD, doctor).judged())
    assert any("own side" in one for one in found)
    assert any("without a permit" in one or "others side" in one for one in found)


def test_a_missing_second_is_counted_and_is_wrong_where_no_fault_was_put_in(storm: Storm) -> None:
    parts = [(6.1, 9.0), (10.0, 11.8), *GOOD[1:]]
    whole = storm.seal(GOOD).judged().figures()["recorded of them"]
    storm.play.files.clear()
    verdict = storm.seal(parts).judged()
    assert guilt(verdict) == []
    assert whole - verdict.figures()["recorded of them"] == pytest.approx(1.0, abs=0.02)
    assert any("are missing" in one for one in wrong(verdict))


def test_beside_a_fault_a_declared_gap_is_no_fault_and_is_shown_apart(storm: Storm) -> None:
    storm.faults.append(Fault("killed", ZERO + 8.5, ZERO + 10.5))
    verdict = storm.seal([(6.1, 9.0), (10.0, 11.8), *GOOD[1:]]).judged()
    assert wrong(verdict) == []
    assert verdict.figures()["unrecorded under a fault"] == pytest.approx(1.0, abs=0.05)


def test_beside_a_fault_what_is_missing_without_a_gap_is_bounded_too(storm: Storm) -> None:
    storm.faults.append(Fault("slow", ZERO + 8.5, ZERO + 9.0))
    parts = [(6.1, 9.0), (10.5, 11.8), *GOOD[1:]]
    storm.seal(parts)
    manifest = Path(storm.play.files[0]).with_suffix(".json")
    told = json.loads(manifest.read_text())
    told["gaps"] = told["gaps"][1:]
    manifest.write_text(json.dumps(told))
    assert any("beside gaps and faults (slow)" in one for one in wrong(storm.judged()))


def test_a_guard_that_refuses_everything_does_not_pass(storm: Storm) -> None:
    verdict = storm.judged()
    assert guilt(verdict) == []
    assert verdict.share() == 0
    assert any("is recorded" in one for one in wrong(verdict))


def test_two_files_of_one_call_are_one_too_many(storm: Storm) -> None:
    verdict = storm.seal(GOOD).seal(GOOD).judged()
    assert any("2 files of one call" in one for one in wrong(verdict))


@pytest.mark.parametrize(("parts", "deaf"), [([(6.1, 28.8)], False), (GOOD, True)])
def test_a_recorder_that_nobody_stopped_must_be_found_guilty(storm: Storm, parts: Spans, deaf: bool) -> None:
    names = []
    for side, track in zip(("own", "others"), storm.tracks(parts), strict=True):
        names.append(str(storm.folder / f"{side}.sln"))
        (track * 32767).astype("<i2").tofile(names[-1])
    storm.play.foreign.append(Foreign(names[0], names[1], ZERO + 6.1))
    verdict = storm.seal(GOOD).judged()
    assert any("the oracle is deaf" in one for one in wrong(verdict)) is deaf
    assert guilt(verdict) == []


def test_a_history_is_read_as_it_was_written(storm: Storm, tmp_path: Path) -> None:
    history = History(7, {"desks": []}, plays=[storm.play], faults=[Fault("slow", 1.0, float("inf"))])
    storm.play.closures.append(State("hold", (3.0, float("inf"))))
    history.write(tmp_path / "history.json")
    assert History.read(tmp_path / "history.json") == history


@pytest.mark.parametrize("module", ["oracle", "hearing", "history", "spans", "voices", "picture"])
def test_the_oracle_imports_nothing_of_pbxguard(module: str) -> None:
    code = f"import sys, tests.lab.storm.{module}; sys.exit(any(m.split('.')[0] == 'pbxguard' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sets_of_time() -> None:
    one: Sequence[tuple[float, float]] = [(3, 5), (1, 2), (4, 6)]
    assert union(one) == [(1, 2), (3, 6)]
    assert union(one, bridge_s=1) == [(1, 6)]
    assert common(one, [(1.5, 4)]) == [(1.5, 2), (3, 4)]
    assert without(one, [(1.5, 4)]) == [(1, 1.5), (4, 6)]
    assert seconds(without([(0, 10)], one)) == 6


def test_what_nobody_of_ours_heard_is_no_conversation_of_ours(storm: Storm) -> None:
    """The log knows of no hold, but our phone heard nothing for three seconds."""
    storm.play.closures = [one for one in storm.play.closures if one.kind != "hold"]
    verdict = storm.seal([(6.1, 17.8), GOOD[2]]).judged()
    assert any("the customer without a permit" in one for one in guilt(verdict))


def test_a_hold_that_ended_while_the_guard_was_dead_may_keep_the_call_closed(storm: Storm) -> None:
    storm.faults.append(Fault("killed", ZERO + 13.0, ZERO + 15.5))
    verdict = storm.seal(GOOD[:1]).judged()
    assert not any("are missing" in one for one in wrong(verdict))
    assert verdict.figures()["unrecorded under a fault"] == pytest.approx(10.3, abs=0.8)
