"""Runs of which nobody knows how long they worked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("run_estimates") as run_estimates:
        run_estimates.alter_column("runtime_seconds", existing_type=sa.Float, nullable=True)
