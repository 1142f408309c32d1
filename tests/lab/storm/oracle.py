"""Owns: whether a storm's sealed files hold what they must, and nothing else. It imports nothing of pbxguard.

What may be recorded is worked out from what each phone said and heard, and from the SIP side's log of who was
connected to whom (history.py). Of pbxguard's own word it takes the manifests alone: where a file has gaps, and
about when a piece of it was captured, which tells one sweep of a chirp from the next.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.lab import checker
from tests.lab.checker import Detector, Track
from tests.lab.storm.hearing import Clock, Ears, Piece, spans_of
from tests.lab.storm.history import HOLDS, OWN, STRANGER, Fault, History, Leg, Play
from tests.lab.storm.spans import Span, Spans, common, seconds, union, without
from tests.lab.storm.voices import FORBIDDEN_HZ, VOICES

LATE_S = 0.15
"""How late after it was said something may arrive at Asterisk: what was said so long before a permit may be in it."""
EXACT_S, CLOCKED_S = 0.005, 0.04
"""Least forbidden sound that counts: where the chirps alone tell the time, and where two phones' clocks do."""
SLIP_S = 0.5
"""How much of a notice may reach a phone on a busy machine late, while the rest of it is heard."""
BRIDGE_S = 0.06
"""A shorter break in what is heard is a lost packet or two."""
DEAF_S = 0.5
"""A longer time in which nobody of ours hears the customer is no conversation with us."""
UNTOUCHED_S = 0.5
"""Most permitted sound that may be missing in one piece of a conversation, where no fault was put in."""
BESIDE_S = 0.2
"""The same beside the declared gaps and S - R, for each segment."""
GUARD_S = 0.16
"""What is cut from every segment beside S - R."""
NEAR_S = 2.0
"""A fault concerns what lies so near to it."""
LOSES_EVENTS = ("killed", "frozen")
"""Kinds of faults after which pbxguard starts anew."""
UNEXPLAINED_S = 0.15
LEAST_SHARE = 0.9
"""Of the permitted seconds in which no fault was put in, so much must be there."""
ALWAYS = (-1e9, 1e9)


@dataclass(frozen=True)
class Guilt:
    """Something that a file may not hold: at which second of it, and how long."""

    file: str
    what: str
    at_s: float
    seconds: float

    def __str__(self) -> str:
        return f"{Path(self.file).name}: {self.what}, {self.seconds * 1000:.0f} ms at {self.at_s:.2f} s"


@dataclass
class Judged:
    """One call: what was permitted of it, what of that is there, and what is wrong. Spans are monotonic seconds."""

    play: Play
    told: float | None = None
    permitted: Spans = field(default_factory=list)
    recorded: Spans = field(default_factory=list)
    troubled: Spans = field(default_factory=list)
    declared: Spans = field(default_factory=list)
    guilty: list[Guilt] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    controls: int = 0
    """Foreign recorders whose files were found guilty, as they must be."""

    def is_good(self) -> bool:
        return not self.guilty and not self.wrong


@dataclass
class Verdict:
    """What became of a storm."""

    judged: list[Judged]
    wrong: list[str]
    detectors: dict[float, Detector]

    def is_good(self) -> bool:
        return not self.wrong and all(one.is_good() for one in self.judged)

    def figures(self) -> dict[str, float]:
        """Counts and seconds, as shown and written down."""
        permitted = sum(seconds(one.permitted) for one in self.judged)
        there = sum(seconds(common(one.permitted, one.recorded)) for one in self.judged)
        calm = [without(one.permitted, one.troubled) for one in self.judged]
        calm_there = sum(seconds(common(c, one.recorded)) for c, one in zip(calm, self.judged, strict=True))
        lost = [without(one.permitted, one.recorded) for one in self.judged]
        return {
            "calls": len(self.judged),
            "files": sum(len(one.play.files) for one in self.judged),
            "forbidden pieces": sum(len(one.guilty) for one in self.judged),
            "forbidden seconds": sum(g.seconds for one in self.judged for g in one.guilty),
            "controls found guilty": sum(one.controls for one in self.judged),
            "permitted seconds": permitted,
            "recorded of them": there,
            "permitted seconds without a fault": sum(map(seconds, calm)),
            "recorded of these": calm_there,
            "unrecorded under a fault": sum(
                seconds(common(gone, one.troubled)) for gone, one in zip(lost, self.judged, strict=True)
            ),
            "unrecorded in declared gaps": sum(
                seconds(common(without(gone, one.troubled), one.declared))
                for gone, one in zip(lost, self.judged, strict=True)
            ),
        }

    def share(self) -> float:
        """Of the permitted seconds in which no fault was put in, the part that is there."""
        figures = self.figures()
        permitted = figures["permitted seconds without a fault"]
        return figures["recorded of these"] / permitted if permitted else 1.0


