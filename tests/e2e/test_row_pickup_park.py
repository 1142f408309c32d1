"""Pick-up, parking and hold, one row of the rules each, on the real Asterisk with the phones' own means."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.asterisk import LabError, Line
from tests.lab.checker import Detector
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import POLL_S, Installation
from tests.lab.phone import Heard, Phones, Ring
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    OTHER_HZ,
    QUIET_S,
    TALK_S,
    THIRD_HZ,
    File,
    Office,
    Played,
    Scene,
    both_voices,
    nothing_left,
    play,
    told_and_refused,
)
from tests.lab.signals import MUSIC_HZ, Tone

NUMBER = "+316125{:05d}"
MUSIC_WINDOW_S = 0.03
"""The music is near the chirp: a shorter window does not tell them apart."""
DIALPLAN = """
[internal](+)
include => parkedcalls
; parked for three seconds at most
exten => 750,1,Park(default,t(8))
exten => _*8XXX,1,PickupChan(PJSIP/${EXTEN:2},p)
"""
FEATURES = "[general]\npickupexten=*8\n"
PARKING = """\
[general]
[default]
parkext=700
parkpos=701-720
context=parkedcalls
comebacktoorigin=yes
comebackdialtime=20
"""


# -- scenes ----------------------------------------------------------------------------------------------------------


async def _rung(office: Office, title: str, number: int, agent: str, picker: str, code: str) -> Scene:
    """A customer calls an agent's phone, which rings until another phone takes the call by a code."""
    await office.own[agent].answers(Ring())
    scene = await office.inbound(title, f"31201234{agent}", NUMBER.format(number))
    scene.calls["rung"] = await office.own[agent].incoming(number=scene.number, deadline_s=30)
    scene.calls["picker"] = await office.own[picker].call(code)
    await scene.calls["picker"].answered()
    return scene


async def _talked(office: Office, scene: Scene, by: str, moment: str = "picked up") -> Scene:
    scene.views[moment] = await until_recorded(office.site, scene.number, by=f"PJSIP/{by}")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def directed(office: Office) -> Scene:
    return await _talked(office, await _rung(office, "directed pick-up", 1, "100", "101", "*8100"), "101")


async def group(office: Office) -> Scene:
    return await _talked(office, await _rung(office, "group pick-up", 2, "120", "121", "*8"), "121")


