"""The callee's door: what Asterisk's own reports prove."""

from __future__ import annotations

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
    Held,
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
    return CalleePromptBegun(HIM, f"{disclosure.key}{part}", 100, 5, at)


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


def judged(*facts: Fact) -> list[Finding]:
    prompts = CalleePrompts()
    return [finding for fact in facts for finding in prompts.handle(fact, POLICY)]


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


def test_ninety_five_percent_of_the_packets_are_enough() -> None:
    assert judged(begun(), ended(sent=143)) == [CalleeHeard(HIM, NOTICE, consented=False)]


def test_an_end_without_a_beginning_proves_nothing() -> None:
    assert judged(ended()) == [CalleeNotHeard(HIM, None, Reason.PROMPT_FAILED)]


def test_on_hold_nobody_hears_it() -> None:
    assert judged(begun(), Held(HIM), ended()) == [CalleeNotHeard(HIM, NOTICE.key, Reason.PROMPT_ON_HOLD)]


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
