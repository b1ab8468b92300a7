"""Collections and their documents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "collections",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("document_count", sa.Integer, nullable=False),
        sa.Column("unclustered_count", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "collection_documents",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("cluster_id", sa.Integer, nullable=True),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("neighbours", sa.LargeBinary, nullable=False),
    )
    op.create_index("collection_documents_seq", "collection_documents", ["run_id", "seq"], unique=True)
