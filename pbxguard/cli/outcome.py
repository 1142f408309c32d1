"""`pbxguard outcome`: tell what came of a call, since that decides how long its recording is kept."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pbxguard import settings

from .context import open_store, who_asks
from .options import CONFIG, Config, Json, Language, emit
from .recordings import Actor, run


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog="Examples: pbxguard outcome kq3v5x2m7zabcdef no_contract | "
        "pbxguard outcome K-4711 contract --contract-end 2027-06-30"
    )
    def outcome(
        which: Annotated[str, typer.Argument(metavar="ID|REFERENCE", help="A reference must fit one recording.")],
        result: Annotated[
            str, typer.Argument(metavar="OUTCOME", help="contract, existing_contract, no_contract, pending_signature.")
        ],
        config: Config = CONFIG,
        json: Json = False,
        contract_end: Annotated[str, typer.Option("--contract-end", metavar="DATE", help="Its last day.")] = "",
        language: Language = Language.EN,
        actor: Actor = "",
    ) -> None:
        """Set the outcome of a call and say until when its recording is kept.

        Kept as proof: no contract 7 days after the call, undecided or pending 30, a contract until 12 months after
        its end (unless configured); a contract without known end is kept. Other purposes keep their own periods.

        Exits with 1, and changes nothing, when no recording has that id or reference, several have it (their ids are
        named) or it was destroyed; with 2 when the outcome or the date is none.
        """

        async def work() -> dict[str, Any]:
            async with open_store(settings.load(config)) as store:
                done = await store.access.set_outcome(
                    which, result, contract_end=contract_end, actor=actor or who_asks()
                )
            return {
                "recording": done.recording,
                "outcome": done.outcome,
                "contract_end": done.contract_end,
                "until": done.until.isoformat() if done.until else None,
                "destroyed_next": done.destroyed_next,
                "words": done.words[language.value],
            }

        data = run(work())
        emit(data, json, f"{data['recording']}: {data['words']}")
