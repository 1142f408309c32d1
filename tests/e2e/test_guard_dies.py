"""A guard that is killed in the middle of a recorded call: its recorder is stopped by the small program beside it."""

from __future__ import annotations

import json
import signal

from tests.lab import asterisk_tree, measure, stories
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.signals import VOICES, Tone
from tests.lab.stories import CUSTOMER

AFTER_HZ = VOICES[1]
"""What the agent says once the recorder was stopped: none of it may be kept."""


async def test_a_recorder_of_a_dead_guard_is_stopped_and_its_segment_sealed_up_to_the_watermark(
    tree: asterisk_tree.Tree,
) -> None:
    number = "+31612345190"
    async with Installation() as site, Phones() as phones:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
        agent = await phones.add(a.line("100"), sends=Tone(stories.AGENT_HZ))
        customer = await carrier.call("31201234100", caller_id=number)
        answered = await agent.incoming(number=number, deadline_s=30)
        await answered.answered()
        await customer.talk(3.0)
        await site.stop(signal.SIGKILL)
        ran = await site.run("stop-recorders", "--json")
        assert ran.json() == {"stopped": 1}
        assert (await site.run("stop-recorders", "--json")).json() == {"stopped": 0}
        sizes = {path: path.stat().st_size for path in site.leftovers() if ".sln" in path.name}
        assert len(sizes) == 2
        await answered.say(Tone(AFTER_HZ))
        await customer.talk(2.0)
        assert sizes == {path: path.stat().st_size for path in sizes}, "a recorder still writes"
        await customer.hangup()
        await site.start()
        file = await site.sealed(number)
        heard, said = await measure.pair(customer)
        kept = measure.recorded(file, said, CUSTOMER)
        after = measure.first_heard(heard, AFTER_HZ)
        assert kept.last_s < after
        assert measure.voices(kept.own, CUSTOMER) == {f"{stories.AGENT_HZ:g}"}
        assert kept.seconds > 1.5
        (segment,) = json.loads(file.with_suffix(".json").read_text())["segments"]
        assert segment["ended_by"] == ["guard_away"]
        assert [p for p in site.leftovers() if ".sln" in p.name] == []
