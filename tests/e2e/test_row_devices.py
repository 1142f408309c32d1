"""Own telephones with two calls, on the real Asterisk: what one hears in one call, it may pass into the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure, scenes
from tests.lab.asterisk import Line
from tests.lab.evidence import reasons, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, Phones, Ring
from tests.lab.scenes import AGENT_HZ, LOST_S, OTHER_HZ, TALK_S, THIRD_HZ, Office, Scene, file_of
from tests.lab.signals import Tone

SETTINGS = """
[devices]
groups = [["PJSIP/110", "PJSIP/111"]]
by_contact = ["PJSIP/122"]
"""
DIALPLAN = """
; 31201239NNN: every telephone on endpoint NNN rings
exten => _3120123912X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(${PJSIP_DIAL_CONTACTS(${EXTEN:8})},60,tT)
[internal](+)
; an outside number that rings, and is heard meanwhile
exten => _8X.,1,Dial(PJSIP/${EXTEN:1}@trunk-b,60,tT)
"""
AGENTS = ("104", "105", "110", "111", "114", "115")


async def three_way(office: Office) -> Scene:
    """A second call, un-held beside the first, which the phone joins."""
    scene = await office.inbound("a three-way inside the phone", "31201234104", "+31612345704", "104")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await agent.hold()
    second, scene.calls["third"] = await office.outside("104", "931108880704")
    await agent.unhold()
    await agent.join(second)
    await customer.talk(2.0)
    await office.view(scene, "three", on=False)
    scene.views["the other call"] = await until_recorded(office.site, "+31108880704", on=False)
    await second.hangup()
    await office.view(scene, "two again")
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def early(office: Office) -> Scene:
    """The second call is not answered: the third party is heard before that (early media)."""
    scene = await office.inbound("a ringing call with early media", "31201234105", "+31612345705", "105")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    outside = await office.phones.add(
        office.site.asterisk.line("trunk-b"), sends=Tone(THIRD_HZ), on_incoming=Ring(), name="early"
    )
    second = await office.own["105"].call("831108880705")
    scene.calls["third"] = third = await outside.incoming(deadline_s=15)
    await third.progress()
    await office.phones.until(lambda: second.active, "early media at the agent's phone")
    await agent.join(second)
    await customer.talk(2.0)
    await office.view(scene, "ringing", on=False)
    await third.reject()
    await second.ended()
    await office.view(scene, "one again")
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def two_accounts(office: Office) -> Scene:
    """One telephone is on two endpoints, grouped: it calls out on the second, and passes on what it hears there."""
    scene = await office.inbound("two accounts on one phone", "31201234110", "+31612345710", "110")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    second, scene.calls["third"] = await office.outside("111", "931108880710")
    await office.view(scene, "two calls", on=False)
    await agent.say(Tone(THIRD_HZ))
    await customer.talk(2.0)
    await agent.say(Tone(AGENT_HZ))
    await customer.talk(0.5)
    await second.hangup()
    await office.view(scene, "one again")
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def two_telephones(office: Office) -> Scene:
    """The twin: two endpoints that are not grouped."""
    scene = await office.inbound("two accounts on two phones", "31201234114", "+31612345714", "114")
    second, scene.calls["third"] = await office.outside("115", "931108880714")
    await scene.calls["customer"].talk(TALK_S)
    await office.view(scene, "two calls")
    await second.hangup()
    await scene.calls["customer"].hangup()
    return scene


async def _two_contacts(office: Office, endpoint: str, number: str, other_number: str) -> tuple[Scene, Scene]:
    """Two telephones on one endpoint, each with a customer of its own at the same time."""
    one, other = office.own[f"{endpoint}a"], office.own[f"{endpoint}b"]
    scene = await office.inbound(f"two phones on {endpoint}", f"31201239{endpoint}", number)
    scene.calls["agent"] = await one.incoming(number=number, deadline_s=30)
    await scene.calls["agent"].answered()
    await office.view(scene, "at first")
    await scene.calls["customer"].talk(1.0)
    await one.answers(Ring())
    await other.answers(Answer(0.4))
    second = await office.inbound(f"the other phone on {endpoint}", f"31201239{endpoint}", other_number)
    second.calls["agent"] = await other.incoming(number=other_number, deadline_s=30)
    await second.calls["agent"].answered()
    return scene, second


async def split(office: Office) -> Scene:
    """Split by contact: both are recorded."""
    scene, second = await _two_contacts(office, "122", "+31612345722", "+31612345732")
    await office.view(second, "both")
    await second.calls["customer"].talk(TALK_S)
    await office.view(scene, "both")
    await second.calls["customer"].hangup()
    await scene.calls["customer"].hangup()
    scene.calls["second"] = second.calls["customer"]
    return scene


async def unsplit(office: Office) -> Scene:
    """The twin, not split: neither is."""
    scene, second = await _two_contacts(office, "123", "+31612345723", "+31612345733")
    await second.calls["customer"].talk(1.0)
    await office.view(scene, "both", on=False)
    await office.view(second, "both", on=False)
    scene.views["the second"] = second.views["both"]
    await second.calls["customer"].hangup()
    await office.view(scene, "alone again")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def telephones(site: Installation, phones: Phones, endpoint: str) -> dict[str, Phone]:
    """Two on one endpoint; the first answers, the second rings."""
    line = site.asterisk.line(endpoint)
    return {
        f"{endpoint}a": await phones.add(line, sends=Tone(AGENT_HZ), on_incoming=Answer(0.4)),
        f"{endpoint}b": await phones.add(line, sends=Tone(OTHER_HZ), on_incoming=Ring()),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    more = [Line(name, "internal", password=f"secret{name}", contacts=2) for name in ("122", "123")]
    async with Installation(dialplan=DIALPLAN, settings=SETTINGS, extra_lines=more) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(site: Installation) -> AsyncIterator[dict[str, Scene]]:
    async with scenes.office(site, AGENTS, carriers=3) as office:
        await office.third.answers(Answer(0.6))
        for endpoint in ("122", "123"):
            office.own.update(await telephones(site, office.phones, endpoint))
        yield await scenes.played(office, early, three_way, two_accounts, two_telephones, split, unsplit)


@pytest.mark.row(
    situation="phone-local three-way: one own endpoint with two un-held calls",
    decision="both closed",
    article="139c Sr",
)
async def test_a_three_way_inside_the_phone_closes_both_its_calls(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["three_way"]
    assert scene.reasons("three") == {"second_call"}
    assert scene.reasons("the other call") == {"second_call", "no_purpose"}
    file = await file_of(site, scene)
    assert len(file.segments) == 2
    assert file.own.seconds > 2 * (TALK_S - LOST_S)
    # The third party's voice came from the own phone.
    file.is_free_of(THIRD_HZ, file.heard, scenes.before(file.heard, AGENT_HZ, THIRD_HZ), scenes.own_voice(file.said))
    assert await reasons(site, "+31108880704") == {"second_call", "no_purpose"}
    assert site.files("+31108880704") == []


@pytest.mark.row(
    situation="phone-local three-way with a call that rings and is heard already (early media)",
    decision="closed while it rings",
    article="139c Sr",
)
async def test_a_ringing_call_whose_early_media_the_phone_passes_on_closes_the_first(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["early"]
    assert scene.reasons("ringing") == {"second_call"}
    file = await file_of(site, scene)
    assert len(file.segments) == 2
    assert file.gap_reasons == [["second_call"]]
    file.is_free_of(THIRD_HZ, file.heard, scenes.before(file.heard, AGENT_HZ, THIRD_HZ), scenes.own_voice(file.said))


@pytest.mark.row(
    situation="two accounts on one phone, grouped into one device, each with a call",
    decision="both closed",
    article="139c Sr",
)
async def test_two_accounts_grouped_into_one_device_close_each_other(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["two_accounts"]
    assert scene.reasons("two calls") == {"second_call"}
    file = await file_of(site, scene)
    assert len(file.segments) == 2
    assert file.gap_reasons == [["second_call"]]
    file.is_free_of(THIRD_HZ, file.heard, scenes.before(file.heard, AGENT_HZ, THIRD_HZ), scenes.own_voice(file.said))


@pytest.mark.row(
    situation="two phones, each with a call",
    decision="no bearing on each other: recorded",
    article="own rule",
)
async def test_two_endpoints_that_are_not_grouped_leave_each_other_alone(
    site: Installation, told: dict[str, Scene]
) -> None:
    assert told["two_telephones"].views["two calls"]["recorded"]
    await scenes.plain(site, told["two_telephones"])


@pytest.mark.row(
    situation="one endpoint with two contacts, split by contact",
    decision="each contact is a device of its own: both recorded",
    article="own rule",
)
async def test_two_contacts_of_a_split_endpoint_are_two_devices(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["split"]
    assert scene.views["both"]["recorded"]
    await scenes.plain(site, scene)
    other = Scene("the second", "+31612345732", {"customer": scene.calls["second"]})
    await scenes.plain(site, other, agent_hz=OTHER_HZ)


@pytest.mark.row(
    situation="one endpoint with two contacts, not split",
    decision="one device: both closed while both have a call",
    article="own rule",
)
async def test_two_contacts_of_an_endpoint_that_is_not_split_are_one_device(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["unsplit"]
    assert scene.reasons("both") == {"second_call"}
    assert scene.views["the second"]["reasons"] == ["second_call"]
    assert site.files("+31612345733") == []
    file = await file_of(site, scene)
    assert file.gap_reasons == [["second_call"]]
    assert measure.voices(file.own, scenes.CUSTOMER) == {f"{AGENT_HZ:g}"}
