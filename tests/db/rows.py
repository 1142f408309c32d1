"""Rows as sealing would make them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pbxguard.core.commands import CallOutcome
from pbxguard.core.ids import LinkedId, PurposeName, RecordingId, Uniqueid
from pbxguard.core.purposes import Direction
from pbxguard.core.reasons import Reason
from pbxguard.core.records import RecordingRow

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def recording(id: str = "aaaaaaaaaaaaaaaa", **changes: Any) -> RecordingRow:
    row = RecordingRow(
        id=RecordingId(id),
        node="pbx1",
        path=f"2026/03/02/20260302T120000Z_contract_evidence_31201234567_{id}.flac",
        purposes=("contract_evidence",),
        started=NOON,
        ended=NOON + timedelta(seconds=90),
        duration_ms=90_000,
        external_number="+31201234567",
        own_number="+31701112233",
        own_endpoint="PJSIP/100",
        queue="sales",
        direction="inbound",
        reference="K-4711",
        language="nl",
        call="1772452800.17",
        uniqueid="1772452800.17",
        linkedid="1772452800.17",
        sha256="ab" * 32,
        manifest={"caller": "+31201234567"},
    )
    return replace(row, **changes)


def outcome(call: str = "1772452800.17", **changes: Any) -> CallOutcome:
    made = CallOutcome(
        call=Uniqueid(call),
        linkedid=LinkedId(call),
        recording=RecordingId("aaaaaaaaaaaaaaaa"),
        direction=Direction.INBOUND,
        external_number="+31201234567",
        own_number="+31701112233",
        own_endpoint="PJSIP/100",
        queue="sales",
        reference="K-4711",
        language="nl",
        purposes_asked=(PurposeName("contract_evidence"),),
        told=True,
        reasons=(Reason.ON_HOLD,),
        recorded=False,
        ever_recorded=True,
        others=(Uniqueid("1772452800.30"),),
    )
    return replace(made, **changes)
