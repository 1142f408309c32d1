"""The demo as a person runs it: `script/demo --keep` at a terminal, its calls measured, its invitation taken, Ctrl-C.

Its eight calls overlap on one real Asterisk. They are measured here anew, in the sealed files and at the phones, by
the measures of tests/lab/verdicts.py: what the demo prints is held against that, and nothing that it says is believed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import soundfile

from pbxguard.core.reasons import WORDS, Reason
from tests.lab import asterisk_tree, checker, demo_screen, kept, measure, stories, verdicts
from tests.lab.asterisk import REPO, Line, is_free
from tests.lab.checker import CheckFailed
from tests.lab.demo_screen import Row, blankless
from tests.lab.evidence import ended_call
from tests.lab.phone import Answer, Heard, PhoneCall, Phones
from tests.lab.signals import VOICES, Tone
from tests.lab.site import Site
from tests.lab.stories import AGENT_HZ, CUSTOMER, Story
from tests.lab.terminal import CTRL_C, Terminal
from tests.lab.verdicts import Verdict

AIM_S = 90.0
"""Of the demo's own time, after the set-up."""
READY_DEADLINE_S = 180.0
RECORDED = ("inbound", "queue", "outbound", "transferred")
REFUSED = {
    "objection": {Reason.OBJECTED, Reason.NOT_TOLD, Reason.PROMPT_CUT},
    "hung_up": {Reason.NO_OWN_PARTY, Reason.NOT_BRIDGED, Reason.NOT_TOLD, Reason.PROMPT_CHANNEL_GONE},
    "helpline": {Reason.NEVER_RECORD, Reason.NOT_TOLD},
    "forwarded": {Reason.NO_OWN_PARTY, Reason.NOT_TOLD},
}
AFTERWARDS = {Reason.NO_OWN_PARTY, Reason.NOT_TOLD}
"""Why what the transferred call became is not recorded."""
ENDS = {
    "inbound": {Reason.CALL_ENDED, Reason.EXTERNAL_LEFT, Reason.OWN_LEFT},
    "queue": {Reason.CALL_ENDED, Reason.EXTERNAL_LEFT, Reason.OWN_LEFT},
    "outbound": {Reason.CALL_ENDED, Reason.EXTERNAL_LEFT, Reason.OWN_LEFT},
    "transferred": {Reason.EXTERNAL_LEFT, Reason.OWN_LEFT},
}
"""Why recording may have stopped: both leave at once, Asterisk tells of one of them first. A transfer ends no call."""
SHOWN_WHILE = {
    "inbound": "● being recorded",
    "queue": "● being recorded",
    "outbound": "● being recorded",
    "objection": "○ talking, not recorded",
    "hung_up": "hears the disclosure",
    "helpline": "○ talking, not recorded",
    "forwarded": "○ talking, not recorded",
    "transferred": "with a third party: not recorded",
}
"""What the progress says of each call at some moment."""
NOTICE = "contract_evidence.nl.notice.inbound"
STAFF_HZ = VOICES[1]
TALK_S = 2.0
ENDED = "Nothing is left running"
STEPS = ["Asterisk", "disclosures", "DEMO", "pbxguard", "10", "8", "files"]
"""How the lines of what is done begin."""


@dataclass
class Shown:
    """The demo, when it has shown its table and says how to register a softphone."""

    terminal: Terminal
    text: str
    output: Path
    site: Site
    played: dict[str, Story]
    judged: dict[str, Verdict | Exception]
    """What is measured here of each story."""

    def row(self, name: str) -> Row:
        """The story's row of the table."""
        return self.rows[list(self.played).index(name)]

    @property
    def rows(self) -> list[Row]:
        """The numbered rows."""
        return [row for row in demo_screen.rows(self.text) if row.number]

    def verdict(self, name: str) -> Verdict:
        """What was measured; raises what did not hold."""
        found = self.judged[name]
        if isinstance(found, Exception):
            raise found
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demo(tree: asterisk_tree.Tree, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shown]:
    output = tmp_path_factory.mktemp("demo") / "left"
    strange = {"PYTHONPATH", "PBXGUARD_LAB_KEEP", "NO_COLOR", "COLUMNS", "LINES"}
    environment = {key: value for key, value in os.environ.items() if key not in strange} | {"TERM": "xterm-256color"}
    command = [str(REPO / "script" / "demo"), "--keep", "--output", str(output)]
    async with Terminal(command, cwd=output.parent, environment=environment) as terminal:
        await terminal.shows("in another terminal", READY_DEADLINE_S)
        text = await terminal.shows("pbxguard off\n", 5)
        print(text)  # to see, where a test fails
        found = re.search(r'--config ([^"]+)"', text)
        assert found
        site = Site(Path(found[1]).parent)
        played = kept.recall(site.home)
        judged: dict[str, Verdict | Exception] = {}
        for name, story in played.items():
            try:
                judged[name] = await verdicts.JUDGES[name](site, story)
            except (AssertionError, CheckFailed) as error:
                judged[name] = error
        yield Shown(terminal, text, output, site, played, judged)


