"""No reason is idle: with any one of those of the seven conditions never given, the suite of `test_supervisor` fails.

First the ready-made situations are tried, then the state machine; whichever finds it, it is the same oracle that does,
and not what a situation itself expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pbxguard.core import permit
from pbxguard.core.memory import Notes
from pbxguard.core.reasons import WORDS, Reason
from pbxguard.core.supervisor import Supervisor

from . import trial
from .incidents import CAUSES, SITUATIONS
from .test_supervisor import Exchange
from .trial import Trial

ROWS = [(name, reason) for name in ("CONVERSATION", "PURPOSE") for reason in getattr(permit, name)]
BOUNDED = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def suite() -> None:
    """The same judging as in `test_supervisor`, in a fixed and bounded form."""
    for situation in SITUATIONS:
        one = Trial()
        situation(one)
        one.finish()
    run_state_machine_as_test(Exchange, settings=BOUNDED)


def without(rows: Mapping[Reason, Callable[..., bool]], reason: Reason) -> Mapping[Reason, Callable[..., bool]]:
    """The table, with this one row never refusing."""

    def never(*_: Any) -> bool:
        return False

    return MappingProxyType({**rows, reason: never})


def the_oracle_fails_the_suite() -> None:
    """Whatever else is raised, or by anybody else, is a fault of ours."""
    with pytest.raises(AssertionError) as failed:
        suite()
    assert failed.traceback[-1].path == Path(trial.__file__), "found by the oracle, on trial"


@pytest.mark.parametrize(("table", "reason"), ROWS, ids=lambda v: v.value if isinstance(v, Reason) else str(v).lower())
def test_without_this_row_the_suite_fails(table: str, reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permit, table, without(getattr(permit, table), reason))
    the_oracle_fails_the_suite()


def test_without_a_look_whether_the_picture_is_right_the_suite_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "_wrong", lambda *_: (frozenset(), set(), False))
    the_oracle_fails_the_suite()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.value)
def test_without_this_cause_of_being_untold_the_suite_fails(cause: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Notes.miss

    def miss(notes: Notes, reason: Reason) -> None:
        if reason is not cause:
            known(notes, reason)

    monkeypatch.setattr(Notes, "miss", miss)
    the_oracle_fails_the_suite()


def test_every_reason_of_the_seven_conditions_is_among_them() -> None:
    seven = {reason for reason, words in WORDS.items() if 1 <= words.condition <= 7}
    rows = {reason for _, reason in ROWS}
    assert seven == (rows - {Reason.SWITCHED_OFF, Reason.OBSERVE_MODE}) | {Reason.PICTURE_WRONG} | set(CAUSES)


def test_with_every_row_the_suite_passes() -> None:
    suite()
