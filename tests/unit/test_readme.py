"""README and CONTRIBUTING name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.core
import typer.main

from pbxguard.cli import app

REPO = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")


def text(page: str) -> str:
    return (REPO / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_path_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(page))
    named = re.findall(
        r"(?<![\w/.~-])(?:\./)?((?:script|docs|tests|config|dialplan|pbxguard)/[\w./-]*\w/?)", text(page)
    )
    assert len(links) + len(named) > 5
    assert [path for path in (*links, *named) if not (REPO / path).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_command_named_is_one(page: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    named = set(re.findall(r"`pbxguard ([a-z-]+)", text(page)))
    named |= set(re.findall(r"^pbxguard ([a-z-]+)", text(page), re.MULTILINE))
    for listed in re.findall(r"^- Commands: `([^`]+)`", text(page), re.MULTILINE):
        named |= set(listed.split())
    assert named - set(group.commands) == set()
    assert named or page == "CONTRIBUTING.md"


@pytest.mark.parametrize("page", ["README.md", "script/setup", "script/demo"])
def test_every_debian_package_that_is_installed_is_named(page: str) -> None:
    installed = re.findall(r"^need (\S+) ", text("script/setup"), re.MULTILINE)
    assert len(installed) > 5
    said = text(page) if page == "README.md" else "".join(re.findall(r"^#.*\n", text(page), re.MULTILINE))
    assert [package for package in installed if not re.search(rf"(?<![\w-]){package}(?![\w-])", said)] == []


def test_the_dialplan_lines_call_what_the_shipped_file_has() -> None:
    shipped = set(re.findall(r"^\[([\w-]+)\]", (REPO / "dialplan" / "pbxguard.conf").read_text(), re.MULTILINE))
    called = set(re.findall(r"(?:Gosub|U)\((pbxguard-[\w-]+)", text("README.md")))
    assert called == shipped
