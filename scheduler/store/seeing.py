"""Reads of constant size for a summary: whatever the run's size, each takes a bounded number of rows by index.

It may not count or sort what grows with a run. A read that fails says `sql_unavailable`, and nothing is lost by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

__all__ = ["OPEN_INDEX", "Group", "Running", "by_index", "failure_groups", "minutes_of", "oldest_running"]

LOOKED_AT = 500
"""Of a stage's running items the first so many in order of seq: one that got stuck is among them, since items start in
that order."""


OPEN_INDEX = "INDEXED BY items_open"


def by_index(text: str) -> Mapping[str, sa.TextClause]:
    """The statement by dialect. SQLite is told the index: without statistics it takes the primary key, through every
    row of the stage; PostgreSQL has no such word."""
    return {"sqlite": sa.text(text), "postgresql": sa.text(re.sub(r"INDEXED BY \w+", "", text))}


@dataclass(frozen=True)
class Running:
    stage: int
    seq: int
    key: str
    session: str
    attempt: int
    mode: int
    start_ms: int


@dataclass(frozen=True)
class Group:
    stage: int
    fingerprint: str
    kind: str
    count: int
    seq: int
    key: str
    error: str
    first_ms: int
    last_ms: int


# The oldest of the first running items of a stage. The inner query has no order, so that PostgreSQL has no reason to
# take the primary key.
_RUNNING = by_index(f"""
SELECT r.stage, r.seq, r.key, r.session, r.attempt, r.mode, COALESCE(r.start_ms, 0) FROM (
  SELECT stage, seq, key, session, attempt, mode, start_ms FROM items {OPEN_INDEX}
  WHERE run = :run AND stage = :stage AND state = 'running' AND settle_number IS NULL LIMIT {LOOKED_AT}
) AS r ORDER BY r.start_ms, r.seq LIMIT :limit
""")

# The largest groups of a run, the latest first among equals; a stage has at most 1,001.
_GROUPS = sa.text("""
SELECT stage, fingerprint, kind, count, seq, key, error, first_ms, last_ms FROM failures
WHERE run = :run ORDER BY count DESC, last_ms DESC LIMIT :limit
""")
_GROUP_COUNT = sa.text("SELECT count(*) FROM failures WHERE run = :run")

# What a run settled by minute; about 70 are kept.
_MINUTES = sa.text("SELECT minute, settled FROM throughput WHERE run = :run")


def oldest_running(connection: sa.Connection, run: int, stage: int, limit: int) -> list[Running]:
    """Running items of a stage, the oldest first."""
    values = {"run": run, "stage": stage, "limit": limit}
    return [Running(*row) for row in connection.execute(_RUNNING[connection.dialect.name], values)]


def failure_groups(connection: sa.Connection, run: int, limit: int) -> tuple[list[Group], int]:
    """The largest groups of failures, and how many there are."""
    groups = [Group(*row) for row in connection.execute(_GROUPS, {"run": run, "limit": limit})]
    if len(groups) < limit:
        return groups, len(groups)
    return groups, int(connection.execute(_GROUP_COUNT, {"run": run}).scalar_one())


def minutes_of(connection: sa.Connection, run: int) -> dict[int, int]:
    """Items settled, by minute since the epoch."""
    return {row.minute: row.settled for row in connection.execute(_MINUTES, {"run": run})}
