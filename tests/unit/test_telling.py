"""The third door: what the core wants whispered is whispered, and an end of it is told in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from pbxguard.core.announcement import Outcome, Result, Timing
from pbxguard.core.commands import StopTelling, Tell
from pbxguard.core.confirmations import Confirm, Confirmation, ConfirmationKey, Effect
from pbxguard.core.facts import (
    DisclosureBegun,
    DisclosureHeard,
    DisclosureNotHeard,
    Objected,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason
from pbxguard.service.ports import WhisperListener
from pbxguard.service.telling import Teller
from tests.unit.test_doors import HIM, PROOF, TOLD, World, disclosure

KEY = disclosure(Direction.INBOUND).key
STRANGE = DisclosureKey.of((PROOF,), "fr", Mode.NOTICE, Direction.INBOUND)
DEADLINE_S = 5.0


@dataclass
class ScriptedWhisper:
    """Comes to `outcome`, perhaps after a 9; or fails with a fault of its own; or waits until it is broken off."""

    outcome: Outcome = TOLD
    nine: bool = False
    fault: Exception | None = None
    waits: bool = False
    announced: list[tuple[Uniqueid, Disclosure, bool]] = field(default_factory=list)
    played: list[tuple[Uniqueid, str, int]] = field(default_factory=list)
    cancelled: list[Uniqueid] = field(default_factory=list)
    off: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, channel: Uniqueid, sound: str, length_ms: int) -> Reason | None:
        self.played.append((channel, sound, length_ms))
        if self.fault is not None:
            raise self.fault
        return None if self.outcome.heard else self.outcome.reasons[0]

    async def announce(
        self,
        channel: Uniqueid,
        disclosure: Disclosure,
        timing: Timing,
        listener: WhisperListener,
        *,
        goes_on: bool = False,
    ) -> Outcome:
        self.announced.append((channel, disclosure, goes_on))
        if self.fault is not None:
            raise self.fault
        if self.waits:
            await self.off.wait()
        if self.nine:
            await listener.objected()
        await listener.concluded(self.outcome)
        return self.outcome

    def cancel(self, channel: Uniqueid) -> None:
        self.cancelled.append(channel)
        self.off.set()


@asynccontextmanager
async def telling(world: World, whisper: ScriptedWhisper) -> AsyncIterator[Teller]:
    teller = Teller(world.around(), whisper)
    running = asyncio.create_task(teller.run())
    await asyncio.sleep(0)
    try:
        yield teller
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_what_was_whispered_whole_is_in_the_audit_log_before_the_core_hears_of_it() -> None:
    world, whisper = World(), ScriptedWhisper()
    async with telling(world, whisper) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: world.facts(DisclosureHeard))
    assert whisper.announced == [(HIM, disclosure(Direction.INBOUND), False)]
    (heard,) = world.facts(DisclosureHeard)
    assert world.done.index(DisclosureBegun(HIM)) < world.done.index("disclosure.heard") < world.done.index(heard)


async def test_what_was_cut_short_is_told_as_not_heard() -> None:
    world = World()
    async with telling(world, ScriptedWhisper(Outcome(Result.FAILED, (Reason.PROMPT_CUT,)))) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: "disclosure.not_heard" in world.done)
    assert world.facts(DisclosureNotHeard) == [DisclosureNotHeard(HIM, KEY, Reason.PROMPT_CUT.value)]
    assert not world.facts(DisclosureHeard)


async def test_a_nine_is_told_to_the_core_before_the_audit_log() -> None:
    world = World()
    outcome = Outcome(Result.OBJECTED, (Reason.OBJECTED, Reason.PROMPT_CUT), objected=True)
    async with telling(world, ScriptedWhisper(outcome, nine=True)) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: "objected" in world.done and world.facts(DisclosureNotHeard))
    assert world.facts(Objected) == [Objected(HIM, (PROOF,))]
    assert world.done.index(Objected(HIM, (PROOF,))) < world.done.index("objected")


async def test_a_disclosure_that_is_approved_no_more_is_not_whispered() -> None:
    world, whisper = World(), ScriptedWhisper()
    async with telling(world, whisper) as teller:
        teller(Tell(HIM, STRANGE))
        await until(lambda: world.facts(DisclosureNotHeard))
    assert not whisper.announced
    expected = DisclosureNotHeard(HIM, STRANGE, Reason.DISCLOSURE_UNAPPROVED.value)
    assert world.facts(DisclosureNotHeard) == [expected]


async def test_a_fault_of_ours_leaves_him_untold_and_the_next_one_is_told() -> None:
    world, whisper = World(), ScriptedWhisper(fault=ZeroDivisionError())
    async with telling(world, whisper) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: world.facts(DisclosureNotHeard))
        assert world.facts(DisclosureNotHeard) == [DisclosureNotHeard(HIM, KEY, Reason.PROMPT_FAILED.value)]
        whisper.fault = None
        teller(Tell(HIM, KEY))
        await until(lambda: world.facts(DisclosureHeard))


async def test_it_is_broken_off_when_the_core_wants_it_no_more() -> None:
    world = World()
    whisper = ScriptedWhisper(Outcome(Result.FAILED, (Reason.PROMPT_FAILED,)), waits=True)
    async with telling(world, whisper) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: whisper.announced)
        assert not world.facts(DisclosureNotHeard)
        teller(StopTelling(HIM))
        await until(lambda: world.facts(DisclosureNotHeard))
    assert whisper.cancelled == [HIM]


async def test_what_the_audit_log_does_not_take_was_not_heard() -> None:
    world = World(audit_fails=True)
    async with telling(world, ScriptedWhisper()) as teller:
        teller(Tell(HIM, KEY))
        await until(lambda: world.facts(DisclosureNotHeard))
    assert world.facts(DisclosureNotHeard) == [DisclosureNotHeard(HIM, KEY, Reason.AUDIT_UNHEALTHY.value)]
    assert not world.facts(DisclosureHeard)


LOCKED = Confirmation(ConfirmationKey.of(Effect.LOCKED, "nl"), "/prompts/locked", 2500)


def confirming(world: World, *approved: Confirmation) -> World:
    return replace(world, policy=replace(world.policy, confirmations={one.key: one for one in approved}))


async def confirmed(world: World, whisper: ScriptedWhisper, command: Confirm) -> list[MutableMapping[str, Any]]:
    """Asks for it, and gives what operators are told."""
    with capture_logs() as lines:
        async with telling(world, whisper) as teller:
            teller.confirm(command)
            await until(lambda: [line for line in lines if line["event"].startswith("objection.")])
    assert not whisper.announced
    return [line for line in lines if line["event"].startswith("objection.")]


@pytest.mark.parametrize("language", ["nl", "fr"])
async def test_what_came_of_an_objection_is_said_in_his_language_or_the_usual_one(language: str) -> None:
    whisper = ScriptedWhisper()
    (line,) = await confirmed(confirming(World(), LOCKED), whisper, Confirm(HIM, Effect.LOCKED, language))
    assert whisper.played == [(HIM, "/prompts/locked", 2500)]
    assert (line["event"], line["call"], line["effect"]) == ("objection.confirmed", HIM, "locked")


async def test_what_nobody_approved_is_not_said_and_operators_are_told() -> None:
    whisper = ScriptedWhisper()
    (line,) = await confirmed(confirming(World(), LOCKED), whisper, Confirm(HIM, Effect.DESTROYED, "nl"))
    assert whisper.played == []
    assert (line["event"], line["reason"]) == ("objection.unconfirmed", "disclosure_unapproved")


async def test_who_is_on_hold_is_told_nothing_of_his_objection() -> None:
    whisper = ScriptedWhisper()
    world = confirming(World(deaf=Reason.PROMPT_ON_HOLD), LOCKED)
    (line,) = await confirmed(world, whisper, Confirm(HIM, Effect.LOCKED, "nl"))
    assert whisper.played == []
    assert line["reason"] == "prompt_on_hold"


async def test_a_confirmation_that_was_cut_short_is_told_as_such_and_a_fault_ends_nothing() -> None:
    whisper = ScriptedWhisper(Outcome(Result.FAILED, (Reason.PROMPT_CUT,)))
    (line,) = await confirmed(confirming(World(), LOCKED), whisper, Confirm(HIM, Effect.LOCKED, "nl"))
    assert line["reason"] == "prompt_cut"
    world, broken = confirming(World(), LOCKED), ScriptedWhisper(fault=ZeroDivisionError())
    (line,) = await confirmed(world, broken, Confirm(HIM, Effect.LOCKED, "nl"))
    assert line["reason"] == "prompt_failed"
