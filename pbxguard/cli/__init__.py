"""The command `pbxguard`: a file for each noun.

Every command takes `--config` and `--json`. Exit codes: 0 fine, 1 found a problem, 2 wrong use, 3 cannot reach a
component. What asks the running service goes through its Unix socket.
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any, NoReturn

from pbxguard.core.errors import PbxguardError

ALONE = {"stop-recorders": "stop_recorders", "run": "run"}
"""Commands that must be quick, and the modules of theirs: loaded without the others."""


def __getattr__(name: str) -> Any:
    """`app`, with every command; what they stand on takes half a second to load."""
    if name != "app":
        raise AttributeError(name)
    from .commands import app

    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit. `arguments` default to the process's own."""
    given = sys.argv[1:] if arguments is None else arguments
    gc.disable()  # what is loaded stays: looking through it again and again would be a fifth of the time that it takes
    from .options import exit_code, tell

    app = _app(given)
    gc.enable()
    try:
        app(given)
    except PbxguardError as error:
        tell(error, "--json" in given)
        sys.exit(exit_code(error))
    sys.exit(0)


def _app(given: list[str]) -> Any:
    """All commands; for one that must be quick, while recorders run on or calls go unrecorded, that one alone."""
    module = ALONE.get(_command(given))
    if module is None:
        return __getattr__("app")
    from .options import application

    alone = application()
    importlib.import_module(f".{module}", __name__).register(alone)
    return alone


def _command(given: list[str]) -> str:
    """The first word that is no option, nor the value of one that may stand before it; empty when there is none."""
    words = iter(given)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
