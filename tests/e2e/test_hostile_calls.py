"""Callers whose every byte is hostile, on the real Asterisk: told and recorded like any other, and obeyed by nobody.

One installation, its AMI and ARI traffic written down. The calls overlap; when they are over, what they sent is looked
for in everything that pbxguard made: names of files, actions, log lines, tables, tags, manifests, answers, terminals.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, measure
from tests.lab.asterisk import LabError
from tests.lab.evidence import calls_of, manifest, prompt
from tests.lab.installation import POLL_S, SEAL_DEADLINE_S, Installation
from tests.lab.phone import Answer, Heard, Phone, Phones
from tests.lab.raw_phone import RawPhone
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
AGENTS = [str(number) for number in range(100, 106)]
TALK_S = 2.5
NOTICE = "contract_evidence.nl.notice.inbound"
MARK = "Mk"
"""In every hostile text, so that it can be looked for."""
BENIGN = "+31612345001"
HERE = b"@lab.invalid>"

DIALPLAN = """
; f(): the agents' phones would refuse an INVITE with such bytes in it
; 3120128PPCC: to phone 1PP, for case CC
exten => _3120128XXXX,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,UserEvent(Said,Num: ${CALLERID(num)})
 same => n,Dial(PJSIP/1${EXTEN:7:2},60,tTf(Somebody <1>))
; the same with whatever a caller dials behind it, and his name as a reference
exten => _3120127XXXX!,1,Gosub(pbxguard-disclose,s,1(contract_evidence,reference=${CALLERID(name)}))
 same => n,Dial(PJSIP/1${EXTEN:7:2},60,tTf(Somebody <1>))
"""


@dataclass(frozen=True)
class Hostile:
    """What a caller sends: the From header's value, further headers, and what he dials behind the number."""

    sender: bytes
    headers: tuple[bytes, ...] = ()
    behind: bytes = b""
    plan: str = "3120128"
    known: str = ""
    """By which number the call is found, where what he dialled is believed no more."""


def shown(name: bytes, user: bytes) -> bytes:
    return b'"' + name + b'" <sip:' + user + HERE


HONEST = shown(b"Mk Benign", BENIGN.encode())
SWITCH = b"1%0d%0a%0d%0aEvent%3a%20VarSet%0d%0aVariable%3a%20PBXGUARD%0d%0aValue%3a%20off%0d%0a%0d%0a"
CASES: dict[str, Hostile] = {
    "benign": Hostile(HONEST),
    "paths": Hostile(shown(b"../../Mk", b"..%2f..%2fMk")),
    "commas and pipes": Hostile(shown(b"Mk,a|b;c&d=e", b"Mk%2c1%7c2%26x")),
    "expansions": Hostile(shown(b"${SHELL(id)}Mk $[1+1] ^{x}", b"Mk%24%7bSHELL(id)%7d%24%5b1%5d")),
    "an event": Hostile(shown(b"Mk", SWITCH)),
    "a header": Hostile(shown(b"Mk", b"1%0d%0aUniqueid%3a%20Mk%0d%0aLinkedid%3a%20Mk")),
    "a line feed": Hostile(shown(b"Mk", b"1%0aMk")),
    "quotes": Hostile(shown(b"Mk\\\"' OR 1=1;--\\\\", b"Mk%22%27%3b--")),
    "emoji": Hostile(shown("Mk😀".encode(), b"Mk%f0%9f%98%80")),
    "a terminal's orders": Hostile(shown(b"\x1b[2JMk\xe2\x80\xae\x7f", b"%1b%5b2JMk%e2%80%ae")),
    "300 characters": Hostile(shown(b"Mk" * 150, b"Mk" * 150)),
    "nobody": Hostile(b"<sip:lab.invalid>"),
    "anonymous": Hostile(b'"Anonymous" <sip:anonymous@anonymous.invalid>'),
    "no UTF-8": Hostile(shown(b"Mk\xff\xfe", b"Mk")),
    "headers": Hostile(
        shown(b"Mk", b"+31612345002"),
        (
            b'P-Asserted-Identity: "Mk\x1b[2J" <sip:Mk%0d%0aUniqueid%3a%20Mk' + HERE,
            b"Diversion: <sip:Mk%0d%0a%0d%0aEvent%3a%20Hangup%0d%0a" + HERE + b";reason=unconditional",
            b'Reason: Q.850;cause=16;text="Mk\x1b[2J"',
            b"User-Agent: Mk\x1b[2J ${SHELL(id)}",
            b"X-Mk: " + b"Mk,|${}\xff" * 100,
            b"Subject: Mk",
            b"Call-Info: <sip:Mk>",
        ),
    ),
    "a name as reference": Hostile(shown(b"Mk,did=112,queue=x", b"Mk"), plan="3120127"),
    "a number dialled": Hostile(
        shown(b"Mk", b"+31612345003"), (), b"%0d%0aUniqueid%3a%20Mk%0d%0a%0d%0aEvent%3a%20Mk", "3120127", "+31612345003"
    ),
    "an end of the row dialled": Hostile(
        shown(b"Mk", b"+31612345004"),
        (),
        b"%0d%0aPriority%3a%201%0d%0aUniqueid%3a%20Mk%0d%0aLinkedid%3a%20Mk%0d%0a%0d%0aEvent%3a%20Mk",
        "3120127",
        "+31612345004",
    ),
}


