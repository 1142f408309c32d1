"""`pbxguard retention`: what is kept how long, and the sweep that destroys what is over."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pbxguard import settings
from pbxguard.core.retention import CALLS_KEPT, schedule
from pbxguard.service.retention import Sweep

from .context import now, open_store, retention_rules, who_asks
from .options import CONFIG, PROBLEM, Config, Json, Language, emit
from .recordings import Actor, rendered, run

app = typer.Typer(help="How long recordings are kept.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Examples: pbxguard retention show | pbxguard retention show --language nl --json")
def show(config: Config = CONFIG, json: Json = False, language: Language = Language.EN) -> None:
    """Show each purpose's periods."""
    read = settings.load(config)
    rules = retention_rules(read)
    found = {
        name: [{"when": when, "kept": kept} for when, kept in schedule(rules[name], language.value)]
        if name in rules
        else []
        for name in sorted(read.all_purposes())
    }
    data = {"purposes": found, "calls": CALLS_KEPT.words(language.value)}

    def human() -> str:
        table = Table(box=None, pad_edge=False)
        for title in ("purpose", "outcome", "kept"):
            table.add_column(title)
        for name, lines in found.items():
            for line in lines or [{"when": "always", "kept": "no period is configured: kept, never destroyed"}]:
                table.add_row(Text(name), Text(line["when"]), Text(line["kept"]))
        table.add_row(Text("(list of calls)"), Text("always"), Text(data["calls"]))  # type: ignore[arg-type]
        return rendered(table)

    emit(data, json, human)


@app.command(epilog="Examples: pbxguard retention sweep --dry-run | pbxguard retention sweep --json")
def sweep(
    config: Config = CONFIG,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be destroyed.")] = False,
    actor: Actor = "",
) -> None:
    """Destroy now what is over; the service does the same each night. Exit code 1 when one could not be destroyed."""

    async def work() -> Sweep:
        async with open_store(settings.load(config)) as store:
            return await store.retention.sweep(now(), dry_run=dry_run, actor=actor or who_asks())

    report = run(work())
    emit(report.as_json(), json, lambda: _told(report))
    if report.failed:
        raise typer.Exit(PROBLEM)


def _told(report: Sweep) -> str:
    if report.dry_run:
        lines = [f"{one.recording}: would be destroyed ({one.why})" for one in report.due]
        return "\n".join([*lines, f"{len(report.due)} would be destroyed, {report.kept} are kept"])
    lines = [f"{one.recording}: destroyed ({one.reason})" for one in report.destroyed]
    lines += [f"{recording}: NOT destroyed: {reason}" for recording, reason in report.failed]
    ended = f"{len(report.destroyed)} destroyed, {len(report.failed)} failed, {report.kept} are kept"
    return "\n".join([*lines, ended])
