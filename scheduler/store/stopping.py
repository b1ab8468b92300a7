"""What a stop does to the rows of items that wait, and what takes it back."""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.domain.states import ItemState
from scheduler.store.schema import items

__all__ = ["reopen_stopped", "stop_waiting"]


def stop_waiting(connection: sa.Connection, run: int, stage: int) -> None:
    """Rows of a stage that wait (queued again, for a retry, or deferred) become stopped."""
    connection.execute(
        sa.update(items)
        .where(*_open(run, stage), items.c.state.in_([ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED]))
        .values(state=ItemState.STOPPED, due_ms=None)
    )


def reopen_stopped(connection: sa.Connection, run: int, stage: int) -> None:
    """Rows that a stop ended become startable again."""
    connection.execute(
        sa.update(items)
        .where(*_open(run, stage), items.c.state == ItemState.STOPPED)
        .values(state=ItemState.QUEUED, end_ms=None)
    )


def _open(run: int, stage: int) -> tuple[sa.ColumnElement[bool], ...]:
    return items.c.run == run, items.c.stage == stage, items.c.settle_number.is_(None)
