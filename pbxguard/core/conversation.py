"""One conversation at one instant, as the permit needs it: who takes part, and what each was told, said, pressed.

Built from switchboard and memory; holds no rule beyond how the two are put together.
"""

from __future__ import annotations

from dataclasses import dataclass

from .facts import ChannelState, DisclosureHeard
from .ids import Endpoint, PurposeName, Uniqueid
from .memory import Memory, Notes
from .never_record import is_listed
from .numbers import Number, jurisdiction, parse
from .parties import PartyKind
from .policy import GuardMode, Policy
from .purposes import Direction, Mode
from .reasons import Reason
from .switchboard import Channel, Component, Switchboard


@dataclass(frozen=True, slots=True)
class Talker:
    """One channel that takes part."""

    channel: Uniqueid
    kind: PartyKind
    born: int
    """Orders channels by when they were first seen."""
    answered: bool
    on_hold: bool
    hold_known: bool
    second_call: bool
    """Its device has another channel that may carry sound."""
    endpoint: Endpoint
    direction: Direction
    number: Number
    listed: bool
    jurisdiction: str
    private: bool
    asked: tuple[PurposeName, ...]
    heard: tuple[DisclosureHeard, ...]
    not_heard: frozenset[Reason]
    objected: frozenset[PurposeName]
    """By itself, or by somebody who bound its call."""
    objected_to_all: bool
    consented: frozenset[PurposeName]

    def objects_to(self, purpose: PurposeName) -> bool:
        return self.objected_to_all or purpose in self.objected

    def told(self, purpose: PurposeName, needed: Mode) -> DisclosureHeard | None:
        """What it heard of this purpose in a mode as strict as `needed` or stricter; the last of several."""
        for heard in reversed(self.heard):
            if purpose in heard.disclosure.purposes and heard.disclosure.mode.stricter(needed) is heard.disclosure.mode:
                return heard
        return None


@dataclass(frozen=True, slots=True)
class Conversation:
    """`talkers` in the order in which they joined, machines left out."""

    talkers: tuple[Talker, ...]
    bridged: bool
    unseen: bool
    """A Local half leads to where nobody can see who listens."""
    spied: bool
    half_done: bool
    doubted: bool
    """Somebody may be in it whom we do not see."""
    paused: bool
    language: str
    reference: str
    mode: GuardMode

    @property
    def own(self) -> tuple[Talker, ...]:
        return tuple(t for t in self.talkers if t.kind is PartyKind.OWN)

    @property
    def external(self) -> tuple[Talker, ...]:
        return tuple(t for t in self.talkers if t.kind is PartyKind.EXTERNAL)

    @property
    def asked(self) -> tuple[PurposeName, ...]:
        """Every purpose that was asked for on any of its channels, by the dialplan or by one of us in the call, or that
        somebody was told of."""
        names = {p for t in self.talkers for p in t.asked}
        names |= {p for t in self.external for h in t.heard for p in h.disclosure.purposes}
        return tuple(sorted(names))


def talker(channel: Channel, board: Switchboard, memory: Memory, policy: Policy) -> Talker:
    """One channel of the switchboard with what is known of it."""
    notes = memory.of(channel.uniqueid)
    direction = direction_of(channel, board)
    number = external_number(channel, direction, policy)
    return Talker(
        channel=channel.uniqueid,
        kind=channel.kind,
        born=channel.born,
        answered=channel.state is ChannelState.UP,
        on_hold=channel.held,
        hold_known=channel.hold_known,
        second_call=channel.kind in (PartyKind.OWN, PartyKind.PRIVATE) and _second_call(channel, board),
        endpoint=channel.endpoint,
        direction=direction,
        number=number,
        listed=_listed(channel, number, policy),
        jurisdiction=jurisdiction(number, policy),
        private=notes.private,
        asked=(*asked_of(channel, board, memory), *sorted(notes.begun)),
        heard=tuple(notes.heard),
        not_heard=frozenset(notes.not_heard),
        objected=frozenset(notes.objected.union(*notes.bound.values())),
        objected_to_all=notes.objected_to_all or not all(notes.bound.values()),
        consented=frozenset(notes.consented),
    )


def converse(
    component: Component,
    board: Switchboard,
    memory: Memory,
    policy: Policy,
    *,
    half_done: bool = False,
    doubted: bool = False,
) -> Conversation:
    """The conversation that a component of the switchboard is."""
    people = tuple(talker(c, board, memory, policy) for c in component.talkers if c.kind is not PartyKind.MACHINE)
    notes = [memory.of(c.uniqueid) for c in component.talkers]
    listening = board.patterns.listen_only_spies
    return Conversation(
        talkers=people,
        bridged=component.bridged,
        unseen=component.dangling,
        spied=any(t.kind is PartyKind.MONITOR for t in people)
        or (not listening and any(board.spies.get(c) for c in component.channels)),
        half_done=half_done,
        doubted=doubted,
        paused=any(memory.of(t.channel).paused for t in people),
        language=_first(notes, "language") or policy.default_language,
        reference=_first(notes, "reference"),
        mode=_mode(component, board, policy),
    )


def direction_of(channel: Channel, board: Switchboard) -> Direction:
    """Outbound when somebody here dialled it, inbound when it came in by itself."""
    return Direction.OUTBOUND if channel.dialled else Direction.INBOUND


def external_number(channel: Channel, direction: Direction, policy: Policy) -> Number:
    """Its number: the one dialled, or the one that it shows. Nothing about who it is follows from it."""
    text = channel.dialled_number if direction is Direction.OUTBOUND else channel.number
    return parse(text or channel.number, policy.country)


def asked_of(channel: Channel, board: Switchboard, memory: Memory) -> tuple[PurposeName, ...]:
    """The purposes asked for it at a door: on itself, or by whoever dialled it."""
    notes = memory.of(channel.uniqueid)
    if notes.asked or channel.dialled_by is None:
        return notes.asked
    dialler = board.root_dialler(channel)
    return memory.of(dialler.uniqueid).asked_for_callee if dialler is not None else ()


def _second_call(channel: Channel, board: Switchboard) -> bool:
    """Another channel of the device is up, or calling (its phone may hear early media), and not surely on hold."""
    return any(
        other.state in (ChannelState.UP, ChannelState.RING) and not other.surely_held for other in board.beside(channel)
    )


def _listed(channel: Channel, number: Number, policy: Policy) -> bool:
    """By any number it is known by: shown, dialled, arrived at, or that of the group through which it was rung."""
    texts = (channel.number, channel.dialled_number, channel.exten, channel.dialled_at)
    shown = (parse(text, policy.country) for text in texts if text)
    return is_listed(policy.never_record, number) or any(is_listed(policy.never_record, n) for n in shown)


def _first(notes: list[Notes], field: str) -> str:
    return next((value for n in notes if (value := getattr(n, field))), "")


def _mode(component: Component, board: Switchboard, policy: Policy) -> GuardMode:
    """The mildest of its calls' modes: observe wherever any of them is to be observed only."""
    modes = {mode_of(c, policy) for c in component.talkers if c.kind is PartyKind.EXTERNAL} or {policy.mode}
    return next(mode for mode in GuardMode if mode in modes)


def mode_of(channel: Channel, policy: Policy) -> GuardMode:
    """The mode for one external channel: by its queue, and by number and context where its call arrived.

    For one that somebody here dialled these are the dialler's, as for the door that asked what to tell it.
    """
    exten, context = channel.origin or (channel.exten, channel.context)
    return policy.mode_for(queue=channel.queue, did=exten, context=context)
