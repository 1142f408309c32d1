"""A half-open ARI: its connections stand and nothing comes through, while AMI is well.

A proxy on loopback between pbxguard and Asterisk's HTTP port holds everything back, and lets it go again while the
calls of that time are still on: what was held back then comes late. The callee's door needs ARI for its proof, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.lab import asterisk_tree, away
from tests.lab.ami import Ami, connect
from tests.lab.asterisk import Line
from tests.lab.away import CALLEE, EVIDENCE, OUT_TOLD, TO_EVIDENCE, TO_QUEUE, Scene
from tests.lab.evidence import manifest, until_recorded
from tests.lab.installation import Installation
from tests.lab.proxy import Side

AWAY_S, MORE_S = 2.0, 3.0
NOT_HELD_S, HELD_S = 1.0, 1.3
GAP_S, NOISE_S = 1.0, 0.2
BACK_S = 15.0
"""In which pbxguard must have noticed that ARI is back: it tries anew every few seconds."""
WAYS = {
    "both ways": Side.BOTH,
    "answers only": Side.TO_CLIENT,
    "requests only": Side.TO_SERVER,
}
"""What is held back."""
LONG = [name for name in WAYS if name != "both ways"]
EACH_WAY = pytest.mark.parametrize("way", ["both ways", *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)])
CALLS = ("talking", "in the notice", "at once", "later", "later, queue", "callee, later", "back")


class HalfOpen:
    """Plays each way once; `entered` are the outside numbers that ever were in the application."""

    def __init__(self, site: Installation, lab: Ami) -> None:
        self.site, self._lab = site, lab
        self.scenes: dict[str, Scene] = {}

    @property
    def entered(self) -> set[str]:
        steps = [e for e in self._lab.events if e["Event"] == "Newexten" and e.get("Application") == "Stasis"]
        return {step["CallerIDNum"] for step in steps}

    async def play(self, way: str, scene: Scene) -> Scene:
        scene.begin()
        talking = await scene.connected(await scene.inbound("talking", TO_EVIDENCE, "120"))
        await until_recorded(self.site, talking.number)
        await scene.inbound("in the notice", TO_EVIDENCE, "125")
        await asyncio.sleep(away.IN_NOTICE_S)
        await scene.inbound("at once", TO_EVIDENCE, "128")
        scene.fault_at = time.monotonic()
        assert self.site.ari_proxy.hold(WAYS[way], newcomers=True)
        await asyncio.sleep(away.LATER_S)
        await asyncio.gather(
            scene.inbound("later", TO_EVIDENCE, "131"),
            scene.inbound("later, queue", TO_QUEUE, "132"),
            scene.outbound("callee, later", OUT_TOLD, "133"),
        )
        await asyncio.gather(*(scene.connected(call) for call in scene.calls.values() if call.called is None))
        await asyncio.sleep(away.TALK_S)
        self.site.ari_proxy.release()
        async with asyncio.timeout(BACK_S):
            while not (await self.site.status())["connections"]["caller's door"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await scene.connected(await scene.inbound("back", TO_EVIDENCE, "134"))
        await asyncio.sleep(away.AFTERWARDS_S)
        await scene.end()
        return scene


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def half_open(tree: asterisk_tree.Tree, request: pytest.FixtureRequest) -> AsyncIterator[HalfOpen]:
    lines = [Line(name, "internal", password=f"secret{name}") for name in away.AGENTS]
    async with (
        Installation(
            dialplan=away.DIALPLAN, queues=away.QUEUES, extra_lines=[*lines, away.TWINS], proxied=True
        ) as site,
        connect(site.asterisk) as lab,
        away.cast(site) as make,
    ):
        played = HalfOpen(site, lab)
        for way in WAYS if request.config.getoption("--slow") else ["both ways"]:
            played.scenes[way] = await played.play(way, make())
        yield played


@EACH_WAY
async def test_nobody_is_sent_into_an_application_that_does_not_answer(way: str, half_open: HalfOpen) -> None:
    calls = half_open.scenes[way].calls
    for name in ("later", "later, queue"):
        assert calls[name].number not in half_open.entered
        assert await away.silence_after_greeting(calls[name]) < NOT_HELD_S
    for name in ("talking", "in the notice", "at once", "back"):  # the control
        assert calls[name].number in half_open.entered
    assert HELD_S < await away.silence_after_greeting(calls["at once"]) <= AWAY_S


@pytest.mark.parametrize("name", CALLS)
@EACH_WAY
async def test_every_call_is_connected_and_both_hear_each_other(way: str, name: str, half_open: HalfOpen) -> None:
    for voice in await away.heard_each_other(half_open.scenes[way].calls[name]):
        assert voice.longest_gap_s < GAP_S
        assert voice.ends_early_s < GAP_S
        assert voice.end_s - voice.start_s > away.AFTERWARDS_S - GAP_S


@EACH_WAY
async def test_whom_it_has_as_it_opens_waits_for_the_rest_of_the_notice_and_three_seconds(
    way: str, half_open: HalfOpen
) -> None:
    scene = half_open.scenes[way]
    heard = await scene.calls["in the notice"].dialling.heard()
    notice = away.spoken(scene, heard, EVIDENCE)
    assert notice is not None
    assert notice.start_s < scene.fault_at - heard.began < notice.start_s + scene.seconds(EVIDENCE)
    talks = away.agent_heard(heard).start_s
    assert talks - away.greeted(heard) <= scene.seconds(EVIDENCE) + MORE_S + NOT_HELD_S  # the agent answers meanwhile
    assert away.next_sound(heard, notice.end_s + 0.1) - away.greeted(heard) <= scene.seconds(EVIDENCE) + MORE_S


@EACH_WAY
async def test_what_is_being_recorded_goes_on_uncut_and_who_is_not_told_is_not_recorded(
    way: str, half_open: HalfOpen
) -> None:
    scene = half_open.scenes[way]
    assert {name for name, call in scene.calls.items() if call.agent in scene.recordings} == {"talking", "back"}
    (talking,) = scene.recordings["120"]
    assert len(manifest(talking)["segments"]) == 1


@EACH_WAY
async def test_a_callee_whose_notice_could_not_be_proven_is_connected_at_once_without_it(
    way: str, half_open: HalfOpen
) -> None:
    call = half_open.scenes[way].calls["callee, later"]
    heard = await call.customer.heard()
    assert away.agent_heard(heard).start_s < NOISE_S
    assert away.spoken(half_open.scenes[way], heard, CALLEE) is None
    assert await away.silence_after_greeting(call) < NOT_HELD_S  # the agent hears ringing


@pytest.mark.parametrize("name", CALLS)
@EACH_WAY
async def test_what_was_held_back_plays_nothing_into_a_conversation(way: str, name: str, half_open: HalfOpen) -> None:
    scene = half_open.scenes[way]
    heard = await scene.calls[name].customer.heard()
    for disclosure in (EVIDENCE, CALLEE):
        assert away.spoken(scene, heard, disclosure, after_s=away.agent_heard(heard).start_s) is None
    control = away.spoken(scene, await scene.calls["back"].customer.heard(), EVIDENCE)
    assert control is not None
    assert control.heard_s > 1.0
