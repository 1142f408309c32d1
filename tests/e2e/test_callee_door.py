"""The callee's door with a whole installation: who is told what before the bridge, and what his keys do.

The calls of the module overlap, then pbxguard is switched off, frozen, killed. Customers send a chirp, agents a tone.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.lab import ami, asterisk_tree, checker, measure
from tests.lab.asterisk import Line
from tests.lab.evidence import calls_of, prompt, reasons
from tests.lab.installation import UNWATCHED_S, Installation
from tests.lab.phone import Answer, Heard, Phone, PhoneCall, Phones, Ring
from tests.lab.signals import VOICES, Chirp, Tone
from tests.lab.stories import Story

CUSTOMER = Chirp()
AGENT_HZ = VOICES[0]
RINGBACK_HZ = 440.0
"""One of the two tones of the ringing that Asterisk makes by itself (indications.conf, `us`)."""
RINGBACK_LEAST_S = 1.0
RINGBACK_WINDOW_S = 0.15
"""Tells it from the other tone, 40 Hz above."""
TALK_S = 3.0
LOST_S = 0.6
STAGGER_S = 0.4
SOON_S = 2.0
"""Far less than a notice, far more than a busy machine needs."""

NOTICE = "contract_evidence.nl.notice.outbound"
OPT_OUT = "quality_training.nl.opt_out.outbound"
OPT_IN = "contract_evidence.nl.opt_in.outbound"

DIALPLAN = """
[internal](+)
; the agent's phone is answered first: he hears the ringing that Asterisk makes, in the sound
exten => _6[0+]X.,1,Answer()
 same => n,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-b,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
; to train
exten => _7[0+]X.,1,Gosub(pbxguard-outbound,s,1(quality_training,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-d,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
; as proof, by a third carrier, so that calls overlap
exten => _8[0+]X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-e,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
; by a carrier that is sent packets of another length
exten => _5[0+]X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-f,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
exten => _4[0+]X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-g,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
; with a wait of one's own first, in which the customer may press hold
exten => _3[0+]X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:1}))
 same => n,Dial(PJSIP/${EXTEN:1}@trunk-h,60,tTU(later^${PBXGUARD_PROMPT}))
[later]
exten => s,1,Wait(1.5)
 same => n,Gosub(pbxguard-callee,s,1(${ARG1}))
 same => n,Return()
"""
LATER_S = 1.5
PACKETS_S = {"trunk-f": 0.04, "trunk-g": 0.01}
"""What Asterisk sends in one packet there; 20 ms everywhere else."""
AGENTS = tuple(str(number) for number in (*range(100, 112), *range(114, 121)))  # 112, 113: the never-record list


class Office:
    """The phones of this module: agents who call, and carriers behind which customers answer at once."""

    def __init__(self, site: Installation, agents: dict[str, Phone], carriers: dict[str, Phone]) -> None:
        self.site, self.agents, self.carriers = site, agents, carriers
        self.prompts: list[dict[str, str]] = []
        """What the dialplan said of the prompts that it played, and of holds, in order."""

    async def call(self, agent: str, dialled: str, carrier: str, number: str, title: str) -> Story:
        """An agent dials; the customer's phone has answered and may be hearing the disclosure."""
        story = Story(title, number)
        story.calls["agent"] = await self.agents[agent].call(dialled)
        story.calls["customer"] = customer = await self.carriers[carrier].incoming(number=agent, deadline_s=30)
        await customer.answered()
        return story

    def seconds(self, disclosure: str, part: str = "notice") -> float:
        return checker.read(prompt(self.site, disclosure, part))[0].seconds

    async def in_key_sentence(self, disclosure: str, customer: PhoneCall) -> None:
        """Waits from the answer until the key sentence is being said."""
        await customer.talk(self.seconds(disclosure) + 1.6)


async def talked(story: Story) -> Story:
    """Both talk, then the agent hangs up."""
    agent = story.calls["agent"]
    await agent.answered(deadline_s=40)
    await agent.talk(TALK_S)
    await agent.hangup()
    return story


async def told(office: Office) -> Story:
    story = await office.call("100", "60201112201", "trunk-b", "+31201112201", "told before the bridge")
    customer = story.calls["customer"]
    await customer.talk(office.seconds(NOTICE) + 1.5 + TALK_S)
    await story.calls["agent"].hangup()
    return story


async def training(office: Office) -> Story:
    return await talked(await office.call("101", "70201112202", "trunk-d", "+31201112202", "no key pressed"))


async def nine_in_notice(office: Office) -> Story:
    story = await office.call("103", "70201112203", "trunk-d", "+31201112203", "9 during the notice")
    await story.calls["customer"].talk(2.0)
    await story.calls["customer"].dtmf("9")
    return await talked(story)


