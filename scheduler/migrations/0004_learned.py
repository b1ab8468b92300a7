"""What was learned of costs is kept as what was paid, not as numbers of buckets: it is learned anew."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("UPDATE stages SET costs = ''")
    op.execute("DELETE FROM costs")


def downgrade() -> None:
    upgrade()
