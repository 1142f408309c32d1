"""A permit that is old before it is acted on: the service stands still between its decision and the recorder's start.

It stops itself (SIGSTOP) at a named place right after it decided that a call may be recorded; meanwhile somebody who
was told nothing takes the customer's place, or nobody does; then it goes on. The spool is watched: whatever a recorder
captured is seen as it was before any cut.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, checker, cutting, measure
from tests.lab.asterisk import LabError
from tests.lab.cutting import AGENT_HZ, CUSTOMER, MARK_HZ, SPAN_S, THIRD_HZ, TRIES, Office, Talk
from tests.lab.evidence import until_recorded
from tests.lab.faults import until_it_stands
from tests.lab.installation import UNWATCHED_S, Installation
from tests.lab.signals import Tone

STAND_AT = "PBXGUARD_STAND_AT"
DECIDED_S = 5.0
"""By then a call that was told in time is decided on."""
TALK_S = 1.5
STALL_S = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with cutting.opened(Installation(dialplan=cutting.DIALPLAN, watchdog_s=UNWATCHED_S)) as found:
        yield found


async def standing(office: Office, at: str) -> Talk:
    """A customer who was told and an agent who answers: the service stands still there, and the two talk."""
    site = office.site
    for tries in range(1, TRIES + 1):
        await site.stop()
        site.environment = {STAND_AT: at}
        await site.start()
        assert site.process is not None
        talk = await office.ringing()
        answering = asyncio.create_task(talk.agent.answer())
        try:
            await until_it_stands(site.process.pid, DECIDED_S)
            await answering
            return talk
        except LabError:  # told too late, on a machine that was too busy
            await asyncio.gather(answering, return_exceptions=True)
            await office.part(talk)
            if tries == TRIES:
                raise
    raise AssertionError("unreachable")


def thaw(office: Office) -> int:
    """The service goes on; gives the number of the first event of after it."""
    assert office.site.process is not None
    os.kill(office.site.process.pid, signal.SIGCONT)
    return len(office.ami.events)


def recorders(office: Office, since: int) -> int:
    """How many Asterisk has started since."""
    return len([event for event in office.ami.events[since:] if event["Event"] == "MixMonitorStart"])


async def never_sealed(office: Office, talk: Talk) -> None:
    """The call's end, and nothing is there of it."""
    await office.part(talk)
    await office.site.why(talk.number)
    assert office.site.files(talk.number) == []
    await office.phones.until(lambda: not [p for p in office.site.leftovers() if ".sln" in p.name], "an empty spool")
    assert office.site.files(talk.number) == []


@pytest.mark.parametrize(
    ("at", "stands_s"), [("permit.decided", 1.0), ("permit.committed", STALL_S), ("permit.committed", 2.5)]
)
async def test_a_permit_that_was_overtaken_while_the_service_stood_still_starts_no_recorder(
    office: Office, at: str, stands_s: float
) -> None:
    async with cutting.scene(office) as third:
        talk = await standing(office, at)
        with ExitStack() as voices:
            await talk.replaced(third, voices)
            await asyncio.sleep(stands_s)
            since = thaw(office)
            await until_recorded(office.site, talk.third_number, on=False)
            await talk.agent.talk(1.0)
        assert recorders(office, since) == 0
        await never_sealed(office, talk)
        heard = measure.track(await talk.agent.heard())
        assert f"{THIRD_HZ:g}" in checker.voices(heard, [THIRD_HZ]), "the control: he was there, and spoke"


async def test_a_permit_that_still_holds_after_a_freeze_is_acted_on(office: Office) -> None:
    """The control: the same, and nobody comes. Nothing of the freeze is in the file."""
    talk = await standing(office, "permit.committed")
    await talk.agent.say(Tone(MARK_HZ))
    await talk.agent.talk(STALL_S)
    await talk.agent.say(Tone(AGENT_HZ))
    await talk.agent.talk(0.4)
    since = thaw(office)
    await until_recorded(office.site, talk.number)
    await talk.agent.talk(TALK_S)
    assert recorders(office, since) == 1
    cut = await cutting.cut_of(talk)
    assert f"{MARK_HZ:g}" in measure.voices(measure.track(await talk.agent.said()), CUSTOMER)
    assert measure.voices(cut.uncut_own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert cut.own.seconds > TALK_S - 0.6


@pytest.mark.parametrize("at", ["recorder.starting", "recorder.started"])
async def test_what_a_recorder_captured_that_was_started_too_late_to_be_called_back_is_not_kept(
    office: Office, at: str
) -> None:
    """Between its last look and the action, and from there on, nothing but the cut can help; and it does."""
    async with cutting.scene(office) as third:
        before = set(office.watch.segments)
        talk = await standing(office, at)
        with ExitStack() as voices:
            await talk.replaced(third, voices)
            await talk.agent.talk(STALL_S)
            thaw(office)
            await until_recorded(office.site, talk.third_number, on=False)
        (segment,) = set(office.watch.segments) - before
        _, uncut = office.watch.uncut(segment)
        there = [span for span in checker.spans(uncut, THIRD_HZ) if span.seconds > SPAN_S]
        print(f"{at}: captured {uncut.seconds:.3f} s, of him {sum(span.seconds for span in there):.3f} s")
        assert at == "recorder.starting" or there, "the control: he is in the spool before it is cut"
        await never_sealed(office, talk)
