"""Reads of constant size for a summary: whatever the run's size, each takes a bounded number of rows by index.

It may not count or sort what grows with a run. A read that fails says `sql_unavailable`, and nothing is lost by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scheduler.domain.states import ItemState
from scheduler.store.limit_reads import ANYTHING_CLOSED
from scheduler.store.statements import Statement, Values, together

__all__ = ["OPEN_INDEX", "Group", "Running", "Seen", "by_index", "seen"]

LOOKED_AT = 500
"""Of a stage's running items the first so many in order of seq: one that got stuck is among them, since items start in
that order."""


OPEN_INDEX = "INDEXED BY items_open"


def by_index(text: str) -> Statement:
    """SQLite is told the index: without statistics it takes the primary key, through every row of the stage;
    PostgreSQL has no such word."""
    return Statement(text, postgresql=re.sub(r"INDEXED BY \w+", "", text))


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


@dataclass(frozen=True)
class Seen:
    """minutes: items settled, by minute since the epoch; groups: the largest ones of failures, of `group_count`;
    running: the oldest running items first; closed: whether any limit lets nothing through; held: of the first items
    of each stage that are to be retried those without a due time; due_ms: the latest due time that was found."""

    minutes: dict[int, int]
    groups: list[Group]
    group_count: int
    running: list[Running]
    closed: bool
    held: int
    due_ms: int | None


# The oldest of the first running items of a stage. The inner query has no order, so that PostgreSQL has no reason to
# take the primary key.
_RUNNING = by_index(f"""
SELECT r.stage, r.seq, r.key, r.session, r.attempt, r.mode, COALESCE(r.start_ms, 0) FROM (
  SELECT stage, seq, key, session, attempt, mode, start_ms FROM items {OPEN_INDEX}
  WHERE run = :run AND stage = :stage AND state = 'running' AND settle_number IS NULL LIMIT {LOOKED_AT}
) AS r ORDER BY r.start_ms, r.seq LIMIT :most
""")
# When the last of the first waiting items of a stage is due, and how many of them have no time.
_WAITING = by_index(f"""
SELECT max(due_ms), count(*) - count(due_ms) FROM (
  SELECT due_ms FROM items {OPEN_INDEX}
  WHERE run = :run AND stage = :stage AND state = :state AND settle_number IS NULL LIMIT {LOOKED_AT}
) AS w
""")
# The same of a run among the items of all runs that are due last: where many wait, it is the first ones of a stage
# that are seen, or those that wait longest.
_DUE_LAST = by_index(f"""
SELECT max(due_ms) FROM (
  SELECT run, due_ms FROM items INDEXED BY items_due WHERE due_ms > :now ORDER BY due_ms DESC LIMIT {LOOKED_AT}
) AS d WHERE run = :run
""")
# The largest groups of a run, the latest first among equals; a stage has at most 1,001.
_GROUPS = Statement("""
SELECT stage, fingerprint, kind, count, seq, key, error, first_ms, last_ms FROM failures
WHERE run = :run ORDER BY count DESC, last_ms DESC LIMIT :most
""")
# How many there are.
_GROUP_COUNT = Statement("SELECT count(*) FROM failures WHERE run = :run")
# What a run settled by minute; about 70 are kept.
_MINUTES = Statement("SELECT minute, settled FROM throughput WHERE run = :run")


def seen(
    connection: sa.Connection,
    run: int,
    now_ms: int,
    *,
    running_of: Sequence[int],
    waiting_of: Sequence[tuple[int, ItemState]],
    most_running: int,
    most_groups: int,
) -> Seen:
    """All of it, in one exchange with the server; `running_of`: the stages of which something runs; `waiting_of`: of
    which something waits by itself, and in which state."""
    of = {"run": run}
    asked: list[tuple[Statement, Values]] = [
        (_MINUTES, of),
        (_GROUPS, {**of, "most": most_groups}),
        (_GROUP_COUNT, of),
        (ANYTHING_CLOSED, {}),
        *((_RUNNING, {**of, "stage": stage, "most": most_running}) for stage in running_of),
        *((_WAITING, {**of, "stage": stage, "state": state}) for stage, state in waiting_of),
        *([(_DUE_LAST, {**of, "now": now_ms})] if waiting_of else []),
    ]
    minutes, groups, count, closed, *rest = together(connection, asked)
    running, waiting = rest[: len(running_of)], rest[len(running_of) :]
    oldest = sorted((Running(*row) for rows in running for row in rows), key=lambda r: (r.start_ms, r.stage, r.seq))
    states = [state for _, state in waiting_of]
    return Seen(
        {row[0]: row[1] for row in minutes},
        [Group(*row) for row in groups],
        count[0][0],
        oldest[:most_running],
        closed=bool(closed[0][0]),
        held=sum(row[1] for state, (row,) in zip(states, waiting, strict=False) if state is ItemState.RETRY),
        due_ms=max((row[0] for (row,) in waiting if row[0] is not None), default=None),
    )
