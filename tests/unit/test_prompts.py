"""Prompts: built, recorded, approved, and refused once anything about them changed."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile

from pbxguard.core.confirmations import ConfirmationKey, Effect
from pbxguard.core.defaults import COMPLAINT_HANDLING, CONTRACT_EVIDENCE, LANGUAGES, MIFID_ORDER, PURPOSES, Wording
from pbxguard.core.errors import NotFound, PromptRefused, StorageFailed
from pbxguard.core.ids import PurposeName
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.sound.convert import Mono, resample, to_prompt
from pbxguard.sound.prompts import LOST_SAMPLES, Prompts, State
from pbxguard.sound.speech import espeak

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACME = Wording("Acme")
NOTICE = DisclosureKey.of((CONTRACT_EVIDENCE,), "nl", Mode.NOTICE, Direction.INBOUND)
OPT_OUT = DisclosureKey.of((CONTRACT_EVIDENCE,), "nl", Mode.OPT_OUT, Direction.INBOUND)
PERSON = "J. de Vries"


class Voice:
    """Says every text as a tone of its own, as long as the text, and remembers what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str, language: str) -> tuple[Mono, int]:
        self.said.append(text)
        seconds = len(text) / 50
        return 0.3 * np.sin(2 * np.pi * (300 + len(text)) * np.arange(int(seconds * 22050)) / 22050), 22050


def prompts(folder: Path, rate: int = 8000, wording: Wording = ACME) -> Prompts:
    return Prompts(folder / "prompts", PurePosixPath("/var/lib/sounds"), rate, wording)


def tone_file(path: Path, seconds: float = 1.0, rate: int = 44100, channels: int = 1) -> Path:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.column_stack([tone] * channels), rate)
    return path


def peak_hz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


# -- building ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "suffix"), [(8000, ".wav"), (16000, ".wav16")])
def test_a_prompt_is_mono_16_bit_at_the_installations_rate(tmp_path: Path, rate: int, suffix: str) -> None:
    made = prompts(tmp_path, rate)
    assert made.build([OPT_OUT], speaker=Voice()) == [OPT_OUT]
    sounds = sorted(p for p in made.folder.iterdir() if p.suffix == suffix)
    assert len(sounds) == 3, "notice, key sentence and silence"
    for path in sounds:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (rate, 1, "PCM_16")


def test_notice_and_key_sentence_are_separate_sounds(tmp_path: Path) -> None:
    voice = Voice()
    made = prompts(tmp_path)
    made.build([NOTICE, OPT_OUT], speaker=voice)
    assert voice.said == [
        "Acme neemt dit gesprek op als bewijs van wat wij bespreken en afspreken.",
        "Acme neemt dit gesprek op als bewijs van wat wij bespreken en afspreken.",
        "Toets 9 of zeg het als u dit niet wilt.",
    ]
    notice, opt_out = made.states([NOTICE, OPT_OUT])
    assert notice.key_ms == 0
    assert opt_out.key_ms > 0


