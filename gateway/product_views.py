"""The objects of the products contract: plans, runs and items in the words of its frontends (brand, product_id).

A product's brand, model and variant are fields of its row. A row without a brand has its group for one, a row without
a product_id its key; other fields that a row has not are null. A contract's item has six states: one that waits for its
back-off or for something outside is queued to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired

import orjson
from typing_extensions import TypedDict

from penstock.client.estimate_views import RangeView, estimate_view, is_known, profile_views
from penstock.client.plan_views import SelectionView, selection_view
from penstock.client.views import item_state, json_value, run_state, time_text
from penstock.v1 import planner_pb2, scheduler_pb2, sources_pb2

__all__ = [
    "ITEM_STATES",
    "BatchItem",
    "BatchPlan",
    "BatchRun",
    "BatchStatus",
    "batch_item",
    "batch_plan",
    "batch_run",
    "batch_status",
]

ITEM_STATES: Mapping[str, tuple[str, ...]] = {
    "queued": ("queued", "retry", "deferred"),
    "running": ("running",),
    "completed": ("completed",),
    "failed": ("failed",),
    "skipped": ("skipped",),
    "stopped": ("stopped",),
}
"""The contract's states of an item, and which of ours each stands for."""

_OF_STATE = {ours: state for state, all_of_ours in ITEM_STATES.items() for ours in all_of_ours}


class BrandCount(TypedDict):
    brand: str
    count: int


class OrderedProduct(TypedDict):
    """seq: its place in the order, from 0. why: which rule chose it, and what placed it."""

    seq: int
    product_id: str
    brand: str | None
    model: str | None
    variant: str | None
    why: str


class Warned(TypedDict):
    code: str
    message: str


class ProfileEstimates(TypedDict):
    """The same products under a profile."""

    profile: str
    concurrency: int
    runtime_seconds: RangeView | None
    cost_micros: RangeView | None


class Estimates(TypedDict):
    """Ranges from what was measured; null where nothing was, and reason says so: then there is nothing else. basis:
    what the runtime rests on, else the cost; words: both in one line."""

    runtime_seconds: RangeView | None
    cost_micros: RangeView | None
    reason: str | None
    basis: NotRequired[str]
    words: NotRequired[str]
    profiles: NotRequired[list[ProfileEstimates]]


class BatchSettings(TypedDict):
    """All that the run will go by, as it was when the plan was made."""

    source: str
    source_id: str
    source_version: int | None
    selection: SelectionView
    brand_order: list[str]
    pinned: list[str]
    profile: str | None
    processor: str
    processor_version: str
    parameters: Any
    concurrency: int
    max_tries: int
    max_run_seconds: int
    worker_class: str
    paid: bool


class BatchPlan(TypedDict):
    """order: the first page of all. A plan with a warning `many_items` or `paid` starts only when it is confirmed."""

    plan_id: str
    total: int
    brands: list[BrandCount]
    job_count: int
    order: list[OrderedProduct]
    next_page_token: str | None
    estimates: Estimates
    settings: BatchSettings
    warnings: list[Warned]
    create_time: str | None


class BatchRun(TypedDict):
    batch_run_id: str
    plan_id: str
    state: str
    create_time: str | None
    start_time: str | None


class BatchCounts(TypedDict):
    total: int
    queued: int
    running: int
    completed: int
    failed: int
    skipped: int
    stopped: int


class BatchStatus(BatchRun):
    counts: BatchCounts


class BatchItem(TypedDict):
    seq: int
    product_id: str
    brand: str | None
    model: str | None
    variant: str | None
    state: str
    attempts: int
    last_error: str | None
    start_time: str | None
    end_time: str | None


def batch_plan(plan: planner_pb2.Plan, page: sources_pb2.RowPage, *, skip: int) -> BatchPlan:
    """`page`: the rows of the plan's order after the first `skip`."""
    after = skip + len(page.rows)
    return {
        "plan_id": plan.plan_id,
        "total": plan.item_count,
        "brands": [{"brand": one.group, "count": one.count} for one in plan.groups],
        "job_count": sum(stage.item_count for stage in plan.stages),
        "order": [_ordered(row) for row in page.rows],
        "next_page_token": str(after) if page.rows and after < page.total else None,
        "estimates": _estimates(plan),
        "settings": _settings(plan),
        "warnings": _warnings(plan),
        "create_time": time_text(plan.create_time),
    }


