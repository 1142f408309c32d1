"""Owns: calls that a machine or nobody of ours answers, as scenes: mailboxes, menus, answering services, pass-through.

Each is one call of an `Office`; they overlap. Numbers are of the installation that `installation` makes.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab import checker
from tests.lab.ami import connect
from tests.lab.asterisk import NOLOAD, Line
from tests.lab.evidence import prompt, until_recorded
from tests.lab.installation import Installation
from tests.lab.phone import Answer, Ring
from tests.lab.plays import CUSTOMER, DIALS, OTHER_HZ, OUTSIDE, TALK_S, THIRD_HZ, Office, Scene
from tests.lab.signals import Tone, file_of

NUMBER = "+316131{:05d}"
OUTBOUND = "contract_evidence.nl.notice.outbound"
MENU_HZ = THIRD_HZ
"""What our own menu says: no third party is in such a call."""
AGENTS = ("100", "102", "103", "104", "105", "tenant-a", "room-301", "201", "202")
DIALPLAN = """
; an agent who does not answer; a private extension; and their mailboxes
exten => 31201239050,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/100,2,tT)
 same => n,VoiceMail(100@default,us)
exten => 31201239051,1,Gosub(pbxguard-disclose,s,1(contract_evidence,private=yes))
 same => n,Dial(PJSIP/201,2,tT)
 same => n,VoiceMail(201@default,us)
; a private extension that answers
exten => 31201239058,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/202,60,tT)
; a menu before the notice and the queue
exten => 31201239052,1,Answer()
 same => n,Read(choice,${MENU},1,,1,5)
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(desk,tT,,,60)
; an answering service for us, told nothing, and told; we as one for a client
exten => 31201239053,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/103,2,tT)
 same => n,Dial(PJSIP/31108880903@trunk-c,60,tT)
exten => 31201239054,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Gosub(told,s,1(31108880904))
exten => 31201239055,1,Gosub(pbxguard-disclose,s,1(for_client,reference=C-77))
 same => n,Dial(PJSIP/104,60,tT)
