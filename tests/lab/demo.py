"""Owns: the demo: eight real calls, overlapping, on a real Asterisk with pbxguard; shown, measured, left to listen to.

Run by script/demo. What it says of a call is pbxguard's own word (its API); whether that is true is measured in the
sealed files and in what the phones heard (verdicts.py). Exit codes: 0 all as it should be, 1 something is not,
2 wrong use, 3 this machine lacks what it takes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.lab import asterisk_tree, kept, picture, stories, verdicts
from tests.lab.asterisk import REPO, LabError, Ports
from tests.lab.demo_hearing import hearing
from tests.lab.demo_invitation import YOURS, invitation
from tests.lab.installation import Installation, PbxguardFailed, Ran
from tests.lab.phone import Phones
from tests.lab.stories import Cast, Story
from tests.lab.verdicts import Verdict

OUTPUT = REPO / "demo-output"
REASONS = REPO / "docs" / "reference" / "reasons.md"
FINE, WRONG, LACKING, STOPPED = 0, 1, 3, 130
LOOK_S = 0.2
OPENING = """
Eight calls between real SIP phones on a real Asterisk, on this machine alone.
pbxguard decides what is recorded; whether that is so is measured in the sound.
"""
SPOKEN = {
    "contract_evidence.nl.notice.inbound": "As proof, callers hear",
    "quality_training.nl.opt_out.inbound": "For training, callers hear",
}
"""What is said of two disclosures, by name; the other languages and directions are like them."""
README = """\
What script/demo left: a folder for each call.

  *.flac          the recording as pbxguard sealed it: left the own voice, right the other one; tags inside
  *.json          its manifest: what it is, why it was allowed, every interval and gap, SHA-256 of file and tracks
  heard-by-*.wav  what the phones heard in the whole call, kept by the phones themselves, not by pbxguard

Agents and third parties are tones, customers a sweep that tells the time. measured.txt: everything that was measured.
"""


@dataclass(frozen=True)
class Options:
    """How the demo was asked for."""

    keep: bool
    language: str
    output: Path = OUTPUT
    """Where to leave what is worth a listen."""


class Stage:
    """What is printed: steps as they are done, with their time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = picture.fitting(console.width)
        self._at = time.monotonic()

    def done(self, what: str) -> None:
        """A step that is done, with the seconds since the last one."""
        now = time.monotonic()
        passed, self._at = f"{now - self._at:.1f} s", now
        line = Text.assemble(("✓ ", "green"), what)
        line.pad_right(max(self.width - line.cell_len - len(passed), 1))
        self.console.print(line.append(passed, style="dim"), soft_wrap=True)

    def aside(self, what: str) -> None:
        """A remark about the last step."""
        told = textwrap.fill(what, self.width, initial_indent="  ", subsequent_indent="    ")
        self.console.print(Text(told, style="dim"), soft_wrap=True)


class DemoSite(Installation):
    """An installation that says what it does, and who approves."""

    officer = "script/demo (demo approval, no person)"

    def __init__(self, stage: Stage, **options: Any) -> None:
        super().__init__(**options)
        self.stage = stage

    async def run(self, *words: str, check: bool = True) -> Ran:
        building = words[:2] == ("prompts", "build")
        if building:
            a, ari = self.asterisk, urlsplit(self.asterisk.ari_url)
            version = re.sub(r"^\d+:|[+~-].*", "", a.tree.versions["asterisk"])
            self.stage.done(
                f"Asterisk {version} is up on {ari.hostname}: SIP {a.sip_port}, AMI {a.ami_port}, ARI {ari.port}"
            )
        ran = await super().run(*words, check=check)
        if building:
            self.stage.done(f"disclosures spoken by espeak-ng: {ran.out.strip().splitlines()[-1].split('.')[0]}")
        return ran

    async def approve(self, *names: str) -> None:
        await super().approve(*names)
        listed = (await self.run("prompts", "list", "--json")).json()["prompts"]
        self.stage.done("DEMO APPROVAL: this script approved its own prompts")
        self.stage.aside("For real a named person listens first: pbxguard prompts approve NAME --by PERSON.")
        texts = {one["name"]: one["text"] for one in listed}
        for name, where in SPOKEN.items():
            self.stage.aside(f'{where}: "{texts[name]}"')

    async def start(self) -> None:
        await super().start()
        self.stage.done(f"pbxguard guards (mode {self.mode}; SQLite index and audit log, files as archive)")