async def stranger(office: Office) -> Scene:
    scene = await _rung(office, "picked up by an endpoint that no pattern covers", 3, "108", "300", "*8108")
    await scene.calls["picker"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def _parked(office: Office, title: str, number: int, agent: str, exten: str) -> tuple[Scene, str]:
    """A recorded customer is parked by his agent's REFER and talks to the music: (scene, his space)."""
    scene = await office.inbound(title, f"31201234{agent}", NUMBER.format(number), agent)
    customer = scene.calls["customer"]
    await customer.talk(TALK_S)
    await scene.calls["agent"].refer(exten)
    scene.views["parked"] = await until_recorded(office.site, scene.number, on=False)
    await customer.say(Tone(THIRD_HZ))  # what he says to the music, and may not be kept
    channel = await office.channel("PJSIP/trunk-a-", scene.number)
    end = time.monotonic() + 10
    while not (found := await _space(office, channel)):
        if time.monotonic() > end:
            raise LabError(f"{channel} is not parked")
        await asyncio.sleep(POLL_S)
    await customer.talk(1.0)
    return scene, found


async def _space(office: Office, channel: str) -> str:
    """The parking space of a channel; empty when it has none."""
    shown = await office.site.asterisk.cli("parking show default")
    space = re.search(r"Space\s*:\s*(\d+)(?:(?!Space).)*?" + re.escape(channel), shown, re.DOTALL)
    return space[1] if space else ""


async def retrieved(office: Office) -> Scene:
    scene, space = await _parked(office, "parked, and retrieved by another agent", 4, "102", "700")
    await scene.calls["customer"].say(CUSTOMER)
    await scene.calls["customer"].talk(0.5)
    scene.calls["other"] = await office.own["103"].call(space)
    await scene.calls["other"].answered()
    return await _talked(office, scene, "103", "retrieved")


async def timed_out(office: Office) -> Scene:
    scene, _ = await _parked(office, "parked for too long, and back at the agent", 5, "104", "750")
    await scene.calls["customer"].say(CUSTOMER)
    scene.calls["back"] = await office.own["104"].incoming(after=1, number=scene.number, deadline_s=20)
    await scene.calls["back"].answered()
    return await _talked(office, scene, "104", "back")


async def held_by_agent(office: Office) -> Scene:
    scene = await office.inbound("held by the agent", "31201234105", NUMBER.format(6), "105")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["agent"].hold()
    scene.views["on hold"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].say(Tone(THIRD_HZ))
    await scene.calls["customer"].talk(1.5)
    await scene.calls["customer"].say(CUSTOMER)
    await scene.calls["customer"].talk(0.5)
    await scene.calls["agent"].unhold()
    return await _talked(office, scene, "105", "off hold")


async def held_by_carrier(office: Office) -> Scene:
    scene = await office.inbound("held by the customer's carrier (re-INVITE)", "31201234106", NUMBER.format(7), "106")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await customer.hold()
    scene.views["on hold"] = await until_recorded(office.site, scene.number, on=False)
    await agent.say(Tone(THIRD_HZ))  # what our agent says to the music
    await agent.talk(1.5)
    await agent.say(Tone(AGENT_HZ))
    await agent.talk(0.5)
    await customer.unhold()
    return await _talked(office, scene, "106", "off hold")


async def held_by_both(office: Office) -> Scene:
    scene = await office.inbound("held by both ends", "31201234107", NUMBER.format(8), "107")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    await agent.hold()
    await customer.hold()
    scene.views["both"] = await until_recorded(office.site, scene.number, on=False)
    await agent.unhold()
    await agent.talk(1.5)
    scene.views["one"] = await until_recorded(office.site, scene.number, on=False)
    await customer.unhold()
    return await _talked(office, scene, "107", "none")


WAVES = ((directed, group, stranger, retrieved, timed_out, held_by_agent, held_by_carrier, held_by_both),)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    files = {"features.conf": FEATURES, "res_parking.conf": PARKING}
    more = [Line(name, "internal", password=f"secret{name}", group="1") for name in ("120", "121")]
    more += [Line("300", "internal", password="secret300")]
    async with Installation(dialplan=DIALPLAN, files=files, extra_lines=more) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        agents = ("100", "102", "104", "105", "106", "107", "108", "120")
        office = await Office.gather(site, phones, agents, ("101", "103", "121", "300"), carriers=3)
        yield await play(office, WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


def without(file: File, hertz: float, control: Heard, window_s: float = 0.005) -> None:
    """Not a window of this tone in the file; the phone in `control` heard or said it, but not in the first talk."""
    talk = measure.first_heard(file.heard, AGENT_HZ)
    until = talk + TALK_S - QUIET_S / 2
    quiet = [measure.track(file.heard).part(talk + 0.2, until), measure.track(file.said).part(1.0, until)]
    found = Detector.calibrate(hertz, measure.track(control), quiet, window_s)
    assert found.find(measure.track(control)), "the detector is blind"
    for track in file.unspliced():
        assert found.find(track) == []


async def parked(site: Installation, scene: Scene, *hertz: float) -> File:
    """Two segments on two legs, and neither the music nor what the customer said to it."""
    assert scene.reasons("parked") == {"not_bridged", "no_own_party"}
    file = await both_voices(site, scene, *hertz, seconds=2 * TALK_S)
    assert len(file.segments) == 2
    assert len({segment["leg"] for segment in file.segments}) == 2
    without(file, MUSIC_HZ, file.heard, MUSIC_WINDOW_S)
    without(file, THIRD_HZ, file.said)
    return file


async def held(site: Installation, scene: Scene) -> File:
    """Two segments on one leg with a hold between them."""
    file = await both_voices(site, scene, AGENT_HZ, seconds=2 * TALK_S)
    assert len(file.segments) == 2
    assert len({segment["leg"] for segment in file.segments}) == 1
    assert file.gaps == [["on_hold"]]
    return file


# -- pick-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.row(
    situation="directed call pick-up by another agent",
    decision="recorded on the leg of who took it",
    article="own rule",
)
async def test_a_directed_pick_up_is_recorded_on_the_pickers_leg(site: Installation, scenes: Played) -> None:
    file = await both_voices(site, scenes["directed"], OTHER_HZ, seconds=TALK_S)
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == "PJSIP/101"


@pytest.mark.row(
    situation="group call pick-up by another agent", decision="recorded on the leg of who took it", article="own rule"
)
async def test_a_group_pick_up_is_recorded_on_the_pickers_leg(site: Installation, scenes: Played) -> None:
    file = await both_voices(site, scenes["group"], OTHER_HZ, seconds=TALK_S)
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == "PJSIP/121"


@pytest.mark.row(situation="call pick-up by somebody whom nobody knows", decision="not recorded", article="139b Sr")
async def test_a_call_picked_up_by_an_unknown_endpoint_is_not_recorded(site: Installation, scenes: Played) -> None:
    heard = await told_and_refused(site, scenes["stranger"], {"no_own_party", "unknown_party"})
    measure.first_heard(heard, OTHER_HZ)  # the two did talk


# -- parking ---------------------------------------------------------------------------------------------------------


@pytest.mark.row(
    situation="parked, and retrieved by another agent",
    decision="not recorded while parked; goes on as one recording on the new own leg",
    article="own rule",
)
async def test_a_parked_call_is_recorded_again_when_another_agent_retrieves_it(
    site: Installation, scenes: Played
) -> None:
    file = await parked(site, scenes["retrieved"], AGENT_HZ, OTHER_HZ)
    for number, hertz in enumerate((AGENT_HZ, OTHER_HZ)):
        assert measure.voices(file.part(number)[0], CUSTOMER) == {f"{hertz:g}"}


@pytest.mark.row(
    situation="parked until the time-out",
    decision="not recorded while parked and ringing; recorded again once the agent answers",
    article="own rule",
)
async def test_a_call_parked_too_long_is_recorded_again_when_its_agent_answers(
    site: Installation, scenes: Played
) -> None:
    await parked(site, scenes["timed_out"], AGENT_HZ)


# -- hold ------------------------------------------------------------------------------------------------------------


@pytest.mark.row(situation="hold by the agent's phone", decision="not recorded until it ends", article="own rule")
async def test_a_hold_by_the_agent_leaves_out_the_music_and_what_is_said_to_it(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["held_by_agent"]
    assert scene.reasons("on hold") == {"on_hold"}
    file = await held(site, scene)
    without(file, MUSIC_HZ, file.heard, MUSIC_WINDOW_S)
    without(file, THIRD_HZ, file.said)


@pytest.mark.row(
    situation="hold by the customer's carrier (re-INVITE)", decision="not recorded until it ends", article="own rule"
)
async def test_a_hold_by_the_carrier_leaves_out_the_music_and_what_our_agent_says_to_it(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["held_by_carrier"]
    assert scene.reasons("on hold") == {"on_hold"}
    file = await held(site, scene)
    agent = scene.calls["agent"]
    without(file, MUSIC_HZ, await agent.heard(), MUSIC_WINDOW_S)
    without(file, THIRD_HZ, await agent.said())


@pytest.mark.row(situation="hold by both ends", decision="not recorded until the last one ends", article="own rule")
async def test_a_hold_by_both_ends_lasts_until_both_have_ended_it(site: Installation, scenes: Played) -> None:
    scene = scenes["held_by_both"]
    assert scene.reasons("both") == {"on_hold"}
    assert scene.reasons("one") == {"on_hold"}
    await held(site, scene)


async def test_nothing_of_any_hold_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
