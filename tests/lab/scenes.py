"""Owns: calls between a customer and an office, and what ought to be in the sealed file of one. Knows no pbxguard.

A scene is a story with what the service said of its live call at some moments. Customers say a chirp, the agents who
answer `AGENT_HZ`, others of ours `OTHER_HZ`, third parties `THIRD_HZ`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import checker, measure
from tests.lab.checker import Detector, Track
from tests.lab.evidence import manifest, prompt, reasons, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Silence, Sound, Tone
from tests.lab.stories import Story

CUSTOMER = Chirp()
AGENT_HZ, OTHER_HZ, THIRD_HZ = VOICES[:3]
TALK_S = 2.5
LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on a busy machine."""
STAGGER_S = 0.4
SETTLED_S = 0.4
"""Well away from the begin of a voice, where the channel may still click."""
QUIET_S = 0.8
"""So long before somebody is first heard for good there is nothing of him."""
WINDOW_S = 0.005
NOTICE = "contract_evidence.nl.notice.inbound"


@dataclass
class Scene(Story):
    """A story with what pbxguard said of its live call at some moments."""

    views: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reasons(self, moment: str) -> set[str]:
        return set(self.views[moment]["reasons"])


@dataclass
class Office:
    """The phones of the scenes. `carriers` are where customers call from, `third` answers all outside numbers."""

    site: Installation
    phones: Phones
    carriers: tuple[Phone, ...]
    third: Phone
    own: dict[str, Phone]
    more: dict[str, Phone] = field(default_factory=dict)
    """Phones that a test adds, on other lines or of another kind."""

    @property
    def carrier(self) -> Phone:
        """The one with the fewest calls that go on now."""
        return min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))

    async def inbound(self, title: str, did: str, number: str, agent: str = "", wait: bool = True) -> Scene:
        """A customer calls, is told, and is answered by the agent, when there is one; `wait`: until it is recorded."""
        scene = Scene(title, number)
        scene.calls["customer"] = await self.carrier.call(did, caller_id=number)
        if agent:
            scene.calls["agent"] = leg = await self.own[agent].incoming(number=number, deadline_s=30)
            await leg.answered()
            if wait:
                scene.views["at first"] = await until_recorded(self.site, number)
        return scene

    async def outside(self, agent: str, dialled: str) -> tuple[PhoneCall, PhoneCall]:
        """The agent's phone calls an outside number: (his call, the third party's)."""
        own = await self.own[agent].call(dialled)
        third = await self.third.incoming(number=agent, deadline_s=15)
        await own.answered()
        return own, third

    async def view(self, scene: Scene, moment: str, on: bool = True, by: str = "") -> None:
        """Waits until the scene's call is (or is not) recorded, and keeps what is said of it."""
        scene.views[moment] = await until_recorded(self.site, scene.number, on, by=by, deadline_s=20)


@asynccontextmanager
async def office(
    site: Installation,
    agents: Iterable[str],
    others: Collection[str] = (),
    silent: Collection[str] = (),
    carriers: int = 2,
) -> AsyncIterator[Office]:
    """An office whose phones are on their lines: `agents` say `AGENT_HZ`, those of them in `others` `OTHER_HZ`.

    More than three voices at once clip, and what clips makes voices that nobody has: let the fourth be `silent`.
    """

    def says(name: str) -> Sound:
        return Silence() if name in silent else Tone(OTHER_HZ if name in others else AGENT_HZ)

    async with Phones() as phones:
        a = site.asterisk
        outside = await asyncio.gather(*(phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(carriers)))
        third = await phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.3))
        names = list(agents)
        own = await asyncio.gather(
            *(phones.add(a.line(name), sends=says(name), on_incoming=Answer(0.4)) for name in names)
        )
        yield Office(site, phones, tuple(outside), third, dict(zip(names, own, strict=True)))


Play = Callable[[Office], Awaitable[Scene]]


async def played(cast: Office, *plays: Play) -> dict[str, Scene]:
    """The scenes, overlapping, by the names of their functions."""

    async def after(seconds: float, play: Play) -> Scene:
        # Not all in the same instant: a phone that gets no time loses a packet of what it hears.
        await asyncio.sleep(seconds)
        return await play(cast)

    told = await asyncio.gather(*(after(STAGGER_S * n, play) for n, play in enumerate(plays)))
    await cast.site.asterisk.idle()
    return {play.__name__: scene for play, scene in zip(plays, told, strict=True)}


