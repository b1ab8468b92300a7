"""Decisions of operators that concern no run: a processor's price, the switch of all retries. Each is an event beside
those of limits, in the transaction of what it tells of; limit keys have a colon and no space, so that none can be
taken for the other.

May not decide anything. Whoever decides takes `turn` first: of two schedulers the second sees what the first decided.
"""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime import metrics
from scheduler.store.effects import Effects
from scheduler.store.schema import limit_events
from scheduler.store.statements import Statement

__all__ = ["RETRIES", "note", "price_of", "turn"]

RETRIES = "retries"

# One decision about a key at a time, until the transaction ends; SQLite has one writer.
_TURN = Statement("SELECT 1", postgresql="SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
# The latest event of what was decided about.
_LATEST = sa.select(sa.func.coalesce(sa.func.max(limit_events.c.number), 0)).where(
    limit_events.c.key == sa.bindparam("k")
)


def price_of(processor: str) -> str:
    """What events of a processor's price are listed under."""
    return f"price {processor}"


def turn(connection: sa.Connection, key: str) -> None:
    """Waits until nobody else decides about the key. Take it before anything is read for the decision."""
    _TURN.rows(connection, {"key": key})


def note(
    connection: sa.Connection,
    effects: Effects,
    key: str,
    type_: str,
    old: str,
    new: str,
    *,
    actor: str,
    reason: str,
    now_ms: int,
) -> None:
    """Writes down who decided what, old → new, and why."""
    effects.counts.append((metrics.LIMIT_EVENTS.labels(type_), 1))
    number = connection.execute(_LATEST, {"k": key}).scalar_one() + 1
    connection.execute(
        sa.insert(limit_events).values(
            key=key,
            number=number,
            time_ms=now_ms,
            type=type_,
            actor=actor,
            old_state=old,
            new_state=new,
            reason=reason,
            data=b"{}",
        )
    )
