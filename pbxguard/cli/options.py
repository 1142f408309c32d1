"""What all commands share: the two options, the way answers are printed, and the exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pbxguard.core.errors import ConnectionFailed, PbxguardError, SettingsError, UnsafeValue, WrongUse
from pbxguard.settings import DEFAULT_PATH

FINE, PROBLEM, WRONG_USE, UNREACHABLE = 0, 1, 2, 3
"""Exit codes: fine, found a problem, wrong use (or a broken configuration), cannot reach a component.

Wrong use is what makes no sense whatever there is: an unknown word, a date that is none. That what is named is not
there, is not the only one, or may not be touched is a problem found.
"""

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The configuration file.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
CONFIG = DEFAULT_PATH


class Language(Enum):
    """In what people are told."""

    NL = "nl"
    EN = "en"


def emit(data: Any, as_json: bool, human: Callable[[], str] | str) -> None:
    """Print the answer: JSON on one line for programs, in ASCII since a terminal may show it, else text for people."""
    if as_json:
        typer.echo(json.dumps(data, default=str))
        return
    text = human if isinstance(human, str) else human()
    if text:
        typer.echo(plain(text))


def plain(text: str) -> str:
    """Lines that a terminal only shows: texts from outside may hold what it would obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def exit_code(error: PbxguardError) -> int:
    """The exit code of an error; an error that came over the socket carries its own."""
    told = getattr(error, "exit_code", None)
    if isinstance(told, int):
        return told
    match error:
        case ConnectionFailed():
            return UNREACHABLE
        case SettingsError() | UnsafeValue() | WrongUse():
            return WRONG_USE
        case _:
            return PROBLEM


def tell(error: PbxguardError, as_json: bool) -> None:
    """Print an error: what happened and what to do, on stderr; as JSON, in the API's shape, on stdout."""
    body: Mapping[str, Any] = {
        "error": {"code": error.code, "message": str(error), "mend": error.diagnostics()},
    }
    if as_json:
        typer.echo(json.dumps(body))
        return
    if isinstance(error, SettingsError):
        print("the configuration is broken:", plain(error.diagnostics()), sep="\n", file=sys.stderr)
        return
    print(*(plain(text) for text in (f"pbxguard: {error}", error.diagnostics()) if text), sep="\n", file=sys.stderr)


def application() -> typer.Typer:
    """The command line without its commands."""
    app = typer.Typer(
        name="pbxguard",
        help="Records business calls on Asterisk, only after the disclosure was heard, and never a third party's.",
        epilog="Begin with `pbxguard init`, then `pbxguard check`. Exit codes: 0 fine; 1 found a problem, also when "
        "what is named is not there, is not the only one or may not be touched; 2 wrong use; 3 cannot reach a "
        "component.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def common(context: typer.Context, config: Config = CONFIG, json: Json = False) -> None:
        """Both options may also stand before the command."""
        given_before(context, {"--config": config if config != CONFIG else None, "--json": json or None})

    return app


def given_before(context: typer.Context, given: Mapping[str, Any]) -> None:
    """Let options that stand before the command be the defaults of every command that has them."""

    def defaults(command: Any) -> dict[str, Any]:
        below = {name: defaults(sub) for name, sub in getattr(command, "commands", {}).items()}
        own = {
            parameter.name: given[option]
            for parameter in command.params
            for option in parameter.opts
            if given.get(option) is not None
        }
        return own | below

    context.default_map = defaults(context.command)
