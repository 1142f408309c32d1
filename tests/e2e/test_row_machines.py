"""Calls that a machine or nobody of ours answers: mailboxes, menus, answering services, calls that only pass through.

Nobody of ours takes part in them, or not yet: not recorded, whatever was told. Each has a twin that reaches one of us
and is recorded. What a mailbox keeps is kept by Asterisk's VoiceMail(), never by pbxguard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, machines, measure
from tests.lab.evidence import manifest, prompt
from tests.lab.installation import Installation
from tests.lab.machines import MENU_HZ, NUMBER, OUTBOUND, messages
from tests.lab.phone import Answer, Heard, Phones
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    LOST_S,
    NOTICE,
    OTHER_HZ,
    TALK_S,
    THIRD_HZ,
    Office,
    Played,
    Scene,
    both_voices,
    file_of,
    nothing_left,
    notice_end,
    play,
    reasons,
    told_and_refused,
)
from tests.lab.scenes import absent

CLIENTS = "for_client.nl.notice.inbound"
ALONE = "not recorded: nobody of ours takes part"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with machines.installation() as running:
        await machines.record_menu(running)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        office = await Office.gather(site, phones, machines.AGENTS, carriers=3)
        called = await phones.add(site.asterisk.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.3))
        office.thirds += (called,)
        yield await play(office, machines.WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def recorded(site: Installation, scene: Scene, endpoint: str, notice: str = NOTICE) -> None:
    """Both voices in one segment, on the leg of this endpoint."""
    file = await file_of(site, scene, notice)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert file.own.seconds > TALK_S - LOST_S
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == endpoint


async def untold(site: Installation, scene: Scene, number: str, expected: set[str], notice: str) -> Heard:
    """The call of this number was played no notice and never recorded, for these reasons; gives what he heard."""
    heard, _ = await measure.pair(scene.calls["customer"])
    found = measure.prompt_heard(heard, prompt(site, notice))
    assert found is None or found.heard_s < 0.3
    said = await site.why(number)
    assert set(said["reasons"]) == expected, said["reasons"]
    assert not said["told"]
    assert not said["ever_recorded"]
    assert site.files(number) == []
    return heard


def message(site: Installation, box: str) -> None:
    """The mailbox holds the customer's voice: what was said there could have been recorded."""
    (kept,) = messages(site, box)
    assert checker.chirp_stretches(checker.read(kept)[0], CUSTOMER)


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.row(
    situation="an agent does not answer, and his mailbox does",
    decision="not recorded by pbxguard; VoiceMail() keeps the message",
    article="own rule",
)
async def test_what_is_said_to_a_mailbox_is_kept_by_it_alone(site: Installation, scenes: Played) -> None:
    scene = scenes["mailbox"]
    expected = {"no_own_party", "not_bridged"}
    assert scene.reasons("speaking") == expected
    message(site, "100")
    twin = Scene("the agent answers", NUMBER.format(11), {"customer": scene.calls["twin"]})
    await recorded(site, twin, "PJSIP/100")
    await told_and_refused(site, scene, expected)


@pytest.mark.row(
    situation="an agent listens to his own mailbox",
    decision="not recorded: nobody external takes part",
    article="own rule",
)
async def test_who_listens_to_his_mailbox_is_in_no_call(site: Installation, scenes: Played) -> None:
    scene = scenes["mailbox"]
    assert scene.views["the twin"]["own_endpoint"] == "PJSIP/100", "he would be seen in a call"
    assert scene.views["own"]["live"] == []
    heard = await scene.calls["listening"].heard()
    assert checker.chirp_stretches(measure.track(heard), CUSTOMER), "he did not hear the message"


@pytest.mark.row(situation="a private extension's mailbox", decision="never", article="own rule")
async def test_a_private_mailbox_is_never_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["private_mailbox"]
    expected = {"marked_private", "no_own_party", "not_bridged", "not_told"}
    assert scene.reasons("speaking") == expected
    await untold(site, scene, scene.number, expected, NOTICE)
    message(site, "201")


@pytest.mark.row(situation="a private extension (HR, works council) answers", decision="never", article="own rule")
async def test_a_private_extension_that_answers_is_never_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["private_phone"]
    expected = {"private_party", "no_own_party"}
    assert scene.reasons("talking") == expected
    measure.first_heard(await told_and_refused(site, scene, expected), AGENT_HZ)


