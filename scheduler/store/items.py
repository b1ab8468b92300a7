"""The hot statements: grant and settle batches of items, on SQLite and on PostgreSQL.

Each takes a whole batch of one stage in one statement: JSON on SQLite, arrays on PostgreSQL. Nothing depends on table
statistics: the PostgreSQL update finds each row by its key in a lateral sub-query that the planner cannot turn around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import ItemState
from scheduler.store.effects import Place, Slot
from scheduler.store.schema import attempts
from scheduler.store.unit import RunUnit, StageRow

__all__ = [
    "Granted",
    "ItemRow",
    "Proposal",
    "Settled",
    "grant",
    "record_attempts",
    "rows_of",
    "settle",
]


@dataclass(frozen=True)
class Proposal:
    """An item that Redis proposes to lease."""

    seq: int
    key: str
    group: str
    lane: str = ""
    rank: int | None = None

    @property
    def place(self) -> Place:
        return self.seq, self.lane, self.seq if self.rank is None else self.rank


@dataclass(frozen=True)
class Granted:
    seq: int
    attempt: int
    tries: int
    alone: bool


@dataclass(frozen=True)
class ItemRow:
    """What a decision about an ended attempt needs to know of its row."""

    seq: int
    state: str
    attempt: int
    tries: int
    suspect: int
    session: str
    grant_number: int
    start_ms: int | None
    digest: bytes | None
    lane: str
    rank: int | None
    uses: str | None

    @property
    def slot(self) -> Slot:
        return self.seq, self.lane

    @property
    def place(self) -> Place:
        return self.seq, self.lane, self.seq if self.rank is None else self.rank


@dataclass(frozen=True)
class Settled:
    """An ended attempt as its row will say it. `settle_number` is set when it is the item's end."""

    seq: int
    attempt: int
    state: str
    tries: int
    suspect: int
    end_ms: int
    due_ms: int | None
    settle_number: int | None
    digest: bytes | None
    error_kind: str | None
    error: str | None
    result: bytes | None
    result_blob: str | None
    result_size: int | None


# Lease a batch: new rows for what was never leased, the next attempt for what is startable; the rest is refused.
_GRANT_TAIL = """
ON CONFLICT (run, stage, seq) DO UPDATE SET was = items.state, state = 'running', attempt = items.attempt + 1,
  session = excluded.session, grant_number = excluded.grant_number, start_ms = excluded.start_ms, end_ms = NULL,
  due_ms = NULL, error_kind = NULL, error = NULL, digest = NULL, uses = excluded.uses
WHERE items.state IN ('queued', 'retry', 'deferred')
RETURNING seq, attempt, tries, suspect, was
"""
_GRANT_HEAD = """
INSERT INTO items (run, stage, seq, key, grp, state, attempt, tries, suspect, session, grant_number, start_ms, uses,
  lane, rank)
"""
_GRANT_SQLITE = sa.text(
    _GRANT_HEAD
    + """SELECT :run, :stage, value ->> 0, value ->> 1, value ->> 2, 'running', 1, 0, 0, :session, :grant, :now, :uses,
  value ->> 3, value ->> 4 FROM json_each(:rows) WHERE true"""
    + _GRANT_TAIL
)
_GRANT_POSTGRESQL = sa.text(
    _GRANT_HEAD
    + """SELECT :run, :stage, v.seq, v.key, v.grp, 'running', 1, 0, 0, :session, :grant, :now, :uses, v.lane, v.rank
FROM unnest(CAST(:seqs AS bigint[]), CAST(:keys AS text[]), CAST(:groups AS text[]), CAST(:lanes AS text[]),
  CAST(:ranks AS bigint[])) AS v(seq, key, grp, lane, rank)"""
    + _GRANT_TAIL
)


def grant(
    unit: RunUnit, stage: StageRow, proposals: Sequence[Proposal], *, session: str, grant_number: int, uses: str
) -> list[Granted]:
    """Leases what is startable; moves the stage's counters and cursor. What is not in the answer was refused."""
    common = {
        "run": stage.run,
        "stage": stage.stage,
        "session": session,
        "grant": grant_number,
        "now": unit.now_ms,
        "uses": uses or None,
    }
    if unit.connection.dialect.name == "sqlite":
        rows = orjson.dumps([(p.seq, p.key, p.group, p.lane or None, p.rank) for p in proposals]).decode()
        result = unit.connection.execute(_GRANT_SQLITE, {**common, "rows": rows})
    else:
        result = unit.connection.execute(
            _GRANT_POSTGRESQL,
            {
                **common,
                "seqs": [p.seq for p in proposals],
                "keys": [p.key for p in proposals],
                "groups": [p.group for p in proposals],
                "lanes": [p.lane or None for p in proposals],
                "ranks": [p.rank for p in proposals],
            },
        )
    granted = []
    highest = stage.cursor - 1
    for seq, attempt, tries, suspect, was in result:
        granted.append(Granted(seq, attempt, tries, suspect >= ALONE))
        highest = max(highest, seq)
        if was == ItemState.RETRY:
            stage.retry -= 1
        elif was == ItemState.DEFERRED:
            stage.deferred -= 1
    stage.running += len(granted)
    stage.cursor = highest + 1
    granted.sort(key=lambda g: g.seq)
    return granted