# -- the calls ---------------------------------------------------------------------------------------------------------


@dataclass
class Board:
    """How far each call is: from its phones, and from what pbxguard says of the calls that live."""

    cast: Cast
    began: dict[str, float] = field(default_factory=dict)
    over: dict[str, float] = field(default_factory=dict)
    live: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """pbxguard's live calls by the external number."""

    def told(self, name: str, story: Story | None) -> None:
        """`stories.all_at_once` tells when a story begins and ends."""
        (self.began if story is None else self.over)[name] = time.monotonic()

    async def look(self) -> None:
        """Ask pbxguard once; the last answer stays when it does not answer."""
        with suppress(Exception):
            self.live = {call["external_number"]: call for call in (await self.cast.site.ask("/calls"))["calls"]}

    def lines(self) -> list[picture.Line]:
        return [self.line(play.__name__) for play in stories.STORIES]

    def line(self, name: str) -> picture.Line:
        title = stories.TITLES[name]
        if name not in self.began:
            return picture.Line(title, "waits for its turn", "dim")
        seconds = self.over.get(name, time.monotonic()) - self.began[name]
        story = self.cast.stories.get(name)
        if name in self.over or story is None:
            return picture.Line(title, "over", "dim", seconds)
        return picture.Line(title, *self._state(story), seconds)

    def _state(self, story: Story) -> tuple[str, str]:
        said = self.live.get(story.number, {})
        if "with the third party" in story.moments:
            return "with a third party: not recorded", "cyan"
        if said.get("recorded"):
            return "● being recorded", "bold red"
        if "talking" in story.moments:
            return "○ talking, not recorded", "cyan"
        if said.get("told"):
            return "told; the other side rings", "green"
        customer = story.calls.get("customer")
        if customer is not None and customer.answered_at:
            return "hears the disclosure", "yellow"
        return "rings", "dim"


async def play(cast: Cast, console: Console) -> dict[str, Story]:
    """Place all calls, and show them while they last; returns when every phone has hung up."""
    board = Board(cast)

    async def show(refresh: Callable[[], None]) -> None:
        while True:
            await board.look()
            refresh()
            await asyncio.sleep(LOOK_S)

    if console.is_terminal:
        with Live(picture.progress(board.lines()), console=console, refresh_per_second=8, transient=True) as screen:
            played = await _beside(show(lambda: screen.update(picture.progress(board.lines()))), _all(cast, board))
    else:
        played = await _beside(show(_Changes(board, console)), _all(cast, board))
    return played


async def _all(cast: Cast, board: Board) -> dict[str, Story]:
    played = await stories.all_at_once(cast, board.told)
    for story in played:
        for call in story.calls.values():
            await call.ended()
    return dict(zip((one.__name__ for one in stories.STORIES), played, strict=True))


async def _beside(shown: Any, work: Any) -> dict[str, Story]:
    """Do the work while something is shown beside it."""
    showing = asyncio.ensure_future(shown)
    try:
        done: dict[str, Story] = await work
        return done
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


class _Changes:
    """Where there is no terminal: a plain line for each change of a call's state."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._console, self._began = board, console, time.monotonic()
        self._shown: dict[str, str] = {}

    def __call__(self) -> None:
        for line in self._board.lines():
            if self._shown.get(line.title, "waits for its turn") != line.state:
                self._shown[line.title] = line.state
                passed = time.monotonic() - self._began
                self._console.print(f"  {passed:5.1f} s  {line.title}: {line.state}", highlight=False, soft_wrap=True)


# -- what became of them -----------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """One story: what pbxguard says of it, and what was measured."""

    name: str
    story: Story
    said: list[dict[str, Any]]
    """pbxguard's calls of this number, the first first."""
    verdict: Verdict | None = None
    wrong: str = ""
    folder: str = ""

    def rows(self, language: str) -> list[picture.Row]:
        """Its rows of the table: the call, and what a recorded call became afterwards."""
        first, *others = self.said
        rows = []
        if first["ever_recorded"]:
            seconds = self.verdict.recorded.seconds if self.verdict and self.verdict.recorded else None
            why = [_TOLD[language], *(f"{_STOPPED[language]}: {words}" for words in self._ends(language))]
            row = picture.Row(self.story.title, True, why, seconds, self.folder, wrong=self.wrong)
            rows.append(row)
            for later in others:
                why = [words[language] for words in later["words"]]
                rows.append(picture.Row(_THEN[language], later["ever_recorded"], why, then=True))
            return rows
        why = list(dict.fromkeys(words[language] for call in self.said for words in call["words"]))
        return [picture.Row(self.story.title, False, why, place=self.folder, wrong=self.wrong)]

    def _ends(self, language: str) -> list[str]:
        """Why recording stopped, as the manifest has it: the call itself may go on, and end for another reason."""
        if self.verdict is None or self.verdict.file is None:
            return []
        manifest = json.loads(self.verdict.file.with_suffix(".json").read_text())
        return [words_of(code)[language] for code in manifest["ended_by"]]


