"""Plans that are gone, runs that are only read since theirs is, and runs by their plan."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "plan_uses",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("removed_uids", sa.Text, nullable=False, server_default=""),
    )
    op.add_column("runs", sa.Column("plan_removed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("runs_plan", "runs", ["plan_id", "number"])


def downgrade() -> None:
    op.drop_index("runs_plan", "runs")
    op.drop_column("runs", "plan_removed")
    op.drop_table("plan_uses")
