"""API tokens and the sessions of browsers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("create_actor", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("expire_ms", sa.BigInteger, nullable=True),
        sa.Column("last_use_ms", sa.BigInteger, nullable=True),
        sa.Column("revoke_actor", sa.Text, nullable=True),
        sa.Column("revoke_ms", sa.BigInteger, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("tokens_id", "tokens", ["token_id"], unique=True)
    op.create_index("tokens_secret", "tokens", ["secret_sha256"], unique=True)
    unrevoked = sa.text("revoke_ms IS NULL")
    op.create_index("tokens_name", "tokens", ["name"], unique=True, sqlite_where=unrevoked, postgresql_where=unrevoked)
    op.create_table(
        "sessions",
        sa.Column("secret_sha256", sa.LargeBinary, primary_key=True),
        sa.Column("token_id", sa.Text, nullable=True),
        sa.Column("file_sha256", sa.LargeBinary, nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("expire_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("sessions_expire", "sessions", ["expire_ms"])
