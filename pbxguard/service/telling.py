"""The third door, in the bridge: whoever joined untold, or a purpose was begun for in mid-call, is told by whisper.

Carries out what the core decided (`core.joiners`); what comes out of it is told as at the other doors, in every case.
"""

from __future__ import annotations

import asyncio

from pbxguard.core.announcement import Timing
from pbxguard.core.commands import StopTelling, Tell
from pbxguard.core.confirmations import Confirm, ConfirmationKey
from pbxguard.core.facts import DisclosureBegun, DisclosureNotHeard
from pbxguard.core.ids import Uniqueid
from pbxguard.core.purposes import DisclosureKey
from pbxguard.core.reasons import Reason
from pbxguard.core.selection import goes_on_despite_objection
from pbxguard.logs import Event, get_logger

from .doors import Surroundings, Telling
from .ports import Whisper

_log = get_logger()


class Teller:
    """`teller(command)` for each `Tell` and `StopTelling`; `run` owns what follows."""

    def __init__(self, around: Surroundings, whisper: Whisper) -> None:
        self._around, self._whisper = around, whisper
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    def __call__(self, command: Tell | StopTelling) -> None:
        """Begins it, or breaks it off; returns at once."""
        if isinstance(command, StopTelling):
            self._whisper.cancel(command.channel)
        elif self._group is not None:
            self._group.create_task(self._owned(command), name="teller")

    def confirm(self, command: Confirm) -> None:
        """Says to a party what came of its objection; returns at once. What cannot be said is told operators."""
        if self._group is not None:
            self._group.create_task(self._confirm(command), name="confirmation")

    async def _confirm(self, command: Confirm) -> None:
        around, channel, effect = self._around, command.channel, command.effect
        policy = around.policy()
        languages = dict.fromkeys((command.language, policy.default_language))
        keys = (ConfirmationKey.of(effect, language) for language in languages)
        said = next((policy.confirmations[key] for key in keys if key in policy.confirmations), None)
        reason: Reason | None
        try:
            if said is None:
                reason = Reason.DISCLOSURE_UNAPPROVED
            elif (reason := around.deaf(channel)) is None:
                reason = await self._whisper.play(channel, said.sound, said.length_ms)
        except Exception as error:  # a fault of ours leaves it unsaid
            _log.error(Event.DOOR_FAILED, call=channel, reason=type(error).__name__, exc_info=error)
            reason = Reason.PROMPT_FAILED
        if reason is None:
            _log.info(Event.OBJECTION_CONFIRMED, call=channel, effect=effect.value)
        else:
            _log.warning(Event.OBJECTION_UNCONFIRMED, call=channel, effect=effect.value, reason=reason.value)

    async def _owned(self, command: Tell) -> None:
        try:
            await self._tell(command.channel, command.disclosure)
        except Exception as error:  # a fault of ours leaves him untold
            _log.error(Event.DOOR_FAILED, call=command.channel, reason=type(error).__name__, exc_info=error)
            await self._around.close(
                DisclosureNotHeard(command.channel, command.disclosure, Reason.PROMPT_FAILED.value)
            )

    async def _tell(self, channel: Uniqueid, key: DisclosureKey) -> None:
        around = self._around
        policy = around.policy()
        disclosure = policy.disclosures.get(key)
        if disclosure is None:  # the policy was reloaded meanwhile
            await around.close(DisclosureNotHeard(channel, key, Reason.DISCLOSURE_UNAPPROVED.value))
            return
        _log.info(Event.DISCLOSURE_STARTED, call=channel, disclosure=str(key), whispered=True)
        async with asyncio.TaskGroup() as group:
            await around.facts.put(DisclosureBegun(channel))
            await self._whisper.announce(
                channel,
                disclosure,
                Timing(key_wait=policy.limits.key_wait),
                Telling(around, group, channel, disclosure),
                goes_on=goes_on_despite_objection(policy, key.purposes),
            )
