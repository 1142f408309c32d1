"""Joiners on the real Asterisk: told by whisper, recorded once they heard it; an objection that outlives its maker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure, scenes
from tests.lab.evidence import calls_of, manifest, prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.scenes import CUSTOMER, LOST_S, NOTICE, TALK_S, THIRD_HZ, Office, Scene, file_of
from tests.lab.signals import Silence

DIALPLAN = """
; 3120123961N: told, into room N; 3120123962N: untold, into room N
exten => _3120123961X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,ConfBridge(${EXTEN:10})
exten => _3120123962X,1,ConfBridge(${EXTEN:10})

[internal](+)
exten => _*6X,1,ConfBridge(${EXTEN:2})
"""
SETTINGS = """
[joiners]
tell = true
after_seconds = 1.0
"""
AGENTS = ("104", "105", "106")
SLIP_S = 0.06
"""The phones' clocks, and a packet that a busy machine gave out late."""


async def begun(office: Office, title: str, room: str, agent: str, number: str) -> Scene:
    """A told customer and one of ours in a room, recorded; he talks, and is silent then."""
    scene = await office.inbound(title, f"3120123961{room}", number)
    await scene.calls["customer"].answered()
    scene.calls["agent"] = await office.own[agent].call(f"*6{room}")
    await office.view(scene, "at first", by=f"PJSIP/{agent}")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].say(Silence())
    return scene


async def ended(scene: Scene) -> Scene:
    await scene.calls["customer"].hangup()
    await scene.calls["agent"].hangup()
    return scene


async def stays(office: Office) -> Scene:
    """He joins untold, speaks while he is told, and both speak afterwards."""
    scene = await begun(office, "a joiner who stays is told", "1", "104", "+31612345711")
    customer = scene.calls["customer"]
    scene.calls["joiner"] = joiner = await office.third.call("31201239621", caller_id="+31612345721")
    await joiner.answered()
    await office.view(scene, "with the untold one", on=False)
    await office.view(scene, "told")
    await customer.say(CUSTOMER)
    await customer.talk(TALK_S)
    await ended(scene)
    await joiner.hangup()
    return scene


async def hangs_up(office: Office) -> Scene:
    """Nobody says a word while he is told; he hangs up in its midst."""
    scene = await begun(office, "a joiner hangs up while he is told", "2", "105", "+31612345712")
    customer = scene.calls["customer"]
    scene.calls["joiner"] = joiner = await office.third.call("31201239622", caller_id="+31612345722")
    await joiner.answered()
    await joiner.say(Silence())
    await office.view(scene, "with the untold one", on=False)
    id = (await until_recorded(office.site, "+31612345722", on=False))["call"]
    await office.phones.until(
        lambda: [e for e in office.site.events("disclosure.started") if e["call"] == id], "begun to be told"
    )
    await joiner.talk(1.5)
    await joiner.hangup()
    await office.view(scene, "without him")
    await customer.say(CUSTOMER)
    await customer.talk(TALK_S)
    return await ended(scene)


async def objects(office: Office) -> Scene:
    """A second told customer objects, and leaves; the others talk on."""
    scene = await begun(office, "who objected has left", "3", "106", "+31612345713")
    customer = scene.calls["customer"]
    scene.calls["objector"] = objector = await office.third.call("31201239613", caller_id="+31612345723")
    await objector.answered()
    second = await until_recorded(office.site, "+31612345723", deadline_s=20)
    await office.view(scene, "with two customers")
    await customer.say(CUSTOMER)
    await customer.talk(TALK_S)
    await office.site.run("calls", "object", str(second["call"]))
    await office.view(scene, "objected", on=False)
    await objector.hangup()
    await office.site.why("+31612345723")
    await customer.talk(2.0)
    await office.view(scene, "he has left", on=False)
    return await ended(scene)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with Installation(dialplan=DIALPLAN, settings=SETTINGS) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(site: Installation) -> AsyncIterator[dict[str, Scene]]:
    async with scenes.office(site, AGENTS, silent=AGENTS, carriers=3) as office:
        yield await scenes.played(office, stays, hangs_up, objects)