def judge(history: History) -> Verdict:
    """Everything of a storm; raises CheckFailed when there is nothing to calibrate the detectors with."""
    detectors = calibrated(history)
    judged = []
    for play in history.plays:
        judged.append(Judge(history, play, detectors).judged())
    wrong = [f"a sealed file of no call that was placed: {name}" for name in history.unclaimed]
    wrong += [f"left behind: {name}" for name in history.left]
    verdict = Verdict(judged, wrong, detectors)
    controls = [one for one in judged for _ in one.play.foreign]
    if len(controls) != verdict.figures()["controls found guilty"]:
        wrong.append("a recorder that nobody stops was found innocent: the oracle is deaf")
    if verdict.share() < LEAST_SHARE:
        wrong.append(f"only {verdict.share():.1%} of what was permitted and undisturbed is recorded")
    return verdict


def calibrated(history: History) -> dict[float, Detector]:
    """A detector of each tone that no file may hold, shown what has it, and what certainly has not."""
    ears = Ears()
    absent: list[Track] = []
    for play in history.plays:
        for leg in play.legs:
            if leg.role != STRANGER and leg.said and len(absent) < 6:
                track = ears.track(leg.said)
                if track.seconds > 4:
                    absent.append(track.part(0.0, 16.0))
    absent += [_torn(track) for track in absent]
    detectors = {}
    for hertz, window_s in FORBIDDEN_HZ.items():
        present = _control(history, ears, hertz)
        if present is not None:
            detectors[hertz] = Detector.calibrate(hertz, present, absent, window_s)
    return detectors


def _torn(track: Track) -> Track:
    """The same with pieces missing, as where packets were lost or segments join: a break clicks at every frequency."""
    chance = np.random.default_rng(1)
    kept = []
    at = 0
    while at < len(track.samples):
        length = int(chance.uniform(0.05, 0.2) * track.rate)
        kept.append(track.samples[at : at + length])
        at += length + int(chance.uniform(0.005, 0.05) * track.rate)
    return Track(np.concatenate(kept), track.rate)


def _control(history: History, ears: Ears, hertz: float) -> Track | None:
    """A phone's file in which the tone is heard for a second."""
    for play in history.plays:
        for leg in play.legs:
            if leg.role == STRANGER or not leg.heard:
                continue
            track = ears.track(leg.heard)
            spans = [s for s in checker.spans(track, hertz, 0.15, 0.03) if s.seconds > 0.5]
            if spans:
                return track.part(spans[0].start_s, spans[0].end_s)
    return None


