"""Options and rules for every test: `--slow`, and no silent skip of a test on the real Asterisk."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # nothing here asserts the wall clock: a busy machine makes an example slow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long runs (marked slow)")


LONGEST_NAMED = 60


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long value names no test: its length does, where nobody named it."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > LONGEST_NAMED else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    kept = [item for item in items if item.get_closest_marker("slow") is None]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """A command run in a test sets logging up for the whole process, on a stream that is soon closed."""
    root, ours = logging.getLogger(), logging.getLogger("pbxguard")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def e2e_required() -> bool:
    """Whether a skipped e2e test is a failure: in CI, and where PBXGUARD_E2E=required."""
    return os.environ.get("PBXGUARD_E2E") == "required" or os.environ.get("CI", "").lower() in ("1", "true")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    is_e2e = item.get_closest_marker("e2e") is not None
    if report.skipped and is_e2e and e2e_required() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"an e2e test may not be skipped here: {reason}"
    return report