def words_of(code: str) -> dict[str, str]:
    """What pbxguard says of a reason in its reference, which is made from its code; the code itself where it is new."""
    found = re.search(rf"^\| `{re.escape(code)}` \| (.*?) \| (.*?) \|", REASONS.read_text(), re.MULTILINE)
    return {"en": found[1], "nl": found[2]} if found else {"en": code, "nl": code}


_STOPPED = {"en": "stopped", "nl": "gestopt"}
_TOLD = {"en": "told, and heard it to the end", "nl": "ingelicht, en hoorde het tot het einde"}
_THEN = {"en": "then, outside to outside", "nl": "daarna, buiten met buiten"}


async def judged(site: Installation, name: str, story: Story) -> Outcome:
    """Ask pbxguard what became of a call, and measure whether it is so."""
    await site.why(story.number)  # waits for the end
    said = sorted((await site.ask("/calls/why", who=story.number))["calls"], key=lambda call: str(call["began"]))
    outcome = Outcome(name, story, said)
    try:
        outcome.verdict = await verdicts.JUDGES[name](site, story)
    except (AssertionError, LabError) as error:
        outcome.wrong = str(error).splitlines()[0] or type(error).__name__
    return outcome


def is_ours(output: Path) -> bool:
    """Whether a folder may be emptied: there is nothing in it, or what a demo left."""
    readme = output / "README.txt"
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return True
    return readme.is_file() and readme.read_text(errors="replace").startswith(README.splitlines()[0])


async def leave(outcomes: list[Outcome], site: Installation, output: Path) -> None:
    """Copy everything worth a listen into the folder, anew."""
    if not is_ours(output):
        raise LabError(f"{output} holds something else by now, and is left alone")
    shutil.rmtree(output, ignore_errors=True)
    os.makedirs(output)
    (output / "README.txt").write_text(README)
    measured = []
    for number, outcome in enumerate(outcomes, 1):
        outcome.folder = f"{number}-{outcome.name.replace('_', '-')}/"
        folder = output / outcome.folder
        folder.mkdir()
        for file in site.files(outcome.story.number):
            shutil.copy(file, folder)
            shutil.copy(file.with_suffix(".json"), folder)
        for who, call in outcome.story.calls.items():
            if "heard" in call.paths:
                shutil.copy((await call.heard()).path, folder / f"heard-by-{who}.wav")
        measured += [f"{number} {outcome.story.title}", *(f"  + {held}" for held in _held(outcome))]
        measured += [f"  - {outcome.wrong}"] if outcome.wrong else []
    (output / "measured.txt").write_text("\n".join(measured) + "\n")
    shutil.copy(site.logfile, output / "pbxguard.log")


def _held(outcome: Outcome) -> list[str]:
    return outcome.verdict.held if outcome.verdict else []


# -- the whole ---------------------------------------------------------------------------------------------------------


class Ending:
    """Who asks for the end: it ends the wait of --keep, and before that the demo itself."""

    def __init__(self) -> None:
        self._awaited = False
        self._asked = asyncio.Event()

    def ask(self) -> bool:
        """True when somebody waits for it; else the demo is still busy."""
        self._asked.set()
        return self._awaited

    async def asked_for(self) -> None:
        self._awaited = True
        await self._asked.wait()


