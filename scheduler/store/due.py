"""Rows whose time has come: a retry after its back-off, a deferred item, become startable in one transaction.

From then on they are queued rows like any other: Redis hears of them now, and a window that is opened later finds them.
So nothing need be remembered of what was fed, and doing it twice changes nothing.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState, advance
from scheduler.store.effects import Effects
from scheduler.store.unit import lock

__all__ = ["any_due", "release_due"]

# What is due, longest first, by the index of what has a time.
_DUE = sa.text("""
SELECT run, stage, seq, state FROM items
WHERE due_ms IS NOT NULL AND due_ms <= :now ORDER BY due_ms LIMIT :most
""")
_ANY = sa.text("SELECT 1 FROM items WHERE due_ms IS NOT NULL AND due_ms <= :now LIMIT 1")
# Makes one row startable, if it waits still.
_RELEASE = sa.text("""
UPDATE items SET state = 'queued', due_ms = NULL
WHERE run = :run AND stage = :stage AND seq = :seq AND state = :state AND due_ms <= :now
RETURNING seq, coalesce(lane, ''), coalesce(rank, seq)
""")


def release_due(connection: sa.Connection, effects: Effects, now_ms: int, limit: int) -> int:
    """Makes what is due startable, at most `limit`; returns how many."""
    found: dict[int, list[tuple[int, int, str]]] = {}
    for run, stage, seq, state in connection.execute(_DUE, {"now": now_ms, "most": limit}):
        found.setdefault(run, []).append((stage, seq, state))
    count = 0
    for number in sorted(found):
        unit = lock(connection, number, now_ms)
        if unit is None:
            continue
        for index, seq, state in found[number]:
            if (ItemState(state), ItemEvent.RELEASE) not in ITEM_TABLE:
                continue
            advance(ITEM_TABLE, ItemState(state), ItemEvent.RELEASE)
            key = {"run": number, "stage": index, "seq": seq, "state": state, "now": now_ms}
            row = connection.execute(_RELEASE, key).one_or_none()
            if row is None:
                continue
            stage = unit.stages[index]
            if state == ItemState.RETRY:
                stage.retry -= 1
            else:
                stage.deferred -= 1
            effects.ready.setdefault((number, index), []).append((row[0], row[1], row[2]))
            count += 1
        unit.flush()
        effects.changed.add(number)
    return count


def any_due(connection: sa.Connection, now_ms: int) -> bool:
    return connection.execute(_ANY, {"now": now_ms}).first() is not None
