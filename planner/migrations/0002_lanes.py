"""Lanes of plans whose items have limit keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("plans", sa.Column("lanes_sha256", sa.Text, nullable=False, server_default=""))
