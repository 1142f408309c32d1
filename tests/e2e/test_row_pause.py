"""Card entry: paused by a key, by an operator or by nobody; what was said and pressed meanwhile is nowhere."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e import in_call
from tests.e2e.in_call import (
    LOST_S,
    PAUSE,
    PROOF,
    RESUME,
    TALK_S,
    Office,
    Talk,
    digits_in,
    kept,
    without_the_other_voice,
)
from tests.lab import asterisk_tree
from tests.lab.deaths import die, restart, start
from tests.lab.evidence import until_recorded

CARD = "5678431200989"
"""Keys that nothing else in an installation looks like."""
TIMEOUT_S = 3

Played = tuple[Office, dict[str, Talk]]


async def by_key(office: Office) -> Talk:
    talk = await office.talk(PROOF, "101", "+31612410001")
    await talk.lamp("recorded", "INUSE")
    await talk.customer.talk(TALK_S)
    await talk.customer.dtmf(PAUSE)  # his own keys: not for him
    await office.until(lambda: office.site.events("request.refused"), "refused")
    talk.views["the customer's key"] = await until_recorded(office.site, talk.number)
    await talk.customer.talk(1.0)
    await talk.agent.dtmf(PAUSE)
    await talk.recorded("paused", on=False)
    await talk.lamp("paused", "ONHOLD")
    await talk.says_what_must_not_be_kept()
    await talk.customer.dtmf(CARD)
    await talk.agent.pressed(CARD, deadline_s=20)
    await forged_resume(office, talk)
    talk.views["after the forged resume"] = await until_recorded(office.site, talk.number, on=False)
    await talk.customer.dtmf(RESUME)
    await office.until(lambda: len(office.site.events("request.refused")) > 1, "refused again")
    talk.views["after the customer's resume"] = await until_recorded(office.site, talk.number, on=False)
    await talk.agent.dtmf(RESUME)
    await talk.recorded("resumed")
    await talk.lamp("resumed", "INUSE")
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def forged_resume(office: Office, talk: Talk) -> None:
    """An AMI peer raises the very event that the dialplan raises, with all of its headers."""
    (channel,) = [name for name in await office.site.asterisk.channels() if name.startswith("PJSIP/101-")]
    uniqueid = (await office.ami.action("Getvar", Channel=channel, Variable="UNIQUEID"))["Value"]
    row = {
        "Channel": channel,
        "ChannelState": "6",
        "ChannelStateDesc": "Up",
        "CallerIDNum": "101",
        "CallerIDName": "101",
        "ConnectedLineNum": talk.number,
        "ConnectedLineName": "",
        "Language": "en",
        "AccountCode": "",
        "Context": "internal",
        "Exten": "",
        "Priority": "1",
        "Uniqueid": uniqueid,
        "Linkedid": uniqueid,
    }
    mark = len(office.ami.events)
    await office.ami.action("UserEvent", UserEvent="PbxguardRequest", **row, What="resume")
    seen = await office.ami.event("UserEvent", lambda e: e.get("What") == "resume", since=mark)
    assert list(seen).index("UserEvent") < list(seen).index("Uniqueid"), "Asterisk tells the two apart by this alone"
    await office.until(lambda: office.site.events("ami.forged"), "told of")


async def by_operator(office: Office) -> Talk:
    talk = await office.talk(PROOF, "102", "+31612410002")
    await talk.customer.talk(TALK_S)
    await office.site.run("calls", "pause", talk.id)
    await talk.recorded("paused", on=False)
    await talk.says_what_must_not_be_kept()
    await office.site.run("calls", "resume", talk.id, "--actor", "the supervisor")
    await talk.recorded("resumed")
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def passed_on(office: Office) -> Talk:
    talk = await office.talk(PROOF, "103", "+31612410003")
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(PAUSE)
    await talk.recorded("paused", on=False)
    await talk.agent.refer("104")
    other = await office.agents["104"].incoming(number=talk.number, deadline_s=20)
    await other.answered()
    await office.lamp("104", "ONHOLD")
    talk.views["with a colleague"] = await until_recorded(office.site, talk.number, on=False)
    await talk.says_what_must_not_be_kept()
    await office.site.run("calls", "resume", talk.id)
    await talk.recorded("resumed")
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def restarted(office: Office) -> Talk:
    """Paused, and the guard killed: it is still paused for the next one, and so is what was asked while it was dead."""
    site = office.site
    talk = await office.talk(PROOF, "105", "+31612410005")
    second = await office.talk(PROOF, "106", "+31612410006")
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(PAUSE)
    await talk.recorded("paused", on=False)
    await office.until(lambda: talk.lines("paused"), "noted")
    await site.stop(signal.SIGKILL)
    await site.run("stop-recorders", "--json")
    await second.agent.dtmf(PAUSE)
    await asyncio.sleep(0.5)
    await talk.says_what_must_not_be_kept()
    await site.start()
    talk.views["after the restart"] = await until_recorded(site, talk.number, on=False)
    second.views["after the restart"] = await until_recorded(site, second.number, on=False)
    await office.until(lambda: second.lines("paused"), "noted as well")
    for one in (talk, second):
        await one.agent.dtmf(RESUME)
        await one.recorded("resumed")
        await one.customer.talk(TALK_S)
    await second.over()
    await talk.over()
    talk.views["the second"] = second.views["after the restart"]
    return talk


async def dies_at_resume(office: Office) -> Talk:
    """Killed just before, and just after, the line that the pause ended."""
    site = office.site
    await site.stop()
    await start(site, "resume.due")
    talk = await office.talk(PROOF, "107", "+31612410007")
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(PAUSE)
    await talk.recorded("paused", on=False)
    await office.until(lambda: talk.lines("paused"), "noted")
    await talk.agent.dtmf(RESUME)
    await die(site)
    await restart(site, "resume.committed")
    talk.views["not written down"] = await until_recorded(site, talk.number, on=False)
    await talk.says_what_must_not_be_kept()
    await talk.agent.dtmf(RESUME)
    await die(site)
    await restart(site, "")
    talk.views["written down"] = await until_recorded(site, talk.number)
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


async def timed_out(office: Office) -> Talk:
    """With another configuration, read by SIGHUP."""
    site = office.site
    with site.config.open("a") as file:
        file.write(f'\n[pause]\ntimeout_seconds = {TIMEOUT_S}\nthen = "resume"\n')
    before = len(site.events("settings.loaded"))
    assert site.process is not None
    site.process.send_signal(signal.SIGHUP)
    await office.until(lambda: len(site.events("settings.loaded")) > before, "read")
    talk = await office.talk(PROOF, "108", "+31612410008")
    await talk.customer.talk(TALK_S)
    await talk.agent.dtmf(PAUSE)
    await talk.recorded("paused", on=False)
    await talk.recorded("resumed by itself")
    await talk.customer.talk(TALK_S)
    await talk.over()
    return talk


WAVES = ((by_key, by_operator, passed_on), (restarted,), (dies_at_resume,), (timed_out,))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pauses(tree: asterisk_tree.Tree) -> AsyncIterator[Played]:
    async for one in in_call.played(WAVES, tuple(str(n) for n in range(101, 109))):
        yield one


@pytest.mark.row(
    situation="card entry, paused by the agent's key", decision="not recorded until he resumes", article="own rule"
)
async def test_card_entry_paused_by_a_key_is_a_gap_with_its_reason(pauses: Played) -> None:
    talk = pauses[1]["by_key"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    assert talk.lamps == {"recorded": "INUSE", "paused": "ONHOLD", "resumed": "INUSE"}
    file = await kept(talk)
    assert file.gaps == [["paused"]]
    assert file.own.seconds > 2 * TALK_S + 1.0 - 2 * LOST_S
    await without_the_other_voice(talk, file)


async def test_the_keys_of_a_card_are_nowhere(pauses: Played) -> None:
    office, talks = pauses
    await kept(talks["by_key"])
    files = office.everything_kept()
    assert {"pbxguard.log", "pbxguard.db"} <= {path.name for path in files}
    assert not [path for path in files if digits_in(path, CARD)]
    log = office.site.log().lower()
    assert not [word for word in ("dtmf", "digit") if word in log]
    control = office.site.home / "control"
    for text in (CARD, ", ".join(CARD), json.dumps(list(CARD))):
        control.write_text(text)
        assert digits_in(control, CARD), "the search is blind"
    control.unlink()


@pytest.mark.row(
    situation="a pause or a resume asked for by the other party, or forged by an AMI peer",
    decision="refused: our own people only",
    article="own rule",
)
async def test_nobody_but_one_of_us_pauses_or_resumes(pauses: Played) -> None:
    office, talks = pauses
    talk = talks["by_key"]
    assert talk.views["the customer's key"]["recorded"]
    for moment in ("after the forged resume", "after the customer's resume"):
        assert talk.views[moment]["reasons"] == ["paused"]
    assert [line["what"] for line in office.site.events("request.refused")] == ["pause", "resume"]
    assert len(talk.lines("resumed")) == 1


@pytest.mark.row(situation="paused and resumed by an operator", decision="not recorded meanwhile", article="own rule")
async def test_an_operator_pauses_and_resumes(pauses: Played) -> None:
    talk = pauses[1]["by_operator"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    file = await kept(talk)
    assert file.gaps == [["paused"]]
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="a paused call passed on to a colleague", decision="stays paused until resumed", article="own rule"
)
async def test_a_pause_goes_with_the_call(pauses: Played) -> None:
    talk = pauses[1]["passed_on"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    assert talk.views["with a colleague"]["reasons"] == ["paused"]
    file = await kept(talk)
    assert file.gaps == [["paused"]]
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="pbxguard killed while paused, and a pause asked for while it is dead",
    decision="paused after the restart",
    article="own rule",
)
async def test_a_pause_outlives_a_restart_and_one_asked_for_meanwhile_is_found(pauses: Played) -> None:
    talk = pauses[1]["restarted"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    assert talk.views["after the restart"]["reasons"] == ["paused"]
    assert talk.views["the second"]["reasons"] == ["paused"]
    await without_the_other_voice(talk, await kept(talk))


async def test_a_resume_that_was_not_written_down_opens_nothing_after_a_death(pauses: Played) -> None:
    talk = pauses[1]["dies_at_resume"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    assert talk.views["not written down"]["reasons"] == ["paused"]
    assert talk.views["written down"]["recorded"]
    file = await kept(talk)
    await without_the_other_voice(talk, file)


@pytest.mark.row(
    situation="a pause that nobody ends, configured to resume", decision="recorded again", article="own rule"
)
async def test_a_pause_ends_by_itself_where_so_configured(pauses: Played) -> None:
    talk = pauses[1]["timed_out"]
    assert talk.views["paused"]["reasons"] == ["paused"]
    (line,) = talk.lines("resumed")
    assert '"timed_out": true' in line.replace('":true', '": true')
    file = await kept(talk)
    (gap,) = file.manifest["gaps"]
    assert gap["reasons"] == ["paused"]
