"""How long a recording is kept, and why (LAW.md 4; GDPR art. 5(1)(e), 18(1)(d)). Pure: `now` is an argument.

Every purpose has a rule of its own. A recording with several purposes is kept as long as the longest of them, and
nothing but a lock's end makes that shorter: an outcome speaks only to the purposes whose rule asks for it. What has no
rule is kept and told, never destroyed on a guess.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from types import MappingProxyType
from typing import assert_never

from .defaults import COMPLAINT_HANDLING, CONTRACT_EVIDENCE, MIFID_ORDER, QUALITY_TRAINING
from .ids import PurposeName

_LAST_YEAR = 9990


class Outcome(Enum):
    """What became of the call, as the organisation reports it."""

    UNDECIDED = ""
    CONTRACT = "contract"
    EXISTING_CONTRACT = "existing_contract"
    """Kept as `CONTRACT`: the call was about one that runs."""
    NO_CONTRACT = "no_contract"
    PENDING_SIGNATURE = "pending_signature"
    """Kept as undecided: it binds only once accepted in writing (6:230v lid 6 BW)."""


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time by the calendar: months first (31 January and a month is 28 February), then days."""

    days: int = 0
    months: int = 0

    def after(self, moment: datetime) -> datetime:
        """The end of the period that begins at `moment`."""
        month = moment.month - 1 + self.months
        year = min(moment.year + month // 12, _LAST_YEAR)
        day = min(moment.day, calendar.monthrange(year, month % 12 + 1)[1])
        return moment.replace(year=year, month=month % 12 + 1, day=day) + timedelta(days=self.days)

    def words(self, language: str = "en") -> str:
        dutch = language == "nl"
        parts = []
        if self.months and self.months % 12 == 0 and self.months > 12:
            parts.append(f"{self.months // 12} {'jaar' if dutch else 'years'}")
        elif self.months:
            parts.append(f"{self.months} {_plural(self.months, 'maand', 'maanden', 'month', 'months', dutch)}")
        if self.days or not parts:
            parts.append(f"{self.days} {_plural(self.days, 'dag', 'dagen', 'day', 'days', dutch)}")
        return (" en " if dutch else " and ").join(parts)


def _plural(count: int, nl_one: str, nl_more: str, en_one: str, en_more: str, dutch: bool) -> str:
    one, more = (nl_one, nl_more) if dutch else (en_one, en_more)
    return one if count == 1 else more


@dataclass(frozen=True, slots=True)
class Fixed:
    """So long from the end of the recording, whatever came of the call."""

    period: Period


@dataclass(frozen=True, slots=True)
class ByOutcome:
    """Counted from the end of the recording; `after_contract` from the contract's end, and without a known end the
    recording is kept. A contract's recording is never kept shorter than an undecided one."""

    no_contract: Period = Period(days=7)
    undecided: Period = Period(days=30)
    after_contract: Period = Period(months=12)


Rule = Fixed | ByOutcome

RULES: Mapping[PurposeName, Rule] = MappingProxyType(
    {
        CONTRACT_EVIDENCE: ByOutcome(),
        QUALITY_TRAINING: Fixed(Period(days=28)),
        COMPLAINT_HANDLING: Fixed(Period(days=90)),
        MIFID_ORDER: Fixed(Period(months=60)),
    }
)
"""Those of LAW.md 4."""

LASTING = frozenset({MIFID_ORDER})
"""Purposes that the law demands: an objection does not stop them, and so a lock's end does not destroy them."""

CALLS_KEPT = Period(days=30)
"""How long the index knows of calls (with their numbers) for `why` and `calls`, recorded or not [own rule]."""


def adjusted(
    rule: Rule | None,
    *,
    days: int | None = None,
    no_contract_days: int | None = None,
    undecided_days: int | None = None,
    contract_months: int | None = None,
) -> Rule | None:
    """A rule with what the configuration says; what is None keeps what `rule` has, or LAW.md 4's period.

    `days` alone holds for every outcome. None when there is neither a rule nor anything said.
    """
    if no_contract_days is None and undecided_days is None and contract_months is None:
        return rule if days is None else Fixed(Period(days=days))
    base = rule if isinstance(rule, ByOutcome) else ByOutcome()
    if days is not None:
        base = ByOutcome(Period(days=days), Period(days=days), base.after_contract)
    return ByOutcome(
        base.no_contract if no_contract_days is None else Period(days=no_contract_days),
        base.undecided if undecided_days is None else Period(days=undecided_days),
        base.after_contract if contract_months is None else Period(months=contract_months),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """The facts that retention asks of a recording. `ended` is aware; `contract_end` an ISO date or empty."""

    purposes: tuple[str, ...]
    ended: datetime
    outcome: str = ""
    contract_end: str = ""
    locked: bool = False
    lock_until: datetime | None = None


class Ground(Enum):
    """Why it is kept or destroyed: a stable code, without anything personal."""

    FIXED = "period"
    NO_CONTRACT = "no_contract"
    UNDECIDED = "undecided"
    CONTRACT = "contract_ended"
    CONTRACT_OPEN = "contract_open"
    LOCKED = "locked"
    LOCK_OVER = "lock_over"
    NO_RULE = "no_rule"


@dataclass(frozen=True, slots=True)
class Why:
    """`purpose` is the one that decides; empty for a lock."""

    ground: Ground
    nl: str
    en: str
    purpose: str = ""

    def words(self, language: str = "en") -> str:
        return self.nl if language == "nl" else self.en


@dataclass(frozen=True, slots=True)
class Keep:
    """`until` None: until somebody decides."""

    until: datetime | None
    why: Why


@dataclass(frozen=True, slots=True)
class Destroy:
    why: Why


def due(kept: Kept, now: datetime, rules: Mapping[PurposeName, Rule] = RULES) -> Keep | Destroy:
    """Keep or destroy it now. The same facts at a later moment never turn destroy into keep."""
    purposes = set(kept.purposes)
    if kept.locked:
        if kept.lock_until is None or now < kept.lock_until:
            return Keep(kept.lock_until, _locked(kept.lock_until))
        purposes &= LASTING
        if not purposes:
            return Destroy(_lock_over(kept.lock_until))
    ends = [_end(PurposeName(name), kept, rules.get(PurposeName(name))) for name in sorted(purposes)]
    if not ends:
        return Keep(None, Why(Ground.NO_RULE, "er is geen doel bekend", "it has no purpose that we know of"))
    open_ended = [why for until, why in ends if until is None]
    if open_ended:
        return Keep(None, open_ended[0])
    until, why = max(((until, why) for until, why in ends if until is not None), key=lambda end: end[0])
    return Keep(until, why) if now < until else Destroy(why)


def _end(purpose: PurposeName, kept: Kept, rule: Rule | None) -> tuple[datetime | None, Why]:
    match rule:
        case None:
            return None, Why(
                Ground.NO_RULE,
                f"{purpose}: er is geen bewaartermijn ingesteld",
                f"{purpose}: no retention period is configured",
                purpose,
            )
        case Fixed(period):
            return period.after(kept.ended), Why(
                Ground.FIXED,
                f"{purpose}: {period.words('nl')} na het gesprek",
                f"{purpose}: {period.words()} after the call",
                purpose,
            )
        case ByOutcome():
            return _end_by_outcome(purpose, kept, rule)
        case _:
            assert_never(rule)


def _end_by_outcome(purpose: PurposeName, kept: Kept, rule: ByOutcome) -> tuple[datetime | None, Why]:
    undecided = rule.undecided.after(kept.ended)
    match _outcome(kept.outcome):
        case Outcome.NO_CONTRACT:
            return rule.no_contract.after(kept.ended), Why(
                Ground.NO_CONTRACT,
                f"{purpose}: geen overeenkomst, {rule.no_contract.words('nl')} na het gesprek",
                f"{purpose}: no contract, {rule.no_contract.words()} after the call",
                purpose,
            )
        case Outcome.UNDECIDED | Outcome.PENDING_SIGNATURE as outcome:
            pending = outcome is Outcome.PENDING_SIGNATURE
            return undecided, Why(
                Ground.UNDECIDED,
                f"{purpose}: {'nog niet getekend' if pending else 'uitkomst onbekend'}, "
                f"{rule.undecided.words('nl')} na het gesprek",
                f"{purpose}: {'not yet signed' if pending else 'no outcome reported'}, "
                f"{rule.undecided.words()} after the call",
                purpose,
            )
        case Outcome.CONTRACT | Outcome.EXISTING_CONTRACT:
            end = _day(kept.contract_end)
            if end is None:
                return None, Why(
                    Ground.CONTRACT_OPEN,
                    f"{purpose}: er is een overeenkomst waarvan het einde niet bekend is",
                    f"{purpose}: there is a contract whose end is not known",
                    purpose,
                )
            # The last day of the contract counts.
            over = datetime.combine(end, time(), UTC) + timedelta(days=1)
            return max(rule.after_contract.after(over), undecided), Why(
                Ground.CONTRACT,
                f"{purpose}: {rule.after_contract.words('nl')} na het einde van de overeenkomst op {end}",
                f"{purpose}: {rule.after_contract.words()} after the contract's end on {end}",
                purpose,
            )
        case never:
            assert_never(never)


def _outcome(text: str) -> Outcome:
    """What we cannot read (an older or newer version wrote it) is not decided."""
    try:
        return Outcome(text)
    except ValueError:
        return Outcome.UNDECIDED


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year < _LAST_YEAR else None


def _locked(until: datetime | None) -> Why:
    if until is None:
        return Why(Ground.LOCKED, "geblokkeerd (art. 18 AVG)", "locked (art. 18 GDPR)")
    day = until.astimezone(UTC).date()
    return Why(
        Ground.LOCKED,
        f"geblokkeerd na bezwaar (art. 18 AVG) tot een besluit, uiterlijk {day}",
        f"locked after an objection (art. 18 GDPR) until it is decided, {day} at the latest",
    )


def _lock_over(until: datetime) -> Why:
    day = until.astimezone(UTC).date()
    return Why(
        Ground.LOCK_OVER,
        f"bezwaar, en tot {day} is niet besloten haar te bewaren",
        f"objected to, and nobody decided to keep it before {day}",
    )


def told(decision: Keep | Destroy, language: str = "en") -> str:
    """A decision as a sentence, e.g. ``kept until 2026-04-01 (contract_evidence: ...)``."""
    dutch = language == "nl"
    why = decision.why.words(language)
    match decision:
        case Destroy():
            return f"{'wordt vernietigd' if dutch else 'is destroyed at the next sweep'} ({why})"
        case Keep(until=None):
            return f"{'blijft bewaard' if dutch else 'kept'} ({why})"
        case Keep(until=datetime() as until):
            day = until.astimezone(UTC).date()
            return f"{'bewaard tot' if dutch else 'kept until'} {day} ({why})"
        case _:
            raise AssertionError(decision)


def schedule(rule: Rule, language: str = "en") -> tuple[tuple[str, str], ...]:
    """A rule as (when, how long) pairs, for people."""
    dutch = language == "nl"
    match rule:
        case Fixed(period):
            return (("altijd" if dutch else "always", period.words(language)),)
        case ByOutcome():
            ended = "na het einde van de overeenkomst" if dutch else "after the contract's end"
            return (
                (Outcome.NO_CONTRACT.value, rule.no_contract.words(language)),
                ("onbeslist" if dutch else "undecided", rule.undecided.words(language)),
                (Outcome.CONTRACT.value, f"{rule.after_contract.words(language)} {ended}"),
            )
        case _:
            assert_never(rule)
