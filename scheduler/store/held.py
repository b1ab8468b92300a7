"""What runs, as rows say it: by session, by stage, for too long. May not write."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import sqlalchemy as sa

from scheduler.domain.outcomes import ALONE
from scheduler.domain.states import LIVE_RUNS, ItemState, StageState
from scheduler.store.effects import Place, Slot, StageKey
from scheduler.store.schema import items, runs, stages
from scheduler.store.seeing import OPEN_INDEX, by_index
from scheduler.store.statements import Rows, Statement

__all__ = [
    "OVERRUN_MS",
    "all_running",
    "busy_sessions",
    "leases_by_session",
    "open_rows",
    "overdue",
    "owners",
    "running_alone",
    "running_stages",
    "session_rows",
    "too_long",
]

_RUNNING = sa.and_(items.c.state == ItemState.RUNNING, items.c.settle_number.is_(None))
_LANE = sa.func.coalesce(items.c.lane, "")
# From the few open stages to their open items by index, never through all items.
_OPEN_STAGES = stages.join(
    items,
    sa.and_(items.c.run == stages.c.run, items.c.stage == stages.c.stage, stages.c.state == StageState.RUNNING),
)

# What runs, with its lane.
_HELD = sa.select(items.c.run, items.c.stage, items.c.seq, _LANE).select_from(_OPEN_STAGES).where(_RUNNING)
_ALL_HELD = Statement.of(_HELD)
_HELD_BY = Statement.of(_HELD.where(items.c.session == sa.bindparam("session")))
# Stages that run.
_RUNNING_STAGES = Statement("SELECT run, stage FROM stages WHERE state = 'running'")
# Whose the runs are that may hold slots.
_OWNERS = Statement.of(sa.select(runs.c.number, runs.c.owner).where(runs.c.state.in_(sorted(LIVE_RUNS))))


def session_rows(connection: sa.Connection, session: str) -> dict[StageKey, list[Slot]]:
    """What a session holds."""
    return _by_stage(_HELD_BY.rows(connection, {"session": session}))


def busy_sessions(connection: sa.Connection) -> set[str]:
    """Sessions that hold leases."""
    query = sa.select(items.c.session).select_from(_OPEN_STAGES).where(_RUNNING).distinct()
    return set(connection.execute(query).scalars())


def leases_by_session(connection: sa.Connection) -> dict[str, int]:
    """How many leases each session holds; those that hold none are left out."""
    query = sa.select(items.c.session, sa.func.count()).select_from(_OPEN_STAGES).where(_RUNNING)
    return {row[0]: row[1] for row in connection.execute(query.group_by(items.c.session))}


def running_alone(connection: sa.Connection, worker_class: str) -> int:
    """How many workers of this class run one item after another, each alone."""
    alone = sa.and_(_RUNNING, items.c.suspect >= ALONE, stages.c.worker_class == worker_class)
    query = sa.select(sa.func.count(items.c.session.distinct())).select_from(_OPEN_STAGES).where(alone)
    return int(connection.execute(query).scalar_one())


def all_running(connection: sa.Connection) -> dict[StageKey, list[Slot]]:
    """Everything that runs."""
    return _by_stage(_ALL_HELD.rows(connection, {}))


def _by_stage(rows: Rows) -> dict[StageKey, list[Slot]]:
    found: dict[StageKey, list[Slot]] = {}
    for run, stage, seq, lane in rows:
        found.setdefault((run, stage), []).append((seq, lane))
    return found


# Unsettled rows of a stage in one state, in order of seq.
_OPEN_ROWS = by_index(f"""
SELECT seq, coalesce(lane, ''), coalesce(rank, seq) FROM items {OPEN_INDEX}
WHERE run = :run AND stage = :stage AND state = :state AND settle_number IS NULL ORDER BY seq
""")


def open_rows(connection: sa.Connection, run: int, stage: int, state: ItemState) -> list[Place]:
    """Every item of a stage whose row is in this (unsettled) state, in order of seq."""
    values = {"run": run, "stage": stage, "state": str(state)}
    return [(seq, lane, rank) for seq, lane, rank in _OPEN_ROWS.rows(connection, values)]


def running_stages(connection: sa.Connection) -> list[StageKey]:
    """Every stage that runs, of paused and stopping runs too."""
    return [(run, stage) for run, stage in _RUNNING_STAGES.rows(connection, {})]


OVERRUN_MS = 10_000
"""A worker ends what runs too long itself; the scheduler does when it has not."""
# What was leased for longer than its stage allows it to run. Of a suspect the time begins when its worker says so.
_OVERDUE = Statement(f"""
SELECT i.run, i.stage, i.seq, r.run_id, i.attempt, i.session, i.start_ms, s.max_run_seconds
FROM stages AS s JOIN items AS i ON i.run = s.run AND i.stage = s.stage JOIN runs AS r ON r.number = s.run
WHERE s.state = 'running' AND i.state = 'running' AND i.settle_number IS NULL
  AND i.start_ms + s.max_run_seconds * 1000 + {OVERRUN_MS} < :now AND i.suspect <> {ALONE}
""")

Since = Callable[[str, tuple[str, int, int, int], int], int | None]
"""Since when a session executes (run id, stage, seq, attempt), leased at such a time; None: it has not begun it."""


def overdue(connection: sa.Connection, now_ms: int, since: Since, limit: int) -> dict[StageKey, list[int]]:
    """Seqs of what runs too long, at most `limit`."""
    found: dict[StageKey, list[int]] = {}
    rows = _OVERDUE.rows(connection, {"now": now_ms})
    late = (
        ((run, stage), seq)
        for run, stage, seq, run_id, attempt, session, start_ms, seconds in rows
        if too_long(since(session, (run_id, stage, seq, attempt), start_ms), seconds, now_ms)
    )
    for key, seq in itertools.islice(late, limit):
        found.setdefault(key, []).append(seq)
    return found


def too_long(since_ms: int | None, seconds: int, now_ms: int) -> bool:
    """Whether what runs since then has run for longer than so many seconds, and its worker had time to end it."""
    return since_ms is not None and since_ms + seconds * 1000 + OVERRUN_MS < now_ms


def owners(connection: sa.Connection) -> dict[int, str]:
    """Whom the slots of each run that may hold some are counted for."""
    return {row[0]: row[1] for row in _OWNERS.rows(connection, {})}
