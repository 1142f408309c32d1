"""Owns: scenes of listed ring groups, a private prefix, carriers that answer early or send a fax, and late transfers.

Each is one call of an `Office`; those of a wave overlap. Numbers are of the installation that `installation` makes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.lab.ari_app import desk
from tests.lab.asterisk import Line
from tests.lab.evidence import until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Heard, PhoneCall, Ring
from tests.lab.plays import CUSTOMER, DIALS, TALK_S, Office, Scene
from tests.lab.raw_phone import RawPhone
from tests.lab.signals import Tone
from tests.lab.transfers import act, with_other

NUMBER = "+316132{:05d}"
RINGING = Tone(430)
"""What a carrier that has answered plays until somebody takes the call."""
RINGING_S = 2.0
AGENTS = ("101", "103", "105", "109", "111", "114", "115", "117")
OTHERS = ("100", "106", "110")
LINES = (
    Line("117", "internal", password="secret117", t38=True),
    Line("trunk-f", "from-trunk", host="127.0.0.8"),
    Line("trunk-g", "from-trunk", host="127.0.0.9", t38=True),
)
LISTED = '[never_record]\nnumbers = ["600", "602", "105"]\n'
DIALPLAN = """
; ring groups: one that is on the list, the same through a Local channel, one of which a member is, one that is not
exten => _3120123906X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Goto(internal,60${EXTEN:10},1)
; Asterisk itself takes a fax for a phone that cannot
exten => 31201239071,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Set(FAXOPT(gateway)=yes)
 same => n,Dial(PJSIP/103,60,tT)
; an ARI application of the installation's own bridges this call
exten => 31201239070,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Stasis(desk-109,caller,PJSIP/109)
[internal](+)
exten => 600,1,Dial(PJSIP/101&PJSIP/100,60,tT)
exten => 601,1,Dial(PJSIP/103&PJSIP/100,60,tT)
exten => 602,1,Dial(PJSIP/106&PJSIP/100,60,tT)
exten => 603,1,Dial(PJSIP/105&PJSIP/100,60,tT)
exten => 604,1,Dial(Local/602@internal,60,tT)
; the private prefix
exten => _*67X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3},private=yes))
 same => n,Dial(PJSIP/${EXTEN:3}@trunk-b,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
; a carrier that answers before anybody does: told at once; told once somebody has pressed a key
exten => _*81X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3}))
 same => n,Dial(PJSIP/${EXTEN:3}@trunk-f,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
exten => _*82X.,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN:3}))
 same => n,Dial(PJSIP/${EXTEN:3}@trunk-f,60,tTU(takes-it^${PBXGUARD_PROMPT}))
"""
BEHIND = """
[takes-it]
exten => s,1,Read(LOCAL(key),vm-press&digits/1,1,,2,4)
 same => n,GotoIf($["${key}" = ""]?untold)
 same => n,Gosub(pbxguard-callee,s,1(${ARG1}))
 same => n(untold),Return()
"""


@dataclass
class Fax(Scene):
    """A call whose customer asks for a fax in its midst; `answers`: what Asterisk said to that."""

    answers: list[int] = field(default_factory=list)
    asked_s: float = 0.0
    """When, on the timeline of what he heard and said."""
    heard: Heard | None = None
    said: Heard | None = None


# -- ring groups, and a prefix ---------------------------------------------------------------------------------------


async def _group(office: Office, title: str, did: str, number: int, agent: str, listed: bool) -> Scene:
    """A customer is told, and then one of a ring group answers; the other (100) rings on."""
    await office.own["100"].answers(Ring())
    scene = await office.inbound(title, did, NUMBER.format(number))
    scene.calls["agent"] = leg = await office.own[agent].incoming(number=scene.number, deadline_s=30)
    await leg.answered()
    await leg.talk(1.0)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=not listed)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def listed_group(office: Office) -> Scene:
    return await _group(office, "a ring group that is on the list", "31201239060", 1, "101", listed=True)


async def listed_group_local(office: Office) -> Scene:
    return await _group(office, "the same through a Local channel", "31201239064", 2, "106", listed=True)


async def listed_member(office: Office) -> Scene:
    return await _group(office, "a member who is on the list answers", "31201239063", 3, "105", listed=True)


async def group(office: Office) -> Scene:
    return await _group(office, "a ring group that is not", "31201239061", 4, "103", listed=False)


async def _calls(office: Office, title: str, agent: str, dialled: str, number: str) -> Scene:
    """One of ours dials; a customer's phone has answered."""
    scene = Scene(title, f"+31{number[1:]}")
    scene.calls["agent"] = await office.own[agent].call(dialled)
    scene.calls["customer"] = await office.third_of(number, deadline_s=30)
    await scene.calls["customer"].answered()
    return scene


async def _talk(office: Office, scene: Scene, on: bool) -> Scene:
    """Both are connected, talk, and are (or are not) recorded."""
    agent = scene.calls["agent"]
    await agent.answered(deadline_s=30)
    if on:
        await until_recorded(office.site, scene.number)
    await agent.talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=on)
    await agent.hangup()
    return scene


