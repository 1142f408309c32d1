"""Owns: what ought to have become of each story, held against its sealed file and its phones. Knows no pbxguard.

The e2e tests and the demo judge by these same measures. Each raises CheckFailed with the sentence that does not hold;
what holds is kept, so that the demo can show what it measured instead of assuming it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import checker, measure
from tests.lab.checker import CheckFailed
from tests.lab.measure import Recorded
from tests.lab.site import Site
from tests.lab.stories import AGENT_HZ, CUSTOMER, TALK_S, THIRD_HZ, Story

LOST_S = 0.6
"""Most of a talk that cuts and starts may cost on a busy machine."""
AGENT = {f"{AGENT_HZ:g}"}
CHIRP = {"chirp"}


@dataclass
class Verdict:
    """What was measured of one story, all of it as it ought to be. Positions: seconds on the customer's timeline."""

    held: list[str] = field(default_factory=list)
    file: Path | None = None
    recorded: Recorded | None = None
    disclosed_s: float | None = None
    """The end of the disclosure, as the customer's phone heard it."""

    def require(self, true: bool, sentence: str) -> None:
        """Keep a sentence that holds; raise CheckFailed for one that does not."""
        if not true:
            raise CheckFailed(f"it should be so, and is not: {sentence}")
        self.held.append(sentence)


Judge = Callable[[Site, Story], Awaitable[Verdict]]


def prompt(site: Site, disclosure: str, part: str = "notice") -> Path:
    """The sound file of a disclosure's notice or key sentence."""
    (found,) = (site.home / "prompts").rglob(f"{disclosure}-{part}-*.wav")
    return found


async def inbound(site: Site, story: Story) -> Verdict:
    """Recorded after the disclosure and to the end of the call, each voice in its own track."""
    return await _recorded(site, story, "contract_evidence.nl.notice.inbound")


async def queue(site: Site, story: Story) -> Verdict:
    """Recorded on the leg of the member who answered."""
    return await _recorded(site, story, "contract_evidence.nl.notice.inbound")


async def outbound(site: Site, story: Story) -> Verdict:
    """The customer hears the disclosure before the agent, and is recorded from then on."""
    verdict = await _recorded(site, story, "contract_evidence.nl.notice.outbound")
    heard = await story.calls["customer"].heard()
    agent_s = measure.first_heard(heard, AGENT_HZ)
    assert verdict.disclosed_s is not None
    verdict.require(
        agent_s >= verdict.disclosed_s,
        f"the customer hears the agent from {agent_s:.2f} s on, not before the disclosure's end",
    )
    return verdict


async def objection(site: Site, story: Story) -> Verdict:
    """A 9 stops the prompt at once; the call goes on, unrecorded."""
    verdict = Verdict()
    heard = await story.calls["customer"].heard()
    found = checker.locate(measure.track(heard), checker.read(prompt(site, "quality_training.nl.opt_out.inbound"))[0])
    verdict.require(found is not None, "the caller hears the disclosure begin")
    assert found is not None
    verdict.require(not found.complete, f"his 9 stops it after {found.heard_s:.2f} s")
    agent_s = measure.first_heard(heard, AGENT_HZ)
    verdict.require(agent_s > found.end_s, f"he is connected all the same: the agent is heard from {agent_s:.2f} s on")
    why = await site.why(story.number)
    return _refused(verdict, site, story, why, {"objected", "not_told", "prompt_cut"})


async def hung_up(site: Site, story: Story) -> Verdict:
    """Who hangs up during the disclosure is untold, and leaves no file."""
    verdict = Verdict()
    why = await site.why(story.number)
    verdict.require(not why["told"], "the caller does not count as told")
    return _refused(verdict, site, story, why, {"no_own_party", "not_bridged", "not_told", "prompt_channel_gone"})


