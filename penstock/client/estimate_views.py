"""Estimates, and what became of them, as plain JSON objects, in the dialect of `penstock.client.views`."""

from __future__ import annotations

from typing_extensions import TypedDict

from penstock.client.views import time_text
from penstock.v1 import planner_pb2

__all__ = [
    "EstimatePageView",
    "EstimateView",
    "ProfileEstimateView",
    "RangeView",
    "estimate_page_view",
    "estimate_view",
    "is_known",
    "profile_views",
    "range_view",
]


class RangeView(TypedDict):
    """Four of five such runs end within p10 to p90."""

    p10: float
    p50: float
    p90: float


class RestView(TypedDict):
    """What an estimate rests on. basis: measured, nearest, price table, free or none; the rest: whose history,
    where it rests on one."""

    basis: str
    processor: str | None
    version: str | None
    parameters: str | None
    items: int
    runs: int
    words: str


class GroupEstimateView(TypedDict):
    group: str
    items: int
    runtime_seconds: RangeView | None
    cost_micros: RangeView | None


class StageEstimateView(TypedDict):
    """bound: what decides the runtime. failed_share: of items that will end failed. groups: none in lists."""

    stage: int
    processor: str
    items: int
    runtime_seconds: RangeView | None
    cost_micros: RangeView | None
    runtime_rest: RestView
    cost_rest: RestView
    bound: str | None
    failed_share: float | None
    words: str
    groups: list[GroupEstimateView]


class EstimateView(TypedDict):
    """None of a range: not known. words: both totals in one line; notes: what could not be taken into account."""

    runtime_seconds: RangeView | None
    cost_micros: RangeView | None
    words: str
    stages: list[StageEstimateView]
    notes: list[str]


class ProfileEstimateView(TypedDict):
    """The same items under a profile; concurrency, max_tries: of the first stage."""

    profile: str
    concurrency: int
    max_tries: int
    estimate: EstimateView


class JudgedView(TypedDict):
    """What was told when the run was started, and what happened. off: times beyond the nearer end, 1 within; ratio:
    what happened beside p50. None where that has no number: something happened, and nothing was told."""

    told: RangeView
    actual: float
    within: bool
    off: float | None
    ratio: float | None


class RunEstimateView(TypedDict):
    run_id: str
    number: int
    plan_id: str
    plan_name: str | None
    state: str
    end_time: str | None
    runtime_seconds: JudgedView | None
    cost_micros: JudgedView | None


class GoodnessView(TypedDict):
    """Of the last estimates that were compared, at most twenty."""

    count: int
    within_share: float | None
    median_ratio: float | None
    words: str


class EstimatePageView(TypedDict):
    """notes: why what ended last may not be there yet."""

    estimates: list[RunEstimateView]
    next_page_token: str | None
    runtime: GoodnessView
    cost: GoodnessView
    notes: list[str]


def range_view(told: planner_pb2.Range) -> RangeView:
    return {"p10": told.low, "p50": told.middle, "p90": told.high}


def estimate_view(estimate: planner_pb2.Estimate) -> EstimateView:
    return {
        "runtime_seconds": _runtime(estimate),
        "cost_micros": _cost(estimate),
        "words": estimate.words,
        "stages": [
            {
                "stage": stage.stage,
                "processor": stage.processor,
                "items": stage.items,
                "runtime_seconds": _runtime(stage),
                "cost_micros": _cost(stage),
                "runtime_rest": _rest(stage.runtime_rest),
                "cost_rest": _rest(stage.cost_rest),
                "bound": stage.bound or None,
                "failed_share": stage.failed_share if stage.HasField("failed_share") else None,
                "words": stage.words,
                "groups": [
                    {
                        "group": group.group,
                        "items": group.items,
                        "runtime_seconds": _runtime(group),
                        "cost_micros": _cost(group),
                    }
                    for group in stage.groups
                ],
            }
            for stage in estimate.stages
        ],
        "notes": list(estimate.notes),
    }


def is_known(told: EstimateView) -> bool:
    """Whether anything was measured or priced: that a processor costs nothing is no history."""
    bases = {stage[rest]["basis"] for stage in told["stages"] for rest in ("runtime_rest", "cost_rest")}
    return bool(bases - {"none", "free"})


def profile_views(plan: planner_pb2.Plan) -> list[ProfileEstimateView]:
    return [
        {
            "profile": one.profile,
            "concurrency": one.concurrency,
            "max_tries": one.max_tries,
            "estimate": estimate_view(one.estimate),
        }
        for one in plan.profiles
    ]


def estimate_page_view(page: planner_pb2.ListEstimatesResponse) -> EstimatePageView:
    return {
        "estimates": [
            {
                "run_id": one.run_id,
                "number": one.number,
                "plan_id": one.plan_id,
                "plan_name": one.plan_name or None,
                "state": one.state,
                "end_time": time_text(one.end_time),
                "runtime_seconds": _judged(one.runtime_seconds) if one.HasField("runtime_seconds") else None,
                "cost_micros": _judged(one.cost_micros) if one.HasField("cost_micros") else None,
            }
            for one in page.estimates
        ],
        "next_page_token": page.next_page_token or None,
        "runtime": _goodness(page.runtime),
        "cost": _goodness(page.cost),
        "notes": list(page.notes),
    }


_Ranged = planner_pb2.Estimate | planner_pb2.StageEstimate | planner_pb2.GroupEstimate


def _runtime(told: _Ranged) -> RangeView | None:
    return range_view(told.runtime_seconds) if told.HasField("runtime_seconds") else None


def _cost(told: _Ranged) -> RangeView | None:
    return range_view(told.cost_micros) if told.HasField("cost_micros") else None


def _rest(rest: planner_pb2.EstimateRest) -> RestView:
    return {
        "basis": rest.basis,
        "processor": rest.processor or None,
        "version": rest.version or None,
        "parameters": rest.parameters or None,
        "items": rest.items,
        "runs": rest.runs,
        "words": rest.words,
    }


def _judged(judged: planner_pb2.Judged) -> JudgedView:
    return {
        "told": range_view(judged.told),
        "actual": judged.actual,
        "within": judged.within,
        "off": judged.off if judged.HasField("off") else None,
        "ratio": judged.ratio if judged.HasField("ratio") else None,
    }


def _goodness(goodness: planner_pb2.Goodness) -> GoodnessView:
    return {
        "count": goodness.count,
        "within_share": goodness.within_share if goodness.HasField("within_share") else None,
        "median_ratio": goodness.median_ratio if goodness.HasField("median_ratio") else None,
        "words": goodness.words,
    }
