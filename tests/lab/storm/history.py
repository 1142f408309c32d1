"""Owns: the history of a storm: who was connected to whom, as the phones and their SIP say it; plain data, as JSON.

Moments are `time.monotonic` seconds. A change of state is known by two moments: when it was asked for, and when the
phone that asked had it confirmed. In between nobody beside the PBX can tell which state holds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Edge: TypeAlias = tuple[float, float]
"""(asked for, confirmed)"""
OPEN: Edge = (float("inf"), float("inf"))
"""The edge that has not come yet."""

CUSTOMER, OWN, STRANGER = "customer", "own", "stranger"
"""Roles: who may be recorded once told; who is ours; who may never be heard in a file, nor hear what is in it."""
HOLDS = (
    "hold",
    "hold by the customer",
    "hold, to consult a stranger",
    "hold, to consult a colleague",
    "hold, to transfer to a stranger",
    "hold, to call a busy colleague",
    "a three-way inside our phone",
    "a consultation by key",
)
"""Kinds of closures in which somebody is on hold."""


@dataclass
class Leg:
    """What one phone said and heard in one call. `began`: of both files. `voice`: a name of `voices.VOICES`. `clock`:
    how far both files were at some moments, since a phone that gets no time for long loses some of its sound."""

    name: str
    role: str
    voice: str
    began: float
    answered: float | None
    ended: float | None
    heard: str = ""
    said: str = ""
    clock: str = ""


@dataclass
class State:
    """Something that held for a while: that two were connected, that one was on hold, that a spy listened."""

    kind: str
    begin: Edge
    end: Edge = OPEN

    def surely(self) -> tuple[float, float]:
        """While it held beyond doubt; empty when its end is not after its begin."""
        return self.begin[1], self.end[0]

    def perhaps(self) -> tuple[float, float]:
        """The longest that it may have held."""
        return self.begin[0], self.end[1]


@dataclass
class Foreign:
    """A control: what a recorder that nobody stops captured, raw; some of it is forbidden."""

    own: str
    others: str
    began: float


@dataclass
class Play:
    """One customer's call from its begin to its end. `talks`: when one of ours was connected with the customer;
    `closures`: when it was forbidden all the same, and why."""

    number: str
    title: str
    told_by: str = ""
    """The file of the notice that its customer must have heard in full."""
    never: bool = False
    """Nothing of this call may be recorded, whatever was heard."""
    legs: list[Leg] = field(default_factory=list)
    talks: list[State] = field(default_factory=list)
    closures: list[State] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=list)
    """What was done, in words, and when."""
    files: list[str] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    trouble: str = ""
    """Why it was not played to its end, if it was not."""

    def customer(self) -> Leg | None:
        """The leg of its customer, if it had sound at all."""
        return next((leg for leg in self.legs if leg.role == CUSTOMER and leg.said), None)


@dataclass
class Fault:
    """A fault that was put in, from its begin until all is well again. `kind` as in `faults.KINDS`; `of`: the number of
    the call that it concerns, empty when all."""

    kind: str
    began: float
    ended: float
    of: str = ""


@dataclass
class History:
    """A whole storm. `utc_offset`: wall clock less monotonic clock, seconds."""

    seed: int
    plan: dict[str, Any]
    utc_offset: float = 0.0
    rate: int = 8000
    plays: list[Play] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unclaimed: list[str] = field(default_factory=list)
    """Sealed files of no call that was placed."""
    left: list[str] = field(default_factory=list)
    """What was left behind: channels, recorders, spool files."""

    def write(self, path: Path) -> None:
        """As JSON; an edge that never came is null."""
        path.write_text(json.dumps(_finite(asdict(self)), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> History:
        """What `write` wrote."""
        data = json.loads(path.read_text())
        data["plays"] = [_play(one) for one in data["plays"]]
        data["faults"] = [Fault(**{**one, "ended": _moment(one["ended"])}) for one in data["faults"]]
        return cls(**data)


def _play(data: dict[str, Any]) -> Play:
    data["legs"] = [Leg(**one) for one in data["legs"]]
    data["foreign"] = [Foreign(**one) for one in data["foreign"]]
    data["steps"] = [(at, what) for at, what in data["steps"]]
    for kind in ("talks", "closures"):
        data[kind] = [State(one["kind"], _edge(one["begin"]), _edge(one["end"])) for one in data[kind]]
    return Play(**data)


def _edge(pair: list[float | None]) -> Edge:
    return _moment(pair[0]), _moment(pair[1])


def _moment(value: float | None) -> float:
    return float("inf") if value is None else value


def _finite(value: Any) -> Any:
    """JSON knows no infinity."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if value == float("inf"):
            return None
    return value
