"""What windows ask of SQL: which stages are open, and which of a plan's items have rows already.

*No row means queued*: so a window that is opened anew reads its plan from a low-water mark, below which every item has
a row, up to the highest row there is, and leaves out what has one. Rows that are queued again (a lease that was lost, a
retry that is due, an operator's word) are found by their index.

May not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.store.effects import Place
from scheduler.store.low_water import contiguous
from scheduler.store.rows import STAGE_COLUMNS, Opening, StageRow
from scheduler.store.seeing import OPEN_INDEX, by_index
from scheduler.store.statements import Statement, listed

__all__ = ["Marks", "Opening", "lane_marks", "marks", "moved_rows", "open_stages", "queued_rows", "with_rows"]

MOVED_LIMIT = 50_000
CHUNK = 50_000


@dataclass(frozen=True)
class Marks:
    """Where a stage's windows begin. low: every item below has a row, but for lanes that are read apart; high: no item
    from this seq on has a row; lanes: low-water marks of lanes that are read apart; moved: queued rows that an operator
    moved."""

    low: int
    high: int
    lanes: dict[str, int]
    moved: list[Place]


# Stages that may be leased from.
_OPENINGS = f"""
SELECT r.run_id, r.plan_id, r.epoch, r.owner, r.priority, {", ".join(f"s.{column.name}" for column in STAGE_COLUMNS)}
FROM runs AS r JOIN stages AS s ON s.run = r.number
WHERE r.state = 'running' AND s.state = 'running' AND r.waiting = '' AND s.failing = ''
"""  # what waits for money, or fails once nothing of it runs, is not proposed
_OPEN = Statement(_OPENINGS)
_OPEN_OF = Statement(f"{_OPENINGS} AND r.number = :number")


def open_stages(connection: sa.Connection, number: int | None) -> list[Opening]:
    """Stages that may be leased from now, of one run or of all."""
    found = _OPEN.rows(connection, {}) if number is None else _OPEN_OF.rows(connection, {"number": number})
    return [Opening(row[0], row[1], row[2], row[3], row[4], StageRow(*row[5:])) for row in found]


# The highest row of a stage.
_HIGHEST = Statement("SELECT max(seq) FROM items WHERE run = :run AND stage = :stage")
# Queued rows that were moved, first those that come first.
_MOVED = by_index(f"""
SELECT seq, coalesce(lane, ''), rank FROM items {OPEN_INDEX}
WHERE run = :run AND stage = :stage AND state = 'queued' AND settle_number IS NULL AND rank IS NOT NULL
ORDER BY rank LIMIT :most
""")
# Queued rows in order of seq.
_QUEUED = by_index(f"""
SELECT seq, coalesce(lane, ''), rank FROM items {OPEN_INDEX}
WHERE run = :run AND stage = :stage AND state = 'queued' AND settle_number IS NULL AND seq > :after
ORDER BY seq LIMIT :most
""")
# Where lanes that are read apart must be read from.
_LANES = Statement("SELECT lane, cursor FROM lane_cursors WHERE run = :run AND stage = :stage")


def marks(connection: sa.Connection, run: int, stage: int, low: int) -> Marks:
    """`low` is the mark that was kept; while the stage is read as one, rows may say more."""
    key = {"run": run, "stage": stage}
    ((highest,),) = _HIGHEST.rows(connection, key)
    lanes, moved = lane_marks(connection, run, stage), moved_rows(connection, run, stage)
    high = 0 if highest is None else int(highest) + 1
    while not lanes and low < high:
        further = contiguous(connection, (run, stage), low, CHUNK)
        if further < low + CHUNK:
            low = further
            break
        low = further
    return Marks(low, high, lanes, moved)


def moved_rows(connection: sa.Connection, run: int, stage: int) -> list[Place]:
    """Queued rows that an operator moved, the first ones first."""
    values = {"run": run, "stage": stage, "most": MOVED_LIMIT}
    return [(seq, lane, rank) for seq, lane, rank in _MOVED.rows(connection, values)]


def lane_marks(connection: sa.Connection, run: int, stage: int) -> dict[str, int]:
    """Low-water marks of the lanes that are read apart."""
    return {lane: int(cursor) for lane, cursor in _LANES.rows(connection, {"run": run, "stage": stage})}


def queued_rows(connection: sa.Connection, run: int, stage: int, after_seq: int, limit: int) -> list[Place]:
    """Rows after a seq that can start, at most `limit`, with their rank."""
    found = _QUEUED.rows(connection, {"run": run, "stage": stage, "after": after_seq, "most": limit})
    return [(seq, lane, seq if rank is None else rank) for seq, lane, rank in found]


# Which of these items have rows.
_ROWS = Statement(
    "SELECT seq FROM items WHERE run = :run AND stage = :stage AND seq IN (SELECT value FROM json_each(:seqs))",
    postgresql="SELECT i.seq FROM unnest(CAST(:seqs AS bigint[])) AS v(seq) CROSS JOIN LATERAL "
    "(SELECT seq FROM items WHERE run = :run AND stage = :stage AND seq = v.seq OFFSET 0) AS i",
)


def with_rows(connection: sa.Connection, run: int, stage: int, seqs: Sequence[int]) -> set[int]:
    """Those of these items that have a row."""
    wanted = listed(connection, list(seqs), "bigint")
    return {seq for (seq,) in _ROWS.rows(connection, {"run": run, "stage": stage, "seqs": wanted})}
