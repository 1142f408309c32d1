"""An objection in mid-call: by the customer's key, or by the agent's for what is said aloud; its effects by purpose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.in_call import AGENT_HZ, LOST_S, TALK_S, Office, Talk, kept, without_the_other_voice
from tests.lab import checker, measure
from tests.lab.deaths import accounted_for, rows
from tests.lab.evidence import prompt

Played = tuple[Office, dict[str, Talk]]
TRAINING = "quality_training.nl.opt_out.inbound"


def gone(office: Office, talk: Talk, reason: str) -> None:
    """Destroyed unheard: no file, nothing in the spool, a certificate without content, and no row in the index."""
    (certificate,) = (json.loads(line) for line in office.destroyed(talk))
    assert certificate["reason"] == reason
    assert certificate["segments"] >= 1
    assert talk.number[1:] not in json.dumps(certificate)
    assert office.site.files(talk.number) == []
    assert rows(office.site, "SELECT id FROM recordings WHERE call = ?", talk.id) == []
    accounted_for(office.site)


async def locked(office: Office, talk: Talk) -> dict[str, Any]:
    """Sealed and locked for 14 days: shown, and given to nobody."""
    id = json.loads((await office.site.run("recordings", "list", "--number", talk.number, "--json")).out)
    (row,) = id["recordings"]
    assert row["locked"]
    ended, until = (rows(office.site, f"SELECT {c} FROM recordings WHERE id = ?", row["id"])[0][0] for c in
                    ("ended", "lock_until"))  # fmt: skip
    assert until[:10] > ended[:10]
    refused = await office.site.run("recordings", "export", row["id"], "--reason", "x", "--to", "/tmp", check=False)
    assert refused.code == 1
    assert "locked" in refused.err
    return dict(row)


@pytest.mark.row(
    situation="the customer objects by a key in a call recorded to train",
    decision="stops; what was captured is destroyed unheard",
    article="art. 21 GDPR",
)
async def test_an_objection_to_training_destroys_what_was_captured(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["to_training"]
    assert talk.views["objected"]["reasons"] == ["objected"]
    gone(office, talk, "objected")
    await kept(talks["twin"], TRAINING)


@pytest.mark.row(
    situation="the customer objects aloud, and the agent presses the key; then another agent takes the call",
    decision="stops for the whole call; what was captured as proof is locked for 14 days",
    article="art. 18(1)(d), 21 GDPR",
)
async def test_an_objection_to_proof_locks_it_and_holds_with_every_colleague(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["aloud"]
    assert talk.views["objected"]["reasons"] == ["objected"]
    assert talk.views["with a colleague"]["reasons"] == ["objected"]
    await locked(office, talk)
    file = await kept(talk)
    assert TALK_S - LOST_S < file.own.seconds < TALK_S + 5
    assert len(file.manifest["segments"]) == 1
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="the customer objected by a key, or the agent for him",
    decision="he alone is told what came of it: destroyed, locked, or noted where the law demands the recording",
    article="art. 12, 19 GDPR",
)
@pytest.mark.parametrize(
    ("title", "effect"), [("to_training", "destroyed"), ("aloud", "locked"), ("to_what_the_law_demands", "noted")]
)
async def test_who_objected_hears_what_came_of_it(asked_in_call: Played, title: str, effect: str) -> None:
    office, talks = asked_in_call
    talk = talks[title]
    said = prompt(office.site, f"objection_{effect}.nl")
    found = measure.prompt_over_tone(await talk.customer.heard(), said, AGENT_HZ)
    assert found is not None
    assert found.complete
    assert talk.confirmations == [effect]


async def test_what_is_said_of_an_objection_nobody_else_hears_and_no_recording_has(
    asked_in_call: Played,
) -> None:
    office, talks = asked_in_call
    talk = talks["to_what_the_law_demands"]
    file = await kept(talk, "mifid_order.nl.notice.inbound")
    said = prompt(office.site, "objection_noted.nl")
    sound = checker.read(said)[0]
    assert measure.prompt_over_tone(await talk.customer.heard(), said, AGENT_HZ) is not None, "the measure is blind"
    assert checker.locate(checker.without(file.own, AGENT_HZ), checker.without(sound, AGENT_HZ)) is None
    # the customer was silent meanwhile
    assert checker.locate(file.others, sound) is None
    assert measure.prompt_heard(await talk.agent.heard(), said) is None


async def test_who_did_not_object_is_told_nothing(asked_in_call: Played) -> None:
    assert asked_in_call[1]["twin"].confirmations == []


async def test_notice_objection_and_consent_are_stored_apart(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["aloud"]
    manifest = (await kept(talk)).manifest
    assert [told["disclosure"] for told in manifest["told"]] == ["contract_evidence.nl.notice.inbound"]
    assert [(o["channel"], o["purposes"]) for o in manifest["objections"]] == [(talk.id, [])]
    assert manifest["consents"] == []
    assert manifest["locked"]
    said = [kind for (kind,) in rows(office.site, "SELECT kind FROM audit WHERE channel = ?", talk.id)]
    assert (said.count("disclosure.heard"), said.count("objected"), said.count("consented")) == (1, 1, 0)


@pytest.mark.row(
    situation="objection in a call recorded as proof and to train",
    decision="stops; locked, and no longer for training",
    article="art. 18(1)(d), 21 GDPR",
)
async def test_an_objection_to_both_purposes_locks_what_was_captured(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["to_both"]
    assert talk.views["objected"]["reasons"] == ["objected"]
    await locked(office, talk)
    file = await kept(talk, "contract_evidence+quality_training.nl.opt_out.inbound")
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="objection in a call that the law wants recorded (investments)",
    decision="goes on; the objection is noted",
    article="art. 6(1)(c) GDPR",
)
async def test_an_objection_does_not_stop_what_the_law_demands(asked_in_call: Played) -> None:
    talk = asked_in_call[1]["to_what_the_law_demands"]
    assert talk.views["afterwards"]["recorded"]
    file = await kept(talk, "mifid_order.nl.notice.inbound")
    assert file.gaps == []
    assert file.own.seconds > 2 * TALK_S - LOST_S
    assert len(file.manifest["objections"]) == 1


@pytest.mark.row(situation="an operator notes the customer's objection", decision="as by a key", article="art. 21 GDPR")
async def test_an_operator_notes_an_objection(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["by_operator"]
    assert talk.views["objected"]["reasons"] == ["objected"]
    await locked(office, talk)
    (line,) = talk.lines("objected")
    assert json.loads(line)["by"] == "operator"
    await without_the_other_voice(talk, await kept(talk))


@pytest.mark.row(
    situation="pbxguard is dead while the customer objects",
    decision="the next start honours it; nothing more is recorded",
    article="art. 21 GDPR",
)
async def test_an_objection_pressed_while_pbxguard_is_dead_holds_after_its_start(asked_in_call: Played) -> None:
    office, talks = asked_in_call
    talk = talks["asked_while_dead"]
    assert talk.views["after the restart"]["reasons"] == ["objected"]
    assert talk.views["the other"]["recorded"], "who asked for nothing is recorded on"
    await locked(office, talk)
    await without_the_other_voice(talk, await kept(talk))


@pytest.mark.row(
    situation="pbxguard is dead while an agent notes an objection, and then pauses",
    decision="the next start honours both; what was captured to train is destroyed unheard",
    article="art. 21 GDPR",
)
async def test_a_pause_pressed_after_an_objection_while_pbxguard_is_dead_takes_nothing_from_it(
    asked_in_call: Played,
) -> None:
    office, talks = asked_in_call
    view = talks["asked_while_dead"].views["the one with two keys"]
    assert view["reasons"] == ["objected", "paused"]
    query = "SELECT data FROM audit WHERE kind = 'recording.destroyed' AND call = ?"
    ((certificate,),) = rows(office.site, query, view["call"])
    assert json.loads(certificate)["reason"] == "objected"
    assert office.site.files(view["external_number"]) == []
    await kept(talks["twin"], TRAINING)


@pytest.mark.parametrize("play", ["dies_before_it_is_written", "dies_after_it_is_written"])
async def test_a_death_right_after_an_objection_brings_nothing_back(asked_in_call: Played, play: str) -> None:
    office, talks = asked_in_call
    assert talks[play].views["after the restart"]["reasons"] == ["objected"]
    gone(office, talks[play], "objected")
