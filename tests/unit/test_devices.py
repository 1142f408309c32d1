"""Which channels are one telephone: by endpoint, by group, by contact; and how the contact is asked for."""

from __future__ import annotations

import asyncio

from pbxguard.core.devices import DeviceRules
from pbxguard.core.errors import ConnectionFailed
from pbxguard.core.facts import (
    ChannelCreated,
    ChannelState,
    ChannelStateChanged,
    ContactSeen,
    Fact,
    SnapshotTaken,
)
from pbxguard.core.ids import LinkedId, Uniqueid
from pbxguard.core.policy import PartyPatterns, Policy
from pbxguard.core.switchboard import Switchboard
from pbxguard.service.contacts import Contacts

A, B, C = (Uniqueid(f"1700000000.{n}") for n in range(1, 4))
HERE, THERE = "192.0.2.1:5060", "192.0.2.2:5060"
GROUPED = DeviceRules(groups=(("PJSIP/110", "PJSIP/111"),))
SPLIT = DeviceRules(by_contact=("PJSIP/112",))


def created(channel: Uniqueid, name: str) -> ChannelCreated:
    return ChannelCreated(channel, name, LinkedId(channel), ChannelState.UP)


def board(rules: DeviceRules, *facts: Fact) -> Switchboard:
    made = Switchboard(PartyPatterns(own=("PJSIP/1??-*",), devices=rules))
    for fact in facts:
        made.apply(fact)
    return made


def beside(made: Switchboard, channel: Uniqueid) -> set[Uniqueid]:
    return {other.uniqueid for other in made.beside(made.channels[channel])}


TWO_ACCOUNTS = (created(A, "PJSIP/110-1"), created(B, "PJSIP/111-2"), created(C, "PJSIP/112-3"))
ONE_ENDPOINT = (created(A, "PJSIP/112-1"), created(B, "PJSIP/112-2"))


def test_an_endpoint_is_a_device_unless_configured() -> None:
    assert beside(board(DeviceRules(), *TWO_ACCOUNTS), A) == set()
    assert beside(board(DeviceRules(), *ONE_ENDPOINT), A) == {B}


def test_accounts_that_are_grouped_are_one_device_and_bear_on_each_other() -> None:
    made = board(GROUPED, *TWO_ACCOUNTS)
    assert beside(made, A) == {B}
    assert beside(made, C) == set()
    assert made.apply(ChannelStateChanged(B, ChannelState.UP)) == {A, B}


def test_an_endpoint_that_is_split_is_one_device_until_both_contacts_are_known() -> None:
    made = board(SPLIT, *ONE_ENDPOINT)
    assert beside(made, A) == {B}
    made.apply(ContactSeen(A, HERE))
    assert beside(made, A) == {B}
    assert made.apply(ContactSeen(B, THERE)) == {A, B}
    assert beside(made, A) == beside(made, B) == set()


def test_two_channels_of_one_contact_stay_one_device() -> None:
    assert beside(board(SPLIT, *ONE_ENDPOINT, ContactSeen(A, HERE), ContactSeen(B, HERE)), A) == {B}


def test_contacts_say_nothing_where_an_endpoint_is_not_split() -> None:
    assert beside(board(GROUPED, *ONE_ENDPOINT, ContactSeen(A, HERE), ContactSeen(B, THERE)), A) == {B}


def test_a_snapshot_keeps_the_contacts_and_a_reload_groups_anew() -> None:
    made = board(SPLIT, *ONE_ENDPOINT, ContactSeen(A, HERE), ContactSeen(B, THERE))
    made.apply(SnapshotTaken("boot", ONE_ENDPOINT))
    assert beside(made, A) == set()
    made = board(DeviceRules(), *TWO_ACCOUNTS)
    made.reclassify(PartyPatterns(own=("PJSIP/1??-*",), devices=GROUPED))
    assert beside(made, A) == {B}


class Telephones:
    """Asterisk as it is asked: an answer, or none, each time."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Uniqueid] = []
        self.learned: asyncio.Queue[Fact] = asyncio.Queue()

    async def contact(self, channel: Uniqueid) -> str:
        self.asked.append(channel)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def put(self, fact: Fact) -> None:
        await self.learned.put(fact)


async def learned(telephones: Telephones, *facts: Fact) -> Fact:
    policy = Policy("x", parties=PartyPatterns(devices=SPLIT))
    contacts = Contacts(lambda: policy, telephones, telephones)
    running = asyncio.create_task(contacts.run())
    try:
        for fact in facts:
            contacts.observe(fact)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            return await telephones.learned.get()
    finally:
        running.cancel()


async def test_only_channels_of_split_endpoints_are_asked_for() -> None:
    telephones = Telephones(HERE)
    assert await learned(telephones, created(C, "PJSIP/110-3"), created(A, "PJSIP/112-1")) == ContactSeen(A, HERE)
    assert telephones.asked == [A]


async def test_a_channel_that_has_no_contact_yet_is_asked_again_when_its_state_changes() -> None:
    telephones = Telephones("", ConnectionFailed("ami", "gone"), THERE)
    state = ChannelStateChanged(A, ChannelState.UP)
    assert await learned(telephones, SnapshotTaken("b", (created(A, "PJSIP/112-1"),)), state, state) == ContactSeen(
        A, THERE
    )
    assert telephones.asked == [A, A, A]
