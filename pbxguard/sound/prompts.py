"""Prompts: the sounds of the disclosures and confirmations, and who approved which words in which sound.

Owns the prompts folder: a registry (``prompts.json``) and sound files named by their content, so that what a manifest
cites stays there to be heard, and a running service never plays other bytes than those it loaded. Approved is only
what a named person approved, text and sound digest together, as both are now; anything else is not played and not
recorded. What the texts are is `core/defaults.py`'s business. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from pbxguard.core.confirmations import Confirmation, ConfirmationKey
from pbxguard.core.defaults import Wording, confirmation_text, key_text, notice_text
from pbxguard.core.errors import NotFound, PromptRefused, StorageFailed
from pbxguard.core.purposes import Disclosure, DisclosureKey

from .convert import read_sound, to_prompt
from .speech import Speaker, espeak

LOST_SAMPLES = 22
"""Asterisk's WAV reader loses the last 22 samples (ASTERISK.md)."""
FRAME_MS = 20
"""Asterisk plays whole frames."""
LONGEST_NOTICE_MS = 6000
"""Without the key sentence; `check` warns above it."""
SILENCE_MS = 300
"""Played before each prompt: DTLS and NAT set-up would eat its first word (ASTERISK.md)."""
SILENCE = f"silence-{SILENCE_MS}"
REGISTRY = "prompts.json"
_SCHEMA = 1


PromptKey = DisclosureKey | ConfirmationKey


