"""Metrics, few and stable: what an operator's alert hangs on.

Owns the names. A registry of our own, so that a test or a second service in one process starts from nothing.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from pbxguard.core.reasons import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The service's metrics; `text()` is what `GET /metrics` says."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.beat_lag = Gauge(
            "pbxguard_beat_lag_seconds", "How long Asterisk took to return the last beat", registry=self.registry
        )
        self.connected = Gauge(
            "pbxguard_connected", "1 while the component is connected", ["component"], registry=self.registry
        )
        self.running = Gauge("pbxguard_recordings_running", "Recorders that run now", registry=self.registry)
        self.calls = Gauge("pbxguard_calls", "Calls that are live now", registry=self.registry)
        self.sealed = Counter("pbxguard_recordings_sealed", "Recordings sealed", registry=self.registry)
        self.seal_failures = Counter("pbxguard_seal_failures", "Attempts to seal that failed", registry=self.registry)
        self.refusals = Counter(
            "pbxguard_refusals",
            "Calls that ended without a recording, by their first reason",
            ["reason"],
            registry=self.registry,
        )
        self.disclosures = Counter(
            "pbxguard_disclosures",
            "Disclosures played, by whether they were heard in full",
            ["heard"],
            registry=self.registry,
        )
        self.reports_dropped = Counter(
            "pbxguard_call_reports_dropped",
            "Reports of calls that `why` will never tell, for want of a database",
            registry=self.registry,
        )
        self.waiting_to_seal = Gauge(
            "pbxguard_recordings_waiting_to_seal",
            "Recordings whose sealing failed, tried again",
            registry=self.registry,
        )
        self.facts_waiting = Gauge("pbxguard_facts_waiting", "Facts in the guard's queue", registry=self.registry)

    def refused(self, reason: Reason) -> None:
        """Count one call that ended unrecorded, by its first reason."""
        self.refusals.labels(reason.value).inc()

    def text(self) -> bytes:
        """All of them in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)
