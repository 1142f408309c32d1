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


@pytest.mark.parametrize("name", ["reasons", "log-events", "metrics", "settings", "command-line"])
def test_a_reference_page_is_what_the_code_makes(name: str) -> None:
    module = load()
    path = module.PAGES / f"{name}.md"
    assert path.read_text() == module.pages()[path], "run script/reference.py"
