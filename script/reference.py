"""Makes docs/reference/*.md from the code; a test fails when a page is not what this makes.

python script/reference.py            # write the pages
python script/reference.py --check    # exit 1 when one differs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer
from pydantic import BaseModel

from pbxguard.cli import app as cli
from pbxguard.core.permit import CONVERSATION, PURPOSE
from pbxguard.core.reasons import WORDS, Reason
from pbxguard.logs import Event
from pbxguard.metrics import Metrics
from pbxguard.settings import Settings

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
HEAD = "<!-- Made by script/reference.py: change the code, then run it. -->\n\n"
CONDITIONS = {
    0: "The switch and the mode",
    1: "Condition 1: who takes part",
    2: "Condition 2: told, and asked where that is needed",
    3: "Condition 3: somebody or something forbids it",
    4: "Condition 4: the purpose",
    5: "Condition 5: hold, pause, a second call on the device",
    6: "Condition 6: our own health",
    7: "Condition 7: our sight",
    8: "Ends that are no refusal",
}


def reasons() -> str:
    """Every reason code, by condition, in both languages."""
    text = "# Reason codes\n\nA call that is not recorded has every reason against it; the first one is shown first.\n"
    text += "`permit`: the rule stands in `core/permit.py` and can refuse by itself; the others say more about one.\n"
    for condition, title in CONDITIONS.items():
        text += f"\n## {title}\n\n| code | English | Nederlands | what to do | permit |\n|-|-|-|-|-|\n"
        for reason in Reason:
            words = WORDS[reason]
            if words.condition == condition:
                rule = "yes" if reason in CONVERSATION or reason in PURPOSE else ""
                text += f"| `{reason.value}` | {words.en} | {words.nl} | {words.mend} | {rule} |\n"
    return text


def events() -> str:
    """Every log event."""
    text = "# Log events\n\nOne JSON object a line: `ts`, `level`, `event`, `node`, and what belongs to the event"
    text += " (`call`, `recording`, `reason`, ...). Numbers are masked unless configured. The names are stable.\n"
    family = ""
    for event in sorted(Event, key=lambda e: e.value):
        head = event.value.split(".")[0]
        if head != family:
            family = head
            text += f"\n## {family}\n\n"
        text += f"- `{event.value}`\n"
    return text


def metrics() -> str:
    """Every metric."""
    text = "# Metrics\n\n`GET /metrics` on the service's socket, in Prometheus' text format.\n\n"
    text += "| name | type | labels | what |\n|-|-|-|-|\n"
    for name, metric in sorted(vars(Metrics()).items()):
        if name == "registry":
            continue
        labels = ", ".join(metric._labelnames)
        text += f"| `{metric._name}` | {metric._type} | {labels} | {metric._documentation} |\n"
    return text


def settings() -> str:
    """Every key of the configuration file, with its default."""
    text = "# Settings\n\nKeys of `pbxguard.toml`; `config/pbxguard.toml` shows them in use, with comments.\n\n"
    text += "| key | default |\n|-|-|\n"
    return text + "".join(f"| `{key}` | {default} |\n" for key, default in _keys(Settings, ""))


def _keys(model: type[BaseModel], before: str) -> Iterator[tuple[str, str]]:
    from pbxguard.settings.mistakes import _section_in

    for name, field in model.model_fields.items():
        section = _section_in(field.annotation)
        if section:
            yield from _keys(section, f"{before}{name}.")
        elif field.is_required():
            yield before + name, "required"
        elif field.default_factory is not None:
            yield before + name, "see its comment"
        else:
            default = getattr(field.default, "value", field.default)
            yield before + name, f"`{default}`" if default not in ("", None, ()) else ""


def commands() -> str:
    """The help of every command."""
    root = typer.main.get_command(cli)
    text = "# Command line\n\nExit codes: 0 fine, 1 found a problem, 2 wrong use, 3 cannot reach a component.\n"
    for path, command in _commands(root, "pbxguard"):
        context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
        text += f"\n## {path}\n\n```\n{command.get_help(context).strip()}\n```\n"
    return text


def _commands(command: object, path: str) -> Iterator[tuple[str, click.Command]]:
    assert hasattr(command, "get_help")
    yield path, command  # type: ignore[misc]
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(child, f"{path} {name}")


def pages() -> dict[Path, str]:
    """Every page, made anew."""
    made = {
        "reasons": reasons(),
        "log-events": events(),
        "metrics": metrics(),
        "settings": settings(),
        "command-line": commands(),
    }
    return {PAGES / f"{name}.md": HEAD + text for name, text in made.items()}


def main() -> int:
    """Write the pages, or with ``--check`` name those that differ."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in sys.argv:
            print(f"{path.name} is stale: run script/reference.py", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages()[path])
            print(f"wrote {path.name}")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
