"""Owns: what is to happen in a storm: drawn from a seed call by call, or read again from a history. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.lab.storm.operations import BEGINNINGS, DURING, ENDINGS, OVER_AT_ONCE, Operation

CONTROL_SHARE = 0.07
"""Of the calls that are answered, so many have a foreign recorder that nobody stops: a control of the oracle."""
QUIET_S = (4.0, 14.0)
"""Between two faults."""
FAULTS = {"killed": 2.0, "frozen": 2.0, "slow": 3.0, "flood": 1.5, "stall": 2.0, "loss": 2.0, "asterisk": 0.7}
"""Kinds of faults, and how often each comes beside the others."""
FAULT_S = {
    "killed": (0.0, 2.5),
    "frozen": (0.6, 7.0),
    "slow": (0.2, 0.6),
    "flood": (1.0, 3.0),
    "stall": (0.1, 0.4),
    "loss": (0.5, 3.0),
    "asterisk": (0.2, 2.0),
}
"""How long each lasts."""


@dataclass(frozen=True)
class CallPlan:
    """One call: after `gap_s` it begins, each of `during` is (operation, its seconds, seconds of talk after it)."""

    gap_s: float
    begin: str
    begin_s: float
    talk_s: float = 0.0
    during: tuple[tuple[str, float, float], ...] = ()
    end: str = ""
    end_s: float = 0.0
    control: bool = False

    def title(self) -> str:
        """In a few words."""
        return " > ".join([self.begin, *(name for name, *_ in self.during), *([self.end] if self.end else [])])


@dataclass(frozen=True)
class FaultPlan:
    """A fault of a kind, so many seconds after the last one was over."""

    after_s: float
    kind: str
    seconds: float


@dataclass
class Plan:
    """The storm's whole course: for each desk its calls, and the faults."""

    desks: list[list[CallPlan]] = field(default_factory=list)
    faults: list[FaultPlan] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Plan:
        """What `data` gave."""
        desks = [
            [CallPlan(**{**call, "during": tuple(tuple(step) for step in call["during"])}) for call in calls]
            for calls in data["desks"]
        ]
        return cls(desks, [FaultPlan(**fault) for fault in data["faults"]])


def calls(seed: int, desk: int) -> Iterator[CallPlan]:
    """The calls of a desk, without end, always the same ones for a seed."""
    chance = random.Random(f"{seed}/{desk}")
    while True:
        yield _call(chance)


def faults(seed: int) -> Iterator[FaultPlan]:
    """The faults, without end, always the same ones for a seed."""
    chance = random.Random(f"{seed}/faults")
    while True:
        kind = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        yield FaultPlan(_seconds(chance, *QUIET_S), kind, _seconds(chance, *FAULT_S[kind]))


def _call(chance: random.Random) -> CallPlan:
    gap_s = _seconds(chance, 0.2, 1.5)
    begin, begin_s = _one(chance, BEGINNINGS), _seconds(chance, 1.0, 2.5)
    if begin in OVER_AT_ONCE:
        return CallPlan(gap_s, begin, begin_s)
    control = chance.random() < CONTROL_SHARE
    during = []
    for number in range(chance.choice((1, 1, 2, 2, 3, 4))):
        name = "joined" if control and number == 0 else _one(chance, DURING)
        during.append((name, _seconds(chance, 0.4, 3.0), _seconds(chance, 0.6, 4.0)))
    end, end_s = _one(chance, ENDINGS), _seconds(chance, 0.8, 2.5)
    return CallPlan(gap_s, begin, begin_s, _seconds(chance, 1.0, 4.0), tuple(during), end, end_s, control)


def _one(chance: random.Random, among: Mapping[str, tuple[Operation, float]]) -> str:
    return chance.choices(list(among), [often for _, often in among.values()])[0]


def _seconds(chance: random.Random, least: float, most: float) -> float:
    return round(chance.uniform(least, most), 2)
