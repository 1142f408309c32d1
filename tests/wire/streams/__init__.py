"""Event streams of a real Asterisk, as pbxguard's own connection received them. See README.md."""

from __future__ import annotations

import json
from pathlib import Path

Event = dict[str, str]
FOLDER = Path(__file__).parent


def load(name: str) -> list[Event]:
    """The events of one stream; `received` is when, in seconds since its first event."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))
