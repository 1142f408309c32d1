"""Keys at any rate and by every way, on the real Asterisk: a 9 objects, a 1 consents, and a flood is neither.

Callers of raw RTP and SIP, since no phone would send such keys. What each key did is told by the recording and by what
pbxguard says of the call; the lab's own AMI connection tells which keys Asterisk saw.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.ami import connect
from tests.lab.asterisk import Line
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Phone, Phones
from tests.lab.raw_phone import RawPhone
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
AGENTS = [str(number) for number in range(100, 106)]
TALK_S = 2.0
TRAINING, EVIDENCE = "31201235", "31201234"
PIN = ("4711085233", "6024857036")
"""Pressed in a call, and written down by nobody. No 9 in it, and each half too long to be the end of some timestamp."""
MODES = {"trunk-rfc": "rfc4733", "trunk-inband": "inband", "trunk-info": "info"}

Keys = Callable[[RawPhone], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """By which carrier, what is pressed 1.5 s after the answer, and what that means."""

    trunk: str
    presses: Keys
    means: str = "objected"
    number: str = "+31612347{n:03d}"
    plan: str = TRAINING


def rfc4733(keys: str, **how: Any) -> Keys:
    return lambda caller: caller.press(keys, **how)


def inband(keys: str, **how: float) -> Keys:
    async def press(caller: RawPhone) -> None:
        await asyncio.sleep(caller.press_inband(keys, **how))

    return press


def info(keys: str, **how: Any) -> Keys:
    async def press(caller: RawPhone) -> None:
        caller.press_info(keys, **how)

    return press


def flood(*events: tuple[str, int, int, bool]) -> Keys:
    async def press(caller: RawPhone) -> None:
        caller.flood(events)

    return press


GERMAN = "+4915112347{n:03d}"
CASES: dict[str, Case] = {
    "a short 9": Case("trunk-rfc", rfc4733("9", on_s=0.04)),
    "a long 9": Case("trunk-rfc", rfc4733("9", on_s=1.2)),
    "a 9 by a wrong clock": Case("trunk-rfc", rfc4733("9", clock=48000)),
    "a 9 in a flood of others": Case("trunk-rfc", rfc4733("5" * 10 + "9" + "5" * 5, on_s=0.04, off_s=0.02)),
    "one 9 said 200 times": Case("trunk-rfc", flood(*[("9", 0, 800, True)] * 200)),
    "a flood of other keys": Case(
        "trunk-rfc", flood(*[("5", 160 * n, 160, n % 2 == 0) for n in range(400)]), means="recorded"
    ),
    "a 9 by inband": Case("trunk-inband", inband("9", on_s=0.15)),
    "other keys by inband": Case("trunk-inband", inband("1234567", on_s=0.08, off_s=0.06), means="recorded"),
    "a 9 by INFO": Case("trunk-info", info("9")),
    "a 9 by INFO of no sense before it": Case(
        "trunk-info",
        lambda caller: _all(
            info("5", body="Signal=\x00{key}{key}{key}\r\nDuration=-99999999999\r\n")(caller),
            info("5", body="{key}" * 3000)(caller),
            info("9")(caller),
        ),
    ),
    "a flood of other keys by INFO": Case("trunk-info", info("12345678" * 3), means="held up"),
    "a 1 by RFC 4733": Case("trunk-rfc", rfc4733("1"), "recorded", GERMAN, EVIDENCE),
    "a 1 by inband": Case("trunk-inband", inband("1", on_s=0.15), "recorded", GERMAN, EVIDENCE),
    "a 1 by INFO": Case("trunk-info", info("1"), "recorded", GERMAN, EVIDENCE),
    "no 1 in a flood": Case("trunk-rfc", rfc4733("2345678" * 4, on_s=0.04), "unconsented", GERMAN, EVIDENCE),
}


async def _all(*works: Awaitable[None]) -> None:
    for work in works:
        await work


@dataclass
class Evening:
    site: Installation
    whys: dict[str, dict[str, Any]]
    recorded: dict[str, bool]
    seen: dict[str, str]
    """By case: the keys that Asterisk told of."""


async def _call(site: Installation, agent: Phone, name: str, index: int, folder: Any) -> None:
    case = CASES[name]
    async with RawPhone(site.asterisk.line(case.trunk), folder, says=CUSTOMER) as caller:
        number = case.number.format(n=index)
        before = len([call for call in agent.calls if not call.outgoing])
        await caller.call(f"{case.plan}{agent.line.name}", sender=f"<sip:{number}@lab.invalid>".encode())
        await caller.talk(1.5)
        await case.presses(caller)
        leg = await agent.incoming(after=before, deadline_s=40)
        await leg.answered()
        await caller.press(PIN[0])
        await caller.talk(TALK_S)
        await caller.press(PIN[1])
        await caller.hang_up()
        await leg.ended()
        assert measure.first_heard(caller.heard(), AGENT_HZ) > 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def evening(tree: asterisk_tree.Tree, phones: Phones, tmp_path_factory: Any) -> AsyncIterator[Evening]:
    carriers = [Line(name, "from-trunk", host=f"127.0.0.{7 + n}") for n, name in enumerate(MODES)]
    site = Installation(extra_lines=carriers)
    lab = site.asterisk
    more = "".join(f"[{name}](+type=endpoint)\ndtmf_mode={mode}\n" for name, mode in MODES.items())
    lab.files = {"pjsip.conf": lab._pjsip_conf("alaw,ulaw") + more}
    folder = tmp_path_factory.mktemp("raw")
    async with site, connect(lab) as ami:
        free: asyncio.Queue[Phone] = asyncio.Queue()
        added = [
            await phones.add(lab.line(agent), sends=Tone(AGENT_HZ), on_incoming=Answer(0.1), name=f"keys-{agent}")
            for agent in AGENTS
        ]
        for phone in added:
            free.put_nowait(phone)

        async def one(index: int, name: str) -> None:
            phone = await free.get()
            try:
                await _call(site, phone, name, index, folder)
            finally:
                free.put_nowait(phone)

        try:
            await asyncio.gather(*(one(index, name) for index, name in enumerate(CASES)))
            whys, recorded, seen = {}, {}, {}
            for index, name in enumerate(CASES):
                number = CASES[name].number.format(n=index)
                whys[name] = await site.why(number)
                recorded[name] = whys[name]["ever_recorded"]
                if recorded[name]:
                    await site.sealed(number)
                seen[name] = "".join(
                    event["Digit"]
                    for event in ami.events
                    if event["Event"] == "DTMFEnd"
                    and event.get("Direction") == "Received"
                    and event.get("Uniqueid") == whys[name]["call"]
                )
            yield Evening(site, whys, recorded, seen)
        finally:
            for phone in added:
                await phones.remove(phone)


@pytest.mark.parametrize("name", CASES)
async def test_a_key_means_what_it_means_however_it_comes(evening: Evening, name: str) -> None:
    case, why = CASES[name], evening.whys[name]
    assert evening.recorded[name] is (case.means == "recorded"), (why["reasons"], evening.seen[name])
    if case.means == "objected":
        assert set(why["reasons"]) == {"objected", "not_told", "prompt_cut"}
        assert "9" in evening.seen[name], "Asterisk saw the 9"
    elif case.means == "held up":
        # Asterisk plays on only when it has acted each key of an INFO out: his notice ends too late to count as heard.
        assert set(why["reasons"]) == {"not_told", "prompt_timed_out"}
    elif case.means == "unconsented":
        assert why["reasons"] == ["consent_missing"]
    else:
        assert why["told"]
        assert "9" not in evening.seen[name]
    if case.number == GERMAN:
        assert ("1" in evening.seen[name][:2]) is (case.means == "recorded")


async def test_no_key_is_written_down(evening: Evening) -> None:
    seen = "".join(evening.seen.values())
    assert sum(PIN[0] in keys for keys in evening.seen.values()) > 3, "the keys of the talk were seen"
    assert len(seen) > 100
    rows = evening.site.events()
    assert rows
    for row in rows:
        assert not {key for key in row if "digit" in key or "dtmf" in key or key == "key"}, row
    database = sqlite3.connect(f"file:{evening.site.home}/pbxguard.db?mode=ro", uri=True)
    try:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        texts = [str(row) for name in names for row in database.execute(f"select * from {name}")]
    finally:
        database.close()
    manifests = [file.read_text() for file in evening.site.archive.rglob("*.json")]
    assert manifests
    for text in (evening.site.log(), *texts, *manifests):
        assert not [half for half in PIN if half in text]
