"""Runs on their way out of SQL: which are due, their rows chunk by chunk, the mark that they are archived, the purge.

A run's rows are read in chunks without a lock; what is marked is only what did not change meanwhile: any change of an
ended run (a reopening, a late report) is an event, so the run's event number, seen before the first chunk, must still
be its event number when the mark is set under the lock. From that mark on the rows are read from the archive, and no
command takes the run; its rows go in bounded chunks, again and again until none is left, whoever dies in between.

Runs, stages, events (for their time), failures and the last hour's throughput stay: they are the summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scheduler.domain.states import ENDED_RUNS
from scheduler.store.locking import lock
from scheduler.store.schema import actions, attempts, events, items, lane_cursors, ledger, runs, stages

__all__ = [
    "Bite",
    "Due",
    "chunk",
    "due_runs",
    "forget_events",
    "mark",
    "old_events",
    "purge",
    "unpurged",
]

_ENDED = sorted(str(state) for state in ENDED_RUNS)


@dataclass(frozen=True)
class Due:
    """A run that is to be archived, as it was when it was chosen."""

    number: int
    run_id: str
    event_number: int


# Ended long enough ago and not archived, the oldest end first.
_DUE = (
    sa.select(runs.c.number, runs.c.run_id, runs.c.event_number)
    .where(
        runs.c.archive.is_(None), runs.c.end_ms.is_not(None), runs.c.end_ms <= sa.bindparam("before"),
        runs.c.state.in_(_ENDED),
    )
    .order_by(runs.c.end_ms, runs.c.number)
    .limit(sa.bindparam("most"))
)  # fmt: skip


def due_runs(connection: sa.Connection, before_ms: int, most: int) -> list[Due]:
    """Runs that ended before `before_ms` and are not archived."""
    return [Due(*row) for row in connection.execute(_DUE, {"before": before_ms, "most": most})]


# The next rows of a run in order of (stage, seq), as the archive has them.
_ITEMS = (
    sa.select(
        items.c.stage, items.c.seq, items.c.key, items.c.grp.label("group"), items.c.lane, items.c.state,
        items.c.attempt, items.c.tries, items.c.session.label("worker"), items.c.start_ms, items.c.end_ms,
        items.c.due_ms, items.c.settle_number, items.c.error_kind, items.c.error, items.c.fingerprint, items.c.result,
        items.c.result_blob, items.c.result_size, items.c.cost_micros, items.c.reserved_micros, items.c.rank,
        items.c.mode, items.c.heals, items.c.healed,
    )
    .where(
        items.c.run == sa.bindparam("n"), items.c.stage == sa.bindparam("s"), items.c.seq >= sa.bindparam("first"),
        items.c.seq < sa.bindparam("end"),
    )
    .order_by(items.c.seq)
)  # fmt: skip
# The same of ended attempts.
_ATTEMPTS = (
    sa.select(
        attempts.c.stage, attempts.c.seq, attempts.c.attempt, attempts.c.ended, attempts.c.session.label("worker"),
        attempts.c.start_ms, attempts.c.end_ms, attempts.c.error_kind, attempts.c.error, attempts.c.fingerprint,
        attempts.c.mode, attempts.c.reserved_micros, attempts.c.cost_micros,
    )
    .where(
        attempts.c.run == sa.bindparam("n"), attempts.c.stage == sa.bindparam("s"),
        attempts.c.seq >= sa.bindparam("first"), attempts.c.seq < sa.bindparam("end"),
    )
    .order_by(attempts.c.seq, attempts.c.attempt)
)  # fmt: skip
# The next events of a run.
_EVENTS = (
    sa.select(
        events.c.number, events.c.time_ms, events.c.type, events.c.subject, events.c.actor, events.c.old_state,
        events.c.new_state, events.c.reason, events.c.data,
    )
    .where(
        events.c.run == sa.bindparam("n"), events.c.number >= sa.bindparam("first"),
        events.c.number < sa.bindparam("end"),
    )
    .order_by(events.c.number)
)  # fmt: skip
# The next batches of its ledger.
_LEDGER = (
    sa.select(ledger.c.number, ledger.c.time_ms, ledger.c.stage, ledger.c.entries)
    .where(
        ledger.c.run == sa.bindparam("n"),
        ledger.c.number >= sa.bindparam("first"),
        ledger.c.number < sa.bindparam("end"),
    )
    .order_by(ledger.c.number)
)


_ROWS = {"items": _ITEMS, "attempts": _ATTEMPTS, "events": _EVENTS, "ledger": _LEDGER}
_JSON = {"result", "data", "entries"}
# The next place in use: the first entry of an index after another, whatever lies between.
_NEXT_IN_STAGE = {
    table: sa.text(f"SELECT min(seq) FROM {table} WHERE run = :n AND stage = :s AND seq > :after")
    for table in ("items", "attempts")
}
_NEXT_NUMBER = {
    table: sa.text(f"SELECT min(number) FROM {table} WHERE run = :n AND number > :after")
    for table in ("events", "ledger")
}


def chunk(
    connection: sa.Connection, table: str, number: int, stage: int, *, after: int, width: int
) -> tuple[list[dict[str, Any]], int]:
    """The next rows of a table (of a stage, for items and attempts) after a place, as the archive has them, and the
    place up to which that is all: rows of `width` places are read. No rows: there are no more."""
    values = {"n": number, "s": stage, "after": after}
    first = connection.execute(_next_place(table), values).scalar()
    if first is None:
        return [], after
    found = connection.execute(_ROWS[table], {**values, "first": first, "end": first + width})
    names = [str(name) for name in found.keys()]  # noqa: SIM118  # SQLAlchemy's own kind of text is no JSON key
    rows = [dict(zip(names, row, strict=True)) for row in found]
    for row in rows:
        for name in _JSON & row.keys():
            row[name] = _json(row[name])
    return rows, first + width - 1


def _next_place(table: str) -> sa.TextClause:
    return _NEXT_IN_STAGE[table] if table in _NEXT_IN_STAGE else _NEXT_NUMBER[table]


def _json(data: bytes | None) -> str | None:
    """JSON of ours is UTF-8; what is not is kept readable."""
    return None if data is None else data.decode(errors="replace")


def mark(connection: sa.Connection, due: Due, archive: str, now_ms: int) -> bool:
    """Sets the mark under the run's lock, unless the run has changed since it was chosen. No event tells of it: the
    archive has all of them."""
    unit = lock(connection, due.number, now_ms)
    if unit is None or unit.run.archive is not None or unit.run.event_number != due.event_number:
        return False
    if unit.run.state not in ENDED_RUNS:
        return False
    connection.execute(sa.update(runs).where(runs.c.number == due.number).values(archive=archive, archive_ms=now_ms))
    return True


# Archived runs of which rows are left; through the few archived runs by key, each a look at one row.
_UNPURGED = sa.text("""
SELECT number FROM runs AS r WHERE archive IS NOT NULL AND (
  EXISTS (SELECT 1 FROM items WHERE run = r.number) OR EXISTS (SELECT 1 FROM attempts WHERE run = r.number)
  OR EXISTS (SELECT 1 FROM ledger WHERE run = r.number))
