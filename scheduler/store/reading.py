"""What windows ask of SQL: which stages are open, and which of a plan's items have rows already.

*No row means queued*: so a window that is opened anew reads its plan from a low-water mark, below which every item has
a row, up to the highest row there is, and leaves out what has one. Rows that are queued again (a lease that was lost, a
retry that is due, an operator's word) are found by their index.

May not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from scheduler.domain.states import RunState, StageState
from scheduler.store.effects import Place
from scheduler.store.low_water import contiguous
from scheduler.store.rows import STAGE_COLUMNS, StageRow
from scheduler.store.schema import lane_cursors, runs, stages

__all__ = ["Marks", "Opening", "lane_marks", "marks", "open_stages", "queued_rows", "with_rows"]

MOVED_LIMIT = 50_000
CHUNK = 50_000


@dataclass(frozen=True)
class Opening:
    """A running stage of a running run."""

    run_id: str
    plan_id: str
    epoch: int
    owner: str
    priority: int
    row: StageRow


@dataclass(frozen=True)
class Marks:
    """Where a stage's windows begin. low: every item below has a row, but for lanes that are read apart; high: no item
    from this seq on has a row; lanes: low-water marks of lanes that are read apart; moved: queued rows that an operator
    moved."""

    low: int
    high: int
    lanes: dict[str, int]
    moved: list[Place]


_OPEN = (
    sa.select(runs.c.run_id, runs.c.plan_id, runs.c.epoch, runs.c.owner, runs.c.priority, *STAGE_COLUMNS)
    .join(stages, stages.c.run == runs.c.number)
    .where(runs.c.state == RunState.RUNNING, stages.c.state == StageState.RUNNING)
    # What waits for money, or fails once nothing of it runs, is not proposed.
    .where(runs.c.waiting == "", stages.c.failing == "")
)
_OPEN_OF = _OPEN.where(runs.c.number == sa.bindparam("number"))


def open_stages(connection: sa.Connection, number: int | None) -> list[Opening]:
    """Stages that may be leased from now, of one run or of all."""
    found = connection.execute(_OPEN) if number is None else connection.execute(_OPEN_OF, {"number": number})
    return [Opening(row[0], row[1], row[2], row[3], row[4], StageRow(*row[5:])) for row in found]


# The highest row of a stage.
_HIGHEST = sa.text("SELECT max(seq) FROM items WHERE run = :run AND stage = :stage")
# Queued rows that were moved, first those that come first.
_MOVED = sa.text("""
SELECT seq, coalesce(lane, ''), rank FROM items
WHERE run = :run AND stage = :stage AND state = 'queued' AND settle_number IS NULL AND rank IS NOT NULL
ORDER BY rank LIMIT :most
""")
# Queued rows in order of seq.
_QUEUED = sa.text("""
SELECT seq, coalesce(lane, ''), rank FROM items
WHERE run = :run AND stage = :stage AND state = 'queued' AND settle_number IS NULL AND seq > :after
ORDER BY seq LIMIT :most
""")
_LANES = sa.select(lane_cursors.c.lane, lane_cursors.c.cursor).where(
    lane_cursors.c.run == sa.bindparam("run"), lane_cursors.c.stage == sa.bindparam("stage")
)


def marks(connection: sa.Connection, run: int, stage: int, low: int) -> Marks:
    """`low` is the mark that was kept; while the stage is read as one, rows may say more."""
    key = {"run": run, "stage": stage}
    highest = connection.execute(_HIGHEST, key).scalar()
    lanes = lane_marks(connection, run, stage)
    moved = [(row[0], row[1], row[2]) for row in connection.execute(_MOVED, {**key, "most": MOVED_LIMIT})]
    high = 0 if highest is None else int(highest) + 1
    while not lanes and low < high:
        further = contiguous(connection, (run, stage), low, CHUNK)
        if further < low + CHUNK:
            low = further
            break
        low = further
    return Marks(low, high, lanes, moved)


def lane_marks(connection: sa.Connection, run: int, stage: int) -> dict[str, int]:
    """Low-water marks of the lanes that are read apart."""
    return {row[0]: int(row[1]) for row in connection.execute(_LANES, {"run": run, "stage": stage})}


def queued_rows(connection: sa.Connection, run: int, stage: int, after_seq: int, limit: int) -> list[Place]:
    """Rows after a seq that can start, at most `limit`, with their rank."""
    found = connection.execute(_QUEUED, {"run": run, "stage": stage, "after": after_seq, "most": limit})
    return [(seq, lane, seq if rank is None else rank) for seq, lane, rank in found]


# Which of these items have rows.
_ROWS_SQLITE = sa.text(
    "SELECT seq FROM items WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))"
)
_ROWS_POSTGRESQL = sa.text(
    "SELECT i.seq FROM unnest(CAST(:seqs AS bigint[])) AS v(seq) CROSS JOIN LATERAL "
    "(SELECT seq FROM items WHERE run = :run AND stage = :stage AND seq = v.seq OFFSET 0) AS i"
)


def with_rows(connection: sa.Connection, run: int, stage: int, seqs: Sequence[int]) -> set[int]:
    """Those of these items that have a row."""
    key = {"run": run, "stage": stage}
    if connection.dialect.name == "sqlite":
        result = connection.execute(_ROWS_SQLITE, {**key, "seqs": orjson.dumps(list(seqs)).decode()})
    else:
        result = connection.execute(_ROWS_POSTGRESQL, {**key, "seqs": list(seqs)})
    return set(result.scalars())