class Judge:
    """Judges one call."""

    def __init__(self, history: History, play: Play, detectors: dict[float, Detector]) -> None:
        self.history, self.play, self.detectors = history, play, detectors
        self.ears = Ears()
        self.faults = [f for f in history.faults if f.of in ("", play.number)]
        self.own = [leg for leg in play.legs if leg.role == OWN and leg.said]
        self.strangers = [leg for leg in play.legs if leg.role == STRANGER and leg.heard]

    def judged(self) -> Judged:
        judged = Judged(self.play, troubled=self._troubled())
        customer = self.play.customer()
        if customer is None:
            if self.play.files:
                judged.wrong.append(f"{self.play.number}: a file of a call that had no sound")
            return judged
        judged.told = self._told(customer)
        allowed = judged.told is not None and not self.play.never
        if allowed:
            judged.permitted = self._permitted(customer, judged.told or 0.0)
        if len(self.play.files) > 1:
            judged.wrong.append(f"{self.play.number}: {len(self.play.files)} files of one call")
        for name in self.play.files:
            self._file(judged, customer, Path(name))
        for foreign in self.play.foreign:
            own, others = (checker.read_raw(path, self.history.rate) for path in (foreign.own, foreign.others))
            clock = _steady(foreign.began)
            if self._guilty(judged, customer, foreign.others, own, others, clock)[0]:
                judged.controls += 1
        self._missing(judged)
        if self.play.trouble and not self._near(self.play.steps[0][0], self.play.steps[-1][0]):
            judged.wrong.append(f"{self.play.number} ({self.play.title}): not played to its end: {self.play.trouble}")
        return judged

    def _troubled(self) -> Spans:
        """The time of the faults. After one that lost events in a hold, pbxguard cannot know whether it still goes on,
        and may keep the call closed to its end."""
        held = [state.perhaps() for state in self.play.closures if state.kind in HOLDS]
        unknown = [
            (fault.began, ALWAYS[1])
            for fault in self.faults
            if fault.kind in LOSES_EVENTS and common(held, [(fault.began, fault.ended)])
        ]
        return union(((fault.began, fault.ended) for fault in self.faults), unknown)

    # -- what may be recorded ----------------------------------------------------------------------------------------

    def _told(self, customer: Leg) -> float | None:
        """When the customer had heard the whole notice; None when he has not."""
        if not self.play.told_by:
            return None
        found = checker.locate(self.ears.track(customer.heard), checker.read(self.play.told_by)[0], most_slip_s=SLIP_S)
        if found is None or not found.complete:
            return None
        return self.ears.timeline(customer).moment(found.end_s)

    def _heard_by(self, listeners: Sequence[Leg], speaker: Leg, bridge_s: float) -> Spans:
        """What of a leg these phones heard, in positions of that leg."""
        same = [leg for leg in self.play.legs if leg.voice == speaker.voice and leg.said]
        return union(*(spans_of(self.ears.heard(one, same), speaker) for one in listeners), bridge_s=bridge_s)

    def _permitted(self, customer: Leg, told: float) -> Spans:
        """When the customer was, beyond doubt, in a conversation that may be recorded, and heard by one of ours."""
        talks = union(state.surely() for state in self.play.talks)
        closed = union(state.perhaps() for state in self.play.closures)
        said = self.ears.timeline(customer)
        heard = said.moments(self._heard_by(self.own, customer, 2 * BRIDGE_S))
        strange = said.moments(self._heard_by(self.strangers, customer, BRIDGE_S))
        return common(without(without(common(talks, heard), closed), strange), [(told, ALWAYS[1])])

    def _forbidden(self, speaker: Leg, told: float | None) -> tuple[Spans, Spans]:
        """What of a leg no file may hold, in its positions: known by chirps alone, and by the phones' clocks."""
        exact = self._heard_by(self.strangers, speaker, 0.0)
        if told is None or self.play.never:
            return exact, [ALWAYS]
        clocked = [(ALWAYS[0], told - LATE_S)]
        clocked += [(state.begin[1], state.end[0] - LATE_S) for state in self.play.closures]
        talks = union((state.begin[0] - LATE_S, state.end[1]) for state in self.play.talks)
        clocked += without([ALWAYS], talks)
        if speaker is self.play.customer():
            clocked += self._deaf(speaker, talks)
        return exact, self.ears.timeline(speaker).positions(union(clocked))

    def _deaf(self, customer: Leg, talks: Spans) -> Spans:
        """When nobody of ours heard him, in what the log takes for a conversation, with no fault to blame."""
        heard = self.ears.timeline(customer).moments(self._heard_by(self.own, customer, DEAF_S))
        faults = ((fault.began - NEAR_S, fault.ended + NEAR_S) for fault in self.faults)
        quiet = without(without(talks, heard), faults)
        return [(begin + LATE_S, end - LATE_S) for begin, end in quiet if end - begin > DEAF_S]

    # -- what a file holds -------------------------------------------------------------------------------------------

    def _file(self, judged: Judged, customer: Leg, path: Path) -> None:
        own, others = checker.read(path)
        manifest = json.loads(path.with_suffix(".json").read_text())
        offset = self.history.utc_offset
        guilty, found = self._guilty(judged, customer, str(path), own, others, _by_manifest(manifest, own, offset))
        judged.guilty += guilty
        kept = self.ears.timeline(customer).moments(spans_of(found, customer, BRIDGE_S))
        judged.recorded = union(judged.recorded, kept, bridge_s=BRIDGE_S)
        judged.declared = union(
            judged.declared,
            ((_utc(gap["begin_utc"], offset), _utc(gap["end_utc"], offset)) for gap in manifest["gaps"]),
        )

    def _guilty(
        self, judged: Judged, customer: Leg, name: str, own: Track, others: Track, clock: Clock
    ) -> tuple[list[Guilt], list[Piece]]:
        """What two tracks hold that they may not, and what they hold of the customer."""
        guilty = []
        for side, track in (("own", own), ("others", others)):
            for hertz, detector in self.detectors.items():
                guilty += [
                    Guilt(name, f"{hertz:g} Hz on the {side} side", span.start_s, span.seconds or detector.window_s)
                    for span in detector.find(track)
                ]
        found = self.ears.said(checker.chirp_stretches(others, VOICES["customer"]), [customer], clock, stray_s=7.5)
        clock = self._by_pieces(found, clock)
        explained = {"own": [], "others": [(p.start_s, p.end_s) for p in found]}
        guilty += self._forbidden_in(name, "the customer", found, customer, judged.told)
        for voice in ("first", "second"):
            legs = [leg for leg in self.own if leg.voice == voice]
            for side, track in (("own", own), ("others", others)):
                pieces = self.ears.said(checker.chirp_stretches(track, VOICES[voice]), legs, clock)
                explained[side] += [(p.start_s, p.end_s) for p in pieces if p.leg is not None]
                for leg in legs:
                    guilty += self._forbidden_in(name, leg.name, pieces, leg, judged.told)
        for side, track in (("own", own), ("others", others)):
            sound = ((s.start_s, s.end_s) for s in checker.sounds(track))
            strange = without(sound, union(explained[side], bridge_s=UNEXPLAINED_S))
            guilty += [
                Guilt(name, f"sound that nobody of the call made, {side} side", a, b - a)
                for a, b in strange
                if b - a > UNEXPLAINED_S
            ]
        return guilty, found

    def _forbidden_in(self, name: str, who: str, pieces: Sequence[Piece], leg: Leg, told: float | None) -> list[Guilt]:
        exact, clocked = self._forbidden(leg, told)
        guilty = []
        for piece in pieces:
            if piece.leg is not leg:
                continue
            said = [(piece.said_s, piece.said_s + piece.seconds)]
            for spans, least, why in (
                (exact, EXACT_S, "as a stranger heard"),
                (clocked, CLOCKED_S, "without a permit"),
            ):
                for begin, end in common(said, spans):
                    if end - begin > least:
                        at = piece.start_s + begin - piece.said_s
                        guilty.append(Guilt(name, f"{who} {why}", at, end - begin))
        return guilty

    def _by_pieces(self, pieces: Sequence[Piece], otherwise: Clock) -> Clock:
        """When each place of a file was captured, by the customer's chirp that is nearest to it."""
        known = [piece for piece in pieces if piece.leg is not None]

        def clock(position: float) -> float:
            if not known:
                return otherwise(position)
            nearest = min(known, key=lambda one: max(one.start_s - position, position - one.end_s, 0.0))
            assert nearest.leg is not None
            return self.ears.timeline(nearest.leg).moment(nearest.said_s + position - nearest.start_s)

        return clock

    # -- what is missing ---------------------------------------------------------------------------------------------

    def _missing(self, judged: Judged) -> None:
        """Bounds what is not there of each piece of a permitted conversation."""
        cuts = self._cuts()
        for window in judged.permitted:
            gone = without([window], judged.recorded)
            near = self._near(*window)
            if not near and not common([window], judged.troubled):
                if seconds(gone) > UNTOUCHED_S:
                    judged.wrong.append(self._says(window, seconds(gone), UNTOUCHED_S, gone, "no fault was put in"))
                continue
            beside = seconds(without(without(gone, judged.declared), judged.troubled))
            ended = [cut for at, cut in cuts if window[0] - 0.5 < at < window[1] + NEAR_S]
            most = BESIDE_S + sum(max(0.0, cut - GUARD_S) + BESIDE_S for cut in ended)
            if beside > most:
                kinds = ", ".join(sorted({f.kind for f in near}))
                judged.wrong.append(self._says(window, beside, most, gone, f"beside gaps and faults ({kinds})"))

    def _near(self, begin: float, end: float) -> list[Fault]:
        """Faults that may concern what was in between."""
        return [fault for fault in self.faults if fault.began < end + NEAR_S and fault.ended > begin - NEAR_S]

    def _cuts(self) -> list[tuple[float, float]]:
        """(when, seconds) that each segment's end was cut, by the manifests."""
        found = []
        for name in self.play.files:
            manifest = json.loads(Path(name).with_suffix(".json").read_text())
            for segment in manifest["segments"]:
                at = _utc(segment["closed_utc"], self.history.utc_offset)
                found.append((at, segment["cut_samples"] / manifest["file"]["rate"]))
        return found

    def _says(self, window: Span, missing: float, most: float, gone: Spans, why: str) -> str:
        customer = self.play.customer()
        zero = customer.began if customer else 0.0
        places = ", ".join(f"{a - zero:.2f}-{b - zero:.2f}" for a, b in gone)
        return (
            f"{self.play.number} ({self.play.title}): of the conversation from {window[0] - zero:.2f} s to "
            f"{window[1] - zero:.2f} s {missing:.2f} s are missing, at most {most:.2f} may be ({why}): {places}"
        )


def _steady(began: float) -> Clock:
    return lambda position: began + position


def _utc(moment: str, utc_offset: float) -> float:
    """A moment of a manifest as monotonic seconds."""
    return datetime.fromisoformat(moment).timestamp() - utc_offset


def _by_manifest(manifest: dict[str, Any], track: Track, utc_offset: float) -> Clock:
    """About when each place of a file was captured, as its manifest says."""
    begins: list[tuple[float, float]] = [
        (one["file_offset"] / track.rate, _utc(one["begin_utc"], utc_offset)) for one in manifest["intervals"]
    ]

    def clock(position: float) -> float:
        start, at = begins[0]
        for begin in begins:
            if begin[0] <= position + 0.03:
                start, at = begin
        return at + position - start

    return clock


def faults_text(faults: Sequence[Fault]) -> str:
    """One line for each kind: how often, and for how long in all."""
    kinds = sorted({fault.kind for fault in faults})
    return ", ".join(f"{sum(f.kind == kind for f in faults)} x {kind}" for kind in kinds) or "none"
