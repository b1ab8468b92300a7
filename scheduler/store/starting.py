"""Makes the rows of a new run, from its plan: one of `runs`, one for each stage, none for items.

The caller locks the run afterwards and moves it; until its transaction has committed nobody else sees any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.v1 import planner_pb2
from scheduler.domain.states import RunState, StageState
from scheduler.store.schema import runs, stages

__all__ = ["NewRun", "insert_run"]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What the plan does not say. Empty name: the plan's. budget_micros None: no cap."""

    run_id: str
    name: str
    owner: str
    priority: int = 0
    budget_micros: int | None = None
    exclusive_keys: Sequence[str] = ()
    cloned_from: str = ""


def insert_run(connection: sa.Connection, plan: planner_pb2.Plan, new: NewRun, now_ms: int) -> int:
    """The number of the new run, which is queued with all its stages pending."""
    number = connection.execute(
        sa.insert(runs)
        .values(
            run_id=new.run_id,
            plan_id=plan.plan_id,
            source_id=plan.source_id,
            kind=plan.kind,
            name=new.name or plan.name,
            granularity=plan.granularity,
            state=RunState.QUEUED,
            create_ms=now_ms,
            owner=new.owner,
            priority=new.priority,
            budget_micros=new.budget_micros,
            cloned_from=new.cloned_from,
        )
        .returning(runs.c.number)
    ).scalar_one()
    # One statement, not one a row: those psycopg pipelines, which stops PostgreSQL's time-out of idle transactions.
    connection.execute(sa.insert(stages).values([_stage(number, stage) for stage in plan.stages]))
    return int(number)


def _stage(number: int, stage: planner_pb2.PlanStage) -> dict[str, object]:
    rules = stage.rules
    return {
        "run": number,
        "stage": stage.stage,
        "processor": stage.processor,
        "processor_version": stage.processor_version,
        "parameters": stage.parameters,
        "concurrency": stage.concurrency,
        "max_tries": stage.max_tries,
        "max_run_seconds": stage.max_run_seconds,
        "worker_class": stage.worker_class,
        "state": StageState.PENDING,
        "total": stage.item_count,
        "rules": rules.SerializeToString(deterministic=True),
        "paid": stage.paid,
        "repeatable": stage.repeatable,
        "budget_micros": rules.budget_micros if rules.HasField("budget_micros") else None,
        "item_budget_micros": rules.item_budget_micros if rules.HasField("item_budget_micros") else None,
    }
