"""The SQL of estimates: what was told of a plan, what of it was told when a run was started, and what became of that.

What was told stands as the bytes of a Plan message that has nothing else. A plan has one estimate, the latest; a start
keeps a copy of its totals, so that a run is compared with what people knew. Each method is one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from planner.domain.active import COMPLETED
from planner.store import metadata, plans

__all__ = ["EndedRun", "EstimateRows"]

plan_estimates = sa.Table(
    "plan_estimates",
    metadata,
    sa.Column("plan_id", sa.Text, primary_key=True),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("told", sa.LargeBinary, nullable=False),
    sa.Column("totals", sa.LargeBinary, nullable=False),  # the same without groups
)

started_estimates = sa.Table(
    "started_estimates",
    metadata,
    sa.Column("plan_id", sa.Text, primary_key=True),
    sa.Column("made_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),  # of the first run that was started with it
    sa.Column("totals", sa.LargeBinary, nullable=False),
)

run_estimates = sa.Table(
    "run_estimates",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("settle_number", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("plan_name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("told", sa.LargeBinary, nullable=True),  # of an Estimate; NULL: there is nothing to compare
    sa.Column("runtime_seconds", sa.Float, nullable=True),  # NULL: nobody knows
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended. told: the totals to compare it with, None where there are none, or where it did not do what
    was planned; runtime_seconds: in which it worked, None where nobody knows."""

    number: int
    settle_number: int
    run_id: str
    plan_id: str
    plan_name: str
    state: str
    end_ms: int
    told: planner_pb2.Estimate | None
    runtime_seconds: float | None
    cost_micros: int

    def values(self) -> dict[str, Any]:
        return {**self.__dict__, "told": None if self.told is None else self.told.SerializeToString()}


class EstimateRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert: Any = sqlite.insert if database.is_sqlite else postgresql.insert

    def tell(self, plan_id: str, told: planner_pb2.Plan, *, now_ms: int) -> None:
        """The plan's estimate from now on."""
        values = {
            "made_ms": now_ms,
            "told": told.SerializeToString(),
            "totals": _without_groups(told).SerializeToString(),
        }
        with self._database.write() as connection:
            insert = self._insert(plan_estimates).values(plan_id=plan_id, **values)
            connection.execute(insert.on_conflict_do_update(index_elements=["plan_id"], set_=values))

    def told(self, plan_ids: Sequence[str], *, groups: bool = False) -> Mapping[str, planner_pb2.Plan]:
        """What was told of these plans, as Plan messages that have nothing else."""
        column = plan_estimates.c.told if groups else plan_estimates.c.totals
        query = sa.select(plan_estimates.c.plan_id, column).where(plan_estimates.c.plan_id.in_(plan_ids))
        with self._database.read() as connection:
            return {row[0]: planner_pb2.Plan.FromString(row[1]) for row in connection.execute(query)}

    def start(self, plan_id: str, *, now_ms: int) -> None:
        """A run is about to be started, with what is told now. now_ms: by the clock of the run's own times."""
        with self._database.write() as connection:
            # Who removes the plan waits, and removes this with it: none is left for the plan of this id made again.
            there = sa.select(plans.c.plan_id).where(plans.c.plan_id == plan_id).with_for_update(read=True)
            if connection.execute(there).first() is None:
                return
            query = sa.select(plan_estimates.c.made_ms, plan_estimates.c.totals).where(
                plan_estimates.c.plan_id == plan_id
            )
            now = connection.execute(query).first()
            if now is not None:
                insert = self._insert(started_estimates).values(
                    plan_id=plan_id, made_ms=now.made_ms, start_ms=now_ms, totals=now.totals
                )
                connection.execute(insert.on_conflict_do_nothing())

    def told_at(self, plan_id: str, create_ms: int) -> planner_pb2.Estimate:
        """What was told of a plan when a run of it was made; empty where nothing was."""
        of = started_estimates.c.plan_id == plan_id
        # By when it was told at a start: planners whose clocks differ tell of the making otherwise.
        order = (started_estimates.c.start_ms, started_estimates.c.made_ms)
        latest = sa.select(started_estimates.c.totals).where(of, started_estimates.c.start_ms <= create_ms)
        # A clock that is behind says so of none: then the first that was told.
        first = sa.select(started_estimates.c.totals).where(of)
        with self._database.read() as connection:
            totals = (
                connection.execute(latest.order_by(*(one.desc() for one in order)).limit(1)).scalar()
                or connection.execute(first.order_by(*order).limit(1)).scalar()
            )
        return planner_pb2.Plan.FromString(totals or b"").estimate

    def ended(self, numbers: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        """Of these runs, those whose end is known: the settle number and the state that they had."""
        columns = (run_estimates.c.number, run_estimates.c.settle_number, run_estimates.c.state)
        with self._database.read() as connection:
            found = connection.execute(sa.select(*columns).where(run_estimates.c.number.in_(numbers)))
            return {row[0]: (row[1], row[2]) for row in found}

    def compared(self, *, before: int, plan_id: str = "", limit: int) -> list[EndedRun]:
        """Runs that can be compared, the latest first. before: the number of the last one that was seen; 0: none."""
        query = sa.select(run_estimates).where(run_estimates.c.told.is_not(None))
        if before:
            query = query.where(run_estimates.c.number < before)
        if plan_id:
            query = query.where(run_estimates.c.plan_id == plan_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(run_estimates.c.number.desc()).limit(limit)).mappings()
            return [EndedRun(**{**row, "told": planner_pb2.Estimate.FromString(row["told"])}) for row in rows]

    def keep_end(self, connection: sa.Connection, run: EndedRun) -> None:
        """Within the caller's transaction. Of a run that ended again (it was stopped, and went on) the last end, until
        it has completed: then what is known stays."""
        values = run.values()
        insert = self._insert(run_estimates).values(values)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["number"],
                set_={name: insert.excluded[name] for name in values if name != "number"},
                where=run_estimates.c.state.not_in(COMPLETED),
            )
        )

    def sweep(self) -> int:
        """Removes what was told of plans that are no more, now and at starts; answers how much."""
        with self._database.write() as connection:
            return sum(
                connection.execute(sa.delete(told).where(told.c.plan_id.not_in(sa.select(plans.c.plan_id)))).rowcount
                for told in (plan_estimates, started_estimates)
            )


def _without_groups(told: planner_pb2.Plan) -> planner_pb2.Plan:
    totals = planner_pb2.Plan()
    totals.CopyFrom(told)
    for stage in totals.estimate.stages:
        stage.ClearField("groups")
    return totals
