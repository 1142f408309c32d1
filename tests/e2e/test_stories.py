"""The demo's calls, overlapping on one real Asterisk, each measured in its sealed file and at its phones.

The measures themselves are in tests/lab/verdicts.py: the demo shows no verdict that it has not measured, either.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, stories, verdicts
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.stories import Cast, Story


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


async def test_an_inbound_call_is_recorded_after_the_disclosure_and_to_its_end(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.inbound(site, told["inbound"])


async def test_a_queue_call_is_recorded_on_the_leg_of_the_member_who_answered(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.queue(site, told["queue"])


async def test_the_customer_of_an_outbound_call_hears_the_disclosure_before_the_agent(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.outbound(site, told["outbound"])


async def test_a_caller_who_presses_9_is_not_recorded_and_is_connected(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.objection(site, told["objection"])


async def test_a_caller_who_hangs_up_during_the_disclosure_leaves_no_file(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.hung_up(site, told["hung_up"])


async def test_a_call_to_a_helpline_is_neither_told_nor_recorded(site: Installation, told: dict[str, Story]) -> None:
    await verdicts.helpline(site, told["helpline"])


async def test_an_outside_caller_forwarded_outside_is_not_recorded(site: Installation, told: dict[str, Story]) -> None:
    await verdicts.forwarded(site, told["forwarded"])


async def test_a_transfer_by_refer_to_an_outside_number_ends_the_recording_before_the_third_party(
    site: Installation, told: dict[str, Story]
) -> None:
    await verdicts.transferred(site, told["transferred"])


async def test_nothing_is_left_in_the_spool(site: Installation, told: dict[str, Story]) -> None:
    for name in ("inbound", "queue", "outbound", "transferred"):
        await site.sealed(told[name].number)
    await site.asterisk.idle()

    async with Phones() as phones:
        await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")


@pytest.mark.parametrize("name", ["inbound", "queue", "outbound", "transferred"])
async def test_manifest_and_file_agree(name: str, site: Installation, told: dict[str, Story]) -> None:
    file = await site.sealed(told[name].number)
    said = json.loads(file.with_suffix(".json").read_text())
    ran = await site.run("recordings", "verify", said["recording"], "--json")
    assert ran.code == 0
