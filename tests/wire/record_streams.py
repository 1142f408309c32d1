"""Records the event streams in `streams/` anew, from a real Asterisk and real phones.

    python -m tests.wire.record_streams [NAME...]

Each scenario below is one stream. They are received by pbxguard's own connection, with its account, its filters and
its event mask, so they hold what the adapter sees and nothing else. What happens in each stands in streams/README.md.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pbxguard.pbx.ami.ami import EVENT_MASK, FILTERS
from pbxguard.pbx.ami.connection import Address, Session, Tuning
from tests.lab import ami
from tests.lab.asterisk import Asterisk
from tests.lab.phone import Answer, Forward, Phone, Phones, Ring
from tests.wire.streams import FOLDER

DIALPLAN = """\
[internal]
exten => _1XX,1,Dial(PJSIP/${EXTEN},60,tT)
exten => _8X.,1,Dial(PJSIP/${EXTEN:1}@trunk-b,60,tT)
exten => _7X.,1,Dial(PJSIP/${EXTEN:1}@trunk-b,60,U(told^a.nl.notice.outbound))
exten => 555,1,ChanSpy(PJSIP/100,q)
exten => *77,1,ConfBridge(77)
[told]
exten => s,1,Set(SAYS=Prompt: ${ARG1})
 same => n,UserEvent(PbxguardPrompt,Phase: begin,${SAYS},Tx: ${CHANNEL(rtcp,txcount)},Rx: ${CHANNEL(rtcp,rxcount)})
 same => n,Playtones(440)
 same => n,Wait(1)
 same => n,Set(SAYS=${SAYS},Tx: ${CHANNEL(rtcp,txcount)},Rx: ${CHANNEL(rtcp,rxcount)})
 same => n,UserEvent(PbxguardPrompt,Phase: end,${SAYS},State: SUCCESS,Key: )
 same => n,Return()
[members]
exten => 101,1,Dial(PJSIP/101,60)
[from-trunk]
exten => _31201234XXX,1,Dial(PJSIP/${EXTEN:-3},60,tT)
exten => _31209999XXX,1,Queue(local)
exten => _31207777XXX,1,Set(CONFBRIDGE(user,announce_only_user)=no)
 same => n,ConfBridge(77)
exten => _31208888XXX,1,Dial(Local/80201112223@internal/n,60)
"""
QUEUES = """\
[general]
autofill=yes
[local]
strategy=ringall
timeout=20
retry=1
member => Local/101@members
"""


@dataclass
class People:
    """agent 100, colleague 101, customer on trunk-a, third party on trunk-b."""

    asterisk: Asterisk
    agent: Phone
    colleague: Phone
    customer: Phone
    third: Phone


CUSTOMER, OTHER = "+31612345678", "+31687654321"
Scenario = Callable[[People], Awaitable[None]]


async def plain(people: People) -> None:
    """The customer calls the agent, they talk, the customer hangs up."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    await call.talk(0.5)
    await call.hangup()


async def hold(people: People) -> None:
    """As `plain`; the agent holds and takes the call back."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    await call.talk(0.3)
    await answered.hold()
    await call.talk(0.5)
    await answered.unhold()
    await call.talk(0.3)
    await answered.dtmf("5")
    await call.dtmf("9")
    await call.talk(0.5)
    await call.hangup()


async def queue_local(people: People) -> None:
    """The customer calls a queue whose member is Local/101@members: the Local pair is optimised away."""
    call = await (await people.customer.call("31209999000", caller_id=CUSTOMER)).answered()
    await (await people.colleague.incoming()).answered()
    await call.talk(1.0)
    await call.hangup()


async def attended_refer(people: People) -> None:
    """The agent holds the customer, calls the third party outside, and joins the two by REFER with Replaces."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    await answered.hold()
    question = await (await people.agent.call("80201112223")).answered()
    await question.talk(0.5)
    await answered.refer_replaces(question)
    await question.ended()
    await answered.ended()
    await call.talk(0.5)
    await call.hangup()


async def blind_refer(people: People) -> None:
    """The agent sends the customer to the third party outside by a blind REFER."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    await call.talk(0.3)
    await answered.refer("80201112223")
    await (await people.third.incoming()).answered()
    await call.talk(0.5)
    await call.hangup()


async def second_ringing(people: People) -> None:
    """While the agent talks to the customer, another outside caller rings at the agent's phone and gives up."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    await (await people.agent.incoming()).answered()
    await people.agent.answers(Ring())
    second = await (await people.third.call("31201234100", caller_id=OTHER)).ringing()
    await second.talk(0.5)
    await second.hangup()
    await call.talk(0.3)
    await call.hangup()


async def three_way(people: People) -> None:
    """The agent, talking to the customer, calls the third party and joins both in the phone: no hold, no transfer."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    second = await (await people.agent.call("80201112223")).answered()
    await answered.join(second)
    await call.talk(0.5)
    await second.hangup()
    await call.talk(0.3)
    await call.hangup()


async def feature_transfer(people: People) -> None:
    """The agent transfers the customer to the third party with the feature code *2 (attended), in Asterisk."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    await call.talk(0.3)
    await answered.dtmf("*2")
    await call.talk(1.5)
    await answered.dtmf("80201112223")
    await (await people.third.incoming()).answered()
    await call.talk(1.0)
    await answered.hangup()
    await call.talk(1.0)
    await call.hangup()


async def outbound_told(people: People) -> None:
    """The agent calls the third party, who is told by the dialplan (U()) before the bridge."""
    call = await (await people.agent.call("70201112223")).answered()
    await (await people.third.incoming()).answered()
    await call.talk(0.5)
    await call.hangup()


