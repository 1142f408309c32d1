"""Owns: what an installation says and keeps of one call, for tests that ask for more than one story's worth.

It reads what pbxguard tells (its socket, its manifests) and never decides what is allowed.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.lab.asterisk import LabError
from tests.lab.installation import POLL_S, SEAL_DEADLINE_S, Installation
from tests.lab.site import Site


def prompt(site: Installation, disclosure: str, part: str = "notice") -> Path:
    """The sound file of a disclosure's notice or key sentence (`part` "key")."""
    (found,) = (site.home / "prompts").rglob(f"{disclosure}-{part}-*.wav")
    return found


def manifest(file: Path) -> dict[str, Any]:
    """The manifest beside a sealed file."""
    return dict(json.loads(file.with_suffix(".json").read_text()))


async def calls_of(site: Site, who: str) -> list[dict[str, Any]]:
    """What `why` says of every call of a number, newest first."""
    rows = await site.ask("/calls/why", who=who)
    return list(rows["calls"])


async def ended_call(site: Site, who: str, own_number: str) -> dict[str, Any]:
    """The one ended call of a number that shows more than once: the one that dialled (or used) `own_number`."""
    end = time.monotonic() + SEAL_DEADLINE_S
    while True:
        found = [c for c in await calls_of(site, who) if c["own_number"] == own_number and c["ended"]]
        if len(found) == 1:
            return found[0]
        if time.monotonic() > end:
            raise LabError(f"not one ended call of {who} to {own_number}: {found}")
        await asyncio.sleep(POLL_S)


async def until_recorded(
    site: Installation, who: str, on: bool = True, *, by: str = "", deadline_s: float = 15.0
) -> dict[str, Any]:
    """Waits until the live call of a number is (or is not) being recorded; gives what is said of it then.

    `by`: on this endpoint. A moment in which a busy Asterisk answered late passes, and is no answer.
    """
    end = time.monotonic() + deadline_s
    while True:
        live = [c for c in (await site.ask("/calls"))["calls"] if c["external_number"] == who]
        settled = [c for c in live if c["recorded"] is on and by in ("", c["own_endpoint"])]
        if settled and "beat_late" not in settled[0]["reasons"]:
            return dict(settled[0])
        if time.monotonic() > end:
            raise LabError(f"{who} is {'not' if on else 'still'} recorded after {deadline_s} s: {live}")
        await asyncio.sleep(POLL_S)


async def until_refused(site: Installation, who: str, reasons: set[str], *, deadline_s: float = 15.0) -> dict[str, Any]:
    """Waits until the live call of a number is not recorded for exactly these reasons; gives what is said then."""
    end = time.monotonic() + deadline_s
    while True:
        row = await until_recorded(site, who, on=False, deadline_s=deadline_s)
        if set(row["reasons"]) == reasons:
            return row
        if time.monotonic() > end:
            raise LabError(f"{who} is not recorded for {row['reasons']}, not for {sorted(reasons)}")
        await asyncio.sleep(POLL_S)


async def reasons(site: Installation, who: str) -> set[str]:
    """The whole set of reasons why the last call of a number was not recorded, once it has ended."""
    return set((await site.why(who))["reasons"])
