"""`pbxguard recordings`: find, show, copy, destroy and verify what was sealed.

Numbers are shown in full to who may read the database (its file is for its owner alone); `--mask` hides them, for a
shared screen.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pbxguard import logs, settings
from pbxguard.core.errors import Protected, WrongUse
from pbxguard.core.ids import RecordingId
from pbxguard.core.numbers import mask, parse
from pbxguard.core.records import RecordingRow
from pbxguard.core.retention import told

from .context import Store, now, open_store, who_asks
from .options import CONFIG, PROBLEM, Config, Json, Language, emit

app = typer.Typer(help="Find, show, copy, destroy and verify recordings.", no_args_is_help=True, rich_markup_mode=None)

T = TypeVar("T")
Id = Annotated[str, typer.Argument(metavar="ID", help="A recording's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept for ever, so no names or numbers.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks.  [default: your login name]", show_default=False)]
Mask = Annotated[bool, typer.Option("--mask", help="Hide numbers, for a shared screen.")]
_WIDTH = 200


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one command's work; what goes wrong is logged on stderr, so that the answer stays clean."""
    logs.configure(level="warning", stream=sys.stderr)
    return asyncio.run(work)


def moment(text: str, option: str) -> datetime | None:
    """``1h``, ``7d`` or an ISO moment as UTC; None for an empty text."""
    from pbxguard.service.calls import parse_since

    if not text:
        return None
    try:
        return parse_since(text, now())
    except (ValueError, OverflowError):
        raise WrongUse(f"{option} wants a span (30m, 1h, 7d) or a date (2026-05-04)") from None