; calls that only pass through: from carrier to carrier, to a tenant
exten => 31201239056,1,Dial(PJSIP/31108880906@trunk-d,60,tT)
exten => 31201239057,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/tenant-a,60,tT)
[told]
exten => s,1,Gosub(pbxguard-outbound,s,1(contract_evidence,${ARG1}))
 same => n,Dial(PJSIP/${ARG1}@trunk-d,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
 same => n,Return()
[hotel]
exten => _X.,1,Gosub(told,s,1(${EXTEN}))
[internal](+)
exten => *97,1,VoiceMailMain(${CALLERID(num)}@default,s)
"""
QUEUES = "[general]\nautofill=yes\n[desk]\nstrategy=ringall\ntimeout=20\nmember => PJSIP/102\n"
MAILBOXES = "[general]\nformat=wav\nenvelope=no\n[default]\n100 => 1234,Agent\n201 => 1234,Confidential adviser\n"
LINES = (
    Line("201", "internal", password="secret201"),
    Line("202", "internal", password="secret202"),
    Line("tenant-a", "from-trunk", password="secret-tenant", caller_id="31207770000"),
    Line("room-301", "hotel", password="secret301", caller_id="301"),
)
PURPOSE = """
[purposes.for_client]
basis = "f"
directions = ["inbound"]
[purposes.for_client.texts]
nl = "{org} neemt dit gesprek voor De Vries op als bewijs van wat u afspreekt."
en = "{org} records this call for De Vries as proof of what you agree."
"""


# -- scenes ----------------------------------------------------------------------------------------------------------


def messages(site: Installation, box: str) -> list[Path]:
    """What VoiceMail() keeps, or just takes down, for a mailbox."""
    return sorted((site.asterisk.spool / "voicemail" / "default" / box).rglob("msg*.wav"))


async def _message(office: Office, title: str, did: str, number: int, box: str) -> Scene:
    """The customer speaks to a mailbox, then hangs up."""
    scene = await office.inbound(title, did, NUMBER.format(number))
    customer = scene.calls["customer"]
    taking = office.site.asterisk.spool / "voicemail" / "default" / box / "tmp"
    await customer.phone.phones.until(lambda: list(taking.glob("*.wav")), f"the mailbox {box} takes a message", 40)
    await customer.talk(TALK_S)
    scene.views["speaking"] = await until_recorded(office.site, scene.number, on=False)
    await customer.hangup()
    await customer.phone.phones.until(lambda: messages(office.site, box), f"a message for {box}")
    return scene


async def mailbox(office: Office) -> Scene:
    """Then the agent listens to his message; then the same number is called, and he answers."""
    agent = office.own["100"]
    await agent.answers(Ring())
    scene = await _message(office, "an agent's mailbox", "31201239050", 1, "100")
    scene.calls["listening"] = listening = await agent.call("*97")
    await listening.answered()
    await listening.talk(1.0)
    await listening.dtmf("1")
    await listening.talk(4.0)
    scene.views["own"] = {"live": [c for c in (await office.site.ask("/calls"))["calls"] if "100" in c["own_endpoint"]]}
    await listening.hangup()
    await agent.answers(Answer(0.3))
    twin = await _inside(office, "the agent answers", "31201239050", 11, "100")
    scene.calls["twin"], scene.views["the twin"] = twin.calls["customer"], twin.views["at first"]
    return scene


async def private_mailbox(office: Office) -> Scene:
    await office.own["201"].answers(Ring())
    return await _message(office, "a private extension's mailbox", "31201239051", 2, "201")


async def menu(office: Office) -> Scene:
    """He speaks in the menu too, in another voice; then he is told and connected."""
    scene = await office.inbound("a menu, then a queue", "31201239052", NUMBER.format(3))
    customer = await scene.calls["customer"].answered()
    await customer.say(Tone(OTHER_HZ))
    await customer.talk(2.0)
    scene.views["in the menu"] = await until_recorded(office.site, scene.number, on=False)
    await customer.dtmf("1")
    await customer.talk(1.0)
    await customer.say(CUSTOMER)
    agent = await office.own["102"].incoming(number=scene.number, deadline_s=30)
    await agent.answered()
    await until_recorded(office.site, scene.number)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


async def menu_only(office: Office) -> Scene:
    scene = await office.inbound("hangs up in the menu", "31201239052", NUMBER.format(4))
    await scene.calls["customer"].answered()
    await scene.calls["customer"].talk(2.0)
    await scene.calls["customer"].hangup()
    return scene


async def _outside(office: Office, title: str, did: str, number: int, third: str) -> Scene:
    """An outside number answers; the two talk."""
    scene = await office.inbound(title, did, NUMBER.format(number))
    scene.third = f"+{third}"
    scene.calls["third"] = await office.third_of(third, deadline_s=30)
    await scene.calls["third"].answered()
    await scene.calls["customer"].talk(1.0)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def service(office: Office) -> Scene:
    await office.own["103"].answers(Ring())
    return await _outside(office, "an answering service", "31201239053", 5, "31108880903")


async def service_told(office: Office) -> Scene:
    scene = await office.inbound("an answering service that was told", "31201239054", NUMBER.format(6))
    scene.third = "+31108880904"
    scene.calls["third"] = third = await office.third_of("31108880904", deadline_s=30)
    await third.answered()
    notice = checker.read(prompt(office.site, OUTBOUND))[0]
    await third.talk(notice.seconds + 1.5 + TALK_S)  # he is told before he is connected
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def _inside(office: Office, title: str, did: str, number: int, agent: str) -> Scene:
    scene = await office.inbound(title, did, NUMBER.format(number), agent)
    await scene.calls["customer"].talk(TALK_S)
    await scene.calls["customer"].hangup()
    return scene


async def for_client(office: Office) -> Scene:
    return await _inside(office, "we answer for a client", "31201239055", 7, "104")


async def passing(office: Office) -> Scene:
    return await _outside(office, "from carrier to carrier", "31201239056", 8, "31108880906")


async def _answered(office: Office, title: str, did: str, number: int, line: str) -> Scene:
    """This line answers; the two talk, unrecorded."""
    scene = await office.inbound(title, did, NUMBER.format(number))
    scene.calls[line] = answered = await office.own[line].incoming(number=scene.number, deadline_s=30)
    await answered.answered()
    await answered.talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await scene.calls["customer"].hangup()
    return scene


async def tenant(office: Office) -> Scene:
    return await _answered(office, "to a tenant", "31201239057", 9, "tenant-a")


async def private_phone(office: Office) -> Scene:
    return await _answered(office, "a private extension answers", "31201239058", 10, "202")


async def guest(office: Office) -> Scene:
    """A hotel's guest calls a number outside, which is told as any customer is."""
    scene = Scene("a guest calls out", "+31108880908")
    scene.calls["guest"] = guest = await office.own["room-301"].call("31108880908")
    scene.calls["customer"] = third = await office.third_of("31108880908", deadline_s=30)
    await guest.answered(deadline_s=30)
    await third.talk(TALK_S)
    scene.views["talking"] = await until_recorded(office.site, scene.number, on=False)
    await guest.hangup()
    return scene


async def wake_up(office: Office) -> Scene:
    """The PBX itself calls out and plays something."""
    scene = Scene("a wake-up call", "+31108880909")
    async with connect(office.site.asterisk) as ami:
        sound = file_of(Tone(MENU_HZ), 8000, office.site.asterisk.sounds).with_suffix("")
        await ami.action(
            "Originate",
            Channel="PJSIP/31108880909@trunk-c",
            Application="Playback",
            Data=str(sound),
            Async="true",
        )
    scene.calls["customer"] = third = await office.third_of("31108880909")
    await third.answered()
    await third.talk(TALK_S)
    scene.views["played"] = await until_recorded(office.site, scene.number, on=False)
    await third.hangup()
    return scene


async def click_to_call(office: Office) -> Scene:
    """The twin: what the PBX calls first is an agent, and then a customer, who is told."""
    scene = Scene("click to call", "+31201112910")
    async with connect(office.site.asterisk) as ami:
        await ami.action(
            "Originate", Channel="PJSIP/105", Context="internal", Exten="0201112910", Priority=1, Async="true"
        )
    scene.calls["customer"] = customer = await office.third_of("0201112910", deadline_s=30)
    await customer.answered()
    await until_recorded(office.site, scene.number, deadline_s=30)
    await customer.talk(TALK_S)
    await customer.hangup()
    return scene


WAVES = (
    (
        mailbox,
        private_mailbox,
        private_phone,
        menu,
        service,
        service_told,
        click_to_call,
        guest,
        for_client,
        tenant,
        passing,
        wake_up,
        menu_only,
    ),
)


def installation() -> Installation:
    """With mailboxes (the lab has none by itself), a private extension, a tenant and a hotel's room."""
    modules = "".join(f"noload={name}.so\n" for name in NOLOAD.split() if name != "app_voicemail")
    files = {"modules.conf": f"[modules]\nautoload=yes\n{modules}", "voicemail.conf": MAILBOXES}
    site = Installation(
        dialplan=DIALPLAN + DIALS, queues=QUEUES, files=files, settings=PURPOSE, extra_lines=(*OUTSIDE[1:2], *LINES)
    )
    site.private = 'private = ["PJSIP/20?-*"]\nmandated = ["PJSIP/tenant-*"]'
    return site


async def record_menu(site: Installation) -> None:
    """What the menu says: its path is known once Asterisk runs."""
    said = file_of(Tone(MENU_HZ), 8000, site.asterisk.sounds).with_suffix("")
    await site.asterisk.cli(f"dialplan set global MENU {said}")