async def helpline(site: Site, story: Story) -> Verdict:
    """A call to a helpline is neither told nor recorded."""
    verdict = Verdict()
    heard = await story.calls["third"].heard()
    spoken = checker.read(prompt(site, "contract_evidence.nl.notice.outbound"))[0]
    verdict.require(checker.locate(measure.track(heard), spoken) is None, "113 hears no disclosure")
    agent_s = measure.first_heard(heard, AGENT_HZ)
    verdict.require(agent_s >= 0, f"113 and the agent talk: he is heard from {agent_s:.2f} s on")
    why = await site.why(story.number)
    return _refused(verdict, site, story, why, {"never_record", "not_told"})


async def forwarded(site: Site, story: Story) -> Verdict:
    """Two outside parties talk, and nobody of ours: not recorded."""
    verdict = Verdict()
    heard = await story.calls["customer"].heard()
    third_s = measure.first_heard(heard, THIRD_HZ)
    verdict.require(third_s >= 0, f"caller and third party talk: the latter is heard from {third_s:.2f} s on")
    why = await site.why(story.number)
    return _refused(verdict, site, story, why, {"no_own_party", "not_told"})


async def transferred(site: Site, story: Story) -> Verdict:
    """The recording ends before the third party arrives, and holds not 5 ms of his voice."""
    verdict = await _recorded(site, story, "contract_evidence.nl.notice.inbound")
    assert verdict.recorded is not None
    file = verdict.recorded
    heard, said = await measure.pair(story.calls["customer"])
    arrived = measure.first_heard(heard, THIRD_HZ)
    verdict.require(
        file.last_s < arrived,
        f"the recording ends at {file.last_s:.2f} s, before the third party is heard at {arrived:.2f} s",
    )
    third = measure.detector(
        THIRD_HZ, heard, measure.track(said), measure.track(heard).part(0, arrived - measure.QUIET_S)
    )
    verdict.require(
        bool(third.find(measure.track(heard))), "the detector hears the third party in the customer's phone"
    )
    verdict.require(third.shortest_s <= 0.005, f"it would find {third.shortest_s * 1000:.1f} ms of him")
    verdict.require(third.find(file.own) == [], "it finds none of him in the agent's track")
    verdict.require(third.find(file.others) == [], "it finds none of him in the customer's track")
    why = await site.why(story.number)
    verdict.require(set(why["reasons"]) == {"no_own_party", "not_told"}, "what follows is refused: no own party")
    return verdict


JUDGES: dict[str, Judge] = {
    judge.__name__: judge for judge in (inbound, queue, outbound, objection, hung_up, helpline, forwarded, transferred)
}
"""By name of the story (`stories.STORIES`)."""


async def _recorded(site: Site, story: Story, disclosure: str) -> Verdict:
    """What holds of every recorded call."""
    verdict = Verdict()
    heard, said = await measure.pair(story.calls["customer"])
    disclosed = verdict.disclosed_s = measure.prompt_end(heard, prompt(site, disclosure))
    verdict.require(True, f"the customer hears the disclosure to its end, at {disclosed:.2f} s")
    verdict.file = await site.sealed(story.number)
    file = verdict.recorded = measure.recorded(verdict.file, said, CUSTOMER)
    verdict.require(file.first_s > disclosed, f"the recording begins after it, at {file.first_s:.2f} s")
    verdict.require(measure.voices(file.own, CUSTOMER) == AGENT, "the left track holds the agent's voice alone")
    verdict.require(measure.voices(file.others, CUSTOMER) == CHIRP, "the right track holds the customer's alone")
    verdict.require(len(file.own.samples) == len(file.others.samples), f"both are equally long: {file.seconds:.2f} s")
    verdict.require(file.seconds > TALK_S - LOST_S, f"at most {LOST_S} s of the talk are missing")
    return verdict


def _refused(verdict: Verdict, site: Site, story: Story, why: dict[str, Any], reasons: set[str]) -> Verdict:
    """What holds of every call that is not recorded."""
    said = set(why["reasons"])
    instead = "" if said == reasons else f" (they are {', '.join(sorted(said))})"
    verdict.require(said == reasons, f"the reasons are {', '.join(sorted(reasons))}{instead}")
    verdict.require(site.files(story.number) == [], "there is no file of it")
    verdict.require(not why["ever_recorded"], "no recorder ran at any moment")
    return verdict
