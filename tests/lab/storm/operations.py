"""Owns: what people do in a storm. Each operation plays on a call in which a customer and one of ours talk.

`DURING` leave it so; `ENDINGS` end it; `BEGINNINGS` bring it about, or show that it does not come about. Each writes
the log as it goes: what it asks for, and when its phone had it confirmed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tests.lab.phone import Answer, PhoneCall, Reject, Ring
from tests.lab.storm.history import CUSTOMER, OWN, STRANGER
from tests.lab.storm.office import NOTICE
from tests.lab.storm.scene import ANSWER_S, SETTLE_S, Scene

Operation: TypeAlias = Callable[[Scene, float], Awaitable[None]]
"""(call, for how many seconds)"""


def notice(scene: Scene, direction: str, disclosure: str = NOTICE) -> str:
    """The file of the notice."""
    name = disclosure.format(direction=direction)
    (found,) = (scene.office.site.home / "prompts").rglob(f"{name}-notice-*.wav")
    return str(found)


# -- how it begins -----------------------------------------------------------------------------------------------------


async def _inbound(scene: Scene, did: str) -> None:
    scene.play.told_by, scene.keys = notice(scene, "inbound"), True
    first = scene.desk.first
    before = scene.had(first, scene.play.number)
    await scene.customer_calls(did)
    agent = scene.takes_part(await scene.rings(first, scene.play.number, before), OWN)
    await agent.answered(ANSWER_S)
    scene.note(f"{first.line.name} answers")
    scene.connected(agent)


async def inbound(scene: Scene, _: float) -> None:
    """He calls our number, is told, and is answered."""
    await _inbound(scene, f"31201230{scene.desk.first.line.name}")


async def queued(scene: Scene, _: float) -> None:
    """He waits in a queue."""
    await _inbound(scene, f"3120123902{scene.desk.number}")


async def outbound(scene: Scene, _: float) -> None:
    """One of ours calls him; he is told when he answers."""
    first, number = scene.desk.first, scene.play.number.removeprefix("+31")
    line = first.line.name
    before = scene.had(scene.office.called, line)
    scene.play.told_by, scene.keys = notice(scene, "outbound"), True
    scene.note(f"{line} calls the customer")
    agent = scene.takes_part(await first.call(f"0{number}"), OWN)
    scene.customer = await scene.rings(scene.office.called, line, before)
    scene.takes_part(scene.customer, CUSTOMER)
    await scene.customer.answered(ANSWER_S)
    asked = scene.note("the customer answers")
    await agent.answered(ANSWER_S)
    scene.connected(agent, asked)


async def declined(scene: Scene, _: float) -> None:
    """Ours is busy: nothing comes of it."""
    await scene.desk.first.answers(Reject(486))
    try:
        await scene.customer_calls(f"31201234{scene.desk.first.line.name}")
        assert scene.customer is not None
        await scene.customer.ended(ANSWER_S)
    finally:
        await scene.desk.first.answers(Answer(0.3))


async def untold(scene: Scene, _: float) -> None:
    """A number without any notice."""
    await _inbound(scene, f"31201238{scene.desk.first.line.name}")
    scene.play.told_by, scene.keys = "", False


async def private(scene: Scene, _: float) -> None:
    """A private number: never."""
    await _inbound(scene, f"31201237{scene.desk.first.line.name}")
    scene.play.told_by, scene.play.never, scene.keys = "", True, False


async def objects(scene: Scene, _: float) -> None:
    """He presses 9 while he is told: never."""
    scene.play.never = True
    first = scene.desk.first
    before = scene.had(first, scene.play.number)
    customer = await scene.customer_calls(f"31201235{first.line.name}")
    await customer.answered(ANSWER_S)
    await scene.talks(1.5)
    scene.note("the customer presses 9")
    await customer.dtmf("9")
    agent = scene.takes_part(await scene.rings(first, scene.play.number, before), OWN)
    await agent.answered(ANSWER_S)
    scene.connected(agent)


async def forwarded(scene: Scene, seconds: float) -> None:
    """He is forwarded to a stranger outside; nobody of ours takes part."""
    scene.play.told_by = notice(scene, "inbound")
    before = scene.had(scene.office.third, scene.play.number)
    customer = await scene.customer_calls("31201239000")
    scene.takes_part(await scene.arrives(scene.office.third, scene.play.number, before), STRANGER)
    await scene.talks(seconds)
    await customer.hangup()


async def gives_up(scene: Scene, _: float) -> None:
    """He hangs up while he is told."""
    scene.play.told_by = notice(scene, "inbound")
    customer = await scene.customer_calls(f"31201234{scene.desk.first.line.name}")
    await customer.answered(ANSWER_S)
    await scene.talks(1.0)
    await customer.hangup()


# -- what happens meanwhile --------------------------------------------------------------------------------------------


def pair(scene: Scene) -> tuple[PhoneCall, PhoneCall]:
    """(customer, agent): both are there."""
    assert scene.customer is not None
    assert scene.agent is not None
    return scene.customer, scene.agent


async def hold(scene: Scene, seconds: float) -> None:
    """Our phone puts him on hold, and takes him back."""
    agent = pair(scene)[1]
    async with scene.closed("hold") as closing:
        await agent.hold()
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await agent.unhold()


async def customer_holds(scene: Scene, seconds: float) -> None:
    """His phone puts us on hold."""
    customer, _ = pair(scene)
    async with scene.closed("hold by the customer") as closing:
        await customer.hold()
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await customer.unhold()


async def joined(scene: Scene, seconds: float) -> None:
    """A stranger comes into the conversation, and leaves it."""
    agent = pair(scene)[1]
    async with scene.closed("a stranger in the conversation") as closing:
        third = scene.takes_part(
            await scene.office.third.call(f"31201241{agent.phone.line.name}", caller_id="+31108880000"), STRANGER
        )
        await third.answered(ANSWER_S)
        await scene.talks(SETTLE_S)
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await third.hangup()


async def consults(scene: Scene, seconds: float) -> None:
    """Hold, a word with a stranger on a second call, and back."""
    agent = pair(scene)[1]
    async with scene.closed("hold, to consult a stranger") as closing:
        await agent.hold()
        closing.sure()
        second, _stranger = await scene.calls_stranger(agent)
        await scene.talks(seconds)
        await second.hangup()
        closing.ends()
        await agent.unhold()


async def second_call(scene: Scene, seconds: float) -> None:
    """A second call, the customer not on hold."""
    agent = pair(scene)[1]
    async with scene.closed("a second call on our phone") as closing:
        second, _stranger = await scene.calls_stranger(agent)
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await second.hangup()


async def three_way(scene: Scene, seconds: float) -> None:
    """A three-way inside our phone."""
    agent = pair(scene)[1]
    async with scene.closed("a three-way inside our phone") as closing:
        await agent.hold()
        closing.sure()
        second, _stranger = await scene.calls_stranger(agent)
        await agent.unhold()
        await agent.join(second)
        await scene.talks(seconds)
        closing.ends()
        await second.hangup()


async def spied(scene: Scene, seconds: float) -> None:
    """Somebody listens in."""
    await _spied(scene, seconds, "*55", "a spy")


async def barged(scene: Scene, seconds: float) -> None:
    """Somebody barges in."""
    await _spied(scene, seconds, "*56", "a barge")


async def _spied(scene: Scene, seconds: float, code: str, kind: str) -> None:
    agent = pair(scene)[1]
    async with scene.closed(kind) as closing:
        spy = scene.takes_part(await scene.office.spy.call(f"{code}{agent.phone.line.name}"), STRANGER)
        await spy.answered(ANSWER_S)
        await scene.talks(SETTLE_S)
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await spy.hangup()


async def passed_on(scene: Scene, _: float) -> None:
    """A blind transfer to the other of ours at this desk."""
    agent = pair(scene)[1]
    other = scene.desk.others[agent.phone.line.name]
    before = scene.had(other, scene.play.number)
    scene.note(f"{agent.phone.line.name} transfers to {other.line.name} by REFER")
    scene.leaving()
    await agent.refer(other.line.name)
    newcomer = scene.takes_part(await scene.rings(other, scene.play.number, before), OWN)
    await agent.ended(ANSWER_S)
    scene.left()
    await newcomer.answered(ANSWER_S)
    scene.connected(newcomer)


async def handed_over(scene: Scene, seconds: float) -> None:
    """Hold, a word with the other of ours, and an attended transfer to him."""
    agent = pair(scene)[1]
    line = agent.phone.line.name
    other = scene.desk.others[line]
    before = scene.had(other, line)
    closing = scene.closes("hold, to consult a colleague")
    await agent.hold()
    closing.sure()
    consulting = scene.takes_part(await agent.phone.call(other.line.name), OWN)
    newcomer = scene.takes_part(await scene.arrives(other, line, before), OWN)
    await consulting.answered(ANSWER_S)
    await scene.talks(seconds)
    closing.ends()
    asked = scene.note(f"{line} transfers to {other.line.name} by REFER with Replaces")
    scene.leaving()
    await agent.refer_replaces(consulting)
    await agent.ended(ANSWER_S)
    scene.left()
    closing.over()
    scene.connected(newcomer, asked)
    scene.keys = False


async def code_consults(scene: Scene, seconds: float) -> None:
    """Our phone presses *2 and a stranger's number, and he hangs up again."""
    agent = pair(scene)[1]
    async with scene.closed("a consultation by key") as closing:
        third = await _calls_by_key(scene, "*2")
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await third.hangup()
        await scene.talks(1.5)
        assert agent.ended_at is None


