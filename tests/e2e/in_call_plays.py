"""Owns: the calls of test_row_objection and test_row_private, which are played together, wave after wave."""

from __future__ import annotations

import asyncio
import signal

from tests.e2e.in_call import (
    BOTH,
    CUSTOMER,
    LAW,
    OBJECT,
    PAUSE,
    PRIVATE,
    PROOF,
    TALK_S,
    TRAIN,
    Office,
    Talk,
)
from tests.lab.deaths import die, restart, settled, start
from tests.lab.evidence import until_recorded
from tests.lab.signals import Silence


async def objected(office: Office, did: str, extension: str, number: str, effect: str) -> Talk:
    """The customer presses his key, says something that must not be kept, and is told what came of it."""
    talk = await office.talk(did, extension, number)
    await talk.customer.talk(TALK_S)
    await talk.customer.dtmf(OBJECT)
    await talk.recorded("objected", on=False)
    await talk.says_what_must_not_be_kept()
    await talk.confirmed(effect)
    await talk.over()
    return talk


async def to_training(office: Office) -> Talk:
    return await objected(office, TRAIN, "101", "+31612420001", "destroyed")


async def to_both(office: Office) -> Talk:
    return await objected(office, BOTH, "102", "+31612420002", "locked")


async def aloud(office: Office) -> Talk:
    """The agent presses the key for what the customer says aloud, and passes him on to a colleague."""
    talk = await office.talk(PROOF, "103", "+31612420003")
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(OBJECT)
    await talk.recorded("objected", on=False)
    await talk.confirmed("locked")
    await talk.agent.refer("104")
    other = await office.agents["104"].incoming(number=talk.number, deadline_s=20)
    await other.answered()
    await talk.says_what_must_not_be_kept()
    talk.views["with a colleague"] = await until_recorded(office.site, talk.number, on=False)
    await talk.over()
    return talk


async def to_what_the_law_demands(office: Office) -> Talk:
    """The customer is silent while he is told what came of it, and speaks on."""
    talk = await office.talk(LAW, "105", "+31612420005")
    await talk.customer.talk(TALK_S)
    await talk.customer.dtmf(OBJECT)
    await talk.customer.say(Silence())
    await office.until(lambda: talk.lines("objected"), "noted")
    await talk.confirmed("noted")
    await talk.customer.say(CUSTOMER)
    await talk.customer.talk(TALK_S)
    await talk.recorded("afterwards")
    await talk.over()
    return talk


async def by_operator(office: Office) -> Talk:
    talk = await office.talk(PROOF, "106", "+31612420006")
    await talk.customer.talk(TALK_S)
    await office.site.run("calls", "object", talk.id)
    await talk.recorded("objected", on=False)
    await talk.says_what_must_not_be_kept()
    await talk.over()
    return talk


async def twin(office: Office) -> Talk:
    """To train, and nobody objects."""
    talk = await office.talk(TRAIN, "107", "+31612420007")
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def private_late(office: Office) -> Talk:
    """The customer's own key does nothing; the agent's makes it private."""
    talk = await office.talk(PROOF, "108", "+31612430008")
    await talk.customer.dtmf(PRIVATE)
    await office.until(lambda: office.site.events("request.refused"), "refused")
    talk.views["the customer's key"] = await until_recorded(office.site, talk.number)
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(PRIVATE)
    await talk.recorded("private", on=False)
    await talk.says_what_must_not_be_kept()
    await talk.over()
    return talk


async def private_by_operator(office: Office) -> Talk:
    talk = await office.talk(PROOF, "109", "+31612430009")
    await talk.customer.talk(TALK_S)
    await office.site.run("calls", "private", talk.id)
    await talk.recorded("private", on=False)
    await talk.over()
    return talk


async def asked_while_dead(office: Office) -> Talk:
    """Killed while four calls are recorded; in three of them keys are pressed before the next one starts.

    In one an agent first objects, for what his customer says aloud, and then pauses: the later key takes nothing away.
    """
    site = office.site
    talk = await office.talk(PROOF, "101", "+31612420011")
    private = await office.talk(PROOF, "103", "+31612430013")
    other = await office.talk(PROOF, "105", "+31612420015")
    twice = await office.talk(TRAIN, "107", "+31612420017")
    await asyncio.gather(*(one.customer.talk(TALK_S) for one in (talk, private, other, twice)))
    await site.stop(signal.SIGKILL)
    await site.run("stop-recorders", "--json")
    await talk.customer.dtmf(OBJECT)
    await private.agent.dtmf(PRIVATE)
    await twice.agent.dtmf(OBJECT)
    await asyncio.sleep(0.5)
    await twice.agent.dtmf(PAUSE)
    await asyncio.sleep(0.5)
    await talk.says_what_must_not_be_kept()
    await site.start()
    talk.views["after the restart"] = await until_recorded(site, talk.number, on=False)
    talk.views["the private one"] = await until_recorded(site, private.number, on=False)
    talk.views["the other"] = await until_recorded(site, other.number)
    talk.views["the one with two keys"] = await until_recorded(site, twice.number, on=False)
    await office.until(lambda: talk.lines("objected") and private.lines("private"), "noted")
    await office.until(lambda: twice.lines("objected") and twice.lines("paused"), "both noted")
    await asyncio.gather(*(one.over() for one in (talk, private, other, twice)))
    await settled(site)
    return talk


async def dies(office: Office, at: str, key: str, extension: str, number: str) -> Talk:
    """Killed there by the agent's key, and started again; the call goes on for a while."""
    site = office.site
    await site.stop()
    await start(site, at)
    talk = await office.talk(TRAIN, extension, number)
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(key)
    await die(site)
    await restart(site, "")
    talk.views["after the restart"] = await until_recorded(site, talk.number, on=False)
    await talk.customer.talk(1.0)
    await talk.over()
    await settled(site)
    return talk


async def dies_before_it_is_written(office: Office) -> Talk:
    return await dies(office, "request.acted", OBJECT, "107", "+31612420021")


async def dies_after_it_is_written(office: Office) -> Talk:
    return await dies(office, "request.noted", OBJECT, "108", "+31612420022")


async def dies_at_private(office: Office) -> Talk:
    return await dies(office, "request.acted", PRIVATE, "109", "+31612430023")


WAVES = (
    (to_training, to_both, aloud, to_what_the_law_demands, by_operator, twin, private_late, private_by_operator),
    (asked_while_dead,),
    (dies_before_it_is_written,),
    (dies_after_it_is_written,),
    (dies_at_private,),
)
EXTENSIONS = tuple(str(n) for n in range(101, 110))