async def forwarded(people: People) -> None:
    """The agent's phone answers 302 to an outside number: the customer talks to the third party, no agent at all."""
    await people.agent.answers(Forward("sip:80201112223@127.0.0.1"))
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    await call.talk(0.5)
    await call.hangup()


async def forwarded_local(people: People) -> None:
    """The customer is forwarded to the third party outside through a Local channel that stays, and hangs up."""
    call = await (await people.customer.call("31208888000", caller_id=CUSTOMER)).answered()
    await (await people.third.incoming()).answered()
    await call.talk(0.5)
    await call.hangup()


async def code_taken_back(people: People) -> None:
    """As `feature_transfer`; once he has talked with the third party, the agent takes the customer back by *1."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    answered = await (await people.agent.incoming()).answered()
    await call.talk(0.3)
    await answered.dtmf("*2")
    await call.talk(1.5)
    await answered.dtmf("80201112223")
    third = await (await people.third.incoming()).answered()
    await call.talk(1.0)
    await answered.dtmf("*1")
    await third.ended()
    await call.talk(0.5)
    await call.hangup()


async def spied(people: People) -> None:
    """A colleague spies (ChanSpy) on the agent during the call, and leaves."""
    call = await (await people.customer.call("31201234100", caller_id=CUSTOMER)).answered()
    await (await people.agent.incoming()).answered()
    spy = await (await people.colleague.call("555")).answered()
    await spy.talk(0.5)
    await spy.hangup()
    await call.talk(0.3)
    await call.hangup()


async def replaced_in_conference(people: People) -> None:
    """In a conference with the customer and a colleague, the agent puts the third party outside in his own place by
    REFER with Replaces; the third party leaves."""
    call = await (await people.customer.call("31207777000", caller_id=CUSTOMER)).answered()
    own = await (await people.agent.call("*77")).answered()
    colleague = await (await people.colleague.call("*77")).answered()
    await call.talk(0.5)
    await own.hold()
    question = await (await people.agent.call("80201112223")).answered()
    third = await people.third.incoming()
    await question.talk(0.5)
    await own.refer_replaces(question)
    await own.ended()
    await call.talk(0.5)
    await third.hangup()
    await call.talk(0.5)
    await colleague.hangup()
    await call.hangup()


async def replaced_by_invite(people: People) -> None:
    """In a conference with the customer and a colleague, the third party outside puts himself in the place of the
    agent by INVITE with Replaces, and leaves."""
    call = await (await people.customer.call("31207777000", caller_id=CUSTOMER)).answered()
    own = await (await people.agent.call("*77")).answered()
    colleague = await (await people.colleague.call("*77")).answered()
    await call.talk(0.5)
    third = await people.third.call("31201234100", caller_id=OTHER, headers={"Replaces": await dialog(people, "100")})
    await third.answered()
    await own.ended()
    await call.talk(0.5)
    await third.hangup()
    await call.talk(0.5)
    await colleague.hangup()
    await call.hangup()


async def channel(people: People, line: str) -> str:
    """The name of the one channel of a line."""
    rows = (await people.asterisk.cli("core show channels concise")).splitlines()
    (name,) = [row.split("!")[0] for row in rows if row.startswith(f"PJSIP/{line}-")]
    return name


async def dialog(people: People, line: str) -> str:
    """A Replaces header (RFC 3891) for the one call of a line."""
    name = await channel(people, line)
    async with ami.connect(people.asterisk) as manager:
        call, ours, theirs = [
            (await manager.action("Getvar", Channel=name, Variable=f"CHANNEL(pjsip,{what})"))["Value"]
            for what in ("call-id", "local_tag", "remote_tag")
        ]
    return f"{call};to-tag={ours};from-tag={theirs}"


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        hold,
        queue_local,
        attended_refer,
        blind_refer,
        second_ringing,
        three_way,
        feature_transfer,
        outbound_told,
        forwarded,
        spied,
        forwarded_local,
        code_taken_back,
        replaced_in_conference,
        replaced_by_invite,
    )
}


async def record(asterisk: Asterisk, phones: Phones, scenario: Scenario) -> list[dict[str, str]]:
    """What our connection receives while the scenario happens, until no channel is left."""
    events: list[dict[str, str]] = []
    began = time.monotonic()
    ended = asyncio.Event()

    def keep(event: Mapping[str, str]) -> None:
        if event.get("Variable") == "PBXGUARD_END":
            ended.set()
            return
        headers = {name: value for name, value in event.items() if name != "content"}
        events.append({"received": f"{time.monotonic() - began:.6f}", **headers})

    names = ("100", "101", "trunk-a", "trunk-b")
    people = [await phones.add(asterisk.line(name), on_incoming=Answer(0.2)) for name in names]
    tuning = Tuning()
    session = await Session.open(
        Address("127.0.0.1", asterisk.ami_port, asterisk.ami_user, asterisk.ami_secret), tuning, keep
    )
    try:
        for rule in FILTERS:
            await session.action("Filter", {"Operation": "Add", **rule})
        await session.action("Events", {"EventMask": EVENT_MASK})
        await scenario(People(asterisk, *people))
        await asterisk.idle()
        await session.action("Setvar", {"Variable": "PBXGUARD_END", "Value": "1"})
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        session.close()
        for phone in people:
            await phones.remove(phone)
    return events


async def main(wanted: list[str]) -> None:
    async with Asterisk(dialplan=DIALPLAN, files={"queues.conf": QUEUES}) as asterisk, Phones() as phones:
        for name in wanted or SCENARIOS:
            events = await record(asterisk, phones, SCENARIOS[name])
            lines = [json.dumps(event, ensure_ascii=False, sort_keys=False) for event in events]
            (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
            print(f"{name}: {len(events)} events")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
