"""`pbxguard prompts`: make what callers are told, let a named person approve it, see how it stands."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer

from pbxguard import settings
from pbxguard.core.errors import PbxguardError, SettingsError
from pbxguard.service import check
from pbxguard.settings import Settings
from pbxguard.sound.prompts import PromptKey, Prompts, PromptState, State

from .options import CONFIG, PROBLEM, WRONG_USE, Config, Json, emit

app = typer.Typer(
    help="Make, approve and list the prompts. An unapproved disclosure is not played, and such a call not recorded.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def prompts_of(read: Settings) -> Prompts:
    """The prompts folder of a configuration."""
    folder = PurePosixPath(read.prompts.for_asterisk)
    return Prompts(read.prompts.directory, folder, read.rate, read.wording())


def keys_of(read: Settings) -> list[PromptKey]:
    """All that a configuration can need."""
    return [*read.disclosure_keys(), *read.confirmation_keys()]


class Shelf:
    """Fulfils `service.check.PromptShelf`."""

    def __init__(self, read: Settings) -> None:
        self._read = read

    def states(self) -> Sequence[check.PromptState]:
        """One for each prompt that the configuration can need. Blocks."""
        return [_for_check(state) for state in prompts_of(self._read).states(keys_of(self._read))]


def _for_check(state: PromptState) -> check.PromptState:
    changed = "its words or its sound changed since it was built or approved"
    return check.PromptState(
        state.key,
        approved=state.state is State.APPROVED,
        notice_ms=state.notice_ms,
        missing=(str(state.key),) if state.state is State.MISSING else (),
        problem=changed if state.state is State.CHANGED else "",
    )


@app.command(
    "build",
    epilog="Examples: pbxguard prompts build | "
    "pbxguard prompts build --recording contract_evidence.nl.notice.inbound=studio.wav",
)
def build(
    config: Config = CONFIG,
    json: Json = False,
    recording: Annotated[
        list[str] | None,
        typer.Option("--recording", metavar="NAME[.key]=FILE", help="A studio recording in place of speech."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Speak everything anew, studio recordings too.")] = False,
) -> None:
    """Make the sounds that are missing or whose words changed; each new one needs approval.

    espeak-ng speaks them at the installation's rate; a studio recording may take the place of any. NAME is the
    prompt, with .key behind it for the sentence that asks for a key.
    """
    given: dict[str, Path] = {}
    for pair in recording or []:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            typer.echo("pbxguard: --recording wants NAME=FILE", err=True)
            raise typer.Exit(WRONG_USE)
        given[name] = Path(file)
    read = settings.load(config)
    prompts, keys = prompts_of(read), keys_of(read)
    _all_worded(read)
    new = [str(key) for key in prompts.build(keys, given, again=again)]
    emit(
        {"built": new, "prompts": len(keys)},
        json,
        lambda: "\n".join(
            [
                *(f"built {name}" for name in new),
                f"{len(keys)} prompts, {len(new)} new. {_to_approve(len(new))}".rstrip(),
            ]
        ),
    )


@app.command(
    "approve",
    epilog='Examples: pbxguard prompts approve contract_evidence.nl.notice.inbound --by "A. de Boer" | '
    'pbxguard prompts approve --all --by "A. de Boer"',
)
def approve(
    by: Annotated[str, typer.Option("--by", metavar="PERSON", help="Who approves: a person's name.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", show_default=False)] = None,
    config: Config = CONFIG,
    json: Json = False,
    everything: Annotated[bool, typer.Option("--all", help="All that wait for approval.")] = False,
) -> None:
    """Tie a prompt's words and sound, as they are now, to a person. Listen to it first.

    A change of either takes the approval away.
    """
    if bool(names) == everything:
        typer.echo("pbxguard: name the prompts, or give --all", err=True)
        raise typer.Exit(WRONG_USE)
    read = settings.load(config)
    prompts, now = prompts_of(read), datetime.now(UTC)
    wanted = list(names or [])
    if everything:
        waiting = prompts.states(keys_of(read))
        wanted = [str(state.key) for state in waiting if state.state is not State.APPROVED]
    approved: list[PromptState] = []
    refused: list[tuple[str, PbxguardError]] = []
    for name in wanted:
        try:
            approved.append(prompts.approve(name, by, now))
        except PbxguardError as error:
            refused.append((name, error))
    emit(
        {
            "approved": [_as_json(state) for state in approved],
            "refused": [{"name": n, "message": str(e), "mend": e.diagnostics()} for n, e in refused],
            "account": getpass.getuser(),
        },
        json,
        lambda: "\n".join(
            [
                *(f'approved {state.key} by {state.approved_by}: "{state.text}"' for state in approved),
                *(f"not approved {_shown(n)}: {e}. {e.diagnostics()}".rstrip() for n, e in refused),
                f"{len(approved)} approved. Restart pbxguard to play them.",
            ]
        ),
    )
    if refused:
        raise typer.Exit(PROBLEM)


@app.command("list", epilog="Examples: pbxguard prompts list | pbxguard prompts list --json")
def list_all(config: Config = CONFIG, json: Json = False) -> None:
    """Show every prompt that the configuration can need: its state, length, who approved it, its words."""
    read = settings.load(config)
    keys = keys_of(read)
    _all_worded(read)
    states = prompts_of(read).states(keys)
    emit({"prompts": [_as_json(state) for state in states]}, json, lambda: "\n".join(_lines(states)))


def _all_worded(read: Settings) -> None:
    missing = [f for f in check.check_texts(read) if f.code == "text_missing"]
    if missing:
        raise SettingsError([(finding.place, finding.message, finding.mend) for finding in missing])


def _as_json(state: PromptState) -> dict[str, Any]:
    return {
        "name": str(state.key),
        "state": state.state.value,
        "text": state.text,
        "notice_ms": state.notice_ms,
        "key_ms": state.key_ms,
        "studio": state.studio,
        "too_long": state.too_long,
        "approved_by": state.approved_by,
        "approved_at": state.approved_at,
    }


def _lines(states: Iterable[PromptState]) -> list[str]:
    lines = []
    for state in states:
        length = f"{state.notice_ms / 1000:.1f} s" if state.notice_ms else "-"
        by = f" by {state.approved_by} at {state.approved_at}" if state.approved_by else ""
        lines += [f"{state.state.value:<10} {length:>6}  {state.key}{by}", f'{"":<20}"{state.text}"']
    return lines


def _to_approve(count: int) -> str:
    return "Listen to them, then `pbxguard prompts approve NAME --by PERSON`." if count else ""


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:100]
