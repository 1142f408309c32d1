"""A purpose begun in mid-call by one of us: the customer is told by whisper, and recorded from when he heard it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.in_call import (
    AGENT_HZ,
    BEGIN,
    CUSTOMER,
    LOST_S,
    NOTHING,
    NOTICE,
    OTHER_HZ,
    TALK_S,
    Kept,
    Office,
    Talk,
    played,
    without_the_other_voice,
)
from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, prompt
from tests.lab.measure import SLIP_S
from tests.lab.signals import Silence, Tone

Played = tuple[Office, dict[str, Talk]]
UNASKED = {"no_purpose"}


async def unrecorded(office: Office, extension: str, number: str) -> Talk:
    """Nothing was asked for at the door. The customer says what must not be kept; then both are silent."""
    talk = await office.talk(NOTHING, extension, number, recorded=False)
    await talk.refused("at first", UNASKED)
    await talk.customer.talk(1.5)
    await talk.says_what_must_not_be_kept()
    await talk.customer.say(Silence())
    await talk.agent.say(Silence())
    return talk


async def goes_on(talk: Talk) -> Talk:
    """Once he was told, both speak."""
    await talk.recorded("told")
    await talk.customer.say(CUSTOMER)
    await talk.agent.say(Tone(AGENT_HZ))
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def begun(office: Office) -> Talk:
    talk = await unrecorded(office, "101", "+31612440001")
    await talk.agent.dtmf(BEGIN)
    return await goes_on(talk)


async def by_operator(office: Office) -> Talk:
    talk = await unrecorded(office, "102", "+31612440002")
    await office.site.run("calls", "start", talk.id, "--purpose", "contract_evidence")
    return await goes_on(talk)


async def hangs_up_meanwhile(office: Office) -> Talk:
    talk = await unrecorded(office, "103", "+31612440003")
    await talk.agent.dtmf(BEGIN)
    await office.until(lambda: _told(office, talk, "disclosure.started"), "being told")
    await talk.customer.talk(1.0)
    await talk.over()
    return talk


async def asked_by_the_customer(office: Office) -> Talk:
    """He may not: it is his phone that presses the key."""
    talk = await unrecorded(office, "104", "+31612440004")
    await talk.customer.dtmf(BEGIN)
    await office.until(lambda: office.site.events("request.refused"), "refused")
    await talk.customer.say(CUSTOMER)
    await talk.customer.talk(TALK_S)
    await talk.refused("afterwards", UNASKED)
    await talk.over()
    return talk


def _told(office: Office, talk: Talk, event: str) -> bool:
    return any(line["call"] == talk.id for line in office.site.events(event))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office_and_talks(tree: asterisk_tree.Tree) -> AsyncIterator[Played]:
    wave = (begun, by_operator, hangs_up_meanwhile, asked_by_the_customer)
    async for office, talks in played((wave,), ("101", "102", "103", "104")):
        yield office, talks


@pytest.mark.row(
    situation="one of us begins a purpose in mid-call, by a key or at the command line",
    decision="the customer is told by whisper; recorded from when he heard it in full",
    article="art. 13 GDPR",
)
@pytest.mark.parametrize("title", ["begun", "by_operator"])
async def test_a_purpose_begun_in_mid_call_is_told_and_then_recorded(office_and_talks: Played, title: str) -> None:
    office, talks = office_and_talks
    talk = talks[title]
    path = await office.site.sealed(talk.number)
    own, others = checker.read(path)
    file = Kept(path, own, others, manifest(path))
    heard, said = await measure.pair(talk.customer)
    end = heard.began + measure.prompt_end(heard, prompt(office.site, NOTICE))
    # What is recorded ends with the call at the latest: so long before it, it did not begin.
    assert TALK_S - LOST_S < file.own.seconds <= said.began + said.seconds - end + SLIP_S
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert file.gaps == []
    assert [told["disclosure"] for told in file.manifest["told"]] == [NOTICE]
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="the customer hangs up while he is told of a purpose begun in mid-call",
    decision="not recorded",
    article="139c Sr; art. 13 GDPR",
)
async def test_who_hangs_up_while_he_is_told_is_not_recorded(office_and_talks: Played) -> None:
    office, talks = office_and_talks
    talk = talks["hangs_up_meanwhile"]
    found = measure.prompt_heard(await talk.customer.heard(), prompt(office.site, NOTICE))
    assert found is not None, "the control: he was being told"
    assert not found.complete
    assert office.site.files(talk.number) == []
    assert not _told(office, talk, "recorder.started")


@pytest.mark.row(
    situation="the customer presses the key that begins a purpose",
    decision="refused: one of us alone may",
    article="own rule",
)
async def test_a_customer_begins_no_purpose(office_and_talks: Played) -> None:
    office, talks = office_and_talks
    talk = talks["asked_by_the_customer"]
    assert not _told(office, talk, "disclosure.started")
    assert office.site.files(talk.number) == []
    assert f"{OTHER_HZ:g}" in measure.voices(measure.track(await talk.agent.heard()), CUSTOMER), "the control"
