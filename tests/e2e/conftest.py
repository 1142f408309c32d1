"""One Asterisk and one set of phones for every e2e test; their calls overlap, so use lines and numbers of your own.

Fixtures: `asterisk` (the session's), `phones` (the session's), `add_phone` to add a phone that leaves with
the test. A test that changes Asterisk's configuration or kills it starts an `Asterisk` of its own.

script/test runs files side by side (`-n`, `--dist loadgroup`), each worker with a session, a network and an Asterisk of
its own. Files that share what is costly to make are one group (`SHARED`); a file that loads the machine, or measures
what load spoils, is marked `alone` and runs with nothing beside it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import in_call, in_call_plays
from tests.lab import asterisk_tree, cutting, network
from tests.lab.asterisk import Asterisk
from tests.lab.installation import Installation
from tests.lab.phone import Phone, Phones

AddPhone = Callable[..., Awaitable[Phone]]
HERE = Path(__file__).parent
SHARED = {"cut_office", "asked_in_call"}
"""Session fixtures that play for minutes: whatever uses one runs on one worker."""


@pytest.hookimpl(tryfirst=True)  # before the hook of xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            shared = SHARED & set(getattr(item, "fixturenames", ()))
            item.add_marker(pytest.mark.xdist_group(min(shared, default=item.path.stem)))
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups that are lost cost every file's calls twice, and nothing else would say so."""
    lost = [item.nodeid for item in session.items if item.get_closest_marker("e2e") and "@" not in item.nodeid]
    if session.config.getoption("loadgroup", default=False) and lost:
        raise pytest.UsageError(f"pytest-xdist does not keep files on one worker: {lost[0]} has no group")


@pytest.fixture(scope="session", autouse=True)
def own_network() -> None:
    """Workers beside each other meet neither each other's Asterisk nor each other's ports."""
    if "PYTEST_XDIST_WORKER" in os.environ and not network.enter_own():
        pytest.fail("workers side by side need networks of their own (root and iproute2): run without -n")


@pytest.fixture(scope="session")
def tree() -> asterisk_tree.Tree:
    """Where Asterisk is. Tests are skipped, or fail in CI, where there is none."""
    try:
        return asterisk_tree.find()
    except asterisk_tree.NoAsterisk as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asterisk(tree: asterisk_tree.Tree) -> AsyncIterator[Asterisk]:
    async with Asterisk() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def phones() -> AsyncIterator[Phones]:
    async with Phones() as all_phones:
        yield all_phones


@pytest_asyncio.fixture(loop_scope="session")
async def add_phone(phones: Phones) -> AsyncIterator[AddPhone]:
    """`await add_phone(asterisk.line("100"), sends=Tone(1900))`: hung up and gone when the test ends."""
    added: list[Phone] = []

    async def add(*args: object, **options: object) -> Phone:
        phone = await phones.add(*args, **options)  # type: ignore[arg-type]
        added.append(phone)
        return phone

    yield add
    for phone in reversed(added):
        await phones.remove(phone)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cut_office(tree: asterisk_tree.Tree) -> AsyncIterator[cutting.Office]:
    """The installation, with its spool watched, of all tests of the cut (test_cut_*.py)."""
    async with cutting.opened(Installation(dialplan=cutting.DIALPLAN)) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asked_in_call(tree: asterisk_tree.Tree) -> AsyncIterator[tuple[Any, Any]]:
    """The calls of `in_call_plays`, played once: (the office, each call by its play's name)."""
    async for played in in_call.played(in_call_plays.WAVES, in_call_plays.EXTENSIONS):
        yield played
