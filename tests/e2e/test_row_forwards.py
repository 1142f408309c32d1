"""Calls that go elsewhere before anybody answers: forwards by the phone and by the dialplan, FollowMe, ring groups.

Where an outside party answers in place of ours, nobody of ours takes part and he was told nothing: not recorded. Each
has a twin that reaches one of ours and is recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Forward, Phones, Ring
from tests.lab.plays import (
    AGENT_HZ,
    DIALS,
    OTHER_HZ,
    OUTSIDE,
    TALK_S,
    THIRD_HZ,
    Office,
    Played,
    Scene,
    both_voices,
    nothing_left,
    play,
    reasons,
    told_and_refused,
)

NUMBER = "+316126{:05d}"
REFUSED = "not recorded: nobody of ours takes part, and he was told nothing"
RECORDED = "recorded on the leg of who answered"
DIALPLAN = """
; forwarded by the dialplan: outside, outside by Local channels, and to another agent
exten => 31201239030,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/31108880703@trunk-c,60,tT)
exten => 31201239031,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(Local/831108880704@internal,60,tT)
exten => 31201239032,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(Local/831108880705@internal/n,60,tT)
exten => 31201239033,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(Local/103@internal,60,tT)
; FollowMe: the desk, the mobile
exten => 31201239034,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,FollowMe(mobile)
exten => 31201239035,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,FollowMe(desk)
; ring groups of a desk and an outside mobile: one that rings on, one that answers
exten => 31201239036,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/105&PJSIP/31108880708@trunk-e,60,tT)
exten => 31201239037,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/106&PJSIP/31108880709@trunk-c,60,tT)
[internal](+)
"""
FOLLOWME = """\
[general]
[mobile]
context=internal
takecall=1
declinecall=2
number=>831108880706,20
[desk]
context=internal
takecall=1
declinecall=2
number=>104,20
"""


# -- scenes ----------------------------------------------------------------------------------------------------------


async def _outside(office: Office, title: str, did: str, number: int, third: str) -> Scene:
    """The customer's call is answered outside; the two talk."""
    scene = await office.inbound(title, did, NUMBER.format(number))
    scene.third = f"+{third}"
    scene.calls["third"] = await office.third_of(third, deadline_s=30)
    return await _refused(office, scene)


async def _refused(office: Office, scene: Scene) -> Scene:
    await scene.calls["third"].answered()
    await scene.calls["customer"].talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def _inside(office: Office, title: str, did: str, number: int, agent: str) -> Scene:
    """It is answered by one of ours; the two talk."""
    scene = await office.inbound(title, did, NUMBER.format(number), agent)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def phone_outside(office: Office) -> Scene:
    phone = office.own["100"]
    await phone.answers(Forward(phone.uri("931108880701")))
    return await _outside(office, "302 to an outside number", "31201234100", 1, "31108880701")


async def phone_agent(office: Office) -> Scene:
    phone = office.own["101"]
    await phone.answers(Forward(phone.uri("102")))
    return await _inside(office, "302 to another agent", "31201234101", 2, "102")


async def dialplan_outside(office: Office) -> Scene:
    return await _outside(office, "forwarded outside by the dialplan", "31201239030", 3, "31108880703")


async def local_outside(office: Office) -> Scene:
    return await _outside(office, "the same through a Local channel", "31201239031", 4, "31108880704")


async def local_kept_outside(office: Office) -> Scene:
    return await _outside(office, "the same through a Local channel that stays", "31201239032", 5, "31108880705")


async def dialplan_agent(office: Office) -> Scene:
    return await _inside(office, "forwarded to another agent by the dialplan", "31201239033", 6, "103")


async def follow_mobile(office: Office) -> Scene:
    scene = await office.inbound("FollowMe to an outside mobile", "31201239034", NUMBER.format(7))
    scene.third = "+31108880706"
    scene.calls["third"] = third = await office.third_of("31108880706", deadline_s=30)
    await third.answered()
    await third.talk(2.0)
    await third.dtmf("1")
    await third.talk(1.0)
    return await _refused(office, scene)


async def follow_desk(office: Office) -> Scene:
    scene = await office.inbound("FollowMe to the desk", "31201239035", NUMBER.format(8))
    scene.calls["agent"] = agent = await office.own["104"].incoming(number=scene.number, deadline_s=30)
    await agent.answered()
    await agent.talk(2.0)
    scene.views["asked"] = await until_recorded(office.site, scene.number, on=False)
    await agent.dtmf("1")
    scene.views["taken"] = await until_recorded(office.site, scene.number, by="PJSIP/104")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def ring_desk(office: Office) -> Scene:
    await office.thirds[2].answers(Ring())
    return await _inside(office, "a ring group: the desk answers", "31201239036", 9, "105")


