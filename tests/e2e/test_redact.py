"""Who forgot to pause: a span is cut out of a sealed recording for good, also by a process that dies on the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.in_call import AGENT_HZ, CUSTOMER, OTHER_HZ
from tests.e2e.test_fault_points import REDACTING
from tests.lab import asterisk_tree, checker, measure
from tests.lab.asterisk import REPO
from tests.lab.checker import Detector, Span
from tests.lab.deaths import DIE_AT, accounted_for, audited, rows
from tests.lab.evidence import manifest
from tests.lab.installation import Installation
from tests.lab.phone import Phone, Phones
from tests.lab.signals import Tone

TALK_S, CARD_S = 2.0, 1.5
MARGIN_S = 0.1
"""Cut on either side of what is to go."""
MARK = "quiet-reason-of-the-lab"


@dataclass
class Desk:
    site: Installation
    carrier: Phone
    agent: Phone

    async def call(self, number: str) -> Path:
        """A recorded call in which the customer says, in another voice, what should not have been recorded."""
        customer = await self.carrier.call("31201234101", caller_id=number)
        agent = await self.agent.incoming(number=number, deadline_s=30)
        await agent.answered()
        await customer.talk(TALK_S)
        await customer.say(Tone(OTHER_HZ))
        await customer.talk(CARD_S)
        await customer.say(CUSTOMER)
        await customer.talk(TALK_S)
        await customer.hangup()
        return await self.site.sealed(number)

    async def redact(self, id: str, begin: float, end: float, *more: str) -> dict[str, object]:
        words = ("--from", f"{begin:.3f}", "--to", f"{end:.3f}", "--reason", MARK, "--json", *more)
        return dict((await self.site.run("recordings", "redact", id, *words)).json())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(tree: asterisk_tree.Tree) -> AsyncIterator[Desk]:
    async with Installation() as site, Phones() as phones:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
        yield Desk(site, carrier, await phones.add(a.line("101"), sends=Tone(AGENT_HZ)))


def spoken(file: Path) -> tuple[Detector, Span]:
    """Where in the file the other voice is, and the detector that found it."""
    _, others = checker.read(file)
    found = [span for span in checker.spans(others, OTHER_HZ) if span.seconds > 0.5]
    assert len(found) == 1, found
    begin = found[0].start_s
    detector = Detector.calibrate(OTHER_HZ, others, [others.part(0.0, begin - 0.3)])
    return detector, found[0]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_a_span_is_cut_out_for_good_and_the_new_seal_names_the_old(desk: Desk) -> None:
    site = desk.site
    file = await desk.call("+31612440001")
    id, old = manifest(file)["recording"], sha256(file)
    detector, span = spoken(file)
    begin, end = span.start_s - MARGIN_S, span.end_s + MARGIN_S
    seconds = checker.read(file)[0].seconds

    dry = await desk.redact(id, begin, end, "--dry-run")
    assert dry["dry_run"]
    assert sha256(file) == old

    told = await desk.redact(id, begin, end)
    assert not file.exists()
    assert not file.with_suffix(".json").exists()
    (new,) = site.files("+31612440001")
    said = manifest(new)
    own, others = checker.read(new)
    assert own.seconds == pytest.approx(seconds - (end - begin), abs=0.01)
    assert detector.find(others) == []
    assert measure.voices(others, CUSTOMER) == {"chirp"}
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert told["sha256"] == said["file"]["sha256"] == sha256(new)
    (cut,) = said["redactions"]
    assert (cut["old_file_sha256"], cut["reason"]) == (old, MARK)
    assert [gap["reasons"] for gap in said["gaps"]] == [["redacted"]]
    await site.run("recordings", "verify", id)
    kept = [p for p in site.home.rglob("*.flac") if detector.find(checker.read(p)[1])]
    assert kept == [], "the voice that was cut is in another file"
    (begun,), (done,) = audited(site, "recording.redacting", id), audited(site, "recording.redacted", id)
    assert done["sha256"] == begun["sha256"] == old
    assert "31612440001" in new.name, "the search is blind"
    assert not [line for line in (begun, done) if "31612440001" in json.dumps(line)]
    assert done["new_sha256"] == sha256(new)
    accounted_for(site)


async def dies(site: Installation, at: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pbxguard", "--config", str(site.config), *words,
        env={**os.environ, DIE_AT: at}, cwd=REPO, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == -signal.SIGKILL, at


async def redacted_through(desk: Desk, number: str, id: str, at: str) -> None:
    """Killed there while a tenth of a second is cut: the old recording or the new one, and the sweep ends it."""
    site = desk.site
    (before,) = site.files(number)
    samples, cuts = manifest(before)["file"]["samples"], len(manifest(before).get("redactions", []))
    await dies(site, at, "recordings", "redact", id, "--from", "0.2", "--to", "0.3", "--reason", MARK)
    begun = len(audited(site, "recording.redacting", id)) > cuts
    ((path,),) = rows(site, "SELECT path FROM recordings WHERE id = ?", id)
    assert (site.archive / path).exists(), f"{at}: listed and gone"
    await site.run("recordings", "verify", id)
    await site.run("retention", "sweep")
    (after,) = site.files(number)
    said = manifest(after)
    assert len(said.get("redactions", [])) == cuts + begun, at
    assert said["file"]["samples"] == samples - 800 * begun, at
    assert len(audited(site, "recording.redacted", id)) == cuts + begun, at
    await site.run("recordings", "verify", id)
    accounted_for(site)


async def test_a_redaction_that_dies_halfway_is_ended_by_the_next_sweep(desk: Desk) -> None:
    number = "+31612440002"
    id = manifest(await desk.call(number))["recording"]
    for at in ("redact.begun", "redact.indexing", "archive.removed:5"):
        await redacted_through(desk, number, id, at)


@pytest.mark.slow
async def test_a_redaction_dies_at_each_of_its_fault_points(desk: Desk) -> None:
    number = "+31612440003"
    id = manifest(await desk.call(number))["recording"]
    for at in REDACTING:
        await redacted_through(desk, number, id, at)
