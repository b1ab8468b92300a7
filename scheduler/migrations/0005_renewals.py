"""When a session last renewed its leases: one that is being renewed is not declared lost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("sessions", sa.Column("renew_ms", Big, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("sessions", "renew_ms")