@dataclass
class Called:
    """One call as it went."""

    number: str
    status: int = 0
    heard: Heard | None = None
    said: Heard | None = None
    why: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None
    agent_heard: Heard | None = None


@dataclass
class Evening:
    """All calls, and what was left of them."""

    site: Installation
    calls: dict[str, Called]


async def _settled(site: Installation, number: str) -> tuple[dict[str, Any], Path | None]:
    """The one ended call to this number, and its file."""
    end = asyncio.get_running_loop().time() + SEAL_DEADLINE_S
    while True:
        found = [call for call in await calls_of(site, number) if call["ended"]]
        if found:
            call = found[0]
            files = sorted(site.archive.rglob(f"*_{call['recording']}.flac")) if call["ever_recorded"] else []
            if not call["ever_recorded"] or (files and files[0].with_suffix(".json").exists()):
                return call, files[0] if files else None
        if asyncio.get_running_loop().time() > end:
            raise LabError(f"no ended call to {number}: {await calls_of(site, number)}\n{site.log()[-3000:]}")
        await asyncio.sleep(POLL_S)


async def _place(site: Installation, phone: Phone, agent: str, index: int, case: Hostile, folder: Path) -> Called:
    number = f"{case.plan}{agent[1:]}{index:02d}"
    called = Called(number)
    async with RawPhone(site.asterisk.line("trunk-a"), folder, says=CUSTOMER) as caller:
        before = len(phone.calls)
        await caller.call(number.encode() + case.behind, sender=case.sender, headers=case.headers)
        called.status = caller.status
        leg = await phone.incoming(after=before, deadline_s=20)
        await leg.answered()
        await caller.talk(TALK_S)
        await caller.hang_up()
        called.agent_heard = await leg.heard()
        called.heard, called.said = caller.heard(), caller.said()
    return called


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def evening(tree: asterisk_tree.Tree, phones: Phones, tmp_path_factory: Any) -> AsyncIterator[Evening]:
    site = Installation(dialplan=DIALPLAN, proxied=True)
    lab = site.asterisk
    more = "[trunk-a](+type=endpoint)\ntrust_id_inbound=yes\nsend_pai=yes\nsend_rpid=yes\n"
    lab.files = {"pjsip.conf": lab._pjsip_conf("alaw,ulaw") + more}
    folder = tmp_path_factory.mktemp("raw")
    async with site:
        free: asyncio.Queue[Phone] = asyncio.Queue()
        added = [
            await phones.add(lab.line(agent), sends=Tone(AGENT_HZ), on_incoming=Answer(0.1), name=f"hostile-{agent}")
            for agent in AGENTS
        ]
        for phone in added:
            free.put_nowait(phone)

        async def one(index: int, case: Hostile) -> Called:
            phone = await free.get()
            try:
                return await _place(site, phone, phone.line.name, index, case, folder)
            finally:
                free.put_nowait(phone)

        calls = await asyncio.gather(*(one(index, case) for index, case in enumerate(CASES.values())))
        for called, case in zip(calls, CASES.values(), strict=True):
            called.why, called.file = await _settled(site, case.known or called.number)
        try:
            yield Evening(site, dict(zip(CASES, calls, strict=True)))
        finally:
            for phone in added:
                await phones.remove(phone)


