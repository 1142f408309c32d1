"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "reference.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = ["reasons", "log-events", "alerts", "metrics", "fault-points", "settings", "command-line", "situations"]


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_page_is_what_the_code_makes(name: str) -> None:
    module = load()
    path = module.PAGES / f"{name}.md"
    assert path.read_text() == module.pages()[path], "run script/reference.py"


def test_a_rows_marker_becomes_a_line_of_its_modules_table(tmp_path: Path) -> None:
    (tmp_path / "test_row_holds.py").write_text(
        'NEVER = "not recorded"\n'
        '@pytest.mark.row(situation="on hold", decision=NEVER, article="own " "rule")\n'
        "async def test_a_hold_is_not_recorded() -> None: ...\n"
        "def test_without_a_row() -> None: ...\n"
    )
    page = load().situations(tmp_path)
    assert "## Holds\n" in page
    assert "| on hold | not recorded | own rule | `test_a_hold_is_not_recorded` |\n" in page
    assert "test_without_a_row" not in page


@pytest.mark.parametrize("columns", ["situation='x', decision='y'", "situation='x', decision='y', article=None"])
def test_a_row_without_its_three_columns_makes_no_page(tmp_path: Path, columns: str) -> None:
    (tmp_path / "test_row_holds.py").write_text(f"@pytest.mark.row({columns})\ndef test_it() -> None: ...\n")
    with pytest.raises(ValueError, match=r"test_row_holds\.py:1"):
        load().situations(tmp_path)
