"""Conferences on the real Asterisk: who may be in one that is recorded, and on whose leg it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import ami, asterisk_tree, measure, scenes
from tests.lab.evidence import calls_of, manifest, reasons, until_recorded, until_refused
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.scenes import AGENT_HZ, CUSTOMER, LOST_S, OTHER_HZ, TALK_S, THIRD_HZ, Office, Scene, file_of

DIALPLAN = """
; 3120123961N: told, into room N; 3120123962N: untold, into room N
exten => _3120123961X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,ConfBridge(${EXTEN:10})
exten => _3120123962X,1,ConfBridge(${EXTEN:10})

[internal](+)
exten => _*6X,1,ConfBridge(${EXTEN:2})
"""
OUTSIDE_LEG = "/trunk-c-"
AGENTS = ("101", "104", "105", "106", "107", "108", "109")
OTHERS = ("101", "105", "107")
SILENT = ("109",)


async def untold_joins(office: Office) -> Scene:
    """An own party and a told customer; an untold outsider joins, and leaves again."""
    scene = await office.inbound("an untold party joins", "31201239611", "+31612345611")
    customer = scene.calls["customer"]
    await customer.answered()
    scene.calls["agent"] = await office.own["104"].call("*61")
    await office.view(scene, "at first", by="PJSIP/104")
    await customer.talk(TALK_S)
    scene.calls["joiner"] = joiner = await office.third.call("31201239621", caller_id="+31612345621")
    await joiner.answered()
    await office.view(scene, "with the untold one", on=False)
    await joiner.talk(1.5)
    await joiner.hangup()
    await office.view(scene, "without him")
    await customer.talk(TALK_S)
    await customer.hangup()
    await scene.calls["agent"].hangup()
    return scene


async def nobody_of_ours(office: Office) -> Scene:
    """Two told customers in a conference that the only own party has left."""
    scene = await office.inbound("nobody of ours is left", "31201239612", "+31612345612")
    customer = scene.calls["customer"]
    await customer.answered()
    scene.calls["agent"] = agent = await office.own["105"].call("*62")
    await office.view(scene, "at first", by="PJSIP/105")
    await customer.talk(TALK_S)
    scene.calls["second"] = second = await office.third.call("31201239612", caller_id="+31612345622")
    await second.answered()
    await until_recorded(office.site, "+31612345622", deadline_s=20)
    await office.view(scene, "with two customers")
    await customer.talk(1.0)
    await agent.hangup()
    await refused(office, scene, "two customers alone", {"no_own_party"})
    await customer.talk(2.0)
    await customer.hangup()
    await second.hangup()
    return scene


async def three_and_two(office: Office) -> Scene:
    """Three of ours and two told customers; the one of ours who came first leaves."""
    scene = await office.inbound("three own and two external", "31201239613", "+31612345613")
    customer = scene.calls["customer"]
    await customer.answered()
    scene.calls["first"] = first = await office.own["106"].call("*63")
    await office.view(scene, "at first", by="PJSIP/106")
    scene.calls["second"] = second = await office.own["107"].call("*63")
    await second.answered()
    scene.calls["third of ours"] = last = await office.own["109"].call("*63")
    await last.answered()
    scene.calls["other customer"] = other = await office.third.call("31201239613", caller_id="+31612345623")
    scene.views["all five"] = await until_recorded(office.site, "+31612345623", deadline_s=20)
    await customer.talk(TALK_S)
    await first.hangup()
    await office.view(scene, "on the second's leg", by="PJSIP/107")
    await customer.talk(TALK_S)
    for call in (other, customer, second, last):
        await call.hangup()
    return scene


async def ad_hoc(office: Office) -> Scene:
    """A call of two that the PBX makes a conference of, and an outsider whom it calls into it."""
    scene = await office.inbound("a three-way made by the PBX", "31201234108", "+31612345614", "108")
    customer, agent = scene.calls["customer"], scene.calls["agent"]
    await customer.talk(TALK_S)
    async with ami.connect(office.site.asterisk) as manager:
        up = await channels(manager)
        own = next(one["Channel"] for one in up if one["Channel"].startswith("PJSIP/108-"))
        entered = next(
            one["Channel"]
            for one in up
            if one["CallerIDNum"] == scene.number and one["Channel"].startswith("PJSIP/trunk-a")
        )
        await manager.action(
            "Redirect",
            Channel=own,
            Context="internal",
            Exten="*64",
            Priority=1,
            ExtraChannel=entered,
            ExtraContext="internal",
            ExtraExten="*64",
            ExtraPriority=1,
        )
        await office.view(scene, "two in a conference", by="PJSIP/108")
        await customer.talk(TALK_S)
        await manager.action(
            "Originate",
            Channel="PJSIP/31108880064@trunk-c",
            Context="internal",
            Exten="*64",
            Priority=1,
            CallerID="31108880064",
            Async="true",
        )
        scene.calls["third"] = third = await office.third.incoming(number="31108880064", deadline_s=15)
        await third.answered()
        await refused(office, scene, "three", {"not_told"})
        await customer.talk(1.5)
        await third.hangup()
        await office.view(scene, "two again")
    await customer.talk(TALK_S)
    await customer.hangup()
    await agent.hangup()
    return scene


async def talked_in(office: Office, title: str, room: int, first: str, stays: str) -> Scene:
    """A told customer and two of ours in a conference; it is recorded on the leg of the first."""
    scene = await office.inbound(title, f"3120123961{room}", f"+3161234561{room}")
    customer = scene.calls["customer"]
    await customer.answered()
    scene.calls["first"] = await office.own[first].call(f"*6{room}")
    await office.view(scene, "at first", by=f"PJSIP/{first}")
    scene.calls["stays"] = await office.own[stays].call(f"*6{room}")
    await scene.calls["stays"].answered()
    await customer.talk(TALK_S)
    return scene


async def without_him(office: Office, scene: Scene, who: str, stays: str) -> Scene:
    """Whoever came in the first one's place leaves, and the others talk on."""
    await scene.calls[who].hangup()
    await office.view(scene, "without him", by=f"PJSIP/{stays}")
    await scene.calls["customer"].talk(TALK_S)
    for call in (scene.calls["customer"], scene.calls["stays"]):
        await call.hangup()
    return scene


