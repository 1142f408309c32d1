"""Numbers on the never-record list, wherever they turn up: as caller, as number dialled, in a conference, as who is
transferred or forwarded to. Each beside a twin whose number is not on the list, and nothing else different.

The list of this installation has a number, a prefix, a pattern and a file (LAW.md 5: own lists).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.evidence import manifest, until_recorded, until_refused
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Forward, Phone, Phones
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    DIALS,
    OUTSIDE,
    TALK_S,
    THIRD_HZ,
    File,
    Office,
    Played,
    Scene,
    both_voices,
    nothing_left,
    play,
    reasons,
    told_and_refused,
)

LISTED_FILE = "# the company doctor\n06 1267 0005\n"
SETTINGS = """
[never_record]
numbers = ["06-12670001", "06-12670009", "010-88817*", "_020123967X"]
files = ["{file}"]
"""
"""Callers, third parties, a number of ours that is dialled; the file has a number that our agents dial."""
DIALPLAN = """
; numbers of ours: 31201239670 is on the list
exten => 31201239670,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/103,60,tT)
exten => 31201239660,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/104,60,tT)
; 3120123968N: told, into room N
exten => _3120123968X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,ConfBridge(${EXTEN:10})
; forwarded outside by the dialplan
exten => 31201239690,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/31108881704@trunk-c,60,tT)
[internal](+)
exten => _*6X,1,ConfBridge(${EXTEN:2})
"""
FORBIDDEN = {"never_record", "not_told"}
WITHOUT_US = {"no_own_party", "not_told"}
THE_THIRD = {"never_record", "no_purpose"}
"""Why the agent's call to the third party is not recorded while his customer is held."""


# -- scenes ----------------------------------------------------------------------------------------------------------


async def _answered(office: Office, title: str, did: str, number: str, agent: str) -> Scene:
    """A customer and an agent talk, and he hangs up."""
    scene = await office.inbound(title, did, number)
    scene.calls["agent"] = leg = await office.own[agent].incoming(number=number, deadline_s=30)
    await leg.answered()
    await scene.calls["customer"].talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, number, on=title.endswith("not listed"))
    await scene.calls["customer"].hangup()
    return scene


async def caller(office: Office) -> Scene:
    return await _answered(office, "caller", "31201234100", "+31612670001", "100")


async def other_caller(office: Office) -> Scene:
    return await _answered(office, "caller, not listed", "31201234101", "+31612670002", "101")


async def dialled_by_him(office: Office) -> Scene:
    return await _answered(office, "number of ours", "31201239670", "+31612670003", "103")


async def other_dialled_by_him(office: Office) -> Scene:
    return await _answered(office, "number of ours, not listed", "31201239660", "+31612670004", "104")


async def _dialled(office: Office, title: str, agent: str, dialled: str) -> Scene:
    """An agent calls a customer, and they talk."""
    scene = Scene(title, f"+31{dialled[1:]}")
    scene.calls["agent"] = leg = await office.own[agent].call(dialled)
    scene.calls["customer"] = customer = await called(office).incoming(number=agent, deadline_s=30)
    await leg.answered()
    await customer.talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=title.endswith("not listed"))
    await leg.hangup()
    return scene


async def dialled_by_us(office: Office) -> Scene:
    return await _dialled(office, "dialled by us", "106", "0612670005")


async def other_dialled_by_us(office: Office) -> Scene:
    return await _dialled(office, "dialled by us, not listed", "107", "0612670006")


async def _joined(office: Office, title: str, room: str, agent: str, joins: str) -> Scene:
    """A conference of a customer and an agent, into which somebody dials himself by the told way, and leaves again."""
    scene = await office.inbound(title, f"3120123968{room}", f"+316126701{room}0")
    await scene.calls["customer"].answered()
    scene.calls["agent"] = leg = await office.own[agent].call(f"*6{room}")
    scene.views["at first"] = await until_recorded(office.site, scene.number, by=f"PJSIP/{agent}")
    await scene.calls["customer"].talk(TALK_S)
    joiner = await office.thirds[0].call(f"3120123968{room}", caller_id=joins)
    scene.third, scene.calls["third"] = joins, joiner
    await joiner.answered()
    if title.endswith("not listed"):
        await until_recorded(office.site, joins, deadline_s=20)
    else:
        await until_recorded(office.site, scene.number, on=False, deadline_s=20)
    await joiner.talk(TALK_S)
    scene.views["with him"] = await until_recorded(office.site, scene.number, on=title.endswith("not listed"))
    await joiner.hangup()
    scene.views["without him"] = await until_recorded(office.site, scene.number)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    await leg.hangup()
    return scene


