"""Owns: the office in which a storm plays: its dialplan, its phones, a desk of two of ours for each run of calls."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tests.lab.ami import Ami, connect
from tests.lab.installation import KEYS, Installation
from tests.lab.phone import Answer, Phone, Phones, Reject
from tests.lab.storm.voices import STRANGER, VOICES

DESKS = 3
SPY = "115"
NOTICE = "contract_evidence.nl.notice.{direction}"

DIALPLAN = f"""
; 31201230NNN: phone NNN, as proof, with every key
exten => _31201230XXX,1,Set(__DYNAMIC_FEATURES={KEYS})
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Dial(PJSIP/${{EXTEN:8}},60,tT)
; 3120123902N: the queue of desk N
exten => _3120123902X,1,Set(__DYNAMIC_FEATURES={KEYS})
 same => n,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Queue(desk${{EXTEN:10}},tT,,,60)
""" + """
; 3120123903N: the conference of desk N, told; 3120123904N: the same, untold
exten => _3120123903X,1,Gosub(pbxguard-disclose,s,1(contract_evidence))
 same => n,Goto(conference,${EXTEN:10},1)
exten => _3120123904X,1,Goto(conference,${EXTEN:10},1)
; 31201241NNN: into the conversation of phone NNN, as anybody may whose dialplan says so
exten => _31201241XXX,1,BridgeAdd(PJSIP/${EXTEN:8}-)

[conference]
exten => _X,1,Answer()
 same => n,Set(CONFBRIDGE(user,quiet)=yes)
 same => n,ConfBridge(room${EXTEN})

[internal](+)
include => parkedcalls
; outside numbers with every key
exten => _020ZXXXXXX,1,Set(__DYNAMIC_FEATURES=KEYS)
 same => n,Gosub(pbxguard-outbound,s,1(contract_evidence,${EXTEN}))
 same => n,Dial(PJSIP/${EXTEN}@trunk-b,60,tTU(pbxguard-callee^${PBXGUARD_PROMPT}))
exten => _*6X,1,Goto(conference,${EXTEN:2},1)
; takes the call that rings at phone NNN
exten => _*8XXX,1,PickupChan(PJSIP/${EXTEN:2},p)
; listens to phone NNN; speaks to both sides of its call
exten => _*55XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},q)
exten => _*56XXX,1,Answer()
 same => n,ChanSpy(PJSIP/${EXTEN:3},qB)

[flood]
; events as fast as one thread makes them, until the channel's time is up
exten => s,1,Answer()
 same => n,Set(TIMEOUT(absolute)=${seconds})
 same => n(again),Set(noise=${RAND(1,1000000)})
 same => n,Set(noise=${RAND(1,1000000)})
 same => n,Set(noise=${RAND(1,1000000)})
 same => n,Set(noise=${RAND(1,1000000)})
 same => n,Wait(0.001)
 same => n,Goto(again)
""".replace("KEYS", KEYS)
QUEUES = "[general]\nautofill=yes\n" + "".join(
    f"[desk{n}]\nstrategy=ringall\ntimeout=20\nretry=1\nringinuse=no\nmember => PJSIP/{100 + 2 * n}\n"
    for n in range(DESKS)
)


@dataclass
class Desk:
    """Two phones of ours: `first` answers, `second` takes over. No other desk calls them."""

    number: int
    first: Phone
    second: Phone

    @property
    def others(self) -> dict[str, Phone]:
        return {self.first.line.name: self.second, self.second.line.name: self.first}

    def voice(self, phone: Phone) -> str:
        return "first" if phone is self.first else "second"


@dataclass
class Office:
    """Everybody's phones. Outside: two that call, one that our people call, and strangers."""

    site: Installation
    phones: Phones
    ami: Ami
    carriers: tuple[Phone, ...]
    called: Phone
    third: Phone
    spy: Phone
    desks: tuple[Desk, ...]
    connections: AsyncExitStack
    """Ends what is begun meanwhile."""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    """Asterisk is there."""
    live: set[asyncio.Task[None]] = field(default_factory=set)
    """The calls that are being played."""

    @property
    def carrier(self) -> Phone:
        """The outside phone that has the fewest calls now."""
        return min(self.carriers, key=lambda phone: sum(call.ended_at is None for call in phone.calls))

    @classmethod
    async def furnish(cls, site: Installation, phones: Phones, connections: AsyncExitStack, desks: int) -> Office:
        """Put a phone on every line."""
        ami = await connections.enter_async_context(connect(site.asterisk))
        a = site.asterisk
        customer = VOICES["customer"]
        outside = await asyncio.gather(
            phones.add(a.line("trunk-a"), sends=customer),
            phones.add(a.line("trunk-a"), sends=customer),
            phones.add(a.line("trunk-b"), sends=customer, on_incoming=Answer(0.3)),
            phones.add(a.line("trunk-c"), sends=STRANGER, on_incoming=Answer(0.3)),
            phones.add(a.line(SPY), sends=STRANGER, on_incoming=Reject(486)),
        )
        own = await asyncio.gather(
            *(
                phones.add(a.line(str(100 + n)), sends=VOICES["second" if n % 2 else "first"], on_incoming=Answer(0.3))
                for n in range(2 * desks)
            )
        )
        pairs = tuple(Desk(n, own[2 * n], own[2 * n + 1]) for n in range(desks))
        return cls(site, phones, ami, tuple(outside[:2]), outside[2], outside[3], outside[4], pairs, connections)
