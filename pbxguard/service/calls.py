"""What `calls` and `why` say: each call in one line, told or not, recorded from when to when, or why not.

Owns how a call is told to people; the facts come from the index, or from the guard while a call lives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from pbxguard.core.commands import CallOutcome
from pbxguard.core.errors import NotFound
from pbxguard.core.ids import RecordingId
from pbxguard.core.numbers import parse
from pbxguard.core.reasons import WORDS, Reason, words

from .ports import RecordingRow

MOST = 1000
"""Calls in one answer."""
_DURATION = re.compile(r"([0-9]{1,5})\s*(s|m|h|d|w)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class CallIndex(Protocol):
    """What we need of `ports.Index`."""

    async def find_calls(
        self, *, who: str = "", since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, Any]]: ...

    async def recording(self, id: RecordingId) -> RecordingRow: ...


@dataclass(frozen=True, slots=True)
class CallView:
    """One call, as people see it. Moments are UTC."""

    call: str
    began: datetime | None
    ended: bool
    direction: str
    external_number: str
    own_number: str
    own_endpoint: str
    queue: str
    reference: str
    purposes: tuple[str, ...]
    told: bool
    recorded: bool
    """A recorder runs now."""
    reasons: tuple[str, ...]
    """Why none runs, first one first."""
    would_record: bool = False
    """It would, were this not mode `observe`."""
    ever_recorded: bool = False
    recording: str = ""
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None
    destroyed: datetime | None = None
    waiting: str = ""
    """Why it could not be sealed yet, last time: the code of the error."""

    def as_json(self) -> dict[str, Any]:
        """For the API and ``--json``: moments as ISO 8601, the first reason and all of them in words."""
        data = asdict(self)
        for key, value in data.items():
            if isinstance(value, datetime):
                data[key] = value.astimezone(UTC).isoformat(timespec="milliseconds")
        first = _reason(self.reasons)
        data["why"] = None
        if first is not None and not self.recorded:
            data["why"] = {"nl": words(first, "nl"), "en": words(first), "mend": WORDS[first].mend}
        known = (_reason([code]) for code in self.reasons)
        data["words"] = [{"nl": words(reason, "nl"), "en": words(reason)} for reason in known if reason is not None]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallView:
        """Read `as_json`'s form back (the command line gets it from the socket)."""
        given = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        for name in ("began", "recorded_from", "recorded_to", "destroyed"):
            if given.get(name):
                given[name] = datetime.fromisoformat(given[name])
        return cls(**{**given, "purposes": tuple(given["purposes"]), "reasons": tuple(given["reasons"])})


def live(outcome: CallOutcome, began: datetime | None = None) -> CallView:
    """A call that is going on, from the guard."""
    return CallView(
        call=outcome.call,
        began=began,
        ended=False,
        direction=outcome.direction.value if outcome.direction else "",
        external_number=outcome.external_number,
        own_number=outcome.own_number,
        own_endpoint=outcome.own_endpoint,
        queue=outcome.queue,
        reference=outcome.reference,
        purposes=tuple(outcome.purposes_asked),
        told=outcome.told,
        recorded=outcome.recorded,
        reasons=tuple(reason.value for reason in outcome.reasons),
        would_record=outcome.would_record,
        ever_recorded=outcome.ever_recorded,
        recording=outcome.recording if outcome.ever_recorded else "",
    )


async def why(
    index: CallIndex,
    who: str,
    *,
    since: datetime | None = None,
    country: str = "NL",
    limit: int = 100,
    waiting: Mapping[RecordingId, str] = MappingProxyType({}),
) -> list[CallView]:
    """The calls of a number (any notation), an own number, an extension or endpoint; all when `who` is empty.

    Newest first. `waiting`: recordings that could not be sealed yet, and why. Raises StorageFailed.
    """
    number = parse(who, country)
    forms = dict.fromkeys(form for form in (who.strip(), number.e164, number.e164[1:], number.digits) if form)
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for form in forms or {"": None}:
        for row in await index.find_calls(who=form, since=since, limit=min(limit, MOST)):
            found[row.get("boot", ""), row["call"]] = row
    newest = sorted(found.values(), key=lambda row: row["began"], reverse=True)[: min(limit, MOST)]
    views = [await _from_index(row, index) for row in newest]
    return [replace(view, waiting=waiting.get(RecordingId(view.recording), "")) for view in views]


