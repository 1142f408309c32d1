"""The cut in calls whose media change on the way: another codec, another RTP port, a hold by the carrier's re-INVITE.

pbxguard stands still at the moment that matters, so that the recorder runs on and there is something to cut away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.lab import checker, cutting, measure
from tests.lab.cutting import AGENT_HZ, CUSTOMER, MARK_HZ, Cut, Office, Talk, cut_of, free_of_third
from tests.lab.evidence import until_recorded
from tests.lab.faults import standing_still
from tests.lab.signals import Tone

pytestmark = pytest.mark.alone

TALK_S = 1.5
STALL_S = 0.5
LOST_S = 0.6
"""Of what is permitted: the guard, a beat, and what goes by between the standstill and the third party's first word."""
RENEGOTIATED_S = 0.4
"""The most that is not heard while two phones agree on other media."""


@dataclass
class Told:
    """The talks of this module, each with the audio format and the RTP address of the changed leg, before and after."""

    cuts: dict[str, Cut]
    talks: dict[str, Talk]
    media: dict[str, list[tuple[str, str]]]


async def media_of(talk: Talk, channel: str) -> tuple[str, str]:
    """The format in which Asterisk reads a channel, and where it sends its audio."""
    found = []
    for what in ("audionativeformat", "rtp,dest"):
        answer = await talk.office.ami.action("Getvar", Channel=channel, Variable=f"CHANNEL({what})")
        found.append(answer["Value"])
    return found[0], found[1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(cut_office: Office) -> AsyncIterator[Told]:
    office = cut_office
    a = office.site.asterisk
    carrier = await office.phones.add(a.line("trunk-a"), sends=CUSTOMER)
    names = ("customer's codec", "agent's codec", "while joining", "carrier's hold")
    async with cutting.scene(office) as third:
        found = await asyncio.gather(*(office.talk(carrier=carrier) for _ in names))
        talks = dict(zip(names, found, strict=True))
        by_customer, by_agent, while_joining, held = found
        legs = {name: talk.channel for name, talk in talks.items()}
        legs["agent's codec"] = next(c for c in await a.channels() if c.startswith(f"PJSIP/{by_agent.line}-"))
        media = {name: [await media_of(talks[name], legs[name])] for name in names[:2]}
        with ExitStack() as voices:
            for talk in (by_customer, by_agent, while_joining):
                await talk.expects(third)
                talk.speaks(voices)
            await by_customer.customer.talk(TALK_S)
            await by_customer.customer.refresh("PCMU/8000", new_port=True)
            await by_agent.agent.refresh("PCMU/8000", new_port=True)
            await by_customer.customer.talk(TALK_S)
            for name in names[:2]:
                media[name].append(await media_of(talks[name], legs[name]))
            assert office.site.process is not None
            with standing_still(office.site.process.pid):
                await asyncio.gather(
                    *(talk.joined() for talk in (by_customer, by_agent, while_joining)),
                    while_joining.customer.refresh("PCMU/8000", new_port=True),
                    held.customer.hold(),
                )
                await held.agent.say(Tone(MARK_HZ))
                await asyncio.sleep(STALL_S)
            cuts = {name: await free_of_third(talks[name], LOST_S) for name in names[:3]}
            await until_recorded(office.site, held.number, on=False)
            await held.agent.say(Tone(AGENT_HZ))
            await held.customer.unhold()
            await until_recorded(office.site, held.number)
            await held.customer.talk(TALK_S)
            cuts["carrier's hold"] = await cut_of(held)
    await office.phones.remove(carrier)
    yield Told(cuts, talks, media)


async def whole(told: Told, name: str) -> Cut:
    """One segment with both voices from the notice to the cut, but for what an agreement on other media may cost."""
    cut = told.cuts[name]
    assert len(cut.manifest["segments"]) == 1
    said = await told.talks[name].customer.said()
    spoken = measure.positions(cut.others, said, CUSTOMER)
    heard = sum(end - begin for begin, end in spoken)
    assert spoken[-1][1] - spoken[0][0] - heard < RENEGOTIATED_S
    assert cut.others.seconds - heard < RENEGOTIATED_S
    agent = sum(span.seconds for span in checker.spans(cut.own, AGENT_HZ))
    assert cut.own.seconds - agent < RENEGOTIATED_S
    return cut


async def test_a_customers_new_codec_and_port_are_recorded_on_and_the_joiner_is_cut_away(told: Told) -> None:
    before, after = told.media["customer's codec"]
    assert ("alaw" in before[0], "ulaw" in after[0]) == (True, True)
    assert before[1] != after[1]
    cut = await whole(told, "customer's codec")
    assert cut.kept_s > 2 * TALK_S - LOST_S - RENEGOTIATED_S


async def test_an_agents_new_codec_and_port_are_recorded_on_and_the_joiner_is_cut_away(told: Told) -> None:
    before, after = told.media["agent's codec"]
    assert ("alaw" in before[0], "ulaw" in after[0]) == (True, True)
    assert before[1] != after[1]
    cut = await whole(told, "agent's codec")
    assert cut.kept_s > 2 * TALK_S - LOST_S - RENEGOTIATED_S


async def test_a_joiner_in_the_midst_of_a_re_invite_is_cut_away(told: Told) -> None:
    await whole(told, "while joining")


async def test_what_the_agent_says_while_the_carrier_holds_the_call_is_not_kept(told: Told) -> None:
    cut = told.cuts["carrier's hold"]
    begins = cut.is_free_of(MARK_HZ, measure.track(await told.talks["carrier's hold"].customer.said()), "own")
    assert begins - cut.kept_s < LOST_S
    kept = [segment for segment in cut.manifest["segments"] if segment["kept_samples"]]
    assert len(kept) == 2, "the recording goes on when the hold has ended"
    assert "on_hold" in kept[0]["ended_by"]
    assert measure.voices(cut.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(cut.others, CUSTOMER) == {"chirp"}