# -- its calls, measured -----------------------------------------------------------------------------------------------


async def test_an_inbound_call_is_recorded_after_the_disclosure_and_to_its_end(demo: Shown) -> None:
    assert demo.verdict("inbound").held


async def test_a_queue_call_is_recorded_on_the_leg_of_the_member_who_answered(demo: Shown) -> None:
    assert demo.verdict("queue").held


async def test_the_customer_of_an_outbound_call_hears_the_disclosure_before_the_agent(demo: Shown) -> None:
    assert demo.verdict("outbound").held


async def test_a_caller_who_presses_9_is_not_recorded_and_is_connected(demo: Shown) -> None:
    assert demo.verdict("objection").held


async def test_a_caller_who_hangs_up_during_the_disclosure_leaves_no_file(demo: Shown) -> None:
    assert demo.verdict("hung_up").held


async def test_a_call_to_a_helpline_is_neither_told_nor_recorded(demo: Shown) -> None:
    assert demo.verdict("helpline").held


async def test_an_outside_caller_forwarded_outside_is_not_recorded(demo: Shown) -> None:
    assert demo.verdict("forwarded").held


async def test_a_transfer_by_refer_to_an_outside_number_ends_the_recording_before_the_third_party(demo: Shown) -> None:
    assert demo.verdict("transferred").held


async def test_nothing_is_left_in_the_spool(demo: Shown) -> None:
    async with Phones() as phones:
        await phones.until(lambda: not [p for p in demo.site.leftovers() if ".sln" in p.name], "an empty spool")


@pytest.mark.parametrize("name", RECORDED)
async def test_manifest_and_file_agree(name: str, demo: Shown) -> None:
    file = demo.verdict(name).file
    assert file is not None
    said = json.loads(file.with_suffix(".json").read_text())
    assert (await demo.site.run("recordings", "verify", said["recording"], "--json")).code == 0


# -- what it prints ----------------------------------------------------------------------------------------------------


async def test_it_tells_each_step_while_it_works(demo: Shown) -> None:
    steps = re.findall(r"^✓ (.*?) +\d+\.\d s$", demo.text, re.MULTILINE)
    assert [step.split()[0] for step in steps] == STEPS, steps
    for name, state in SHOWN_WHILE.items():
        assert re.search(rf"{re.escape(stories.TITLES[name])} +{re.escape(state)}", demo.text), f"{name}: {state}"
    for name in REFUSED:
        assert not re.search(rf"{re.escape(stories.TITLES[name])} +● being recorded", demo.text), name


async def test_the_table_has_a_row_for_each_call_with_its_decision(demo: Shown) -> None:
    assert [(row.number, row.call) for row in demo.rows] == [
        (str(n), stories.TITLES[name]) for n, name in enumerate(demo.played, 1)
    ]
    decisions = {name: demo.row(name).decision for name in demo.played}
    assert decisions == {name: "● recorded" if name in RECORDED else "○ not recorded" for name in demo.played}
    assert "✗" not in demo.text