def test_the_length_is_what_asterisk_plays_and_nothing_audible_is_in_what_it_loses(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    (path,) = [p for p in made.folder.iterdir() if "notice-" in p.name]
    samples, _ = soundfile.read(path, dtype="int16")
    (state,) = made.states([NOTICE])
    assert (len(samples) - LOST_SAMPLES) * 1000 / 8000 == state.notice_ms
    assert state.notice_ms % 20 == 0
    assert not samples[-LOST_SAMPLES:].any()
    audible = np.flatnonzero(np.abs(samples.astype(int)) > 200)
    assert audible[-1] < len(samples) - LOST_SAMPLES


def test_building_again_changes_nothing(tmp_path: Path) -> None:
    made, voice = prompts(tmp_path), Voice()
    made.build([OPT_OUT], speaker=voice)
    before = sorted(made.folder.iterdir())
    assert made.build([OPT_OUT], speaker=voice) == []
    assert len(voice.said) == 2
    assert sorted(made.folder.iterdir()) == before


def test_a_sound_that_is_gone_is_built_again(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    for path in made.folder.glob("*notice-*"):
        path.unlink()
    assert made.states([NOTICE])[0].state is State.MISSING
    made.build([NOTICE], speaker=Voice())
    assert made.states([NOTICE])[0].state is State.UNAPPROVED


def test_other_words_are_a_new_file_and_the_old_one_stays_to_be_heard(tmp_path: Path) -> None:
    prompts(tmp_path).build([NOTICE], speaker=Voice())
    renamed = prompts(tmp_path, wording=Wording("Acme Energie"))
    assert renamed.states([NOTICE])[0].state is State.CHANGED
    assert renamed.build([NOTICE], speaker=Voice()) == [NOTICE]
    assert len(list(renamed.folder.glob("*notice-*"))) == 2


def test_the_words_that_a_manifest_cites_are_found_when_others_are_spoken_now(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([OPT_OUT], speaker=Voice())
    made.approve(str(OPT_OUT), PERSON, AT)
    cited = made.approved([OPT_OUT])[OPT_OUT]
    renamed = prompts(tmp_path, wording=Wording("Acme Energie"))
    renamed.build([OPT_OUT], speaker=Voice())
    assert renamed.text_behind(str(OPT_OUT), cited.digest) == cited.text
    assert all(path.is_file() for path in renamed.played(cited.digest).files)
    assert renamed.text_behind(str(NOTICE), cited.digest) == ""
    assert renamed.text_behind(str(OPT_OUT), "0" * 64) == ""
    with pytest.raises(NotFound):
        renamed.played("0" * 64)


def test_a_notice_over_six_seconds_is_marked(tmp_path: Path) -> None:
    made = prompts(tmp_path, wording=Wording("A" * 300))
    made.build([NOTICE], speaker=Voice())
    assert made.states([NOTICE])[0].too_long


def test_a_purpose_without_words_is_missing_and_cannot_be_built(tmp_path: Path) -> None:
    strange = DisclosureKey.of((PurposeName("dispute"),), "nl", Mode.NOTICE, Direction.INBOUND)
    made = prompts(tmp_path)
    assert made.states([strange])[0].state is State.MISSING
    with pytest.raises(PromptRefused):
        made.build([strange], speaker=Voice())


def test_a_rate_that_no_installation_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptRefused):
        prompts(tmp_path, rate=44100)


# -- studio recordings ----------------------------------------------------------------------------------------------


def test_a_studio_recording_takes_the_place_of_speech(tmp_path: Path) -> None:
    made, voice = prompts(tmp_path), Voice()
    studio = tone_file(tmp_path / "studio.wav", seconds=2.0, channels=2)
    made.build([OPT_OUT], {str(OPT_OUT): studio}, voice)
    assert voice.said == ["Toets 9 of zeg het als u dit niet wilt."]
    (state,) = made.states([OPT_OUT])
    assert state.studio
    assert 1980 <= state.notice_ms <= 2100
    (path,) = made.folder.glob("*notice-*")
    samples, rate = soundfile.read(path)
    assert abs(peak_hz(samples, rate) - 440) < 2


def test_a_studio_recording_stays_when_building_again(tmp_path: Path) -> None:
    made, voice = prompts(tmp_path), Voice()
    made.build([NOTICE], {str(NOTICE): tone_file(tmp_path / "s.wav")}, voice)
    assert made.build([NOTICE], speaker=voice) == []
    assert voice.said == []


def test_speech_never_takes_the_place_of_a_studio_recording_by_itself(tmp_path: Path) -> None:
    key_sentence = tone_file(tmp_path / "s.wav")
    prompts(tmp_path).build([OPT_OUT], {f"{OPT_OUT}.key": key_sentence}, Voice())
    renamed = prompts(tmp_path, wording=Wording("Acme Energie"))
    with pytest.raises(PromptRefused) as refused:
        renamed.build([OPT_OUT], speaker=Voice())
    assert "--again" in refused.value.diagnostics()
    assert renamed.build([OPT_OUT], speaker=Voice(), again=True) == [OPT_OUT]
    assert not renamed.states([OPT_OUT])[0].studio


@pytest.mark.parametrize("name", ["holiday", f"{NOTICE}.key.key", f"{OPT_OUT}"])
def test_a_recording_for_no_prompt_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        prompts(tmp_path).build([NOTICE], {name: tone_file(tmp_path / "s.wav")}, Voice())


def test_a_recording_that_is_no_sound_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF but no more")
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(8000), 8000)
    for path in (broken, silent, tmp_path / "gone.wav", tone_file(tmp_path / "short.wav", seconds=0.05)):
        with pytest.raises(PromptRefused):
            prompts(tmp_path).build([NOTICE], {str(NOTICE): path}, Voice())
    with pytest.raises(PromptRefused):
        prompts(tmp_path).build([NOTICE], {f"{NOTICE}.key": tone_file(tmp_path / "s.wav")}, Voice())


# -- approval -------------------------------------------------------------------------------------------------------


def test_unapproved_is_not_played_and_approved_is(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE, OPT_OUT], speaker=Voice())
    assert made.approved([NOTICE, OPT_OUT]) == {}
    state = made.approve(str(OPT_OUT), PERSON, AT)
    assert state.state is State.APPROVED
    (disclosure,) = made.approved([NOTICE, OPT_OUT]).values()
    assert disclosure.key == OPT_OUT
    assert (disclosure.approved_by, disclosure.approved_at) == (PERSON, "2026-03-01T12:00:00Z")
    assert disclosure.text.endswith("afspreken. Toets 9 of zeg het als u dit niet wilt.")
    assert disclosure.notice_sound.startswith("/var/lib/sounds/contract_evidence.nl.opt_out.inbound-notice-")
    for sound in (disclosure.notice_sound, disclosure.key_sound, made.silence_sound):
        assert (made.folder / f"{PurePosixPath(sound).name}.wav").is_file()
    assert len(disclosure.digest) == 64
    assert len(made.played(disclosure.digest).files) == 2


