"""What an explanation needs to know, each by a bounded read: limits of some keys, signs of workers, what is ahead.

It may not walk through a run: what would take long is counted up to a bound and then said to be more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scheduler.store import switches
from scheduler.store.limit_rows import rows_of
from scheduler.store.schema import items
from scheduler.store.seeing import OPEN_INDEX, by_index
from scheduler.store.statements import Statement

__all__ = [
    "AHEAD_MOST",
    "ItemNow",
    "KeyLimit",
    "LastMove",
    "ahead_of",
    "item_now",
    "item_of",
    "last_move",
    "limits_of",
    "next_due",
    "other_runs",
    "retries_stopped",
    "worker_seen",
]

AHEAD_MOST = 20_000
LOOKED_AT = 2_000


@dataclass(frozen=True)
class ItemNow:
    """An item's row, as far as it says why it does not run."""

    state: str
    attempt: int
    tries: int
    session: str
    start_ms: int | None
    end_ms: int | None
    due_ms: int | None
    lane: str
    rank: int
    error_kind: str
    error: str


@dataclass(frozen=True)
class KeyLimit:
    """What holds for `key`: its own limit, or the longest pattern that it begins with (`name`)."""

    key: str
    name: str
    concurrency: int | None
    rates: bool
    state: str
    closed_until_ms: int | None
    reason: str
    change_ms: int


@dataclass(frozen=True)
class LastMove:
    """The run's latest change of state."""

    time_ms: int
    actor: str
    reason: str


# One item, as far as it says why it does not run.
_ITEM = sa.select(
    *(items.c[name] for name in (
        "seq", "state", "attempt", "tries", "session", "start_ms", "end_ms", "due_ms", "lane", "rank", "error_kind",
        "error",
    ))
).where(
    items.c.run == sa.bindparam("n"), items.c.stage == sa.bindparam("s"), items.c.seq == sa.bindparam("q")
)  # fmt: skip


def item_now(connection: sa.Connection, run: int, stage: int, seq: int) -> ItemNow | None:
    """The item's row; None when it was never leased and nobody moved it."""
    row = connection.execute(_ITEM, {"n": run, "s": stage, "q": seq}).one_or_none()
    return None if row is None else item_of(row)


def item_of(row: Any) -> ItemNow:
    """From a row of SQL or of an archive."""
    return ItemNow(
        state=row.state,
        attempt=row.attempt,
        tries=row.tries,
        session=row.session,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        due_ms=row.due_ms,
        lane=row.lane or "",
        rank=row.seq if row.rank is None else row.rank,
        error_kind=row.error_kind or "",
        error=row.error or "",
    )


# The latest change of a run's state.
_LAST_MOVE = by_index("""
SELECT time_ms, actor, reason FROM events INDEXED BY events_type
WHERE run = :run AND type = 'run.state' ORDER BY number DESC LIMIT 1
""")


def last_move(connection: sa.Connection, run: int) -> LastMove | None:
    """None when its events were kept for their time."""
    rows = _LAST_MOVE.rows(connection, {"run": run})
    return LastMove(*rows[0]) if rows else None


def limits_of(connection: sa.Connection, keys: Sequence[str]) -> list[KeyLimit]:
    """The limits that hold for these keys; a key without one is absent."""
    rows = rows_of(connection, keys)
    answer = []
    for key in keys:
        row = rows[key]
        if not row.stored and row.pattern is None:
            continue
        now = row.state()
        answer.append(
            KeyLimit(
                key=key,
                name=key if row.declared or row.pattern is None else row.pattern.key,
                concurrency=now.concurrency,
                rates=bool(now.rates),
                state=str(row.valve.state),
                closed_until_ms=now.closed_until_ms,
                reason=row.reason or row.settings.reason,
                change_ms=row.change_ms or row.settings.change_ms,
            )
        )
    return answer


# When a worker of a class last gave a sign.
_SEEN = sa.text("SELECT max(seen_ms) FROM sessions WHERE worker_class = :worker_class AND ended = 0")


def worker_seen(connection: sa.Connection, worker_class: str) -> int | None:
    seen = connection.execute(_SEEN, {"worker_class": worker_class}).scalar()
    return None if seen is None else int(seen)


def retries_stopped(connection: sa.Connection) -> tuple[str, str, int] | None:
    """Who stopped all retries, why, and when; None when they go on."""
    now = switches.retries(connection)
    return None if now.allowed else (now.actor, now.reason, now.change_ms or 0)


# The earliest end of a wait among the first waiting items of a stage, by state, and how many have none.
_DUE = by_index(f"""
SELECT count(*) - count(due_ms), min(due_ms) FROM (
  SELECT due_ms FROM items {OPEN_INDEX}
  WHERE run = :run AND stage = :stage AND state = :state AND settle_number IS NULL LIMIT {LOOKED_AT}
) AS d
""")


def next_due(connection: sa.Connection, run: int, stage: int, state: str) -> tuple[int | None, bool]:
    """When the next of a stage's waiting items is due (None when none waits for a time), and whether any waits for
    something else."""
    ((held, due_ms),) = _DUE.rows(connection, {"run": run, "stage": stage, "state": state})
    return None if due_ms is None else int(due_ms), held > 0


# Open rows of a stage with a lower rank that may start, up to a bound.
_OPEN_AHEAD = by_index(f"""
SELECT count(*) FROM (
  SELECT 1 FROM items {OPEN_INDEX} WHERE run = :run AND stage = :stage AND state = 'queued'
  AND settle_number IS NULL AND COALESCE(rank, seq) < :rank LIMIT :most
) AS a
""")
# Rows from a stage's low-water mark on, below a seq: the others below it have none and are queued.
_ROWS = Statement("""
SELECT count(*) FROM (
  SELECT 1 FROM items WHERE run = :run AND stage = :stage AND seq >= :first AND seq < :seq LIMIT :most
) AS r
""")


def ahead_of(connection: sa.Connection, run: int, stage: int, *, seq: int, rank: int, low_water: int) -> int:
    """How many items of the stage come before this one; -1 when it would take long to count. `low_water`: every seq
    below it has a row."""
    values = {"run": run, "stage": stage, "rank": rank, "most": AHEAD_MOST, "first": low_water, "seq": seq}
    ((open_rows,),) = _OPEN_AHEAD.rows(connection, values)
    place = min(seq, rank)
    if open_rows >= AHEAD_MOST:
        return -1
    if place <= low_water:
        return int(open_rows)
    ((rows,),) = _ROWS.rows(connection, {**values, "seq": place})
    return -1 if rows >= AHEAD_MOST else int(open_rows) + max(0, place - low_water) - int(rows)


# Runs of which something runs now, but for one; and how many leases they hold.
_OTHERS = sa.text("""
SELECT count(DISTINCT s.run), COALESCE(sum(s.running), 0) FROM runs AS r JOIN stages AS s ON s.run = r.number
WHERE r.state = 'running' AND s.state = 'running' AND s.running > 0 AND s.worker_class = :worker_class
AND r.number <> :run
""")


def other_runs(connection: sa.Connection, run: int, worker_class: str) -> tuple[int, int]:
    """How many other runs hold leases of this worker class, and how many leases."""
    row = connection.execute(_OTHERS, {"run": run, "worker_class": worker_class}).one()
    return int(row[0]), int(row[1])