@pytest.mark.parametrize("name", RECORDED)
async def test_the_row_of_a_recorded_call_agrees_with_its_file(name: str, demo: Shown) -> None:
    row = demo.row(name)
    (file,) = (demo.output / row.place).glob("*.flac")
    archived = demo.verdict(name).file
    assert archived is not None
    assert file.read_bytes() == archived.read_bytes()
    assert file.with_suffix(".json").read_bytes() == archived.with_suffix(".json").read_bytes()
    info = soundfile.info(file)
    assert row.sound == f"{info.frames / info.samplerate:.1f} s"
    assert info.channels == 2
    (ended_by,) = json.loads(file.with_suffix(".json").read_text())["ended_by"]
    assert Reason(ended_by) in ENDS[name]
    assert row.why == [
        blankless("told, and heard it to the end"),
        blankless(f"stopped: {WORDS[Reason(ended_by)].en}"),
    ]


@pytest.mark.parametrize("name", REFUSED)
async def test_the_row_of_a_refused_call_has_all_its_reasons_and_no_file(name: str, demo: Shown) -> None:
    row = demo.row(name)
    assert sorted(row.why) == sorted(blankless(WORDS[reason].en) for reason in REFUSED[name])
    assert row.sound == "none"
    left = sorted(file.suffix for file in (demo.output / row.place).iterdir())
    assert left
    assert set(left) == {".wav"}


async def test_what_the_transferred_call_became_has_a_row_and_reasons_of_its_own(demo: Shown) -> None:
    (then,) = [row for row in demo_screen.rows(demo.text) if not row.number]
    assert (then.decision, then.sound, then.place) == ("○ not recorded", "none", "")
    assert sorted(then.why) == sorted(blankless(WORDS[reason].en) for reason in AFTERWARDS)


async def test_reasons_are_words_and_no_codes(demo: Shown) -> None:
    codes = {reason.value for reason in Reason if "_" in reason.value}
    for row in demo_screen.rows(demo.text):
        assert not [why for why in row.why if any(code in why for code in codes)]


async def test_what_it_says_it_measured_is_what_is_measured_here(demo: Shown) -> None:
    left = (demo.output / "measured.txt").read_text()
    held: dict[str, list[str]] = {}
    title = ""
    for line in left.splitlines():
        if line.startswith("  "):
            held[title].append(line.removeprefix("  + "))
        else:
            title = line.partition(" ")[2]
            held[title] = []
    assert held == {stories.TITLES[name]: demo.verdict(name).held for name in demo.played}
    count = sum(map(len, held.values()))
    assert f"All {len(held)} calls went as they should: {count} measurements" in demo.text


async def test_the_timeline_shows_who_could_hear_whom_and_what_was_recorded(demo: Shown) -> None:
    picture = demo_screen.picture(demo.text)
    verdict, story = demo.verdict("transferred"), demo.played["transferred"]
    file, disclosed = verdict.recorded, verdict.disclosed_s
    assert file is not None
    assert disclosed is not None
    heard = await story.calls["customer"].heard()
    third_s = measure.first_heard(heard, stories.THIRD_HZ)
    told, recorded, refer, third = picture.marks
    assert told == (round(disclosed, 2), "told: he heard it to its end")
    assert recorded == (round(file.first_s, 2), f"recorded from here, to {file.last_s:.2f} s")
    assert refer == (round(story.moments["refer"] - heard.began, 2), "the agent's phone transfers him (REFER)")
    assert third == (round(third_s, 2), "the third party is heard; nobody records")
    assert told[0] < recorded[0] < file.last_s < third[0]

    ((_, told_to),) = picture.bars["the customer: the disclosure"]
    ((sealed_from, sealed_to),) = picture.bars["the sealed file: (measured)"]
    word = picture.bars["the manifest: (pbxguard's word)"]
    cell = picture.cell_s
    assert abs(picture.seconds(told_to) - disclosed) <= cell
    assert abs(picture.seconds(sealed_from) - file.first_s) <= cell
    assert abs(picture.seconds(sealed_to) - file.last_s) <= cell
    assert abs(picture.seconds(word[0][0]) - file.first_s) <= 2 * cell
    assert abs(picture.seconds(word[-1][1]) - file.last_s) <= 2 * cell
    assert picture.bars["hears: the agent"][0][0] >= told_to
    assert picture.bars["the agent hears: the customer"][0][0] >= told_to
    assert min(bar[0] for bar in picture.bars["hears: the third party"]) >= sealed_to
    assert min(bar[0] for bar in picture.bars["the third hears: the customer"]) >= sealed_to
    assert f"{file.seconds:.2f} s" in next(line for line in picture.text if line.startswith("the sealed file"))


