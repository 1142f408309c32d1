"""Sealed recordings as their owners meet them: files, tags, manifests, the command line, a crash in mid-call.

The test computes every digest itself. What destroys comes last, on recordings of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import soundfile

from tests.lab import ami, asterisk_tree, checker, measure
from tests.lab.asterisk import REPO
from tests.lab.evidence import manifest, prompt, until_recorded
from tests.lab.installation import Installation, Ran
from tests.lab.phone import Answer, Phone, Phones
from tests.lab.signals import VOICES, Chirp, Tone
from tests.lab.stories import Story

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
TALK_S = 3.0
LOST_S = 0.6
NOTICE = "contract_evidence.nl.notice.inbound"

DIALPLAN = """
; 31201240NNN: to phone NNN, as proof, with the caller's own number as reference
exten => _31201240XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence,reference=K-${EXTEN:8}))
 same => n,Dial(PJSIP/${EXTEN:8},60,tT)
exten => 31201241001,1,Gosub(pbxguard-disclose,s,1(contract_evidence,queue=support))
 same => n,Queue(support,tT,,,60)
"""
QUEUES = "[general]\n[support]\nstrategy=ringall\ntimeout=20\nmember => PJSIP/102\n"
INBOUND, BOTH, OUTBOUND = "+31612345301", "+31612345303", "+31201112304"
QUEUED, SECOND = "+31612345302", "+31612345308"
DECIDED, DESTROYED, CRASHED = "+31612345305", "+31612345306", "+31612345307"


@dataclass
class Office:
    site: Installation
    carriers: tuple[Phone, ...]
    """Each takes four calls at once."""
    called: Phone
    agents: dict[str, Phone]
    events: list[ami.Message] = field(default_factory=list)
    """What Asterisk told of the plain calls."""

    async def inbound(self, did: str, number: str, agent: str) -> Story:
        story = Story(number, number)
        carrier = min(self.carriers, key=lambda phone: len(phone.calls))
        story.calls["customer"] = await carrier.call(did, caller_id=number)
        story.calls["agent"] = leg = await self.agents[agent].incoming(number=number, deadline_s=40)
        await leg.answered()
        return story

    async def talked(self, did: str, number: str, agent: str) -> Story:
        story = await self.inbound(did, number, agent)
        await story.calls["customer"].talk(TALK_S)
        await story.calls["customer"].hangup()
        return story

    async def outbound(self) -> Story:
        story = Story(OUTBOUND, OUTBOUND)
        story.calls["agent"] = agent = await self.agents["104"].call("0201112304")
        story.calls["customer"] = await self.called.incoming(deadline_s=30)
        await agent.answered(deadline_s=30)
        await agent.talk(TALK_S)
        await agent.hangup()
        return story


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(dialplan=DIALPLAN, queues=QUEUES) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(site: Installation) -> AsyncIterator[Office]:
    async with Phones() as phones:
        a = site.asterisk
        carriers = [await phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(2)]
        called = await phones.add(a.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.3))
        names = tuple(str(number) for number in range(101, 109))
        agents = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in names))
        yield Office(site, tuple(carriers), called, dict(zip(names, agents, strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sealed(office: Office) -> dict[str, Path]:
    """Every plain call of the module, overlapping; number -> its file."""
    async with ami.connect(office.site.asterisk) as manager:
        await asyncio.gather(
            office.talked("31201240101", INBOUND, "101"),
            office.talked("31201241001", QUEUED, "102"),
            office.talked("31201236103", BOTH, "103"),
            office.outbound(),
            office.talked("31201240105", DECIDED, "105"),
            office.talked("31201240106", DESTROYED, "106"),
            office.talked("31201236108", SECOND, "108"),
        )
        await office.site.asterisk.idle()
        office.events = manager.events
    numbers = (INBOUND, QUEUED, BOTH, OUTBOUND, DECIDED, DESTROYED, SECOND)
    return {number: await office.site.sealed(number) for number in numbers}


@dataclass
class Crash:
    """A recorded call during which pbxguard was killed and came back."""

    story: Story
    recorders: str
    """`mixmonitor list` of the agent's channel once the new one ran."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crash(office: Office, sealed: dict[str, Path]) -> Crash:
    site = office.site
    story = await office.inbound("31201240107", CRASHED, "107")
    customer = story.calls["customer"]
    await until_recorded(site, CRASHED)
    await customer.talk(TALK_S)
    story.now("killed")
    await site.stop(signal.SIGKILL)
    await customer.talk(1.5)  # Asterisk records on, which is why the file is cut
    story.now("started")
    await site.start()
    await until_recorded(site, CRASHED)
    (leg,) = [name for name in await site.asterisk.channels() if name.startswith("PJSIP/107-")]
    listed = await site.asterisk.cli(f"mixmonitor list {leg}")
    await customer.talk(TALK_S)
    await customer.hangup()
    await site.sealed(CRASHED)
    return Crash(story, listed)


