"""First tables: audit (append-only), recordings, their numbers, calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.String(32)
"""ISO 8601, UTC, six decimals."""

_SQLITE_TRIGGERS = (
    """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    # INSERT OR REPLACE deletes without firing the trigger above
    """CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
       WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
)
_POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
    """CREATE TRIGGER audit_no_update BEFORE UPDATE OR DELETE ON audit
       FOR EACH ROW EXECUTE FUNCTION audit_append_only()""",
    """CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
       FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()""",
)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("recording", sa.String(32), nullable=False),
        sa.Column("segment", sa.String(40), nullable=False),
        sa.Column("data", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_recording", "audit", ["recording", "kind"])
    op.create_index("audit_channel", "audit", ["channel", "boot"])
    op.create_index("audit_kind", "audit", ["kind", "segment"])
    op.create_index("audit_at", "audit", ["at"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for trigger in _SQLITE_TRIGGERS if sqlite else _POSTGRESQL_TRIGGERS:
        op.execute(trigger)

    op.create_table(
        "recordings",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("purposes", sa.Text, nullable=False),
        sa.Column("started", _MOMENT, nullable=False),
        sa.Column("ended", _MOMENT, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("external_number", sa.Text, nullable=False),
        sa.Column("other_numbers", sa.Text, nullable=False),
        sa.Column("own_number", sa.Text, nullable=False),
        sa.Column("own_endpoint", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("uniqueid", sa.Text, nullable=False),
        sa.Column("linkedid", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("contract_end", sa.String(10), nullable=False),
        sa.Column("locked", sa.Boolean, nullable=False),
        sa.Column("lock_until", _MOMENT),
        sa.Column("written_acceptance_required", sa.Boolean, nullable=False),
        sa.Column("destroyed", _MOMENT),
    )
    for column in ("started", "reference", "extension", "own_number", "uniqueid"):
        op.create_index(f"recordings_{column}", "recordings", [column])
    op.create_index("recordings_destroyed", "recordings", ["destroyed", "id"])

    op.create_table(
        "recording_numbers",
        sa.Column("recording", sa.String(32), primary_key=True),
        sa.Column("digits", sa.String(40), primary_key=True),
    )
    op.create_index("recording_numbers_digits", "recording_numbers", ["digits"])

    op.create_table(
        "calls",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("boot", sa.String(128), primary_key=True),
        sa.Column("call", sa.String(160), primary_key=True),
        sa.Column("began", _MOMENT, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("linkedid", sa.Text, nullable=False),
        sa.Column("recording", sa.String(32), nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("external_number", sa.Text, nullable=False),
        sa.Column("external_digits", sa.Text, nullable=False),
        sa.Column("own_number", sa.Text, nullable=False),
        sa.Column("own_endpoint", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
        sa.Column("purposes", sa.Text, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("recorded", sa.Boolean, nullable=False),
        sa.Column("ever_recorded", sa.Boolean, nullable=False),
        sa.Column("would_record", sa.Boolean, nullable=False),
        sa.Column("others", sa.Text, nullable=False),
    )
    op.create_index("calls_at", "calls", ["at"])
    op.create_index("calls_external", "calls", ["external_digits"])
    op.create_index("calls_extension", "calls", ["extension"])
    op.create_index("calls_own_number", "calls", ["own_number"])
    op.create_index("calls_recording", "calls", ["recording"])
