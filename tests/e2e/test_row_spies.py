"""Listening in (ChanSpy) on the real Asterisk: what closes, what does not, and who is hung up for it.

The installation is in mode `enforce`; one DID is in mode `guard`.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure, scenes
from tests.lab.asterisk import Line
from tests.lab.evidence import manifest, until_refused
from tests.lab.installation import Installation
from tests.lab.phone import PhoneCall
from tests.lab.scenes import AGENT_HZ, CUSTOMER, LOST_S, OTHER_HZ, TALK_S, THIRD_HZ, Office, Scene, file_of

HEAD = """
[[scopes]]
mode = "guard"
did = "31201239171"
"""
PRIVATE = 'private = ["PJSIP/17[0-9]-*"]'
LISTED = "+31612345899"
NEVER = f"""
[never_record]
numbers = ["{LISTED}"]
"""
DIALPLAN = """
; 31201239171: to a private phone, in mode guard
exten => 31201239171,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/171,60,tT)

[internal](+)
; *5 and a digit: listen, whisper, barge, or switch between them by a key
exten => _*51XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},q)
exten => _*52XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},qw)
exten => _*53XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},qB)
exten => _*54XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},qd)
exten => *59,1,Answer()
 same => n,ChanSpy(PJSIP/trunk-c,q)