async def ring_mobile(office: Office) -> Scene:
    await office.own["106"].answers(Ring())
    return await _outside(office, "a ring group: the outside mobile answers", "31201239037", 10, "31108880709")


WAVES = (
    (
        phone_outside,
        phone_agent,
        dialplan_outside,
        local_outside,
        local_kept_outside,
        dialplan_agent,
        follow_mobile,
        follow_desk,
        ring_desk,
        ring_mobile,
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    plan = DIALPLAN + DIALS
    async with Installation(dialplan=plan, files={"followme.conf": FOLLOWME}, extra_lines=OUTSIDE[1:]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        agents = ("100", "101", "104", "105", "106")
        office = await Office.gather(site, phones, agents, ("102", "103"), carriers=3)
        yield await play(office, WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def refused(site: Installation, scene: Scene) -> None:
    """The customer was told and heard the outside party, and nothing was kept of either."""
    assert scene.reasons("talking") == {"no_own_party", "not_told"}
    heard = await told_and_refused(site, scene, {"no_own_party", "not_told"})
    measure.first_heard(heard, THIRD_HZ)
    assert site.files(scene.third) == []
    assert await reasons(site, scene.third) == {"no_own_party", "not_told"}


async def recorded(site: Installation, scene: Scene, endpoint: str, hertz: float) -> None:
    """Both voices in one segment, on the leg of this endpoint."""
    file = await both_voices(site, scene, hertz, seconds=TALK_S)
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == endpoint


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.row(situation="302 from the own phone to an outside number", decision=REFUSED, article="139b Sr")
async def test_a_302_to_an_outside_number_is_not_recorded(site: Installation, scenes: Played) -> None:
    await refused(site, scenes["phone_outside"])


@pytest.mark.row(situation="302 from the own phone to another agent", decision=RECORDED, article="own rule")
async def test_a_302_to_another_agent_is_recorded_on_his_leg(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["phone_agent"], "PJSIP/102", OTHER_HZ)


@pytest.mark.row(situation="forward by the dialplan to an outside number", decision=REFUSED, article="139b Sr")
async def test_a_forward_by_the_dialplan_to_an_outside_number_is_not_recorded(
    site: Installation, scenes: Played
) -> None:
    await refused(site, scenes["dialplan_outside"])


@pytest.mark.row(situation="forward to an outside number through a Local channel", decision=REFUSED, article="139b Sr")
async def test_a_forward_through_a_local_channel_is_not_recorded(site: Installation, scenes: Played) -> None:
    await refused(site, scenes["local_outside"])


@pytest.mark.row(situation="the same through a Local channel with /n", decision=REFUSED, article="139b Sr")
async def test_a_forward_through_a_local_channel_that_stays_is_not_recorded(site: Installation, scenes: Played) -> None:
    await refused(site, scenes["local_kept_outside"])


@pytest.mark.row(situation="forward by the dialplan to another agent", decision=RECORDED, article="own rule")
async def test_a_forward_by_the_dialplan_to_another_agent_is_recorded(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["dialplan_agent"], "PJSIP/103", OTHER_HZ)


@pytest.mark.row(situation="FollowMe to an outside mobile", decision=REFUSED, article="139b Sr")
async def test_followme_to_an_outside_mobile_is_not_recorded(site: Installation, scenes: Played) -> None:
    await refused(site, scenes["follow_mobile"])


@pytest.mark.row(situation="FollowMe to an agent's desk", decision="recorded once he has taken it", article="own rule")
async def test_followme_to_an_agents_desk_is_recorded_once_he_has_taken_it(site: Installation, scenes: Played) -> None:
    scene = scenes["follow_desk"]
    assert scene.reasons("asked") == {"not_bridged", "no_own_party"}
    await recorded(site, scene, "PJSIP/104", AGENT_HZ)


@pytest.mark.row(
    situation="ring group with an outside mobile in it, an agent answers", decision=RECORDED, article="own rule"
)
async def test_a_ring_group_with_an_outside_mobile_is_recorded_when_an_agent_answers(
    site: Installation, scenes: Played
) -> None:
    await recorded(site, scenes["ring_desk"], "PJSIP/105", AGENT_HZ)


@pytest.mark.row(
    situation="ring group with an outside mobile in it, the mobile answers", decision=REFUSED, article="139b Sr"
)
async def test_a_ring_group_with_an_outside_mobile_is_not_recorded_when_it_answers(
    site: Installation, scenes: Played
) -> None:
    await refused(site, scenes["ring_mobile"])


async def test_nothing_of_any_forward_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
