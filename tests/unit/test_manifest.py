"""What the manifest and the tags say of a recording."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pbxguard.core.commands import CallOutcome
from pbxguard.core.ids import Endpoint, LinkedId, PurposeName, Uniqueid, recording_id, segment_id
from pbxguard.core.manifest import Objection, SealedFile, Sealing, build, canonical, tags
from pbxguard.core.permit import Told
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.core.segments import MISSING_AT_SEALING, ClosedSegment, OpenSegment

RECORDING = recording_id("node", "boot", Uniqueid("1700.1"))
T0 = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PROOF, TRAINING = PurposeName("contract_evidence"), PurposeName("quality_training")


def told(channel: str = "1700.1", consented: tuple[PurposeName, ...] = (), jurisdiction: str = "NL") -> Told:
    key = DisclosureKey.of((PROOF, TRAINING), "nl", Mode.OPT_OUT, Direction.INBOUND)
    return Told(Uniqueid(channel), key, "d1", "2026-03-01T11:59:59Z", consented, jurisdiction)


def segment(
    number: int,
    begin: float,
    seconds: float,
    *,
    purposes: tuple[PurposeName, ...] = (PROOF,),
    reasons: tuple[str, ...] = ("on_hold",),
    heard: tuple[Told, ...] = (told(),),
    direction: str = "inbound",
) -> ClosedSegment:
    kept = int(seconds * 8000)
    opened = T0 + timedelta(seconds=begin)
    return ClosedSegment(
        opening=OpenSegment(
            recording=RECORDING,
            segment=segment_id(RECORDING, number),
            boot="boot",
            call=Uniqueid("1700.1"),
            leg=Uniqueid(f"1700.{number + 1}"),
            purposes=purposes,
            bases=tuple("f" for _ in purposes),
            direction=direction,
            told=heard,
            opened=begin,
            opened_utc=opened,
            wall_offset=0.0,
            own_file=Path("/s/own"),
            others_file=Path("/s/others"),
        ),
        closed_utc=opened + timedelta(seconds=seconds + 0.2),
        begin_utc=opened,
        end_utc=opened + timedelta(seconds=seconds),
        reasons=reasons,
        rate=8000,
        captured=kept + 1600,
        dropped=1600,
        kept=kept,
    )


OUTCOME = CallOutcome(
    call=Uniqueid("1700.1"),
    linkedid=LinkedId("1700.0"),
    recording=RECORDING,
    direction=Direction.INBOUND,
    external_number="+31612345678",
    own_number="+31201234567",
    own_endpoint=Endpoint("PJSIP/100"),
    queue="sales",
    reference="K-42",
    language="nl",
    purposes_asked=(PROOF,),
    told=True,
    reasons=(),
    recorded=False,
    others=(Uniqueid("1700.9"),),
)
FILE = SealedFile("x.flac", "f" * 64, 8000 * 15, 8000, "a" * 64, "b" * 64)


def sealing(*segments: ClosedSegment, objections: tuple[Objection, ...] = ()) -> Sealing:
    return Sealing(OUTCOME, segments, "pbx1", "Acme", "0.1.0", objections)


def test_the_file_offsets_map_to_utc_and_gaps_carry_their_reasons() -> None:
    made = build(
        sealing(
            segment(1, 0, 10, reasons=("on_hold",)),
            segment(2, 20, 0, reasons=("second_call",)),
            segment(3, 30, 5, reasons=("call_ended",)),
        ),
        FILE,
    )
    assert [(i["file_offset"], i["samples"], i["begin_utc"]) for i in made["intervals"]] == [
        (0, 80_000, "2026-03-01T12:00:00.000000Z"),
        (80_000, 40_000, "2026-03-01T12:00:30.000000Z"),
    ]
    assert made["gaps"] == [
        {
            "file_offset": 80_000,
            "begin_utc": "2026-03-01T12:00:10.000000Z",
            "end_utc": "2026-03-01T12:00:30.000000Z",
            "reasons": ["on_hold", "second_call"],
        }
    ]
    assert made["ended_by"] == ["call_ended"]
    assert [s["file_offset"] for s in made["segments"]] == [0, None, 80_000]
    assert made["segments"][0]["cut_samples"] == 1600


def test_the_purposes_are_those_of_every_permit_with_their_bases() -> None:
    made = build(sealing(segment(1, 0, 10, purposes=(TRAINING, PROOF)), segment(2, 20, 5)), FILE)
    assert made["purposes"] == [
        {"name": "contract_evidence", "basis": "f"},
        {"name": "quality_training", "basis": "f"},
    ]
    assert made["intervals"][1]["purposes"] == ["contract_evidence"]


def test_a_permit_under_which_nothing_was_kept_tags_nothing() -> None:
    made = sealing(segment(1, 0, 0, purposes=(TRAINING,)), segment(2, 20, 5))
    assert made.purposes == ("contract_evidence",)
    assert made.started == T0 + timedelta(seconds=20)


def test_who_was_told_what_and_who_consented_or_objected() -> None:
    heard = (told(), told("1700.9", (PROOF,), "DE"))
    objection = Objection("1700.1", (), T0 + timedelta(seconds=9))
    made = build(
        sealing(segment(1, 0, 10, heard=(told(),)), segment(2, 20, 5, heard=heard), objections=(objection,)), FILE
    )
    assert [(t["channel"], t["language"], t["mode"], t["digest"]) for t in made["told"]] == [
        ("1700.1", "nl", "opt_out", "d1"),
        ("1700.9", "nl", "opt_out", "d1"),
    ]
    assert made["consents"] == [{"channel": "1700.9", "purposes": ["contract_evidence"]}]
    assert made["objections"] == [{"channel": "1700.1", "purposes": [], "at_utc": "2026-03-01T12:00:09.000000Z"}]
    assert made["jurisdictions"] == ["DE", "NL"]


def test_canonical_json_is_the_same_whatever_the_order_of_making() -> None:
    made = build(sealing(segment(1, 0, 15)), FILE)
    assert canonical(made) == canonical(dict(reversed(made.items())))
    assert json.loads(canonical(made)) == made


def test_the_tags_name_everything_that_people_look_for() -> None:
    found = tags(sealing(segment(1, 0, 10, purposes=(PROOF, TRAINING))))
    assert {
        ("PURPOSE", "contract_evidence"),
        ("PURPOSE", "quality_training"),
        ("CALLER_ID", "+31612345678"),
        ("CALLED", "+31201234567"),
        ("DATE", "2026-03-01T12:00:00.000000Z"),
        ("CALL_ID", "1700.1"),
        ("UNIQUEID", "1700.1"),
        ("LINKEDID", "1700.0"),
        ("RECORDING_ID", RECORDING),
        ("DISCLOSURE_LANGUAGE", "nl"),
        ("DISCLOSURE_MODE", "opt_out"),
        ("DISCLOSURE_DIGEST", "d1"),
        ("ORGANISATION", "Acme"),
        ("REFERENCE", "K-42"),
    } <= set(found)


def test_an_outbound_call_was_made_to_the_external_number() -> None:
    found = tags(sealing(segment(1, 0, 10, direction="outbound")))
    assert ("CALLED", "+31612345678") in found


def test_a_segment_survives_the_audit_log() -> None:
    there = segment(1, 0.25, 10, heard=(told("1700.9", (PROOF,), "DE"),))
    assert ClosedSegment.from_data(json.loads(json.dumps(there.data(), allow_nan=False))) == there
    opening = there.opening
    assert OpenSegment.from_data(json.loads(json.dumps(opening.data(), allow_nan=False))) == opening
    assert (there.entry().kind, opening.entry().kind) == ("segment.closed", "segment.permitted")
    assert there.entry().segment == there.segment


def test_what_sealing_did_not_find_is_noted() -> None:
    there = segment(1, 0, 10)
    assert there.found(80_000) is there
    less = there.found(100)
    assert (less.kept, less.kept + less.dropped) == (100, there.captured)
    assert less.notes == (MISSING_AT_SEALING,)
