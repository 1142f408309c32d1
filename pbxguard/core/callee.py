"""The callee's door: judges what Asterisk itself played to a callee before the bridge, as dialplan events tell it.

The subroutine ``pbxguard-callee`` plays the notice by `Playback` and then, where a key is asked, the key sentence by
`Read`, and reports the begin and end of each with the channel's counters. A prompt counts as heard by the same rules
as at the caller's door (`announcement`), with two differences: time is taken when events reach us, which proves
nothing by itself, and the dialplan knows packets only, not octets. So the octets sent carry the proof in two steps:
both counters are read together while the prompt plays (`sent`), which tells how many octets a packet of it holds; and
the dialplan's own counts, exact at its begin and end, tell how many such packets it was. Nobody waits for a reading;
one that came too late, or never, leaves him untold.

A 9 counts whenever it is pressed while the prompts last, a 1 only once the notice was heard in full.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from .announcement import SENT_SHARE, byte_rate
from .facts import (
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelHungUp,
    ConnectionLost,
    DigitPressed,
    Fact,
    HangupRequested,
    Held,
    Unheld,
)
from .ids import PurposeName, Uniqueid
from .policy import Policy
from .purposes import Disclosure, DisclosureKey, Mode
from .reasons import Reason

MOST_CALLEES = 5000
"""How many callees may be listening at once; beyond, the oldest is forgotten and stays untold."""
SHORT = 0.06
"""Seconds by which a prompt may look shorter than its sound."""
MEASURED_SHARE = 0.5
"""Of the octets that a sound makes, how many must lie between two readings: the rest is reckoned from its packets."""
PLAYED = ("SUCCESS", "OK", "TIMEOUT")
"""What PLAYBACKSTATUS and READSTATUS say of a prompt that was not broken off."""
MOST_READINGS = 10
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
    deaf: Reason | None = None
    """Why he may not have heard all that was played: on hold, or nobody knows."""
    leaving: bool = False
    """He hung up, which is told already; the end of the prompt follows."""
    objected: bool = False
    pressed: set[str] = field(default_factory=set)
    readings: list[tuple[int, int]] = field(default_factory=list)
    """Packets and octets sent, as read together while this part played."""


class CalleePrompts:
    """Feed it every fact, in AMI's order; what it returns is new knowledge about a callee's channel."""

    def __init__(self) -> None:
        self._listening: OrderedDict[Uniqueid, _Listening] = OrderedDict()

    def handle(self, fact: Fact, policy: Policy, *, deaf: Reason | None = None) -> list[Finding]:
        """What `fact` makes known; facts that concern no callee being told are ignored.

        `deaf`: why he whose prompt begins may not hear it, if so: he is, or may be, on hold already.
        """
        match fact:
            case CalleePromptBegun():
                return self._begun(fact, deaf)
            case CalleePromptEnded():
                return self._ended(fact, policy)
            case Held(channel) | Unheld(channel):
                if listening := self._listening.get(channel):
                    # That a hold ended tells as much of what was played until then.
                    listening.deaf = Reason.PROMPT_ON_HOLD
                return []
            case DigitPressed(channel, digit):
                return self._digit(channel, digit)
            case HangupRequested(channel):
                return self._left(channel)
            case ChannelHungUp(channel):
                left = self._left(channel)
                self._listening.pop(channel, None)
                return left
            case ConnectionLost():
                # A 9 or a hold that came meanwhile will never be known.
                lost, self._listening = self._listening, OrderedDict()
                return [CalleeNotHeard(c, i.key, Reason.PROMPT_FAILED) for c, i in lost.items() if not i.leaving]
            case _:
                return []

    def sent(self, channel: Uniqueid, packets: int, octets: int) -> None:
        """Both counters of what was sent to it, read at one instant; may come at any time."""
        if (listening := self._listening.get(channel)) is not None:
            listening.readings = [*listening.readings[-(MOST_READINGS - 1) :], (packets, octets)]

    def seconds(self, channel: Uniqueid, policy: Policy) -> float | None:
        """How long the sound is that plays to it now; None when none does that may be played."""
        listening = self._listening.get(channel)
        disclosure = policy.disclosures.get(listening.key) if listening else None
        if listening is None or disclosure is None:
            return None
        return (disclosure.key_ms if listening.stage is _Stage.KEY else disclosure.notice_ms) / 1000

    def _begun(self, fact: CalleePromptBegun, deaf: Reason | None) -> list[Finding]:
        name, is_key = _part(fact.prompt)
        try:
            key = DisclosureKey.parse(name)
        except ValueError:
            return [CalleeNotHeard(fact.channel, None, Reason.PROMPT_FAILED)]
        before = self._listening.get(fact.channel)
        if is_key:
            if before is None or before.stage is not _Stage.BETWEEN or before.key != key:
                return self._failed(fact.channel, Reason.PROMPT_FAILED)
            before.stage, before.begun, before.readings = _Stage.KEY, fact, []
            before.deaf = before.deaf or deaf
            return []
        self._listening[fact.channel] = _Listening(key, fact, deaf=deaf)
        self._listening.move_to_end(fact.channel)
        if len(self._listening) > MOST_CALLEES:
            gone, listening = self._listening.popitem(last=False)
            return [CalleeNotHeard(gone, listening.key, Reason.PROMPT_TIMED_OUT)]
        return []

    def _ended(self, fact: CalleePromptEnded, policy: Policy) -> list[Finding]:
        listening = self._listening.get(fact.channel)
        name, is_key = _part(fact.prompt)
        if listening is not None and listening.leaving:
            return []
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
        reason = None if answered and listening.deaf is None else _unheard(listening, fact, length_ms)
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

    def _left(self, channel: Uniqueid) -> list[Finding]:
        listening = self._listening.get(channel)
        if listening is None or listening.leaving:
            return []
        listening.leaving = True
        return [CalleeNotHeard(channel, listening.key, Reason.PROMPT_CHANNEL_GONE)]

    def _failed(self, channel: Uniqueid, reason: Reason) -> list[Finding]:
        listening = self._listening.pop(channel, None)
        return [CalleeNotHeard(channel, listening.key if listening else None, reason)]


def _part(prompt: str) -> tuple[str, bool]:
    return prompt.removesuffix(KEY_PART), prompt.endswith(KEY_PART)


def _unheard(listening: _Listening, ended: CalleePromptEnded, length_ms: int) -> Reason | None:
    """Why a sound of `length_ms` was not heard in full; None when it was."""
    begun = listening.begun
    length = length_ms / 1000
    if listening.deaf is not None:
        return listening.deaf
    if ended.state not in PLAYED:
        return Reason.PROMPT_FAILED
    if ended.at - begun.at < length - SHORT:
        return Reason.PROMPT_CUT
    if not _was_sent(listening, ended, length):
        return Reason.PROMPT_UNSENT
    if ended.rx_packets <= begun.rx_packets:
        return Reason.PROMPT_NO_MEDIA
    return None


def _was_sent(listening: _Listening, ended: CalleePromptEnded, length: float) -> bool:
    """Whether as many octets were sent, from begin to end, as a sound of `length` seconds makes."""
    begun = listening.begun
    rate = byte_rate(begun.formats)
    during = [r for r in listening.readings if begun.tx_packets <= r[0] <= ended.tx_packets]
    if rate is None or len(during) < 2:
        return False
    packets, octets = (last - first for first, last in zip(min(during), max(during), strict=True))
    if packets <= 0 or octets < MEASURED_SHARE * length * rate:
        return False
    return (ended.tx_packets - begun.tx_packets) * octets / packets >= SENT_SHARE * length * rate
