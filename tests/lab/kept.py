"""Owns: the record of played stories, by which another process measures them while their phones' files are there.

Moments are `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.asterisk import Line
from tests.lab.phone import Phone, PhoneCall, Phones, Ring
from tests.lab.signals import Silence
from tests.lab.stories import Story

RECORD = "played.json"
FACTS = ("status", "reason", "answered_at", "ended_at", "began", "paths")


def keep(folder: Path, played: Mapping[str, Story]) -> None:
    """Write down stories that are over, by their names; the record is there whole or not at all."""
    record = {
        name: {
            "title": story.title,
            "number": story.number,
            "moments": story.moments,
            "calls": {
                who: {
                    "outgoing": call.outgoing,
                    "number": call.number,
                    "is": {fact: getattr(call, fact) for fact in FACTS},
                }
                for who, call in story.calls.items()
            },
        }
        for name, story in played.items()
    }
    half = folder / f"{RECORD}.half"
    half.write_text(json.dumps(record, indent=1))
    half.rename(folder / RECORD)


def recall(folder: Path) -> dict[str, Story]:
    """The stories that somebody wrote down; their calls give what was heard and said, and can do nothing more."""
    told = json.loads((folder / RECORD).read_text())
    stories = {}
    for name, one in told.items():
        story = stories[name] = Story(one["title"], one["number"], moments=one["moments"])
        for who, call in one["calls"].items():
            story.calls[who] = over(folder, call["number"], outgoing=call["outgoing"], **call["is"])
    return stories


def over(folder: Path, number: str, *, outgoing: bool = False, **facts: Any) -> PhoneCall:
    """A call of the past, of whose phone there is nothing but its files."""
    phone = Phone(Phones(folder=folder), Line("gone", ""), 0, Silence(), Ring(), "gone")
    call = PhoneCall(phone, "over", outgoing=outgoing, number=number)
    call.update(facts)
    return call
