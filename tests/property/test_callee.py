"""Whatever order the callee's events come in: heard only when the octets prove it, and nobody was on hold."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pbxguard.core.callee import CalleeHeard, CalleeObjected, CalleePrompts, Finding
from pbxguard.core.facts import CalleePromptBegun, CalleePromptEnded, ChannelHungUp, DigitPressed, Fact, Held
from pbxguard.core.ids import PurposeName, Uniqueid
from pbxguard.core.policy import Policy
from pbxguard.core.purposes import Direction, Disclosure, DisclosureKey, Mode

HIM = Uniqueid("1.1")
KEY = DisclosureKey.of((PurposeName("p"),), "nl", Mode.NOTICE, Direction.OUTBOUND)
OPT_IN = DisclosureKey.of((PurposeName("p"),), "nl", Mode.OPT_IN, Direction.OUTBOUND)
POLICY = Policy(
    "Acme",
    disclosures={
        KEY: Disclosure(KEY, "t", "d", "/n", 1000),
        OPT_IN: Disclosure(OPT_IN, "t", "d", "/n", 1000, "/k", 500),
    },
)
PROMPTS = st.sampled_from([str(KEY), str(OPT_IN), f"{OPT_IN}/key"])
COUNTS = st.sampled_from([0, 25, 47, 48, 50, 100])

Step = tuple[str, str, int, int, str, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "count", "count", "end", "end", "hold", "digit", "hangup"]),
        PROMPTS,
        COUNTS,
        st.sampled_from([0, 0, 1]),
        st.sampled_from(["", "", "1", "9"]),
        st.sampled_from([0.5, 1.0, 1.5]),
    ),
    max_size=12,
)


@dataclass(frozen=True)
class Counted:
    """Both counters are read."""

    packets: int


def facts_of(steps: list[Step]) -> list[Fact | Counted]:
    facts: list[Fact | Counted] = []
    tx, rx, now = 0, 0, 0.0
    for what, prompt, sent, deaf, key, seconds in steps:
        now += seconds
        match what:
            case "begin":
                facts.append(CalleePromptBegun(HIM, prompt, tx, rx, now, "(alaw)"))
            case "count":
                tx = tx + sent
                facts.append(Counted(tx))
            case "end":
                tx, rx = tx + sent, rx + (1 - deaf)
                facts.append(CalleePromptEnded(HIM, prompt, "SUCCESS", tx, rx, key, now))
            case "hold":
                facts.append(Held(HIM))
            case "digit":
                facts.append(DigitPressed(HIM, key or "5"))
            case _:
                facts.append(ChannelHungUp(HIM))
    return facts


def give(prompts: CalleePrompts, fact: Fact | Counted, size: int) -> list[Finding]:
    if not isinstance(fact, Counted):
        return prompts.handle(fact, POLICY)
    prompts.sent(HIM, fact.packets, fact.packets * size)
    return []


@settings(max_examples=1500, deadline=None)
@given(STEPS, st.sampled_from([80, 160, 160, 320]))
def test_heard_only_with_every_proof(steps: list[Step], size: int) -> None:
    facts, prompts = facts_of(steps), CalleePrompts()
    for number, fact in enumerate(facts):
        findings = give(prompts, fact, size)
        heard = [finding for finding in findings if isinstance(finding, CalleeHeard)]
        if not heard:
            continue
        key = heard[0].disclosure.key
        notice = [n for n in range(number + 1) if isinstance(f := facts[n], CalleePromptBegun) and f.prompt == str(key)]
        since = facts[notice[-1] : number + 1]
        begun = since[0]
        assert isinstance(begun, CalleePromptBegun)
        ended = next(f for f in since if isinstance(f, CalleePromptEnded))
        assert ended.prompt == begun.prompt
        assert (ended.tx_packets - begun.tx_packets) * size >= 0.95 * 8000
        read = {f.packets for f in since[: since.index(ended)] if isinstance(f, Counted)}
        assert (max(read) - min(read)) * size >= 4000
        assert ended.rx_packets > begun.rx_packets
        assert ended.at - begun.at >= 0.94
        assert not any(isinstance(f, Held | ChannelHungUp) for f in since)
        if heard[0].consented:
            assert key == OPT_IN
            after = since[since.index(ended) + 1 :]
            pressed = [f.key for f in after if isinstance(f, CalleePromptEnded)]
            pressed += [f.digit for f in after if isinstance(f, DigitPressed)]
            assert "1" in pressed
            assert "9" not in [f.digit for f in since if isinstance(f, DigitPressed)]


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_a_nine_while_a_prompt_runs_is_always_an_objection(steps: list[Step]) -> None:
    prompts = CalleePrompts()
    for fact in facts_of(steps):
        give(prompts, fact, 160)
    prompts.handle(ChannelHungUp(HIM), POLICY)
    assert prompts.handle(CalleePromptBegun(HIM, str(KEY), 0, 0, 99.0), POLICY) == []
    assert prompts.handle(DigitPressed(HIM, "9"), POLICY) == [CalleeObjected(HIM, KEY.purposes)]
