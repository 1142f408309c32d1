"""The lab itself: a green test elsewhere means nothing unless these hold."""

from __future__ import annotations

from tests.e2e.conftest import AddPhone
from tests.lab.asterisk import Asterisk, server_name
from tests.lab.signals import Chirp, Tone


async def test_the_answering_asterisk_is_the_one_we_started(asterisk: Asterisk) -> None:
    assert await server_name(asterisk.sip_port) == asterisk.user_agent


async def test_an_outside_caller_and_a_phone_hear_each_other(asterisk: Asterisk, add_phone: AddPhone) -> None:
    agent = await add_phone(asterisk.line("100"), sends=Tone(1900))
    customer = await add_phone(asterisk.line("trunk-a"), sends=Chirp())
    call = await customer.call("31201234100", caller_id="+31612345678")
    await call.answered()
    answered = await agent.incoming()
    assert answered.number == "+31612345678"
    await call.talk(1.0)
    await call.hangup()
    await answered.ended()
    assert (await call.heard()).seconds > 0.9
    assert (await answered.heard()).seconds > 0.9
