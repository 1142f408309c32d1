"""Speech by espeak-ng, a program of its own (GPL: separately installed, never part of the package). Blocking."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from pbxguard.core.errors import PromptRefused

from .convert import Mono, read_sound

VOICES = {"nl": "nl", "en": "en-gb", "de": "de", "fr": "fr"}
SPEAK_SECONDS = 30.0
PROGRAM = "espeak-ng"


class Speaker(Protocol):
    """Says a text in a language (ISO 639-1); gives samples and their rate."""

    def __call__(self, text: str, language: str) -> tuple[Mono, int]: ...


def espeak(text: str, language: str) -> tuple[Mono, int]:
    """Speak; raises PromptRefused when the program is missing, fails or takes too long.

    The text goes through standard input: it may begin with a dash, and is no argument.
    """
    voice = VOICES.get(language, language)
    if not (voice.isascii() and voice.replace("-", "").isalpha()):
        raise PromptRefused("not a language")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "speech.wav"
        command = [PROGRAM, "-v", voice, "-b", "1", "--stdin", "-w", str(target)]
        try:
            subprocess.run(  # noqa: S603 -- a fixed program, checked arguments, no shell
                command, input=text.encode("utf-8", "replace"), capture_output=True, check=True, timeout=SPEAK_SECONDS
            )
        except FileNotFoundError as error:
            raise PromptRefused(
                "espeak-ng is not installed", "apt-get install espeak-ng, or give recordings"
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise PromptRefused("espeak-ng failed", f"Is there a voice for {language!r}? espeak-ng --voices") from error
        return read_sound(target)
