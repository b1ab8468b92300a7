"""Runs, stages, items, attempts, events, requests, sessions, workers."""

from __future__ import annotations

from alembic import op

from scheduler.store.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
