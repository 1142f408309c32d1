"""The cut while AMI's events come late: a dialplan makes more of them at once than Asterisk can send in time.

The loops end after a while, so that calls go on: what is late is what pbxguard sees of them. In the spool, before it is
cut, who may not be recorded is heard for as long as the news of him took.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from tests.lab import cutting, measure
from tests.lab.asterisk import LabError
from tests.lab.cutting import MARK_HZ, Office, cut_of, free_of_third
from tests.lab.evidence import until_recorded
from tests.lab.signals import Tone

pytestmark = pytest.mark.alone

TALK_S = 1.5
LATE_S = 0.25
"""How late the news must be for a test to mean anything."""
LOST_S = 0.6
"""Of what is permitted: the guard, a beat, and what a busy Asterisk lets the beat wait before it takes it."""
PROBE_S = 0.02

LOOPS = {"unread": (2, 4000), "read": (2, 2500)}
"""Of each flood: how many loops, and the turns of each."""


async def flooded(office: Office, kind: str) -> float:
    """Begins a flood; gives how late the news is, as soon as that is late enough."""
    ami = office.ami
    loops, turns = LOOPS[kind]
    await ami.action("Setvar", Variable="TURNS", Value=turns)
    for _ in range(loops):
        await ami.action(
            "Originate", Channel="Local/s@silence/n", Context=f"flood-{kind}", Exten="s", Priority=1, Async="true"
        )
    end = time.monotonic() + 10
    while time.monotonic() < end:
        asked, since = time.monotonic(), len(ami.events)
        await ami.action("Setvar", Variable="LAB_PROBE", Value=f"{asked:.6f}")
        while not any(event.get("Variable") == "LAB_PROBE" for event in ami.events[since:]):
            if (late := time.monotonic() - asked) >= LATE_S:
                return late
            await asyncio.sleep(PROBE_S)
    raise LabError("the flood makes nothing late")


@pytest.mark.parametrize("kind", LOOPS)
async def test_what_was_said_before_the_news_of_a_flooded_asterisk_came_is_not_kept(
    cut_office: Office, kind: str
) -> None:
    office = cut_office
    async with cutting.scene(office) as third:
        joined, held = await asyncio.gather(office.talk(), office.talk())
        with ExitStack() as voices:
            await joined.expects(third)
            joined.speaks(voices)
            await joined.customer.talk(TALK_S)
            await flooded(office, kind)
            await asyncio.gather(joined.joins(), held.agent.hold())
            await held.customer.say(Tone(MARK_HZ))
            await until_recorded(office.site, joined.number, on=False)
            await until_recorded(office.site, held.number, on=False)
            await held.customer.talk(0.5)
            of_join = await free_of_third(joined, LOST_S)
        of_hold = await cut_of(held)
    assert of_join.captured_s - of_join.first(cutting.THIRD_HZ) > LATE_S / 2, "the flood was over too soon"
    heard = measure.track(await held.agent.said())
    begins = of_hold.is_free_of(MARK_HZ, heard)
    assert begins - of_hold.kept_s <= LOST_S
    assert measure.voices(of_hold.others, cutting.CUSTOMER) == {"chirp"}
