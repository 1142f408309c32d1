"""Whom an objection binds. It holds for the call, and a call does not end with whoever objected in it.

He was heard in the calls of all who talked with him, and is on their recordings: so each of these calls is bound to its
own end, and with it whatever call it is joined with later. Who hangs up takes nothing back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from .calls import Call
from .facts import Objected, ObjectionBinds
from .ids import PurposeName, Uniqueid
from .memory import Memory
from .parties import PartyKind
from .switchboard import Component


def binding(component: Component, calls: Collection[Uniqueid], memory: Memory) -> Iterator[ObjectionBinds]:
    """What binds the calls of a conversation that they are not bound by yet; `calls` are all that live."""
    people = [c.uniqueid for c in component.talkers if c.kind is not PartyKind.MACHINE]
    standing = [(by, purposes) for one in people for by, purposes in memory.of(one).objections(one).items()]
    for channel in sorted(component.channels):
        if channel in calls:
            for by, purposes in standing:
                yield from _anew(channel, by, purposes, memory)


def binding_by(
    fact: Objected, component: Component, calls: Mapping[Uniqueid, Call], memory: Memory
) -> Iterator[ObjectionBinds]:
    """Whom this objection binds: the calls of his conversation now, `component`, and those in which he takes part no
    more, since he talks elsewhere or has just hung up."""
    for channel in sorted(calls):
        if channel in component.channels or fact.channel in calls[channel].others:
            yield from _anew(channel, fact.channel, frozenset(fact.purposes), memory)


def _anew(
    channel: Uniqueid, by: Uniqueid, purposes: frozenset[PurposeName], memory: Memory
) -> Iterator[ObjectionBinds]:
    known = memory.of(channel).objections(channel).get(by)
    if by != channel and (known is None or (known and not (purposes and purposes <= known))):
        yield ObjectionBinds(channel, by, tuple(sorted(purposes)))
