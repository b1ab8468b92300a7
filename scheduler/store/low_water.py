"""Low-water marks: from where a stage, or a lane that is read apart, must be read again when its window is lost.

Below the mark every item has a row. Marks only rise; one that lies too low costs a longer read, one that lies too high
would lose items: so they are moved only past rows that are there.
"""

from __future__ import annotations

import sqlalchemy as sa

from scheduler.store.effects import Effects, StageKey
from scheduler.store.locking import lock
from scheduler.store.statements import Statement

__all__ = ["contiguous", "raise_lane", "raise_stage", "split_lane"]

# How far rows go on without a gap, from a seq on: the n-th row must be the n-th seq.
_CONTIGUOUS = Statement("""
SELECT max(seq) FROM (
  SELECT seq, row_number() OVER (ORDER BY seq) + :low - 1 AS place FROM (
    SELECT seq FROM items WHERE run = :run AND stage = :stage AND seq >= :low ORDER BY seq LIMIT :most
  ) AS rows
) AS placed WHERE seq = place
""")
# Where a lane that is read apart from now on must be read from.
_SPLIT = sa.text("""
INSERT INTO lane_cursors (run, stage, lane, cursor) VALUES (:run, :stage, :lane, :cursor)
ON CONFLICT (run, stage, lane) DO NOTHING
""")
# Move the mark of such a lane, never down.
_RAISE_LANE = sa.text("""
UPDATE lane_cursors SET cursor = :cursor WHERE run = :run AND stage = :stage AND lane = :lane AND cursor < :cursor
""")


def contiguous(connection: sa.Connection, key: StageKey, low: int, most: int) -> int:
    """The first seq from `low` on that has no row, looking at `most` rows."""
    values = {"run": key[0], "stage": key[1], "low": low, "most": most}
    ((found,),) = _CONTIGUOUS.rows(connection, values)
    return low if found is None else int(found) + 1


def raise_stage(connection: sa.Connection, effects: Effects, key: StageKey, low: int, now_ms: int) -> None:
    """Moves the mark of a stage up to `low`."""
    unit = lock(connection, key[0], now_ms)
    if unit is not None:
        stage = unit.stages[key[1]]
        stage.cursor = max(stage.cursor, low)
        unit.flush(effects)


def split_lane(connection: sa.Connection, key: StageKey, lane: str, low: int) -> None:
    """Gives a lane a mark of its own."""
    connection.execute(_SPLIT, {"run": key[0], "stage": key[1], "lane": lane, "cursor": low})


def raise_lane(connection: sa.Connection, key: StageKey, lane: str, low: int) -> None:
    connection.execute(_RAISE_LANE, {"run": key[0], "stage": key[1], "lane": lane, "cursor": low})
