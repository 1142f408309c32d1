"""The shipped dialplan files, and the lines that the documentation shows, through Asterisk's own parser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree
from tests.lab.asterisk import REPO, Asterisk

SHIPPED = sorted((REPO / "dialplan").glob("*.conf"))
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
TEXTS = {path.name: path.read_text() for path in SHIPPED}
INCLUDES = "".join(f'#include "{path.name}"\n' for path in SHIPPED)
PARSER = re.compile(
    r"\] (config|pbx\w*|extconf|app_stack|func_\w+|ast_expr\w*)\.\w+: |" + "|".join(map(re.escape, TEXTS))
)
"""A line of the log about a dialplan: by the source file that wrote it, or by the file that it names."""
BROKEN = {
    "no priority": "exten => s,,NoOp()",
    "nothing to follow": "[other]\n same => n,NoOp()",
    "a parenthesis missing": "exten => s,1,NoOp(",
    "no such word": "extem => s,1,NoOp()",
    "a priority that is no number": "exten => s,first,NoOp()",
    "no bracket": "[other",
    "no such file": '#include "nothing-here.conf"',
    "the same place twice": "exten => s,1,NoOp()\nexten => s,1,NoOp()",
    "no equals sign": "exten s,1,NoOp()",
}


def shown(text: str) -> list[str]:
    """Each fenced block of a page that holds dialplan lines."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if re.search(r"^ *(same|exten) *=>", block, re.MULTILINE)]


def commented(text: str) -> list[str]:
    """The lines that a shipped file shows in its comments."""
    return re.findall(r"^; +(same => .*)$", text, re.MULTILINE)


def written_out() -> str:
    """Every line that is shown anywhere, each block in a context of its own."""
    blocks = [block for page in PAGES for block in shown(page.read_text())]
    blocks += ["\n".join(commented(text)) for text in TEXTS.values()]
    text = ""
    for n, block in enumerate(blocks):
        lines = re.sub(r"^#include.*\n", "", block, flags=re.MULTILINE)
        begin = "" if lines.lstrip().startswith(("[", "exten")) else f"[shown-{n}]\nexten => _X.,1,NoOp()\n"
        text += begin + lines + "\n"
    return text


class Parser:
    """An Asterisk that says what it has to find fault with."""

    def __init__(self, asterisk: Asterisk) -> None:
        self.asterisk = asterisk
        self._marks = 0

    def complaints(self, since: int = 0) -> list[str]:
        """Warnings, errors and notices about the dialplan, from this length of the log on."""
        lines = self.asterisk.log()[since:].splitlines()
        loud = [line for line in lines if re.search(r"\b(WARNING|ERROR|NOTICE)\[", line)]
        return [line for line in loud if PARSER.search(line)]

    async def reload(self, text: str) -> list[str]:
        """What it says as it reads this extensions.conf."""
        (self.asterisk.run_dir / "etc" / "extensions.conf").write_text(text)
        since = len(self.asterisk.log())
        await self.asterisk.cli("dialplan reload")
        # The log's writer is a thread of its own: what is complained of now comes behind all that was.
        self._marks += 1
        mark = f"mark-{self._marks}@lab-mark"
        await self.asterisk.cli(f"channel originate Local/{mark} application NoOp")
        async with asyncio.timeout(10):
            while mark not in self.asterisk.log()[since:]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return self.complaints(since)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def parser(tree: asterisk_tree.Tree) -> AsyncIterator[Parser]:
    async with Asterisk(dialplan=INCLUDES + written_out(), files=TEXTS) as asterisk:
        yield Parser(asterisk)


async def test_a_fresh_start_reads_them_without_a_complaint(parser: Parser) -> None:
    assert parser.complaints() == []
    there = set(re.findall(r"Context '([^']+)'", await parser.asterisk.cli("dialplan show")))
    contexts = {name for text in TEXTS.values() for name in re.findall(r"^\[([\w-]+)\]", text, re.MULTILINE)}
    assert contexts
    assert contexts <= there
    assert len([name for name in there if name.startswith("shown-")]) >= 2


async def test_a_reload_reads_them_without_a_complaint(parser: Parser) -> None:
    assert await parser.reload(INCLUDES + written_out()) == []


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_line_in_one_of_them_is_complained_of(what: str, parser: Parser) -> None:
    etc = parser.asterisk.run_dir / "etc"
    for name, text in TEXTS.items():
        (etc / name).write_text(f"{text}\n{BROKEN[what]}\n")
        try:
            assert await parser.reload(INCLUDES + written_out())
        finally:
            (etc / name).write_text(text)
    assert await parser.reload(INCLUDES + written_out()) == []


async def test_every_application_and_function_in_them_is_one_that_asterisk_has(parser: Parser) -> None:
    text = re.sub(r"^\s*;.*$", "", "".join(TEXTS.values()), flags=re.MULTILINE)
    applications = set(re.findall(r"^(?:exten => [^,]+,1|\s*same => n(?:\(\w+\))?),(\w+)\(", text, re.MULTILINE))
    applications |= set(re.findall(r"\?(\w+)\(", text))
    functions = set(re.findall(r"(?:\$\{|Set\(|Read\()([A-Z_]+)\(", text))
    assert {"Gosub", "Stasis", "Playback"} <= applications
    assert {"REGEX", "TIMEOUT", "LOCAL", "CHANNEL"} <= functions
    known = {one: await parser.asterisk.cli(f"core show application {one}") for one in sorted(applications)}
    known |= {one: await parser.asterisk.cli(f"core show function {one}") for one in sorted(functions)}
    assert [one for one, page in known.items() if "Info about" not in page] == []
    assert "Info about" not in await parser.asterisk.cli("core show application Nothing")
