"""Histories of processors, and estimates of plans beside what became of them.

What was copied of runs before is copied once more, so that it counts: what stands twice in the copy is one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "histories",
        sa.Column("processor", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("parameters", sa.Text, primary_key=True),
        sa.Column("item_count", sa.BigInteger, nullable=False),
        sa.Column("history", sa.Text, nullable=False),
    )
    op.create_table(
        "plan_estimates",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("made_ms", sa.BigInteger, nullable=False),
        sa.Column("told", sa.LargeBinary, nullable=False),
        sa.Column("totals", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "started_estimates",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("made_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("totals", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "run_estimates",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("settle_number", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("plan_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("told", sa.LargeBinary, nullable=True),
        sa.Column("runtime_seconds", sa.Float, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
    )
    for table in ("result_cursors", "result_runs", "result_marks"):
        op.execute(f"DELETE FROM {table}")
