"""Sources, plans and processors as plain JSON objects, in the dialect of `penstock.client.views`."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from penstock.client.views import json_value, rules_view, source_kind, time_text
from penstock.v1 import common_pb2, planner_pb2

__all__ = [
    "PlanItemView",
    "PlanStageView",
    "PlanView",
    "ProcessorView",
    "SourceView",
    "plan_item_view",
    "plan_view",
    "processor_view",
    "source_view",
]


class SourceView(TypedDict):
    source_id: str
    kind: str
    item_count: int
    size_bytes: int
    ignored_count: int
    create_time: str | None


class PlanStageView(TypedDict):
    stage: int
    processor: str
    processor_version: str
    parameters: Any
    concurrency: int
    max_tries: int
    max_run_seconds: int
    worker_class: str
    item_count: int
    rules: dict[str, Any]
    paid: bool
    repeatable: bool


class PlanView(TypedDict):
    plan_id: str
    source_id: str
    kind: str
    name: str
    stages: list[PlanStageView]
    item_count: int
    granularity: str | None
    draft: bool
    create_time: str | None


class PlanItemView(TypedDict):
    seq: int
    key: str
    group: str
    payload: Any


class ProcessorView(TypedDict):
    name: str
    version: str
    description: str
    parameters_schema: Any
    paid: bool
    repeatable: bool


def source_view(source: planner_pb2.Source) -> SourceView:
    return {
        "source_id": source.source_id,
        "kind": source_kind(source.kind),
        "item_count": source.item_count,
        "size_bytes": source.size_bytes,
        "ignored_count": source.ignored_count,
        "create_time": time_text(source.create_time),
    }


def plan_view(plan: planner_pb2.Plan) -> PlanView:
    return {
        "plan_id": plan.plan_id,
        "source_id": plan.source_id,
        "kind": source_kind(plan.kind),
        "name": plan.name,
        "stages": [
            {
                "stage": stage.stage,
                "processor": stage.processor,
                "processor_version": stage.processor_version,
                "parameters": json_value(stage.parameters),
                "concurrency": stage.concurrency,
                "max_tries": stage.max_tries,
                "max_run_seconds": stage.max_run_seconds,
                "worker_class": stage.worker_class,
                "item_count": stage.item_count,
                "rules": rules_view(stage.rules),
                "paid": stage.paid,
                "repeatable": stage.repeatable,
            }
            for stage in plan.stages
        ],
        "item_count": plan.item_count,
        "granularity": plan.granularity or None,
        "draft": plan.draft,
        "create_time": time_text(plan.create_time),
    }


def plan_item_view(item: common_pb2.Item) -> PlanItemView:
    return {"seq": item.seq, "key": item.key, "group": item.group, "payload": json_value(item.payload)}


def processor_view(processor: planner_pb2.Processor) -> ProcessorView:
    return {
        "name": processor.name,
        "version": processor.version,
        "description": processor.description,
        "parameters_schema": json_value(processor.parameters_schema),
        "paid": processor.paid,
        "repeatable": processor.repeatable,
    }
