"""What all tables are made of: their metadata, and columns that a migration may add to rows that there are."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["Big", "blob", "metadata", "number", "text"]

metadata = sa.MetaData()

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, Big, nullable=False, default=default, server_default=str(default))


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, default="", server_default="")


def blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False, default=b"", server_default="")
