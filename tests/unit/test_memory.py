"""What a channel heard, said and pressed: kept as long as the channel lives, and no longer."""

from __future__ import annotations

import pytest

from pbxguard.core import memory as module
from pbxguard.core.facts import (
    Consented,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    MarkedPrivate,
    Objected,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.memory import Memory
from pbxguard.core.purposes import Direction, DisclosureKey, Mode
from pbxguard.core.reasons import Reason

P = PurposeName("contract_evidence")
C = Uniqueid("1.1")
HEARD = DisclosureHeard(C, DisclosureKey.of((P,), "nl", Mode.NOTICE, Direction.INBOUND), "digest", "2026-01-01")


def test_the_same_said_twice_is_known_once() -> None:
    memory = Memory()
    for _ in range(2):
        memory.note(HEARD)
        memory.note(Objected(C, (P,)))
    assert memory.of(C).heard == [HEARD]
    assert memory.of(C).objected == {P}


def test_of_who_is_unknown_nothing_is_known_and_nothing_is_kept() -> None:
    memory = Memory()
    memory.of(C).heard.append(HEARD)
    assert memory.of(C).heard == []


def test_what_arrives_after_the_hang_up_is_dropped() -> None:
    memory = Memory()
    memory.note(HEARD)
    memory.forget(C)
    memory.note(HEARD)
    assert memory.of(C).heard == []


def test_another_person_has_heard_and_agreed_nothing_but_an_objection_stands() -> None:
    memory = Memory()
    for fact in (HEARD, Consented(C, (P,)), Objected(C, (P,)), MarkedPrivate(C)):
        memory.note(fact)
    memory.doubt(C)
    notes = memory.of(C)
    assert (notes.heard, notes.consented) == ([], set())
    assert (notes.objected, notes.private) == ({P}, True)


def test_what_the_former_person_heard_does_not_come_back_when_it_is_said_again() -> None:
    memory = Memory()
    memory.note(HEARD)
    memory.doubt(C)
    memory.note(HEARD)
    assert memory.of(C).heard == []
    anew = DisclosureHeard(C, HEARD.disclosure, HEARD.digest, "2026-01-02")
    memory.note(anew)
    assert memory.of(C).heard == [anew]


def test_why_it_was_not_heard_is_known_until_it_is_heard() -> None:
    memory = Memory()
    memory.note(DisclosureNotHeard(C, None, "prompt_cut"))
    memory.note(DisclosureNotHeard(C, None, "something new"))
    assert memory.of(C).not_heard == {Reason.PROMPT_CUT, Reason.PROMPT_FAILED}
    memory.note(HEARD)
    memory.note(DisclosureNotHeard(C, None, "prompt_cut"))
    assert memory.of(C).not_heard == set()


def test_private_once_is_private_for_good() -> None:
    memory = Memory()
    memory.note(DisclosureRequested(C, (P,), "nl", private=True))
    memory.note(DisclosureRequested(C, (P,), "nl", private=False))
    assert memory.of(C).private


def test_purposes_for_the_callee_are_kept_apart_from_those_for_oneself() -> None:
    memory = Memory()
    memory.note(DisclosureRequested(C, (P,), "nl", for_callee=True, reference="K1"))
    assert (memory.of(C).asked, memory.of(C).asked_for_callee, memory.of(C).reference) == ((), (P,), "K1")


def test_a_flood_of_facts_about_nobody_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNSEEN", 10)
    memory = Memory()
    for number in range(1000):
        memory.note(MarkedPrivate(Uniqueid(f"1.{number}")))
        memory.forget(Uniqueid(f"2.{number}"))
    known = sum(memory.of(Uniqueid(f"1.{number}")).private for number in range(1000))
    gone = 0
    for number in range(1000):
        channel = Uniqueid(f"2.{number}")
        memory.note(MarkedPrivate(channel))
        gone += not memory.of(channel).private
    assert known == 100
    assert gone >= 10


def test_a_new_boot_of_asterisk_may_give_a_uniqueid_to_somebody_else() -> None:
    memory = Memory()
    memory.note(HEARD)
    memory.forget(Uniqueid("1.2"))
    memory.forget_all()
    memory.note(MarkedPrivate(Uniqueid("1.2")))
    assert memory.of(C).heard == []
    assert memory.of(Uniqueid("1.2")).private
