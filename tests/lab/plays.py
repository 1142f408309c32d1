"""Owns: one customer's call as a scene of several acts, played beside others, and its sealed file beside its phones.

A scene says who does what, and what pbxguard said of the live call at some moments; what ought to have become of it
stands in the test. The customer says a chirp, the agent who answers `AGENT_HZ`, any other of ours `OTHER_HZ`, third
parties `THIRD_HZ`. Imports nothing of pbxguard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import checker, measure
from tests.lab.asterisk import LabError, Line
from tests.lab.checker import Detector, Track
from tests.lab.evidence import calls_of, manifest, prompt, until_recorded
from tests.lab.installation import POLL_S, SEAL_DEADLINE_S, Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones, Policy, Reject
from tests.lab.signals import VOICES, Chirp, Tone
from tests.lab.stories import Story

CUSTOMER = Chirp()
AGENT_HZ, OTHER_HZ, THIRD_HZ = VOICES[:3]
TALK_S = 2.5
LOST_S = 0.8
"""Most of a talk that cuts and starts may cost on a busy machine."""
STAGGER_S = 0.4
QUIET_S = 0.8
"""So long before somebody is first heard for good there is nothing of him: no bit that a stall tore off either."""
NOTICE = "contract_evidence.nl.notice.inbound"
WINDOW_S = 0.005


@dataclass
class Scene(Story):
    """A story with what pbxguard said of the live call at some moments."""

    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    third: str = ""
    """The number of the third party, where one was dialled."""

    def reasons(self, moment: str) -> set[str]:
        return set(self.views[moment]["reasons"])


OUTSIDE = (
    Line("trunk-c", "from-trunk", host="127.0.0.5"),
    Line("trunk-d", "from-trunk", host="127.0.0.6"),
    Line("trunk-e", "from-trunk", host="127.0.0.7"),
)
"""Carriers of third parties: the first two answer (each takes four calls at once), the third declines."""
DIALS = """
; third parties, dialled without any disclosure: 8 and 9 answer, 7 declines
exten => _8X.,1,Dial(PJSIP/${EXTEN:1}@trunk-d,60,tT)
exten => _7X.,1,Dial(PJSIP/${EXTEN:1}@trunk-e,60,tT)
"""
"""For the context `internal`, beside the installation's own 9."""


