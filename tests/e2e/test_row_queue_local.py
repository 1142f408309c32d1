"""Queue members and Local channels, one row of the rules each: who is behind a Local half is who counts.

A sound played to half a Local channel may be heard by nobody (it is answered long before whom it leads to): such an
outside party is never taken for told, whoever says so. His twin, told on the innermost Dial, is recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phones, Ring
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    DIALS,
    OTHER_HZ,
    OUTSIDE,
    TALK_S,
    THIRD_HZ,
    Office,
    Played,
    Scene,
    both_voices,
    file_of,
    nothing_left,
    play,
    reasons,
    told_and_refused,
)

NUMBER = "+316127{:05d}"
OUTBOUND = "contract_evidence.nl.notice.outbound"
RECORDED = "recorded on the phone's own leg"
REFUSED = "not recorded: nobody of ours takes part, and he was told nothing"
UNTOLD = "not recorded: what half a Local channel was played, nobody heard"
DIALPLAN = """
exten => 31201239040,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(phone,tT,,,60)
exten => 31201239041,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(local,tT,,,60)
exten => 31201239042,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(kept,tT,,,60)
exten => 31201239043,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(Local/104@internal&Local/105@internal,60,tT)
exten => 31201239044,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(mobile,tT,,,60)
exten => 31201239045,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(mobile-kept,tT,,,60)

[internal](+)
; an outside number behind a Local channel that answers at once and waits: told on the half (71), told by a subroutine
; of somebody's own that says so itself (72), told on the innermost Dial (73), told as a caller would be (74)
exten => _*71X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3}))
 same => n,Dial(Local/${EXTEN:3}@waits,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
exten => _*72X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3}))
 same => n,Dial(Local/${EXTEN:3}@waits,60,tTU(own-notice^${PBXGUARD_PROMPT}))
exten => _*73X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3}))
 same => n,Dial(Local/${EXTEN:3}@inner,60,tT)
exten => _*74X.,1,Dial(Local/${EXTEN:3}@asks,60,tT)
"""
BEHIND = """
[waits]
exten => _X.,1,Answer()
 same => n,Wait(6)
 same => n,Dial(PJSIP/${EXTEN}@trunk-b,60,tT)
[inner]
exten => _X.,1,Dial(PJSIP/${EXTEN}@trunk-b,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
[asks]
exten => _X.,1,Answer()
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${EXTEN}@trunk-b,60,tT)
[own-notice]
exten => s,1,UserEvent(PbxguardPrompt,Phase: begin,Prompt: ${ARG1},Tx: 100,Rx: 100,Formats: (alaw))
 same => n,Playback(${PBXGUARD_NOTICE})
 same => n,UserEvent(PbxguardPrompt,Phase: end,Prompt: ${ARG1},Tx: 400,Rx: 400,State: ${PLAYBACKSTATUS},Key: )
 same => n,Return()