@app.command(
    "list",
    epilog="Examples: pbxguard recordings list --number 020-1234567 --since 7d | "
    "pbxguard recordings list --reference K-4711 | pbxguard recordings list --extension 100 --since 2026-05-04 --json",
)
def list_recordings(
    config: Config = CONFIG,
    json: Json = False,
    number: Annotated[str, typer.Option("--number", metavar="N", help="The other party's, in any notation.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="A customer or contract number, exactly.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="SPAN|TIME", help="1h, 7d, or a date.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="SPAN|TIME", help="Started before.")] = "",
    extension: Annotated[str, typer.Option("--extension", help="Ours, e.g. 100.")] = "",
    destroyed: Annotated[bool, typer.Option("--destroyed", help="Also what was destroyed.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 100,
    masked: Mask = False,
) -> None:
    """List recordings, newest first."""
    read = settings.load(config)

    async def work() -> Sequence[RecordingRow]:
        wanted = ""
        if number:
            wanted = parse(number, read.country).known
            if not wanted:
                raise WrongUse("--number is no telephone number")
        after, before = moment(since, "--since"), moment(until, "--until")
        async with open_store(read) as store:
            return await store.index.find(
                number=wanted,
                reference=reference,
                since=after,
                until=before,
                extension=extension,
                limit=limit,
                include_destroyed=destroyed,
            )

    rows = run(work())
    data = {"recordings": [_brief(row, masked) for row in rows]}
    emit(data, json, lambda: _table(rows, masked) if rows else "no recordings")


@app.command(epilog="Example: pbxguard recordings show kq3v5x2m7zabcdef --language nl")
def show(
    id: Id, config: Config = CONFIG, json: Json = False, language: Language = Language.EN, masked: Mask = False
) -> None:
    """Show one recording: who, when, why it was allowed, until when it is kept."""

    async def work() -> tuple[RecordingRow, str]:
        async with open_store(settings.load(config)) as store:
            row = await store.index.recording(RecordingId(id))
            kept = "destroyed" if row.destroyed else told(store.retention.decide(row, now()), language.value)
            return row, kept

    row, kept = run(work())
    brief = {**_brief(row, masked), "kept": kept}
    data = brief if masked else {**brief, "manifest": dict(row.manifest)}
    emit(data, json, lambda: _sheet(brief))


@app.command(
    epilog="Examples: pbxguard recordings export kq3v5x2m7zabcdef --wav --reason 'access request 2026-12' | "
    "pbxguard recordings export kq3v5x2m7zabcdef --reason 'claim 88' --to /srv/claims"
)
def export(
    id: Id,
    reason: Reason,
    config: Config = CONFIG,
    json: Json = False,
    wav: Annotated[bool, typer.Option("--wav", help="As WAV, for those who cannot open FLAC.")] = False,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to copy to.")] = Path("."),
    actor: Actor = "",
) -> None:
    """Copy a recording with its manifest and the disclosure; who asked and why is written down first."""

    async def work() -> dict[str, str]:
        async with open_store(settings.load(config)) as store:
            made = await store.access.export(
                RecordingId(id), reason=reason, actor=actor or who_asks(), wav=wav, directory=to
            )
            return {
                "recording": made.recording,
                "audio": str(made.audio),
                "manifest": str(made.manifest),
                "disclosure": str(made.disclosure),
            }

    made = run(work())
    emit(made, json, lambda: "\n".join(made[key] for key in ("audio", "manifest", "disclosure")))


@app.command(
    epilog="Examples: pbxguard recordings destroy kq3v5x2m7zabcdef --reason 'request 12' --dry-run | "
    "pbxguard recordings destroy kq3v5x2m7zabcdef --reason 'request 12' --yes"
)
def destroy(
    id: Id,
    reason: Reason,
    config: Config = CONFIG,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be destroyed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    despite_lock: Annotated[
        bool, typer.Option("--despite-lock", help="Also when it is locked: the privacy officer decided so.")
    ] = False,
    actor: Actor = "",
) -> None:
    """Destroy a recording, file and manifest, for ever; a certificate without content stays."""

    async def work() -> dict[str, Any]:
        async with open_store(settings.load(config)) as store:
            row = await store.index.recording(RecordingId(id))
            if dry_run:
                return {"dry_run": True, "recording": row.id, "purposes": list(row.purposes), "locked": row.locked}
            made = await store.access.destroy(
                row.id, reason=reason, actor=actor or who_asks(), despite_lock=despite_lock
            )
            return {"dry_run": False, **made.as_json()}

    if not (yes or dry_run):
        typer.confirm(f"Destroy {plain(id)} for ever?", abort=True, err=True)
    data = run(work())
    emit(data, json, lambda: _sheet(data))


@app.command(
    epilog="Example: pbxguard recordings redact kq3v5x2m7zabcdef --from 12.5 --to 20 --reason 'card number' --dry-run"
)
def redact(
    id: Id,
    begin: Annotated[float, typer.Option("--from", metavar="SECONDS", help="From here, in seconds of the file.")],
    end: Annotated[float, typer.Option("--to", metavar="SECONDS", help="To here.")],
    reason: Reason,
    config: Config = CONFIG,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be cut.")] = False,
    actor: Actor = "",
) -> None:
    """Cut a span out of a recording for ever ("forgot to pause"); a new seal names the old digest."""
    from pbxguard.service.access import one_line

    async def work() -> dict[str, Any]:
        why, who = one_line(reason, "a reason"), one_line(actor or who_asks(), "who asks")
        async with open_store(settings.load(config)) as store:
            made = await store.redactions.redact(
                RecordingId(id), begin, end, reason=why, actor=who, now=now(), dry_run=dry_run
            )
            return made.as_json()

    data = run(work())
    emit(data, json, lambda: _sheet(data))


@app.command(epilog="Examples: pbxguard recordings verify kq3v5x2m7zabcdef | pbxguard recordings verify --all --json")
def verify(
    id: Annotated[str, typer.Argument(metavar="ID", help="A recording's id.")] = "",
    config: Config = CONFIG,
    json: Json = False,
    everything: Annotated[bool, typer.Option("--all", help="Every recording that is kept.")] = False,
) -> None:
    """Compare files with their manifests and the index; exit code 1 when one was changed or is missing."""
    from pbxguard.service.verification import PROBLEMS, Verified
    from pbxguard.service.verification import verify as compare

    async def rows(store: Store) -> list[Verified]:
        if not everything:
            row = await store.access.which(id)
            if row.destroyed is not None:
                raise Protected(f"recording {row.id} was destroyed")
            return [await compare(row, store.archive)]
        return [await compare(row, store.archive) async for row in store.index.live_recordings()]

    async def work() -> list[Verified]:
        if everything == bool(id):
            raise WrongUse("name a recording, or give --all")
        async with open_store(settings.load(config)) as store:
            return await rows(store)

    checked = run(work())
    bad = [one for one in checked if one.problems]
    data = {
        "checked": len(checked),
        "problems": [{"recording": one.recording, "codes": list(one.problems)} for one in bad],
    }
    lines = [f"{one.recording}: {'; '.join(PROBLEMS[code] for code in one.problems)}" for one in bad]
    lines.append(f"{len(checked)} checked, {len(bad)} with a problem")
    emit(data, json, "\n".join(lines))
    if bad:
        raise typer.Exit(PROBLEM)


def _brief(row: RecordingRow, masked: bool) -> dict[str, Any]:
    from pbxguard.service.access import row_json

    data = row_json(row)
    del data["manifest"]
    if masked:
        data["external_number"] = mask(row.external_number)
        data["own_number"] = mask(row.own_number)
        data["other_numbers"] = [mask(number) for number in row.other_numbers]
        del data["path"]  # it may show the number
    return data


def _table(rows: Sequence[RecordingRow], masked: bool) -> str:
    table = Table(box=None, pad_edge=False)
    for title in ("id", "started", "length", "direction", "number", "own", "queue", "purposes", "reference", "state"):
        table.add_column(title, no_wrap=title in ("id", "started"))
    for row in rows:
        cells = (
            row.id,
            row.started.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            f"{row.duration_ms // 60_000}:{row.duration_ms // 1000 % 60:02d}",
            row.direction,
            (mask(row.external_number) if masked else row.external_number) or "withheld",
            row.own_endpoint,
            row.queue,
            " ".join(row.purposes),
            row.reference,
            _state(row),
        )
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return rendered(table)


def _state(row: RecordingRow) -> str:
    if row.destroyed is not None:
        return "destroyed"
    if row.locked:
        return "locked"
    return row.outcome


def _sheet(data: dict[str, Any]) -> str:
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in data.items():
        if value not in (None, "", [], False):
            table.add_row(
                Text(key.replace("_", " ")),
                Text(plain(", ".join(map(str, value)) if isinstance(value, list) else str(value))),
            )
    return rendered(table)


def plain(text: str) -> str:
    """Text from outside without control characters: a terminal obeys them."""
    return "".join(c if c.isprintable() else "?" for c in text)


def rendered(table: Table) -> str:
    """A table as text, as wide as the terminal allows; whole when it goes into a file or pipe."""
    screen = Console()
    out = io.StringIO()
    console = Console(file=out, width=screen.width if screen.is_terminal else _WIDTH, no_color=True)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