async def nine_in_key(office: Office) -> Story:
    story = await office.call("104", "70201112204", "trunk-d", "+31201112204", "9 during the key sentence")
    await office.in_key_sentence(OPT_OUT, story.calls["customer"])
    await story.calls["customer"].dtmf("9")
    return await talked(story)


async def german_one(office: Office) -> Story:
    story = await office.call("105", "8004930111205", "trunk-e", "+4930111205", "1 during the key sentence")
    await office.in_key_sentence(OPT_IN, story.calls["customer"])
    await story.calls["customer"].dtmf("1")
    return await talked(story)


async def german_early_one(office: Office) -> Story:
    story = await office.call("106", "8004930111206", "trunk-e", "+4930111206", "1 during the notice only")
    await story.calls["customer"].talk(2.0)
    await story.calls["customer"].dtmf("1")
    return await talked(story)


async def german_nine(office: Office) -> Story:
    story = await office.call("107", "8004930111207", "trunk-e", "+4930111207", "9 during the key sentence, asked")
    await office.in_key_sentence(OPT_IN, story.calls["customer"])
    await story.calls["customer"].dtmf("9")
    return await talked(story)


async def german_nine_then_one(office: Office) -> Story:
    story = await office.call("108", "8004930111208", "trunk-e", "+4930111208", "9 during the notice, then 1")
    await story.calls["customer"].talk(2.0)
    await story.calls["customer"].dtmf("9")
    await story.calls["customer"].talk(office.seconds(OPT_IN) + 1.6 - 2.0)
    await story.calls["customer"].dtmf("1")
    return await talked(story)


async def customer_leaves(office: Office) -> Story:
    story = await office.call("109", "0201112209", "trunk-b", "+31201112209", "the customer hangs up meanwhile")
    await story.calls["customer"].talk(2.5)
    await story.calls["customer"].hangup()
    return story


async def agent_leaves(office: Office) -> Story:
    story = await office.call("110", "0201112210", "trunk-b", "+31201112210", "the agent hangs up meanwhile")
    await story.calls["customer"].talk(2.5)
    story.now("agent left")
    await story.calls["agent"].hangup()
    await story.calls["customer"].ended()
    return story


async def never_record(office: Office) -> Story:
    return await talked(await office.call("111", "08002000", "trunk-b", "08002000", "Veilig Thuis"))


async def long_packets(office: Office) -> Story:
    return await talked(await office.call("116", "50201112216", "trunk-f", "+31201112216", "packets of 40 ms"))


async def short_packets(office: Office) -> Story:
    return await talked(await office.call("117", "40201112217", "trunk-g", "+31201112217", "packets of 10 ms"))


async def hold_in_notice(office: Office) -> Story:
    story = await office.call("118", "30201112218", "trunk-h", "+31201112218", "on hold for a second of the notice")
    customer = story.calls["customer"]
    await customer.talk(LATER_S + 2.0)
    await customer.hold()
    await customer.talk(1.0)
    await customer.unhold()
    return await talked(story)


async def hold_before_notice(office: Office) -> Story:
    story = await office.call("119", "30201112219", "trunk-h", "+31201112219", "on hold from before it to its end")
    customer = story.calls["customer"]
    await customer.hold()
    await customer.talk(LATER_S + 1.0 + office.seconds(NOTICE))
    await customer.unhold()
    return await talked(story)


async def hold_that_ended(office: Office) -> Story:
    story = await office.call("120", "30201112220", "trunk-h", "+31201112220", "on hold, and back before the notice")
    customer = story.calls["customer"]
    await customer.hold()
    await customer.talk(0.3)
    await customer.unhold()
    return await talked(story)


