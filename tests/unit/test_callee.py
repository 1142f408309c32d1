"""The callee's door: what Asterisk's own reports prove."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbxguard.core.callee import (
    CalleeHeard,
    CalleeNotHeard,
    CalleeObjected,
    CalleePrompts,
    Finding,
)
from pbxguard.core.facts import (
    CalleePromptBegun,
    CalleePromptEnded,
    ChannelHungUp,
    ConnectionLost,
    DigitPressed,
    Fact,
    HangupRequested,
    Held,
    Unheld,
)
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode
from pbxguard.core.reasons import Reason

HIM = Uniqueid("7.1")
PROOF = PurposeName("contract_evidence")
NOTICE = Disclosure(DisclosureKey.of((PROOF,), "nl", Mode.NOTICE, Direction.OUTBOUND), "t", "d", "/n", 3000)
OPT_IN = Disclosure(DisclosureKey.of((PROOF,), "nl", Mode.OPT_IN, Direction.OUTBOUND), "t", "d", "/n", 3000, "/k", 2000)
POLICY = Policy("Acme", disclosures={NOTICE.key: NOTICE, OPT_IN.key: OPT_IN})


def begun(disclosure: Disclosure = NOTICE, *, part: str = "", at: float = 10.0) -> CalleePromptBegun:
    return CalleePromptBegun(HIM, f"{disclosure.key}{part}", 100, 5, at, "(alaw)")


def ended(
    disclosure: Disclosure = NOTICE,
    *,
    part: str = "",
    at: float = 13.0,
    sent: int = 150,
    rx: int = 155,
    state: str = "SUCCESS",
    key: str = "",
) -> CalleePromptEnded:
    return CalleePromptEnded(HIM, f"{disclosure.key}{part}", state, 100 + sent, rx, key, at)


def judged(*facts: Fact, size: int = 160) -> list[Finding]:
    """What is found, where both counters are read as each prompt begins and as it ends: packets of `size` octets."""
    prompts, found = CalleePrompts(), []
    for fact in facts:
        if isinstance(fact, CalleePromptEnded):
            prompts.sent(HIM, fact.tx_packets, fact.tx_packets * size)
        found += prompts.handle(fact, POLICY)
        if isinstance(fact, CalleePromptBegun):
            prompts.sent(HIM, fact.tx_packets, fact.tx_packets * size)
    return found


def test_a_notice_that_was_sent_whole_is_heard() -> None:
    assert judged(begun(), ended()) == [CalleeHeard(HIM, NOTICE, consented=False)]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (ended(state="FAILED"), Reason.PROMPT_FAILED),
        (ended(at=12.9), Reason.PROMPT_CUT),
        (ended(sent=142), Reason.PROMPT_UNSENT),
        (ended(rx=5), Reason.PROMPT_NO_MEDIA),
        (ended(OPT_IN), Reason.PROMPT_FAILED),
    ],
)
def test_a_notice_that_was_not_leaves_him_untold(end: CalleePromptEnded, reason: Reason) -> None:
    assert judged(begun(), end) == [CalleeNotHeard(HIM, NOTICE.key, reason)]


@pytest.mark.parametrize(
    "facts",
    [
        (begun(), HangupRequested(HIM), ended(state="FAILED", at=11.0), ChannelHungUp(HIM)),
        (begun(), HangupRequested(HIM), ChannelHungUp(HIM)),
        (begun(), ChannelHungUp(HIM)),
        (begun(), HangupRequested(HIM), HangupRequested(HIM), ended(), ConnectionLost()),
    ],
)
def test_who_hangs_up_meanwhile_is_told_as_gone_once_and_the_end_of_his_prompt_says_no_more(
    facts: tuple[Fact, ...],
) -> None:
    assert judged(*facts) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_CHANNEL_GONE)]


@pytest.mark.parametrize(("sent", "size"), [(143, 160), (75, 320), (72, 320), (300, 80), (50, 480)])
def test_ninety_five_percent_of_the_octets_are_enough_in_packets_of_any_length(sent: int, size: int) -> None:
    assert judged(begun(), ended(sent=sent), size=size) == [CalleeHeard(HIM, NOTICE, consented=False)]


@pytest.mark.parametrize(("sent", "size"), [(142, 160), (71, 320), (150, 80), (284, 80)])
def test_packets_that_hold_too_few_octets_prove_nothing_however_many_they_are(sent: int, size: int) -> None:
    assert judged(begun(), ended(sent=sent), size=size) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_UNSENT)]


@pytest.mark.parametrize(
    ("readings", "heard"),
    [
        ([(100, 0), (175, 12000)], True),
        ([(175, 12000), (100, 0)], True),
        ([(100, 0), (190, 14400), (900, 999_999)], True),  # the last came too late, and counts what followed
        ([], False),
        ([(175, 12000)], False),
        ([(175, 12000), (175, 12000)], False),
        ([(100, 0), (174, 11840)], False),  # less than half of it was measured
        ([(90, 0), (175, 13600)], False),  # before it began
        ([(100, 0), (251, 24160)], False),  # after it ended
    ],
)
def test_what_a_packet_holds_is_known_from_two_readings_while_the_prompt_plays(
    readings: list[tuple[int, int]], heard: bool
) -> None:
    prompts = CalleePrompts()
    assert prompts.handle(begun(), POLICY) == []
    for packets, octets in readings:
        prompts.sent(HIM, packets, octets)
    untold = CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_UNSENT)
    assert prompts.handle(ended(), POLICY) == [CalleeHeard(HIM, NOTICE, consented=False) if heard else untold]


@pytest.mark.parametrize("formats", ["(opus)", "", "(alaw|opus)"])
def test_in_a_codec_without_a_fixed_rate_nothing_can_be_proven(formats: str) -> None:
    assert judged(replace(begun(), formats=formats), ended()) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_UNSENT)]


def test_the_length_of_what_plays_is_known_while_it_plays() -> None:
    prompts = CalleePrompts()
    assert prompts.seconds(HIM, POLICY) is None
    prompts.handle(begun(OPT_IN), POLICY)
    assert prompts.seconds(HIM, POLICY) == 3.0
    for packets in (100, 250):
        prompts.sent(HIM, packets, packets * 160)
    prompts.handle(ended(OPT_IN), POLICY)
    prompts.handle(begun(OPT_IN, part="/key"), POLICY)
    assert prompts.seconds(HIM, POLICY) == 2.0
    assert prompts.seconds(HIM, Policy("Acme")) is None


def test_an_end_without_a_beginning_proves_nothing() -> None:
    assert judged(ended()) == [CalleeNotHeard(HIM, None, Reason.PROMPT_FAILED)]


def test_on_hold_nobody_hears_it() -> None:
    assert judged(begun(), Held(HIM), ended()) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_ON_HOLD)]


def test_a_hold_that_ends_meanwhile_shows_that_he_was_on_hold_until_then() -> None:
    assert judged(begun(), Unheld(HIM), ended()) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_ON_HOLD)]


@pytest.mark.parametrize(("disclosure", "part"), [(NOTICE, ""), (OPT_IN, "/key")])
def test_a_prompt_that_begins_to_one_on_hold_is_not_heard(disclosure: Disclosure, part: str) -> None:
    prompts = CalleePrompts()
    if part:
        prompts.handle(begun(disclosure), POLICY)
        for packets in (100, 250):
            prompts.sent(HIM, packets, packets * 160)
        assert prompts.handle(ended(disclosure), POLICY) == []
    prompts.handle(begun(disclosure, part=part), POLICY, deaf=Reason.PROMPT_ON_HOLD)
    for packets in (100, 250):
        prompts.sent(HIM, packets, packets * 160)
    assert prompts.handle(ended(disclosure, part=part), POLICY) == [
        CalleeNotHeard(HIM, disclosure.key, Reason.PROMPT_ON_HOLD)
    ]


def test_hanging_up_in_the_middle_leaves_him_untold() -> None:
    assert judged(begun(), ChannelHungUp(HIM), ended())[0] == CalleeNotHeard(
        HIM, NOTICE.key, Reason.PROMPT_CHANNEL_GONE
    )


def test_who_was_being_told_when_we_lost_sight_is_untold_since_a_nine_may_have_been_missed() -> None:
    findings = judged(begun(), ConnectionLost(), ended())
    assert findings[0] == CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_FAILED)
    assert not any(isinstance(finding, CalleeHeard) for finding in findings)


def test_a_nine_counts_whenever_it_is_pressed() -> None:
    assert judged(begun(), DigitPressed(HIM, "9"))[0] == CalleeObjected(HIM, (PROOF,))
    by_read = ended(OPT_IN, part="/key", at=14.0, sent=25, key="9", state="OK")
    findings = judged(begun(OPT_IN), ended(OPT_IN), begun(OPT_IN, part="/key", at=13.0), by_read)
    assert findings == [CalleeObjected(HIM, (PROOF,))]


def test_a_nine_seen_both_ways_is_one_objection() -> None:
    by_read = ended(OPT_IN, part="/key", at=14.0, sent=25, key="9", state="OK")
    findings = judged(
        begun(OPT_IN), ended(OPT_IN), begun(OPT_IN, part="/key", at=13.0), DigitPressed(HIM, "9"), by_read
    )
    assert findings == [CalleeObjected(HIM, (PROOF,))]


def test_a_one_in_the_key_sentence_is_consent() -> None:
    by_read = ended(OPT_IN, part="/key", at=14.0, sent=25, key="1", state="OK")
    findings = judged(begun(OPT_IN), ended(OPT_IN), begun(OPT_IN, part="/key", at=13.0), by_read)
    assert findings == [CalleeHeard(HIM, OPT_IN, consented=True)]


def test_a_one_during_the_notice_is_none() -> None:
    without_key = ended(OPT_IN, part="/key", at=18.0, sent=100, state="TIMEOUT")
    findings = judged(
        begun(OPT_IN), DigitPressed(HIM, "1"), ended(OPT_IN), begun(OPT_IN, part="/key", at=13.0), without_key
    )
    assert findings == [CalleeHeard(HIM, OPT_IN, consented=False)]


def test_a_one_after_a_notice_that_was_not_heard_is_none() -> None:
    by_read = ended(OPT_IN, part="/key", at=14.0, sent=25, key="1", state="OK")
    findings = judged(begun(OPT_IN), ended(OPT_IN, sent=0), begun(OPT_IN, part="/key", at=13.0), by_read)
    assert all(isinstance(finding, CalleeNotHeard) for finding in findings)


def test_a_notice_without_its_key_sentence_is_not_the_disclosure() -> None:
    assert judged(begun(OPT_IN), ended(OPT_IN)) == []


def test_a_prompt_of_an_unknown_name_is_not_heard() -> None:
    stranger = CalleePromptBegun(HIM, "../../etc/passwd", 0, 0, 1.0)
    assert judged(stranger) == [CalleeNotHeard(HIM, None, Reason.PROMPT_FAILED)]