async def replaced(office: Office) -> Scene:
    """One of ours puts an untold third party in his own place: an attended transfer by REFER with Replaces."""
    scene = await talked_in(office, "replaced by REFER", 5, "104", "105")
    first = scene.calls["first"]
    await first.hold()
    consulting, scene.calls["third"] = await office.outside("104", "931108880065")
    await scene.calls["third"].talk(1.0)
    async with ami.connect(office.site.asterisk) as manager:
        await first.refer_replaces(consulting)
        await first.ended()
        await refused(office, scene, "in his place", {"not_told"})
        await scene.calls["customer"].talk(TALK_S)
        scene.views["in his place"]["recorders"] = recorders_begun(manager, "105")
        await without_him(office, scene, "third", "105")
        scene.views["without him"]["recorders"] = recorders_begun(manager, "105")
    return scene


async def replaced_by_own(office: Office) -> Scene:
    """The same, and it is one of ours who comes in his place."""
    scene = await talked_in(office, "replaced by one of ours", 6, "106", "107")
    first = scene.calls["first"]
    await first.hold()
    consulting = await office.own["106"].call("109")
    scene.calls["colleague"] = await office.own["109"].incoming(number="106")
    await consulting.answered()
    await consulting.talk(1.0)
    await first.refer_replaces(consulting)
    await first.ended()
    await office.view(scene, "in his place")
    await scene.calls["customer"].talk(TALK_S)
    return await without_him(office, scene, "colleague", "107")


async def replaced_by_invite(office: Office) -> Scene:
    """An outsider puts himself in the place of one of ours, on whose leg the recorder hangs: INVITE with Replaces."""
    scene = await talked_in(office, "replaced by INVITE", 7, "108", "101")
    async with ami.connect(office.site.asterisk) as manager:
        leg = next(one["Channel"] for one in await channels(manager) if one["Channel"].startswith("PJSIP/108-"))
        dialog = [
            (await manager.action("Getvar", Channel=leg, Variable=f"CHANNEL(pjsip,{what})"))["Value"]
            for what in ("call-id", "local_tag", "remote_tag")
        ]
        replaces = "{};to-tag={};from-tag={}".format(*dialog)
        scene.calls["third"] = third = await office.third.call(
            "31201239627", caller_id="+31612345627", headers={"Replaces": replaces}
        )
        await third.answered()
        await scene.calls["first"].ended()
        await refused(office, scene, "in his place", {"not_told"})
        up = [one["Channel"] for one in await channels(manager)]
        listed = [await office.site.asterisk.cli(f"mixmonitor list {name}") for name in up if OUTSIDE_LEG in name]
        scene.views["in his place"]["recorders"] = [line for one in listed for line in one.splitlines() if "0x" in line]
        stopped = [one["Channel"] for one in manager.events if one["Event"] == "MixMonitorStop"]
        scene.views["in his place"]["stopped"] = [leg for leg in stopped if OUTSIDE_LEG in leg]
        await scene.calls["customer"].talk(TALK_S)
    return await without_him(office, scene, "third", "101")