async def _from_index(row: Mapping[str, Any], index: CallIndex) -> CallView:
    sealed: RecordingRow | None = None
    if row["recording"]:
        try:
            sealed = await index.recording(RecordingId(row["recording"]))
        except NotFound:
            sealed = None  # nothing was recorded, or it is not sealed yet
    ever = bool(row.get("ever_recorded")) or sealed is not None
    return CallView(
        call=row["call"],
        began=row["began"],
        ended=row["ended"],
        direction=row["direction"],
        external_number=row["external_number"],
        own_number=row["own_number"],
        own_endpoint=row["own_endpoint"],
        queue=row["queue"],
        reference=row["reference"],
        purposes=tuple(row["purposes"]),
        told=row["told"],
        recorded=row["recorded"] and not row["ended"],
        reasons=tuple(row["reasons"]),
        would_record=bool(row.get("would_record")),
        ever_recorded=ever,
        recording=row["recording"] if ever else "",
        recorded_from=sealed.started if sealed else None,
        recorded_to=sealed.ended if sealed else None,
        destroyed=sealed.destroyed if sealed else None,
    )


_TEXTS = {
    "en": {
        "inbound": "from",
        "outbound": "to",
        "": "with",
        "withheld": "withheld",
        "told": "told",
        "untold": "not told",
        "recorded": "recorded {a} to {b}",
        "destroyed": "recorded {a} to {b}, destroyed {c}",
        "now": "being recorded",
        "sealing": "recorded; not sealed yet, or nothing was to be kept",
        "waiting": "recorded; not sealed yet, it waits in the spool ({why}): `pbxguard status` says what to do",
        "would": "would be recorded ({mode})",
        "not": "not recorded: {why}",
    },
    "nl": {
        "inbound": "van",
        "outbound": "naar",
        "": "met",
        "withheld": "onbekend",
        "told": "ingelicht",
        "untold": "niet ingelicht",
        "recorded": "opgenomen van {a} tot {b}",
        "destroyed": "opgenomen van {a} tot {b}, vernietigd op {c}",
        "now": "wordt opgenomen",
        "sealing": "opgenomen; nog niet verzegeld, of er viel niets te bewaren",
        "waiting": "opgenomen; nog niet verzegeld, wacht in de spool ({why}): `pbxguard status` zegt wat te doen",
        "would": "zou worden opgenomen ({mode})",
        "not": "niet opgenomen: {why}",
    },
}
_MODE = {"en": words(Reason.OBSERVE_MODE), "nl": words(Reason.OBSERVE_MODE, "nl")}


def says(view: CallView, language: str = "en") -> str:
    """The call in one line, in local time: who, told or not, recorded when, or the first reason and its mend.

    Texts from outside (numbers, endpoints, queues) are shown without control characters.
    """
    language = "nl" if language == "nl" else "en"
    text = _TEXTS[language]
    parts = [
        _local(view.began, "%Y-%m-%d %H:%M:%S") if view.began else "-",
        f"{text.get(view.direction, text[''])} {_shown(view.external_number) or text['withheld']}",
    ]
    inside = _shown(view.own_endpoint) or _shown(view.own_number)
    if inside:
        parts.append(f"({inside}{', ' + _shown(view.queue) if view.queue else ''})")
    parts.append(text["told" if view.told else "untold"] + ";")
    parts.append(_recorded(view, language))
    return " ".join(parts)


def _recorded(view: CallView, language: str) -> str:
    text = _TEXTS[language]
    if view.recorded:
        return text["now"]
    if view.recorded_from and view.recorded_to:
        a, b = _local(view.recorded_from, "%H:%M:%S"), _local(view.recorded_to, "%H:%M:%S")
        if view.destroyed:
            return text["destroyed"].format(a=a, b=b, c=_local(view.destroyed, "%Y-%m-%d"))
        return f"{text['recorded'].format(a=a, b=b)} [{view.recording}]"
    if view.waiting:
        return text["waiting"].format(why=view.waiting)
    first = _reason(view.reasons)
    if view.ever_recorded and (first is None or WORDS[first].condition == 8):
        return text["sealing"]
    if view.would_record:
        return text["would"].format(mode=_MODE[language])
    if first is None:
        return text["not"].format(why="?")
    line = text["not"].format(why=words(first, language))
    return f"{line}. {WORDS[first].mend}" if WORDS[first].mend else line


def parse_since(text: str, now: datetime) -> datetime:
    """``90s``, ``30m``, ``1h``, ``2d``, ``1w`` before `now`, or an ISO 8601 date or moment (local time without zone).

    Raises ValueError.
    """
    found = _DURATION.fullmatch(text.strip())
    if found:
        return now - timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
    moment = datetime.fromisoformat(text.strip())
    return moment.astimezone(UTC)


def _reason(codes: Sequence[str]) -> Reason | None:
    try:
        return Reason(codes[0]) if codes else None
    except ValueError:
        return None  # written by a later version


def _local(moment: datetime, form: str) -> str:
    return moment.astimezone().strftime(form)


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:64]
