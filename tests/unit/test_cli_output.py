"""What a terminal is sent: a caller's text is shown, and obeyed by nobody."""

from __future__ import annotations

import json

import pytest

from pbxguard.cli.options import emit, tell
from pbxguard.core.errors import WrongUse

HOSTILE = "\x1b[2J\x9b31m\u202e\u2066\x7f\udcff \u00e9"


def test_json_is_plain_ascii_and_reads_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"number": HOSTILE}, True, "")
    tell(WrongUse(HOSTILE), True)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert json.loads(lines[0]) == {"number": HOSTILE}
    assert json.loads(lines[1])["error"]["message"] == HOSTILE


def test_words_are_shown_without_what_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    emit({}, False, f"a {HOSTILE}\nb")
    tell(WrongUse(HOSTILE), False)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert "\u00e9" in text
    assert out.count("\n") == 2