def recorders_begun(manager: ami.Ami, *own: str) -> list[str]:
    """On which of these phones' legs a recorder began since the manager's login."""
    legs = [event["Channel"] for event in manager.events if event["Event"] == "MixMonitorStart"]
    return [line for leg in legs for line in own if leg.startswith(f"PJSIP/{line}-")]


async def refused(office: Office, scene: Scene, moment: str, reasons: set[str]) -> None:
    """Waits until the scene's live call is refused for exactly these reasons, and keeps what is said of it."""
    scene.views[moment] = await until_refused(office.site, scene.number, reasons)


async def channels(manager: ami.Ami) -> list[ami.Message]:
    """Every channel that is up, as the PBX lists them."""
    since = len(manager.events)
    await manager.action("CoreShowChannels")
    await manager.event("CoreShowChannelsComplete", since=since)
    return [event for event in manager.events[since:] if event["Event"] == "CoreShowChannel"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(dialplan=DIALPLAN) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(site: Installation) -> AsyncIterator[dict[str, Scene]]:
    async with scenes.office(site, AGENTS, OTHERS, SILENT) as office:
        told = await scenes.played(office, untold_joins, nobody_of_ours, three_and_two, ad_hoc)
        yield told | await scenes.played(office, replaced, replaced_by_own, replaced_by_invite)


@pytest.mark.row(
    situation="conference of own and told external parties; an untold one joins",
    decision="recorded; closed while the untold one is there",
    article="139c Sr",
)
async def test_an_untold_party_in_a_conference_closes_the_recording_until_he_has_left(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["untold_joins"]
    assert scene.reasons("with the untold one") == {"not_told"}
    file = await file_of(site, scene)
    assert len(file.segments) == 2
    assert file.gap_reasons == [["not_told"]]
    assert file.own.seconds > 2 * (TALK_S - LOST_S)
    quiet = scenes.before(file.heard, AGENT_HZ, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard, quiet, scenes.own_voice(file.said))
    # The untold one's own call says the same, and has no file.
    assert await reasons(site, "+31612345621") == {"not_told"}
    assert site.files("+31612345621") == []


@pytest.mark.row(
    situation="conference of external parties whose last own party leaves",
    decision="closed the moment he leaves",
    article="139c Sr",
)
async def test_a_conference_without_an_own_party_is_not_recorded(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["nobody_of_ours"]
    assert scene.reasons("two customers alone") == {"no_own_party"}
    file = await file_of(site, scene)
    # While he was there both customers are in it; afterwards nothing is, and they did go on talking.
    left = await scene.calls["agent"].heard()
    assert measure.voices(file.others, CUSTOMER) == {"chirp", f"{THIRD_HZ:g}"}
    assert file.own.seconds <= left.seconds
    gone_s = left.began + left.seconds - file.heard.began
    after = measure.track(file.heard).part(gone_s + 0.5, gone_s + 1.5)
    assert f"{THIRD_HZ:g}" in measure.voices(after, CUSTOMER), "the two did not go on talking"
    recorded = measure.recorded(file.path, file.said, CUSTOMER)
    assert recorded.last_s < gone_s + 0.1
    assert manifest(file.path)["segments"][-1]["ended_by"] == ["own_left"]


@pytest.mark.row(
    situation="conference of three own and two told external parties",
    decision="one recording, of the call that came first, on the leg of the own party that came first",
    article="139c Sr",
)
async def test_three_own_and_two_external_parties_are_one_recording(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["three_and_two"]
    assert scene.views["all five"]["recorded"]
    file = await file_of(site, scene)
    said = manifest(file.path)
    assert said["call"]["caller_id"] == scene.number
    assert measure.voices(file.others, CUSTOMER) >= {"chirp", f"{OTHER_HZ:g}", f"{THIRD_HZ:g}"}
    # The other customer has no recording of his own: the one of the first call names him.
    assert site.files("+31612345623") == []
    (other,) = await calls_of(site, "+31612345623")
    assert other["told"]
    assert not other["ever_recorded"]
    listed = await site.run("recordings", "list", "--number", "+31612345623", "--json")
    assert [row["id"] for row in listed.json()["recordings"]] == [said["recording"]]


@pytest.mark.row(
    situation="two own legs; the one that records leaves",
    decision="goes on as one recording, in a new segment on the other's leg",
    article="own rule",
)
async def test_the_second_own_leg_records_when_the_first_has_left(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["three_and_two"]
    file = await file_of(site, scene)
    legs = [segment["leg"] for segment in file.segments]
    assert len(set(legs)) == 2
    assert legs == sorted(legs, key=legs.index)
    moved = legs.index(legs[-1])
    first, second = file.part(0, moved), file.part(moved)
    assert measure.voices(first[0], CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(second[0], CUSTOMER) == {f"{OTHER_HZ:g}"}
    # The first of ours is in nobody's audio any more.
    assert f"{AGENT_HZ:g}" not in measure.voices(second[1], CUSTOMER)
    assert second[0].seconds > TALK_S - LOST_S


@pytest.mark.row(
    situation="ad-hoc three-way made by the PBX, the third party untold",
    decision="recorded as a conference of two; closed while the third is there",
    article="139c Sr",
)
async def test_a_three_way_made_by_the_pbx_closes_while_the_untold_third_is_in_it(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["ad_hoc"]
    assert scene.views["two in a conference"]["recorded"]
    assert scene.reasons("three") == {"not_told"}
    file = await file_of(site, scene)
    assert file.own.seconds > 3 * (TALK_S - LOST_S)
    # Both are sent into the room at once; either may leave the old bridge first.
    assert file.gap_reasons[0] in (["own_left"], ["external_left"])
    assert file.gap_reasons[1:] == [["not_told"]]
    quiet = scenes.before(file.heard, AGENT_HZ, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard, quiet, scenes.own_voice(file.said))


@pytest.mark.row(
    situation="own party in a conference puts an untold third party in his place (REFER with Replaces)",
    decision="closed from the hold until the third party has left",
    article="139c Sr",
)
async def test_no_recorder_runs_with_an_untold_party_whom_one_of_ours_put_in_his_place(
    site: Installation, told: dict[str, Scene]
) -> None:
    """Asterisk reports neither the coming of the one nor the going of the other."""
    scene = told["replaced"]
    file = await file_of(site, scene)
    assert scene.reasons("in his place") == {"not_told"}
    assert scene.views["in his place"]["recorders"] == [], "on the leg of the one who stayed"
    assert scene.views["without him"]["recorders"] == ["105"], "the twin: without him one runs there"
    quiet = scenes.before(file.heard, AGENT_HZ, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard, quiet, scenes.own_voice(file.said))
    assert f"{THIRD_HZ:g}" in measure.voices(measure.track(file.heard), CUSTOMER)
    assert len(file.segments) == 2
    assert len({segment["leg"] for segment in file.segments}) == 2
    assert file.segments[0]["ended_by"] == ["on_hold"]
    assert file.own.seconds > 2 * (TALK_S - LOST_S)


@pytest.mark.row(
    situation="own party in a conference puts another of ours in his place (REFER with Replaces)",
    decision="closed from the hold until he is there, then recorded on",
    article="own rule",
)
async def test_a_conference_in_which_one_of_ours_was_put_in_the_place_of_another_is_recorded_on(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["replaced_by_own"]
    assert scene.views["in his place"]["recorded"]
    file = await file_of(site, scene)
    assert file.segments[0]["ended_by"] == ["on_hold"]
    assert file.own.seconds > 3 * (TALK_S - LOST_S)


@pytest.mark.row(
    situation="an outside party puts himself in the place of one of ours in a conference (INVITE with Replaces)",
    decision="closed until he has left; the recorder that stayed in that place is stopped",
    article="139c Sr",
)
async def test_the_recorder_in_a_place_that_an_outside_party_took_is_stopped(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["replaced_by_invite"]
    assert scene.reasons("in his place") == {"not_told"}
    assert len(scene.views["in his place"]["stopped"]) == 1, "it was on his channel, and was stopped there"
    assert scene.views["in his place"]["recorders"] == []
    file = await file_of(site, scene)
    first, second = manifest(file.path)["segments"]
    assert first["ended_by"] == ["picture_wrong"]
    assert first["leg"] != second["leg"]
    assert first["captured_samples"] < (TALK_S + 2.5) * file.own.rate, "it ran on with him"
    quiet = scenes.before(file.heard, AGENT_HZ, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard, quiet, scenes.own_voice(file.said))
    assert file.own.seconds > TALK_S - LOST_S


async def test_nothing_is_left_in_the_spool(site: Installation, told: dict[str, Scene]) -> None:
    async with Phones() as phones:
        await phones.until(lambda: not [p for p in site.leftovers() if ".sln" in p.name], "an empty spool")
