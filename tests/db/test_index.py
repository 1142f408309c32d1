"""The index of recordings and calls on a real SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from pbxguard.core.errors import NotFound, StorageFailed
from pbxguard.core.ids import RecordingId
from pbxguard.db.engine import Database, sqlite_file
from pbxguard.db.index import SqlIndex

from .rows import NOON, outcome, recording

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


@pytest.fixture
async def index(database: Database) -> AsyncIterator[SqlIndex]:
    async with SqlIndex(database, "pbx1") as index:
        yield index


async def test_a_recording_comes_back_whole(index: SqlIndex) -> None:
    row = recording(
        A,
        purposes=("contract_evidence", "quality_training"),
        other_numbers=("+32470123456",),
        locked=True,
        lock_until=NOON + timedelta(days=14),
        outcome="contract",
        contract_end="2027-01-01",
        written_acceptance_required=True,
    )
    await index.add_recording(row)
    assert await index.recording(RecordingId(A)) == row


async def test_adding_twice_changes_nothing(index: SqlIndex) -> None:
    await index.add_recording(recording(A))
    await index.set_outcome(RecordingId(A), "contract", "")
    await index.add_recording(recording(A))
    assert (await index.recording(RecordingId(A))).outcome == "contract"
    assert len(await index.find()) == 1


async def test_another_file_under_the_same_id_is_refused(index: SqlIndex) -> None:
    await index.add_recording(recording(A))
    with pytest.raises(StorageFailed):
        await index.add_recording(recording(A, sha256="cd" * 32))
    assert (await index.recording(RecordingId(A))).sha256 == "ab" * 32


async def test_a_destroyed_recording_is_not_brought_back_by_adding(index: SqlIndex) -> None:
    await index.add_recording(recording(A))
    await index.mark_destroyed(RecordingId(A), NOON)
    await index.add_recording(recording(A))
    assert await index.find(include_destroyed=False) == []
    assert await index.find(number="+31201234567", include_destroyed=True) == []


@pytest.mark.parametrize("asked", ["+31201234567", "0031201234567", "31201234567"])
async def test_a_number_is_found_by_its_digits(index: SqlIndex, asked: str) -> None:
    await index.add_recording(recording(A))
    await index.add_recording(recording(B, external_number="+31209999999"))
    assert [r.id for r in await index.find(number=asked)] == [A]


async def test_a_number_kept_as_raw_digits_is_found(index: SqlIndex) -> None:
    await index.add_recording(recording(A, external_number="4711"))
    assert [r.id for r in await index.find(number="4711")] == [A]


async def test_who_joined_a_conversation_is_found_as_well(index: SqlIndex) -> None:
    await index.add_recording(recording(A, other_numbers=("+32470123456",)))
    assert [r.id for r in await index.find(number="+32470123456")] == [A]


async def test_what_is_no_number_finds_nobody_withheld(index: SqlIndex) -> None:
    await index.add_recording(recording(A, external_number=""))
    assert await index.find(number="anonymous") == []


async def test_filters_are_joined_and_newest_comes_first(index: SqlIndex) -> None:
    for minute, (id, endpoint) in enumerate(((A, "PJSIP/100"), (B, "PJSIP/101"), (C, "PJSIP/100"))):
        start = NOON + timedelta(minutes=minute)
        await index.add_recording(recording(id, started=start, own_endpoint=endpoint, reference=f"K-{minute}"))
    assert [r.id for r in await index.find()] == [C, B, A]
    assert [r.id for r in await index.find(extension="100")] == [C, A]
    assert [r.id for r in await index.find(extension="PJSIP/101")] == [B]
    assert [r.id for r in await index.find(reference="K-1")] == [B]
    assert [r.id for r in await index.find(since=NOON + timedelta(minutes=1))] == [C, B]
    assert [r.id for r in await index.find(until=NOON + timedelta(minutes=1))] == [A]
    assert [r.id for r in await index.find(extension="100", since=NOON + timedelta(minutes=1))] == [C]
    assert [r.id for r in await index.find(limit=1)] == [C]
    assert await index.find(reference="K-1' OR 1=1 --") == []


async def test_an_unknown_recording_is_not_found(index: SqlIndex) -> None:
    with pytest.raises(NotFound):
        await index.recording(RecordingId(A))
    with pytest.raises(NotFound):
        await index.set_outcome(RecordingId(A), "contract", "")
    with pytest.raises(NotFound):
        await index.set_lock(RecordingId(A), NOON)


async def test_a_lock_is_put_on_and_taken_off(index: SqlIndex) -> None:
    await index.add_recording(recording(A))
    await index.set_lock(RecordingId(A), NOON)
    row = await index.recording(RecordingId(A))
    assert (row.locked, row.lock_until) == (True, NOON)
    await index.set_lock(RecordingId(A), None)
    row = await index.recording(RecordingId(A))
    assert (row.locked, row.lock_until) == (False, None)


async def test_destruction_leaves_no_number_in_any_file_of_the_database(
    index: SqlIndex, url: str, database: Database
) -> None:
    row = recording(
        A,
        other_numbers=("+32470123456",),
        reference="SECRET-REF",
        manifest={"told": "+31201234567", "note": "SECRET-MANIFEST"},
    )
    await index.add_recording(row)
    await index.put_call(outcome(recording=RecordingId(A), reference="SECRET-REF"), NOON, False, "b1")
    assert len(await index.find_calls()) == 1
    await index.put_call(outcome(recording=RecordingId(A), reference="SECRET-LATE"), NOON, True, "b1")
    file = sqlite_file(url)
    assert file is not None

    def contents() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(file.parent.iterdir()))

    secrets = (b"31201234567", b"32470123456", b"SECRET", b"PJSIP/100\x00", b"K-4711")
    assert b"31201234567" in contents()
    await index.mark_destroyed(RecordingId(A), NOON + timedelta(days=30))
    assert [secret for secret in secrets if secret in contents()] == []
    assert [call["external_number"] for call in await index.find_calls()] == [""]
    left = await index.recording(RecordingId(A))
    assert (left.id, left.node, left.purposes) == (A, "pbx1", ("contract_evidence",))
    assert (left.started, left.ended, left.duration_ms) == (row.started, row.ended, row.duration_ms)
    assert left.sha256 == row.sha256
    assert left.destroyed == NOON + timedelta(days=30)


async def test_destroying_twice_keeps_the_first_time(index: SqlIndex) -> None:
    await index.add_recording(recording(A))
    await index.mark_destroyed(RecordingId(A), NOON)
    await index.mark_destroyed(RecordingId(A), NOON + timedelta(days=1))
    assert (await index.recording(RecordingId(A))).destroyed == NOON


async def test_live_recordings_are_walked_while_some_are_destroyed(
    index: SqlIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbxguard.db.index.PAGE", 3)
    ids = [f"{n:016d}" for n in range(10)]
    for id in ids:
        await index.add_recording(recording(id))
    await index.mark_destroyed(RecordingId(ids[4]), NOON)
    seen = []
    async for row in index.live_recordings():
        seen.append(row.id)
        await index.mark_destroyed(row.id, NOON)
    assert seen == [id for id in ids if id != ids[4]]
    assert [row async for row in index.live_recordings()] == []


async def test_the_last_report_of_a_call_counts_and_its_begin_stays(index: SqlIndex, database: Database) -> None:
    await index.put_call(outcome(recorded=True, reasons=()), NOON, False, "b1")
    await index.find_calls()  # written
    await index.put_call(outcome(reference="K-1"), NOON + timedelta(seconds=5), False, "b1")
    await index.put_call(outcome(reference="K-2"), NOON + timedelta(seconds=9), True, "b1")
    (call,) = await index.find_calls()
    assert (call["began"], call["at"], call["ended"]) == (NOON, NOON + timedelta(seconds=9), True)
    assert (call["reference"], call["reasons"], call["direction"]) == ("K-2", ["on_hold"], "inbound")
    assert call["purposes"] == ["contract_evidence"]
    assert (call["told"], call["recorded"], call["ever_recorded"], call["would_record"]) == (True, False, True, False)
    assert call["others"] == ["1772452800.30"]
    assert (call["node"], call["boot"]) == ("pbx1", "b1")


async def test_a_call_is_known_by_boot_and_uniqueid(index: SqlIndex) -> None:
    await index.put_call(outcome("1.1", reference="first"), NOON, True, "b1")
    await index.put_call(outcome("1.1", reference="second"), NOON, True, "b2")
    known = await index.known_call("b2", "1.1")
    assert known is not None
    assert known["reference"] == "second"
    assert await index.known_call("b3", "1.1") is None


async def test_references_of_many_calls_are_found_at_once(index: SqlIndex) -> None:
    await index.put_call(outcome("1.1", reference="first"), NOON, True, "b1")
    for call, reference in (("1.1", "second"), ("1.2", ""), ("1.3", "third"), ("1.4", "fourth")):
        await index.put_call(outcome(call, reference=reference), NOON, False, "b2")
    asked = ["1.1", "1.2", "1.3", *(f"9.{number}" for number in range(1200))]
    assert await index.references("b2", asked) == {"1.1": "second", "1.3": "third"}
    assert await index.references("b2", []) == {}


async def test_calls_that_ended_while_nobody_saw_are_over(index: SqlIndex) -> None:
    for call, ended in (("1.1", False), ("1.2", False), ("1.3", True)):
        await index.put_call(outcome(call, recorded=not ended), NOON, ended, "b2")
    await index.put_call(outcome("1.1", recorded=True), NOON, False, "b1")
    assert await index.end_calls("b2", {"1.1", "1.9"}) == 2
    found = {(row["boot"], row["call"]): row for row in await index.find_calls()}
    assert {key for key, row in found.items() if not row["ended"]} == {("b2", "1.1")}
    assert {key for key, row in found.items() if row["recorded"]} == {("b2", "1.1")}
    assert await index.end_calls("b2", {"1.1"}) == 0


async def test_the_same_uniqueid_in_another_boot_is_another_call(index: SqlIndex) -> None:
    await index.put_call(outcome(), NOON, True, "b1")
    await index.put_call(outcome(), NOON, True, "b2")
    assert len(await index.find_calls()) == 2


async def test_calls_are_found_by_number_and_by_extension(index: SqlIndex) -> None:
    await index.put_call(outcome("1.1"), NOON, True, "b1")
    later = NOON + timedelta(hours=1)
    await index.put_call(outcome("1.2", external_number="", own_endpoint="PJSIP/101"), later, True, "b1")
    assert [c["call"] for c in await index.find_calls()] == ["1.2", "1.1"]
    assert [c["call"] for c in await index.find_calls(who="+31201234567")] == ["1.1"]
    assert [c["call"] for c in await index.find_calls(who="101")] == ["1.2"]
    assert [c["call"] for c in await index.find_calls(who="PJSIP/101")] == ["1.2"]
    assert [c["call"] for c in await index.find_calls(since=later)] == ["1.2"]
    assert [c["call"] for c in await index.find_calls(limit=1)] == ["1.2"]
    assert await index.find_calls(who="anonymous") == []


async def test_a_thousand_reports_are_written_in_a_few_transactions(index: SqlIndex, database: Database) -> None:
    for number in range(1000):
        for ended in (False, True):
            await index.put_call(outcome(f"1.{number}"), NOON, ended, "b1")
    found = await index.find_calls(limit=2000)
    assert len(found) == 1000
    assert all(call["ended"] for call in found)


async def test_reports_wait_out_a_locked_database(index: SqlIndex, url: str) -> None:
    file = sqlite_file(url)
    assert file is not None
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    await index.put_call(outcome(reference="old"), NOON, False, "b1")
    with pytest.raises(StorageFailed):
        await index.find_calls()
    await index.put_call(outcome(reference="new"), NOON + timedelta(seconds=1), True, "b1")
    blocker.execute("ROLLBACK")
    blocker.close()
    (call,) = await index.find_calls()
    assert (call["reference"], call["began"]) == ("new", NOON)


async def test_reports_are_written_without_being_asked_for(index: SqlIndex, url: str) -> None:
    file = sqlite_file(url)
    assert file is not None
    await index.put_call(outcome(), NOON, True, "b1")

    def written() -> int:
        with sqlite3.connect(Path(file)) as raw:
            return int(raw.execute("SELECT count(*) FROM calls").fetchone()[0])

    async with asyncio.timeout(10):
        while not written():  # noqa: ASYNC110 - another thread writes, nobody sets an event
            await asyncio.sleep(0.01)


async def test_closing_writes_the_last_reports(database: Database) -> None:
    async with SqlIndex(database, "pbx1") as index:
        await index.put_call(outcome(), NOON, True, "b1")
    assert len(await index.find_calls()) == 1


async def test_when_too_many_reports_wait_the_next_one_waits_for_the_disk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbxguard.db.calls.MOST_WAITING", 3)
    async with SqlIndex(database, "pbx1") as index:
        async with database.write():
            for number in range(3):
                await index.put_call(outcome(f"1.{number}"), NOON, True, "b1")
            fourth = asyncio.create_task(index.put_call(outcome("1.3"), NOON, True, "b1"))
            await asyncio.wait([fourth], timeout=0.2)
            assert not fourth.done()
        async with asyncio.timeout(10):
            await fourth
        assert len(await index.find_calls()) == 4


async def test_old_calls_are_forgotten(index: SqlIndex) -> None:
    await index.put_call(outcome("1.1"), NOON, True, "b1")
    await index.put_call(outcome("1.2"), NOON + timedelta(days=1), True, "b1")
    await index.find_calls()
    assert await index.forget_calls(NOON + timedelta(hours=1)) == 1
    assert [c["call"] for c in await index.find_calls()] == ["1.2"]


async def test_hostile_text_is_stored_and_found(index: SqlIndex) -> None:
    await index.add_recording(recording(A, reference="x\udc80\0'; --", external_number="+31\udc80\0" + "9" * 500))
    assert [r.id for r in await index.find(reference="x\udc80\0'; --")] == [A]
    await index.put_call(outcome("\udc80\0", external_number="\udc80"), NOON, True, "\0")
    assert len(await index.find_calls()) == 1
