"""How the demo looks, from fixed data: whole at 100 columns, and readable without colour."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from pbxguard.core.reasons import WORDS
from tests.lab import demo, demo_screen, kept
from tests.lab.asterisk import REPO
from tests.lab.asterisk import Line as Account
from tests.lab.demo_invitation import YOURS, invitation
from tests.lab.installation import Installation
from tests.lab.phone import Phone, PhoneCall, Phones, Ring
from tests.lab.picture import (
    NARROW,
    WIDTH,
    Bar,
    Line,
    Mark,
    Row,
    Timeline,
    Track,
    fitting,
    progress,
    table,
    timeline,
)
from tests.lab.signals import Silence
from tests.lab.stories import TITLES, Story
from tests.lab.verdicts import Verdict


def plain(one: RenderableType, width: int = WIDTH) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(one)
    return out.getvalue().splitlines()


TRANSFERRED = Timeline(
    10.0,
    [
        Track("the customer", "the notice", [Bar(0.5, 4.0, "told")]),
        Track("the customer", "the agent", [Bar(5.0, 8.0)]),
        Track("the sealed file", "both", [Bar(5.0, 8.0, "3.0 s")], fill="="),
    ],
    [Mark(4.0, "told"), Mark(8.0, "the agent's phone transfers him to somebody else")],
)


def test_every_line_of_the_timeline_fits() -> None:
    for width in (80, 100):
        lines = plain(timeline(TRANSFERRED, width), width)
        assert max(map(len, lines)) <= width
        assert len(lines) == 2 + 3 + 1 + 2


def test_bars_lie_below_their_seconds() -> None:
    numbers, _, notice, agent, file, *_ = plain(timeline(TRANSFERRED))
    at = {second: numbers.index(f"{second} s") for second in (0, 2, 4, 6, 8)}
    assert at[4] < agent.index("█") < at[6]
    assert agent.rindex("█") == at[8] - 1
    assert notice.index("█") < at[2]
    assert notice.rindex("█") == at[4] - 1
    assert (file.index("="), file.rindex("=")) == (agent.index("█"), agent.rindex("█"))


def test_who_hears_is_named_once_and_a_bar_says_what_it_is_where_there_is_room() -> None:
    _, _, notice, agent, file, *_ = plain(timeline(TRANSFERRED))
    assert notice.startswith("the customer     the notice")
    assert agent.startswith("                 the agent")
    assert "█ told █" in notice
    assert "= 3.0 s =" in file


def test_a_mark_runs_through_the_picture_and_is_explained_on_the_side_with_room() -> None:
    _, _, notice, agent, file, below, told, transfers = plain(timeline(TRANSFERRED))
    column = told.index("└")
    assert told[column:].startswith("└ 4.00 s  told")
    assert {agent[column], file[column], below[column]} == {"┊"}
    assert transfers.endswith("8.00 s  the agent's phone transfers him to somebody else ┘")
    assert transfers.index("┘") == below.rindex("┊") == notice.rindex("┊")


ROWS = [
    Row("inbound call", True, ["told; the call ended"], 3.82, "1-inbound/"),
    Row("then, outside to outside", False, ["nobody [red]takes part", "not told"], then=True),
    Row("agent dials 113", False, ["the number is on the never-record list"], wrong="113 was told", place="2-dials/"),
]


def test_the_table_holds_decision_reasons_and_sound_within_100_columns() -> None:
    lines = plain(table(ROWS))
    assert max(map(len, lines)) <= WIDTH
    (first,) = (line for line in lines if "inbound call" in line)
    assert first.split()[:5] == ["1", "inbound", "call", "●", "recorded"]
    assert first.split()[-3:] == ["3.8", "s", "1-inbound/"]
    assert any("nobody [red]takes part" in line for line in lines), "words are shown, not obeyed"
    assert any(line.split()[:4] == ["2", "agent", "dials", "113"] for line in lines)
    assert any("✗ 113 was told" in line for line in lines)


def test_on_a_terminal_of_80_columns_nothing_is_cut_off() -> None:
    lines = plain(table(ROWS, NARROW), NARROW)
    assert max(map(len, lines)) <= NARROW
    (first,) = (n for n, line in enumerate(lines) if "inbound call" in line)
    assert lines[first].split()[-2:] == ["3.8", "s"]
    assert lines[first + 1].split()[0] == "1-inbound/"
    assert any("nobody [red]takes part" in line for line in lines)
    longest = [Line(title, "with a third party: not recorded", "", 123.4) for title in TITLES.values()]
    assert len(plain(progress(longest), NARROW)) == len(longest)
    assert [fitting(columns) for columns in (40, 80, 90, 100, 200)] == [80, 80, 90, 100, 100]


def test_progress_has_a_numbered_line_for_each_call() -> None:
    lines = plain(progress([Line("inbound call", "being recorded", "red", 4.26), Line("queue call", "waits")]))
    assert lines[0].split() == ["1", "inbound", "call", "being", "recorded", "4.3", "s"]
    assert lines[1].split() == ["2", "queue", "call", "waits"]
    assert max(map(len, lines)) <= WIDTH


def said(recorded: bool, *words: str) -> dict[str, object]:
    """A call as pbxguard's API tells it."""
    return {"ever_recorded": recorded, "words": [{"en": one, "nl": f"nl {one}"} for one in words]}


def test_a_recorded_call_shows_why_recording_stopped_and_what_it_became_after_a_transfer(tmp_path: Path) -> None:
    calls = [said(True, "the call ended"), said(False, "nobody of the own organisation takes part")]
    (tmp_path / "one.json").write_text('{"ended_by": ["own_left"]}')
    story, verdict = Story("transferred", "+31612345106"), Verdict(file=tmp_path / "one.flac")
    recorded, then = demo.Outcome("transferred", story, calls, verdict).rows("en")
    assert (recorded.recorded, recorded.why[-1]) == (True, "stopped: the agent left the conversation")
    assert (then.recorded, then.then, then.why) == (False, True, ["nobody of the own organisation takes part"])


