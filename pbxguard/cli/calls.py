"""`pbxguard calls`: the calls that live now, and what one of us may ask for in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pbxguard import settings
from pbxguard.service.calls import CallView, says

from .client import ask
from .context import who_asks
from .options import CONFIG, Config, Json, Language, emit

Call = Annotated[str, typer.Argument(metavar="CALL", help="Its id, as `pbxguard calls --json` shows it.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks.  [default: your login name]", show_default=False)]
DONE = {
    "object": "the objection holds for this call: nothing more is recorded of it",
    "pause": "paused: nothing is recorded until it is resumed",
    "resume": "resumed",
    "begin": "the other party is being told; recording begins when it has heard it in full",
    "private": "private: nothing more is recorded, and what was captured is destroyed unheard",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    calls = typer.Typer(
        help="Show the live calls; object, pause, resume, make private or start a recording.", rich_markup_mode=None
    )

    @calls.callback(
        invoke_without_command=True,
        epilog="Examples: pbxguard calls | pbxguard calls --language nl | pbxguard calls --json",
    )
    def show(
        context: typer.Context, config: Config = CONFIG, json: Json = False, language: Language = Language.EN
    ) -> None:
        """Show the live calls, one a line: told or not, being recorded, or why not and what to do."""
        if context.invoked_subcommand is not None:
            return
        data = ask(settings.load(config).socket.path, "GET", "/calls")
        emit(
            data,
            json,
            lambda: "\n".join(says(CallView.from_json(c), language.value) for c in data["calls"]) or "no live calls",
        )

    @calls.command("object", epilog="Example: pbxguard calls object 1766400000.12")
    def object_(call: Call, config: Config = CONFIG, json: Json = False, actor: Actor = "") -> None:
        """The other party objected, aloud: recording stops, and its purposes say what becomes of what was captured."""
        _ask("object", call, config, json, actor)

    @calls.command(epilog="Example: pbxguard calls pause 1766400000.12")
    def pause(call: Call, config: Config = CONFIG, json: Json = False, actor: Actor = "") -> None:
        """Record nothing of it (card entry) until it is resumed."""
        _ask("pause", call, config, json, actor)

    @calls.command(epilog="Example: pbxguard calls resume 1766400000.12")
    def resume(call: Call, config: Config = CONFIG, json: Json = False, actor: Actor = "") -> None:
        """End a pause."""
        _ask("resume", call, config, json, actor)

    @calls.command(epilog="Example: pbxguard calls private 1766400000.12")
    def private(call: Call, config: Config = CONFIG, json: Json = False, actor: Actor = "") -> None:
        """A private call: record nothing more, and destroy unheard what was captured."""
        _ask("private", call, config, json, actor)

    @calls.command(epilog="Example: pbxguard calls start 1766400000.12 --purpose contract_evidence")
    def start(
        call: Call,
        purpose: Annotated[list[str], typer.Option(help="What to record for; twice for two.")],
        config: Config = CONFIG,
        json: Json = False,
        actor: Actor = "",
    ) -> None:
        """Begin a purpose in mid-call: the other party is told by whisper, and recorded once it heard it in full."""
        _ask("begin", call, config, json, actor, purpose)

    app.add_typer(calls, name="calls")


def _ask(what: str, call: str, config: Config, json: bool, actor: str, purposes: Sequence[str] = ()) -> None:
    body = {"call": call, "actor": actor or who_asks(), "purposes": list(purposes)}
    data = ask(settings.load(config).socket.path, "POST", f"/calls/{what}", body=body)
    emit(data, json, DONE[what])