def pcm_sha256(file: Path, channel: int) -> str:
    """Of one track, decoded: signed 16 bits, little endian."""
    samples, _ = soundfile.read(str(file), dtype="int16", always_2d=True)
    return hashlib.sha256(samples[:, channel].astype("<i2").tobytes()).hexdigest()


def is_sound(file: Path) -> bool:
    """Whether `flac` itself decodes it to the sound that the file's own digest names."""
    return subprocess.run(["flac", "--test", "--silent", str(file)], check=False).returncode == 0


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows(site: Installation, query: str, *values: str) -> list[Any]:
    with sqlite3.connect(f"file:{site.home}/pbxguard.db?mode=ro", uri=True) as database:
        return database.execute(query, values).fetchall()


def audited(site: Installation, kind: str, recording: str) -> list[tuple[str, dict[str, Any]]]:
    """(actor, data) of the audit lines of a kind about a recording."""
    found = rows(
        site, "SELECT actor, data FROM audit WHERE kind = ? AND recording = ? ORDER BY number", kind, recording
    )
    return [(actor, json.loads(data)) for actor, data in found]


async def listed(site: Installation, *words: str) -> set[str]:
    """Numbers that `recordings list` gives."""
    found = (await site.run("recordings", "list", *words, "--json")).json()
    return {row["external_number"] for row in found["recordings"]}


# -- files, tags, manifests ------------------------------------------------------------------------------------------


def tags_of(file: Path) -> dict[str, list[str]]:
    """As metaflac reads them."""
    ran = subprocess.run(
        ["metaflac", "--no-utf8-convert", "--export-tags-to=-", str(file)], check=True, capture_output=True, text=True
    )
    found: dict[str, list[str]] = {}
    for line in ran.stdout.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


async def test_the_tags_say_who_when_why_and_what_was_told(site: Installation, sealed: dict[str, Path]) -> None:
    file = sealed[BOTH]
    said, tags = manifest(file), tags_of(file)
    call, told = said["call"], said["told"][0]
    assert sorted(tags["PURPOSE"]) == ["contract_evidence", "quality_training"]
    assert tags["CALLER_ID"] == [BOTH]
    assert tags["CALLED"] == ["31201236103"]
    assert tags["DATE"] == [said["started_utc"]]
    assert tags["CALL_ID"] == [call["id"]]
    assert tags["UNIQUEID"] == [call["uniqueid"]]
    assert tags["LINKEDID"] == [call["linkedid"]]
    assert tags["RECORDING_ID"] == [said["recording"]]
    assert tags["DISCLOSURE_LANGUAGE"] == ["en"]
    assert tags["DISCLOSURE_MODE"] == ["opt_out"]
    assert tags["DISCLOSURE_DIGEST"] == [told["digest"]]
    assert tags["ORGANISATION"] == ["Acme"]
    assert tags["REFERENCE"] == ["C-1"]
    assert tags["OWN_ENDPOINT"] == ["PJSIP/103"]


