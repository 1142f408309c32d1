"""Transfers by every means, one row of the rules each: what may be recorded is, and what may not is not.

The scenes are in tests/lab/transfers.py. A call that goes outside is recorded until the own party leaves, one that
goes to another of ours goes on as the same recording, and one that comes back is recorded again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure, transfers
from tests.lab.evidence import manifest
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    DIALS,
    OTHER_HZ,
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
)

STOPPED = "recorded until the own party leaves, then no more"
CLOSED = "closed while consulting and with the untold third party there, and when the agent leaves"
GOES_ON = "goes on as one recording, a new segment on the new own leg"
RESUMED = "closed while consulting, recorded again once taken back"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    files = {"features.conf": transfers.FEATURES}
    plan = transfers.DIALPLAN + "[internal](+)\n" + DIALS
    async with Installation(dialplan=plan, files=files, extra_lines=OUTSIDE[1:]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        office = await Office.gather(site, phones, transfers.AGENTS, transfers.OTHERS)
        yield await play(office, transfers.WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def stopped(site: Installation, scene: Scene, *, dialled: bool = True) -> File:
    """The agent and the customer are there, and not 5 ms of the third party, whom the customer heard.

    `dialled`: Asterisk told whom it dialled, so that the third party's own call is found by his number.
    """
    file = await both_voices(site, scene, AGENT_HZ, seconds=TALK_S)
    assert len(file.segments) == 1
    assert file.last_s < measure.first_heard(file.heard, THIRD_HZ)
    file.is_free_of(THIRD_HZ, file.heard)
    assert scene.reasons("with the third party") == {"no_own_party", "not_told"}
    if dialled:
        assert await reasons(site, scene.third) == {"no_own_party", "not_told"}
    assert site.files(scene.third) == []
    return file


async def went_on(site: Installation, scene: Scene) -> File:
    """One recording; the first agent is in its first segment alone, the second in the second alone."""
    file = await both_voices(site, scene, AGENT_HZ, OTHER_HZ, seconds=2 * TALK_S)
    assert len(file.segments) == 2
    assert len({segment["leg"] for segment in file.segments}) == 2
    assert len(file.gaps) == 1
    for number, hertz in enumerate((AGENT_HZ, OTHER_HZ)):
        own, others = file.part(number)
        assert measure.voices(own, CUSTOMER) == {f"{hertz:g}"}
        assert measure.voices(others, CUSTOMER) == {"chirp"}
    return file


async def came_back(site: Installation, scene: Scene, *, consulted: bool) -> File:
    """Two segments on the same leg; nothing of whom the agent consulted, which his own phone heard."""
    file = await both_voices(site, scene, AGENT_HZ, seconds=2 * TALK_S)
    assert len(file.segments) == 2
    assert len({segment["leg"] for segment in file.segments}) == 1
    if consulted:
        heard = scene.calls.get("consulting", scene.calls["agent"])
        file.is_free_of(THIRD_HZ, await heard.heard())
    return file


# -- by the phones' REFER --------------------------------------------------------------------------------------------


@pytest.mark.row(situation="blind REFER to an outside number", decision=STOPPED, article="139b Sr")
async def test_a_blind_refer_to_an_outside_number_ends_the_recording(site: Installation, scenes: Played) -> None:
    await stopped(site, scenes["blind_outside"])


@pytest.mark.row(situation="blind REFER to another agent", decision=GOES_ON, article="own rule")
async def test_a_blind_refer_to_another_agent_goes_on_as_one_recording(site: Installation, scenes: Played) -> None:
    await went_on(site, scenes["blind_agent"])


@pytest.mark.row(situation="attended REFER (Replaces) to an outside number", decision=CLOSED, article="139b Sr")
async def test_an_attended_refer_to_an_outside_number_is_closed_from_the_hold_on(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["attended_outside"]
    assert scene.reasons("consulting") == {"on_hold", "second_call"}
    file = await stopped(site, scene)
    # One recorder in all: none began in the instant when both bridges stood un-held.
    assert [segment["ended_by"] for segment in manifest(file.path)["segments"]] == [["on_hold"]]


@pytest.mark.row(situation="attended REFER (Replaces) to another agent", decision=GOES_ON, article="own rule")
async def test_an_attended_refer_to_another_agent_goes_on_as_one_recording(site: Installation, scenes: Played) -> None:
    scene = scenes["attended_agent"]
    assert scene.reasons("consulting") == {"on_hold", "second_call"}
    await went_on(site, scene)


@pytest.mark.row(situation="the consulted third party declines", decision=RESUMED, article="own rule")
async def test_a_transfer_declined_by_its_target_is_recorded_again(site: Installation, scenes: Played) -> None:
    file = await came_back(site, scenes["declined"], consulted=False)
    assert file.gaps == [["on_hold"]]


@pytest.mark.row(situation="attended transfer taken back half-way", decision=RESUMED, article="own rule")
async def test_a_transfer_taken_back_is_recorded_again_without_the_consultation(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["taken_back"]
    assert scene.reasons("consulting") == {"on_hold", "second_call"}
    file = await came_back(site, scene, consulted=True)
    assert file.gaps == [["on_hold"]]


@pytest.mark.row(
    situation="a customer transfers himself (his carrier's REFER)",
    decision="ends with him; the agent and the untold party whom he named are not recorded",
    article="139b Sr",
)
async def test_a_customer_who_transfers_himself_ends_his_recording_and_begins_none(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["customer_leaves"]
    assert scene.reasons("with the third party") == {"no_purpose"}  # told of nothing: nothing was asked for him
    file = await both_voices(site, scene, AGENT_HZ, seconds=TALK_S)
    assert len(file.segments) == 1
    file.is_free_of(THIRD_HZ, await scene.calls["agent"].heard())
    assert await reasons(site, "+31108880620") == {"no_purpose"}
    assert site.files("+31108880620") == []


# -- by feature codes ------------------------------------------------------------------------------------------------


@pytest.mark.row(situation="attended transfer to an outside number by feature code", decision=CLOSED, article="139b Sr")
async def test_an_attended_transfer_by_feature_code_stays_closed_with_the_third_party_there(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["code_outside"]
    assert scene.reasons("consulting") == {"no_own_party"}  # his agent is in another bridge
    assert scene.reasons("all three") == {"not_told", "on_hold"}
    await stopped(site, scene)


@pytest.mark.row(situation="attended transfer to another agent by feature code", decision=GOES_ON, article="own rule")
async def test_an_attended_transfer_by_feature_code_to_another_agent_goes_on(
    site: Installation, scenes: Played
) -> None:
    await went_on(site, scenes["code_agent"])


@pytest.mark.row(situation="blind transfer to an outside number by feature code", decision=STOPPED, article="139b Sr")
async def test_a_blind_transfer_by_feature_code_to_an_outside_number_ends_the_recording(
    site: Installation, scenes: Played
) -> None:
    await stopped(site, scenes["code_blind_outside"])


@pytest.mark.row(situation="blind transfer to another agent by feature code", decision=GOES_ON, article="own rule")
async def test_a_blind_transfer_by_feature_code_to_another_agent_goes_on(site: Installation, scenes: Played) -> None:
    await went_on(site, scenes["code_blind_agent"])


@pytest.mark.row(situation="transfer by feature code, declined by its target", decision=RESUMED, article="own rule")
async def test_a_transfer_by_feature_code_that_is_declined_is_recorded_again(
    site: Installation, scenes: Played
) -> None:
    await came_back(site, scenes["code_declined"], consulted=False)


@pytest.mark.row(situation="transfer by feature code, taken back half-way", decision=RESUMED, article="own rule")
async def test_a_transfer_by_feature_code_that_is_taken_back_is_recorded_again(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["code_taken_back"]
    assert scene.reasons("consulting") == {"no_own_party"}  # his agent is in another bridge
    await came_back(site, scene, consulted=True)


# -- by AMI and ARI --------------------------------------------------------------------------------------------------


@pytest.mark.row(situation="AMI Redirect to an outside number", decision=STOPPED, article="139b Sr")
async def test_an_ami_redirect_to_an_outside_number_ends_the_recording(site: Installation, scenes: Played) -> None:
    await stopped(site, scenes["ami_redirect_outside"])


@pytest.mark.row(situation="AMI Redirect to another agent", decision=GOES_ON, article="own rule")
async def test_an_ami_redirect_to_another_agent_goes_on(site: Installation, scenes: Played) -> None:
    await went_on(site, scenes["ami_redirect_agent"])


@pytest.mark.row(situation="AMI BlindTransfer to an outside number", decision=STOPPED, article="139b Sr")
async def test_an_ami_blind_transfer_to_an_outside_number_ends_the_recording(
    site: Installation, scenes: Played
) -> None:
    await stopped(site, scenes["ami_blind_outside"])


@pytest.mark.row(situation="AMI BlindTransfer to another agent", decision=GOES_ON, article="own rule")
async def test_an_ami_blind_transfer_to_another_agent_goes_on(site: Installation, scenes: Played) -> None:
    await went_on(site, scenes["ami_blind_agent"])


@pytest.mark.row(situation="AMI Atxfer to an outside number", decision=CLOSED, article="139b Sr")
async def test_an_ami_attended_transfer_is_closed_from_the_consultation_on(site: Installation, scenes: Played) -> None:
    scene = scenes["ami_attended_outside"]
    assert scene.reasons("consulting") == {"no_own_party"}  # his agent is in another bridge
    await stopped(site, scene)


@pytest.mark.row(
    situation="a REFER that an ARI application handles (ChannelTransfer)",
    decision="closed from the third party's coming on, and when the agent leaves",
    article="139b Sr",
)
async def test_a_transfer_by_an_ari_application_is_closed_once_the_third_party_is_there(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["ari_transfer"]
    assert scene.reasons("all three") == {"not_told"}
    await stopped(site, scene, dialled=False)


@pytest.mark.row(situation="sent to an outside number by an ARI application", decision=STOPPED, article="139b Sr")
async def test_a_customer_sent_outside_by_an_ari_application_is_recorded_no_more(
    site: Installation, scenes: Played
) -> None:
    await stopped(site, scenes["ari_continue"])


async def test_nothing_of_any_transfer_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
