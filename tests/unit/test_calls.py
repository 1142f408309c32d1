"""What `why` says of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.core.errors import NotFound
from pbxguard.core.ids import RecordingId
from pbxguard.core.reasons import WORDS, Reason
from pbxguard.service.calls import CallView, parse_since, says, why
from pbxguard.service.ports import RecordingRow

BEGAN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ROW: dict[str, Any] = {
    "boot": "b1",
    "call": "17.1",
    "began": BEGAN,
    "at": BEGAN,
    "ended": True,
    "recording": "rec1",
    "direction": "inbound",
    "external_number": "+31612345678",
    "own_number": "31201234100",
    "own_endpoint": "PJSIP/100",
    "queue": "sales",
    "reference": "",
    "purposes": ["contract_evidence"],
    "told": True,
    "reasons": ["call_ended"],
    "recorded": False,
    "ever_recorded": True,
    "would_record": False,
}


def sealed(**change: Any) -> RecordingRow:
    row = RecordingRow(
        id=RecordingId("rec1"),
        node="pbx1",
        path="x.flac",
        purposes=("contract_evidence",),
        started=BEGAN + timedelta(seconds=10),
        ended=BEGAN + timedelta(seconds=70),
        duration_ms=60_000,
        external_number="+31612345678",
        own_number="31201234100",
        own_endpoint="PJSIP/100",
        queue="sales",
        direction="inbound",
        reference="",
        language="nl",
        call="17.1",
        uniqueid="17.1",
        linkedid="17.1",
        sha256="00",
        manifest={},
    )
    return replace(row, **change)


class Shelf:
    """An index with these calls and at most one recording; it finds calls by exactly the forms given."""

    def __init__(self, calls: list[dict[str, Any]], recording: RecordingRow | None = None, *forms: str) -> None:
        self.calls, self.row, self.forms = calls, recording, forms
        self.asked: list[str] = []

    async def find_calls(
        self, *, who: str = "", since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, Any]]:
        self.asked.append(who)
        return self.calls if not self.forms or who in self.forms else []

    async def recording(self, id: RecordingId) -> RecordingRow:
        if self.row is None or self.row.id != id:
            raise NotFound("none")
        return self.row


async def line(row: dict[str, Any], recording: RecordingRow | None = None, language: str = "en") -> str:
    [view] = await why(Shelf([row], recording), "")
    return says(view, language)


def local(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")


async def test_a_recorded_call_tells_from_when_to_when() -> None:
    row = sealed()
    assert (await line(ROW, row)).endswith(
        f"from +31612345678 (PJSIP/100, sales) told; recorded {local(row.started)} to {local(row.ended)} [rec1]"
    )
    assert f"opgenomen van {local(row.started)} tot {local(row.ended)}" in await line(ROW, row, "nl")


async def test_a_destroyed_recording_says_so() -> None:
    assert "destroyed 2026-06-01" in await line(ROW, sealed(destroyed=datetime(2026, 6, 1, 12, tzinfo=UTC)))


async def test_an_unrecorded_call_tells_its_first_reason_and_what_to_do() -> None:
    row = ROW | {"told": False, "ever_recorded": False, "reasons": ["unknown_party", "not_told"]}
    told = await line(row)
    assert "not told; not recorded: it is unknown who takes part (own rule). Add a channel pattern" in told
    dutch = await line(row, language="nl")
    assert "niet ingelicht; niet opgenomen: het is onbekend wie er meeluistert" in dutch


async def test_a_call_that_observe_mode_would_have_recorded_says_that() -> None:
    row = ROW | {"ever_recorded": False, "would_record": True, "reasons": ["observe_mode"]}
    assert "would be recorded (pbxguard only observes here)" in await line(row)


async def test_a_call_that_is_being_recorded_says_so_even_before_it_is_sealed() -> None:
    assert "being recorded" in await line(ROW | {"ended": False, "recorded": True, "reasons": []})
    assert "not sealed yet" in await line(ROW)


async def test_a_recording_that_waits_to_be_sealed_says_why_and_where_to_look() -> None:
    (view,) = await why(Shelf([ROW]), "100", waiting={RecordingId("rec1"): "segment_open"})
    assert "recorded; not sealed yet, it waits in the spool (segment_open): `pbxguard status`" in says(view)
    assert "wacht in de spool (segment_open)" in says(CallView.from_json(view.as_json()), "nl")


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("language", ["nl", "en"])
async def test_every_reason_can_be_told(reason: Reason, language: str) -> None:
    row = ROW | {"ever_recorded": False, "reasons": [reason.value]}
    told = await line(row, language=language)
    assert (WORDS[reason].nl if language == "nl" else WORDS[reason].en) in told
    assert "\n" not in told


async def test_a_reason_of_a_later_version_breaks_nothing() -> None:
    assert "not recorded: ?" in await line(ROW | {"ever_recorded": False, "reasons": ["invented_later"]})


@pytest.mark.parametrize("who", ["+31612345678", "06-12345678", "0031 6 12345678", "0612345678"])
async def test_a_number_is_found_in_any_notation(who: str) -> None:
    [view] = await why(Shelf([ROW], None, "+31612345678"), who)
    assert view.external_number == "+31612345678"


@pytest.mark.parametrize("who", ["100", "PJSIP/100"])
async def test_an_extension_is_asked_for_as_it_is_written(who: str) -> None:
    shelf = Shelf([ROW], None, who)
    assert len(await why(shelf, who)) == 1


async def test_a_call_found_in_two_forms_is_told_once() -> None:
    other = ROW | {"call": "17.9", "began": BEGAN + timedelta(hours=1)}
    views = await why(Shelf([ROW, other]), "+31612345678")
    assert [view.call for view in views] == ["17.9", "17.1"]


async def test_a_view_survives_the_way_over_the_socket() -> None:
    [view] = await why(Shelf([ROW], sealed()), "")
    assert CallView.from_json(view.as_json()) == view


async def test_programs_get_every_reason_in_words() -> None:
    [view] = await why(Shelf([ROW | {"reasons": ["objected", "of a later version", "prompt_cut"]}]), "")
    assert [reason["en"] for reason in view.as_json()["words"]] == [
        "the other party objected",
        "the disclosure was cut short",
    ]


@given(st.text())
def test_no_text_of_a_peer_breaks_the_line(text: str) -> None:
    view = CallView("1", BEGAN, True, text, text, text, text, text, text, (), False, False, (text,))
    told = says(view)
    assert told.isprintable()
    assert len(told) < 400


NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1h", NOW - timedelta(hours=1)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-05-01T10:00:00+02:00", datetime(2026, 5, 1, 8, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_moment(text: str, expected: datetime) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "1y", "-1h", "999999h", "١h"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_since(text, NOW)
