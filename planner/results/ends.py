"""What is learnt of a run when it has ended: facts that its items do not tell, and how good its estimate was.

A run is looked at once its end is known and all its outcomes are copied; what is found stands in one transaction. One
that was stopped or failed did not do what was planned, so nothing is compared; when it goes on and settles more it is
looked at again. One of which items were skipped did less than was planned, and is not compared, either.

Of a run that completed, was reopened and completed again the first end counts, whenever it is looked at. What it had
spent by then nobody tells any more: where it is looked at later, its cost is not compared.
While the scheduler can't be reached it raises Unavailable, and the next catch-up comes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.runtime.clock import Clock
from penstock.runtime.errors import NotFound
from penstock.runtime.logs import get_logger
from penstock.runtime.parquet_files import ParquetFiles
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2, scheduler_pb2
from planner.domain.active import COMPLETED, Active, Done, active, done, worked
from planner.domain.parameter_names import shown_parameters
from planner.estimate_rows import EndedRun, EstimateRows
from planner.results.history_rows import add_history
from planner.results.outcomes import Outcomes
from planner.store import PlanRow, Store

if TYPE_CHECKING:
    from planner.domain.history import History, HistoryKey

__all__ = ["Ended", "Ends"]

_ENDED = (*COMPLETED, "failed", "stopped")

log = get_logger("results")

Ended = scheduler_pb2.SettledRun


class Ends:
    """`files` may read the folder of blobs."""

    def __init__(
        self, *, database: Database, rows: EstimateRows, files: ParquetFiles, store: Store, clock: Clock
    ) -> None:
        self._database = database
        self._rows = rows
        self._files = files
        self._store = store
        self._clock = clock

    async def unknown(self, runs: Sequence[scheduler_pb2.SettledRun]) -> list[Ended]:
        """Those of these runs that have ended since somebody looked."""
        ended = [run for run in runs if run.ended]
        if not ended:
            return []
        known = await asyncio.to_thread(self._rows.ended, [run.number for run in ended])

        def seen(run: Ended) -> bool:
            settled, state = known.get(run.number, (-1, ""))
            return settled >= run.settle_number or state in COMPLETED

        return [run for run in ended if not seen(run)]

    async def learn(self, outcomes: Outcomes, ended: Ended, parts: Sequence[Path]) -> None:
        """parts: where its outcomes stand."""
        run = await outcomes.run(ended.run_id)
        state = scheduler_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        if state not in _ENDED:
            return  # it goes on, meanwhile
        changes = await outcomes.states(ended.run_id)
        first = done(changes) or Done(run.end_time.ToMilliseconds(), state, changes, again=False)
        try:
            plan = await asyncio.to_thread(self._store.plan, run.plan_id, now_ms=self._clock.now_ms())
        except NotFound:
            plan = None
        await asyncio.to_thread(self._learn, ended, run, first, plan, parts)

    def _learn(
        self,
        ended: Ended,
        run: scheduler_pb2.Run,
        first: Done,
        plan: PlanRow | None,
        parts: Sequence[Path],
    ) -> None:
        was = active(first.changes, start_ms=run.start_time.ToMilliseconds(), end_ms=first.end_ms)
        told = None
        if first.state in COMPLETED and not run.counts.skipped:
            before = self._rows.told_at(run.plan_id, run.create_time.ToMilliseconds())
            told = _totals(before, runtime=was.seconds is not None, cost=not first.again)
        facts = self._facts(run, first, was, plan, parts) if plan is not None and parts else []
        row = EndedRun(
            number=ended.number,
            settle_number=ended.settle_number,
            run_id=ended.run_id,
            plan_id=run.plan_id,
            plan_name=plan.name if plan is not None else "",
            state=first.state,
            end_ms=first.end_ms,
            told=told,
            runtime_seconds=was.seconds,
            cost_micros=run.money.spent_micros,
        )
        with self._database.write() as connection:
            self._rows.keep_end(connection, row)
            for key, history in sorted(facts, key=lambda one: one[0]):
                add_history(connection, key, history)
        if row.told is not None:
            log.info("an estimate was compared with its run", run_id=row.run_id, plan=row.plan_id)

    def _facts(
        self, run: scheduler_pb2.Run, first: Done, was: Active, plan: PlanRow, parts: Sequence[Path]
    ) -> list[tuple[HistoryKey, History]]:
        from planner.domain.history import HistoryKey
        from planner.results.histories import StageRun, facts_of

        def of_run(from_ms: int, to_ms: int) -> float | None:
            return worked(first.changes, from_ms=from_ms, to_ms=to_ms)

        found = []
        for stage, row in zip(run.stages, plan.stages, strict=False):
            settings = row.settings
            of = StageRun(
                run_id=run.run_id,
                stage=stage.stage,
                run_ms=run.start_time.ToMilliseconds(),
                start_ms=stage.start_time.ToMilliseconds(),
                max_run_seconds=settings.max_run_seconds,
                worked=of_run,
                steady=was.unbroken and not first.again,
                laned=plan.laned,
            )
            history = facts_of(self._files, parts, of)
            if history is not None:
                key = HistoryKey(settings.processor, settings.processor_version, shown_parameters(settings.parameters))
                found.append((key, history))
        return found


def _totals(told: planner_pb2.Estimate, *, runtime: bool, cost: bool) -> planner_pb2.Estimate | None:
    """Its ranges, of what is known; None without any. That something costs nothing is no estimate: it is what its
    processor says."""
    totals = planner_pb2.Estimate()
    if runtime and told.HasField("runtime_seconds"):
        totals.runtime_seconds.CopyFrom(told.runtime_seconds)
    if cost and told.cost_micros.high:
        totals.cost_micros.CopyFrom(told.cost_micros)
    return totals if totals.ByteSize() else None
