"""Connections that break in the middle of recorded calls: each loss is cut out, and the same recording goes on.

One call goes through every fault of AMI, beside it one whose agent transfers it away in the dark, and callers whose
ARI breaks. While pbxguard is blind the agent says a tone of its own, which the customer's phone hears and no file may
hold. The proxy that breaks stands between pbxguard and Asterisk and is no part of either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest_asyncio

from tests.lab import asterisk_tree, checker, measure
from tests.lab.evidence import manifest, prompt, reasons, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones
from tests.lab.proxy import Cut, Side, every, seeing_events, websockets, without_events
from tests.lab.signals import VOICES, Chirp, Tone

CUSTOMER = Chirp(sweep_s=30.0)
AGENT_HZ, BLIND_HZ, THIRD_HZ, _ = VOICES
TALK_S = 2.0
BLIND_S = 1.5
"""Less than pbxguard needs to notice a half-open connection."""
LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on a busy machine."""
AGAIN_S = 20.0
NOTICE = "contract_evidence.nl.notice.inbound"
LONG, REFERRED, THROUGHOUT = "+31612347001", "+31612347002", "+31612347003"
CUT, HALF_OPEN, AFTER = "+31612347004", "+31612347005", "+31612347006"
GARBAGE = b"\xff\x00#\r"


@dataclass
class Loss:
    """One fault of AMI: `began` is `time.monotonic` seconds, `blind` whether the agent said something in it."""

    name: str
    began: float
    blind: bool
    reasons: set[str]


@dataclass
class Long:
    """The call that goes through every fault."""

    customer: PhoneCall
    agent: PhoneCall
    losses: list[Loss] = field(default_factory=list)


@dataclass
class Office:
    site: Installation
    phones: Phones
    carrier: Phone
    other_carrier: Phone
    third: Phone
    agents: dict[str, Phone]

    async def inbound(self, number: str, agent: str, carrier: Phone | None = None) -> tuple[PhoneCall, PhoneCall]:
        customer = await (carrier or self.carrier).call(f"31201234{agent}", caller_id=number)
        leg = await self.agents[agent].incoming(number=number, deadline_s=40)
        await leg.answered()
        return customer, leg

    def started(self, recording: str) -> int:
        """How many segments of a recording were begun."""
        return len([row for row in self.site.events("recorder.started") if row["recording"] == recording])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tree: asterisk_tree.Tree) -> AsyncIterator[Office]:
    async with Installation(proxied=True) as site, Phones() as phones:
        a = site.asterisk
        one, two = [await phones.add(a.line("trunk-a"), sends=CUSTOMER) for _ in range(2)]
        third = await phones.add(a.line("trunk-c"), sends=Tone(THIRD_HZ), on_incoming=Answer(0.2))
        names = ("100", "101", "103", "104", "105", "106")
        agents = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in names))
        yield Office(site, phones, one, two, third, dict(zip(names, agents, strict=True)))


async def lose(office: Office, long: Long, name: str, why: set[str], fault: Callable[[], Awaitable[bool]]) -> None:
    """Talk, break it, and wait until the call is recorded again. `fault` gives whether something was said in it."""
    site = office.site
    await long.customer.talk(TALK_S)
    recording = (await until_recorded(site, LONG))["recording"]
    before, began = office.started(recording), time.monotonic()
    blind = await fault()
    await office.phones.until(lambda: office.started(recording) > before, f"a new segment after {name}", AGAIN_S)
    site.ami_proxy.release()  # what was half-open is over for Asterisk, too
    long.losses.append(Loss(name, began, blind, why))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def referred(office: Office) -> tuple[PhoneCall, PhoneCall]:
    """A recorded call that waits to be transferred to an outside number while pbxguard is blind."""
    call = await office.inbound(REFERRED, "101")
    await until_recorded(office.site, REFERRED)
    return call


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def long(office: Office, referred: tuple[PhoneCall, PhoneCall]) -> Long:
    """The call through every fault, with the other one transferred in the first."""
    proxy = office.site.ami_proxy
    customer, agent = await office.inbound(LONG, "100")
    long = Long(customer, agent)
    transferred: list[asyncio.Task[PhoneCall]] = []

    async def blind() -> bool:
        await agent.say(Tone(BLIND_HZ))
        await customer.talk(BLIND_S)
        await agent.say(Tone(AGENT_HZ))
        await customer.talk(0.2)  # until it is heard
        return True

    async def with_fin() -> bool:
        await proxy.shut()
        assert proxy.cut(Cut.FIN) == 2
        transferred.append(asyncio.create_task(referred[1].refer("931108880701")))
        await blind()
        await transferred[0]
        await proxy.open()
        return True

    async def with_rst() -> bool:
        await proxy.shut()
        assert proxy.cut(Cut.RST) == 2
        await blind()
        await proxy.open()
        return True

    async def half_open() -> bool:
        assert proxy.hold(Side.BOTH, every) == 2
        return await blind()

    async def no_events() -> bool:
        assert proxy.hold(Side.TO_CLIENT, seeing_events)
        return await blind()

    async def no_actions() -> bool:
        assert proxy.hold(Side.BOTH, without_events)
        return await blind()

    async def garbage() -> bool:
        proxy.inject(GARBAGE, seeing_events)
        return False

    await lose(office, long, "FIN", {"not_connected"}, with_fin)
    await lose(office, long, "RST", {"not_connected"}, with_rst)
    await lose(office, long, "half-open", {"beat_late"}, half_open)
    await lose(office, long, "no events", {"beat_late"}, no_events)
    await lose(office, long, "no actions", {"beat_late"}, no_actions)
    await lose(office, long, "garbage", {"not_connected"}, garbage)
    await customer.talk(TALK_S)
    await customer.hangup()
    await referred[0].hangup()
    return long