PLAYS = (
    hold_before_notice,
    hold_in_notice,
    hold_that_ended,
    told,
    long_packets,
    short_packets,
    training,
    nine_in_notice,
    nine_in_key,
    german_one,
    german_early_one,
    german_nine,
    german_nine_then_one,
    customer_leaves,
    agent_leaves,
    never_record,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    lines = [Line(f"trunk-{name}", "from-trunk", host=f"127.0.0.{host}") for name, host in (("d", 6), ("e", 7))]
    for host, (name, seconds) in enumerate(PACKETS_S.items(), 8):
        lines.append(Line(name, "from-trunk", host=f"127.0.0.{host}", packet_ms=round(seconds * 1000)))
    lines.append(Line("trunk-h", "from-trunk", host="127.0.0.10"))
    lines += [Line(str(number), "internal", password=f"secret{number}") for number in range(116, 121)]
    async with Installation(dialplan=DIALPLAN, extra_lines=lines, watchdog_s=UNWATCHED_S) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(site: Installation) -> AsyncIterator[Office]:
    async with Phones() as phones:
        a = site.asterisk
        names = ("trunk-b", "trunk-d", "trunk-e", *PACKETS_S, "trunk-h")
        carriers = await asyncio.gather(
            *(phones.add(a.line(name), sends=CUSTOMER, on_incoming=Answer(0.3)) for name in names)
        )
        agents = await asyncio.gather(*(phones.add(a.line(name), sends=Tone(AGENT_HZ)) for name in AGENTS))
        yield Office(site, dict(zip(AGENTS, agents, strict=True)), dict(zip(names, carriers, strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(office: Office) -> dict[str, Story]:
    """Every call, overlapping."""

    async def after(seconds: float, play: Callable[[Office], Awaitable[Story]]) -> Story:
        await asyncio.sleep(seconds)  # a phone that gets no time loses a packet of what it hears
        return await play(office)

    async with ami.connect(office.site.asterisk) as manager:
        stories = await asyncio.gather(*(after(STAGGER_S * n, play) for n, play in enumerate(PLAYS)))
        await office.site.asterisk.idle()
        wanted = ("PbxguardPrompt", "Hold", "Unhold")
        office.prompts = [e for e in manager.events if e.get("UserEvent", e["Event"]) in wanted]
    return {play.__name__: story for play, story in zip(PLAYS, stories, strict=True)}


async def notice_heard(office: Office, story: Story, disclosure: str) -> float:
    """Where the notice ends on the customer's timeline; it was heard whole, and no agent before its end."""
    heard = await story.calls["customer"].heard()
    ended = measure.prompt_end(heard, prompt(office.site, disclosure))
    agent = [s for s in checker.spans(measure.track(heard), AGENT_HZ) if s.seconds > 0.05]
    assert not agent or agent[0].start_s >= ended
    return ended


async def refused(office: Office, story: Story, expected: set[str]) -> None:
    """Nothing of it is kept, for exactly these reasons."""
    assert await reasons(office.site, story.number) == expected
    assert office.site.files(story.number) == []


async def recorded(office: Office, story: Story, disclosed_s: float) -> None:
    """Kept, from after the disclosure to the end, each voice on its side."""
    _, said = await measure.pair(story.calls["customer"])
    file = measure.recorded(await office.site.sealed(story.number), said, CUSTOMER)
    assert file.first_s > disclosed_s
    assert measure.voices(file.own, CUSTOMER) == {f"{AGENT_HZ:g}"}
    assert measure.voices(file.others, CUSTOMER) == {"chirp"}
    assert file.seconds > TALK_S - LOST_S


async def test_the_customer_hears_the_notice_whole_while_the_agent_hears_ringing(
    office: Office, played: dict[str, Story]
) -> None:
    story = played["told"]
    disclosed = await notice_heard(office, story, NOTICE)
    customer, _ = await measure.pair(story.calls["customer"])
    agent, _ = await measure.pair(story.calls["agent"])
    notice = checker.read(prompt(office.site, NOTICE))[0]
    # At the agent's phone: ringing until he is connected, and nothing of what the customer is told.
    connected = checker.chirp_stretches(measure.track(agent), CUSTOMER)[0].start_s
    rung = checker.spans(measure.track(agent).part(0, connected), RINGBACK_HZ, window_s=RINGBACK_WINDOW_S)
    assert sum(span.seconds for span in rung) > RINGBACK_LEAST_S
    began, ended = (customer.began + at - agent.began for at in (disclosed - notice.seconds, disclosed))
    assert any(began < span.end_s and span.start_s < ended for span in rung), "it did not ring while he was told"
    assert checker.locate(measure.track(agent), notice) is None
    await recorded(office, story, disclosed)


@pytest.mark.parametrize(("play", "trunk"), [("long_packets", "trunk-f"), ("short_packets", "trunk-g")])
async def test_a_customer_who_is_sent_packets_of_another_length_is_told_and_recorded(
    play: str, trunk: str, office: Office, played: dict[str, Story]
) -> None:
    story = played[play]
    disclosed = await notice_heard(office, story, NOTICE)
    begun, ended = (int(e["Tx"]) for e in office.prompts if e["Channel"].startswith(f"PJSIP/{trunk}-") and "Tx" in e)
    assert (ended - begun) * PACKETS_S[trunk] == pytest.approx(office.seconds(NOTICE), abs=0.1)
    await recorded(office, story, disclosed)


async def test_training_is_recorded_when_the_customer_presses_nothing(office: Office, played: dict[str, Story]) -> None:
    story = played["training"]
    await notice_heard(office, story, OPT_OUT)
    asked = measure.prompt_end(await story.calls["customer"].heard(), prompt(office.site, OPT_OUT, "key"))
    await recorded(office, story, asked)


async def test_a_9_during_the_notice_objects(office: Office, played: dict[str, Story]) -> None:
    story = played["nine_in_notice"]
    await notice_heard(office, story, OPT_OUT)
    await refused(office, story, {"objected"})


async def test_a_9_during_the_key_sentence_objects_and_stops_it(office: Office, played: dict[str, Story]) -> None:
    story = played["nine_in_key"]
    ended = await notice_heard(office, story, OPT_OUT)
    heard = measure.track(await story.calls["customer"].heard())
    asked = checker.locate(heard, checker.read(prompt(office.site, OPT_OUT, "key"))[0], after_s=ended - 0.2)
    assert asked is not None
    assert not asked.complete
    await refused(office, story, {"objected", "not_told"})


async def test_a_german_number_is_recorded_when_a_1_follows_the_notice(
    office: Office, played: dict[str, Story]
) -> None:
    story = played["german_one"]
    await recorded(office, story, await notice_heard(office, story, OPT_IN))


async def test_a_1_pressed_during_the_notice_is_no_consent(office: Office, played: dict[str, Story]) -> None:
    story = played["german_early_one"]
    await notice_heard(office, story, OPT_IN)
    await refused(office, story, {"consent_missing"})


async def test_a_9_where_consent_is_asked_objects(office: Office, played: dict[str, Story]) -> None:
    story = played["german_nine"]
    await notice_heard(office, story, OPT_IN)
    await refused(office, story, {"objected", "not_told", "consent_missing"})


async def test_a_1_after_a_9_takes_no_objection_back(office: Office, played: dict[str, Story]) -> None:
    story = played["german_nine_then_one"]
    await notice_heard(office, story, OPT_IN)
    await refused(office, story, {"objected", "consent_missing"})


@pytest.mark.parametrize(
    ("play", "order"),
    [
        ("hold_in_notice", ["begin", "Hold", "Unhold", "end"]),
        ("hold_before_notice", ["Hold", "begin", "end", "Unhold"]),
    ],
)
async def test_a_notice_during_which_the_customer_was_on_hold_does_not_count_and_the_call_goes_on(
    play: str, order: list[str], office: Office, played: dict[str, Story]
) -> None:
    story = played[play]
    assert happened(office, story) == order
    await refused(office, story, {"not_told", "prompt_on_hold"})
    assert not (await office.site.why(story.number))["told"]
    # they talk, from when he is back
    customer, agent = [measure.track(await story.calls[who].heard()) for who in ("customer", "agent")]
    assert sum(span.seconds for span in checker.spans(customer, AGENT_HZ)) > TALK_S - LOST_S
    assert sum(said.end_s - said.start_s for said in checker.chirp_stretches(agent, CUSTOMER)) > TALK_S - LOST_S


async def test_its_twin_whose_hold_ended_before_the_notice_is_told_and_recorded(
    office: Office, played: dict[str, Story]
) -> None:
    story = played["hold_that_ended"]
    assert happened(office, story) == ["Hold", "Unhold", "begin", "end"]
    await recorded(office, story, await notice_heard(office, story, NOTICE))


def happened(office: Office, story: Story) -> list[str]:
    """Holds, and the begin and end of prompts, on the customer's channel, in the order in which Asterisk told them.

    It is the channel of trunk-h that was dialled by this story's agent.
    """
    dialler = story.calls["customer"].number
    of = [e for e in office.prompts if e["Channel"].startswith("PJSIP/trunk-h-") and e["ConnectedLineNum"] == dialler]
    return [event.get("Phase", event["Event"]) for event in of]


async def test_a_customer_who_hangs_up_in_the_middle_leaves_no_file(office: Office, played: dict[str, Story]) -> None:
    await cut_short(office, played["customer_leaves"])


async def test_the_customer_is_hung_up_soon_after_the_agent_left_and_leaves_no_file(
    office: Office, played: dict[str, Story]
) -> None:
    story = played["agent_leaves"]
    await cut_short(office, story)
    ended = story.calls["customer"].ended_at
    assert ended is not None
    assert ended - story.moments["agent left"] < SOON_S


async def cut_short(office: Office, story: Story) -> None:
    """He heard the notice begin and not end; `told`, his twin, heard it whole."""
    found = measure.prompt_heard(await story.calls["customer"].heard(), prompt(office.site, NOTICE))
    assert found is not None
    assert not found.complete
    # Asterisk may bridge a channel that is hanging up, for an instant: that is no conversation.
    await refused(office, story, {"not_bridged", "no_own_party", "not_told", "prompt_channel_gone"})
    assert not (await office.site.why(story.number))["told"]


async def test_a_never_record_number_is_not_told(office: Office, played: dict[str, Story]) -> None:
    story = played["never_record"]
    heard = await story.calls["customer"].heard()
    assert checker.locate(measure.track(heard), checker.read(prompt(office.site, NOTICE))[0]) is None
    assert measure.first_heard(heard, AGENT_HZ) < SOON_S
    await refused(office, story, {"never_record", "not_told"})


async def untold(office: Office, story: Story) -> Heard:
    """He was connected without a prompt and without the silence that waiting for pbxguard would have cost."""
    heard = await story.calls["customer"].heard()
    assert measure.first_heard(heard, AGENT_HZ) < SOON_S
    assert checker.locate(measure.track(heard), checker.read(prompt(office.site, NOTICE))[0]) is None
    return heard


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def off(office: Office, played: dict[str, Story]) -> dict[str, Story]:
    """Two calls while the global variable PBXGUARD is `off`: one rang already when it was set, one is dialled then."""
    site, carrier = office.site, office.carriers["trunk-b"]
    await carrier.answers(Ring())
    rang = Story("it rings as pbxguard is switched off", "+31201112231")
    so_far = len([call for call in carrier.calls if not call.outgoing and call.number == "100"])
    rang.calls["agent"] = await office.agents["100"].call("0201112231")
    rang.calls["customer"] = customer = await carrier.incoming(number="100", after=so_far, deadline_s=30)
    await rang.calls["agent"].ringing()
    await site.asterisk.cli("dialplan set global PBXGUARD off")
    try:
        dialled, _ = await asyncio.gather(
            office.call("101", "80201112232", "trunk-e", "+31201112232", "dialled while pbxguard is off"),
            customer.answer(),
        )
        await asyncio.gather(talked(rang), talked(dialled))
        await site.asterisk.idle()
    finally:
        await site.asterisk.cli("dialplan set global PBXGUARD on")
        await carrier.answers(Answer(0.3))
    return {"rang": rang, "dialled": dialled}


@pytest.mark.parametrize(
    ("which", "expected"),
    [("rang", {"switched_off", "not_told"}), ("dialled", {"switched_off", "no_purpose"})],
)
async def test_while_pbxguard_is_switched_off_the_customer_is_connected_at_once_untold_and_unrecorded(
    which: str, expected: set[str], office: Office, off: dict[str, Story]
) -> None:
    """Their twins are `told` before it was off, and the call once pbxguard is back."""
    await untold(office, off[which])
    await refused(office, off[which], expected)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def frozen(office: Office, off: dict[str, Story]) -> Story:
    """A call while pbxguard is stopped (SIGSTOP); it goes on once the call is over."""
    process = office.site.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(3.5)  # until its heartbeat is old
        story = await talked(await office.call("115", "0201112221", "trunk-b", "+31201112221", "pbxguard is frozen"))
        await story.calls["customer"].ended()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    return story


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def killed(office: Office, frozen: Story) -> dict[str, Story]:
    """A call while pbxguard is dead (SIGKILL), and the same call once it is back."""
    await office.site.stop(signal.SIGKILL)
    await asyncio.sleep(3.5)
    dead = await talked(await office.call("102", "0201112222", "trunk-b", "+31201112222", "pbxguard is dead"))
    await dead.calls["customer"].ended()
    await office.site.start()
    back = await talked(await office.call("114", "0201112223", "trunk-b", "+31201112223", "pbxguard is back"))
    await back.calls["customer"].ended()
    return {"dead": dead, "back": back}


async def test_while_pbxguard_is_frozen_the_customer_is_connected_at_once_untold_and_unrecorded(
    office: Office, frozen: Story
) -> None:
    await untold(office, frozen)
    await refused(office, frozen, {"no_purpose", "beat_late"})


async def test_while_pbxguard_is_dead_the_customer_is_connected_at_once_untold_and_unrecorded(
    office: Office, killed: dict[str, Story]
) -> None:
    await untold(office, killed["dead"])
    assert await calls_of(office.site, killed["dead"].number) == []  # it never knew of that call
    assert office.site.files(killed["dead"].number) == []


async def test_once_pbxguard_is_back_the_same_call_is_told_and_recorded(
    office: Office, killed: dict[str, Story]
) -> None:
    await recorded(office, killed["back"], await notice_heard(office, killed["back"], NOTICE))
