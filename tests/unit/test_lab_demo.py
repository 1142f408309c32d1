"""How the demo looks, from fixed data: whole at 100 columns, and readable without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from tests.lab import demo
from tests.lab.picture import WIDTH, Bar, Line, Mark, Row, Timeline, Track, progress, table, timeline
from tests.lab.stories import Story


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


def test_the_table_holds_decision_reasons_and_sound_within_100_columns() -> None:
    lines = plain(
        table(
            [
                Row("inbound call", True, ["told; the call ended"], 3.82, "1-inbound/"),
                Row("then, outside to outside", False, ["nobody [red]takes part", "not told"], then=True),
                Row("agent dials 113", False, ["the number is on the never-record list"], wrong="113 was told"),
            ]
        ),
        WIDTH,
    )
    assert max(map(len, lines)) <= WIDTH
    (first,) = (line for line in lines if "inbound call" in line)
    assert first.split()[:5] == ["1", "inbound", "call", "●", "recorded"]
    assert first.split()[-3:] == ["3.8", "s", "1-inbound/"]
    assert any("nobody [red]takes part" in line for line in lines), "words are shown, not obeyed"
    assert any(line.split()[:4] == ["2", "agent", "dials", "113"] for line in lines)
    assert any("✗ 113 was told" in line for line in lines)


def test_progress_has_a_numbered_line_for_each_call() -> None:
    lines = plain(progress([Line("inbound call", "being recorded", "red", 4.26), Line("queue call", "waits")]))
    assert lines[0].split() == ["1", "inbound", "call", "being", "recorded", "4.3", "s"]
    assert lines[1].split() == ["2", "queue", "call", "waits"]
    assert max(map(len, lines)) <= WIDTH


def said(recorded: bool, *words: str) -> dict[str, object]:
    """A call as pbxguard's API tells it."""
    return {"ever_recorded": recorded, "words": [{"en": one, "nl": f"nl {one}"} for one in words]}


def test_a_recorded_call_shows_what_it_became_after_a_transfer() -> None:
    calls = [said(True, "the call ended"), said(False, "nobody of the own organisation takes part")]
    recorded, then = demo.Outcome("transferred", Story("transferred", "+31612345106"), calls).rows("en")
    assert (recorded.recorded, recorded.why[-1]) == (True, "the call ended")
    assert (then.recorded, then.then, then.why) == (False, True, ["nobody of the own organisation takes part"])


def test_a_refused_call_shows_each_reason_of_its_legs_once_in_the_language_asked_for() -> None:
    calls = [said(False, "not told"), said(False, "no own party", "not told")]
    (row,) = demo.Outcome("forwarded", Story("forwarded", "+31612345107"), calls).rows("nl")
    assert row.why == ["nl not told", "nl no own party"]


@pytest.mark.parametrize(("wrong", "code"), [("", 0), ("it should be so, and is not: no file", 1)])
def test_a_call_that_did_not_go_as_it_should_is_named_and_fails_the_demo(wrong: str, code: int) -> None:
    out = io.StringIO()
    outcome = demo.Outcome("inbound", Story("inbound call", "+31612345100"), [said(True)], wrong=wrong)
    assert demo._conclude([outcome], 3, Console(file=out, width=WIDTH)) == code
    assert (f"inbound call: {wrong}" in out.getvalue()) == bool(wrong)
