"""Failures that a resumed stage no longer counts against its tolerance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("stages", sa.Column("forgiven", Big, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("stages", "forgiven")
