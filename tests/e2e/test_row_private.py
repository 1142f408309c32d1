"""The private button, pressed late: nothing more is recorded, and what was captured is destroyed unheard."""

from __future__ import annotations

import json

import pytest

from tests.e2e.in_call import Office, Talk, kept
from tests.e2e.test_row_objection import TRAINING, gone
from tests.lab import checker, measure
from tests.lab.deaths import rows
from tests.lab.signals import VOICES

Played = tuple[Office, dict[str, Talk]]


@pytest.mark.row(
    situation="the private button, pressed late by the agent",
    decision="never: what was captured is destroyed unheard, with a certificate",
    article="own rule",
)
async def test_the_private_button_pressed_late_destroys_the_whole_call(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["private_late"]
    assert talk.views["the customer's key"]["recorded"], "it is not for the customer to press"
    assert talk.views["private"]["reasons"] == ["marked_private"]
    _, said = await measure.pair(talk.customer)
    assert f"{VOICES[1]:g}" in checker.voices(measure.track(said), VOICES), "the two went on talking"
    gone(office, talk, "marked_private")
    await kept(talks["twin"], TRAINING)


@pytest.mark.row(situation="made private by an operator", decision="as by the button", article="own rule")
async def test_an_operator_makes_a_call_private(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["private_by_operator"]
    assert talk.views["private"]["reasons"] == ["marked_private"]
    gone(office, talk, "marked_private")


@pytest.mark.row(
    situation="the private button pressed while pbxguard is dead", decision="as by the button", article="own rule"
)
async def test_a_private_mark_made_while_pbxguard_is_dead_holds_after_its_start(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    view = talks["asked_while_dead"].views["the private one"]
    assert view["reasons"] == ["marked_private"]
    query = "SELECT data FROM audit WHERE kind = 'recording.destroyed' AND call = ?"
    ((certificate,),) = rows(office.site, query, view["call"])
    assert json.loads(certificate)["reason"] == "marked_private"
    assert office.site.files(view["external_number"]) == []


async def test_a_death_right_after_the_private_button_brings_nothing_back(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["dies_at_private"]
    assert talk.views["after the restart"]["reasons"] == ["marked_private"]
    gone(office, talk, "marked_private")
