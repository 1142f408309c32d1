"""Short storms of fixed seeds: random calls and faults with real phones, judged by an oracle without a switchboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import asterisk_tree
from tests.lab.storm.oracle import judge
from tests.lab.storm.run import Options, play, report, show_failures

pytestmark = pytest.mark.alone

SHORT_S = 25.0


async def storm(options: Options) -> None:
    history = await play(options)
    verdict = judge(history)
    print(report(history, verdict))
    if not verdict.is_good():
        show_failures(history, verdict, options.folder)
    assert verdict.is_good(), f"./script/storm --replay {options.folder}/history.json"
    assert verdict.figures()["permitted seconds"] > SHORT_S, "too little was permitted to tell anything"


async def test_a_storm_of_people_alone_leaves_exactly_what_was_permitted(
    tree: asterisk_tree.Tree, tmp_path: Path
) -> None:
    await storm(Options(101, SHORT_S / 60, tmp_path, with_faults=False))


async def test_a_storm_with_faults_leaves_nothing_that_was_not_permitted(
    tree: asterisk_tree.Tree, tmp_path: Path
) -> None:
    await storm(Options(102, SHORT_S / 60, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
async def test_a_longer_storm(seed: int, tree: asterisk_tree.Tree, tmp_path: Path) -> None:
    await storm(Options(seed, 3.0, tmp_path))