async def test_every_loss_is_cut_out_and_the_same_recording_goes_on(office: Office, long: Long) -> None:
    site = office.site
    file = await site.sealed(LONG)
    said = manifest(file)
    kept = [segment for segment in said["segments"] if segment["kept_samples"]]
    assert len(kept) == len(long.losses) + 1
    assert [set(gap["reasons"]) for gap in said["gaps"]] == [loss.reasons for loss in long.losses]
    assert len({segment["id"] for segment in said["segments"]}) == len(said["segments"])

    heard, spoken = await measure.pair(long.customer)
    own, others = checker.read(file)
    sent = checker.chirp_stretches(measure.track(spoken), CUSTOMER)[0]
    stretches = checker.chirp_stretches(others, CUSTOMER)

    def position(said_s: float, near: float) -> float:
        """Where the customer said it on his timeline: of the sweeps that it may be of, the one nearest to `near`."""
        at = (said_s - sent.first_said_s) % CUSTOMER.sweep_s + sent.start_s
        return at + round((near - at) / CUSTOMER.sweep_s) * CUSTOMER.sweep_s

    for loss, after in zip(long.losses, kept[1:], strict=True):
        border, broke = after["file_offset"] / own.rate, loss.began - heard.began
        last = [s for s in stretches if s.start_s < border - 0.02][-1]
        first = next(s for s in stretches if s.start_s >= border - 0.02)
        assert position(last.last_said_s, broke) < broke + 0.05, loss.name
        assert position(first.first_said_s, broke) > broke, loss.name
    for segment in kept:
        assert segment["kept_samples"] / own.rate > TALK_S - LOST_S, segment
    assert own.seconds < heard.seconds - sum(BLIND_S for loss in long.losses if loss.blind)


