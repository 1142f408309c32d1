"""One Asterisk and one set of phones for every e2e test; their calls overlap, so use lines and numbers of your own.

Fixtures: `asterisk` (the session's), `phones` (the session's), `line_phone` to add a phone that leaves with
the test. A test that changes Asterisk's configuration or kills it starts an `Asterisk` of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import in_call, in_call_plays
from tests.lab import asterisk_tree, cutting
from tests.lab.asterisk import Asterisk
from tests.lab.installation import Installation
from tests.lab.phone import Phone, Phones

AddPhone = Callable[..., Awaitable[Phone]]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


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