async def found_by(office: Office, number: str, agent: str, file: Path) -> str:
    """The caller's uniqueid, as Asterisk tells it and as manifest, index and tags have it; so has each the others'."""
    new = [event for event in office.events if event["Event"] == "Newchannel"]
    (caller,) = [
        e for e in new if e["Channel"].startswith("PJSIP/trunk-a-") and e["CallerIDNum"].endswith(number.lstrip("+"))
    ]
    (leg,) = [e for e in new if e["Channel"].startswith(f"PJSIP/{agent}-") and e["Linkedid"] == caller["Linkedid"]]
    said, tags = manifest(file), tags_of(file)
    row = (await office.site.run("recordings", "show", said["recording"], "--json")).json()
    for told in (said["call"], row):
        assert (told["uniqueid"], told["linkedid"]) == (caller["Uniqueid"], caller["Linkedid"])
    assert (tags["UNIQUEID"], tags["LINKEDID"]) == ([caller["Uniqueid"]], [caller["Linkedid"]])
    assert said["call"]["own_uniqueids"] == [leg["Uniqueid"]]
    return caller["Uniqueid"]


async def test_a_call_is_found_by_the_uniqueids_that_asterisk_gave_it(office: Office, sealed: dict[str, Path]) -> None:
    """So that CDR pages find a recording."""
    await found_by(office, INBOUND, "101", sealed[INBOUND])


async def test_a_queue_call_is_found_by_the_uniqueid_of_the_queue_log(office: Office, sealed: dict[str, Path]) -> None:
    """So that QueueMetrics and its like do; and there are no ids but those of this call."""
    uniqueid = await found_by(office, QUEUED, "102", sealed[QUEUED])
    log = (office.site.asterisk.run_dir / "log" / "queue_log").read_text()
    entered = [row.split("|") for row in log.splitlines() if "|ENTERQUEUE|" in row]
    assert [(row[1], row[2]) for row in entered] == [(uniqueid, "support")]
    (joined,) = [event for event in office.events if event["Event"] == "QueueCallerJoin"]
    (connected,) = [event for event in office.events if event["Event"] == "AgentConnect"]
    call = manifest(sealed[QUEUED])["call"]
    assert (call["uniqueid"], call["linkedid"]) == (joined["Uniqueid"], joined["Linkedid"])
    assert call["own_uniqueids"] == [connected["DestUniqueid"]]


async def test_the_file_name_says_when_why_and_who(sealed: dict[str, Path]) -> None:
    file, said = sealed[BOTH], manifest(sealed[BOTH])
    began = datetime.fromisoformat(said["started_utc"])
    assert file.name == (
        f"{began:%Y%m%dT%H%M%SZ}_contract_evidence+quality_training_{BOTH[1:]}_{said['recording']}.flac"
    )
    assert file.parent.relative_to(file.parents[3]).as_posix() == f"{began:%Y/%m/%d}"


@pytest.mark.parametrize("number", [INBOUND, BOTH, OUTBOUND])
async def test_every_digest_in_the_manifest_is_that_of_the_file_and_its_tracks(
    number: str, sealed: dict[str, Path]
) -> None:
    file = sealed[number]
    said = manifest(file)
    with soundfile.SoundFile(str(file)) as sound:
        assert said["file"]["samples"] == sound.frames
        assert said["file"]["rate"] == sound.samplerate == 8000
        assert said["file"]["channels"] == sound.channels == 2
    assert said["file"]["name"] == file.name
    assert said["file"]["sha256"] == sha256(file)
    assert said["tracks"]["own"] == {"channel": "left", "pcm_sha256": pcm_sha256(file, 0)}
    assert said["tracks"]["others"] == {"channel": "right", "pcm_sha256": pcm_sha256(file, 1)}
    assert said["tracks"]["own"]["pcm_sha256"] != said["tracks"]["others"]["pcm_sha256"]
    # The FLAC's own digest of its sound agrees as well.
    assert is_sound(file)


