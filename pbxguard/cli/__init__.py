"""The command `pbxguard`: a file for each noun.

Every command takes `--config` and `--json`. Exit codes: 0 fine, 1 found a problem, 2 wrong use, 3 cannot reach a
component. What asks the running service goes through its Unix socket.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from pbxguard.core.errors import PbxguardError

from .options import application, exit_code, tell

STOP = "stop-recorders"


def __getattr__(name: str) -> Any:
    """`app`, with every command; what they stand on takes half a second to load."""
    if name != "app":
        raise AttributeError(name)
    from .commands import app

    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit. `arguments` default to the process's own."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _app(given)(given)
    except PbxguardError as error:
        tell(error, "--json" in given)
        sys.exit(exit_code(error))
    sys.exit(0)


def _app(given: list[str]) -> Any:
    """All commands; for the one that must be quick, while recorders run on, that one alone."""
    if STOP not in given:
        return __getattr__("app")
    from . import stop_recorders

    alone = application()
    stop_recorders.register(alone)
    return alone
