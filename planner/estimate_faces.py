"""Estimates beside what happened, as messages; and what a plan says of a budget that its estimate does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.runtime.clock import to_timestamp
from penstock.v1 import planner_pb2, sources_pb2
from planner.estimate_rows import EndedRun, EstimateRows
from planner.guards import budget_objection
from planner.rules import as_message
from planner.store import PlanRow

__all__ = ["budget_notices", "estimates_page"]

LAST = 20
"""Estimates that are judged together."""


def budget_notices(row: PlanRow, told: planner_pb2.Estimate) -> Iterable[sources_pb2.Notice]:
    """Of stages with a budget: `budget_too_small` where nine of ten runs would pass it, `budget_may_not_do` where one
    of ten would."""
    for stage in told.stages:
        rules = row.stages[stage.stage].settings.rules
        if not rules or not stage.HasField("cost_micros"):
            continue
        message = as_message(rules)
        if not message.HasField("budget_micros"):
            continue
        short = budget_objection(f"stage {stage.stage} has", stage.cost_micros, message.budget_micros)
        if short is not None:
            yield sources_pb2.Notice(code=short.code, message=short.message)


def estimates_page(
    rows: EstimateRows, *, before: int, plan_id: str, limit: int, notes: Sequence[str]
) -> planner_pb2.ListEstimatesResponse:
    """Blocks. before: the run's number of the last one of the page before; 0: from the latest."""
    found = rows.compared(before=before, plan_id=plan_id, limit=limit + 1)
    last = rows.compared(before=0, plan_id=plan_id, limit=LAST)
    page = [_run(row) for row in found[:limit]]
    return planner_pb2.ListEstimatesResponse(
        estimates=page,
        next_page_token=str(page[-1].number) if len(found) > limit else "",
        runtime=_goodness([one for row in last if (one := _runtime(row)) is not None]),
        cost=_goodness([one for row in last if (one := _cost(row)) is not None]),
        notes=notes,
    )


def _run(row: EndedRun) -> planner_pb2.RunEstimate:
    return planner_pb2.RunEstimate(
        run_id=row.run_id,
        number=row.number,
        plan_id=row.plan_id,
        plan_name=row.plan_name,
        state=row.state,
        end_time=to_timestamp(row.end_ms),
        runtime_seconds=_runtime(row),
        cost_micros=_cost(row),
    )


def _runtime(row: EndedRun) -> planner_pb2.Judged | None:
    if row.told is None or row.runtime_seconds is None or not row.told.HasField("runtime_seconds"):
        return None
    return _judged(row.told.runtime_seconds, row.runtime_seconds)


def _cost(row: EndedRun) -> planner_pb2.Judged | None:
    if row.told is None or not row.told.HasField("cost_micros"):
        return None
    return _judged(row.told.cost_micros, row.cost_micros)


def _judged(told: planner_pb2.Range, actual: float) -> planner_pb2.Judged:
    from planner.domain.estimates import Range
    from planner.domain.judging import compare

    found = compare(Range(told.low, told.middle, told.high), actual)
    return planner_pb2.Judged(told=told, actual=actual, within=found.within, off=found.off, ratio=found.ratio)


def _goodness(judged: Sequence[planner_pb2.Judged]) -> planner_pb2.Goodness:
    from planner.domain.estimates import Range
    from planner.domain.judging import compare, goodness

    found = goodness([compare(Range(one.told.low, one.told.middle, one.told.high), one.actual) for one in judged])
    return planner_pb2.Goodness(
        count=found.count, within_share=found.within_share, median_ratio=found.median_ratio, words=found.sentence
    )