"""
QUEUES = """\
[general]
autofill=yes
[phone]
strategy=ringall
timeout=20
member => PJSIP/100
[local]
strategy=ringall
timeout=20
member => Local/102@internal
[kept]
strategy=ringall
timeout=20
member => Local/103@internal/n
[mobile]
strategy=ringall
timeout=20
member => Local/831108880805@internal
[mobile-kept]
strategy=ringall
timeout=20
member => Local/831108880806@internal/n
"""


# -- scenes ----------------------------------------------------------------------------------------------------------


async def _inside(office: Office, title: str, did: str, number: int, agent: str) -> Scene:
    scene = await office.inbound(title, did, NUMBER.format(number), agent)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def queue_phone(office: Office) -> Scene:
    return await _inside(office, "queue member PJSIP/100", "31201239040", 1, "100")


async def queue_local(office: Office) -> Scene:
    return await _inside(office, "queue member Local/102", "31201239041", 2, "102")


async def queue_kept(office: Office) -> Scene:
    return await _inside(office, "queue member Local/103 with /n", "31201239042", 3, "103")


async def ring_group(office: Office) -> Scene:
    await office.own["105"].answers(Ring())
    return await _inside(office, "a ring group of Local channels", "31201239043", 4, "104")


async def _mobile(office: Office, title: str, did: str, number: int, third: str) -> Scene:
    scene = await office.inbound(title, did, NUMBER.format(number))
    scene.third = f"+{third}"
    scene.calls["third"] = await office.third_of(third, deadline_s=30)
    await scene.calls["third"].answered()
    await scene.calls["customer"].talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def queue_mobile(office: Office) -> Scene:
    return await _mobile(office, "an outside mobile as queue member", "31201239044", 5, "31108880805")


async def queue_mobile_kept(office: Office) -> Scene:
    return await _mobile(office, "the same with /n", "31201239045", 6, "31108880806")


async def _called(office: Office, title: str, agent: str, code: str, number: str, told: bool) -> Scene:
    """One of ours calls an outside number behind a Local channel; they talk."""
    scene = Scene(title, f"+31{number[1:]}")
    scene.calls["agent"] = await office.own[agent].call(code + number)
    scene.calls["customer"] = customer = await office.third_of(number, deadline_s=30)
    await customer.answered()
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=told, by=f"PJSIP/{agent}")
    await customer.talk(TALK_S)
    scene.views["at last"] = await until_recorded(office.site, scene.number, on=told)
    await scene.calls["agent"].hangup()
    return scene


async def told_half(office: Office) -> Scene:
    return await _called(office, "told on a Local half", "106", "*71", "0201112871", told=False)


async def told_half_by_others(office: Office) -> Scene:
    return await _called(office, "said to be told, on a Local half", "107", "*72", "0201112872", told=False)


async def told_inside(office: Office) -> Scene:
    return await _called(office, "told on the innermost Dial", "108", "*73", "0201112873", told=True)


async def told_as_caller(office: Office) -> Scene:
    return await _called(office, "a Local half at the callers' door", "109", "*74", "0201112874", told=False)


WAVES = (
    (
        told_half,
        told_half_by_others,
        told_as_caller,
        queue_phone,
        queue_local,
        queue_kept,
        ring_group,
        queue_mobile,
        queue_mobile_kept,
        told_inside,
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    plan = DIALPLAN + DIALS + BEHIND
    async with Installation(dialplan=plan, queues=QUEUES, extra_lines=OUTSIDE[1:]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        agents = ("100", "102", "104", "105", "106", "107", "108", "109")
        office = await Office.gather(site, phones, agents, ("103",), carriers=2)
        called = await phones.add(site.asterisk.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.3))
        office.thirds += (called,)
        yield await play(office, WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def recorded(site: Installation, scene: Scene, endpoint: str, hertz: float = AGENT_HZ) -> None:
    """Both voices in one segment, on the leg of this endpoint."""
    file = await both_voices(site, scene, hertz, seconds=TALK_S)
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == endpoint


async def refused(site: Installation, scene: Scene) -> None:
    """The customer was told and heard the outside party, and nothing was kept of either."""
    assert scene.reasons("talking") == {"no_own_party", "not_told"}
    heard = await told_and_refused(site, scene, {"no_own_party", "not_told"})
    measure.first_heard(heard, THIRD_HZ)
    assert site.files(scene.third) == []
    assert await reasons(site, scene.third) == {"no_own_party", "not_told"}


async def untold(site: Installation, scene: Scene, expected: set[str]) -> None:
    """He heard our agent and not a word of the notice; never recorded, for these reasons."""
    heard, _ = await measure.pair(scene.calls["customer"])
    measure.first_heard(heard, AGENT_HZ)
    found = measure.prompt_heard(heard, prompt(site, OUTBOUND))
    assert found is None or found.heard_s < 0.3
    agent = await scene.calls["agent"].heard()
    assert checker.chirp_stretches(measure.track(agent), CUSTOMER), "they did not talk"
    said = await site.why(scene.number)
    assert set(said["reasons"]) == expected
    assert not said["told"]
    assert not said["ever_recorded"]
    assert site.files(scene.number) == []


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.row(situation="queue member PJSIP/...", decision=RECORDED, article="own rule")
async def test_a_queue_with_a_phone_as_member_is_recorded(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["queue_phone"], "PJSIP/100")


@pytest.mark.row(situation="queue member Local/... (optimised away)", decision=RECORDED, article="own rule")
async def test_a_queue_with_a_local_member_is_recorded_on_the_phones_leg(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["queue_local"], "PJSIP/102")


@pytest.mark.row(situation="queue member Local/.../n", decision=RECORDED, article="own rule")
async def test_a_queue_with_a_local_member_that_stays_is_recorded_on_the_phones_leg(
    site: Installation, scenes: Played
) -> None:
    await recorded(site, scenes["queue_kept"], "PJSIP/103", OTHER_HZ)


@pytest.mark.row(situation="ring group through Local channels", decision=RECORDED, article="own rule")
async def test_a_ring_group_of_local_channels_is_recorded_on_the_leg_of_who_answers(
    site: Installation, scenes: Played
) -> None:
    await recorded(site, scenes["ring_group"], "PJSIP/104")


@pytest.mark.row(situation="an outside mobile as queue member (Local/...)", decision=REFUSED, article="139b Sr")
async def test_an_outside_mobile_as_queue_member_is_not_recorded(site: Installation, scenes: Played) -> None:
    await refused(site, scenes["queue_mobile"])


@pytest.mark.row(situation="an outside mobile as queue member (Local/.../n)", decision=REFUSED, article="139b Sr")
async def test_an_outside_mobile_behind_a_local_member_that_stays_is_not_recorded(
    site: Installation, scenes: Played
) -> None:
    await refused(site, scenes["queue_mobile_kept"])


@pytest.mark.row(situation="the notice played to half a Local channel", decision=UNTOLD, article="own rule")
async def test_an_outside_party_behind_a_told_local_half_is_untold(site: Installation, scenes: Played) -> None:
    await untold(site, scenes["told_half"], {"not_told"})


@pytest.mark.row(
    situation="a dialplan of one's own says that the notice was played, on half a Local channel",
    decision=UNTOLD,
    article="own rule",
)
async def test_an_outside_party_behind_a_half_that_is_said_to_be_told_is_untold(
    site: Installation, scenes: Played
) -> None:
    await untold(site, scenes["told_half_by_others"], {"not_told"})


@pytest.mark.row(situation="half a Local channel sent to the callers' door", decision=UNTOLD, article="own rule")
async def test_an_outside_party_behind_a_half_at_the_callers_door_is_untold(site: Installation, scenes: Played) -> None:
    await untold(site, scenes["told_as_caller"], {"no_purpose"})


@pytest.mark.row(
    situation="the notice played on the innermost Dial, behind a Local channel",
    decision="recorded once he has heard it",
    article="own rule",
)
async def test_an_outside_party_told_on_the_innermost_dial_is_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["told_inside"]
    file = await file_of(site, scene, OUTBOUND)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert file.own.seconds > TALK_S - 0.8


async def test_nothing_of_any_queue_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