@dataclass
class Office:
    """The phones of all scenes of a module."""

    site: Installation
    carriers: tuple[Phone, ...]
    thirds: tuple[Phone, ...]
    own: dict[str, Phone]

    @classmethod
    async def gather(
        cls, site: Installation, phones: Phones, agents: Iterable[str], others: Iterable[str] = (), *, carriers: int = 2
    ) -> Office:
        """Put a phone on every line: customers, third parties, agents (`AGENT_HZ`) and others of ours (`OTHER_HZ`)."""
        a = site.asterisk
        tones = {name: AGENT_HZ for name in agents} | {name: OTHER_HZ for name in others}
        third: list[Policy] = [Answer(0.3), Answer(0.3), Reject(486)]
        lines = [line for line in OUTSIDE if line.name in {known.name for known in a.lines}]
        made = await asyncio.gather(
            *(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(carriers)),
            *(
                phones.add(a.line(line.name), sends=Tone(THIRD_HZ), on_incoming=policy)
                for line, policy in zip(lines, third, strict=False)
            ),
            *(phones.add(a.line(name), sends=Tone(hz), on_incoming=Answer(0.3)) for name, hz in tones.items()),
        )
        outside = carriers + len(lines)
        return cls(
            site, tuple(made[:carriers]), tuple(made[carriers:outside]), dict(zip(tones, made[outside:], strict=True))
        )

    async def inbound(self, title: str, did: str, number: str, agent: str = "") -> Scene:
        """A customer calls, is told, and is answered by the agent (when there is one) and recorded."""
        scene = Scene(title, number)
        carrier = min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))
        scene.calls["customer"] = await carrier.call(did, caller_id=number)
        if agent:
            scene.calls["agent"] = leg = await self.own[agent].incoming(number=number, deadline_s=30)
            await leg.answered()
            scene.views["at first"] = await until_recorded(self.site, number)
        return scene

    async def third_of(self, dialled: str, deadline_s: float = 20.0) -> PhoneCall:
        """The third party's call that was dialled as this number of his, once it has come in."""

        def found() -> list[PhoneCall]:
            calls = [call for phone in self.thirds for call in phone.calls]
            return [call for call in calls if call.invite.startswith(f"INVITE sip:{dialled}@")]

        await self.thirds[0].phones.until(found, f"a call to {dialled}", deadline_s)
        return found()[-1]

    async def outside(self, agent: str, dialled: str) -> tuple[PhoneCall, PhoneCall]:
        """The agent's phone calls a third party (8 or 9 before his number): (its call, the third party's)."""
        own = await self.own[agent].call(dialled)
        third = await self.third_of(dialled[1:])
        await own.answered()
        return own, third

    async def channel(self, begins: str, number: str = "") -> str:
        """The name of the one channel up whose name begins so and that shows this number."""
        rows = [row.split("!") for row in (await self.site.asterisk.cli("core show channels concise")).splitlines()]
        names = [row[0] for row in rows if row[0].startswith(begins) and (not number or number in row)]
        if len(names) != 1:
            raise LabError(f"not one channel {begins} {number}: {rows}")
        return names[0]

    async def clear(self) -> None:
        """Hang up whatever a scene left, so that it does no harm to the next ones."""
        phones = (*self.carriers, *self.thirds, *self.own.values())
        await asyncio.gather(*(call.hangup() for phone in phones for call in phone.calls if call.ended_at is None))
        await self.site.asterisk.idle()


Play = Callable[[Office], Awaitable[Scene]]


class Played(Mapping[str, Scene]):
    """The scenes by the name of their function; one that failed raises its own error in the test that asks for it."""

    def __init__(self, results: Mapping[str, Scene | BaseException]) -> None:
        self._results = results

    def __getitem__(self, name: str) -> Scene:
        result = self._results[name]
        if isinstance(result, BaseException):
            raise result
        return result

    def __iter__(self) -> Any:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


async def play(office: Office, waves: Sequence[Sequence[Play]]) -> Played:
    """Every scene of a wave overlaps the others; the next wave begins when its last call has ended."""

    async def after(seconds: float, scene: Play) -> Scene:
        await asyncio.sleep(seconds)  # not all begin in the same instant: a phone without time loses a packet
        return await scene(office)

    results: dict[str, Scene | BaseException] = {}
    for wave in waves:
        told = await asyncio.gather(
            *(after(STAGGER_S * n, scene) for n, scene in enumerate(wave)), return_exceptions=True
        )
        results.update({scene.__name__: one for scene, one in zip(wave, told, strict=True)})
        await office.clear()
    return Played(results)