# -- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A sealed file beside what its customer heard and said."""

    path: Path
    own: Track
    others: Track
    heard: Heard
    said: Heard

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Of the manifest, those of which something was kept."""
        return [segment for segment in manifest(self.path)["segments"] if segment["kept_samples"]]

    @property
    def gap_reasons(self) -> list[list[str]]:
        return [gap["reasons"] for gap in manifest(self.path)["gaps"]]

    def part(self, first: int, last: int | None = None) -> tuple[Track, Track]:
        """Both tracks from the begin of segment `first` (from 0) to the begin of segment `last`, or to the end."""
        starts = [segment["file_offset"] / self.own.rate for segment in self.segments]
        begin, end = starts[first], self.own.seconds if last is None else starts[last]
        return self.own.part(begin, end), self.others.part(begin, end)

    def is_free_of(self, hertz: float, control: Heard, *quiet: Track, window_s: float = WINDOW_S) -> None:
        """No window of either track has this tone; the phone in `control` heard (or said) it, `quiet` did not."""
        # Segment by segment: where two voices meet it clicks, twice as loud as where one is cut.
        starts = range(len(self.segments))
        parts = [self.part(one, one + 1 if one + 1 in starts else None) for one in starts]
        absent(hertz, control, [track for both in parts for track in both], *quiet, window_s=window_s)


def absent(hertz: float, control: Heard, where: Iterable[Track], *quiet: Track, window_s: float = WINDOW_S) -> None:
    """As `File.is_free_of`, in these tracks."""
    found = Detector.calibrate(hertz, measure.track(control), list(quiet), window_s)
    assert found.find(measure.track(control)), "the detector is blind"
    assert found.shortest_s <= window_s
    for track in where:
        assert found.find(track) == []


def before(heard: Heard, since_hz: float, until_hz: float) -> Track:
    """What a phone heard while the voice of `since_hz` was there and that of `until_hz` was not yet."""
    begin = measure.first_heard(heard, since_hz) + SETTLED_S
    return measure.track(heard).part(begin, measure.first_heard(heard, until_hz) - QUIET_S)


def own_voice(said: Heard) -> Track:
    """What the customer said, its begin left out: a detector's floor has his voice in it."""
    return measure.track(said).part(1.0)


async def file_of(site: Installation, scene: Scene, notice: str = NOTICE) -> File:
    """The one sealed file of a scene: both voices on their sides, nothing before the end of the notice."""
    heard, said = await measure.pair(scene.calls["customer"])
    disclosed = measure.prompt_end(heard, prompt(site, notice))
    path = await site.sealed(scene.number)
    file = measure.recorded(path, said, CUSTOMER)
    assert file.first_s > disclosed
    assert "chirp" in measure.voices(file.others, CUSTOMER)
    assert "chirp" not in measure.voices(file.own, CUSTOMER)
    return File(path, file.own, file.others, heard, said)


async def untouched(site: Installation, scene: Scene, expected: set[str], notice: str = NOTICE) -> None:
    """Told of `notice` (when one is named), never recorded, for exactly these reasons."""
    if notice:
        heard, _ = await measure.pair(scene.calls["customer"])
        measure.prompt_end(heard, prompt(site, notice))
    assert await reasons(site, scene.number) == expected
    assert site.files(scene.number) == []
    assert not (await site.why(scene.number))["ever_recorded"]


async def plain(site: Installation, scene: Scene, agent_hz: float = AGENT_HZ, notice: str = NOTICE) -> File:
    """Recorded in one segment from the notice to the end: the twin that shows what is recorded otherwise."""
    file = await file_of(site, scene, notice)
    assert len(file.segments) == 1
    assert file.own.seconds > TALK_S - LOST_S
    assert measure.voices(file.own, CUSTOMER) == {f"{agent_hz:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    return file


def chirps(heard: Heard) -> list[checker.Stretch]:
    """Where a phone heard a customer."""
    return checker.chirp_stretches(measure.track(heard), CUSTOMER)