async def joins(office: Office) -> Scene:
    return await _joined(office, "joins a conference", "1", "100", "+31612670009")


async def other_joins(office: Office) -> Scene:
    return await _joined(office, "joins a conference, not listed", "2", "101", "+31612670008")


async def _sent(office: Office, title: str, agent: str, number: str, third: str) -> Scene:
    """The agent sends his customer to somebody outside by a blind REFER."""
    scene = await office.inbound(title, f"31201234{agent}", number, agent)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["agent"].refer(f"8{third}")
    return await _with_third(office, scene, third)


async def _with_third(office: Office, scene: Scene, third: str) -> Scene:
    scene.third = f"+{third}"
    scene.calls["third"] = call = await office.third_of(third, deadline_s=30)
    await call.answered()
    await scene.calls["customer"].talk(TALK_S)
    scene.views["with him"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def referred(office: Office) -> Scene:
    return await _sent(office, "blind REFER", "103", "+31612670111", "31108881701")


async def other_referred(office: Office) -> Scene:
    return await _sent(office, "blind REFER, not listed", "104", "+31612670112", "31108882701")


async def consulted(office: Office) -> Scene:
    """The agent holds his customer, consults somebody on the list, and joins the two: REFER with Replaces."""
    scene = await office.inbound("attended REFER", "31201234106", "+31612670113", "106")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["agent"].hold()
    second, _ = await office.outside("106", "831108881702")
    await second.talk(TALK_S)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    scene.views["the third party's"] = await until_refused(office.site, "+31108881702", THE_THIRD)
    await scene.calls["agent"].refer_replaces(second)
    await scene.calls["agent"].ended()
    return await _with_third(office, scene, "31108881702")


async def forwarded(office: Office) -> Scene:
    """The agent's phone answers 302."""
    phone = office.own["107"]
    await phone.answers(Forward(phone.uri("931108881703")))
    scene = await office.inbound("302", "31201234107", "+31612670114")
    return await _with_third(office, scene, "31108881703")


async def forwarded_by_dialplan(office: Office) -> Scene:
    scene = await office.inbound("forwarded by the dialplan", "31201239690", "+31612670115")
    return await _with_third(office, scene, "31108881704")


WAVES = (
    (caller, other_caller, dialled_by_him, other_dialled_by_him, dialled_by_us, other_dialled_by_us),
    (joins, other_joins, referred, other_referred, consulted, forwarded, forwarded_by_dialplan),
)
AGENTS = ("100", "101", "103", "104", "106", "107")
CALLED: list[Phone] = []
"""The one phone on trunk-b, where our agents' calls go."""


def called(office: Office) -> Phone:
    (phone,) = CALLED
    return phone


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    listed = tmp_path_factory.mktemp("never-record") / "doctors.txt"
    listed.write_text(LISTED_FILE)
    settings = SETTINGS.format(file=listed)
    async with Installation(dialplan=DIALPLAN + DIALS, settings=settings, extra_lines=OUTSIDE[1:]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        office = await Office.gather(site, phones, AGENTS, carriers=3)
        CALLED[:] = [await phones.add(site.asterisk.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.3))]
        yield await play(office, WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def never(site: Installation, scene: Scene, expected: set[str] = FORBIDDEN) -> None:
    """The two talked, he was told nothing, and nothing was kept of it, for exactly these reasons."""
    assert scene.reasons("talking") == expected
    heard, _ = await measure.pair(scene.calls["customer"])
    assert f"{AGENT_HZ:g}" in measure.voices(measure.track(heard), CUSTOMER), "nobody spoke to him"
    assert await reasons(site, scene.number) == expected
    assert not (await site.why(scene.number))["ever_recorded"]
    assert not (await site.why(scene.number))["told"]
    assert site.files(scene.number) == []


async def until_he_came(site: Installation, scene: Scene, expected: set[str]) -> File:
    """Customer and agent are there, and not 5 ms of the third party, whom the customer heard."""
    assert scene.reasons("with him") == expected
    file = await both_voices(site, scene, AGENT_HZ, seconds=TALK_S)
    file.is_free_of(THIRD_HZ, file.heard)
    assert site.files(scene.third) == []
    return file


# -- rows ------------------------------------------------------------------------------------------------------------

NEVER = "never, and he is told nothing"


@pytest.mark.row(situation="a caller on the never-record list", decision=NEVER, article="own rule")
async def test_a_caller_on_the_list_is_not_recorded(site: Installation, scenes: Played) -> None:
    await never(site, scenes["caller"])


@pytest.mark.row(
    situation="an outside party calls a number of ours on the never-record list", decision=NEVER, article="own rule"
)
async def test_a_call_to_a_number_of_ours_on_the_list_is_not_recorded(site: Installation, scenes: Played) -> None:
    await never(site, scenes["dialled_by_him"])


@pytest.mark.row(situation="we dial a number on the never-record list", decision=NEVER, article="own rule")
async def test_a_number_on_the_list_that_we_dial_is_not_recorded(site: Installation, scenes: Played) -> None:
    await never(site, scenes["dialled_by_us"])


@pytest.mark.parametrize("twin", ["other_caller", "other_dialled_by_him", "other_dialled_by_us"])
async def test_the_same_call_of_a_number_that_is_not_listed_is_recorded(
    site: Installation, scenes: Played, twin: str
) -> None:
    assert scenes[twin].views["talking"]["recorded"]
    _, said = await measure.pair(scenes[twin].calls["customer"])
    file = measure.recorded(await site.sealed(scenes[twin].number), said, CUSTOMER)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}


@pytest.mark.row(
    situation="a party on the never-record list joins a conference",
    decision="closed while he is there, also when he would be told",
    article="own rule",
)
async def test_a_conference_is_closed_while_somebody_on_the_list_is_in_it(site: Installation, scenes: Played) -> None:
    scene = scenes["joins"]
    file = await until_he_came(site, scene, FORBIDDEN)
    assert len(file.segments) == 2
    assert file.gaps == [["never_record", "not_told"]]
    assert await reasons(site, scene.third) >= FORBIDDEN
    # The twin: he was told at the same door, and is in the file.
    twin = scenes["other_joins"]
    assert twin.views["with him"]["recorded"]
    _, said = await measure.pair(twin.calls["customer"])
    joined = measure.recorded(await site.sealed(twin.number), said, CUSTOMER)
    assert f"{THIRD_HZ:g}" in measure.voices(joined.others, CUSTOMER)


@pytest.mark.row(
    situation="blind REFER to a number on the never-record list",
    decision="recorded until the own party leaves, then no more",
    article="139b Sr",
)
async def test_a_blind_refer_to_somebody_on_the_list_ends_the_recording(site: Installation, scenes: Played) -> None:
    file = await until_he_came(site, scenes["referred"], {"never_record", *WITHOUT_US})
    assert len(file.segments) == 1
    assert await reasons(site, scenes["referred"].third) == {"never_record", *WITHOUT_US}
    await until_he_came(site, scenes["other_referred"], WITHOUT_US)
    assert await reasons(site, scenes["other_referred"].third) == WITHOUT_US


@pytest.mark.row(
    situation="attended REFER (Replaces) to a number on the never-record list",
    decision="closed while consulting, neither call recorded, and after it",
    article="139b Sr",
)
async def test_an_attended_refer_to_somebody_on_the_list_is_closed_from_the_hold_on(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["consulted"]
    assert scene.reasons("consulting") == {"on_hold", "second_call"}
    assert scene.reasons("the third party's") == THE_THIRD
    file = await until_he_came(site, scene, {"never_record", *WITHOUT_US})
    assert [segment["ended_by"] for segment in manifest(file.path)["segments"]] == [["on_hold"]]


@pytest.mark.row(
    situation="302 from the own phone to a number on the never-record list", decision="not recorded", article="139b Sr"
)
@pytest.mark.row(
    situation="forward by the dialplan to a number on the never-record list",
    decision="not recorded",
    article="139b Sr",
)
@pytest.mark.parametrize("how", ["forwarded", "forwarded_by_dialplan"])
async def test_a_forward_to_somebody_on_the_list_is_not_recorded(site: Installation, scenes: Played, how: str) -> None:
    scene = scenes[how]
    assert scene.reasons("with him") == {"never_record", *WITHOUT_US}
    heard = await told_and_refused(site, scene, {"never_record", *WITHOUT_US})
    measure.first_heard(heard, THIRD_HZ)
    assert site.files(scene.third) == []


async def test_nothing_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