@pytest.mark.parametrize("what", CASES)
async def test_the_call_works_and_is_told_and_recorded_like_any_other(evening: Evening, what: str) -> None:
    called = evening.calls[what]
    assert called.status == 200
    assert called.heard is not None
    assert called.said is not None
    assert called.agent_heard is not None
    told = measure.prompt_end(called.heard, prompt(evening.site, NOTICE))
    assert measure.first_heard(called.heard, AGENT_HZ) > told
    assert "chirp" in measure.voices(measure.track(called.agent_heard), CUSTOMER)
    assert called.why["told"], called.why
    assert called.file is not None, called.why
    recorded = measure.recorded(called.file, called.said, CUSTOMER)
    assert recorded.first_s > told
    assert measure.voices(recorded.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(recorded.others, CUSTOMER) == {"chirp"}
    assert recorded.seconds > TALK_S - 0.8


async def test_every_name_of_a_file_is_of_our_making(evening: Evening) -> None:
    site = evening.site
    for file in (one for one in site.archive.rglob("[!.]*") if one.is_file() and ".work" not in one.parts):
        name = str(file.relative_to(site.archive))
        assert re.fullmatch(
            r"\d{4}/\d\d/\d\d/\d{8}T\d{6}Z_contract_evidence_(?:\d{6,15}|anonymous)_[a-z2-7]{16}\.(?:flac|json)", name
        ), name
    assert len(list(site.archive.rglob("*.flac"))) == len(CASES)
    assert site.files(BENIGN) == [evening.calls["benign"].file], "an honest number is found where it belongs"
    assert site.leftovers() == []


async def test_no_action_holds_what_a_caller_wrote(evening: Evening) -> None:
    ami, ari = bytes(evening.site.ami_proxy.said), bytes(evening.site.ari_proxy.said)
    assert ami.count(b"Action: MixMonitor\r\n") >= len(CASES), "the actions were written down"
    assert b"/continue" in ari
    for said in (ami, ari):
        assert MARK.encode() not in said
        assert BENIGN.encode() not in said
        assert b"\x1b" not in said
    for line in ami.split(b"\r\n"):
        assert line == b"" or re.fullmatch(rb"[A-Za-z]+: [\x20-\x7e]*", line), line


async def test_every_log_line_is_a_json_object_without_a_callers_text(evening: Evening) -> None:
    lines = evening.site.log().splitlines()
    assert len(lines) > 5 * len(CASES)
    for line in lines:
        assert isinstance(json.loads(line), dict), line
        assert line.isascii(), line
        assert line.isprintable(), line
        assert MARK not in line
        assert BENIGN.lstrip("+") not in line
    assert len(evening.site.events("ami.forged")) <= 4, "told once for each connection"
    assert evening.site.events("ami.forged"), "line ends in numbers were seen"
    assert not evening.site.events("switch.off")
    assert not evening.site.events("ami.lost")


async def test_the_database_holds_data(evening: Evening) -> None:
    database = sqlite3.connect(f"file:{evening.site.home}/pbxguard.db?mode=ro", uri=True)
    try:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        rows = {name: database.execute(f"select * from {name}").fetchall() for name in names}
    finally:
        database.close()
    assert {"calls", "recordings", "audit"} <= {name for name in names if rows[name]}, names
    assert sum(BENIGN in map(str, row) for row in rows["recordings"]) == 1
    whole = json.dumps(rows, default=str)
    assert "\\u001b" not in whole
    assert "SHELL" not in whole


def _tags(file: Path) -> list[str]:
    subprocess.run(["flac", "-t", "-s", str(file)], check=True)
    ran = subprocess.run(
        ["metaflac", "--no-utf8-convert", "--export-tags-to=-", str(file)], capture_output=True, check=True
    )
    return ran.stdout.decode().splitlines()


@pytest.mark.parametrize("what", CASES)
async def test_tags_and_manifest_read_as_plain_data(evening: Evening, what: str) -> None:
    called = evening.calls[what]
    assert called.file is not None
    tags = _tags(called.file)
    assert all(re.fullmatch(r"[A-Z_]+=.*", line) and line.isprintable() for line in tags), tags
    data = manifest(called.file)
    assert data["call"]["uniqueid"] == called.why["call"]
    assert MARK not in data["call"]["uniqueid"]
    honest = [
        number for number in (BENIGN, "+31612345002", "+31612345003", "+31612345004") if f"CALLER_ID={number}" in tags
    ]
    numbers = {"benign": BENIGN, "a number dialled": "+31612345003", "an end of the row dialled": "+31612345004"}
    if what in numbers:
        assert honest == [numbers[what]]
        assert data["call"]["caller_id"] == numbers[what]
    elif what != "headers":
        assert "CALLER_ID=anonymous" in tags


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield from _texts(key)
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


async def test_no_terminal_gets_an_order(evening: Evening) -> None:
    site = evening.site
    commands = [
        ("recordings", "list"),
        ("recordings", "list", "--json"),
        ("calls",),
        *(("why", called.number) for called in evening.calls.values()),
        ("why", evening.calls["an event"].number, "--json"),
        ("recordings", "show", str(evening.calls["a terminal's orders"].why["recording"])),
    ]
    outputs = []
    for words in commands:
        ran = await site.run(*words)
        for text in (ran.out, ran.err):
            assert all(letter.isprintable() or letter == "\n" for letter in text), (words, text)
        outputs.append(ran.out)
    assert BENIGN in outputs[0], "an honest number is shown"
    assert json.loads(outputs[1])["recordings"]
    for path in ("/calls", "/calls/why", "/status"):
        for text in _texts(await site.ask(path)):
            assert MARK not in text or len(text) <= 64


async def test_none_of_them_moved_the_switch_or_touched_another_call(evening: Evening) -> None:
    status = await evening.site.status()
    assert status["ready"]
    assert await evening.site.asterisk.channels() == []
    recordings = [called.why["recording"] for called in evening.calls.values()]
    assert len(set(recordings)) == len(CASES)