async def test_the_manifest_is_canonical_json_and_accounts_for_every_sample(sealed: dict[str, Path]) -> None:
    file = sealed[INBOUND]
    said, text = manifest(file), file.with_suffix(".json").read_bytes()
    assert text == json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert sum(interval["samples"] for interval in said["intervals"]) == said["file"]["samples"]
    for interval in said["intervals"]:
        begin, end = (datetime.fromisoformat(interval[key]) for key in ("begin_utc", "end_utc"))
        assert abs((end - begin).total_seconds() - interval["samples"] / 8000) < 0.1
    assert said["gaps"] == []
    assert said["purposes"] == [{"name": "contract_evidence", "basis": "f"}]
    assert [told["disclosure"] for told in said["told"]] == [NOTICE]
    assert said["told"][0]["ended_utc"] < said["started_utc"]
    assert said["jurisdictions"] == ["NL"]
    assert said["consents"] == said["objections"] == []
    assert said["ended_by"] == ["call_ended"]
    assert said["call"]["direction"] == "inbound"


async def test_an_outbound_manifest_names_whom_we_called(sealed: dict[str, Path]) -> None:
    call = manifest(sealed[OUTBOUND])["call"]
    assert call["direction"] == "outbound"
    assert (call["caller_id"], call["called"], call["own_number"]) == (OUTBOUND, OUTBOUND, "104")


async def test_the_digest_of_the_disclosure_is_that_of_its_text_and_sound(
    site: Installation, sealed: dict[str, Path]
) -> None:
    """What a manifest cites can be computed anew from what was approved: the words, and the sound that was played."""
    told = manifest(sealed[INBOUND])["told"][0]
    approved = (await site.run("prompts", "list", "--json")).json()
    rows = approved["prompts"] if isinstance(approved, dict) else approved
    (row,) = [row for row in rows if row["name"] == NOTICE]
    assert (row["state"], row["approved_by"]) == ("approved", "the lab's officer")
    sound = digest(sha256(prompt(site, NOTICE)))
    assert told["digest"] == digest(f"{digest(row['text'] + chr(10))}\n{sound}")


# -- finding ---------------------------------------------------------------------------------------------------------


async def test_a_recording_is_found_by_number_in_any_notation_by_reference_and_by_time(
    site: Installation, sealed: dict[str, Path]
) -> None:
    notations = ("0612345301", "+31612345301", "0031612345301", "06-1234 53 01")
    found = await asyncio.gather(*(listed(site, "--number", notation) for notation in notations))
    assert found == [{INBOUND}] * len(notations)
    by_reference, since, earlier, nobody = await asyncio.gather(
        listed(site, "--reference", "K-101"),
        listed(site, "--since", "1h"),
        listed(site, "--until", "1h"),
        listed(site, "--number", "0612345399"),
    )
    assert by_reference == {INBOUND}
    assert since >= {INBOUND, BOTH, OUTBOUND}
    assert earlier == nobody == set()


# -- copies, outcomes, destruction -----------------------------------------------------------------------------------


async def test_an_export_is_a_whole_copy_and_says_who_asked_and_why(
    site: Installation, sealed: dict[str, Path], tmp_path: Path
) -> None:
    file = sealed[INBOUND]
    id = manifest(file)["recording"]
    refused = await site.run("recordings", "export", id, "--wav", "--reason", " ", "--to", str(tmp_path), check=False)
    assert refused.code == 2
    assert audited(site, "recording.exported", id) == []
    words = ("--wav", "--reason", "access request 12", "--actor", "the officer", "--to", str(tmp_path), "--json")
    made = (await site.run("recordings", "export", id, *words)).json()
    original, copy = (soundfile.read(str(path), dtype="int16")[0] for path in (file, Path(made["audio"])))
    assert (original == copy).all()
    copied, words_told = (Path(made[what]) for what in ("manifest", "disclosure"))
    assert copied.read_bytes() == file.with_suffix(".json").read_bytes()
    assert "Acme neemt dit gesprek op als bewijs" in words_told.read_text()
    ((actor, data),) = audited(site, "recording.exported", id)
    assert actor == "the officer"
    assert data["reason"] == "access request 12"


