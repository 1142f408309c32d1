"""Tells operators, in log and metrics, what the guard learns that nobody else logs: once per change, never per event.

It hears every fact before the core does and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from pbxguard.core.facts import (
    AuditHealthy,
    DisclosureHeard,
    DisclosureNotHeard,
    DisclosureRequested,
    Fact,
    RecorderSeen,
    SnapshotTaken,
    SpoolHasRoom,
    SpyStarted,
    SwitchedOff,
    SwitchedOn,
    WhisperBegun,
    WhisperEnded,
)
from pbxguard.core.ids import Uniqueid
from pbxguard.logs import Event, get_logger
from pbxguard.metrics import Metrics

MANY_FACTS = 5_000
"""Facts waiting above which operators are told; what must close may close late then."""

_log = get_logger()


class Narrator:
    """`observe` each fact, `look` now and then."""

    def __init__(self, *, ours: Callable[[Uniqueid], bool], metrics: Metrics) -> None:
        """`ours`: whether a recorder of ours runs or starts on this channel."""
        self._ours, self._metrics = ours, metrics
        self._on: bool | None = None
        self._healthy: bool | None = None
        self._room: bool | None = None
        self._late = False
        self._behind = False
        self._whispers: set[Uniqueid] = set()

    def observe(self, fact: Fact) -> None:
        """One fact, before the core hears of it."""
        match fact:
            case SnapshotTaken():
                _log.info(Event.SNAPSHOT_TAKEN, channels=len(fact.channels), bridges=len(fact.bridges))
            case SwitchedOn() | SwitchedOff():
                on = isinstance(fact, SwitchedOn)
                if on is not self._on and not (on and self._on is None):
                    _log.warning(Event.SWITCHED_ON if on else Event.SWITCHED_OFF)
                self._on = on
            case AuditHealthy(healthy=healthy):
                if healthy and self._healthy is False:
                    _log.warning(Event.AUDIT_RECOVERED)
                self._healthy = healthy
            case SpoolHasRoom(room=room):
                if room and self._room is False:
                    _log.warning(Event.SPOOL_HAS_ROOM)
                self._room = room
            case RecorderSeen(channel=channel):
                if not self._ours(channel):
                    _log.warning(Event.FOREIGN_RECORDER, channel=channel)
            case WhisperBegun(spy=spy):
                self._whispers.add(spy)
            case WhisperEnded(spy=spy):
                self._whispers.discard(spy)
            case SpyStarted(spy=spy, spied=spied) if spy not in self._whispers:
                _log.warning(Event.SPY_SEEN, channel=spied, spy=spy)
            case DisclosureRequested(channel=channel, private=True):
                _log.info(Event.MARKED_PRIVATE, call=channel)
            case DisclosureHeard():
                self._metrics.disclosures.labels("yes").inc()
            case DisclosureNotHeard():
                self._metrics.disclosures.labels("no").inc()
            case _:
                pass

    def look(self, lag: float, late: bool, waiting: int) -> None:
        """`lag` of the beat in seconds, whether that is too late to start recordings, facts waiting."""
        if late is not self._late:
            self._late = late
            if late:
                _log.warning(Event.BEAT_LATE, lag_ms=None if lag == float("inf") else round(lag * 1000))
            else:
                _log.info(Event.BEAT_RECOVERED)
        behind = waiting > MANY_FACTS
        if behind is not self._behind:
            self._behind = behind
            if behind:
                _log.warning(Event.FACTS_BEHIND, waiting=waiting)
