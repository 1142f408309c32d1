"""The callee's door: judges what Asterisk itself played to a callee before the bridge, as dialplan events tell it.

The subroutine ``pbxguard-callee`` plays the notice by `Playback` and then, where a key is asked, the key sentence by
`Read`, and reports the begin and end of each with the channel's counters. A prompt counts as heard by the same rules
as at the caller's door (`announcement`), with two differences: time is taken when events reach us, which proves
nothing by itself, and the dialplan knows packets only, not octets. So the packets sent carry the proof, each taken as
20 ms, which is what Asterisk sends unless an endpoint's `allow` says otherwise; with longer ones nobody is told.

A 9 counts whenever it is pressed while the prompts last, a 1 only once the notice was heard in full.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from .announcement import SENT_SHARE
from .facts import CalleePromptBegun, CalleePromptEnded, ChannelHungUp, ConnectionLost, DigitPressed, Fact, Held
from .ids import PurposeName, Uniqueid
from .policy import Policy
from .purposes import Disclosure, DisclosureKey, Mode
from .reasons import Reason

MOST_CALLEES = 5000
"""How many callees may be listening at once; beyond, the oldest is forgotten and stays untold."""
SHORT = 0.06
"""Seconds by which a prompt may look shorter than its sound."""
PACKET = 0.02
"""Seconds of sound in a packet that Asterisk sends."""
KEY_PART = "/key"
"""Ends the prompt's name in the events of the key sentence."""


@dataclass(frozen=True, slots=True)
class CalleeHeard:
    """The whole disclosure was heard; `consented`: and a 1 pressed where one was asked."""

    channel: Uniqueid
    disclosure: Disclosure
    consented: bool


@dataclass(frozen=True, slots=True)
class CalleeNotHeard:
    channel: Uniqueid
    disclosure: DisclosureKey | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class CalleeObjected:
    channel: Uniqueid
    purposes: tuple[PurposeName, ...]


Finding = CalleeHeard | CalleeNotHeard | CalleeObjected


class _Stage(Enum):
    NOTICE = "notice"
    BETWEEN = "between"
    """The notice was heard; its key sentence is to come."""
    KEY = "key"


@dataclass(slots=True)
class _Listening:
    key: DisclosureKey
    begun: CalleePromptBegun
    stage: _Stage = _Stage.NOTICE
    held: bool = False
    objected: bool = False
    pressed: set[str] = field(default_factory=set)


class CalleePrompts:
    """Feed it every fact, in AMI's order; what it returns is new knowledge about a callee's channel."""

    def __init__(self) -> None:
        self._listening: OrderedDict[Uniqueid, _Listening] = OrderedDict()

    def handle(self, fact: Fact, policy: Policy) -> list[Finding]:
        """What `fact` makes known; facts that concern no callee being told are ignored."""
        match fact:
            case CalleePromptBegun():
                return self._begun(fact)
            case CalleePromptEnded():
                return self._ended(fact, policy)
            case Held(channel):
                if listening := self._listening.get(channel):
                    listening.held = True
                return []
            case DigitPressed(channel, digit):
                return self._digit(channel, digit)
            case ChannelHungUp(channel):
                listening = self._listening.pop(channel, None)
                return [CalleeNotHeard(channel, listening.key, Reason.PROMPT_CHANNEL_GONE)] if listening else []
            case ConnectionLost():
                # A 9 or a hold that came meanwhile will never be known.
                lost, self._listening = self._listening, OrderedDict()
                return [CalleeNotHeard(c, listening.key, Reason.PROMPT_FAILED) for c, listening in lost.items()]
            case _:
                return []

    def _begun(self, fact: CalleePromptBegun) -> list[Finding]:
        name, is_key = _part(fact.prompt)
        try:
            key = DisclosureKey.parse(name)
        except ValueError:
            return [CalleeNotHeard(fact.channel, None, Reason.PROMPT_FAILED)]
        before = self._listening.get(fact.channel)
        if is_key:
            if before is None or before.stage is not _Stage.BETWEEN or before.key != key:
                return self._failed(fact.channel, Reason.PROMPT_FAILED)
            before.stage, before.begun = _Stage.KEY, fact
            return []
        self._listening[fact.channel] = _Listening(key, fact)
        self._listening.move_to_end(fact.channel)
        if len(self._listening) > MOST_CALLEES:
            gone, listening = self._listening.popitem(last=False)
            return [CalleeNotHeard(gone, listening.key, Reason.PROMPT_TIMED_OUT)]
        return []

    def _ended(self, fact: CalleePromptEnded, policy: Policy) -> list[Finding]:
        listening = self._listening.get(fact.channel)
        name, is_key = _part(fact.prompt)
        if listening is None or str(listening.key) != name or is_key != (listening.stage is _Stage.KEY):
            return self._failed(fact.channel, Reason.PROMPT_FAILED)
        out: list[Finding] = []
        if fact.key == "9":
            out += self._digit(fact.channel, "9")
        disclosure = policy.disclosures.get(listening.key)
        if disclosure is None:
            return out + self._failed(fact.channel, Reason.DISCLOSURE_UNAPPROVED)
        length_ms = disclosure.key_ms if is_key else disclosure.notice_ms
        # a key pressed in the key sentence cuts it short: then he knows it
        answered = is_key and (fact.key in ("1", "9") or "1" in listening.pressed)
        reason = None if answered and not listening.held else _unheard(listening, fact, length_ms)
        if reason is not None:
            return out + self._failed(fact.channel, reason)
        if not is_key and disclosure.key_sound:
            listening.stage = _Stage.BETWEEN
            return out
        del self._listening[fact.channel]
        if is_key and fact.key == "9":
            return out  # the key sentence was not played whole; the objection is out already
        agreed = disclosure.key.mode is Mode.OPT_IN and (fact.key == "1" or "1" in listening.pressed)
        return [*out, CalleeHeard(fact.channel, disclosure, agreed and not listening.objected)]

    def _digit(self, channel: Uniqueid, digit: str) -> list[Finding]:
        listening = self._listening.get(channel)
        if listening is None:
            return []
        if digit == "9" and not listening.objected:
            listening.objected = True
            return [CalleeObjected(channel, listening.key.purposes)]
        if digit == "1" and listening.stage is not _Stage.NOTICE:
            listening.pressed.add("1")
        return []

    def _failed(self, channel: Uniqueid, reason: Reason) -> list[Finding]:
        listening = self._listening.pop(channel, None)
        return [CalleeNotHeard(channel, listening.key if listening else None, reason)]


def _part(prompt: str) -> tuple[str, bool]:
    return prompt.removesuffix(KEY_PART), prompt.endswith(KEY_PART)


def _unheard(listening: _Listening, ended: CalleePromptEnded, length_ms: int) -> Reason | None:
    """Why a sound of `length_ms` was not heard in full; None when it was."""
    begun = listening.begun
    length = length_ms / 1000
    if listening.held:
        return Reason.PROMPT_ON_HOLD
    if ended.state not in ("SUCCESS", "OK", "TIMEOUT"):  # PLAYBACKSTATUS, READSTATUS
        return Reason.PROMPT_FAILED
    if ended.at - begun.at < length - SHORT:
        return Reason.PROMPT_CUT
    if (ended.tx_packets - begun.tx_packets) * PACKET < SENT_SHARE * length:
        return Reason.PROMPT_UNSENT
    if ended.rx_packets <= begun.rx_packets:
        return Reason.PROMPT_NO_MEDIA
    return None