async def test_an_export_that_cannot_be_written_down_makes_no_copy(
    site: Installation, sealed: dict[str, Path], tmp_path: Path
) -> None:
    """The line comes before the copy: while the audit log cannot be written, nothing is given."""
    id = manifest(sealed[BOTH])["recording"]
    words = ("recordings", "export", id, "--reason", "claim 8", "--to", str(tmp_path))
    with sqlite3.connect(site.home / "pbxguard.db", timeout=10, isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        ran = await site.run(*words, check=False)
        database.execute("ROLLBACK")
    assert ran.code != 0
    assert inside(tmp_path) == []
    assert audited(site, "recording.exported", id) == []
    await site.run(*words)  # the same, once it can
    assert f"{id}.flac" in inside(tmp_path)
    assert len(audited(site, "recording.exported", id)) == 1


async def test_an_outcome_by_reference_decides_how_long_it_is_kept(site: Installation, sealed: dict[str, Path]) -> None:
    end = date(2027, 6, 30)
    words = ("outcome", "K-105", "contract", "--contract-end", end.isoformat(), "--json")
    told = (await site.run(*words)).json()
    assert told["recording"] == manifest(sealed[DECIDED])["recording"]
    assert told["outcome"] == "contract"
    assert told["contract_end"] == end.isoformat()
    assert datetime.fromisoformat(told["until"]).date() >= date(2028, 6, 30)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("K-999", "contract"), 1, "not_found"),
        (("C-1", "contract"), 1, "ambiguous"),
        (("K-999", "contract", "--contract-end", "soon"), 2, "wrong_use"),
    ],
)
async def test_an_outcome_of_no_recording_of_several_or_that_is_none_changes_nothing(
    words: tuple[str, ...], code: int, error: str, site: Installation, sealed: dict[str, Path]
) -> None:
    before = rows(site, "SELECT id, outcome FROM recordings ORDER BY id")
    lines = rows(site, "SELECT count(*) FROM audit WHERE kind = 'outcome.set'")
    said, told = await asyncio.gather(
        site.run("outcome", *words, "--json", check=False), site.run("outcome", *words, check=False)
    )
    assert (said.code, told.code) == (code, code)
    assert said.json()["error"]["code"] == error
    assert told.out == ""
    assert said.json()["error"]["message"] in told.err
    if error == "ambiguous":
        fit = {manifest(sealed[number])["recording"] for number in (BOTH, SECOND)}
        assert set(re.findall(r"\b[a-z2-7]{16}\b", told.err)) == fit
    assert rows(site, "SELECT id, outcome FROM recordings ORDER BY id") == before
    assert rows(site, "SELECT count(*) FROM audit WHERE kind = 'outcome.set'") == lines


async def shifted(site: Installation, days: int, *words: str) -> Ran:
    """A command of pbxguard's on a clock so many days ahead."""
    program = (
        "from datetime import timedelta; from pbxguard.cli import main, retention as r; clock = r.now; "
        f"r.now = lambda: clock() + timedelta(days={days}); main()"
    )
    arguments = (sys.executable, "-c", program, "--config", str(site.config), *words)
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=REPO
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def test_a_sweep_destroys_what_is_over_and_nothing_else(site: Installation, sealed: dict[str, Path]) -> None:
    gone = sealed[DESTROYED]
    id, whole = manifest(gone)["recording"], sha256(gone)
    await site.run("outcome", id, "no_contract")
    today = (await site.run("retention", "sweep", "--dry-run", "--json")).json()
    assert today["due"] == []
    looked = await shifted(site, 8, "retention", "sweep", "--dry-run", "--json")
    assert [one["recording"] for one in looked.json()["due"]] == [id]
    assert gone.exists()  # a dry run does nothing
    swept = (await shifted(site, 8, "retention", "sweep", "--json")).json()
    assert [(one["recording"], one["ground"]) for one in swept["destroyed"]] == [(id, "no_contract")]
    assert swept["failed"] == []
    leaves_no_content(site, gone, id, DESTROYED, whole)
    assert all(path.exists() for number, path in sealed.items() if number != DESTROYED)


