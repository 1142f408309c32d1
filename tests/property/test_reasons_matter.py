"""No row of the permit is idle: with any one of them never refusing, the suite of `test_supervisor` fails.

First the ready-made situations are tried, then the state machine; whichever finds it, it is the same oracle that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pbxguard.core import permit
from pbxguard.core.reasons import Reason

from .scenarios import SCENARIOS
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
    for situation in SCENARIOS:
        trial = Trial()
        situation(trial)
        trial.finish()
    run_state_machine_as_test(Exchange, settings=BOUNDED)


def without(rows: Mapping[Reason, Callable[..., bool]], reason: Reason) -> Mapping[Reason, Callable[..., bool]]:
    """The table, with this one row never refusing."""

    def never(*_: Any) -> bool:
        return False

    return MappingProxyType({**rows, reason: never})


@pytest.mark.parametrize(("table", "reason"), ROWS, ids=lambda v: v.value if isinstance(v, Reason) else str(v).lower())
def test_without_this_row_the_suite_fails(table: str, reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permit, table, without(getattr(permit, table), reason))
    with pytest.raises(AssertionError):  # the oracle's: whatever else is raised is a fault of ours
        suite()


def test_with_every_row_the_suite_passes() -> None:
    suite()