async def test_it_prints_its_own_time(demo: Shown) -> None:
    found = re.search(r"It took (\d+) s after (\d+) s of set-up", demo.text)
    assert found
    taken = int(found[1])
    calls = [call for story in demo.played.values() for call in story.calls.values()]
    first = min(call.began for call in calls if call.began)
    last = max(call.ended_at for call in calls if call.ended_at)
    assert last - first <= taken + 1 <= AIM_S


async def test_it_leaves_what_is_worth_a_listen(demo: Shown) -> None:
    assert f"To listen to: {demo.output}" in demo.text
    told = (demo.output / "README.txt").read_text()
    assert "heard-by-*.wav" in told
    for name, story in demo.played.items():
        folder = demo.output / demo.row(name).place
        for who, call in story.calls.items():
            heard = await call.heard()
            samples, rate = soundfile.read(folder / f"heard-by-{who}.wav")
            assert (len(samples), rate) == (len(heard.samples), heard.rate)
            assert abs(samples).max() > 0.01, f"{name}: {who} heard nothing"


# -- calling it yourself -----------------------------------------------------------------------------------------------

PROMISED = {
    "0201112233": True,
    "113": False,
    "100": False,
    "31201234100": True,
    "31201234110": True,
    "31201235100": False,
    "31201237100": False,
    "31201239001": True,
    "31201239000": False,
}
"""Whether what one is invited to dial is to be recorded."""
VOICE = {"0201112233": STAFF_HZ, "31201234100": AGENT_HZ, "31201234110": STAFF_HZ, "31201239001": AGENT_HZ}
"""Whom of ours one then talks with."""
WHY_NOT = {
    "113": {Reason.NEVER_RECORD, Reason.NOT_TOLD},
    "31201235100": {Reason.OBJECTED, Reason.NOT_TOLD, Reason.PROMPT_CUT},
    "31201237100": {Reason.MARKED_PRIVATE, Reason.NOT_TOLD},
    "31201239000": {Reason.NO_OWN_PARTY, Reason.NOT_TOLD},
}
"""Of 100, a colleague, there is nothing to say: nobody from outside takes part."""
SHOWN_AS = {"0201112233": "+31201112233", "113": "113"}
"""By which number a call is found that is not the customer's."""


@dataclass
class Called:
    """What became of the calls that one is invited to place, by the number dialled."""

    said: dict[str, dict[str, Any]]
    """By pbxguard, at the end."""
    sound: dict[str, tuple[Heard, Heard]]
    """(heard, said) at whoever dialled."""
    files: set[Path]
    """All that were sealed meanwhile."""
    typed: dict[str, subprocess.CompletedProcess[str]]
    """What the commands for another terminal gave, by their last word but options."""


class Caller:
    """Two softphones, registered as it is printed, and nothing known but what is printed."""

    def __init__(self, demo: Shown, phones: Phones) -> None:
        self.site, self.phones = demo.site, phones
        self.staff_account, self.customer_account = demo_screen.softphones(demo.text)
        alias, *self.commands = demo_screen.commands(demo.text)
        self.alias = alias
        found = re.search(r" why (\S+)$", "\n".join(self.commands), re.MULTILINE)
        assert found
        self.number = found[1]
        self.calls: dict[str, PhoneCall] = {}
        self.typed: dict[str, subprocess.CompletedProcess[str]] = {}

    async def register(self) -> None:
        self.staff, self.customer = await asyncio.gather(
            self.phones.add(_line(self.staff_account), sends=Tone(STAFF_HZ), on_incoming=Answer(0.3)),
            self.phones.add(_line(self.customer_account), sends=CUSTOMER),
        )

    async def dial(self, number: str, keys: str = "") -> None:
        """Until it is recorded where it is to be, else until the two talk; and some talk."""
        by_staff = number in self.staff_account.numbers
        call = self.calls[number] = await (self.staff if by_staff else self.customer).call(number)
        await call.answered(deadline_s=30)
        if keys:
            await call.talk(1.5)
            await call.dtmf(keys)
        who = SHOWN_AS.get(number, self.number)
        if number != "100":
            await self._talking(who, self.staff_account.user if by_staff else number, PROMISED[number])
        await call.talk(TALK_S)
        if number == "31201234100":
            await self.type("calls")
        await call.hangup()

    async def _talking(self, who: str, own_number: str, recorded: bool) -> None:
        end = time.monotonic() + 30
        while True:
            live = (await self.site.ask("/calls"))["calls"]
            mine = [c for c in live if (c["external_number"], c["own_number"]) == (who, own_number)]
            if mine and (mine[0]["recorded"] if recorded else "not_bridged" not in mine[0]["reasons"]):
                return
            assert time.monotonic() < end, f"{who} and {own_number} do not talk: {live}"
            await asyncio.sleep(0.1)

    async def type(self, word: str) -> None:
        """A printed command, in a shell of its own, below the printed alias."""
        (command,) = (line for line in self.commands if word in line.split())
        script = f"shopt -s expand_aliases\n{self.alias}\n{command}\n"
        self.typed[word] = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
        )