def _ordered(row: sources_pb2.TableRow) -> OrderedProduct:
    values = orjson.loads(row.values or b"{}")
    return {
        "seq": row.position,
        "product_id": _text(values, "product_id") or row.key,
        "brand": _text(values, "brand") or row.group or None,
        "model": _text(values, "model"),
        "variant": _text(values, "variant"),
        "why": row.why,
    }


def _estimates(plan: planner_pb2.Plan) -> Estimates:
    told = estimate_view(plan.estimate)
    if not is_known(told):
        return {"runtime_seconds": None, "cost_micros": None, "reason": "no history"}
    first = told["stages"][0]
    rest = first["runtime_rest"] if first["runtime_seconds"] is not None else first["cost_rest"]
    found: Estimates = {
        "runtime_seconds": told["runtime_seconds"],
        "cost_micros": told["cost_micros"],
        "reason": None,
        "basis": rest["basis"],
        "words": told["words"],
    }
    if plan.profiles:
        found["profiles"] = [
            {
                "profile": one["profile"],
                "concurrency": one["concurrency"],
                "runtime_seconds": one["estimate"]["runtime_seconds"],
                "cost_micros": one["estimate"]["cost_micros"],
            }
            for one in profile_views(plan)
        ]
    return found


def _settings(plan: planner_pb2.Plan) -> BatchSettings:
    stage = plan.stages[0]
    return {
        "source": plan.source_name or plan.source_id,
        "source_id": plan.source_id,
        "source_version": plan.source_version or None,
        "selection": selection_view(plan.selection),
        "brand_order": list(plan.ordering.groups),
        "pinned": list(plan.ordering.pinned),
        "profile": plan.profile or None,
        "processor": stage.processor,
        "processor_version": stage.processor_version,
        "parameters": json_value(stage.parameters),
        "concurrency": stage.concurrency,
        "max_tries": stage.max_tries,
        "max_run_seconds": stage.max_run_seconds,
        "worker_class": stage.worker_class,
        "paid": stage.paid,
    }


def _warnings(plan: planner_pb2.Plan) -> list[Warned]:
    """The plan's own, then what it left out and why, and that its source has moved on."""
    told: list[Warned] = [{"code": one.code, "message": one.message} for one in plan.warnings]
    for gone in plan.left_out:
        more = ", …" if gone.count > len(gone.keys) else ""
        first = f": {', '.join(gone.keys)}{more}" if gone.keys else ""
        told.append({"code": gone.code, "message": f"{gone.count:,} left out, {gone.reason}{first}"})
    if plan.more_groups:
        told.append({"code": "more_brands", "message": f"{plan.more_groups:,} more brands are not listed"})
    if plan.source_moved:
        message = f"source {plan.source_name} has a later version than {plan.source_version}, which this plan runs"
        told.append({"code": "source_moved", "message": message})
    return told


def batch_run(run: scheduler_pb2.Run) -> BatchRun:
    return {
        "batch_run_id": run.run_id,
        "plan_id": run.plan_id,
        "state": run_state(run.state),
        "create_time": time_text(run.create_time),
        "start_time": time_text(run.start_time),
    }


def batch_status(run: scheduler_pb2.Run) -> BatchStatus:
    counts = run.counts
    return {
        **batch_run(run),
        "counts": {
            "total": counts.total,
            "queued": counts.queued + counts.retry + counts.deferred,
            "running": counts.running,
            "completed": counts.completed,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "stopped": counts.stopped,
        },
    }


def batch_item(item: scheduler_pb2.RunItem) -> BatchItem:
    payload = json_value(item.payload)
    values = payload if isinstance(payload, dict) else {}
    return {
        "seq": item.seq,
        "product_id": _text(values, "product_id") or item.key,
        "brand": _text(values, "brand") or item.group or None,
        "model": _text(values, "model"),
        "variant": _text(values, "variant"),
        "state": _OF_STATE[item_state(item.state)],
        "attempts": item.attempt,
        "last_error": item.error or None,
        "start_time": time_text(item.start_time),
        "end_time": time_text(item.end_time),
    }


def _text(values: Mapping[str, Any], name: str) -> str | None:
    """A field of a row, whatever the case of its name, as text; null where there is none."""
    value = values.get(name)
    if value is None:
        value = next((one for other, one in values.items() if other.lower() == name), None)
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
