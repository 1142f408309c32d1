"""The cut when the wall clock is stepped by an hour while calls are recorded: it cuts nothing short, and lets nothing
through.

The clock is pbxguard's alone; the times of the spool's files stay true, as with a file server that was not stepped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, cutting, measure
from tests.lab.cutting import CUSTOMER, Cut, Office, cut_of, free_of_third
from tests.lab.evidence import until_recorded
from tests.lab.faults import standing_still
from tests.lab.installation import Installation
from tests.lab.wall_clock import WallClock

HOUR = 3600
TALK_S = 1.5
STALL_S = 0.5
LOST_S = 0.6
"""Of what is permitted: the guard, a beat, and what goes by between the standstill and the third party's first word."""
DEADLINE_S, POLL_S = 15.0, 0.1
ALIVE = ("PBXGUARD_ALIVE_AMI", "PBXGUARD_ALIVE_ARI", "PBXGUARD_ALIVE_AGI")
"""The heartbeats: a call that comes before they are right again is told nothing."""


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    try:
        return WallClock(tmp_path_factory.mktemp("clock"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree, clock: WallClock) -> AsyncIterator[Office]:
    site = Installation(dialplan=cutting.DIALPLAN)
    site.environment |= clock.environment
    async with cutting.opened(site) as running:
        yield running


@pytest.fixture(autouse=True)
def true_again(clock: WallClock) -> Iterator[None]:
    yield
    clock.set(0)


def seconds_off(office: Office) -> float:
    """How far the wall clock that pbxguard sees is off, by its newest log line."""
    said = datetime.fromisoformat(office.site.events()[-1]["ts"])
    return (said - datetime.now(UTC)).total_seconds()


async def until_right(office: Office) -> None:
    """Until every heartbeat is of the true time again."""

    async def beats() -> list[float]:
        found = [await office.ami.action("Getvar", Variable=name) for name in ALIVE]
        return [float(one["Value"] or 0) for one in found]

    end = time.monotonic() + DEADLINE_S
    while max(abs(beat - time.time()) for beat in await beats()) > 2:
        assert time.monotonic() < end, "the heartbeats stay wrong"
        await asyncio.sleep(POLL_S)


def check_span(cut: Cut) -> None:
    """Beginning and end of what was captured are as far apart as it is long, whatever the wall clock did."""
    opened, closed = (datetime.fromisoformat(cut.segment[name]) for name in ("opened_utc", "closed_utc"))
    assert abs((closed - opened).total_seconds() - cut.captured_s) < 2


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_step_of_the_wall_clock_keeps_a_recording_whole_and_a_joiner_out(
    office: Office, clock: WallClock, step: int
) -> None:
    await until_right(office)
    async with cutting.scene(office) as third:
        joined, undisturbed = await asyncio.gather(office.talk(), office.talk())
        with ExitStack() as voices:
            await joined.expects(third)
            joined.speaks(voices)
            await joined.customer.talk(TALK_S)
            clock.set(step)
            await joined.customer.talk(TALK_S)
            assert office.site.process is not None
            with standing_still(office.site.process.pid):
                await joined.joined()
                await asyncio.sleep(STALL_S)
            await until_recorded(office.site, joined.number, on=False)
            assert abs(seconds_off(office) - step) < 60, "pbxguard does not see the clock that was stepped"
            of_join = await free_of_third(joined, LOST_S)
        whole = await cut_of(undisturbed)
    for cut in (of_join, whole):
        assert "wall_clock_stepped" in cut.segment["notes"]
        check_span(cut)
        assert cut.kept_s > 2 * TALK_S - LOST_S
    assert whole.captured_s - whole.kept_s < LOST_S
    assert measure.voices(whole.others, CUSTOMER) == {"chirp"}
