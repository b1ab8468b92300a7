"""What the products contract tells of a plan that nobody can estimate."""

from __future__ import annotations

import pytest

from gateway.product_views import batch_plan
from penstock.v1 import planner_pb2, sources_pb2

NONE = {"runtime_seconds": None, "cost_micros": None, "reason": "no history"}


def told(*bases: tuple[str, str], cost_micros: planner_pb2.Range | None = None) -> object:
    """The estimates of a plan whose stages rest on these."""
    stages = [
        planner_pb2.StageEstimate(
            runtime_rest=planner_pb2.EstimateRest(basis=runtime), cost_rest=planner_pb2.EstimateRest(basis=cost)
        )
        for runtime, cost in bases
    ]
    plan = planner_pb2.Plan(
        plan_id="plan-1",
        stages=[planner_pb2.PlanStage(processor="noop", parameters=b"{}")],
        estimate=planner_pb2.Estimate(stages=stages, cost_micros=cost_micros) if bases else None,
    )
    return batch_plan(plan, sources_pb2.RowPage(), skip=0)["estimates"]


@pytest.mark.parametrize("bases", [(), (("none", "none"),), (("none", "free"),), (("none", "free"), ("none", "none"))])
def test_without_history_there_is_no_number_and_the_reason(bases: tuple[tuple[str, str], ...]) -> None:
    assert told(*bases, cost_micros=planner_pb2.Range()) == NONE


def test_a_price_alone_is_a_cost_without_a_runtime() -> None:
    found = told(("none", "price table"), cost_micros=planner_pb2.Range(low=1, middle=2, high=3))
    assert found == {
        "runtime_seconds": None,
        "cost_micros": {"p10": 1.0, "p50": 2.0, "p90": 3.0},
        "reason": None,
        "basis": "price table",
        "words": "",
    }
