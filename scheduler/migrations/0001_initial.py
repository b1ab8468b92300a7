"""Runs, stages, items, attempts, events, requests, sessions, workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("number", Big, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.Text, nullable=False, unique=True),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("source_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("granularity", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("event_number", Big, nullable=False),
        sa.Column("settle_number", Big, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("create_ms", Big, nullable=False),
        sa.Column("start_ms", Big, nullable=True),
        sa.Column("end_ms", Big, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_state", "runs", ["state"])
    op.create_table(
        "stages",
        sa.Column("run", Big, primary_key=True),
        sa.Column("stage", sa.Integer, primary_key=True),
        sa.Column("processor", sa.Text, nullable=False),
        sa.Column("processor_version", sa.Text, nullable=False),
        sa.Column("parameters", sa.LargeBinary, nullable=False),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("max_tries", sa.Integer, nullable=False),
        sa.Column("max_run_seconds", sa.Integer, nullable=False),
        sa.Column("worker_class", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("total", Big, nullable=False),
        sa.Column("running", Big, nullable=False),
        sa.Column("retry", Big, nullable=False),
        sa.Column("completed", Big, nullable=False),
        sa.Column("failed", Big, nullable=False),
        sa.Column("skipped", Big, nullable=False),
        sa.Column("stopped", Big, nullable=False),
        sa.Column("cursor", Big, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("start_ms", Big, nullable=True),
        sa.Column("end_ms", Big, nullable=True),
    )
    op.create_table(
        "items",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", Big, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("grp", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("was", sa.Text, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("suspect", sa.Integer, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("grant_number", Big, nullable=False),
        sa.Column("start_ms", Big, nullable=True),
        sa.Column("end_ms", Big, nullable=True),
        sa.Column("due_ms", Big, nullable=True),
        sa.Column("settle_number", Big, nullable=True),
        sa.Column("digest", sa.LargeBinary, nullable=True),
        sa.Column("error_kind", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("result", sa.LargeBinary, nullable=True),
        sa.Column("result_blob", sa.Text, nullable=True),
        sa.Column("result_size", Big, nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "items_open",
        "items",
        ["run", "stage", "state", "seq"],
        sqlite_where=sa.text("settle_number IS NULL"),
        postgresql_where=sa.text("settle_number IS NULL"),
    )
    op.create_index(
        "items_settled",
        "items",
        ["run", "stage", "settle_number"],
        sqlite_where=sa.text("settle_number IS NOT NULL"),
        postgresql_where=sa.text("settle_number IS NOT NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", Big, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("ended", sa.Text, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("start_ms", Big, nullable=True),
        sa.Column("end_ms", Big, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=True),
        sa.Column("refused_digest", sa.LargeBinary, nullable=True),
        sa.Column("error_kind", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
    )
    op.create_table(
        "events",
        sa.Column("run", Big, primary_key=True, autoincrement=False),
        sa.Column("number", Big, primary_key=True, autoincrement=False),
        sa.Column("time_ms", Big, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("old_state", sa.Text, nullable=False),
        sa.Column("new_state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("changed", sa.Boolean, nullable=False),
        sa.Column("create_ms", Big, nullable=False),
    )
    op.create_index("requests_create", "requests", ["create_ms"])
    op.create_table(
        "sessions",
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("worker_class", sa.Text, nullable=False),
        sa.Column("granted", Big, nullable=False),
        sa.Column("was_granted", Big, nullable=True),
        sa.Column("ended", sa.Integer, nullable=False),
        sa.Column("seen_ms", Big, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("worker_class", sa.Text, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("pid", sa.Integer, nullable=True),
        sa.Column("pid_start", Big, nullable=True),
        sa.Column("create_ms", Big, nullable=False),
    )
