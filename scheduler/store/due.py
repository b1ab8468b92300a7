"""Rows whose time has come: a retry after its back-off, a deferred item, become startable in one transaction.

From then on they are queued rows like any other: Redis hears of them now, and a window that is opened later finds them.
So nothing need be remembered of what was fed, and doing it twice changes nothing. While retries are off, what failed
stays where it is, and is released as soon as they are allowed.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState
from scheduler.store.effects import Effects
from scheduler.store.locking import lock
from scheduler.store.statements import Statement, listed
from scheduler.store.switches import retries_allowed

__all__ = ["any_due", "release_due"]

# What is due, longest first, by the index of what has a time. While retries are off, those wait.
_DUE_NOW = "due_ms IS NOT NULL AND due_ms <= :now AND (state = 'deferred' OR :allowed)"
_DUE = Statement(f"SELECT run, stage, seq, state FROM items WHERE {_DUE_NOW} ORDER BY due_ms LIMIT :most")
# Whether anything is.
_ANY = Statement(f"SELECT 1 FROM items WHERE {_DUE_NOW} LIMIT 1")
# Makes these startable, if they wait still.
_RELEASE_HEAD = "UPDATE items SET state = 'queued', due_ms = NULL WHERE run = :run AND stage = :stage AND "
_RELEASE_TAIL = " AND state = :state AND due_ms <= :now RETURNING seq, coalesce(lane, ''), coalesce(rank, seq)"
_RELEASE = Statement(
    f"{_RELEASE_HEAD}seq IN (SELECT value FROM json_each(:seqs)){_RELEASE_TAIL}",
    postgresql=f"{_RELEASE_HEAD}seq = ANY(CAST(:seqs AS bigint[])){_RELEASE_TAIL}",
)


def release_due(connection: sa.Connection, effects: Effects, now_ms: int, limit: int) -> int:
    """Makes what is due startable, at most `limit`; returns how many."""
    found: dict[int, dict[tuple[int, str], list[int]]] = {}
    for run, stage, seq, state in _DUE.rows(connection, _values(connection, now_ms) | {"most": limit}):
        found.setdefault(run, {}).setdefault((stage, state), []).append(seq)
    count = 0
    for number in sorted(found):
        unit = lock(connection, number, now_ms)
        if unit is None:
            continue
        for (index, state), seqs in found[number].items():
            if (ItemState(state), ItemEvent.RELEASE) not in ITEM_TABLE:
                continue
            values = {"run": number, "stage": index, "state": state, "now": now_ms}
            rows = _RELEASE.rows(connection, {**values, "seqs": listed(connection, seqs, "bigint")})
            stage = unit.stages[index]
            if state == ItemState.RETRY:
                stage.retry -= len(rows)
            else:
                stage.deferred -= len(rows)
            effects.ready.setdefault((number, index), []).extend((seq, lane, rank) for seq, lane, rank in sorted(rows))
            count += len(rows)
        unit.flush(effects)
        effects.changed.add(number)
    return count


def any_due(connection: sa.Connection, now_ms: int) -> bool:
    return bool(_ANY.rows(connection, _values(connection, now_ms)))


def _values(connection: sa.Connection, now_ms: int) -> dict[str, int | bool]:
    return {"now": now_ms, "allowed": retries_allowed(connection)}