async def demo(options: Options, console: Console, ending: Ending) -> int:
    """The whole demo; returns its exit code. Nothing of it is left but the folder to listen to."""
    began = time.monotonic()
    console.print(Text(OPENING), soft_wrap=True)
    stage = Stage(console)
    ports = Ports.usual_where_free() if options.keep else Ports.free()
    site = DemoSite(stage, ports=ports, extra_lines=YOURS if options.keep else ())
    async with site, Phones(folder=site.home) as phones:
        cast = await Cast.gather(site, phones, stories.AGENTS)
        stage.done(f"{len(phones.phones)} real SIP phones on their lines")
        played = await play(cast, console)
        stage.done(f"{len(played)} calls placed, overlapping")
        outcomes = [await judged(site, name, story) for name, story in played.items()]
        await leave(outcomes, site, options.output)
        kept.keep(site.home, played)
        held = sum(len(_held(outcome)) for outcome in outcomes)
        stage.done("files and phones measured")
        console.print()
        console.print(picture.table([row for one in outcomes for row in one.rows(options.language)], stage.width))
        await _show_transfer(outcomes, console)
        code = _conclude(outcomes, held, options.output, console)
        console.print(_time(began))
        if options.keep:
            console.print(f"\n{invitation(site)}", highlight=False, markup=False, soft_wrap=True)
            await ending.asked_for()
            console.print("\nEnding it all ...")
    if options.keep:
        console.print(Text(f"Nothing is left running. To listen to: {options.output}"), soft_wrap=True)
    return code


async def _show_transfer(outcomes: list[Outcome], console: Console) -> None:
    (one,) = (outcome for outcome in outcomes if outcome.name == "transferred")
    if one.verdict is None or one.verdict.file is None:
        return
    console.print()
    console.print(Text("The transferred call: who could hear whom, from the phones' own recordings", style="bold"))
    console.print()
    console.print(picture.timeline(await hearing(one.story, one.verdict), picture.fitting(console.width)))


def _conclude(outcomes: list[Outcome], held: int, output: Path, console: Console) -> int:
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    console.print()
    if wrong:
        console.print(Text(f"✗ {len(wrong)} of {len(outcomes)} calls did not go as they should:", style="bold red"))
        for outcome in wrong:
            console.print(Text(f"  {outcome.story.title}: {outcome.wrong}"), soft_wrap=True)
    else:
        says = f"All {len(outcomes)} calls went as they should: {held} measurements in the sound held"
        console.print(Text.assemble(("✓ ", "green"), (says, "bold"), f" ({output.name}/measured.txt)."))
    console.print(Text(f"  To listen to: {output} (its README.txt says what is what)"), soft_wrap=True)
    return WRONG if wrong else FINE


def _time(began: float) -> Text:
    setup = float(os.environ.get("PBXGUARD_SETUP_S") or 0)
    taken = f"  It took {time.monotonic() - began:.0f} s"
    return Text(f"{taken} after {setup:.0f} s of set-up." if "PBXGUARD_SETUP_S" in os.environ else f"{taken}.")


def lacking() -> str:
    """What this machine lacks for the demo, and what to do; empty when nothing."""
    try:
        asterisk_tree.find()
    except asterisk_tree.NoAsterisk as error:
        return str(error)
    if importlib.util.find_spec("pjsua2") is None:
        return (
            "The demo's phones need pjsua2-python, which has wheels for Python 3.11 and 3.12 on x86_64 only.\n"
            "Remove .venv, put one of these on PATH and run script/demo again."
        )
    if shutil.which("espeak-ng") is None:
        return "The disclosures are spoken by espeak-ng, which is missing: apt-get install espeak-ng"
    return ""


async def _until_ended(options: Options, console: Console) -> int:
    """The demo, ended in order by SIGINT, SIGTERM or SIGHUP: all phones hung up, all processes gone."""
    ending = Ending()
    work = asyncio.ensure_future(demo(options, console, ending))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, lambda: ending.ask() or work.cancel())
    try:
        return await work
    except asyncio.CancelledError:
        console.print("Stopped; nothing is left running.")
        return STOPPED


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description="Eight real calls on a real Asterisk.")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C, to call yourself")
    parser.add_argument("--language", choices=("en", "nl"), default="en", help="of the reasons (default: en)")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"(default: {OUTPUT.name})")
    given = parser.parse_args()
    output = given.output.resolve()
    if not is_ours(output):
        parser.error(f"{output} holds something else: what the demo leaves needs a folder of its own")
    if lacks := lacking():
        print(lacks, file=sys.stderr)
        return LACKING
    console = Console(width=None if sys.stdout.isatty() else picture.WIDTH)
    try:
        return asyncio.run(_until_ended(Options(given.keep, given.language, output), console))
    except (LabError, PbxguardFailed) as error:
        console.print(Text(f"✗ {error}", style="red"), soft_wrap=True)
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
