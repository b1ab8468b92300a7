"""Switches of the whole scheduler: whether failed items are tried again.

While retries are off, what would be retried waits without a due time. When they are allowed again the switch stands at
`waking` until every such item has a due time (chunk by chunk, with `wake`), then at `on`. Whoever decides about a
failure reads the switch after locking the run, so none is missed: either it sees `waking`, or the waker waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.domain.states import LIVE_RUNS, ItemState
from scheduler.store import decisions
from scheduler.store.effects import Effects
from scheduler.store.locking import hold, lock
from scheduler.store.schema import items, runs, stages
from scheduler.store.statements import Statement

__all__ = ["Switch", "held_stages", "retries", "retries_allowed", "set_retries", "wake", "woken"]

RETRIES = "retries"
ON, OFF, WAKING = "on", "off", "waking"

# How the switch stands.
_READ = Statement(f"SELECT value, actor, reason, change_ms FROM switches WHERE name = '{RETRIES}'")
# Sets the switch; on PostgreSQL the row is locked until the commit.
_SET = sa.text(
    "INSERT INTO switches (name, value, actor, reason, change_ms) VALUES ('retries', :value, :actor, :reason, :now)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value, actor = excluded.actor, reason = excluded.reason,"
    " change_ms = excluded.change_ms"
)
# All that waits has a due time now.
_WOKEN = sa.text("UPDATE switches SET value = 'on' WHERE name = 'retries' AND value = 'waking' AND change_ms = :since")
# A chunk of a stage's items that wait for retries to be allowed.
_HELD = (
    sa.select(items.c.seq)
    .where(
        items.c.run == sa.bindparam("run"),
        items.c.stage == sa.bindparam("stage"),
        items.c.state == ItemState.RETRY,
        items.c.settle_number.is_(None),
        items.c.due_ms.is_(None),
        items.c.seq > sa.bindparam("after"),
    )
    .order_by(items.c.seq)
    .limit(sa.bindparam("limit"))
)
# Runs whose items may fail.
_LIVE = sa.select(runs.c.number).where(runs.c.state.in_(sorted(LIVE_RUNS)))
# Makes them due.
_WAKE = Statement(
    "UPDATE items SET due_ms = :due WHERE run = :run AND stage = :stage AND seq = :seq "
    "AND state = 'retry' AND due_ms IS NULL"
)


@dataclass(frozen=True)
class Switch:
    """`waking`: allowed, and not all that waited is due yet. change_ms None: never set."""

    allowed: bool = True
    waking: bool = False
    actor: str = ""
    reason: str = ""
    change_ms: int | None = None


def retries(connection: sa.Connection) -> Switch:
    for value, actor, reason, change_ms in _READ.rows(connection, {}):
        return Switch(value != OFF, value == WAKING, actor, reason, change_ms)
    return Switch()


def retries_allowed(connection: sa.Connection) -> bool:
    """Whether a failure may be tried again. Read it after locking the run of the failure."""
    return retries(connection).allowed


def set_retries(
    connection: sa.Connection, effects: Effects, allowed: bool, *, actor: str, reason: str, now_ms: int
) -> bool:
    """Whether this changed anything."""
    decisions.turn(connection, decisions.RETRIES)
    if retries(connection).allowed == allowed:
        return False
    value = WAKING if allowed else OFF
    old, new, type_ = (
        ("stopped", "allowed", "retries.allowed") if allowed else ("allowed", "stopped", "retries.stopped")
    )
    decisions.note(connection, effects, decisions.RETRIES, type_, old, new, actor=actor, reason=reason, now_ms=now_ms)
    connection.execute(_SET, {"value": value, "actor": actor, "reason": reason, "now": now_ms})
    return True


def held_stages(connection: sa.Connection) -> list[tuple[int, int]]:
    """Every stage with items that are to be retried, of whatever run. Who is writing down a failure, and has read that
    retries are off, is waited for: every live run is locked once."""
    if connection.dialect.name != "sqlite":
        hold(connection, connection.execute(_LIVE).scalars())
    query = sa.select(stages.c.run, stages.c.stage).where(stages.c.retry > 0).order_by(stages.c.run, stages.c.stage)
    return [(run, stage) for run, stage in connection.execute(query)]


def wake(connection: sa.Connection, run: int, stage: int, *, after: int, now_ms: int, limit: int) -> int:
    """Makes a chunk of a stage's held items due, while retries are allowed; returns the last seq, or -1 after the
    last chunk."""
    unit = lock(connection, run, now_ms)
    if unit is None or not retries_allowed(connection):
        return -1
    seqs = connection.execute(_HELD, {"run": run, "stage": stage, "after": after, "limit": limit}).scalars().all()
    if seqs:
        values = [{"run": run, "stage": stage, "seq": seq, "due": now_ms} for seq in seqs]
        _WAKE.run_many(connection, values)
    return seqs[-1] if len(seqs) == limit else -1


def woken(connection: sa.Connection, since_ms: int | None) -> None:
    """Notes that nothing waits any more for what was allowed then; who set the switch again meanwhile is waited for."""
    connection.execute(_WOKEN, {"since": since_ms})
