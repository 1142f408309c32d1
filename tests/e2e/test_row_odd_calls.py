"""Ring groups on the never-record list, a private prefix, carriers that answer early or ask for a fax, late transfers.

The scenes are in tests/lab/odd_calls.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure, odd_calls
from tests.lab.evidence import manifest, prompt
from tests.lab.installation import Installation
from tests.lab.odd_calls import RINGING, Fax
from tests.lab.phone import Answer, Heard, Phones
from tests.lab.plays import (
    AGENT_HZ,
    CUSTOMER,
    LOST_S,
    NOTICE,
    OTHER_HZ,
    TALK_S,
    File,
    Office,
    Played,
    Scene,
    both_voices,
    file_of,
    nothing_left,
    notice_end,
    play,
    told_and_refused,
)

OUTBOUND = "contract_evidence.nl.notice.outbound"
NEVER = "never"
GOES_ON = "goes on as one recording, a new segment on the new own leg"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    async with odd_calls.installation() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation) -> AsyncIterator[Played]:
    async with Phones() as phones:
        office = await Office.gather(site, phones, odd_calls.AGENTS, odd_calls.OTHERS)
        a = site.asterisk
        called = await phones.add(a.line("trunk-b"), sends=CUSTOMER, on_incoming=Answer(0.3))
        early = await phones.add(a.line("trunk-f"), sends=RINGING, on_incoming=Answer(0.1))
        office.thirds += (called, early)
        yield await play(office, odd_calls.WAVES)


# -- measures --------------------------------------------------------------------------------------------------------


async def recorded(
    site: Installation, scene: Scene, endpoint: str, notice: str = NOTICE, hertz: float = AGENT_HZ
) -> File:
    """Both voices in one segment, on the leg of this endpoint."""
    file = await file_of(site, scene, notice)
    assert measure.voices(file.own, CUSTOMER) == {f"{hertz:g}"}
    assert file.own.seconds > TALK_S - LOST_S
    assert len(file.segments) == 1
    assert manifest(file.path)["call"]["own_endpoint"] == endpoint
    return file


async def listed(site: Installation, scene: Scene, hertz: float = AGENT_HZ) -> None:
    """Told, since the list was of no use at the door, and not recorded for that reason alone."""
    assert scene.reasons("talking") == {"never_record"}
    heard = await told_and_refused(site, scene, {"never_record"})
    measure.first_heard(heard, hertz)


async def untold(site: Installation, scene: Scene, expected: set[str]) -> Heard:
    """The customer talked with our agent, was played no notice and never recorded; gives what he heard."""
    assert scene.reasons("talking") == expected
    heard, _ = await measure.pair(scene.calls["customer"])
    measure.first_heard(heard, AGENT_HZ)
    found = measure.prompt_heard(heard, prompt(site, OUTBOUND))
    assert found is None or found.heard_s < 0.3
    said = await site.why(scene.number)
    assert set(said["reasons"]) == expected, said["reasons"]
    assert not said["told"]
    assert not said["ever_recorded"]
    assert site.files(scene.number) == []
    return heard


async def went_on(site: Installation, scene: Scene) -> File:
    """One recording: the first agent in its first segment alone, the second in the second alone."""
    file = await both_voices(
        site, scene, AGENT_HZ, OTHER_HZ, seconds=2 * TALK_S - LOST_S
    )  # two talks, each may lose some
    assert len({segment["leg"] for segment in file.segments}) == len(file.segments) == 2
    assert measure.voices(file.part(0)[0], CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.part(1)[0], CUSTOMER) == {f"{OTHER_HZ:g}"}
    return file


async def through_it_all(site: Installation, scene: Scene) -> None:
    """Asterisk refused the fax, both went on talking, and all of that is in one segment."""
    assert isinstance(scene, Fax)
    assert scene.heard is not None
    assert scene.said is not None
    assert scene.answers == [488]
    disclosed = notice_end(scene.heard, prompt(site, NOTICE))
    path = await site.sealed(scene.number)
    file = measure.recorded(path, scene.said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert len([segment for segment in manifest(path)["segments"] if segment["kept_samples"]]) == 1
    assert file.seconds > 2 * TALK_S - LOST_S
    assert file.last_s > scene.said.seconds - LOST_S, "what was said after it is missing"
    agent = checker.spans(measure.track(scene.heard), AGENT_HZ)
    assert sum(span.seconds for span in agent) > 2 * TALK_S - LOST_S, "he was not heard after it"


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.row(
    situation="a ring group whose extension is on the never-record list", decision=NEVER, article="own rule"
)
async def test_a_listed_ring_group_is_never_recorded(site: Installation, scenes: Played) -> None:
    await listed(site, scenes["listed_group"])


@pytest.mark.row(situation="the same, through a Local channel", decision=NEVER, article="own rule")
async def test_a_listed_ring_group_behind_a_local_channel_is_never_recorded(site: Installation, scenes: Played) -> None:
    await listed(site, scenes["listed_group_local"], OTHER_HZ)


@pytest.mark.row(
    situation="a ring group of which a member who is on the list answers", decision=NEVER, article="own rule"
)
async def test_a_listed_member_of_a_ring_group_is_never_recorded(site: Installation, scenes: Played) -> None:
    await listed(site, scenes["listed_member"])


@pytest.mark.row(
    situation="a ring group that is not on the list", decision="recorded on the leg of who answered", article="own rule"
)
async def test_a_ring_group_that_is_not_listed_is_recorded(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["group"], "PJSIP/103")


@pytest.mark.row(situation="dialled by an agent with the private prefix", decision=NEVER, article="own rule")
async def test_a_number_dialled_with_the_private_prefix_is_never_recorded(site: Installation, scenes: Played) -> None:
    await untold(site, scenes["prefix"], {"marked_private", "not_told"})


@pytest.mark.row(situation="dialled by an agent without it", decision="recorded once told", article="own rule")
async def test_a_number_dialled_without_a_prefix_is_recorded(site: Installation, scenes: Played) -> None:
    await recorded(site, scenes["no_prefix"], "PJSIP/110", OUTBOUND, OTHER_HZ)


@pytest.mark.row(
    situation="a carrier answers before the called party does, who is told once he has pressed a key",
    decision="recorded once he has heard the notice",
    article="own rule",
)
async def test_who_takes_a_call_by_a_key_is_told_after_that_and_recorded(site: Installation, scenes: Played) -> None:
    scene = scenes["early_asked"]
    file = await recorded(site, scene, "PJSIP/114", OUTBOUND)
    took = measure.positions(measure.track(file.said), file.said, CUSTOMER)[0][0]
    found = measure.prompt_heard(file.heard, prompt(site, OUTBOUND))
    assert found is not None
    assert found.start_s > took, "the notice began before he was there"


@pytest.mark.row(
    situation="the same, and he presses no key", decision="not recorded: he was told nothing", article="own rule"
)
async def test_who_presses_no_key_is_connected_untold(site: Installation, scenes: Played) -> None:
    await untold(site, scenes["early_unasked"], {"not_told"})


@pytest.mark.row(
    situation="a carrier answers before the called party does, and the notice is played at once",
    decision="counts as told: Asterisk shows no difference; have such a trunk's calls taken by a key first",
    article="own rule",
)
async def test_a_notice_played_to_a_carriers_ringing_counts_as_heard(site: Installation, scenes: Played) -> None:
    scene = scenes["early"]
    heard, said = await measure.pair(scene.calls["customer"])
    notice_end(heard, prompt(site, OUTBOUND))
    assert checker.chirp_stretches(measure.track(said), CUSTOMER)[0].start_s > notice_end(heard, prompt(site, OUTBOUND))
    assert (await site.why(scene.number))["told"]
    assert measure.voices(checker.read(await site.sealed(scene.number))[0], CUSTOMER) == {f"{AGENT_HZ:g}"}


@pytest.mark.row(
    situation="a re-INVITE for T.38 (fax) in the call, where T.38 is off",
    decision="refused by Asterisk; recorded on",
    article="own rule",
)
async def test_a_switch_to_fax_that_asterisk_refuses_leaves_the_recording_whole(
    site: Installation, scenes: Played
) -> None:
    await through_it_all(site, scenes["fax_off"])


@pytest.mark.row(
    situation="a re-INVITE for T.38 (fax) that is passed on to our phone",
    decision="refused by the phone; recorded on",
    article="own rule",
)
async def test_a_switch_to_fax_that_our_phone_refuses_leaves_the_recording_whole(
    site: Installation, scenes: Played
) -> None:
    await through_it_all(site, scenes["fax_refused"])


@pytest.mark.row(
    situation="a re-INVITE for T.38 (fax) that Asterisk takes for our phone (gateway)",
    decision="what was said before is recorded; nothing more comes of the customer",
    article="own rule",
)
async def test_a_switch_to_fax_that_asterisk_takes_leaves_what_was_said_before(
    site: Installation, scenes: Played
) -> None:
    scene = scenes["fax_taken"]
    assert isinstance(scene, Fax)
    assert scene.said is not None
    assert scene.answers == [200]
    file = measure.recorded(await site.sealed(scene.number), scene.said, CUSTOMER)
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.last_s < scene.asked_s + LOST_S, "his sound ends with the switch"
    assert scene.said.seconds > scene.asked_s + TALK_S, "he went on speaking"
    assert file.seconds > TALK_S - LOST_S


@pytest.mark.row(situation="AMI Atxfer to another agent", decision=GOES_ON, article="own rule")
async def test_an_ami_attended_transfer_to_another_agent_goes_on(site: Installation, scenes: Played) -> None:
    scene = scenes["ami_attended_agent"]
    assert scene.reasons("consulting") == {"no_own_party"}
    await went_on(site, scene)


@pytest.mark.row(situation="sent to another agent by an ARI application", decision=GOES_ON, article="own rule")
async def test_a_customer_sent_to_another_agent_by_an_ari_application_goes_on(
    site: Installation, scenes: Played
) -> None:
    await went_on(site, scenes["ari_continue_agent"])


async def test_nothing_of_any_odd_call_is_left_in_the_spool(site: Installation, scenes: Played) -> None:
    await nothing_left(site)