async def prefix(office: Office) -> Scene:
    scene = await _calls(office, "dialled with the private prefix", "109", "*670201112961", "0201112961")
    return await _talk(office, scene, on=False)


async def no_prefix(office: Office) -> Scene:
    scene = await _calls(office, "dialled without it", "110", "0201112962", "0201112962")
    return await _talk(office, scene, on=True)


# -- carriers --------------------------------------------------------------------------------------------------------


async def _taken(call: PhoneCall, after_s: float) -> None:
    """Somebody takes a call that has been answered already."""
    await call.talk(after_s)
    await call.say(CUSTOMER)


async def early(office: Office) -> Scene:
    """The notice is played to the carrier's ringing; he who takes the call then has heard none of it."""
    scene = await _calls(office, "a carrier answers early", "111", "*810201112971", "0201112971")
    await scene.calls["agent"].answered(deadline_s=30)
    await _taken(scene.calls["customer"], 0.5)
    return await _talk(office, scene, on=True)


async def early_asked(office: Office) -> Scene:
    scene = await _calls(office, "the same, taken by a key", "114", "*820201112972", "0201112972")
    await _taken(scene.calls["customer"], RINGING_S)
    # Well between two sounds: a phone whose jitter buffer is not empty yet plays the next one late, and loses its end.
    await scene.calls["customer"].talk(0.5)
    await scene.calls["customer"].dtmf("1")
    return await _talk(office, scene, on=True)


async def early_unasked(office: Office) -> Scene:
    """Whoever takes the call presses nothing: connected, untold."""
    scene = await _calls(office, "the same, and no key is pressed", "115", "*820201112973", "0201112973")
    await _taken(scene.calls["customer"], RINGING_S)
    return await _talk(office, scene, on=False)


async def _fax(office: Office, title: str, number: int, did: str, carrier: str) -> Scene:
    """In the midst of the call his carrier sends a re-INVITE for T.38, and goes on with sound when it is refused."""
    scene = Fax(title, NUMBER.format(number))
    line = office.site.asterisk.line(carrier)
    async with RawPhone(line, office.carriers[0].phones.folder, says=CUSTOMER) as raw:
        await raw.call(did, sender=f"<sip:{scene.number}@lab.invalid>".encode(), deadline_s=30)
        await until_recorded(office.site, scene.number, deadline_s=30)
        await raw.talk(TALK_S)
        scene.asked_s = time.monotonic() - raw.began
        scene.answers.append(await raw.ask_for_fax())
        scene.views["asked"] = await until_recorded(office.site, scene.number)
        await raw.talk(TALK_S)
        scene.views["talking"] = await until_recorded(office.site, scene.number)
        await raw.hang_up()
        scene.heard, scene.said = raw.heard(), raw.said()
    return scene


async def fax_off(office: Office) -> Scene:
    return await _fax(office, "a switch to T.38, which is off here", 5, "31201234101", "trunk-a")


async def fax_refused(office: Office) -> Scene:
    return await _fax(office, "a switch to T.38, which our phone refuses", 6, "31201234117", "trunk-g")


async def fax_taken(office: Office) -> Scene:
    return await _fax(office, "a switch to T.38 that Asterisk takes", 9, "31201239071", "trunk-g")


# -- transfers -------------------------------------------------------------------------------------------------------


async def ami_attended_agent(office: Office) -> Scene:
    scene = await office.inbound("AMI Atxfer to another agent", "31201234114", NUMBER.format(7), "114")
    await scene.calls["customer"].talk(TALK_S)
    await act(office, "Atxfer", await office.channel("PJSIP/114-"), "106")
    scene.calls["other"] = other = await office.own["106"].incoming(number="114", deadline_s=20)
    await other.answered()
    await other.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["agent"].hangup()
    return await with_other(office, scene, "106")


async def ari_continue_agent(office: Office) -> Scene:
    """An ARI application sends the customer back into the dialplan, to another agent."""
    await office.own["100"].answers(Answer(0.3))
    async with desk(office.site.asterisk, "desk-109") as app:
        scene = await office.inbound("sent on by an ARI application", "31201239070", NUMBER.format(8), "109")
        await scene.calls["customer"].talk(TALK_S)
        customer = next(e["channel"]["id"] for e in app.events if e["type"] == "StasisStart")
        await app.post(f"/channels/{customer}/continue", context="internal", extension="100", priority="1")
        await scene.calls["agent"].hangup()
        scene.calls["other"] = other = await office.own["100"].incoming(number=scene.number, deadline_s=20)
        await other.answered()
        return await with_other(office, scene, "100")


WAVES = (
    (early_unasked, early, early_asked, listed_group, listed_group_local, listed_member, group, prefix, no_prefix),
    (fax_refused, fax_taken, fax_off, ami_attended_agent, ari_continue_agent),
)


def installation() -> Installation:
    plan = DIALPLAN + DIALS + BEHIND
    return Installation(dialplan=plan, settings=LISTED, extra_lines=LINES)
