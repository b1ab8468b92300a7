"""Takes up an ended run again: after a stop, or because items of it are to run once more.

The exclusive keys of the run are taken first (Conflict when another live run has one); then its stages go back to where
their items are. What a stage left without a row, or waiting, is queued (or waiting) again by that alone; the only rows
that change are those that a stop cut off while they ran, never more than ran at once.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from penstock.runtime.errors import Conflict
from scheduler.domain.states import ENDED_RUNS, ENDED_STAGES, ItemState, RunEvent, RunState, StageEvent, StageState
from scheduler.store import exclusive
from scheduler.store.plan_uses import refuse_without_plan
from scheduler.store.rows import RunRow, StageRow
from scheduler.store.schema import items
from scheduler.store.unit import RunUnit

__all__ = ["has_left", "refuse_read_only", "reopen"]

# Rows that a stop cut off are queued again.
_QUEUE_STOPPED = sa.text(
    "UPDATE items SET state = 'queued', end_ms = NULL"
    " WHERE run = :run AND stage = :stage AND state = 'stopped' AND settle_number IS NULL"
)
# How many items of a stage an operator skipped, one by one.
_SKIPPED = sa.select(sa.func.count()).where(
    items.c.run == sa.bindparam("run"),
    items.c.stage == sa.bindparam("stage"),
    items.c.state == ItemState.SKIPPED,
    items.c.settle_number.is_(None),
)


def refuse_read_only(run: RunRow) -> None:
    """Raises Conflict for a run whose items are in the archive alone, or whose plan is gone."""
    refuse_without_plan(run)
    if run.archive is not None:
        raise Conflict(
            f"run {run.run_id} is archived, so nothing of it changes any more; clone it to run its items again",
            code="run_archived",
            state=run.state,
        )


def has_left(unit: RunUnit) -> bool:
    """Whether a stage of this ended run left items that it could go on with."""
    return any(_left(unit, stage) for stage in unit.stages)


def _left(unit: RunUnit, stage: StageRow) -> bool:
    rest = stage.total - stage.completed - stage.failed
    if stage.state == StageState.STOPPED:
        return rest > 0
    # What an operator skipped stays so: without anything else a failed stage would fail again at once.
    return stage.state == StageState.FAILED and rest > _skipped(unit, stage)


def _skipped(unit: RunUnit, stage: StageRow) -> int:
    found: int = unit.connection.execute(_SKIPPED, {"run": stage.run, "stage": stage.stage}).scalar_one()
    return found


def reopen(unit: RunUnit, event: RunEvent, *, stages: Collection[int] = (), actor: str, reason: str) -> None:
    """Goes on with what is left, and with these stages besides; a live run has these stages reopened alone. The caller
    settles up afterwards. Raises Conflict for an archived run, or one whose exclusive key another run has."""
    refuse_read_only(unit.run)
    ended = RunState(unit.run.state) in ENDED_RUNS
    if ended:
        exclusive.retake(unit.connection, unit.run.number)
        unit.run.epoch += 1
        unit.move_run(event, actor=actor, reason=reason)
    first = True
    for stage in unit.stages:
        if stage.stage in stages or (ended and _left(unit, stage)):
            # A later stage goes on after the earlier one that was taken up again.
            _reopen_stage(unit, stage, now=first, actor=actor, reason=reason)
            first = False
        elif not first and stage.state in (StageState.SKIPPED, StageState.STOPPED, StageState.WAITING):
            # It was skipped or asked its gate for what came before it; that is open again.
            _reopen_stage(unit, stage, now=False, actor=actor, reason=reason)
        elif StageState(stage.state) not in ENDED_STAGES:
            first = False
    at_gate = unit.run.state == RunState.WAITING and unit.run.waiting.startswith("gate ")
    if at_gate and any(stage.state == StageState.RUNNING for stage in unit.stages):
        unit.move_run(RunEvent.GO_ON, actor=actor, reason=reason)


def _reopen_stage(unit: RunUnit, stage: StageRow, *, now: bool, actor: str, reason: str) -> None:
    """Lets the stage run `now`, or once what comes before it has ended."""
    if stage.state in (StageState.PENDING, StageState.RUNNING):
        return
    where = {"run": stage.run, "stage": stage.stage}
    if stage.state == StageState.STOPPED:
        unit.connection.execute(_QUEUE_STOPPED, where)
    stage.stopped = 0
    stage.skipped = _skipped(unit, stage)
    stage.gate_ms = stage.gate_due_ms = None
    at_once = now and stage.start_ms is not None
    unit.move_stage(stage, StageEvent.REOPEN if at_once else StageEvent.REOPEN_UNBEGUN, actor=actor, reason=reason)