async def _calls_by_key(scene: Scene, code: str) -> PhoneCall:
    """A code, Asterisk's prompt, and the number of a stranger: who answers."""
    agent = pair(scene)[1]
    names = (agent.phone.line.name, scene.play.number)
    before = [scene.had(scene.office.third, name) for name in names]
    scene.note(f"{names[0]} presses {code}")
    await agent.dtmf(code)
    await scene.talks(1.2)
    await agent.dtmf(f"9{names[0]}")

    def come() -> list[PhoneCall]:
        third = scene.office.third
        return [c for name, had in zip(names, before, strict=True) for c in scene.calls_from(third, name)[had:]]

    await scene.office.phones.until(come, f"a call at {scene.office.third.name}", ANSWER_S)
    return await scene.takes_part(come()[0], STRANGER).answered(ANSWER_S)


async def refused(scene: Scene, _: float) -> None:
    """A blind transfer to a number that is not there: nothing changes."""
    agent = pair(scene)[1]
    scene.note("a transfer to a number that is not there")
    await agent.refer("666")


async def consults_busy(scene: Scene, _: float) -> None:
    """Hold, a call to the other of ours, who declines, and back."""
    agent = pair(scene)[1]
    other = scene.desk.others[agent.phone.line.name]
    async with scene.closed("hold, to call a busy colleague") as closing:
        await agent.hold()
        closing.sure()
        await other.answers(Reject(486))
        try:
            second = await agent.phone.call(other.line.name)
            await second.ended(ANSWER_S)
        finally:
            await other.answers(Answer(0.3))
        closing.ends()
        await agent.unhold()


