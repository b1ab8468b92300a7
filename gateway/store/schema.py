"""The gateway's tables, as the migrations make them."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["metadata", "sessions", "tokens"]

metadata = sa.MetaData()

_UNREVOKED = sa.text("revoke_ms IS NULL")

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("token_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
    sa.Column("create_actor", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=True),  # NULL: never
    sa.Column("last_use_ms", sa.BigInteger, nullable=True),  # written once a minute at most
    sa.Column("revoke_actor", sa.Text, nullable=True),
    sa.Column("revoke_ms", sa.BigInteger, nullable=True),
    sa.Index("tokens_id", "token_id", unique=True),
    sa.Index("tokens_secret", "secret_sha256", unique=True),
    # A name is free again once its token is revoked.
    sa.Index("tokens_name", "name", unique=True, sqlite_where=_UNREVOKED, postgresql_where=_UNREVOKED),
    sqlite_autoincrement=True,
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("secret_sha256", sa.LargeBinary, primary_key=True),
    sa.Column("token_id", sa.Text, nullable=True),  # of the token that it was made with, which may be revoked
    sa.Column("file_sha256", sa.LargeBinary, nullable=True),  # of the token in gateway.admin_token_file, likewise
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=False),
    sa.Index("sessions_expire", "expire_ms"),
)