def _line(account: demo_screen.Softphone) -> Line:
    return Line(account.user, "", password=account.password, server=account.server)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def called(demo: Shown) -> Called:
    """Everything that one is invited to do, in four waves: no phone has two calls at once, or it is not recorded."""
    before = set(demo.site.archive.rglob("*.flac"))
    async with Phones() as phones:
        one = Caller(demo, phones)
        await one.register()
        await asyncio.gather(*map(one.dial, ("31201234100", "31201234110", "31201239000")))
        await asyncio.gather(*map(one.dial, ("31201237100", "31201239001", "0201112233")))
        await asyncio.gather(one.dial("31201235100", keys="9"), one.dial("113"))
        await one.dial("100")
        sound = {number: await measure.pair(call) for number, call in one.calls.items()}
        said = {
            number: await ended_call(
                demo.site, SHOWN_AS.get(number, one.number), one.staff_account.user if number in SHOWN_AS else number
            )
            for number in one.calls
            if number != "100"
        }
        await phones.until(lambda: all(_sealed(demo.site, said[number]) for number in VOICE), "all sealed", 30)
        await asyncio.gather(one.type("why"), one.type("list"))
        await one.type("off")
        after = set(demo.site.archive.rglob("*.flac"))
        return Called(said, sound, after - before, one.typed)


def _file(site: Site, said: dict[str, Any]) -> Path:
    """The sealed file of a recorded call; a path that is not there while there is none."""
    return next(iter(site.archive.rglob(f"*_{said['recording']}.flac")), site.archive / "none.flac")


def _sealed(site: Site, said: dict[str, Any]) -> bool:
    return _file(site, said).with_suffix(".json").exists()


async def test_it_invites_a_member_of_staff_and_a_customer_and_says_what_becomes_of_each_call(demo: Shown) -> None:
    staff, customer = demo_screen.softphones(demo.text)
    assert (staff.who, customer.who) == ("as staff", "as a customer")
    promises = {**staff.numbers, **customer.numbers}
    assert set(promises) == set(PROMISED)
    for number, promise in promises.items():
        recorded = "recorded" in promise and not re.search(r"never recorded|not recorded", promise)
        assert recorded == PROMISED[number], promise


@pytest.mark.parametrize("number", [number for number in VOICE if number not in SHOWN_AS])
async def test_a_softphone_registered_as_it_says_is_told_and_then_recorded(
    number: str, demo: Shown, called: Called
) -> None:
    file = _file(demo.site, called.said[number])
    assert file in called.files
    heard, said = called.sound[number]
    disclosed = measure.prompt_end(heard, verdicts.prompt(demo.site, NOTICE))
    found = measure.recorded(file, said, CUSTOMER)
    assert found.first_s > disclosed
    assert found.seconds > TALK_S - verdicts.LOST_S
    assert measure.voices(found.own, CUSTOMER) == {f"{VOICE[number]:g}"}
    assert measure.voices(found.others, CUSTOMER) == {"chirp"}