"""
AGENTS = ("104", "105", "106", "107", "108", "109", "110", "111", "114", "115", "170", "171", "120", "121")
SPIES = ("108", "109", "110", "111", "114", "115", "120", "121")
PRIVATELY = {"private_party", "no_own_party"}
"""Why a conversation on a private phone is not recorded."""


async def _spied(office: Office, title: str, agent: str, spy: str, code: str, keys: str = "") -> Scene:
    """Recorded, listened in on, and recorded again."""
    scene = await office.inbound(title, f"31201234{agent}", f"+316123458{agent[1:]}", agent)
    customer = scene.calls["customer"]
    await customer.talk(TALK_S)
    scene.calls["spy"] = listener = await office.own[spy].call(f"*5{code}{agent}")
    await listener.answered()
    await office.view(scene, "spied on", on=False)
    if keys:
        await listener.dtmf(keys)
    await listener.talk(2.0)
    assert listener.ended_at is None, "a spy on an own conversation is not hung up"
    await listener.hangup()
    await office.view(scene, "alone again")
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def listens(office: Office) -> Scene:
    return await _spied(office, "somebody listens", "104", "108", "1")


async def whispers(office: Office) -> Scene:
    return await _spied(office, "somebody whispers to the agent", "105", "109", "2")


async def barges(office: Office) -> Scene:
    return await _spied(office, "somebody barges in", "106", "110", "3")


async def switches(office: Office) -> Scene:
    """By key from listening to barging."""
    return await _spied(office, "a listener barges in by a key", "107", "111", "4", keys="6")


async def _forbidden(office: Office, scene: Scene, spy: str, dials: str) -> Scene:
    """Somebody listens in on a conversation that goes on already, and is hung up; those who talk go on."""
    customer = scene.calls["customer"]
    await customer.talk(1.0)
    scene.calls["spy"] = listener = await office.own[spy].call(dials)
    await listener.answered()
    await listener.ended()
    await customer.talk(2.0)
    assert customer.ended_at is None
    await customer.hangup()
    return scene


async def on_private(office: Office) -> Scene:
    scene = await office.inbound("on a private phone", "31201234170", "+31612345870", "170", wait=False)
    return await _forbidden(office, scene, "114", "*51170")


async def on_listed(office: Office) -> Scene:
    scene = await office.inbound("on a never-record number", "31201234101", LISTED, "101", wait=False)
    return await _forbidden(office, scene, "115", "*51101")


async def on_third_parties(office: Office) -> Scene:
    scene = await office.inbound("on two outside parties", "31201239000", "+31612345872")
    scene.calls["third"] = third = await office.third.incoming(number=scene.number, deadline_s=30)
    await third.answered()
    return await _forbidden(office, scene, "120", "*59")


async def in_guard(office: Office) -> Scene:
    """The same on a private phone, where the mode is `guard`: told of, and not hung up."""
    scene = await office.inbound("on a private phone in mode guard", "31201239171", "+31612345871", "171", wait=False)
    scene.calls["spy"] = listener = await office.own["121"].call("*51171")
    await listener.answered()
    await listener.talk(2.0)
    await listener.hangup()
    scene.views["without him"] = await until_refused(office.site, scene.number, PRIVATELY)
    await scene.calls["customer"].hangup()
    return scene


async def listen_only(office: Office) -> Scene:
    """Played last, once the configuration says that all spies only listen."""
    site = office.site
    assert site.process is not None
    site.config.write_text(site.config.read_text().replace(PRIVATE, f"{PRIVATE}\nlisten_only_spies = true"))
    before = len(site.events("settings.loaded"))
    site.process.send_signal(signal.SIGHUP)
    await office.phones.until(lambda: len(site.events("settings.loaded")) > before, "the settings read anew")
    scene = await office.inbound("a spy who may only listen", "31201234104", "+31612345890", "104")
    scene.calls["spy"] = listener = await office.own["108"].call("*51104")
    await listener.answered()
    await listener.talk(TALK_S)
    await office.view(scene, "spied on")
    await listener.hangup()
    await scene.calls["customer"].hangup()
    return scene


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    more = [Line(name, "internal", password=f"secret{name}") for name in ("120", "121", "170", "171")]
    running = Installation(mode="enforce", dialplan=DIALPLAN, settings=HEAD + NEVER, extra_lines=more)
    running.private = PRIVATE
    async with running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(site: Installation) -> AsyncIterator[dict[str, Scene]]:
    async with scenes.office(site, (*AGENTS, "101"), SPIES, carriers=3) as office:
        first = await scenes.played(office, listens, whispers, barges, switches, on_private, on_listed)
        then = await scenes.played(office, on_third_parties, in_guard)
        last = await scenes.played(office, listen_only)
        yield first | then | last


def alerts(site: Installation, reason: str, hung_up: bool) -> list[dict[str, Any]]:
    """What operators were woken for, with this reason."""
    rows = [row for row in site.events("spy.forbidden") if row["reasons"] == [reason]]
    return [row for row in rows if row["hung_up"] is hung_up]


async def closed(site: Installation, scene: Scene, voice_at: PhoneCall | None) -> None:
    """The recording stopped while he was there, and has nothing of him; `voice_at`: who heard him speak."""
    assert scene.reasons("spied on") == {"spied_on"}
    listened, _ = await measure.pair(scene.calls["spy"])
    assert scenes.chirps(listened), "the spy heard nothing"
    file = await file_of(site, scene)
    assert len(file.segments) == 2
    assert file.gap_reasons == [["spied_on"]]
    assert file.own.seconds > 2 * (TALK_S - LOST_S)
    if voice_at is None:
        return
    heard = await voice_at.heard()
    talk = measure.first_heard(file.heard, AGENT_HZ) + scenes.SETTLED_S
    agent = measure.track(file.heard).part(talk, talk + 1.0)
    file.is_free_of(OTHER_HZ, heard, agent, scenes.own_voice(file.said))


@pytest.mark.row(
    situation="spy (ChanSpy) on an own conversation",
    decision="closed while he listens; logged",
    article="own rule",
)
async def test_a_spy_closes_the_recording_while_he_listens(site: Installation, told: dict[str, Scene]) -> None:
    await closed(site, told["listens"], None)
    assert site.events("spy.seen")


@pytest.mark.row(situation="whisper to the agent", decision="closed meanwhile", article="own rule")
async def test_a_whisper_closes_the_recording_and_is_not_in_it(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["whispers"]
    await closed(site, scene, scene.calls["agent"])


@pytest.mark.row(situation="barge into a conversation", decision="closed meanwhile", article="139c Sr")
async def test_a_barge_closes_the_recording_and_is_not_in_it(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["barges"]
    await closed(site, scene, scene.calls["customer"])


@pytest.mark.row(
    situation="a listener who may speak at the press of a key (ChanSpy option d)",
    decision="closed from his first moment: Asterisk does not show when he begins to speak",
    article="own rule",
)
async def test_a_spy_who_switches_to_barging_was_out_of_the_recording_before(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["switches"]
    await closed(site, scene, scene.calls["customer"])


@pytest.mark.row(
    situation="spy, where all spies are configured listen-only",
    decision="recorded",
    article="own rule",
)
async def test_a_spy_configured_to_listen_only_closes_nothing(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["listen_only"]
    assert scene.views["spied on"]["recorded"]
    listened, _ = await measure.pair(scene.calls["spy"])
    assert scenes.chirps(listened), "the spy heard nothing"
    await scenes.plain(site, scene)


@pytest.mark.row(
    situation="spying on a private conversation",
    decision="alert; in `enforce` the spy is hung up",
    article="139b/139c Sr",
)
async def test_a_spy_on_a_private_conversation_is_told_of_and_hung_up(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["on_private"]
    (alert,) = alerts(site, "private_party", hung_up=True)
    assert alert["level"] == "alert"
    assert "enforce" in alert["mend"]
    await talked_on(scene, AGENT_HZ)
    await scenes.untouched(site, scene, PRIVATELY)


@pytest.mark.row(
    situation="spying on a conversation with a never-record number",
    decision="alert; in `enforce` the spy is hung up",
    article="139b/139c Sr",
)
async def test_a_spy_on_a_never_record_number_is_told_of_and_hung_up(
    site: Installation, told: dict[str, Scene]
) -> None:
    scene = told["on_listed"]
    assert len(alerts(site, "never_record", hung_up=True)) == 1
    await talked_on(scene, AGENT_HZ)
    await scenes.untouched(site, scene, {"never_record", "not_told"}, notice="")


@pytest.mark.row(
    situation="spying on a third-party conversation",
    decision="alert; in `enforce` the spy is hung up",
    article="139b/139c Sr",
)
async def test_a_spy_on_two_outside_parties_is_told_of_and_hung_up(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["on_third_parties"]
    assert len(alerts(site, "no_own_party", hung_up=True)) == 1
    await talked_on(scene, THIRD_HZ)
    await scenes.untouched(site, scene, {"no_own_party", "not_told"})


@pytest.mark.row(
    situation="spying on a private conversation in mode `guard`",
    decision="alert; the spy is not hung up",
    article="139b/139c Sr",
)
async def test_in_mode_guard_a_forbidden_spy_is_only_told_of(site: Installation, told: dict[str, Scene]) -> None:
    scene = told["in_guard"]
    assert len(alerts(site, "private_party", hung_up=False)) == 1
    listened, _ = await measure.pair(scene.calls["spy"])
    assert scenes.chirps(listened), "the spy heard nothing"
    await scenes.untouched(site, scene, PRIVATELY)


async def test_nobody_but_those_spies_was_told_of(site: Installation, told: dict[str, Scene]) -> None:
    assert len(site.events("spy.forbidden")) == 4
    for name in ("listens", "whispers", "barges", "switches", "listen_only"):
        assert manifest((await file_of(site, told[name])).path)["segments"]


async def talked_on(scene: Scene, hertz: float) -> None:
    """The customer heard the other side to the end of his call: only the spy was hung up."""
    heard, _ = await measure.pair(scene.calls["customer"])
    assert f"{hertz:g}" in measure.voices(measure.track(heard).part(heard.seconds - 1.5), CUSTOMER)
