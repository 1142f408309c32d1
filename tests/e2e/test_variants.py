"""A wideband installation in more languages, and a call that the law itself wants recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure, stories
from tests.lab.evidence import manifest
from tests.lab.installation import Installation
from tests.lab.phone import PhoneCall, Phones
from tests.lab.signals import Tone
from tests.lab.stories import AGENT_HZ, CUSTOMER

RATE = 16000
DIALPLAN = """
exten => _31201250XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence,language=de))
 same => n,Dial(PJSIP/${EXTEN:8},60)
exten => _31201251XXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence,language=fr))
 same => n,Dial(PJSIP/${EXTEN:8},60)
exten => _31201252XXX,1,Gosub(pbxguard-disclose,s,1(mifid_order))
 same => n,Dial(PJSIP/${EXTEN:8},60)
"""
MIFID = """
[purposes.mifid_order]
active = true
"""
CALLS = {
    "wideband": ("31201234100", "+31612347100", "contract_evidence.nl.notice.inbound"),
    "german": ("31201250101", "+31612347101", "contract_evidence.de.notice.inbound"),
    "french": ("31201251103", "+31612347103", "contract_evidence.fr.notice.inbound"),
    "order": ("31201252104", "+31612347104", "mifid_order.nl.notice.inbound"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(
        rate=RATE, languages=("nl", "en", "de", "fr"), dialplan=DIALPLAN, settings=MIFID
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def customers(site: Installation) -> AsyncIterator[dict[str, PhoneCall]]:
    """The four calls, overlapping; the one about an order presses 9 while he is told and once more in the call."""
    async with Phones(rate=RATE) as phones:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
        agents = {
            name: await phones.add(a.line(number[-3:]), sends=Tone(AGENT_HZ)) for name, (number, _, _) in CALLS.items()
        }

        async def play(name: str) -> PhoneCall:
            number, caller, _ = CALLS[name]
            customer = await carrier.call(number, caller_id=caller)
            if name == "order":
                await customer.answered()
                await customer.talk(2.0)
                await customer.dtmf("9")
            answered = await agents[name].incoming(number=caller, deadline_s=30)
            await answered.answered()
            await customer.talk(stories.TALK_S)
            return await customer.hangup()

        played = await asyncio.gather(*(play(name) for name in CALLS))
        yield dict(zip(CALLS, played, strict=True))


def prompt(site: Installation, disclosure: str) -> Path:
    (found,) = (site.home / "prompts").rglob(f"{disclosure}-notice-*.wav*")
    return found


async def recorded_after_its_disclosure(site: Installation, customers: dict[str, PhoneCall], name: str) -> Path:
    """Heard whole, recorded from then on, each voice on its side, at the installation's rate."""
    _, caller, disclosure = CALLS[name]
    heard, said = await measure.pair(customers[name])
    told = measure.prompt_end(heard, prompt(site, disclosure))
    path = await site.sealed(caller)
    file = measure.recorded(path, said, CUSTOMER)
    assert file.first_s > told
    assert (file.own.rate, file.others.rate) == (RATE, RATE)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.seconds > stories.TALK_S - 1.0
    return path


async def test_a_wideband_installation_records_at_its_rate(site: Installation, customers: dict[str, PhoneCall]) -> None:
    path = await recorded_after_its_disclosure(site, customers, "wideband")
    assert checker.read(path)[0].rate == RATE
    assert manifest(path)["file"]["rate"] == RATE


async def test_a_caller_is_told_in_german_where_the_dialplan_says_so(
    site: Installation, customers: dict[str, PhoneCall]
) -> None:
    path = await recorded_after_its_disclosure(site, customers, "german")
    assert [told["language"] for told in manifest(path)["told"]] == ["de"]


async def test_a_caller_is_told_in_french_where_the_dialplan_says_so(
    site: Installation, customers: dict[str, PhoneCall]
) -> None:
    path = await recorded_after_its_disclosure(site, customers, "french")
    assert [told["language"] for told in manifest(path)["told"]] == ["fr"]


async def test_a_9_does_not_stop_what_the_law_wants_recorded(
    site: Installation, customers: dict[str, PhoneCall]
) -> None:
    path = await recorded_after_its_disclosure(site, customers, "order")
    said = manifest(path)
    assert [purpose["name"] for purpose in said["purposes"]] == ["mifid_order"]
    assert said["objections"], "his objection is written down all the same"
