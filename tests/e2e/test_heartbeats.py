"""What the dialplan takes for a living pbxguard: each door has a heartbeat, and what is no fresh one counts as away.

Both doors are there and answer nothing, so that it shows at them who was let in: an application that is registered
in ARI, and a FastAGI server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
import pytest
import pytest_asyncio

from tests.lab import asterisk_tree
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import REPO, Asterisk

DIALPLAN = f"""\
#include {REPO}/dialplan/pbxguard.conf
[lab]
exten => ARI,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,UserEvent(LabDoor,Result: ${{PBXGUARD_RESULT}},Reason: ${{PBXGUARD_REASON}})
 same => n,Hangup()
exten => AGI,1,Gosub(pbxguard-outbound,s,1(contract_evidence,0612345678))
 same => n,UserEvent(LabDoor,Result: ${{PBXGUARD_RESULT}},Reason: ${{PBXGUARD_REASON}})
 same => n,Hangup()
"""
DOORS = ("ARI", "AGI")
AWAY: dict[str, Callable[[int], str]] = {
    "unset": lambda now: "",
    "3 s old": lambda now: str(now - 4),
    "of 1970": lambda now: "0",
    "ahead by 4 s": lambda now: str(now + 4),
    "ahead by an hour": lambda now: str(now + 3600),
    "ahead by 30 years": lambda now: str(now + 10**9),
    "negative": lambda now: str(-now),
    "text": lambda now: "alive",
    "text behind it": lambda now: f"{now}x",
    "text before it": lambda now: f"x{now}",
    "a fraction": lambda now: f"{now}.5",
    "an exponent": lambda now: "1e99",
    "infinite": lambda now: "inf",
    "forty digits": lambda now: "9" * 40,
    "nine hundred digits": lambda now: "9" * 900,
    "an expression": lambda now: "$[${EPOCH}]",
    "a variable": lambda now: "${EPOCH}",
    "quoted": lambda now: f'"{now}"',
    "one quote": lambda now: '"',
    "an operator": lambda now: f"{now} | 1",
    "parentheses": lambda now: f"{now}) | (1",
    "a closing parenthesis and a colon": lambda now: f"{now}):0",
    "brackets": lambda now: f"{now}] | [1",
    "a question": lambda now: f"{now}?s,done:s,1",
    "a comma": lambda now: f"{now},{now}",
    "other digits": lambda now: "".join(chr(0x0660 + int(digit)) for digit in str(now)),
}


@dataclass
class Entrance:
    """An Asterisk with both doors; `entered` says who was let in, by door."""

    asterisk: Asterisk
    lab: Ami
    entered: list[str] = field(default_factory=list)

    async def says(self, door: str, value: str) -> None:
        await self.lab.action("Setvar", Variable=f"PBXGUARD_ALIVE_{door}", Value=value)

    async def call(self, door: str) -> tuple[tuple[str, str], int]:
        """What the dialplan says after a call to the door, and how many were let in at either."""
        since, before = len(self.lab.events), len(self.entered)
        await self.lab.action(
            "Originate", Channel=f"Local/{door}@lab/n", Application="Wait", Data="9", Async="true", Timeout=9000
        )
        event = await self.lab.event("UserEvent", lambda e: e["UserEvent"] == "LabDoor", since=since)
        return (event["Result"], event["Reason"]), len(self.entered) - before


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def entrance(tree: asterisk_tree.Tree) -> AsyncIterator[Entrance]:
    async with AsyncExitStack() as stack:
        asterisk = await stack.enter_async_context(Asterisk(dialplan=DIALPLAN))
        here = Entrance(asterisk, await stack.enter_async_context(connect(asterisk)))
        headers = {"Authorization": aiohttp.encode_basic_auth(asterisk.ari_user, asterisk.ari_password)}
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
        events = await stack.enter_async_context(http.ws_connect(f"{asterisk.ari_url}/events?app=pbxguard"))

        async def watch() -> None:
            async for message in events:
                if json.loads(message.data)["type"] == "StasisStart":
                    here.entered.append("ARI")

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            here.entered.append("AGI")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(never_answer, "127.0.0.1", asterisk.agi_port)
        watching = asyncio.create_task(watch())
        stack.callback(server.close)
        stack.callback(watching.cancel)
        await here.lab.action("Setvar", Variable="PBXGUARD_AGI", Value=f"127.0.0.1:{asterisk.agi_port}")
        yield here


@pytest.mark.parametrize("door", DOORS)
async def test_a_heartbeat_that_is_unset_old_or_absurd_counts_as_away(door: str, entrance: Entrance) -> None:
    other = next(name for name in DOORS if name != door)
    outcomes: dict[str, tuple[tuple[str, str], int]] = {}
    for name, value in AWAY.items():
        now = int(time.time())
        await entrance.says(door, value(now))
        await entrance.says(other, str(now))
        outcomes[name] = await entrance.call(door)
    assert outcomes == dict.fromkeys(AWAY, (("FAILED", "guard_away"), 0))


@pytest.mark.parametrize("door", DOORS)
async def test_a_fresh_heartbeat_opens_its_own_door_and_no_other(door: str, entrance: Entrance) -> None:
    other = next(name for name in DOORS if name != door)
    await entrance.says(other, "")
    for age in (0, 2, -2):  # 2 s ahead: the clock was set back a little, and pbxguard will soon say so
        await entrance.says(door, str(int(time.time()) - age))
        assert await entrance.call(other) == (("FAILED", "guard_away"), 0)
        began = time.time()
        outcome = await entrance.call(door)
        if age == 2 and int(began) != int(time.time() - 1.8):
            continue  # it grew too old on its way
        assert outcome == (("FAILED", "guard_away"), 1)


async def test_nothing_of_it_makes_the_dialplan_complain(entrance: Entrance) -> None:
    complaints = [line for line in entrance.asterisk.log().splitlines() if "WARNING" in line or "ERROR" in line]
    assert [line for line in complaints if any(w in line for w in ("func_", "pbx", "ast_expr", "stack"))] == []
