"""Owns: an office whose phones have the keys of config/asterisk/features.conf, and calls in which they are pressed.

Every call of a wave overlaps with the others. What a call says is held against its file by the tests that ask for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import measure
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import LabError
from tests.lab.checker import Detector, Track
from tests.lab.deaths import rows
from tests.lab.evidence import manifest, prompt, until_recorded, until_refused
from tests.lab.installation import KEYS, Installation
from tests.lab.phone import Phone, PhoneCall, Phones
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp()
AGENT_HZ, OTHER_HZ = VOICES[:2]
"""An agent, and what a customer says that must not be in the file."""
TALK_S = 3.0
LOST_S = 0.8
"""Most of a talk that cuts and starts may cost on a busy machine."""
WINDOW_S = 0.005
OBJECT, PAUSE, RESUME, PRIVATE, BEGIN = "*90", "*91", "*92", "*93", "*94"
PROOF, TRAIN, BOTH, LAW = "31201230", "31201231", "31201232", "31201233"
"""Numbers, before the agent's: as proof, to train, for both, by law."""
NOTHING = "31201229"
"""As these, with no door before the agent: nothing is asked for."""
NOTICE = "contract_evidence.nl.notice.inbound"
DIALPLAN = "".join(
    f"exten => _{did}XXX,1,Set(__DYNAMIC_FEATURES={KEYS})\n"
    f" same => n,Gosub(pbxguard-disclose,s,1({purposes}))\n"
    " same => n,Dial(PJSIP/${EXTEN:8},60,tT)\n"
    for did, purposes in (
        (PROOF, "contract_evidence"),
        (TRAIN, "quality_training"),
        (BOTH, "contract_evidence&quality_training"),
        (LAW, "mifid_order"),
    )
) + (f"exten => _{NOTHING}XXX,1,Set(__DYNAMIC_FEATURES={KEYS})\n same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)\n")
SETTINGS = """
[limits]
hold_trust = 60.0
[purposes.mifid_order]
active = true
"""


@dataclass
class Talk:
    """One customer's call with an agent, and what pbxguard said of it at some moments."""

    office: Office
    number: str
    extension: str
    customer: PhoneCall
    agent: PhoneCall
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    lamps: dict[str, str] = field(default_factory=dict)

    async def recorded(self, moment: str, on: bool = True) -> dict[str, Any]:
        """Waits until it is being recorded, or not; what is said of it then."""
        self.views[moment] = view = await until_recorded(self.office.site, self.number, on)
        return view

    async def refused(self, moment: str, reasons: set[str]) -> None:
        """Waits until it is not recorded for exactly these reasons."""
        self.views[moment] = await until_refused(self.office.site, self.number, reasons)

    async def confirmed(self, effect: str) -> None:
        """Waits until it is said to the customer what came of his objection."""
        await self.office.until(lambda: self.confirmations == [effect], f"told that it is {effect}")

    @property
    def confirmations(self) -> list[str]:
        """What he was told, and heard in full, of his objection."""
        said = self.office.site.events("objection.confirmed")
        return [line["effect"] for line in said if line["call"] == self.id]

    async def lamp(self, moment: str, state: str) -> None:
        """Waits until the agent's lamp shows this."""
        self.lamps[moment] = await self.office.lamp(self.extension, state)

    async def says_what_must_not_be_kept(self, seconds: float = 1.5) -> None:
        """The customer speaks in another voice, and then in his own again."""
        await self.customer.say(Tone(OTHER_HZ))
        await self.customer.talk(seconds)
        await self.customer.say(CUSTOMER)
        await self.customer.talk(0.5)

    async def over(self) -> None:
        await self.customer.hangup()
        await self.office.site.why(self.number)

    @property
    def id(self) -> str:
        """Of the call, as pbxguard names it."""
        return str(next(iter(self.views.values()))["call"])

    def lines(self, kind: str) -> list[str]:
        """The audit log's lines of this kind about the call's channel."""
        query = "SELECT data FROM audit WHERE kind = ? AND (channel = ? OR call = ?) ORDER BY number"
        return [data for (data,) in rows(self.office.site, query, kind, self.id, self.id)]