@dataclass(frozen=True)
class File:
    """A sealed file beside what its customer heard and said. `spans` are those of his chirp, on his timeline."""

    path: Path
    own: Track
    others: Track
    heard: Heard
    said: Heard
    spans: tuple[tuple[float, float], ...]

    @property
    def last_s(self) -> float:
        """Position on the customer's timeline of the last of his sound in the file."""
        return self.spans[-1][1]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Those of which something was kept."""
        return [segment for segment in manifest(self.path)["segments"] if segment["kept_samples"]]

    @property
    def gaps(self) -> list[list[str]]:
        """The reasons of each gap."""
        return [gap["reasons"] for gap in manifest(self.path)["gaps"]]

    def part(self, number: int) -> tuple[Track, Track]:
        """Both tracks of segment `number` (from 0)."""
        borders = [segment["file_offset"] / self.own.rate for segment in self.segments] + [self.own.seconds]
        return self.own.part(borders[number], borders[number + 1]), self.others.part(
            borders[number], borders[number + 1]
        )

    def unspliced(self) -> list[Track]:
        """Both tracks of every segment by itself: two voices that meet click louder than one that is cut."""
        return [track for number in range(len(self.segments)) for track in self.part(number)]

    def is_free_of(self, hertz: float, control: Heard, window_s: float = WINDOW_S) -> None:
        """No window of either track has this tone; the phone in `control` heard it.

        The floor is measured on what the customer said and, until the tone came, heard.
        """
        tone, heard = measure.track(control), measure.track(self.heard)
        arrived = [s for s in checker.spans(heard, hertz) if s.seconds > 0.05]
        talk = measure.first_heard(self.heard, AGENT_HZ)
        until = arrived[0].start_s - QUIET_S if arrived and control is self.heard else talk + TALK_S
        quiet = [heard.part(talk + 0.2, until), measure.track(self.said).part(1.0, until)]
        found = Detector.calibrate(hertz, tone, quiet, window_s)
        assert found.find(tone), "the detector is blind"
        assert found.shortest_s <= window_s
        for track in self.unspliced():
            assert found.find(track) == []


def notice_end(heard: Heard, sound: Path) -> float:
    """Where a notice that was begun is due to end: a phone on a busy machine may lose a bit on the way."""
    found = measure.prompt_heard(heard, sound)
    assert found is not None, f"{sound.name} was not heard"
    assert found.heard_s > 1.0, f"{sound.name} was heard for {found.heard_s:.2f} s only"
    return found.start_s + checker.read(sound)[0].seconds - measure.SLIP_S


async def file_of(site: Installation, scene: Scene, notice: str = NOTICE) -> File:
    """The one sealed file of a scene: the customer on his side, and nothing before the end of the notice."""
    heard, said = await measure.pair(scene.calls["customer"])
    disclosed = notice_end(heard, prompt(site, notice))
    path = await site.sealed(scene.number)
    file = measure.recorded(path, said, CUSTOMER)
    spans = measure.positions(file.others, said, CUSTOMER)
    assert spans[0][0] > disclosed
    found = measure.voices(file.others, CUSTOMER)
    assert found == {"chirp"}, found
    return File(path, file.own, file.others, heard, said, tuple(spans))


async def both_voices(site: Installation, scene: Scene, *hertz: float, seconds: float) -> File:
    """Recorded: the customer's chirp, on the left exactly these of ours, and at most `LOST_S` of `seconds` missing."""
    file = await file_of(site, scene)
    assert measure.voices(file.own, CUSTOMER) == {f"{tone:g}" for tone in hertz}
    assert file.own.seconds > seconds - LOST_S
    return file


async def reasons(site: Installation, number: str) -> set[str]:
    """The whole set of reasons why the last call of a number is not recorded, once it has ended."""
    return set((await site.why(number))["reasons"])


async def told_and_refused(site: Installation, scene: Scene, reasons: set[str]) -> Heard:
    """Told, never recorded, for exactly these reasons; gives what the customer heard."""
    heard, _ = await measure.pair(scene.calls["customer"])
    notice_end(heard, prompt(site, NOTICE))
    await site.why(scene.number)
    # A call that was forwarded for him shows his number as its own.
    said = next(call for call in await calls_of(site, scene.number) if call["external_number"] == scene.number)
    assert said["ended"]
    assert set(said["reasons"]) == reasons, said["reasons"]
    assert not said["ever_recorded"], "a recorder ran"
    assert site.files(scene.number) == []
    return heard


async def nothing_left(site: Installation) -> None:
    """No file of a recorder is left in the spool, a moment after the last call."""
    end = time.monotonic() + SEAL_DEADLINE_S
    while left := [path for path in site.leftovers() if ".sln" in path.name]:
        if time.monotonic() > end:
            raise LabError(f"left in the spool: {left}")
        await asyncio.sleep(POLL_S)
