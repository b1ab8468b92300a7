"""Sessions that are told to drain, how workers ended and their last lines, and what is wrong with a class."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("sessions", sa.Column("drain_ms", Big))
    op.add_column("workers", sa.Column("end_ms", Big))
    for name in ("kind", "reason", "log_blob"):
        op.add_column("workers", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.create_index("workers_slot", "workers", ["worker_class", "slot", "generation"])
    op.create_table(
        "class_troubles",
        sa.Column("worker_class", sa.Text, primary_key=True),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("advice", sa.Text, nullable=False),
        sa.Column("since_ms", Big, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("class_troubles")
    op.drop_index("workers_slot", "workers")
    for name in ("log_blob", "reason", "kind", "end_ms"):
        op.drop_column("workers", name)
    op.drop_column("sessions", "drain_ms")
