"""The command `pbxguard`: a file for each noun.

Every command takes `--config` and `--json`. Exit codes: 0 fine, 1 found a problem, 2 wrong use, 3 cannot reach a
component. What asks the running service goes through its Unix socket.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from pbxguard.core.errors import PbxguardError

from . import calls, check, init, outcome, prompts, recordings, retention, run, status, stop_recorders, switch, why
from .options import CONFIG, Config, Json, exit_code, given_before, tell

app = typer.Typer(
    name="pbxguard",
    help="Records business calls on Asterisk, only after the disclosure was heard, and never a third party's.",
    epilog="Begin with `pbxguard init`, then `pbxguard check`. Exit codes: 0 fine, 1 found a problem, 2 wrong use, "
    "3 cannot reach a component.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(context: typer.Context, config: Config = CONFIG, json: Json = False) -> None:
    """Both options may also stand before the command."""
    given_before(context, {"--config": config if config != CONFIG else None, "--json": json or None})


for _noun in (run, check, status, calls, why, switch, init, outcome, stop_recorders):
    _noun.register(app)
app.add_typer(prompts.app, name="prompts")
app.add_typer(recordings.app, name="recordings")
app.add_typer(retention.app, name="retention")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit. `arguments` default to the process's own."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(given)
    except PbxguardError as error:
        tell(error, "--json" in given)
        sys.exit(exit_code(error))
    sys.exit(0)
