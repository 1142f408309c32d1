"""Owns: how customers are transferred, as scenes: by the phones' REFER, by Asterisk's feature codes, by AMI and ARI.

Each is one call of an `Office`; a wave of them overlaps. Numbers outside: 8 or 9 before one that answers, 7 before
one that declines.
"""

from __future__ import annotations

import asyncio

from tests.lab.ami import connect
from tests.lab.ari_app import desk
from tests.lab.asterisk import LabError
from tests.lab.evidence import until_recorded
from tests.lab.phone import PhoneCall
from tests.lab.plays import TALK_S, Office, Scene

CODE_S = 1.5
"""Between a feature code and the number: Asterisk says "transfer" first."""
DIALPLAN = """
; a customer whose carrier transfers him arrives here: an outside number, dialled for whom he leaves behind
exten => 31201239020,1,Dial(PJSIP/31108880620@trunk-d,60,tT)
; an application of the installation's own bridges this call
exten => 31201239021,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Stasis(desk-107,caller,PJSIP/107)
exten => 31201239022,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Stasis(desk-108,caller,PJSIP/108)
"""
FEATURES = """\
[general]
transferdigittimeout=1
atxfernoanswertimeout=15
[featuremap]
atxfer=*2
blindxfer=##
"""
NUMBER = "+316124{:05d}"


async def _with_third(office: Office, scene: Scene, third: str, moment: str = "with the third party") -> Scene:
    """He talks with the third party, then hangs up."""
    scene.third = f"+{third}"
    scene.calls["third"] = call = await office.third_of(third)
    await call.answered()
    await scene.calls["customer"].talk(TALK_S)
    scene.views[moment] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def with_other(office: Office, scene: Scene, other: str) -> Scene:
    """He talks with another agent and is recorded, then hangs up."""
    scene.views["with the other"] = await until_recorded(office.site, scene.number, by=f"PJSIP/{other}")
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def _taken_back(office: Office, scene: Scene) -> Scene:
    """He talks with his first agent again and is recorded, then hangs up."""
    scene.views["taken back"] = await until_recorded(office.site, scene.number)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def begin(office: Office, title: str, number: int, agent: str) -> Scene:
    scene = await office.inbound(title, f"31201234{agent}", NUMBER.format(number), agent)
    await scene.calls["customer"].talk(TALK_S)
    return scene


# -- the phones' REFER -----------------------------------------------------------------------------------------------


async def blind_outside(office: Office) -> Scene:
    scene = await begin(office, "blind REFER to an outside number", 1, "100")
    await scene.calls["agent"].refer("931108880601")
    return await _with_third(office, scene, "31108880601")


async def blind_agent(office: Office) -> Scene:
    scene = await begin(office, "blind REFER to another agent", 2, "101")
    await scene.calls["agent"].refer("102")
    scene.calls["other"] = other = await office.own["102"].incoming(number=scene.number)
    await other.answered()
    return await with_other(office, scene, "102")


async def attended_outside(office: Office) -> Scene:
    scene = await begin(office, "attended REFER to an outside number", 3, "103")
    agent = scene.calls["agent"]
    await agent.hold()
    scene.calls["consulting"], _ = second, third = await office.outside("103", "931108880603")
    await third.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.refer_replaces(second)
    await agent.ended()
    return await _with_third(office, scene, "31108880603")


async def attended_agent(office: Office) -> Scene:
    scene = await begin(office, "attended REFER to another agent", 4, "104")
    agent = scene.calls["agent"]
    await agent.hold()
    scene.calls["consulting"] = second = await office.own["104"].call("105")
    scene.calls["other"] = other = await office.own["105"].incoming(number="104")
    await other.answered()
    await second.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.refer_replaces(second)
    await agent.ended()
    return await with_other(office, scene, "105")


