"""Messages as plain JSON objects: what the resource API answers and `--json` prints, field by field the same.

Enum values are lower-case words (`running`), times ISO 8601 in UTC, embedded JSON is JSON again, empty strings that
mean "none" are null.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from typing_extensions import TypedDict

from penstock.v1 import common_pb2, planner_pb2, scheduler_pb2

__all__ = [
    "CountsView",
    "EventView",
    "ItemView",
    "PlanItemView",
    "PlanStageView",
    "PlanView",
    "ProcessorView",
    "RunView",
    "SourceView",
    "StageView",
    "event_view",
    "item_state",
    "item_view",
    "plan_item_view",
    "plan_view",
    "processor_view",
    "run_state",
    "run_view",
    "source_kind",
    "source_view",
    "time_text",
]


class CountsView(TypedDict):
    total: int
    queued: int
    running: int
    retry: int
    completed: int
    failed: int
    skipped: int
    stopped: int


class StageView(TypedDict):
    stage: int
    processor: str
    processor_version: str
    state: str
    counts: CountsView
    start_time: str | None
    end_time: str | None
    error: str | None
    progress: float
    phase: str | None


class RunView(TypedDict):
    run_id: str
    number: int
    plan_id: str
    source_id: str
    kind: str
    name: str
    state: str
    stages: list[StageView]
    counts: CountsView
    quiesced: bool
    error: str | None
    granularity: str | None
    event_number: int
    create_time: str | None
    start_time: str | None
    end_time: str | None


class ItemView(TypedDict):
    seq: int
    stage: int
    key: str
    group: str
    payload: Any
    state: str
    attempt: int
    tries: int
    error_kind: str | None
    error: str | None
    result: Any
    result_blob: str | None
    worker: str | None
    start_time: str | None
    end_time: str | None
    due_time: str | None


class EventView(TypedDict):
    number: int
    time: str | None
    type: str
    subject: str
    actor: str
    old_state: str | None
    new_state: str | None
    reason: str | None
    data: Any


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


def time_text(value: Timestamp) -> str | None:
    """`2026-01-31T12:00:00.123Z`; None for a time that is not set."""
    if not value.seconds and not value.nanos:
        return None
    moment = dt.datetime.fromtimestamp(value.seconds, tz=dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{value.nanos // 1_000_000:03d}Z"


def run_state(value: scheduler_pb2.RunState.ValueType) -> str:
    return scheduler_pb2.RunState.Name(value).removeprefix("RUN_STATE_").lower()


def item_state(value: scheduler_pb2.ItemState.ValueType) -> str:
    return scheduler_pb2.ItemState.Name(value).removeprefix("ITEM_STATE_").lower()


def source_kind(value: planner_pb2.SourceKind.ValueType) -> str:
    return planner_pb2.SourceKind.Name(value).removeprefix("SOURCE_KIND_").lower()


def _json(value: bytes) -> Any:
    return orjson.loads(value) if value else None


def _counts(counts: scheduler_pb2.ItemCounts) -> CountsView:
    return {
        "total": counts.total,
        "queued": counts.queued,
        "running": counts.running,
        "retry": counts.retry,
        "completed": counts.completed,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "stopped": counts.stopped,
    }


def _stage_view(stage: scheduler_pb2.Stage) -> StageView:
    return {
        "stage": stage.stage,
        "processor": stage.processor,
        "processor_version": stage.processor_version,
        "state": scheduler_pb2.StageState.Name(stage.state).removeprefix("STAGE_STATE_").lower(),
        "counts": _counts(stage.counts),
        "start_time": time_text(stage.start_time),
        "end_time": time_text(stage.end_time),
        "error": stage.error or None,
        "progress": round(stage.progress, 3),
        "phase": stage.phase or None,
    }


def run_view(run: scheduler_pb2.Run) -> RunView:
    return {
        "run_id": run.run_id,
        "number": run.number,
        "plan_id": run.plan_id,
        "source_id": run.source_id,
        "kind": source_kind(run.kind),
        "name": run.name,
        "state": run_state(run.state),
        "stages": [_stage_view(stage) for stage in run.stages],
        "counts": _counts(run.counts),
        "quiesced": run.quiesced,
        "error": run.error or None,
        "granularity": run.granularity or None,
        "event_number": run.event_number,
        "create_time": time_text(run.create_time),
        "start_time": time_text(run.start_time),
        "end_time": time_text(run.end_time),
    }


def item_view(item: scheduler_pb2.RunItem) -> ItemView:
    return {
        "seq": item.seq,
        "stage": item.stage,
        "key": item.key,
        "group": item.group,
        "payload": _json(item.payload),
        "state": item_state(item.state),
        "attempt": item.attempt,
        "tries": item.tries,
        "error_kind": item.error_kind or None,
        "error": item.error or None,
        "result": _json(item.result),
        "result_blob": item.result_blob.sha256 or None,
        "worker": item.worker or None,
        "start_time": time_text(item.start_time),
        "end_time": time_text(item.end_time),
        "due_time": time_text(item.due_time),
    }


def event_view(event: scheduler_pb2.Event) -> EventView:
    return {
        "number": event.number,
        "time": time_text(event.time),
        "type": event.type,
        "subject": event.subject,
        "actor": event.actor,
        "old_state": event.old_state or None,
        "new_state": event.new_state or None,
        "reason": event.reason or None,
        "data": _json(event.data),
    }


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
                "parameters": _json(stage.parameters),
                "concurrency": stage.concurrency,
                "max_tries": stage.max_tries,
                "max_run_seconds": stage.max_run_seconds,
                "worker_class": stage.worker_class,
                "item_count": stage.item_count,
            }
            for stage in plan.stages
        ],
        "item_count": plan.item_count,
        "granularity": plan.granularity or None,
        "draft": plan.draft,
        "create_time": time_text(plan.create_time),
    }


def plan_item_view(item: common_pb2.Item) -> PlanItemView:
    return {"seq": item.seq, "key": item.key, "group": item.group, "payload": _json(item.payload)}


def processor_view(processor: planner_pb2.Processor) -> ProcessorView:
    return {
        "name": processor.name,
        "version": processor.version,
        "description": processor.description,
        "parameters_schema": _json(processor.parameters_schema),
    }