def test_a_changed_byte_of_sound_takes_the_approval_away(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    made.approve(str(NOTICE), PERSON, AT)
    (path,) = made.folder.glob("*notice-*")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert made.approved([NOTICE]) == {}
    assert made.states([NOTICE])[0].state is State.CHANGED
    with pytest.raises(PromptRefused):
        made.approve(str(NOTICE), PERSON, AT)


def test_changed_words_take_the_approval_away_also_once_they_are_built(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    made.approve(str(NOTICE), PERSON, AT)
    before = made.approved([NOTICE])[NOTICE].digest
    renamed = prompts(tmp_path, wording=Wording("Acme Energie"))
    assert renamed.approved([NOTICE]) == {}
    with pytest.raises(PromptRefused):
        renamed.approve(str(NOTICE), PERSON, AT)
    renamed.build([NOTICE], speaker=Voice())
    assert renamed.approved([NOTICE]) == {}
    assert renamed.states([NOTICE])[0].state is State.CHANGED
    renamed.approve(str(NOTICE), PERSON, AT)
    assert renamed.approved([NOTICE])[NOTICE].digest != before


def test_a_missing_file_takes_the_approval_away(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([OPT_OUT], speaker=Voice())
    made.approve(str(OPT_OUT), PERSON, AT)
    next(made.folder.glob("*key-*")).unlink()
    assert made.approved([OPT_OUT]) == {}
    assert made.states([OPT_OUT])[0].state is State.MISSING


def test_a_sound_of_another_rate_is_not_played(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    made.approve(str(NOTICE), PERSON, AT)
    wide = prompts(tmp_path, rate=16000)
    assert wide.approved([NOTICE]) == {}
    assert wide.build([NOTICE], speaker=Voice()) == [NOTICE]
    assert wide.approved([NOTICE]) == {}


@pytest.mark.parametrize("person", ["", "  ", "J.\nde Vries"])
def test_nobody_cannot_approve(tmp_path: Path, person: str) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    with pytest.raises(PromptRefused):
        made.approve(str(NOTICE), person, AT)


@pytest.mark.parametrize("name", ["", "holiday", str(OPT_OUT), "../../x.nl.notice.inbound"])
def test_what_is_not_built_cannot_be_approved(tmp_path: Path, name: str) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    with pytest.raises(NotFound):
        made.approve(name, PERSON, AT)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "prompts": 1}'])
def test_a_broken_registry_approves_nothing(tmp_path: Path, content: str) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    (made.folder / "prompts.json").write_text(content)
    with pytest.raises(StorageFailed):
        made.approved([NOTICE])


def test_a_registry_cannot_point_out_of_the_folder(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    made.build([NOTICE], speaker=Voice())
    registry = json.loads((made.folder / "prompts.json").read_text())
    registry["prompts"][str(NOTICE)]["notice"]["file"] = "../x.wav"
    (made.folder / "prompts.json").write_text(json.dumps(registry))
    with pytest.raises(StorageFailed):
        made.approved([NOTICE])


# -- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("wanted", [8000, 16000])
def test_a_tone_keeps_its_pitch_its_level_and_its_place(rate: int, wanted: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    made = resample(tone, rate, wanted)
    expected = np.sin(2 * np.pi * 1000 * np.arange(wanted) / wanted)
    assert len(made) == wanted
    middle = slice(wanted // 10, -wanted // 10)
    assert np.abs(made[middle] - expected[middle]).max() < 0.01


def test_what_a_lower_rate_cannot_carry_does_not_fold_back() -> None:
    tone = np.sin(2 * np.pi * 5000 * np.arange(44100) / 44100)
    assert np.abs(resample(tone, 44100, 8000)[800:-800]).max() < 0.01


def test_a_prompt_is_levelled_and_trimmed() -> None:
    tone = 0.01 * np.sin(2 * np.pi * 500 * np.arange(8000) / 8000)
    made = to_prompt(np.concatenate([np.zeros(8000), tone, np.zeros(8000)]), 8000, 8000)
    assert 8000 <= len(made) <= 8000 + 2 * 400 + 2
    assert 0.69 < np.abs(made).max() / 32767 < 0.7001


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_says_every_language_within_six_seconds(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    keys = [
        DisclosureKey.of((purpose,), language, Mode.OPT_OUT, Direction.INBOUND)
        for purpose in PURPOSES
        for language in LANGUAGES
    ]
    made.build(keys)
    for state in made.states(keys):
        assert state.state is State.UNAPPROVED
        assert 1500 < state.notice_ms <= 6000, state.key
        assert 1000 < state.key_ms <= 6000


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_what_came_of_an_objection_is_said_within_six_seconds_in_every_language(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    keys = [ConfirmationKey.of(effect, language) for effect in Effect for language in LANGUAGES]
    assert made.build(keys) == keys
    for state in made.states(keys):
        assert (state.state, state.key_ms) == (State.UNAPPROVED, 0)
        assert 1000 < state.notice_ms <= 6000, state.key


def test_a_confirmation_is_said_once_somebody_approved_it_and_no_longer_once_its_sound_changed(tmp_path: Path) -> None:
    made, key = prompts(tmp_path), ConfirmationKey.of(Effect.LOCKED, "nl")
    made.build([key, NOTICE], speaker=Voice())
    assert made.confirmations([key]) == []
    made.approve(str(NOTICE), PERSON, AT)
    assert made.confirmations([key]) == []
    made.approve(str(key), PERSON, AT)
    (said,) = made.confirmations([key])
    assert said.key == key
    assert said.sound.startswith("/var/lib/sounds/objection_locked.nl-notice-")
    (file,) = made.folder.glob("objection_locked.nl-notice-*.wav")
    assert said.length_ms > 0
    file.write_bytes(file.read_bytes() + b"x")
    assert made.confirmations([key]) == []
    assert list(made.approved([NOTICE])) == [NOTICE]


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_text_that_looks_like_an_option_is_spoken() -> None:
    samples, rate = espeak("--version", "nl")
    assert len(samples) > rate / 4
    with pytest.raises(PromptRefused):
        espeak("x", "-w")
    with pytest.raises(PromptRefused):
        espeak("x", "qq")


def test_without_espeak_the_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbxguard.sound.speech.PROGRAM", "no-such-program")
    with pytest.raises(PromptRefused) as refused:
        espeak("x", "nl")
    assert "espeak-ng" in refused.value.diagnostics()


def test_every_shipped_disclosure_has_a_safe_name() -> None:
    key = DisclosureKey.of((MIFID_ORDER, COMPLAINT_HANDLING), "fr", Mode.OPT_IN, Direction.OUTBOUND)
    assert set(str(key)) <= set("abcdefghijklmnopqrstuvwxyz_+.")
