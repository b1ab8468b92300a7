"""Copies of what runs recorded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "result_runs",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("settle_number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "result_marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "result_cursors",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("settle_number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "result_parts",
        sa.Column("part", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("drop_ms", sa.BigInteger, nullable=True),
        sqlite_autoincrement=True,
    )
