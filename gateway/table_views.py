"""Sources by name, rows of grids, and plans of tables as plain JSON objects, in the dialect of `penstock.client.views`.

What documents and items have stays as `penstock.client.plan_views` shows it; here stands what came beside it. A row's
values are JSON already: they go into the answer as they are, never parsed and written again.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from starlette.responses import Response
from typing_extensions import TypedDict

from gateway.selections import OrderingView, SelectionView, ordering_view, selection_view
from penstock.client.estimate_views import EstimateView, ProfileEstimateView, estimate_view, profile_views
from penstock.client.plan_views import PlanStageView, SourceView, plan_view, source_view
from penstock.client.source_views import RowPageView, row_page_view
from penstock.v1 import planner_pb2, sources_pb2

__all__ = [
    "ChangeView",
    "ColumnView",
    "NoticeView",
    "PlanDetail",
    "RowPageView",
    "SourceDetail",
    "StatisticsView",
    "plan_detail",
    "row_page",
    "source_detail",
    "statistics_view",
]


class ColumnView(TypedDict):
    """kind: text, whole, number, boolean, time (milliseconds since 1970 in rows) or json."""

    name: str
    kind: str


class NoticeView(TypedDict):
    """What a person should know; line: of its file, null where it is about all."""

    code: str
    message: str
    line: int | None


class ChangeView(TypedDict):
    """What a version has that the one before had not; lists hold the first keys."""

    from_source_id: str
    added_count: int
    changed_count: int
    removed_count: int
    added: list[str]
    changed: list[str]
    removed: list[str]


class SourceDetail(SourceView):
    """name, version: null for a version that has no name. key: columns, none for a hash of the row. columns: none of
    documents, items and tasks, which have no rows to ask."""

    name: str | None
    version: int | None
    latest_version: int | None
    columns: list[ColumnView]
    key: list[str]
    group: str | None
    sort: list[str]
    notices: list[NoticeView]
    change: ChangeView | None


class ValueCountView(TypedDict):
    value: str
    count: int


class ColumnStatisticsView(TypedDict):
    """least, most: as text; null where all are null."""

    name: str
    kind: str
    null_count: int
    distinct_count: int
    distinct_exact: bool
    least: str | None
    most: str | None
    frequent: list[ValueCountView]


class StatisticsView(TypedDict):
    source_id: str
    name: str | None
    item_count: int
    columns: list[ColumnStatisticsView]


class GroupCountView(TypedDict):
    group: str
    count: int


class LeftOutView(TypedDict):
    """keys: the first of them."""

    code: str
    reason: str
    count: int
    keys: list[str]


class PlanNoticeView(TypedDict):
    code: str
    message: str


class PlanDetail(TypedDict):
    """As the client's `PlanView`, with the selection as a request has it, so that a plan can be asked for again.

    selection, ordering: null for a source that is taken whole. needs_confirm: a start wants `confirm`. source_moved:
    its source has a later version; the plan still is what it promised. estimate: as of when it was made the last time;
    profiles: the same items under each profile that is set."""

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
    warnings: list[PlanNoticeView]
    needs_confirm: bool
    etag: str
    estimate: EstimateView | None
    profiles: list[ProfileEstimateView]


def source_detail(source: planner_pb2.Source) -> SourceDetail:
    return {
        **source_view(source),
        "name": source.name or None,
        "version": source.version or None,
        "latest_version": source.latest_version or None,
        "columns": [_column(column) for column in source.columns],
        "key": list(source.key),
        "group": source.group or None,
        "sort": list(source.sort),
        "notices": [
            {"code": notice.code, "message": notice.message, "line": notice.line or None} for notice in source.notices
        ],
        "change": _change(source.change) if source.change.from_source_id else None,
    }


def _column(column: sources_pb2.SourceColumn) -> ColumnView:
    return {"name": column.name, "kind": _kind(column)}


def _kind(column: sources_pb2.SourceColumn) -> str:
    return sources_pb2.ColumnKind.Name(column.kind).removeprefix("COLUMN_KIND_").lower()


def _change(change: sources_pb2.SourceChange) -> ChangeView:
    return {
        "from_source_id": change.from_source_id,
        "added_count": change.added_count,
        "changed_count": change.changed_count,
        "removed_count": change.removed_count,
        "added": list(change.added),
        "changed": list(change.changed),
        "removed": list(change.removed),
    }


def statistics_view(described: planner_pb2.SourceDescription) -> StatisticsView:
    return {
        "source_id": described.source.source_id,
        "name": described.source.name or None,
        "item_count": described.source.item_count,
        "columns": [
            {
                "name": one.column.name,
                "kind": _kind(one.column),
                "null_count": one.null_count,
                "distinct_count": one.distinct_count,
                "distinct_exact": one.distinct_exact,
                "least": one.least or None,
                "most": one.most or None,
                "frequent": [{"value": value.value, "count": value.count} for value in one.frequent],
            }
            for one in described.columns
        ],
    }


def row_page(page: sources_pb2.RowPage) -> Response:
    """The answer itself, shaped as `RowPageView`."""
    view = row_page_view(page, json_of=orjson.Fragment)
    return Response(orjson.dumps(view), media_type="application/json")


def _groups(groups: Iterable[sources_pb2.GroupCount]) -> list[GroupCountView]:
    return [{"group": one.group, "count": one.count} for one in groups]


def plan_detail(plan: planner_pb2.Plan) -> PlanDetail:
    view = plan_view(plan)
    return {
        "plan_id": view["plan_id"],
        "source_id": view["source_id"],
        "kind": view["kind"],
        "name": view["name"],
        "stages": view["stages"],
        "item_count": view["item_count"],
        "granularity": view["granularity"],
        "draft": view["draft"],
        "create_time": view["create_time"],
        "source_name": plan.source_name or None,
        "source_version": plan.source_version or None,
        "source_moved": plan.source_moved,
        "selection": selection_view(plan.selection) if plan.HasField("selection") else None,
        "ordering": ordering_view(plan.ordering) if plan.HasField("ordering") else None,
        "profile": plan.profile or None,
        "actor": plan.actor or None,
        "groups": _groups(plan.groups),
        "more_groups": plan.more_groups,
        "left_out": [
            {"code": one.code, "reason": one.reason, "count": one.count, "keys": list(one.keys)}
            for one in plan.left_out
        ],
        "warnings": [{"code": one.code, "message": one.message} for one in plan.warnings],
        "needs_confirm": plan.needs_confirm,
        "etag": plan.etag,
        "estimate": estimate_view(plan.estimate) if plan.HasField("estimate") else None,
        "profiles": profile_views(plan),
    }
