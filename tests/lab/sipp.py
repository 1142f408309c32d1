"""Owns: load. SIPp places many calls at once, each with a tone of its own, and plays agents who answer with one.

For behaviour use tests/lab/phone.py: SIPp keeps nothing of what it hears.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.lab.asterisk import Asterisk, LabError, Line
from tests.lab.signals import Tone, alaw

AGENT_HZ = 3100.0
RTP_PORTS = (10000, 19000)  # below Asterisk's
STOP_DEADLINE_S = 5.0
LONGEST_S = 60.0
"""An agent whose call was never ended (its Asterisk died) gives it up."""


@dataclass(frozen=True)
class LoadCall:
    """One call: the number it shows, the number it dials, the tone its caller says."""

    caller_id: str
    number: str
    hertz: float
    holds: bool = True
    """Whether it puts itself on hold for the end of its talk, where the load has holds at all."""


@dataclass(frozen=True)
class LoadResult:
    """What SIPp counted at its end."""

    successful: int
    failed: int
    folder: Path  # its logs


def distinct_calls(count: int, number: str = "31201234100") -> list[LoadCall]:
    """Up to 130 calls whose tones are 20 Hz apart from 300 Hz on, all below the agents' tone."""
    if count > 130:
        raise LabError("no room for so many tones below the agents'")
    return [LoadCall(f"+31610{n:06d}", number, 300.0 + 20 * n) for n in range(count)]


async def call_many(
    asterisk: Asterisk,
    calls: Sequence[LoadCall],
    *,
    talk_s: float,
    per_second: float = 100.0,
    line: str = "trunk-a",
    deadline_s: float = 120.0,
    hold_s: float = 0.0,
    held_hz: float = 0.0,
) -> LoadResult:
    """Places all calls (started at `per_second`), each hung up `talk_s` after its answer.

    For the last `hold_s` of it the caller puts the call on hold, by a re-INVITE, and then sends a tone of `held_hz`
    (one that does not hold sends that too).
    """
    folder = asterisk.run_dir / "sipp" / f"calls-{asyncio.get_running_loop().time():.6f}"
    folder.mkdir(parents=True)
    tones = list(dict.fromkeys(call.hertz for call in calls))
    for hertz in tones:
        await asyncio.to_thread(_write_tone, folder, hertz)
    if held_hz:
        await asyncio.to_thread(_write_tone, folder, held_hz)
    rows = [f"{call.caller_id};{call.number};{tones.index(call.hertz)};{int(call.holds)};" for call in calls]
    (folder / "calls.csv").write_text("SEQUENTIAL\n" + "\n".join(rows) + "\n")
    (folder / "uac.xml").write_text(_uac(folder, tones, talk_s, hold_s, held_hz))
    source = asterisk.line(line)
    command = _command(source, folder, "uac", port=0)
    command += [f"127.0.0.1:{asterisk.sip_port}", "-inf", str(folder / "calls.csv")]
    command += ["-m", str(len(calls)), "-l", str(len(calls)), "-r", str(per_second)]
    process = await _start(asterisk, folder, command)
    try:
        async with asyncio.timeout(deadline_s):
            code = await process.wait()
    except TimeoutError:
        raise LabError(f"SIPp did not end in {deadline_s} s; see {folder}") from None
    finally:
        await _end(process)
    successful, failed = _counts(folder)
    if successful + failed != len(calls):
        raise LabError(f"SIPp ended with {code} after {successful + failed} of {len(calls)} calls; see {folder}")
    return LoadResult(successful, failed, folder)


@asynccontextmanager
async def agents(
    asterisk: Asterisk, *, line: str = "190", ring_s: float = 0.2, tones: Sequence[float] = (AGENT_HZ,)
) -> AsyncIterator[Path]:
    """Agents on a line with a static contact: every call rings, is answered, and hears a tone until hung up.

    Of several tones, a call to ``sip:007@...`` hears number 7.
    """
    folder = asterisk.run_dir / "sipp" / f"agents-{asyncio.get_running_loop().time():.6f}"
    folder.mkdir(parents=True)
    for hertz in tones:
        _write_tone(folder, hertz)
    (folder / "uas.xml").write_text(_uas(folder, tones, ring_s))
    place = asterisk.line(line)
    process = await _start(asterisk, folder, _command(place, folder, "uas", port=place.port))
    try:
        yield folder
        if process.returncode is not None:
            raise LabError(f"the agents' SIPp ended by itself with {process.returncode}; see {folder}")
    finally:
        await _end(process)


def _command(line: Line, folder: Path, scenario: str, port: int) -> list[str]:
    command = ["sipp", "-sf", str(folder / f"{scenario}.xml"), "-i", line.host, "-mi", line.host]
    command += ["-min_rtp_port", str(RTP_PORTS[0]), "-max_rtp_port", str(RTP_PORTS[1]), "-nostdin"]
    command += ["-trace_err", "-error_file", str(folder / "errors.log")]
    command += ["-trace_stat", "-stf", str(folder / "stat.csv"), "-fd", "1"]
    return command + (["-p", str(port)] if port else [])


