"""Plans that are being removed, which making of a plan a row is, and files that nobody needs any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("plans", sa.Column("uid", sa.Text, nullable=False, server_default=""))
    op.add_column("plans", sa.Column("remove_ms", sa.BigInteger, nullable=True))
    op.add_column("plans", sa.Column("remove_force", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE plans SET uid = plan_id")
    for column in ("items_sha256", "lanes_sha256", "source_name"):
        op.create_index(f"plans_{column}", "plans", [column])
    op.create_table(
        "dropped_files",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("drop_ms", sa.BigInteger, nullable=False),
        sa.Column("written_ns", sa.BigInteger, nullable=False),
    )