@pytest.mark.row(
    situation="a menu of our own, then the notice, then a queue",
    decision="nobody is told or recorded in the menu; recorded once told and connected",
    article="own rule",
)
async def test_a_menu_before_the_notice_is_not_in_the_recording(site: Installation, scenes: Played) -> None:
    scene = scenes["menu"]
    assert scene.reasons("in the menu") == {"no_own_party", "not_bridged", "no_purpose"}
    assert not scene.views["in the menu"]["told"]
    file = await both_voices(site, scene, AGENT_HZ, seconds=TALK_S)
    assert len(file.segments) == 1
    menu_s = measure.first_heard(file.heard, MENU_HZ)
    assert menu_s < notice_end(file.heard, prompt(site, NOTICE)), "he was told before the menu"
    spoke = checker.spans(measure.track(file.said), OTHER_HZ)
    assert sum(span.seconds for span in spoke) > 1.0, "he said nothing in the menu"
    quiet = measure.track(file.said).part(spoke[-1].end_s + 0.5)
    absent(OTHER_HZ, file.said, (file.own, file.others), quiet)


@pytest.mark.row(situation="a caller hangs up in the menu", decision="not told, not recorded", article="own rule")
async def test_who_hangs_up_in_the_menu_was_told_nothing(site: Installation, scenes: Played) -> None:
    scene = scenes["menu_only"]
    heard = await untold(site, scene, scene.number, {"no_own_party", "not_bridged", "no_purpose"}, NOTICE)
    measure.first_heard(heard, MENU_HZ)


@pytest.mark.row(situation="an outside answering service answers for an agent", decision=ALONE, article="139b Sr")
async def test_an_outside_answering_service_is_not_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["service"]
    assert scene.reasons("talking") == {"no_own_party", "not_told"}
    heard = await told_and_refused(site, scene, {"no_own_party", "not_told"})
    measure.first_heard(heard, THIRD_HZ)
    assert await reasons(site, scene.third) == {"no_own_party", "not_told"}


@pytest.mark.row(situation="an outside answering service that was told as well", decision=ALONE, article="139b Sr")
async def test_an_outside_answering_service_that_was_told_is_not_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["service_told"]
    assert scene.reasons("talking") == {"no_own_party"}
    heard = await told_and_refused(site, scene, {"no_own_party"})
    measure.first_heard(heard, THIRD_HZ)
    notice_end(await scene.calls["third"].heard(), prompt(site, OUTBOUND))
    assert site.files(scene.third) == []


@pytest.mark.row(
    situation="our agent answers for a client of ours",
    decision="recorded; the notice names the client",
    article="own rule",
)
async def test_a_call_that_we_answer_for_a_client_is_recorded_under_his_notice(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["for_client"]
    await recorded(site, scene, "PJSIP/104", CLIENTS)
    purposes = manifest(await site.sealed(scene.number))["purposes"]
    assert [purpose["name"] for purpose in purposes] == ["for_client"]


@pytest.mark.row(situation="from carrier to carrier", decision=ALONE, article="139b Sr")
async def test_a_call_that_only_passes_through_is_not_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["passing"]
    expected = {"no_own_party", "no_purpose"}
    assert scene.reasons("talking") == expected
    heard = await untold(site, scene, scene.number, expected, NOTICE)
    measure.first_heard(heard, THIRD_HZ)
    assert await reasons(site, scene.third) == expected


@pytest.mark.row(
    situation="to a tenant who gave a mandate",
    decision="not recorded: no mandate is checked yet, so he counts as unknown",
    article="139c Sr",
)
async def test_a_tenant_is_not_recorded_whatever_mandate_he_gave(site: Installation, scenes: Played) -> None:
    scene = scenes["tenant"]
    expected = {"no_own_party", "unknown_party"}
    assert scene.reasons("talking") == expected
    heard = await told_and_refused(site, scene, expected)
    measure.first_heard(heard, AGENT_HZ)


@pytest.mark.row(situation="a hotel's guest calls out, and the other party is told", decision=ALONE, article="139b Sr")
async def test_a_guests_call_is_not_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["guest"]
    expected = {"no_own_party", "unknown_party"}
    assert scene.reasons("talking") == expected
    heard, _ = await measure.pair(scene.calls["customer"])
    notice_end(heard, prompt(site, OUTBOUND))
    measure.first_heard(heard, AGENT_HZ)
    assert await reasons(site, scene.number) == expected
    assert not (await site.why(scene.number))["ever_recorded"]


@pytest.mark.row(
    situation="a wake-up call: the PBX calls out and plays a sound",
    decision="not recorded: nobody of ours takes part",
    article="own rule",
)
async def test_a_wake_up_call_is_not_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["wake_up"]
    expected = {"no_own_party", "not_bridged", "no_purpose"}
    assert scene.reasons("played") == expected
    heard = await untold(site, scene, scene.number, expected, OUTBOUND)
    measure.first_heard(heard, MENU_HZ)


@pytest.mark.row(
    situation="the PBX calls an agent, and then a customer for him",
    decision="recorded once the customer was told",
    article="own rule",
)
async def test_a_customer_whom_the_pbx_calls_for_an_agent_is_told_and_recorded(
    site: Installation, scenes: Played
) -> None:
    await recorded(site, scenes["click_to_call"], "PJSIP/105", OUTBOUND)


async def test_nothing_of_any_machine_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