async def _start(asterisk: Asterisk, folder: Path, command: list[str]) -> asyncio.subprocess.Process:
    if asterisk.tree.root is None and shutil.which("sipp") is None:
        raise LabError("sipp is not on PATH; on Debian it is in the package sip-tester")
    with (folder / "screen.log").open("wb") as out:
        return await asyncio.create_subprocess_exec(
            *asterisk.tree.argv(command, binds=[asterisk.run_dir]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _counts(folder: Path) -> tuple[int, int]:
    """Successful and failed calls, from the last line of SIPp's statistics."""
    with (folder / "stat.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    return int(rows[-1]["SuccessfulCall(C)"]), int(rows[-1]["FailedCall(C)"])


def _tone_path(folder: Path, hertz: float) -> Path:
    return folder / f"{hertz:g}.alaw"


def _write_tone(folder: Path, hertz: float) -> None:
    _tone_path(folder, hertz).write_bytes(alaw(Tone(hertz).samples(8000)))


def _play(folder: Path, hertz: float) -> str:
    return f"<exec rtp_stream={quoteattr(f'{_tone_path(folder, hertz)},-1,8,PCMA/8000')}/>"


SDP = """\
v=0
o=sipp 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
a=ptime:20"""

FIRST = "sip:[field1]@[remote_ip]:[remote_port]"
HEADERS = """\
From: <sip:[field0]@[local_ip]:[local_port]>;tag=[pid]l[call_number]
To: <sip:[field1]@[remote_ip]:[remote_port]>{to}
Call-ID: [call_id]
CSeq: {cseq}
Contact: <sip:load@[local_ip]:[local_port]>
Max-Forwards: 70"""


def _request(method: str, cseq: int, to: str = "[peer_tag_param]", body: str = "", target: str = "[next_url]") -> str:
    lines = [
        f"{method} {target} SIP/2.0",
        "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch];rport",
        HEADERS.format(to=to, cseq=f"{cseq} {method}"),
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]",
        "",
        body,
    ]
    return "<![CDATA[\n" + "\n".join(lines) + "\n]]>"


def _choice(folder: Path, tones: Sequence[tuple[int, float]]) -> tuple[str, str]:
    """Plays the tone that belongs to variable `n`.

    rtp_stream's file is fixed in the scenario: so every call passes all of them and plays that of its own number.
    """
    tests = "".join(f'<test assign_to="is{n}" variable="n" compare="equal" value="{n}"/>' for n, _ in tones)
    plays = "".join(f'<nop condexec="is{n}"><action>{_play(folder, hertz)}</action></nop>\n' for n, hertz in tones)
    return tests, plays


def _uac(folder: Path, tones: Sequence[float], talk_s: float, hold_s: float, held_hz: float) -> str:
    tests, plays = _choice(folder, list(enumerate(tones)))
    bye, hold = 2, ""
    if hold_s:
        bye, hold = 4, _hold(_play(folder, held_hz) if held_hz else "", hold_s)
        tests += HOLDS
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="callers">
<nop><action><assignstr assign_to="own" value="[field2]"/><todouble assign_to="n" variable="own"/>{tests}</action></nop>
<send retrans="500">{_request("INVITE", 1, to="", body=SDP, target=FIRST)}</send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="183" optional="true"/>
<recv response="200" rrs="true"/>
<send>{_request("ACK", 1)}</send>
{plays}<pause milliseconds="{round((talk_s - hold_s) * 1000)}"/>
{hold}<send retrans="500">{_request("BYE", bye)}</send>
<recv response="200"/>
</scenario>
"""


HOLDS = """
<assignstr assign_to="h" value="[field3]"/><todouble assign_to="hold" variable="h"/>
<test assign_to="stays" variable="hold" compare="equal" value="0"/>"""


def _hold(play: str, seconds: float) -> str:
    body = SDP.replace("1 1 IN", "1 2 IN") + "\na=sendonly"
    return f"""<nop next="1" test="stays"/>
<send retrans="500">{_request("INVITE", 3, body=body)}</send>
<recv response="100" optional="true"/>
<recv response="200"/>
<send>{_request("ACK", 3)}</send>
<label id="1"/>
<nop><action>{play}</action></nop>
<pause milliseconds="{round(seconds * 1000)}"/>
"""


def _answer(status: str, body: str = "", tag: str = ";tag=[pid]a[call_number]") -> str:
    lines = [
        f"SIP/2.0 {status}",
        "[last_Via:]",
        "[last_From:]",
        f"[last_To:]{tag}",
        "[last_Call-ID:]",
        "[last_CSeq:]",
        "Contact: <sip:agent@[local_ip]:[local_port]>",
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]",
        "",
        body,
    ]
    return "<![CDATA[\n" + "\n".join(lines) + "\n]]>"


def _uas(folder: Path, tones: Sequence[float], ring_s: float) -> str:
    if len(tones) == 1:
        asked, plays = "", f"<nop><action>{_play(folder, tones[0])}</action></nop>"
    else:
        tests, plays = _choice(folder, list(enumerate(tones)))
        asked = f"""<action>
<ereg regexp="sip:([0-9]+)@" search_in="msg" check_it="true" assign_to="uri,own"/>
<todouble assign_to="n" variable="own"/>{tests}</action>"""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="agents">
<recv request="INVITE" crlf="true">{asked}</recv>
<send>{_answer("180 Ringing")}</send>
<pause milliseconds="{round(ring_s * 1000)}"/>
<send retrans="500">{_answer("200 OK", SDP)}</send>
<recv request="ACK"/>
{plays}
<recv request="BYE" timeout="{round(LONGEST_S * 1000)}"/>
<send>{_answer("200 OK", tag="")}</send>
<timewait milliseconds="1000"/>
{'<Reference variables="uri"/>' if asked else ""}
</scenario>
"""