ORDER BY number LIMIT :most
""")


def unpurged(connection: sa.Connection, most: int) -> list[int]:
    """Archived runs that still have rows."""
    return list(connection.execute(_UNPURGED, {"most": most}).scalars())


@dataclass(frozen=True)
class Bite:
    """Where the purge of a run has come to: up to `after` in a stage of a table everything is gone."""

    table: str = "items"
    stage: int = 0
    after: int = -1


def purge(connection: sa.Connection, number: int, at: Bite, width: int) -> tuple[int, Bite | None]:
    """Removes the next rows of an archived run, of so many places; how many, and where to go on (None: it is done)."""
    if connection.execute(sa.select(runs.c.archive).where(runs.c.number == number)).scalar() is None:
        return 0, None
    if at == Bite():
        connection.execute(sa.delete(actions).where(actions.c.run == number))
        connection.execute(sa.delete(lane_cursors).where(lane_cursors.c.run == number))
    stages_ = connection.execute(sa.select(sa.func.count()).select_from(stages).where(stages.c.run == number))
    count, after = _purge(connection, at.table, number, at.stage, at.after, width)
    if count or after > at.after:
        return count, Bite(at.table, at.stage, after)
    if at.table == "ledger":
        return 0, None
    if at.stage + 1 < stages_.scalar_one():
        return 0, Bite(at.table, at.stage + 1)
    return 0, Bite("attempts" if at.table == "items" else "ledger")


def _purge(connection: sa.Connection, table: str, number: int, stage: int, after: int, width: int) -> tuple[int, int]:
    values = {"n": number, "s": stage, "after": after}
    first = connection.execute(_next_place(table), values).scalar()
    if first is None:
        return 0, after
    place = "stage = :s AND seq" if table in _NEXT_IN_STAGE else "number"
    result = connection.execute(
        sa.text(f"DELETE FROM {table} WHERE run = :n AND {place} >= :first AND {place.split()[-1]} < :end"),
        {**values, "first": first, "end": first + width},
    )
    return result.rowcount, first + width - 1


# Archived runs that have events of before their time; the oldest archives first.
_OLD_EVENTS = sa.text("""
SELECT number FROM runs AS r WHERE archive IS NOT NULL AND archive_ms <= :before
AND EXISTS (SELECT 1 FROM events WHERE run = r.number) ORDER BY archive_ms LIMIT 1
""")


def old_events(connection: sa.Connection, before_ms: int) -> int | None:
    """A run that was archived before `before_ms` and still has events."""
    return connection.execute(_OLD_EVENTS, {"before": before_ms}).scalar()


def forget_events(connection: sa.Connection, before_ms: int, most: int) -> int:
    """Removes events of such a run, at most `most`; its archive has them."""
    number = old_events(connection, before_ms)
    return 0 if number is None else _purge(connection, "events", number, 0, 0, most)[0]
