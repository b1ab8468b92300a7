"""Plans and processors as plain JSON objects, in the dialect of `penstock.client.views`; sources: `source_views`."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from penstock.client.estimate_views import EstimateView, ProfileEstimateView, estimate_view, profile_views
from penstock.client.source_views import GroupCountView, NoticeView, group_views, notice_views
from penstock.client.views import json_value, rules_view, source_kind, time_text
from penstock.v1 import common_pb2, planner_pb2, sources_pb2

__all__ = [
    "LeftOutView",
    "OrderingView",
    "PlanComparisonView",
    "PlanItemView",
    "PlanStageView",
    "PlanView",
    "ProblemView",
    "ProcessorView",
    "ProfileView",
    "SelectionView",
    "ordering_view",
    "plan_comparison_view",
    "plan_item_view",
    "plan_view",
    "processor_view",
    "profile_view",
    "selection_view",
]


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


class ReprocessView(TypedDict):
    processor: str
    threshold: float


class SelectionView(TypedDict, total=False):
    """What of a selection is set, by the names of its fields: what is told of a plan can be asked for again. At most
    one of `all` to `filter`. A plan does not remember more than 1,000 keys: they are its items."""

    all: bool
    keys: list[str]
    missing: str
    reprocess: ReprocessView
    failed_of_run: str
    changed_since_plan: str
    sql: str
    filter: str
    exclude_keys: list[str]
    exclude_filter: str
    org: str
    repo: str
    state: str
    limit: int
    again: bool


class OrderingView(TypedDict):
    pinned: list[str]
    groups: list[str]
    sort: list[str]
    as_selected: bool


class LeftOutView(TypedDict):
    """keys: the first."""

    code: str
    reason: str
    count: int
    keys: list[str]


class PlanView(TypedDict):
    """selection, ordering: None for sources that are taken whole. groups: of the first stage, in its order.
    needs_confirm: a start wants `confirm`. source_moved: its source has a later version; the plan still is what it
    promised. uid: another one once it was removed and made again. estimate: as of when the plan was made the last time;
    profiles: the same items under each profile of the server."""

    plan_id: str
    source_id: str
    kind: str
    name: str
    stages: list[PlanStageView]
    item_count: int
    granularity: str | None
    draft: bool
    create_time: str | None
    source_name: str | None
    source_version: int | None
    source_moved: bool
    selection: SelectionView | None
    ordering: OrderingView | None
    profile: str | None
    actor: str | None
    groups: list[GroupCountView]
    more_groups: int
    left_out: list[LeftOutView]
    warnings: list[NoticeView]
    needs_confirm: bool
    etag: str
    uid: str
    estimate: EstimateView | None
    profiles: list[ProfileEstimateView]


class RemovedPlan(TypedDict):
    """run_count: runs of it, which are only read from now on."""

    plan_id: str
    name: str
    draft: bool
    run_count: int


class PlanComparisonView(TypedDict):
    """What the other plan has that the one has not. added, removed, moved, changed: the first keys of each; settings:
    a sentence a difference."""

    added_count: int
    removed_count: int
    moved_count: int
    changed_count: int
    added: list[str]
    removed: list[str]
    moved: list[str]
    changed: list[str]
    settings: list[str]


class PlanItemView(TypedDict):
    seq: int
    key: str
    group: str
    payload: Any


class ProblemView(TypedDict):
    """What is wrong with a declaration; line 0: the file as a whole."""

    line: int
    text: str


class ProfileView(TypedDict):
    """None: it leaves it to the stage's default. parameters: by the name of a processor."""

    name: str
    concurrency: int | None
    max_tries: int | None
    max_run_seconds: int | None
    worker_class: str | None
    parameters: dict[str, dict[str, Any]]


class ProcessorExitView(TypedDict):
    """What an exit code of a declared program means."""

    code: int
    kind: str
    permanent: bool