async def declined(office: Office) -> Scene:
    scene = await begin(office, "the consulted third party declines", 5, "106")
    await scene.calls["agent"].hold()
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    second = await office.own["106"].call("731108880605")
    await office.third_of("31108880605")
    await second.ended()
    await scene.calls["agent"].unhold()
    return await _taken_back(office, scene)


async def taken_back(office: Office) -> Scene:
    scene = await begin(office, "an attended transfer taken back after consulting", 6, "107")
    agent = scene.calls["agent"]
    await agent.hold()
    scene.calls["consulting"], _ = second, _ = await office.outside("107", "831108880606")
    await second.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await second.hangup()
    await agent.unhold()
    return await _taken_back(office, scene)


async def customer_leaves(office: Office) -> Scene:
    """The customer's carrier sends the REFER: the agent is left with whom the customer named."""
    scene = await begin(office, "a customer who transfers himself", 7, "108")
    await scene.calls["customer"].refer("31201239020")
    scene.calls["third"] = third = await office.third_of("31108880620")
    await third.answered()
    await third.talk(TALK_S)
    scene.views["with the third party"] = await until_recorded(office.site, "+31108880620", on=False)
    await scene.calls["agent"].hangup()
    await scene.calls["customer"].hangup()
    return scene


# -- feature codes ---------------------------------------------------------------------------------------------------


async def _press(agent: PhoneCall, code: str, number: str) -> None:
    await agent.dtmf(code)
    await agent.talk(CODE_S)
    await agent.dtmf(number)


async def code_outside(office: Office) -> Scene:
    """Consulting, then all three (`*3`), then the agent leaves."""
    scene = await begin(office, "*2 to an outside number, three-way, then he leaves", 11, "100")
    agent = scene.calls["agent"]
    await _press(agent, "*2", "931108880611")
    scene.calls["third"] = third = await office.third_of("31108880611")
    await third.answered()
    await third.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.dtmf("*3")
    await third.talk(2.5)
    scene.views["all three"] = await until_recorded(office.site, scene.number, on=False)
    await agent.hangup()
    return await _with_third(office, scene, "31108880611")


async def code_agent(office: Office) -> Scene:
    scene = await begin(office, "*2 to another agent", 12, "101")
    agent = scene.calls["agent"]
    await _press(agent, "*2", "102")
    scene.calls["other"] = other = await office.own["102"].incoming(number="101", deadline_s=20)
    await other.answered()
    await other.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.hangup()
    return await with_other(office, scene, "102")


async def code_blind_outside(office: Office) -> Scene:
    scene = await begin(office, "## to an outside number", 13, "103")
    await _press(scene.calls["agent"], "##", "931108880613")
    return await _with_third(office, scene, "31108880613")


async def code_blind_agent(office: Office) -> Scene:
    scene = await begin(office, "## to another agent", 14, "104")
    await _press(scene.calls["agent"], "##", "105")
    scene.calls["other"] = other = await office.own["105"].incoming(number=scene.number, deadline_s=20)
    await other.answered()
    return await with_other(office, scene, "105")


async def code_declined(office: Office) -> Scene:
    scene = await begin(office, "*2 to somebody who declines", 15, "106")
    await _press(scene.calls["agent"], "*2", "731108880615")
    await office.third_of("31108880615")
    return await _taken_back(office, scene)


async def code_taken_back(office: Office) -> Scene:
    scene = await begin(office, "*2, taken back (*1) after consulting", 16, "107")
    agent = scene.calls["agent"]
    await _press(agent, "*2", "831108880616")
    third = await office.third_of("31108880616")
    await third.answered()
    await third.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.dtmf("*1")
    await third.ended()
    return await _taken_back(office, scene)


# -- AMI and ARI -----------------------------------------------------------------------------------------------------


async def ami_redirect_outside(office: Office) -> Scene:
    scene = await begin(office, "AMI Redirect to an outside number", 21, "100")
    await act(office, "Redirect", await office.channel("PJSIP/trunk-a-", scene.number), "931108880621")
    return await _with_third(office, scene, "31108880621")


