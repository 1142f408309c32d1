"""The demo's calls, overlapping on one real Asterisk, each measured in its sealed file and at its phones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure, stories
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.stories import AGENT_HZ, CUSTOMER, THIRD_HZ, Cast, Story

LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on this busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(site: Installation) -> AsyncIterator[dict[str, Story]]:
    async with Phones() as phones:
        cast = await Cast.gather(site, phones, stories.AGENTS)
        played = await stories.all_at_once(cast)
        for story in played:
            for call in story.calls.values():
                await call.ended()
        yield {play.__name__: story for play, story in zip(stories.STORIES, played, strict=True)}


def prompt(site: Installation, disclosure: str, part: str = "notice") -> Path:
    """The sound file of a disclosure's notice or key sentence."""
    (found,) = (site.home / "prompts").rglob(f"{disclosure}-{part}-*.wav")
    return found


def manifest(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.with_suffix(".json").read_text()))


async def test_an_inbound_call_is_recorded_after_the_disclosure_and_to_its_end(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["inbound"]
    heard, said = await measure.pair(story.calls["customer"])
    disclosed = measure.prompt_end(heard, prompt(site, "contract_evidence.nl.notice.inbound"))
    file = measure.recorded(await site.sealed(story.number), said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.seconds > stories.TALK_S - LOST_S
    assert len(file.own.samples) == len(file.others.samples)


async def test_a_queue_call_is_recorded_on_the_leg_of_the_member_who_answered(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["queue"]
    heard, said = await measure.pair(story.calls["customer"])
    disclosed = measure.prompt_end(heard, prompt(site, "contract_evidence.nl.notice.inbound"))
    file = measure.recorded(await site.sealed(story.number), said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.seconds > stories.TALK_S - LOST_S


async def test_the_customer_of_an_outbound_call_hears_the_disclosure_before_the_agent(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["outbound"]
    heard, said = await measure.pair(story.calls["customer"])
    disclosed = measure.prompt_end(heard, prompt(site, "contract_evidence.nl.notice.outbound"))
    assert measure.first_heard(heard, AGENT_HZ) >= disclosed
    file = measure.recorded(await site.sealed(story.number), said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}


async def test_a_caller_who_presses_9_is_not_recorded_and_is_connected(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["objection"]
    heard, _ = await measure.pair(story.calls["customer"])
    notice = checker.read(prompt(site, "quality_training.nl.opt_out.inbound"))[0]
    found = checker.locate(measure.track(heard), notice)
    assert found is not None
    assert not found.complete
    assert measure.first_heard(heard, AGENT_HZ) > found.end_s
    why = await site.why(story.number)
    assert why["reasons"][0] == "objected"
    assert site.files(story.number) == []


async def test_a_caller_who_hangs_up_during_the_disclosure_leaves_no_file(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["hung_up"]
    why = await site.why(story.number)
    assert not why["told"]
    assert site.files(story.number) == []


async def test_a_call_to_a_helpline_is_neither_told_nor_recorded(site: Installation, told: dict[str, Story]) -> None:
    story = told["helpline"]
    heard, _ = await measure.pair(story.calls["third"])
    spoken = checker.read(prompt(site, "contract_evidence.nl.notice.outbound"))[0]
    assert checker.locate(measure.track(heard), spoken) is None
    why = await site.why(story.number)
    assert why["reasons"][0] == "never_record"
    assert site.files(story.number) == []


async def test_an_outside_caller_forwarded_outside_is_not_recorded(site: Installation, told: dict[str, Story]) -> None:
    story = told["forwarded"]
    heard, _ = await measure.pair(story.calls["customer"])
    measure.first_heard(heard, THIRD_HZ)  # the two did talk
    why = await site.why(story.number)
    assert "no_own_party" in why["history"][-1]["reasons"] if "history" in why else why["reasons"]
    assert site.files(story.number) == []


async def test_a_transfer_by_refer_to_an_outside_number_ends_the_recording_before_the_third_party(
    site: Installation, told: dict[str, Story]
) -> None:
    story = told["transferred"]
    heard, said = await measure.pair(story.calls["customer"])
    file = measure.recorded(await site.sealed(story.number), said, CUSTOMER)
    arrived = measure.first_heard(heard, THIRD_HZ)
    assert file.last_s < arrived
    third = measure.detector(THIRD_HZ, heard, measure.track(said), measure.track(heard).part(0, arrived - 0.1))
    assert third.find(measure.track(heard)), "the detector is blind"
    assert third.shortest_s <= 0.005
    assert third.find(file.own) == []
    assert third.find(file.others) == []
    assert file.seconds > stories.TALK_S - LOST_S


async def test_nothing_is_left_in_the_spool(site: Installation, told: dict[str, Story]) -> None:
    for name in ("inbound", "queue", "outbound", "transferred"):
        await site.sealed(told[name].number)
    await site.asterisk.idle()

    async with Phones() as phones:
        await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")


@pytest.mark.parametrize("name", ["inbound", "queue", "outbound", "transferred"])
async def test_manifest_and_file_agree(name: str, site: Installation, told: dict[str, Story]) -> None:
    file = await site.sealed(told[name].number)
    said = manifest(file)
    ran = await site.run("recordings", "verify", said["recording"], "--json")
    assert ran.code == 0
