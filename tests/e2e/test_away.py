"""pbxguard killed or frozen, on the real Asterisk: every call is connected all the same, and what it costs is bounded.

At one instant calls stand before, in and after the disclosure, at the caller's door, at the callee's and in a queue.
Everything is measured in what the phones heard; the silence that one call must have is the control of the others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, away
from tests.lab.asterisk import Line
from tests.lab.away import CALLEE, EVIDENCE, KEY_WAIT_S, TRAINING, Scene
from tests.lab.installation import UNWATCHED_S, Installation

AWAY_S = 2.0
"""The most silence that a caller hears when pbxguard is away."""
MORE_S = 3.0
"""And, when it failed while it had him, beyond the disclosure and its key wait."""
NOT_HELD_S = 1.0
"""Far less than what waiting for pbxguard costs, far more than a busy machine needs."""
HELD_S = 1.3
"""What waiting for it costs at least."""
NOISE_S = 0.2
"""By how much two calls may differ that are the same; the callee's door would wait at least 0.3 s."""
GAP_S = 1.0
"""What a phone on a very busy machine may lose of a voice at once."""

INBOUND = (
    "talking",
    "waiting in the queue",
    "in the key wait",
    "in the notice",
    "in the notice, queue",
    "at once",
    "at once, queue",
    "later",
    "later, queue",
    "back",
)
OUTBOUND = (
    "callee, talking",
    "callee, twin",
    "callee, in the notice",
    "callee, at once",
    "callee, later",
    "callee, back",
)
RECORDED = ("talking", "back")
"""Before the fault and after it; and so the recorder does run."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tree: asterisk_tree.Tree) -> AsyncIterator[Installation]:
    lines = [Line(name, "internal", password=f"secret{name}") for name in away.AGENTS]
    async with Installation(
        dialplan=away.DIALPLAN,
        queues=away.QUEUES,
        extra_lines=[*lines, away.TWINS],
        watchdog_s=UNWATCHED_S,
        settings=f"[limits]\nkey_wait = {KEY_WAIT_S}\n",
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def make(site: Installation) -> AsyncIterator[Callable[[], Scene]]:
    async with away.cast(site) as make:
        yield make


def freeze(site: Installation) -> tuple[away.Fault, away.Fault]:
    async def stop() -> None:
        assert site.process is not None
        os.kill(site.process.pid, signal.SIGSTOP)

    async def go_on() -> None:
        assert site.process is not None
        os.kill(site.process.pid, signal.SIGCONT)

    return stop, go_on


def kill(site: Installation) -> tuple[away.Fault, away.Fault]:
    async def stop() -> None:
        await site.stop(signal.SIGKILL)

    return stop, site.start


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scenes(site: Installation, make: Callable[[], Scene]) -> dict[str, Scene]:
    """Each fault while calls are everywhere, and then at any moment of one caller after the other."""
    return {
        "frozen": await away.around(make(), *freeze(site)),
        "killed": await away.around(make(), *kill(site)),
        "frozen, sweep": await away.at_any_moment(make(), *freeze(site)),
        "killed, sweep": await away.at_any_moment(make(), *kill(site)),
    }


FAULTS = ("frozen", "killed")
SWEEP = tuple(f"caller {n}" for n in range(away.SWEEP_CALLERS))
ALL = [
    *((fault, name) for fault in FAULTS for name in (*INBOUND, *OUTBOUND)),
    *((f"{fault}, sweep", name) for fault in FAULTS for name in SWEEP),
]
EVERY_CALL = pytest.mark.parametrize(("fault", "name"), ALL)
EITHER_FAULT = pytest.mark.parametrize("fault", FAULTS)


@EVERY_CALL
async def test_every_call_is_connected_and_both_hear_each_other_to_its_end(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    for voice in await away.heard_each_other(scenes[fault].calls[name]):
        assert voice.longest_gap_s < GAP_S
        assert voice.ends_early_s < GAP_S
        assert voice.end_s - voice.start_s > away.AFTERWARDS_S - GAP_S


@pytest.mark.parametrize("name", ["at once", "at once, queue", "later", "later, queue"])
@EITHER_FAULT
async def test_who_calls_while_it_is_away_hears_at_most_two_seconds_of_silence(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    silence = await away.silence_after_greeting(scenes[fault].calls[name])
    if fault == "frozen" and name.startswith("at once"):
        assert HELD_S < silence <= AWAY_S  # it looked alive: this is the control that silence is measured
    else:
        assert silence < NOT_HELD_S


@pytest.mark.parametrize("name", ["in the notice", "in the notice, queue", "in the key wait"])
@EITHER_FAULT
async def test_whom_it_leaves_in_the_midst_waits_for_the_rest_of_it_and_three_seconds(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    scene = scenes[fault]
    call = scene.calls[name]
    heard = await call.dialling.heard()
    failed = scene.fault_at - heard.began
    disclosure = TRAINING if name == "in the key wait" else EVIDENCE
    first = away.spoken(scene, heard, disclosure)
    assert first is not None
    if disclosure == TRAINING:
        ended, key_wait = away.spoken_end(scene, heard, TRAINING, "key"), KEY_WAIT_S
        assert ended < failed < ended + key_wait
    else:
        ended, key_wait = away.spoken_end(scene, heard, EVIDENCE), 0.0
        assert first.start_s < failed < ended
    waited = away.next_sound(heard, ended + 0.02) - away.greeted(heard)
    # What he waits before the prompt, for his packets to flow, is within the bound.
    assert waited <= away.length(scene, disclosure) + key_wait + MORE_S
    assert away.next_sound(heard, ended + 0.02) - ended > key_wait + HELD_S  # the control: it did fail him


@pytest.mark.parametrize("name", ["callee, at once", "callee, later"])
@EITHER_FAULT
async def test_the_callee_hears_no_more_silence_than_without_pbxguard(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    calls = scenes[fault].calls
    heard, twin = await calls[name].customer.heard(), await calls["callee, twin"].customer.heard()
    assert away.agent_heard(heard).start_s - away.agent_heard(twin).start_s < NOISE_S
    # A control: the 0.3 s that the door leaves before a notice do show.
    told = away.spoken(scenes[fault], await calls["callee, back"].customer.heard(), CALLEE)
    assert told is not None
    assert told.start_s - away.agent_heard(twin).start_s > NOISE_S


@EITHER_FAULT
async def test_a_callee_who_is_being_told_hears_it_whole_and_then_the_agent_as_ever(
    fault: str, scenes: dict[str, Scene]
) -> None:
    scene = scenes[fault]
    between: list[float] = []
    for name in ("callee, in the notice", "callee, talking", "callee, back"):
        heard = await scene.calls[name].customer.heard()
        between.append(away.agent_heard(heard).start_s - away.spoken_end(scene, heard, CALLEE))
    heard = await scene.calls["callee, in the notice"].customer.heard()
    first = away.spoken(scene, heard, CALLEE)
    assert first is not None
    assert first.start_s < scene.fault_at - heard.began < first.end_s
    assert between[0] - max(between[1:]) < NOISE_S


@pytest.mark.parametrize("name", ["callee, at once", "callee, later"])
@EITHER_FAULT
async def test_the_agent_who_dials_hears_ringing_within_two_seconds(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    silence = await away.silence_after_greeting(scenes[fault].calls[name])
    if fault == "frozen" and name == "callee, at once":
        assert HELD_S < silence <= AWAY_S
    else:
        assert silence < NOT_HELD_S


@EVERY_CALL
async def test_nobody_hears_a_second_disclosure_and_none_is_said_into_a_conversation(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    scene = scenes[fault]
    call = scene.calls[name]
    heard = await call.customer.heard()
    talks = away.agent_heard(heard).start_s
    for disclosure in (EVIDENCE, TRAINING, CALLEE):
        assert away.spoken(scene, heard, disclosure, after_s=talks) is None
        assert away.spoken(scene, await call.colleague.heard(), disclosure) is None
        first = away.spoken(scene, heard, disclosure)
        if first is not None:  # for most it is, which is the control of both
            assert away.spoken(scene, heard, disclosure, after_s=first.end_s) is None


@EVERY_CALL
async def test_only_who_was_told_to_the_end_before_the_conversation_is_recorded(
    fault: str, name: str, scenes: dict[str, Scene]
) -> None:
    scene = scenes[fault]
    call = scene.calls[name]
    heard = await call.customer.heard()
    recordings = scene.recordings.get(call.agent, [])
    assert len(recordings) <= 1
    if name in RECORDED:
        assert recordings
    if recordings:
        disclosure = CALLEE if call.callees else EVIDENCE
        assert away.spoken_end(scene, heard, disclosure) < away.agent_heard(heard).start_s + NOISE_S


async def test_callees_who_were_told_are_recorded_before_the_fault_or_after_it(scenes: dict[str, Scene]) -> None:
    told = [scenes[fault].calls[name].agent for fault in FAULTS for name in ("callee, talking", "callee, back")]
    assert any(agent in scenes[fault].recordings for fault in FAULTS for agent in told)


async def test_the_dialplan_meets_nothing_that_it_complains_of(site: Installation, scenes: dict[str, Scene]) -> None:
    complaints = [line for line in site.asterisk.log().splitlines() if "WARNING" in line or "ERROR" in line]
    assert [line for line in complaints if any(word in line for word in ("func_", " pbx", "ast_expr", "stack"))] == []