def test_reasons_are_shown_in_the_words_of_the_reference_and_unknown_ones_as_they_are() -> None:
    for reason, words in WORDS.items():
        assert demo.words_of(reason.value) == {"en": words.en, "nl": words.nl}
    assert demo.words_of("sunspots") == {"en": "sunspots", "nl": "sunspots"}


def test_a_refused_call_shows_each_reason_of_its_legs_once_in_the_language_asked_for() -> None:
    calls = [said(False, "not told"), said(False, "no own party", "not told")]
    (row,) = demo.Outcome("forwarded", Story("forwarded", "+31612345107"), calls).rows("nl")
    assert row.why == ["nl not told", "nl no own party"]


@pytest.mark.parametrize(("wrong", "code"), [("", 0), ("it should be so, and is not: no file", 1)])
def test_a_call_that_did_not_go_as_it_should_is_named_and_fails_the_demo(wrong: str, code: int) -> None:
    out = io.StringIO()
    outcome = demo.Outcome("inbound", Story("inbound call", "+31612345100"), [said(True)], wrong=wrong)
    assert demo._conclude([outcome], 3, Path("left"), Console(file=out, width=WIDTH)) == code
    assert (f"inbound call: {wrong}" in out.getvalue()) == bool(wrong)


def test_only_a_folder_of_the_demos_own_is_emptied(tmp_path: Path) -> None:
    assert demo.is_ours(tmp_path / "new")
    assert demo.is_ours(tmp_path)
    (tmp_path / "1-inbound").mkdir()
    assert not demo.is_ours(tmp_path), "somebody else's"
    (tmp_path / "README.txt").write_text("Mine.")
    assert not demo.is_ours(tmp_path)
    assert not demo.is_ours(tmp_path / "README.txt")
    (tmp_path / "README.txt").write_text(demo.README)
    assert demo.is_ours(tmp_path)


def test_a_story_that_was_kept_is_measured_as_it_was_played(tmp_path: Path) -> None:
    phone = Phone(Phones(folder=tmp_path), Account("100", "internal"), 0, Silence(), Ring(), "001-100")
    call = PhoneCall(phone, "in-1", outgoing=False, number="+31612345100")
    with wave.open(str(tmp_path / "heard.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(800, 8192, "<i2").tobytes())
    call.update({"ended_at": 17.5, "began": 12.25, "paths": {"heard": str(tmp_path / "heard.wav")}})
    story = Story("inbound call", "+31612345100", {"agent": call}, {"talking": 13.0})
    kept.keep(tmp_path, {"inbound": story})
    (again,) = kept.recall(tmp_path).values()
    assert (again.title, again.number, again.moments) == (story.title, story.number, story.moments)
    heard = asyncio.run(again.calls["agent"].heard())
    assert (heard.began, heard.rate, len(heard.samples)) == (12.25, 8000, 800)
    assert heard.samples.max() == heard.samples.min() == 0.25


def test_what_a_reader_takes_from_the_table_is_what_it_shows() -> None:
    shown = demo_screen.rows("before\n\n" + "\n".join(plain(table(ROWS))) + "\n\nafter")
    assert [(row.number, row.call, row.decision, row.sound, row.place) for row in shown] == [
        ("1", "inbound call", "● recorded", "3.8 s", "1-inbound/"),
        ("", "then, outside to outside", "○ not recorded", "none", ""),
        ("2", "agent dials 113", "○ not recorded", "none", "2-dials/"),
    ]
    assert [row.why for row in shown[:2]] == [[demo_screen.blankless(why) for why in row.why] for row in ROWS[:2]]


def test_what_a_reader_takes_from_the_timeline_is_what_it_shows() -> None:
    shown = demo_screen.picture("before\n\n" + "\n".join(plain(timeline(TRANSFERRED))))
    assert shown.marks == [(4.0, "told"), (8.0, "the agent's phone transfers him to somebody else")]
    for name, begin_s, end_s in [("the notice", 0.5, 4.0), ("the agent", 5.0, 8.0)]:
        ((begin, end),) = shown.bars[f"the customer: {name}"]
        assert abs(shown.seconds(begin) - begin_s) <= shown.cell_s
        assert abs(shown.seconds(end) - end_s) <= shown.cell_s


@pytest.mark.parametrize("words", [["--language", "de"], ["--language"], ["--output"], ["--output="], ["more"]])
def test_wrong_use_is_told_before_anything_is_set_up(words: list[str]) -> None:
    ran = subprocess.run([REPO / "script/demo", *words], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("script/demo [--keep]")


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    command = [sys.executable, "-m", "tests.lab.demo", "--output", str(tmp_path)]
    ran = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "holds something else" in ran.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_what_one_is_invited_to_dial_and_type_can_be_read_and_fits_80_columns() -> None:
    site = Installation(extra_lines=YOURS)
    try:
        text = "before\n\n" + invitation(site)
    finally:
        shutil.rmtree(site.asterisk.run_dir)
    assert [line for line in text.splitlines() if len(line) > NARROW and "alias" not in line] == []
    for account in demo_screen.softphones(text):
        line = site.asterisk.line(account.user)
        assert (account.password, account.server) == (line.password, line.server)
        assert len(account.numbers) > 2
    alias, *commands = demo_screen.commands(text)
    assert alias.endswith(f'/pbxguard --config {site.config}"')
    assert [command.split()[1] for command in commands] == ["calls", "why", "recordings", "off"]