async def parked(scene: Scene, seconds: float) -> None:
    """Our phone parks him, and the other of ours takes him."""
    agent = pair(scene)[1]
    other = scene.desk.others[agent.phone.line.name]
    since = scene.note("parks him")
    scene.leaving()
    await agent.refer("700")
    await agent.ended(ANSWER_S)
    scene.left()
    space = await scene.parking_space(since)
    await scene.talks(seconds)
    asked = scene.note(f"{other.line.name} takes him from {space}")
    newcomer = scene.takes_part(await other.call(space), OWN)
    await newcomer.answered(ANSWER_S)
    scene.connected(newcomer, asked)
    scene.keys = False


async def paused(scene: Scene, seconds: float) -> None:
    """Card entry: our phone presses *91, and *92 when it is over."""
    agent = pair(scene)[1]
    async with scene.closed("a pause") as closing:
        asked = scene.note("*91")
        await agent.dtmf("*91")
        await scene.told_of("pause", asked)
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        asked = scene.note("*92")
        await agent.dtmf("*92")
        await scene.told_of("resume", asked)


async def muted(scene: Scene, seconds: float) -> None:
    """Our phone is mute for a while."""
    agent = pair(scene)[1]
    scene.note("our phone is mute")
    await agent.mute()
    await scene.talks(seconds)
    await agent.mute(False)
    scene.note("our phone speaks again")