class State(Enum):
    """What may be done with a prompt."""

    APPROVED = "approved"
    UNAPPROVED = "unapproved"
    """Built, and waiting for somebody's approval."""
    CHANGED = "changed"
    """Text or sound are no longer those that were built or approved."""
    MISSING = "missing"
    """Not built, or its sound is gone."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """One prompt as `pbxguard prompts` shows it."""

    key: PromptKey
    state: State
    text: str
    notice_ms: int = 0
    key_ms: int = 0
    studio: bool = False
    approved_by: str = ""
    approved_at: str = ""

    @property
    def too_long(self) -> bool:
        return self.notice_ms > LONGEST_NOTICE_MS


@dataclass(frozen=True, slots=True)
class Played:
    """A prompt as it once was: for whoever asks what was said to him."""

    prompt: str
    text: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Sound:
    file: str
    sha256: str
    ms: int
    studio: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prompt as built: `key` is None in mode `notice`."""

    text_sha256: str
    notice: _Sound
    key: _Sound | None

    @property
    def sounds(self) -> tuple[_Sound, ...]:
        return (self.notice,) if self.key is None else (self.notice, self.key)

    @property
    def sound_sha256(self) -> str:
        return hashlib.sha256("\n".join(sound.sha256 for sound in self.sounds).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """What a manifest cites: SHA-256 (hex) over the text's digest and the sounds' digest."""
        return hashlib.sha256(f"{self.text_sha256}\n{self.sound_sha256}".encode()).hexdigest()


class Prompts:
    """The prompts folder as pbxguard (`folder`) and as Asterisk (`asterisk_folder`) spell it."""

    def __init__(self, folder: Path, asterisk_folder: PurePosixPath, rate: int, wording: Wording) -> None:
        if rate not in (8000, 16000):
            raise PromptRefused("the rate is 8000 or 16000")
        self.folder = folder
        self.asterisk_folder = asterisk_folder
        self.rate = rate
        self.wording = wording
        # Asterisk's name for 16 kHz WAV; under .wav it reads 8 kHz only.
        self.suffix = ".wav" if rate == 8000 else ".wav16"

    @property
    def silence_sound(self) -> str:
        """The short silence before a prompt, for Asterisk, without extension."""
        return str(self.asterisk_folder / SILENCE)

    def build(
        self,
        keys: Iterable[PromptKey],
        recordings: Mapping[str, Path] | None = None,
        speaker: Speaker = espeak,
        again: bool = False,
    ) -> list[PromptKey]:
        """Make what is missing or has other words now; gives the keys whose sound is new and so needs approval.

        `recordings`: studio recordings in place of speech: ``str(key)`` for the notice, ``str(key) + ".key"`` for the
        key sentence. A studio recording once given stays
        until its words change (then the build refuses, rather than speak over it) or `again` is set, which speaks
        everything anew. Raises PromptRefused, StorageFailed; what was built before the fault stays built.
        """
        keys, recordings = list(keys), dict(recordings or {})
        unknown = set(recordings) - {name for key in keys for name in (str(key), f"{key}.key")}
        if unknown:
            raise NotFound(f"no such prompt: {', '.join(sorted(unknown))}")
        with _storage("the prompts folder cannot be made"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._write(f"{SILENCE}{self.suffix}", self._wav(np.zeros(SILENCE_MS * self.rate // 1000, dtype=np.int16)))
        registry = self._load()
        new = []
        for key in keys:
            before = _entry(registry["prompts"].get(str(key)))
            entry = self._build_one(key, before, recordings, speaker, again)
            if entry != before:
                registry["prompts"][str(key)] = _entry_data(entry)
                registry["spoken"][entry.digest] = {
                    "prompt": str(key),
                    "text": " ".join(text for text in self._texts(key) if text),
                    "files": [sound.file for sound in entry.sounds],
                }
                self._save(registry)
                new.append(key)
        return new

    def approve(self, name: str, person: str, at: datetime) -> PromptState:
        """Tie text and sound of prompt `name` (``str(key)``), as they are now, to a person.

        Raises NotFound for a name that is not built, PromptRefused when its words are no longer the configuration's,
        its sound was changed, or nobody is named.
        """
        if not person.strip() or not person.isprintable():
            raise PromptRefused("a prompt is approved by a named person")
        try:
            key = _parse(name)
        except ValueError:
            raise NotFound("no such prompt") from None
        registry = self._load()
        entry = _entry(registry["prompts"].get(str(key)))
        if entry is None:
            raise NotFound("the prompt is not built: run `pbxguard prompts build` first")
        if entry.text_sha256 != _text_digest(*self._texts(key)) or not self._intact(entry):
            raise PromptRefused("its words or its sound changed since it was built", "Run `pbxguard prompts build`.")
        registry["approvals"][str(key)] = {
            "person": person.strip(),
            "at_utc": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "text_sha256": entry.text_sha256,
            "sound_sha256": entry.sound_sha256,
        }
        self._save(registry)
        return self._state(key, registry)

    def approved(self, keys: Iterable[DisclosureKey]) -> Mapping[DisclosureKey, Disclosure]:
        """Those of `keys` that may be played: approved, with the configuration's words and the files' bytes as they
        are at this moment."""
        registry = self._load()
        found: dict[DisclosureKey, Disclosure] = {}
        for key in keys:
            state = self._state(key, registry)
            entry = _entry(registry["prompts"].get(str(key)))
            if state.state is not State.APPROVED or entry is None:
                continue
            found[key] = Disclosure(
                key=key,
                text=state.text,
                digest=entry.digest,
                notice_sound=self._for_asterisk(entry.notice),
                notice_ms=entry.notice.ms,
                key_sound=self._for_asterisk(entry.key) if entry.key else "",
                key_ms=entry.key.ms if entry.key else 0,
                approved_by=state.approved_by,
                approved_at=state.approved_at,
            )
        return MappingProxyType(found)

    def confirmations(self, keys: Iterable[ConfirmationKey]) -> list[Confirmation]:
        """Those of `keys` that may be said, as `approved`."""
        registry = self._load()
        found = []
        for key in keys:
            entry = _entry(registry["prompts"].get(str(key)))
            if entry is not None and self._state(key, registry).state is State.APPROVED:
                found.append(Confirmation(key, self._for_asterisk(entry.notice), entry.notice.ms))
        return found

    def states(self, keys: Iterable[PromptKey]) -> list[PromptState]:
        """How each of `keys` stands, in their order."""
        registry = self._load()
        return [self._state(key, registry) for key in keys]

    def played(self, digest: str) -> Played:
        """The words and sounds that a manifest cites by `digest`, also when others are built now; raises NotFound."""
        data = self._load()["spoken"].get(digest)
        try:
            if data is not None:
                files = tuple(self.folder / _plain_name(file) for file in data["files"])
                return Played(str(data["prompt"]), str(data["text"]), files)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageFailed("the prompts' registry is broken") from error
        raise NotFound("no prompt ever had that digest")

    def text_behind(self, key: str, digest: str) -> str:
        """The words that `digest` stands for, or empty when they are not known as those of prompt `key`."""
        try:
            played = self.played(digest)
        except (NotFound, StorageFailed):
            return ""
        return played.text if played.prompt == key else ""

    # -- building ----------------------------------------------------------------------------------------------------

    def _build_one(
        self,
        key: PromptKey,
        before: _Entry | None,
        recordings: Mapping[str, Path],
        speaker: Speaker,
        again: bool,
    ) -> _Entry:
        notice, ask = self._texts(key)
        digest = _text_digest(notice, ask)
        if not ask and f"{key}.key" in recordings:
            raise PromptRefused(f"{key} has no key sentence")
        unchanged = before is not None and before.text_sha256 == digest

        def sound(part: str, text: str, name: str, old: _Sound | None) -> _Sound:
            if name in recordings:
                samples, rate = read_sound(recordings[name])
            elif old is not None and not again and unchanged and self._right(old):
                return old
            elif old is not None and not again and old.studio:
                raise PromptRefused(
                    f"the words of {key} changed, or its studio recording did",
                    "Give `prompts build` a recording of the words as they are now, or speak all anew with --again.",
                )
            else:
                samples, rate = speaker(text, key.language)
            return self._store(f"{key}-{part}", to_prompt(samples, rate, self.rate), name in recordings)

        old_notice, old_key = (before.notice, before.key) if before is not None else (None, None)
        return _Entry(
            digest,
            sound("notice", notice, str(key), old_notice),
            sound("key", ask, f"{key}.key", old_key) if ask else None,
        )

    def _store(self, stem: str, samples: NDArray[np.int16], studio: bool) -> _Sound:
        frame = FRAME_MS * self.rate // 1000
        played = -(-len(samples) // frame) * frame
        content = self._wav(np.concatenate([samples, np.zeros(played - len(samples), dtype=np.int16)]))
        digest = hashlib.sha256(content).hexdigest()
        file = f"{stem}-{digest[:12]}{self.suffix}"
        self._write(file, content)
        return _Sound(file, digest, played * 1000 // self.rate, studio)

    def _wav(self, samples: NDArray[np.int16]) -> bytes:
        """As a file that Asterisk plays whole: with the samples behind it that its reader loses."""
        buffer = io.BytesIO()
        padded = np.concatenate([samples, np.zeros(LOST_SAMPLES, dtype=np.int16)])
        soundfile.write(buffer, padded, self.rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    # -- what is there -----------------------------------------------------------------------------------------------

    def _state(self, key: PromptKey, registry: Mapping[str, Any]) -> PromptState:
        entry = _entry(registry["prompts"].get(str(key)))
        approval = registry["approvals"].get(str(key))
        if not isinstance(approval, Mapping | None):
            raise StorageFailed("the prompts' registry is broken")
        by, at = (str(approval.get("person", "")), str(approval.get("at_utc", ""))) if approval else ("", "")
        try:
            notice, ask = self._texts(key)
        except PromptRefused:
            return PromptState(key, State.MISSING, "")
        text = f"{notice} {ask}".rstrip()
        if entry is None or not all((self.folder / sound.file).is_file() for sound in entry.sounds):
            return PromptState(key, State.MISSING, text)
        unchanged = entry.text_sha256 == _text_digest(notice, ask) and self._intact(entry)
        if not unchanged:
            state = State.CHANGED
        elif not approval:
            state = State.UNAPPROVED
        elif (approval.get("text_sha256"), approval.get("sound_sha256")) == (entry.text_sha256, entry.sound_sha256):
            state = State.APPROVED
        else:
            state = State.CHANGED
        return PromptState(
            key,
            state,
            text,
            notice_ms=entry.notice.ms,
            key_ms=entry.key.ms if entry.key else 0,
            studio=any(sound.studio for sound in entry.sounds),
            approved_by=by if state is State.APPROVED else "",
            approved_at=at if state is State.APPROVED else "",
        )

    def _texts(self, key: PromptKey) -> tuple[str, str]:
        """Notice and key sentence as the configuration has them now."""
        try:
            if isinstance(key, ConfirmationKey):
                return confirmation_text(key), ""
            return notice_text(key, self.wording), key_text(key)
        except (KeyError, ValueError) as error:
            raise PromptRefused(f"{key} has no text", "Set its texts under [purposes.NAME].") from error

    def _intact(self, entry: _Entry) -> bool:
        return all(self._right(sound) for sound in entry.sounds)

    def _right(self, sound: _Sound) -> bool:
        """Whether its file has the bytes that were built, at the installation's rate."""
        if not sound.file.endswith(self.suffix):
            return False
        try:
            content = (self.folder / sound.file).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(content).hexdigest() == sound.sha256

    def _for_asterisk(self, sound: _Sound) -> str:
        return str(self.asterisk_folder / sound.file.removesuffix(self.suffix))

    def _load(self) -> dict[str, Any]:
        try:
            raw = json.loads((self.folder / REGISTRY).read_bytes())
        except FileNotFoundError:
            return {"schema": _SCHEMA, "prompts": {}, "approvals": {}, "spoken": {}}
        except (OSError, ValueError, RecursionError) as error:
            raise StorageFailed("the prompts' registry cannot be read") from error
        if not isinstance(raw, dict) or raw.get("schema") != _SCHEMA:
            raise StorageFailed("the prompts' registry is of another version")
        for part in ("prompts", "approvals", "spoken"):
            if not isinstance(raw.get(part), dict):
                raise StorageFailed("the prompts' registry is broken")
        return raw

    def _save(self, registry: Mapping[str, Any]) -> None:
        self._write(
            REGISTRY, json.dumps(registry, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n", 0o640
        )

    def _write(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Whole or not at all; sounds are readable for Asterisk."""
        path = self.folder / name
        part = path.with_name(f".{name}.part")
        with _storage("the prompts folder cannot be written"):
            try:
                with open(part, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(part, mode)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)


def _parse(name: str) -> PromptKey:
    """Raises ValueError."""
    return ConfirmationKey.parse(name) if name.count(".") == 1 else DisclosureKey.parse(name)


def _text_digest(notice: str, ask: str) -> str:
    return hashlib.sha256(f"{notice}\n{ask}".encode()).hexdigest()


def _entry(data: Mapping[str, Any] | None) -> _Entry | None:
    if data is None:
        return None
    try:
        key = data["key"]
        return _Entry(str(data["text_sha256"]), _sound(data["notice"]), None if key is None else _sound(key))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise StorageFailed("the prompts' registry is broken") from error


def _sound(data: Mapping[str, Any]) -> _Sound:
    return _Sound(_plain_name(str(data["file"])), str(data["sha256"]), int(data["ms"]), bool(data["studio"]))


def _plain_name(file: str) -> str:
    if not file.isprintable() or "/" in file or file.startswith("."):
        raise ValueError("not a file of the prompts folder")
    return file


def _entry_data(entry: _Entry) -> dict[str, Any]:
    def sound(one: _Sound) -> dict[str, Any]:
        return {"file": one.file, "sha256": one.sha256, "ms": one.ms, "studio": one.studio}

    return {
        "text_sha256": entry.text_sha256,
        "notice": sound(entry.notice),
        "key": sound(entry.key) if entry.key else None,
    }


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what}: {os.strerror(error.errno) if error.errno else 'failed'}") from error