async def test_destroy_by_hand_leaves_a_line_without_content_and_no_copy_to_give(
    site: Installation, sealed: dict[str, Path], crash: Crash, tmp_path: Path
) -> None:
    file = await site.sealed(CRASHED)
    id, whole = manifest(file)["recording"], sha256(file)
    # measured before it is gone
    await went_on_after_the_crash(site, file, crash)
    await site.run("recordings", "destroy", id, "--reason", "request 12", "--actor", "the officer", "--yes")
    leaves_no_content(site, file, id, CRASHED, whole)
    ((actor, data),) = audited(site, "recording.destroyed", id)
    assert (actor, data["reason"], data["ground"]) == ("the officer", "request 12", "by_hand")
    again = await site.run("recordings", "export", id, "--reason", "claim", "--to", str(tmp_path), check=False)
    assert again.code != 0
    assert inside(tmp_path) == []
    assert CRASHED not in await listed(site)
    assert (await site.run("recordings", "show", id, "--json")).json()["destroyed"]


def leaves_no_content(site: Installation, file: Path, id: str, number: str, whole: str) -> None:
    """File and manifest are gone; one certificate stays, and no number anywhere beside it."""
    assert not file.exists()
    assert not file.with_suffix(".json").exists()
    ((_, data),) = audited(site, "recording.destroyed", id)
    assert data["sha256"] == whole
    assert data["file_found"]
    assert number[1:] not in json.dumps(data)
    ((row,),) = rows(site, "SELECT external_number || path || manifest || reference FROM recordings WHERE id = ?", id)
    assert number[1:] not in row


async def test_the_audit_log_takes_nothing_back(site: Installation, sealed: dict[str, Path]) -> None:
    before = rows(site, "SELECT count(*) FROM audit")
    with sqlite3.connect(site.home / "pbxguard.db", timeout=10) as database:
        for change in (
            "UPDATE audit SET actor = 'nobody'",
            "DELETE FROM audit",
            "INSERT OR REPLACE INTO audit SELECT * FROM audit LIMIT 1",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(change)
    assert rows(site, "SELECT count(*) FROM audit") >= before


# -- a crash in mid-call ---------------------------------------------------------------------------------------------


async def went_on_after_the_crash(site: Installation, file: Path, crash: Crash) -> None:
    """One file of two segments: up to the watermark before the kill, and from after the restart; nothing twice."""
    said = manifest(file)
    kept = [segment for segment in said["segments"] if segment["kept_samples"]]
    assert len(kept) == 2
    # The dead one's recorder was stopped: only the new segment's runs.
    assert set(re.findall(r"[a-z2-7]{16}-[0-9]{3}", crash.recorders)) == {kept[1]["id"]}, crash.recorders
    assert [gap["reasons"] for gap in said["gaps"]] == [["guard_away"]]
    customer = crash.story.calls["customer"]
    heard, spoken = await measure.pair(customer)
    measured = measure.recorded(file, spoken, CUSTOMER)
    assert measured.first_s > measure.prompt_end(heard, prompt(site, NOTICE))
    inside = checker.chirp_stretches(measured.others, CUSTOMER)
    places = measure.positions(measured.others, spoken, CUSTOMER)
    border = kept[1]["file_offset"] / measured.own.rate
    killed, started = (crash.story.moments[name] - heard.began for name in ("killed", "started"))
    before = [place for stretch, place in zip(inside, places, strict=True) if stretch.start_s < border - 0.02]
    after = places[len(before) :]
    assert before[-1][1] < killed
    assert after[0][0] > started
    assert measured.own.seconds > 2 * TALK_S - 3 * LOST_S
    assert measured.own.seconds < after[-1][1] - measured.first_s  # the gap is not in it


async def test_nothing_is_left_in_the_spool(site: Installation, crash: Crash) -> None:
    async with Phones() as phones:
        await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")