@dataclass
class Office:
    site: Installation
    carriers: tuple[Phone, ...]
    agents: dict[str, Phone]
    ami: Ami

    async def talk(self, did: str, extension: str, number: str, *, recorded: bool = True) -> Talk:
        """A customer calls this agent, is told, and is being recorded."""
        carrier = min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))
        customer = await carrier.call(f"{did}{extension}", caller_id=number)
        agent = await self.agents[extension].incoming(number=number, deadline_s=30)
        await agent.answered()
        talk = Talk(self, number, extension, customer, agent)
        if recorded:
            await talk.recorded("at first")
        return talk

    async def lamp(self, extension: str, state: str, deadline_s: float = 10.0) -> str:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            shown = await self.ami.action("Getvar", Variable=f"DEVICE_STATE(Custom:pbxguard-{extension})")
            if shown.get("Value") == state:
                return state
            if loop.time() > end:
                raise LabError(f"the lamp of {extension} is not {state}: {shown}")
            await asyncio.sleep(0.05)

    def destroyed(self, talk: Talk) -> list[str]:
        """The certificates of the call's destruction."""
        return talk.lines("recording.destroyed")

    async def until(self, true: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while not true():
            if loop.time() > end:
                raise LabError(f"not {what}; log:\n{self.site.log()[-3000:]}")
            await asyncio.sleep(0.05)

    def everything_kept(self) -> list[Path]:
        """Every file of the installation: log, database, archive, spool, and pbxguard's own folders."""
        return [path for path in self.site.home.rglob("*") if path.is_file() and not path.is_symlink()]


async def gather(site: Installation, phones: Phones, extensions: tuple[str, ...], ami: Ami) -> Office:
    a = site.asterisk
    carriers = await asyncio.gather(*(phones.add(a.line(f"trunk-{x}"), sends=CUSTOMER) for x in "abc"))
    agents = await asyncio.gather(*(phones.add(a.line(e), sends=Tone(AGENT_HZ)) for e in extensions))
    return Office(site, tuple(carriers), dict(zip(extensions, agents, strict=True)), ami)


Play = Callable[[Office], Awaitable[Talk]]


async def played(
    waves: tuple[tuple[Play, ...], ...], extensions: tuple[str, ...], **options: Any
) -> AsyncIterator[tuple[Office, dict[str, Talk]]]:
    """The office, once all of its calls were played; wave after wave, those of one wave at once."""
    settings = SETTINGS + str(options.pop("settings", ""))
    async with (
        Installation(dialplan=DIALPLAN, settings=settings, **options) as site,
        Phones() as phones,
        connect(site.asterisk) as ami,
    ):
        office = await gather(site, phones, extensions, ami)
        talks: dict[str, Talk] = {}
        for wave in waves:
            told = await asyncio.gather(*(_after(0.4 * n, play, office) for n, play in enumerate(wave)))
            talks.update({play.__name__: talk for play, talk in zip(wave, told, strict=True)})
            await site.asterisk.idle()
        yield office, talks


async def _after(seconds: float, play: Play, office: Office) -> Talk:
    await asyncio.sleep(seconds)
    return await play(office)


@dataclass(frozen=True)
class Kept:
    """A sealed file beside what its customer said."""

    path: Path
    own: Track
    others: Track
    manifest: dict[str, Any]

    @property
    def gaps(self) -> list[list[str]]:
        return [gap["reasons"] for gap in self.manifest["gaps"]]


async def kept(talk: Talk, disclosure: str = NOTICE) -> Kept:
    """The call's sealed file: both voices on their sides, nothing before the notice's end, and nothing of the tone
    that the customer's phone said while nothing might be recorded (where it said it)."""
    heard, said = await measure.pair(talk.customer)
    disclosed = measure.prompt_end(heard, prompt(talk.office.site, disclosure))
    path = await talk.office.site.sealed(talk.number)
    file = measure.recorded(path, said, CUSTOMER)
    assert file.first_s > disclosed
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    return Kept(path, file.own, file.others, manifest(path))


async def without_the_other_voice(talk: Talk, file: Kept) -> None:
    """Not 5 ms of what the customer said meanwhile; the detector finds it in what his phone sent.

    In his track: the agent's holds the agent's voice alone (`kept`), and what comes from his phone is nobody else's.
    """
    _, said = await measure.pair(talk.customer)
    sent = measure.track(said)
    begin = measure.first_heard(said, OTHER_HZ)
    found = Detector.calibrate(OTHER_HZ, sent, [sent.part(0.0, begin - 0.5)], WINDOW_S)
    assert found.find(sent), "the detector is blind"
    assert found.shortest_s <= WINDOW_S
    assert found.find(file.others) == []


def digits_in(path: Path, digits: str) -> bool:
    """Whether a file holds these keys in a row, as text, however they are kept apart."""
    apart = rb"[^0-9*#]{0,6}".join(re.escape(digit.encode()) for digit in digits)
    return re.search(apart, path.read_bytes()) is not None
