"""Messages as plain JSON objects: what the resource API answers and `--json` prints, field by field the same.

Enum values are lower-case words (`running`), times ISO 8601 in UTC, embedded JSON is JSON again, empty strings that
mean "none" are null.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, NotRequired

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from typing_extensions import TypedDict

from penstock.v1 import planner_pb2, scheduler_pb2

__all__ = [
    "CountsView",
    "EventView",
    "ItemView",
    "MoneyView",
    "RunView",
    "StageView",
    "event_view",
    "item_state",
    "item_view",
    "json_value",
    "mode_word",
    "money_view",
    "rules_view",
    "run_state",
    "run_view",
    "source_kind",
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
    deferred: int


class MoneyView(TypedDict):
    """Millionths of a dollar. budget_micros, left_micros: None without a cap."""

    budget_micros: int | None
    left_micros: int | None
    spent_micros: int
    reserved_micros: int
    overrun_micros: int
    unknown_micros: int


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
    concurrency: int
    max_tries: int
    money: MoneyView
    rules: dict[str, Any]
    healed: int


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
    owner: str
    priority: int
    waiting: str | None
    money: MoneyView
    exclusive_keys: list[str]
    archived: bool
    plan_removed: bool
    cloned_from: str | None


class ItemView(TypedDict):
    """payload: absent of lists that were not asked for it."""

    seq: int
    stage: int
    key: str
    group: str
    payload: NotRequired[Any]
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
    lane: str | None
    fingerprint: str | None
    cost_micros: int
    reserved_micros: int
    mode: str | None
    heals: int
    healed: bool


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


def mode_word(value: scheduler_pb2.Mode.ValueType) -> str | None:
    """`work`, `heal` or `confirm`; None for an item that nobody has leased."""
    return scheduler_pb2.Mode.Name(value).removeprefix("MODE_").lower() if value else None


def source_kind(value: planner_pb2.SourceKind.ValueType) -> str:
    return planner_pb2.SourceKind.Name(value).removeprefix("SOURCE_KIND_").lower()


def json_value(value: bytes) -> Any:
    """Embedded JSON; None for none."""
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
        "deferred": counts.deferred,
    }


def money_view(money: scheduler_pb2.Money) -> MoneyView:
    capped = money.HasField("budget_micros")
    return {
        "budget_micros": money.budget_micros if capped else None,
        "left_micros": max(money.budget_micros - money.spent_micros - money.reserved_micros, 0) if capped else None,
        "spent_micros": money.spent_micros,
        "reserved_micros": money.reserved_micros,
        "overrun_micros": money.overrun_micros,
        "unknown_micros": money.unknown_micros,
    }


def rules_view(rules: Message) -> dict[str, Any]:
    """What is set of a stage's rules, in the shape that `penstock.client.rules.Rules` takes."""
    return {field.name: _rule(field, value) for field, value in rules.ListFields()}


def _rule(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.rsplit("_", 1)[1].lower()
    if isinstance(value, bytes):
        return orjson.loads(value)
    if isinstance(value, Message):
        return rules_view(value)
    if isinstance(value, (str, int, float)):
        return value
    return [rules_view(one) if isinstance(one, Message) else one for one in value]


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
        "concurrency": stage.concurrency,
        "max_tries": stage.max_tries,
        "money": money_view(stage.money),
        "rules": rules_view(stage.rules),
        "healed": stage.healed,
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
        "owner": run.owner,
        "priority": run.priority,
        "waiting": run.waiting or None,
        "money": money_view(run.money),
        "exclusive_keys": list(run.exclusive_keys),
        "archived": run.archived,
        "plan_removed": run.plan_removed,
        "cloned_from": run.cloned_from or None,
    }


def item_view(item: scheduler_pb2.RunItem, *, with_payload: bool = True) -> ItemView:
    """with_payload: the item was read with it; else there is no such field, which is not the same as null."""
    view: ItemView = {
        "seq": item.seq,
        "stage": item.stage,
        "key": item.key,
        "group": item.group,
        "state": item_state(item.state),
        "attempt": item.attempt,
        "tries": item.tries,
        "error_kind": item.error_kind or None,
        "error": item.error or None,
        "result": json_value(item.result),
        "result_blob": item.result_blob.sha256 or None,
        "worker": item.worker or None,
        "start_time": time_text(item.start_time),
        "end_time": time_text(item.end_time),
        "due_time": time_text(item.due_time),
        "lane": item.lane or None,
        "fingerprint": item.fingerprint or None,
        "cost_micros": item.cost_micros,
        "reserved_micros": item.reserved_micros,
        "mode": mode_word(item.mode),
        "heals": item.heals,
        "healed": item.healed,
    }
    if with_payload:
        view["payload"] = json_value(item.payload)
    return view


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
        "data": json_value(event.data),
    }
