"""Which runs need their plan, and the note that a plan is gone. Both are decided under one lock: the plan's row here.

Who makes a run takes the lock in that transaction, and who lets go of the plan takes it before looking for runs: the
one that comes second sees what the first one did. So no run is made of a plan that is gone, however long ago its start
asked the planner; and none that has ended is taken up again, since that looks at its run's own note under its lock.
A plan that is made again is another one by its uid: it is started like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.runtime.errors import Conflict
from penstock.v1 import planner_pb2
from scheduler.domain.states import ENDED_RUNS
from scheduler.store.rows import RunRow
from scheduler.store.schema import actions, runs, stages
from scheduler.store.statements import Statement

__all__ = ["MOST_NEEDS", "Need", "Needs", "needs_of", "refuse_without_plan", "release", "use"]

MOST_NEEDS = 10

REMEMBERED_CHARACTERS = 2_000
"""Of the makings that are gone, the latest ones (some hundred): for starts that asked the planner long ago."""

# The lock of a plan, and which makings of it are gone: in the row that is locked, so that who waited for the lock sees
# what was written meanwhile.
_HOLD = Statement(
    "INSERT INTO plan_uses (plan_id, removed_uids) VALUES (:plan_id, '')"
    " ON CONFLICT (plan_id) DO UPDATE SET plan_id = excluded.plan_id RETURNING removed_uids"
)
# Notes that one is gone.
_LET_GO = Statement(
    "UPDATE plan_uses SET removed_uids = substr(:uid || ' ' || removed_uids, 1, :most) WHERE plan_id = :plan_id"
)
# Locks its runs in order of number, as everybody does.
_LOCK_RUNS = sa.select(runs.c.number).where(runs.c.plan_id == sa.bindparam("p")).order_by(runs.c.number)
# Its runs are only read from now on.
_ORPHAN = sa.update(runs).where(runs.c.plan_id == sa.bindparam("p")).values(plan_removed=True)
# How many runs it ever had.
_COUNT = sa.select(sa.func.count()).select_from(runs).where(runs.c.plan_id == sa.bindparam("p"))


@dataclass(frozen=True)
class Need:
    """A run that needs its plan; left: items that did not complete."""

    number: int
    run_id: str
    name: str
    state: str
    left: int


@dataclass(frozen=True)
class Needs:
    """newest: at most MOST_NEEDS, of `count`; runs: of the plan, ever."""

    newest: tuple[Need, ...]
    count: int
    runs: int


def use(connection: sa.Connection, plan: planner_pb2.Plan) -> None:
    """Called where a run of the plan is made. Raises Conflict when the plan was removed meanwhile."""
    ((removed,),) = _HOLD.rows(connection, {"plan_id": plan.plan_id})
    if plan.uid in removed.split():
        raise Conflict(f"plan {plan.plan_id} was removed meanwhile: make it again, then start it", code="plan_removed")


def release(connection: sa.Connection, plan_id: str, uid: str, *, force: bool) -> Needs:
    """Lets go of a plan unless a run needs it."""
    _HOLD.rows(connection, {"plan_id": plan_id})
    connection.execute(_LOCK_RUNS.with_for_update(), {"p": plan_id})
    needs = needs_of(connection, plan_id, force=force)
    if not needs.count:
        _LET_GO.run(connection, {"plan_id": plan_id, "uid": uid, "most": REMEMBERED_CHARACTERS})
        connection.execute(_ORPHAN, {"p": plan_id})
    return needs


def needs_of(connection: sa.Connection, plan_id: str, *, force: bool) -> Needs:
    """Runs that have not ended, or on which something is being done; without `force` also those with items left."""
    left = sa.select(sa.func.sum(stages.c.total - stages.c.completed)).where(stages.c.run == runs.c.number)
    acted_on = sa.exists().where(actions.c.run == runs.c.number, sa.not_(actions.c.done))
    live = sa.or_(runs.c.state.not_in(list(ENDED_RUNS)), acted_on)
    unfinished = sa.exists().where(stages.c.run == runs.c.number, stages.c.completed < stages.c.total)
    needing = sa.and_(
        runs.c.plan_id == plan_id, sa.not_(runs.c.plan_removed), live if force else sa.or_(live, unfinished)
    )
    # The runs that need it, the newest first.
    newest = (
        sa.select(runs.c.number, runs.c.run_id, runs.c.name, runs.c.state, left.scalar_subquery())
        .where(needing)
        .order_by(runs.c.number.desc())
        .limit(MOST_NEEDS)
    )
    found = tuple(Need(*row[:4], int(row[4] or 0)) for row in connection.execute(newest))
    count = len(found)
    if count == MOST_NEEDS:
        count = connection.execute(sa.select(sa.func.count()).select_from(runs).where(needing)).scalar_one()
    return Needs(found, count, connection.execute(_COUNT, {"p": plan_id}).scalar_one())


def refuse_without_plan(run: RunRow) -> None:
    """Raises Conflict for a run whose plan is gone."""
    if run.plan_removed:
        raise Conflict(
            f"the plan of run {run.run_id} was removed, so nothing of it runs any more; make a plan again to run its "
            "items",
            code="plan_removed",
            state=run.state,
        )
