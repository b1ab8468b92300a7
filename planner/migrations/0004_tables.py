"""Sources that are tables, names with versions, and plans that are selections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("sources", sa.Column("table_schema", sa.Text, nullable=False, server_default=""))
    op.add_column("sources", sa.Column("statistics", sa.Text, nullable=False, server_default=""))
    op.add_column("sources", sa.Column("notices", sa.Text, nullable=False, server_default="[]"))
    op.add_column("plans", sa.Column("source_name", sa.Text, nullable=False, server_default=""))
    op.add_column("plans", sa.Column("source_version", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("plans", sa.Column("details", sa.Text, nullable=False, server_default="{}"))
    op.add_column("plans", sa.Column("change", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("plans_created", "plans", ["create_ms", "plan_id"])
    op.create_index("plans_source", "plans", ["source_id"])
    op.create_table(
        "source_names",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("reading", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "source_versions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_id", sa.Text, sa.ForeignKey("sources.source_id"), nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("source_versions_source", "source_versions", ["source_id"])
