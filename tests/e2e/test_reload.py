"""SIGHUP: lists, purposes and modes anew, without touching what runs; a broken file changes nothing."""

from __future__ import annotations

import signal

from tests.lab import asterisk_tree, stories
from tests.lab.installation import Installation
from tests.lab.phone import Phones
from tests.lab.signals import Tone
from tests.lab.stories import CUSTOMER


async def test_a_reload_takes_a_new_list_and_refuses_a_broken_file(tree: asterisk_tree.Tree) -> None:
    listed, free = "+31612345195", "+31612345196"
    async with Installation() as site, Phones() as phones:
        a = site.asterisk
        carrier = await phones.add(a.line("trunk-a"), sends=CUSTOMER)
        agent = await phones.add(a.line("100"), sends=Tone(stories.AGENT_HZ))
        assert site.process is not None

        async def reload(text: str, event: str) -> None:
            before = len(site.events(event))
            site.config.write_text(text)
            assert site.process is not None
            site.process.send_signal(signal.SIGHUP)
            await phones.until(lambda: len(site.events(event)) > before, event)

        good = site.config.read_text()
        customer = await carrier.call("31201234100", caller_id=free)
        answered = await agent.incoming(number=free, deadline_s=30)
        await answered.answered()
        await customer.talk(1.5)
        listing = good.replace('node = "lab"', 'node = "elsewhere"')
        await reload(listing + f'\n[never_record]\nnumbers = ["{listed}"]\n', "settings.loaded")
        await customer.talk(1.5)
        await customer.hangup()
        assert (await site.sealed(free)).exists()
        assert len([row for row in site.events("segment.closed")]) == 1, "the reload cut a live recording"
        assert site.events("settings.loaded")[-1]["needs_restart"] == ["node"]

        await reload("mode = 3", "settings.refused")
        refused = site.events("settings.refused")[-1]
        assert "mode" in refused["keys"]
        told = [row["line"] for row in site.process.happened("told") if not row["line"].startswith("STATUS")]
        told = [line for line in told if not line.startswith("MONOTONIC_USEC=")]
        assert told == ["READY=1", *["RELOADING=1", "READY=1"] * 2], "systemd would wait for the end of a reload"

        customer = await carrier.call("31201234100", caller_id=listed)
        answered = await agent.incoming(number=listed, deadline_s=30)
        await answered.answered()
        await customer.talk(1.0)
        await customer.hangup()
        why = await site.why(listed)
        assert set(why["reasons"]) == {"never_record", "not_told"}
        assert site.files(listed) == []