async def talk(scene: Scene, seconds: float) -> None:
    """They just talk."""
    await scene.talks(seconds)


# -- how it ends -------------------------------------------------------------------------------------------------------


async def customer_hangs_up(scene: Scene, _: float) -> None:
    """He hangs up."""
    customer, agent = pair(scene)
    scene.note("the customer hangs up")
    scene.leaving()
    await customer.hangup()
    await agent.ended(ANSWER_S)
    scene.left()


async def agent_hangs_up(scene: Scene, _: float) -> None:
    """Ours hangs up."""
    customer, agent = pair(scene)
    scene.note("ours hangs up")
    scene.leaving()
    await agent.hangup()
    await customer.ended(ANSWER_S)
    scene.left()


async def objects_late(scene: Scene, seconds: float) -> None:
    """He presses *90: nothing more is recorded. What was stays, locked."""
    customer = pair(scene)[0]
    closing = scene.closes("an objection")
    await customer.dtmf("*90")
    await scene.told_of("object", closing.state.begin[0])
    closing.sure()
    await scene.talks(seconds)
    closing.ends()
    await customer_hangs_up(scene, 0.0)


async def private_late(scene: Scene, seconds: float) -> None:
    """Ours presses *93: nothing of the call is kept."""
    agent = pair(scene)[1]
    asked = scene.note("*93")
    await agent.dtmf("*93")
    await scene.told_of("private", asked)
    scene.play.never = True
    await scene.talks(seconds)
    await agent_hangs_up(scene, 0.0)


async def sent_out_by_key(scene: Scene, seconds: float) -> None:
    """A blind transfer to a stranger outside, by ##."""
    customer, agent = pair(scene)
    closing = scene.closes("a transfer by key")
    await _calls_by_key(scene, "##")
    closing.sure()
    scene.leaving()
    await agent.ended(ANSWER_S)
    scene.left()
    await scene.talks(seconds)
    closing.ends()
    await customer.hangup()


async def handed_out_by_key(scene: Scene, seconds: float) -> None:
    """An attended transfer to a stranger outside, by *2: ours hangs up when the stranger has answered."""
    customer, agent = pair(scene)
    closing = scene.closes("a transfer by key")
    await _calls_by_key(scene, "*2")
    closing.sure()
    await scene.talks(seconds)
    scene.leaving()
    await agent.hangup()
    scene.left()
    await scene.talks(seconds)
    closing.ends()
    await customer.hangup()


async def sent_out(scene: Scene, seconds: float) -> None:
    """A blind transfer to a stranger outside, by REFER."""
    customer, agent = pair(scene)
    before = scene.had(scene.office.third, scene.play.number)
    scene.note("a blind transfer to a stranger")
    scene.leaving()
    await agent.refer(f"9311088800{agent.phone.line.name}")
    scene.takes_part(await scene.arrives(scene.office.third, scene.play.number, before), STRANGER)
    await agent.ended(ANSWER_S)
    scene.left()
    await scene.talks(seconds)
    await customer.hangup()


async def handed_out(scene: Scene, seconds: float) -> None:
    """Hold, a word with a stranger, and an attended transfer to him, by REFER with Replaces."""
    customer, agent = pair(scene)
    closing = scene.closes("hold, to transfer to a stranger")
    await agent.hold()
    closing.sure()
    second, _stranger = await scene.calls_stranger(agent)
    await scene.talks(seconds)
    scene.note("an attended transfer to a stranger")
    scene.leaving()
    await agent.refer_replaces(second)
    await agent.ended(ANSWER_S)
    scene.left()
    await scene.talks(seconds)
    closing.ends()
    await customer.hangup()


