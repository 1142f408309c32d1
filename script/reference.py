"""Makes docs/reference/*.md from the code; a test fails when a page is not what this makes.

python script/reference.py            # write the pages
python script/reference.py --check    # exit 1 when one differs
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer
from pydantic import BaseModel

from pbxguard.cli import app as cli
from pbxguard.core.permit import CONVERSATION, PURPOSE
from pbxguard.core.reasons import WORDS, Reason
from pbxguard.fault_points import STANDS, VARIABLE, FaultPoint
from pbxguard.logs import ALERTS, Event
from pbxguard.metrics import Metrics
from pbxguard.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
ROWS = ROOT / "tests" / "e2e"
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
    return text + "\nThose that a person must act on are at level `alert`: [alerts](alerts.md).\n"


def alerts() -> str:
    """Every alert."""
    text = (
        "# Alerts\n\nWhat a person must act on: log lines at level `alert`, one for each change of state, with what to "
    )
    text += "do in `mend`.\nWhat lasts is also in `pbxguard status` (`troubles`), and its end is logged.\n\n"
    text += "| event | what it means | what to do | its end |\n|-|-|-|-|\n"
    for event, told in ALERTS.items():
        over = f"`{told.over.value}`" if told.over else ""
        text += f"| `{event.value}` | {told.meaning} | {told.mend} | {over} |\n"
    return text


def fault_points() -> str:
    """Every fault point."""
    text = "# Fault points\n\nThe places where a crash must do no harm. A test starts a process with "
    text += f"`{VARIABLE}=name[:n]`,\nand it ends there by SIGKILL at its n-th pass; with "
    text += f"`{STANDS}=name[:n]` it stands still there, by SIGSTOP.\nA running process cannot be told to.\n\n"
    text += "| name | what has and has not happened |\n|-|-|\n"
    return text + "".join(f"| `{point.value}` | {point.meaning} |\n" for point in FaultPoint)


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


def situations(tests: Path = ROWS) -> str:
    """Every situation that a test shows on a real Asterisk with real phones, from the tests' ``row`` markers.

    The files are parsed, not imported: that needs neither phones nor an Asterisk.
    """
    text = "# Situations\n\nWhat pbxguard does in each, shown on a real Asterisk with real phones by the test named "
    text += "last.\nThe article is of the Dutch criminal code; 'own rule' where the law is open and the choice ours.\n"
    for path in sorted(tests.glob("test_row_*.py")):
        title = path.stem.removeprefix("test_row_").replace("_", " ").capitalize()
        text += f"\n## {title}\n\n`tests/e2e/{path.name}`\n\n| situation | decision | article | test |\n|-|-|-|-|\n"
        for row, test in _rows(path):
            text += f"| {row['situation']} | {row['decision']} | {row['article']} | `{test}` |\n"
    return text


def _rows(path: Path) -> Iterator[tuple[dict[str, str], str]]:
    """The ``row`` markers of a test module, in its order, each with its test.

    Raises:
        ValueError: a marker lacks a column, has one too many, or one that is not a plain string.
        KeyError: a column names what is no constant of the module.
    """
    module = ast.parse(path.read_text())
    words = {
        t.id: a.value for a in module.body if isinstance(a, ast.Assign) for t in a.targets if isinstance(t, ast.Name)
    }
    for test in module.body:
        if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in reversed(test.decorator_list):  # pytest's order: the lowest first
            if not isinstance(mark, ast.Call) or ast.unparse(mark.func) != "pytest.mark.row":
                continue
            named = {key.arg: key.value for key in mark.keywords}
            texts = {column: words[v.id] if isinstance(v, ast.Name) else v for column, v in named.items()}
            row = {column: ast.literal_eval(text) for column, text in texts.items()}
            if set(row) != {"situation", "decision", "article"} or not all(isinstance(v, str) for v in row.values()):
                raise ValueError(f"{path.name}:{mark.lineno}: a row has a situation, a decision and an article")
            yield {str(key): str(value) for key, value in row.items()}, test.name


def pages() -> dict[Path, str]:
    """Every page, made anew."""
    made = {
        "reasons": reasons(),
        "log-events": events(),
        "alerts": alerts(),
        "metrics": metrics(),
        "fault-points": fault_points(),
        "settings": settings(),
        "command-line": commands(),
        "situations": situations(),
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