_ROW = "{0}seq, {0}state, {0}attempt, {0}tries, {0}suspect, {0}session, {0}grant_number, {0}start_ms, {0}digest, "
_ROW += "coalesce({0}lane, ''), {0}rank, {0}uses"
_ROWS_SQLITE = sa.text(
    f"SELECT {_ROW.format('')} FROM items "
    "WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))"
)
_ROWS_POSTGRESQL = sa.text(
    f"SELECT {_ROW.format('i.')} "
    "FROM unnest(CAST(:seqs AS bigint[])) AS v(seq) CROSS JOIN LATERAL "
    "(SELECT * FROM items WHERE run = :run AND stage = :stage AND seq = v.seq OFFSET 0) AS i"
)


def rows_of(connection: sa.Connection, run: int, stage: int, seqs: Sequence[int]) -> dict[int, ItemRow]:
    """The rows of these items, by seq; one without a row is absent."""
    values = {"run": run, "stage": stage}
    if connection.dialect.name == "sqlite":
        result = connection.execute(_ROWS_SQLITE, {**values, "seqs": orjson.dumps(list(seqs)).decode()})
    else:
        result = connection.execute(_ROWS_POSTGRESQL, {**values, "seqs": list(seqs)})
    return {row[0]: ItemRow(*row) for row in result}


# Settle a batch, each under its fence.
_SETTLE_SQLITE = """
UPDATE items SET state = ?, tries = ?, suspect = ?, end_ms = ?, due_ms = ?, settle_number = ?, digest = ?,
  error_kind = ?, error = ?, result = ?, result_blob = ?, result_size = ?
WHERE run = ? AND stage = ? AND seq = ? AND attempt = ? AND state = 'running'
"""
_SETTLE_POSTGRESQL = sa.text("""
UPDATE items SET state = v.state, tries = v.tries, suspect = v.suspect, end_ms = v.end_ms, due_ms = v.due_ms,
  settle_number = v.settle_number, digest = v.digest, error_kind = v.error_kind, error = v.error, result = v.result,
  result_blob = v.result_blob, result_size = v.result_size
FROM unnest(CAST(:seq AS bigint[]), CAST(:attempt AS int[]), CAST(:state AS text[]), CAST(:tries AS int[]),
  CAST(:suspect AS int[]), CAST(:end_ms AS bigint[]), CAST(:due_ms AS bigint[]), CAST(:settle_number AS bigint[]),
  CAST(:digest AS bytea[]), CAST(:error_kind AS text[]), CAST(:error AS text[]), CAST(:result AS bytea[]),
  CAST(:result_blob AS text[]), CAST(:result_size AS bigint[]))
  AS v(seq, attempt, state, tries, suspect, end_ms, due_ms, settle_number, digest, error_kind, error, result,
  result_blob, result_size)
CROSS JOIN LATERAL (SELECT ctid AS at FROM items
  WHERE run = :run AND stage = :stage AND seq = v.seq AND attempt = v.attempt AND state = 'running' OFFSET 0) AS found
WHERE items.ctid = found.at
""")


def settle(unit: RunUnit, stage: StageRow, settled: Sequence[Settled]) -> None:
    """Writes ended attempts. The caller has read the rows under this lock, so every fence holds; one that does not is a
    defect and ends the transaction."""
    if not settled:
        return
    if unit.connection.dialect.name == "sqlite":
        values = [
            (
                s.state,
                s.tries,
                s.suspect,
                s.end_ms,
                s.due_ms,
                s.settle_number,
                s.digest,
                s.error_kind,
                s.error,
                s.result,
                s.result_blob,
                s.result_size,
                stage.run,
                stage.stage,
                s.seq,
                s.attempt,
            )
            for s in settled
        ]
        count = unit.connection.exec_driver_sql(_SETTLE_SQLITE, values).rowcount
    else:
        columns: dict[str, Any] = {name: [getattr(s, name) for s in settled] for name in Settled.__dataclass_fields__}
        count = unit.connection.execute(
            _SETTLE_POSTGRESQL, {**columns, "run": stage.run, "stage": stage.stage}
        ).rowcount
    if count != len(settled):
        raise AssertionError(
            f"run {unit.run.run_id} stage {stage.stage}: {count} of {len(settled)} fences held under the run's lock"
        )
    stage.running -= len(settled)
    for s in settled:
        if s.state == ItemState.COMPLETED:
            stage.completed += 1
        elif s.state == ItemState.FAILED:
            stage.failed += 1
        elif s.state == ItemState.RETRY:
            stage.retry += 1
        elif s.state == ItemState.STOPPED:
            stage.stopped += 1


def record_attempts(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keeps ended attempts that their item's row will forget."""
    if rows:
        connection.execute(sa.insert(attempts), list(rows))