async def picked_up(scene: Scene, _: float) -> None:
    """It rings at the first phone, and the second takes it."""
    first, second = scene.desk.first, scene.desk.second
    scene.play.told_by = notice(scene, "inbound")
    before = scene.had(first, scene.play.number)
    await first.answers(Ring())
    try:
        await scene.customer_calls(f"31201230{first.line.name}")
        await scene.rings(first, scene.play.number, before)
        asked = scene.note(f"{second.line.name} picks it up")
        agent = scene.takes_part(await second.call(f"*8{first.line.name}"), OWN)
        await agent.answered(ANSWER_S)
        scene.connected(agent, asked)
    finally:
        await first.answers(Answer(0.3))


async def conference(scene: Scene, seconds: float) -> None:
    """A conference of the customer and both of ours; a stranger comes in and leaves."""
    desk = scene.desk
    scene.play.told_by = notice(scene, "inbound")
    customer = await scene.customer_calls(f"3120123903{desk.number}")
    await customer.answered(ANSWER_S)
    await scene.talks(6.0)
    scene.note("ours comes into the conference")
    first = scene.takes_part(await desk.first.call(f"*6{desk.number}"), OWN)
    await first.answered(ANSWER_S)
    scene.connected(first)
    await scene.talks(seconds)
    scene.note("the other of ours comes in")
    second = scene.takes_part(await desk.second.call(f"*6{desk.number}"), OWN)
    await second.answered(ANSWER_S)
    await scene.talks(seconds)
    async with scene.closed("a stranger in the conference") as closing:
        third = scene.takes_part(
            await scene.office.third.call(f"3120123904{desk.number}", caller_id="+31108880000"), STRANGER
        )
        await third.answered(ANSWER_S)
        await scene.talks(3 * SETTLE_S)
        closing.sure()
        await scene.talks(seconds)
        closing.ends()
        await third.hangup()
    await scene.talks(seconds)
    scene.leaving()
    await customer.hangup()
    scene.left()
    await first.hangup()
    await second.hangup()


BEGINNINGS: dict[str, tuple[Operation, float]] = {
    "inbound": (inbound, 8.0),
    "queued": (queued, 3.0),
    "outbound": (outbound, 3.0),
    "declined": (declined, 0.5),
    "untold": (untold, 0.7),
    "private": (private, 0.7),
    "objects": (objects, 0.7),
    "forwarded": (forwarded, 0.7),
    "gives_up": (gives_up, 0.5),
    "picked_up": (picked_up, 1.0),
    "conference": (conference, 1.0),
}
"""By name: the operation, and how often it comes beside the others."""
OVER_AT_ONCE = {"declined", "forwarded", "gives_up", "conference"}
"""Beginnings after which there is no conversation with one of ours."""
DURING: dict[str, tuple[Operation, float]] = {
    "talk": (talk, 2.0),
    "hold": (hold, 3.0),
    "customer_holds": (customer_holds, 1.0),
    "joined": (joined, 2.0),
    "consults": (consults, 1.5),
    "second_call": (second_call, 1.0),
    "three_way": (three_way, 1.5),
    "spied": (spied, 1.0),
    "barged": (barged, 1.0),
    "passed_on": (passed_on, 1.5),
    "handed_over": (handed_over, 1.5),
    "muted": (muted, 0.5),
    "code_consults": (code_consults, 1.0),
    "refused": (refused, 0.5),
    "consults_busy": (consults_busy, 0.5),
    "parked": (parked, 1.0),
    "paused": (paused, 1.5),
}
NEED_KEYS = {
    "code_consults": "talk",
    "paused": "talk",
    "sent_out_by_key": "sent_out",
    "handed_out_by_key": "handed_out",
    "objects_late": "customer_hangs_up",
    "private_late": "agent_hangs_up",
}
"""What is played instead where keys mean nothing."""
ENDINGS: dict[str, tuple[Operation, float]] = {
    "customer_hangs_up": (customer_hangs_up, 3.0),
    "agent_hangs_up": (agent_hangs_up, 2.0),
    "sent_out": (sent_out, 2.0),
    "handed_out": (handed_out, 2.0),
    "sent_out_by_key": (sent_out_by_key, 1.0),
    "handed_out_by_key": (handed_out_by_key, 1.0),
    "objects_late": (objects_late, 1.0),
    "private_late": (private_late, 0.7),
}
