"""Stages that do not run, and what may still be held of them in Redis: the word of their end can be lost with the
scheduler that ended them.

May not end anything: what the rows say runs keeps its lease.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from scheduler.domain.states import StageState
from scheduler.store.effects import Effects, Slot, StageKey
from scheduler.store.leases import give_back
from scheduler.store.schema import runs, stages

__all__ = ["closed_stages", "let_go"]

# Stages of some runs that do not run, and when their run ended.
_CLOSED = (
    sa.select(stages.c.run, stages.c.stage, runs.c.end_ms)
    .join(runs, runs.c.number == stages.c.run)
    .where(stages.c.run.in_(sa.bindparam("numbers", expanding=True)), stages.c.state != StageState.RUNNING)
    .order_by(stages.c.run, stages.c.stage)
)
_STATE = sa.select(stages.c.state).where(stages.c.run == sa.bindparam("run"), stages.c.stage == sa.bindparam("stage"))


def closed_stages(
    connection: sa.Connection, numbers: Sequence[int], before_ms: int
) -> tuple[list[StageKey], list[int]]:
    """Stages of these runs that do not run; and those of the runs that ended before a time."""
    found = connection.execute(_CLOSED, {"numbers": numbers}).all() if numbers else []
    over = {run for run, _, end_ms in found if end_ms is not None and end_ms < before_ms}
    return [(run, stage) for run, stage, _ in found], sorted(over)


def let_go(connection: sa.Connection, effects: Effects, stage: StageKey, slots: Sequence[Slot]) -> int:
    """Forgets what is held of a stage that does not run, but for what its rows say runs; returns how many."""
    state = connection.execute(_STATE, {"run": stage[0], "stage": stage[1]}).scalar()
    if state != StageState.RUNNING:
        give_back(connection, effects, stage, slots, startable=False)
    return len(effects.forget.get(stage, ()))