class ProcessorView(TypedDict):
    """`kind` is code (an installed class) or command (declared in a file, which alone has what stands after it)."""

    name: str
    version: str
    description: str
    parameters_schema: Any
    paid: bool
    repeatable: bool
    environment_needs: list[str]
    kind: str
    file: str | None
    file_hash: str | None
    argv: list[str]
    limits: list[str]
    payload_schema: Any
    result_schema: Any
    wall_seconds: float | None
    problems: list[ProblemView]
    disabled: bool
    heal_argv: list[str]
    confirm_argv: list[str]
    exits: list[ProcessorExitView]


def removed_plan_view(gone: planner_pb2.DeletePlanResponse) -> RemovedPlan:
    plan = gone.plan
    return {"plan_id": plan.plan_id, "name": plan.name, "draft": plan.draft, "run_count": gone.run_count}


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
        "source_name": plan.source_name or None,
        "source_version": plan.source_version or None,
        "source_moved": plan.source_moved,
        "selection": selection_view(plan.selection) if plan.HasField("selection") else None,
        "ordering": ordering_view(plan.ordering) if plan.HasField("ordering") else None,
        "profile": plan.profile or None,
        "actor": plan.actor or None,
        "groups": group_views(plan.groups),
        "more_groups": plan.more_groups,
        "left_out": [
            {"code": one.code, "reason": one.reason, "count": one.count, "keys": list(one.keys)}
            for one in plan.left_out
        ],
        "warnings": notice_views(plan.warnings),
        "needs_confirm": plan.needs_confirm,
        "etag": plan.etag,
        "uid": plan.uid,
        "estimate": estimate_view(plan.estimate) if plan.HasField("estimate") else None,
        "profiles": profile_views(plan),
    }


def selection_view(selection: sources_pb2.Selection) -> SelectionView:
    """As HTTP takes it."""
    view: dict[str, object] = {field.name: value for field, value in selection.ListFields()}
    if "keys" in view:
        view["keys"] = list(selection.keys.keys)
    if "reprocess" in view:
        asked = selection.reprocess
        view["reprocess"] = {"processor": asked.processor, "threshold": asked.threshold}
    if "exclude_keys" in view:
        view["exclude_keys"] = list(selection.exclude_keys)
    told: SelectionView = view  # type: ignore[assignment]
    return told


def ordering_view(ordering: sources_pb2.Ordering) -> OrderingView:
    return {
        "pinned": list(ordering.pinned),
        "groups": list(ordering.groups),
        "sort": list(ordering.sort),
        "as_selected": ordering.as_selected,
    }


def plan_comparison_view(comparison: planner_pb2.PlanComparison) -> PlanComparisonView:
    return {
        "added_count": comparison.added_count,
        "removed_count": comparison.removed_count,
        "moved_count": comparison.moved_count,
        "changed_count": comparison.changed_count,
        "added": list(comparison.added),
        "removed": list(comparison.removed),
        "moved": list(comparison.moved),
        "changed": list(comparison.changed),
        "settings": list(comparison.settings),
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
        "environment_needs": list(processor.environment_needs),
        "kind": processor.kind,
        "file": processor.file or None,
        "file_hash": processor.file_hash or None,
        "argv": list(processor.argv),
        "limits": list(processor.limits),
        "payload_schema": json_value(processor.payload_schema),
        "result_schema": json_value(processor.result_schema),
        "wall_seconds": processor.wall_seconds or None,
        "problems": [{"line": problem.line, "text": problem.text} for problem in processor.problems],
        "disabled": processor.disabled,
        "heal_argv": list(processor.heal_argv),
        "confirm_argv": list(processor.confirm_argv),
        "exits": [{"code": one.code, "kind": one.kind, "permanent": one.permanent} for one in processor.exits],
    }


def profile_view(profile: planner_pb2.Profile) -> ProfileView:
    return {
        "name": profile.name,
        "concurrency": profile.concurrency or None,
        "max_tries": profile.max_tries or None,
        "max_run_seconds": profile.max_run_seconds or None,
        "worker_class": profile.worker_class or None,
        "parameters": json_value(profile.parameters) or {},
    }
