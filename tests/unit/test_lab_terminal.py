"""A program at a terminal of its own: what it prints is read, Ctrl-C reaches it, and nothing of it is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.asterisk import LabError
from tests.lab.terminal import CTRL_C, Terminal


def running(script: str) -> Terminal:
    return Terminal(["bash", "-c", script], Path("/"), os.environ)


async def test_what_is_printed_is_read_without_its_colours() -> None:
    async with running(r"printf '\e[1;31mred\e[0m\r\nat %s columns\n' $(stty size | cut -d' ' -f2); cat") as terminal:
        assert (await terminal.shows("columns\n", 10)) == "red\nat 100 columns\n"
        assert terminal.process.returncode is None


async def test_ctrl_c_reaches_whoever_is_in_the_foreground_and_the_exit_code_is_told() -> None:
    async with running("trap 'echo bye; exit 7' INT; echo ready; while :; do sleep 0.1; done") as terminal:
        await terminal.shows("ready", 10)
        terminal.press(CTRL_C)
        assert await terminal.ended() == 7
        assert "bye" in terminal.text
        assert terminal.left() == {}


async def test_what_a_program_leaves_behind_is_found_and_then_killed() -> None:
    left_behind = "trap '' INT HUP; sleep 300 & sleep 301 & echo ready"
    async with running(left_behind) as terminal:
        await terminal.shows("ready", 10)
        assert await terminal.ended() == 0
        assert sorted(terminal.left().values()) == ["sleep 300 ", "sleep 301 "]
    assert terminal.left() == {}


async def test_waiting_for_what_is_never_said_ends_with_the_program_and_with_the_deadline() -> None:
    async with running("echo something; exit 4") as terminal:
        with pytest.raises(LabError, match=r"ended with 4, and never said 'else':\nsomething"):
            await terminal.shows("else", 10)
    async with running("echo something; cat") as terminal:
        with pytest.raises(LabError, match=r"not after 0\.2 s: 'else'"):
            await terminal.shows("else", 0.2)