async def test_the_customer_that_staff_dial_is_told_and_then_recorded(demo: Shown, called: Called) -> None:
    said = called.said["0201112233"]
    assert said["told"]
    file = _file(demo.site, said)
    assert file in called.files
    own, others = checker.read(file)
    assert own.seconds > TALK_S - verdicts.LOST_S
    assert measure.voices(own, CUSTOMER) == {f"{STAFF_HZ:g}"}
    assert measure.voices(others, CUSTOMER) == {"chirp"}
    heard, spoken = await measure.pair(_last_call_of_the_called(demo.site))
    disclosed = measure.prompt_end(heard, verdicts.prompt(demo.site, "contract_evidence.nl.notice.outbound"))
    assert measure.first_heard(heard, STAFF_HZ) >= disclosed
    assert measure.recorded(file, spoken, CUSTOMER).first_s > disclosed


def _last_call_of_the_called(site: Site) -> PhoneCall:
    """The last one at the demo's own phone on `trunk-b`, which is called as a customer."""
    heard = max(site.home.glob("*-trunk-b-*-heard.wav"), key=lambda path: path.stat().st_mtime)
    paths = {"heard": str(heard), "said": str(heard).replace("-heard.wav", "-said.wav")}
    return kept.over(site.home, "", ended_at=1.0, paths=paths)


@pytest.mark.parametrize("number", WHY_NOT)
async def test_what_it_says_is_never_recorded_is_not_for_the_reasons_that_it_says(
    number: str, demo: Shown, called: Called
) -> None:
    said = called.said[number]
    assert {Reason(code) for code in said["reasons"]} == WHY_NOT[number]
    assert not said["ever_recorded"]


async def test_nothing_but_the_promised_calls_was_sealed(demo: Shown, called: Called) -> None:
    heard, _ = called.sound["100"]
    assert measure.first_heard(heard, AGENT_HZ) >= 0, "staff and a colleague talked"
    assert called.files == {_file(demo.site, called.said[number]) for number in VOICE}


async def test_the_commands_that_it_prints_work_as_they_stand(demo: Shown, called: Called) -> None:
    codes = {word: ran.returncode for word, ran in called.typed.items()}
    assert codes == {"calls": 0, "why": 0, "list": 0, "off": 0}
    assert "being recorded" in called.typed["calls"].stdout
    assert "recorded" in called.typed["why"].stdout
    for number in VOICE:
        assert str(called.said[number]["recording"]) in called.typed["list"].stdout
    assert not (await demo.site.status())["on"]


# -- the end -----------------------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """Before and after Ctrl-C."""

    ports: list[int]
    free_before: list[int]
    lived: dict[int, str]
    code: int
    text: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ended(demo: Shown, called: Called) -> Ended:
    found = re.search(r"is up on 127\.0\.0\.1: SIP (\d+), AMI (\d+), ARI (\d+)", demo.text)
    assert found
    ports = [int(port) for port in found.groups()]
    lived, free = demo.terminal.left(), [port for port in ports if is_free(port)]
    demo.terminal.press(CTRL_C)
    code = await demo.terminal.ended()
    return Ended(ports, free, lived, code, demo.terminal.text)


async def test_ctrl_c_leaves_no_process_and_no_port(demo: Shown, ended: Ended) -> None:
    assert ended.free_before == [], "the control: they are taken while it runs"
    for one in ("asterisk -f", "pbxguard", "phone_worker"):
        assert [line for line in ended.lived.values() if one in line], f"the control: {one} is found while it runs"
    assert demo.terminal.left() == {}
    assert [port for port in ended.ports if not is_free(port)] == []
    assert ended.code == 0
    assert "Traceback" not in ended.text


async def test_ctrl_c_leaves_what_is_to_be_listened_to_and_nothing_else(demo: Shown, ended: Ended) -> None:
    assert not demo.site.home.parent.exists()
    assert f"To listen to: {demo.output}" in ended.text[ended.text.index(ENDED) :]
    left = sorted(file.suffix for file in demo.output.rglob("*") if file.is_file())
    assert left.count(".flac") == left.count(".json") == len(RECORDED)
    for file in demo.output.rglob("*.flac"):
        assert soundfile.info(file).frames
