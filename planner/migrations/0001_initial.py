"""Sources, plans, and the requests that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("source_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("item_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("ignored_count", sa.BigInteger, nullable=False),
        sa.Column("snapshot_sha256", sa.Text, nullable=False),
        sa.Column("snapshot_bytes", sa.BigInteger, nullable=False),
        sa.Column("blocks", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "plans",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("source_id", sa.Text, sa.ForeignKey("sources.source_id"), nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("granularity", sa.Text, nullable=False),
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("items_sha256", sa.Text, nullable=False),
        sa.Column("items_bytes", sa.BigInteger, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("expire_ms", sa.BigInteger, nullable=True),
    )
    op.create_index("plans_expire", "plans", ["expire_ms"])
    op.create_table(
        "requests",
        sa.Column("method", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("answer_id", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("requests_create", "requests", ["create_ms"])
