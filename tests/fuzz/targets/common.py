"""What all targets share: their register, promises, and how bytes become text, JSON or a file."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
"""By name, which is also the name of its folder of seeds."""


class Broken(AssertionError):
    """A promise of ours did not hold; the message says which."""


def require(true: object, promise: str) -> None:
    """Raise Broken when it is not true."""
    if not true:
        raise Broken(promise)


def target(function: Target) -> Target:
    """Enters a function into the register under its own name."""
    TARGETS[function.__name__] = function
    return function


_FOLDER = Path(tempfile.mkdtemp(prefix="pbxguard-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder for one input."""
    made = Path(tempfile.mkdtemp(dir=_FOLDER))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def text_of(data: bytes) -> str:
    """As text that a peer sent; lone surrogates stand for what is no UTF-8, since some paths bring them."""
    return data.decode("utf-8", "surrogateescape")


def json_of(data: bytes) -> Any:
    """JSON, or None for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def shows_only(text: str, more: str = "\n") -> bool:
    """Whether a terminal would only show this text, and obey nothing in it."""
    return all(letter.isprintable() or letter in more for letter in text)
