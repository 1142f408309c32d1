"""The checker on sound made here, through A-law as a telephone line would: what it says must be what is there."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from tests.lab import checker
from tests.lab.checker import CheckFailed, Detector, Track
from tests.lab.signals import VOICES, Chirp, Tone, alaw, from_alaw

RATE = 8000
A, B, C = VOICES[:3]


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return Tone(hertz).samples(rate)[: round(seconds * rate)]


def chirp(start_s: float, seconds: float, rate: int = RATE) -> np.ndarray:
    samples = Chirp().samples(rate)
    return np.concatenate([samples, samples])[round(start_s * rate) :][: round(seconds * rate)]


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate))


def line(*parts: np.ndarray) -> Track:
    """The parts one after the other, as a telephone line carries them."""
    return Track(from_alaw(alaw(np.concatenate(parts))), RATE)


def test_a_tones_beginning_and_end_are_placed_within_two_milliseconds() -> None:
    track = line(silence(0.5), tone(A, 1.0), silence(0.5))
    (span,) = checker.spans(track, A)
    assert span.start_s == pytest.approx(0.5, abs=0.002)
    assert span.end_s == pytest.approx(1.5, abs=0.002)
    assert span.amplitude == pytest.approx(0.3, rel=0.05)


def test_no_voice_is_taken_for_another() -> None:
    for hertz in VOICES:
        track = line(tone(hertz, 1.0))
        assert set(checker.voices(track, VOICES, Chirp())) == {f"{hertz:g}"}
    assert set(checker.voices(line(chirp(3.0, 2.0)), VOICES, Chirp())) == {"chirp"}


def test_a_detector_finds_every_burst_that_it_claims_to_find_and_nothing_else() -> None:
    heard = line(tone(A, 0.4) + chirp(0.0, 0.4), tone(A, 0.4) + chirp(0.4, 0.4) + tone(C, 0.4))
    clean = line(tone(A, 1.0) + chirp(5.0, 1.0))
    detector = Detector.calibrate(C, present=heard, absent=clean)
    assert detector.control == pytest.approx(0.3, rel=0.1)
    assert detector.shortest_s <= 0.005
    assert detector.find(clean) == []
    (span,) = detector.find(heard)
    assert span.start_s == pytest.approx(0.4, abs=0.006)
    for start in np.arange(0.0, 0.9, 0.0137):
        burst = clean.samples.copy()
        first, length = round(start * RATE), round(detector.shortest_s * RATE)
        burst[first : first + length] += tone(C, 1.0)[:length]
        assert detector.find(Track(from_alaw(alaw(burst)), RATE)), f"burst at {start:.3f} s not found"


def test_a_detector_without_a_positive_control_is_refused() -> None:
    with pytest.raises(CheckFailed, match="positive control"):
        Detector.calibrate(C, present=line(tone(A, 0.5)), absent=line(tone(B, 0.5)))


@pytest.mark.parametrize("start_s", [0.0, 1.2345, 9.87, 13.9])
def test_a_chirp_tells_the_time_of_every_sample_within_a_millisecond(start_s: float) -> None:
    track = line(silence(0.02), chirp(start_s, 3.0) + tone(B, 3.0), silence(0.3))
    (stretch, *rest) = checker.chirp_stretches(track, Chirp())
    if start_s < 12:  # else the sweep begins anew inside
        assert rest == []
        assert stretch.end_s == pytest.approx(3.02, abs=0.002)
    assert stretch.start_s == pytest.approx(0.02, abs=0.002)
    assert stretch.first_said_s == pytest.approx(start_s, abs=0.002)
    assert checker.chirp_time(track, Chirp(), 0.52) == pytest.approx(start_s + 0.5, abs=0.001)


def test_a_cut_in_a_chirp_is_seen_and_measured() -> None:
    track = line(chirp(2.0, 1.0), chirp(4.0, 1.5))
    before, after = checker.chirp_stretches(track, Chirp())
    assert before.last_said_s == pytest.approx(3.0, abs=0.002)
    assert after.first_said_s == pytest.approx(4.0, abs=0.002)
    assert before.end_s == pytest.approx(1.0, abs=0.003)
    assert after.start_s == pytest.approx(1.0, abs=0.003)


def test_a_lost_packet_is_seen_as_a_jump_of_its_length() -> None:
    track = line(chirp(1.0, 1.0), chirp(2.02, 1.0))
    before, after = checker.chirp_stretches(track, Chirp())
    assert after.offset_s - before.offset_s == pytest.approx(0.02, abs=0.001)


def test_a_chirp_after_silence_and_under_another_voice_begins_where_it_begins() -> None:
    track = line(tone(B, 0.5), chirp(7.0, 1.0) + tone(B, 1.0), tone(B, 0.25), chirp(8.25, 0.5), silence(0.4))
    first, second = checker.chirp_stretches(track, Chirp())
    assert (first.start_s, first.end_s) == pytest.approx((0.5, 1.5), abs=0.002)
    assert (second.start_s, second.end_s) == pytest.approx((1.75, 2.25), abs=0.002)
    assert second.offset_s == pytest.approx(first.offset_s, abs=0.001)


def test_silence_and_speechlike_noise_hold_no_chirp() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, RATE)
    assert checker.chirp_stretches(line(silence(1.0)), Chirp()) == []
    assert checker.chirp_stretches(line(noise), Chirp()) == []
    assert checker.chirp_time(line(silence(1.0)), Chirp(), 0.5) is None


def test_a_prompt_is_located_and_a_cut_one_is_not_complete() -> None:
    speech = Track(np.random.default_rng(2).normal(0, 0.1, RATE * 2), RATE)
    whole = line(silence(0.7), speech.samples, silence(0.2))
    found = checker.locate(whole, speech)
    assert found is not None
    assert found.complete
    assert (found.start_s, found.end_s) == pytest.approx((0.7, 2.7), abs=0.001)
    cut = checker.locate(line(silence(0.7), speech.samples[: round(1.25 * RATE)], silence(2)), speech)
    assert cut is not None
    assert not cut.complete
    assert cut.heard_s == pytest.approx(1.2, abs=0.001)
    assert checker.locate(line(silence(0.7), tone(A, 2.0)), speech) is None


def test_a_prompt_that_slips_is_followed_to_its_end_and_a_cut_one_still_is_not_complete() -> None:
    speech = Track(np.random.default_rng(2).normal(0, 0.1, RATE * 2), RATE)
    early, late = speech.samples[: round(1.25 * RATE)], speech.samples[round(1.25 * RATE) :]
    slipped = line(silence(0.7), early, silence(0.04), late, silence(0.5))
    stiff = checker.locate(slipped, speech)
    assert stiff is not None
    assert not stiff.complete
    found = checker.locate(slipped, speech, most_slip_s=0.2)
    assert found is not None
    assert found.complete
    assert found.end_s == pytest.approx(2.74, abs=0.001)
    cut = checker.locate(line(silence(0.7), early, silence(2)), speech, most_slip_s=0.2)
    assert cut is not None
    assert not cut.complete
    assert cut.end_s == pytest.approx(1.9, abs=0.001)
    soon = line(silence(0.7), speech.samples[: round(0.25 * RATE)], silence(0.04), speech.samples[round(0.25 * RATE) :])
    found = checker.locate(soon, speech, most_slip_s=0.2)
    assert found is not None
    assert found.complete
    assert found.end_s == pytest.approx(2.74, abs=0.001)


def test_loudness_is_told_relative_to_the_loudest() -> None:
    track = line(tone(A, 1.0) + 0.1 * tone(C, 1.0))
    assert checker.relative_db(track, C, 0.05) == pytest.approx(-20, abs=1)


def test_any_sound_is_found_with_its_pauses() -> None:
    found = checker.sounds(line(silence(0.2), tone(A, 0.5), silence(0.02), tone(B, 0.3), silence(0.5), tone(C, 0.1)))
    assert [round(span.start_s, 1) for span in found] == [0.2, 1.5]


def test_wav_and_flac_read_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    stereo = np.stack([tone(A, 0.5), tone(B, 0.5)], axis=1)
    for name in ("both.wav", "both.flac"):
        soundfile.write(folder / name, stereo, RATE, subtype="PCM_16")
        left, right = checker.read(folder / name)
        assert (set(checker.voices(left, VOICES)), set(checker.voices(right, VOICES))) == ({f"{A:g}"}, {f"{B:g}"})


def test_wideband_files_are_measured_alike() -> None:
    track = Track(np.concatenate([silence(0.1, 16000), chirp(3.0, 2.0, 16000)]), 16000)
    (stretch,) = checker.chirp_stretches(track, Chirp())
    assert stretch.first_said_s == pytest.approx(3.0, abs=0.002)