async def ami_redirect_agent(office: Office) -> Scene:
    scene = await begin(office, "AMI Redirect to another agent", 22, "101")
    await act(office, "Redirect", await office.channel("PJSIP/trunk-a-", scene.number), "102")
    scene.calls["other"] = other = await office.own["102"].incoming(number=scene.number)
    await other.answered()
    return await with_other(office, scene, "102")


async def ami_blind_outside(office: Office) -> Scene:
    scene = await begin(office, "AMI BlindTransfer to an outside number", 23, "103")
    await act(office, "BlindTransfer", await office.channel("PJSIP/103-"), "931108880623")
    return await _with_third(office, scene, "31108880623")


async def ami_blind_agent(office: Office) -> Scene:
    scene = await begin(office, "AMI BlindTransfer to another agent", 24, "104")
    await act(office, "BlindTransfer", await office.channel("PJSIP/104-"), "105")
    scene.calls["other"] = other = await office.own["105"].incoming(number=scene.number)
    await other.answered()
    return await with_other(office, scene, "105")


async def ami_attended_outside(office: Office) -> Scene:
    scene = await begin(office, "AMI Atxfer to an outside number", 25, "106")
    agent = scene.calls["agent"]
    await act(office, "Atxfer", await office.channel("PJSIP/106-"), "831108880625")
    third = await office.third_of("31108880625")
    await third.answered()
    await third.talk(1.5)
    scene.views["consulting"] = await until_recorded(office.site, scene.number, on=False)
    await agent.hangup()
    return await _with_third(office, scene, "31108880625")


async def ari_transfer(office: Office) -> Scene:
    """The agent's phone sends a REFER, and an ARI application is told of it instead (ChannelTransfer)."""
    async with desk(office.site.asterisk, "desk-107") as app:
        scene = await office.inbound("a REFER handled by an ARI application", "31201239021", NUMBER.format(26), "107")
        await scene.calls["customer"].talk(TALK_S)
        # The phone hears that it worked when the application says so, after the three have talked.
        referring = asyncio.create_task(scene.calls["agent"].refer("31108880626"))
        scene.calls["third"] = third = await office.third_of("31108880626")
        await third.answered()
        scene.views["all three"] = await until_recorded(office.site, scene.number, on=False)
        await third.talk(1.0)
        app.joined.set()
        await referring
        await scene.calls["agent"].ended()
        return await _with_third(office, scene, "31108880626")


async def ari_continue(office: Office) -> Scene:
    """An ARI application sends the customer back into the dialplan, to an outside number."""
    async with desk(office.site.asterisk, "desk-108") as app:
        scene = await office.inbound("sent outside by an ARI application", "31201239022", NUMBER.format(27), "108")
        await scene.calls["customer"].talk(TALK_S)
        customer = next(e["channel"]["id"] for e in app.events if e["type"] == "StasisStart")
        await app.post(f"/channels/{customer}/continue", context="internal", extension="831108880627", priority="1")
        await scene.calls["agent"].hangup()
        return await _with_third(office, scene, "31108880627")


async def act(office: Office, action: str, channel: str, exten: str) -> None:
    more = {"Priority": 1} if action == "Redirect" else {}
    async with connect(office.site.asterisk) as ami:
        answer = await ami.action(action, Channel=channel, Context="internal", Exten=exten, **more)
    if answer["Response"] != "Success":
        raise LabError(f"{action}: {answer}")


WAVES = (
    (blind_outside, blind_agent, attended_outside, attended_agent, declined, taken_back, customer_leaves),
    (code_outside, code_agent, code_blind_outside, code_blind_agent, code_declined, code_taken_back),
    (
        ami_redirect_outside,
        ami_redirect_agent,
        ami_blind_outside,
        ami_blind_agent,
        ami_attended_outside,
        ari_transfer,
        ari_continue,
    ),
)
AGENTS = ("100", "101", "103", "104", "106", "107", "108")
OTHERS = ("102", "105")