async def test_not_a_sound_of_what_was_said_in_the_dark_is_kept(office: Office, long: Long) -> None:
    file = await office.site.sealed(LONG)
    own, others = checker.read(file)
    heard, _ = await measure.pair(long.customer)
    blind = [loss.began - heard.began for loss in long.losses if loss.blind]
    spans = [span for span in checker.spans(measure.track(heard), BLIND_HZ) if span.seconds > BLIND_S / 2]
    # The control: each time the customer heard it.
    assert len(spans) == len(blind)
    assert all(began < span.start_s < began + BLIND_S for began, span in zip(blind, spans, strict=True))
    talk = measure.track(heard).part(measure.first_heard(heard, AGENT_HZ), blind[0])
    detector = measure.detector(BLIND_HZ, heard, talk, others)
    assert detector.find(own) == []
    assert measure.voices(own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(others, CUSTOMER) == {"chirp"}


async def test_a_third_party_who_came_in_the_dark_is_not_recorded(
    office: Office, long: Long, referred: tuple[PhoneCall, PhoneCall]
) -> None:
    """The recorder hangs on the agent's leg, which went: Asterisk ended it. Nobody of ours is there afterwards."""
    file = await office.site.sealed(REFERRED)
    own, others = checker.read(file)
    heard = await referred[0].heard()
    began = long.losses[0].began - heard.began
    assert measure.first_heard(heard, THIRD_HZ) > began
    talk = measure.track(heard).part(measure.first_heard(heard, AGENT_HZ), began)
    detector = measure.detector(THIRD_HZ, heard, talk, others)
    assert [detector.find(one) for one in (own, others)] == [[], []]
    assert len(manifest(file)["segments"]) == 1
    assert len(office.third.calls) == 1


# -- ARI ---------------------------------------------------------------------------------------------------------------


async def test_a_recorded_call_goes_on_as_it_was_while_ari_is_away(office: Office, long: Long) -> None:
    """Nothing of a bridged call hangs on ARI; who calls meanwhile is connected at once, untold and unrecorded."""
    site, proxy = office.site, office.site.ari_proxy
    await door_open(office)
    customer, _ = await office.inbound(THROUGHOUT, "103")
    recording = (await until_recorded(site, THROUGHOUT))["recording"]
    await proxy.shut()
    assert proxy.cut(Cut.RST) >= 1
    await office.phones.until(lambda: bool(site.events("ari.lost")), "the loss of ARI")
    await customer.talk(2.5)  # the door's heartbeat is old then
    other, leg = await office.inbound(AFTER, "104", office.other_carrier)
    await other.talk(1.0)
    await other.hangup()
    await leg.ended()
    heard = await other.heard()
    assert measure.prompt_heard(heard, prompt(site, NOTICE)) is None
    assert await reasons(site, AFTER) == {"no_purpose"}  # the dialplan passed the door by
    assert site.files(AFTER) == []
    await proxy.open()
    await customer.hangup()
    assert [segment["id"][:-4] for segment in manifest(await site.sealed(THROUGHOUT))["segments"]] == [recording]


async def test_a_caller_whose_ari_breaks_in_mid_disclosure_is_connected_untold(office: Office, long: Long) -> None:
    await door_open(office)
    assert any(map(websockets, office.site.ari_proxy.connections))
    heard = await told_until(office, CUT, "105", lambda: office.site.ari_proxy.cut(Cut.RST))
    found = measure.prompt_heard(heard, prompt(office.site, NOTICE))
    assert found is not None
    waited = measure.first_heard(heard, AGENT_HZ)
    assert waited < found.start_s + length(office.site) + 3.0 + 1.0
    assert office.site.files(CUT) == []
    assert await reasons(office.site, CUT) == {"not_told", "prompt_failed"}


async def test_a_caller_whose_ari_is_half_open_in_mid_disclosure_is_connected_in_time(
    office: Office, long: Long
) -> None:
    await door_open(office)
    proxy = office.site.ari_proxy
    heard = await told_until(office, HALF_OPEN, "106", lambda: proxy.hold(Side.BOTH, every, newcomers=True))
    proxy.release()
    found = measure.prompt_heard(heard, prompt(office.site, NOTICE))
    assert found is not None
    assert measure.first_heard(heard, AGENT_HZ) < found.start_s + length(office.site) + 3.0 + 1.0
    assert office.site.files(HALF_OPEN) == []
    assert await reasons(office.site, HALF_OPEN) == {"not_told", "prompt_failed"}


def length(site: Installation) -> float:
    """Of the disclosure, in seconds."""
    return checker.read(prompt(site, NOTICE))[0].seconds


async def door_open(office: Office) -> None:
    """Until the caller's door has a heartbeat."""
    end = time.monotonic() + 15.0
    while not (await office.site.status()).get("connections", {}).get("caller's door"):
        assert time.monotonic() < end, await office.site.status()
        await asyncio.sleep(0.1)


async def told_until(office: Office, number: str, agent: str, fault: Callable[[], int]) -> Heard:
    """A caller hears the disclosure begin, then ARI breaks; gives what he heard in all of the call."""
    started = len(office.site.events("disclosure.started"))
    customer = await office.other_carrier.call(f"31201234{agent}", caller_id=number)
    await customer.answered()
    await office.phones.until(lambda: len(office.site.events("disclosure.started")) > started, "the disclosure")
    await customer.talk(1.5)
    assert fault()
    leg = await office.agents[agent].incoming(number=number, deadline_s=20)
    await leg.answered()
    await customer.talk(1.0)
    await customer.hangup()
    await leg.ended()
    return await customer.heard()