@pytest.mark.row(
    situation="an untold party joins a conference, and stays; joiners are told",
    decision="closed; goes on in a new segment once he heard the notice in full",
    article="139c Sr; art. 13 GDPR",
)
async def test_a_joiner_who_stays_is_told_and_recorded_once_he_heard_it(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["stays"]
    assert scene.reasons("with the untold one") == {"not_told"}
    file = await file_of(site, scene)
    heard = await scene.calls["joiner"].heard()
    end = heard.began + measure.prompt_end(heard, prompt(site, NOTICE))
    assert file.gap_reasons == [["not_told"]]
    first, second = file.part(0, 1), file.part(1)
    assert f"{THIRD_HZ:g}" not in measure.voices(first[1], CUSTOMER)
    assert measure.voices(second[1], CUSTOMER) == {"chirp", f"{THIRD_HZ:g}"}
    # What goes on ends with the call at the latest: so long before it, it did not begin.
    over = file.said.began + file.said.seconds
    assert second[1].seconds <= over - end + SLIP_S
    assert second[1].seconds > TALK_S - LOST_S
    said = manifest(file.path)
    assert len({one["channel"] for one in said["told"]}) == 2
    assert site.files("+31612345721") == []


@pytest.mark.row(
    situation="an untold party joins, and hangs up while he is told",
    decision="closed while he was there; goes on without him",
    article="139c Sr",
)
async def test_he_alone_hears_the_whisper_and_who_hangs_up_in_its_midst_was_not_told(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["hangs_up"]
    file = await file_of(site, scene)
    assert file.gap_reasons == [["not_told"]]
    assert file.own.seconds > 2 * (TALK_S - LOST_S)
    notice = checker.read(prompt(site, NOTICE))[0]
    heard = await scene.calls["joiner"].heard()
    found = checker.locate(measure.track(heard), notice)
    assert found is not None, "nothing was whispered: the measure is blind"
    assert not found.complete
    begin = heard.began + found.start_s
    for name in ("agent", "customer"):
        other = await scene.calls[name].heard()
        after = measure.track(other).part(begin - other.began - 0.5)
        assert checker.locate(after, notice) is None, f"the {name} heard it too"
    (call,) = await calls_of(site, "+31612345722")
    assert not call["told"]


@pytest.mark.row(
    situation="one of two external parties objects, and leaves the line",
    decision="nothing more is recorded of the call; its recording is locked for 14 days",
    article="art. 18(1)(d), 21 GDPR",
)
async def test_an_objection_holds_for_the_call_once_whoever_made_it_has_left(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["objects"]
    assert scene.reasons("objected") == {"objected"}
    assert scene.reasons("he has left") == {"objected"}
    file = await file_of(site, scene)
    said = manifest(file.path)
    assert said["locked"]
    (call,) = await calls_of(site, "+31612345723")
    assert [one["channel"] for one in said["objections"]] == [call["call"]]
    listed = await site.run("recordings", "list", "--number", scene.number, "--json")
    (row,) = listed.json()["recordings"]
    assert row["locked"]
    # Until he objected both were recorded; the customer said two seconds more, none of which is there.
    left = await scene.calls["objector"].heard()
    assert measure.voices(file.others, CUSTOMER) == {"chirp", f"{THIRD_HZ:g}"}
    last = measure.recorded(file.path, file.said, CUSTOMER).last_s
    assert file.said.began + last < left.began + left.seconds
    spoken = [s for s in checker.chirp_stretches(measure.track(file.said), CUSTOMER)]
    assert spoken[-1].end_s > last + 1.5, "the customer did not speak on"


async def test_nothing_is_left_of_the_whispers(site: Installation, told: dict[str, Scene]) -> None:
    assert site.events("disclosure.started"), "nothing was whispered at all"
    assert not [name for name in await site.asterisk.channels() if name.startswith("Snoop/")]
