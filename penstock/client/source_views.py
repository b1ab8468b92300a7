"""Sources, their columns and rows as plain JSON objects, in the dialect of `penstock.client.views`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import TypedDict

from penstock.client.views import json_value, source_kind, time_text
from penstock.v1 import planner_pb2, sources_pb2

__all__ = [
    "ColumnStatisticsView",
    "ColumnView",
    "GroupCountView",
    "NoticeView",
    "RowPageView",
    "RowResultView",
    "RowResultsView",
    "RowView",
    "SourceChangeView",
    "SourceDescriptionView",
    "SourceView",
    "group_views",
    "notice_views",
    "row_page_view",
    "source_description_view",
    "source_view",
    "statistics_views",
]


class ColumnView(TypedDict):
    """kind: text, whole, number, boolean, time (milliseconds since 1970 in rows) or json."""

    name: str
    kind: str


class NoticeView(TypedDict):
    """line: of its file; None where it is about no line."""

    code: str
    message: str
    line: int | None


class SourceChangeView(TypedDict):
    """What the version before had not. added, changed, removed: the first keys of each."""

    from_source_id: str
    added_count: int
    changed_count: int
    removed_count: int
    added: list[str]
    changed: list[str]
    removed: list[str]


class SourceView(TypedDict):
    """name, version: None for a version without a name. columns: none of documents, items and tasks, which have no rows
    to ask. key: columns, none where it is a hash of the row. change: None for a first version, and without a name."""

    source_id: str
    kind: str
    item_count: int
    size_bytes: int
    ignored_count: int
    create_time: str | None
    name: str | None
    version: int | None
    latest_version: int | None
    columns: list[ColumnView]
    key: list[str]
    group: str | None
    sort: list[str]
    notices: list[NoticeView]
    change: SourceChangeView | None


class ValueCountView(TypedDict):
    value: str
    count: int


class ColumnStatisticsView(TypedDict):
    """least, most: as text; None where all are null. distinct_exact: false for an estimate."""

    name: str
    kind: str
    null_count: int
    distinct_count: int
    distinct_exact: bool
    least: str | None
    most: str | None
    frequent: list[ValueCountView]


class SourceDescriptionView(TypedDict):
    source: SourceView
    columns: list[ColumnStatisticsView]


class RowResultView(TypedDict):
    """The latest that runs recorded of a row for a processor. value: what it answered; a long one is cut, and a text
    then; None where it is a file."""

    processor: str
    version: str
    state: str
    confidence: float | None
    cost_micros: int
    error: str | None
    run_id: str
    run_number: int
    end_time: str | None
    kind: str | None
    seconds: float | None
    tries: int
    healed: bool
    value: Any


class RowView(TypedDict):
    """position: in the source, or in the plan's stage, from 0. why: of a plan alone."""

    position: int
    key: str
    group: str
    values: Any
    result: RowResultView | None
    why: str | None


class GroupCountView(TypedDict):
    group: str
    count: int


class StateCountView(TypedDict):
    """state: completed, failed, or None for rows without a result."""

    state: str | None
    count: int


class RowResultsView(TypedDict):
    """How far the results of a page are known: to read_time, and why no further. columns: what a filter and an order
    may name of them; states: of all rows that match, where groups are asked for."""

    processor: str
    read_time: str | None
    problem: str | None
    columns: list[ColumnView]
    states: list[StateCountView]


class RowPageView(TypedDict):
    """total: rows that match. groups: of all that match, where asked for; more_groups: how many are not told."""

    rows: list[RowView]
    total: int
    groups: list[GroupCountView]
    more_groups: int
    results: RowResultsView | None


def source_view(source: planner_pb2.Source) -> SourceView:
    return {
        "source_id": source.source_id,
        "kind": source_kind(source.kind),
        "item_count": source.item_count,
        "size_bytes": source.size_bytes,
        "ignored_count": source.ignored_count,
        "create_time": time_text(source.create_time),
        "name": source.name or None,
        "version": source.version or None,
        "latest_version": source.latest_version or None,
        "columns": [_column(column) for column in source.columns],
        "key": list(source.key),
        "group": source.group or None,
        "sort": list(source.sort),
        "notices": notice_views(source.notices),
        "change": _change(source.change) if source.HasField("change") and source.change.from_source_id else None,
    }


def source_description_view(description: planner_pb2.SourceDescription) -> SourceDescriptionView:
    return {"source": source_view(description.source), "columns": statistics_views(description)}


def statistics_views(description: planner_pb2.SourceDescription) -> list[ColumnStatisticsView]:
    return [
        {
            "name": told.column.name,
            "kind": _kind(told.column.kind),
            "null_count": told.null_count,
            "distinct_count": told.distinct_count,
            "distinct_exact": told.distinct_exact,
            "least": told.least or None,
            "most": told.most or None,
            "frequent": [{"value": one.value, "count": one.count} for one in told.frequent],
        }
        for told in description.columns
    ]


def row_page_view(page: sources_pb2.RowPage, *, json_of: Callable[[bytes], Any] = json_value) -> RowPageView:
    """json_of: what a value that is JSON already becomes, for who writes it out again at once."""
    return {
        "rows": [
            {
                "position": row.position,
                "key": row.key,
                "group": row.group,
                "values": json_of(row.values),
                "result": _result(row.result, json_of) if row.HasField("result") else None,
                "why": row.why or None,
            }
            for row in page.rows
        ],
        "total": page.total,
        "groups": group_views(page.groups),
        "more_groups": page.more_groups,
        "results": _results(page.results) if page.HasField("results") else None,
    }


def _results(results: sources_pb2.RowResults) -> RowResultsView:
    return {
        "processor": results.processor,
        "read_time": time_text(results.read_time) if results.HasField("read_time") else None,
        "problem": results.problem or None,
        "columns": [_column(column) for column in results.columns],
        "states": [{"state": one.state or None, "count": one.count} for one in results.states],
    }


def notice_views(notices: Iterable[sources_pb2.Notice]) -> list[NoticeView]:
    return [{"code": one.code, "message": one.message, "line": one.line or None} for one in notices]


def group_views(groups: Iterable[sources_pb2.GroupCount]) -> list[GroupCountView]:
    return [{"group": one.group, "count": one.count} for one in groups]


def _column(column: sources_pb2.SourceColumn) -> ColumnView:
    return {"name": column.name, "kind": _kind(column.kind)}


def _kind(value: sources_pb2.ColumnKind.ValueType) -> str:
    return sources_pb2.ColumnKind.Name(value).removeprefix("COLUMN_KIND_").lower()


def _change(change: sources_pb2.SourceChange) -> SourceChangeView:
    return {
        "from_source_id": change.from_source_id,
        "added_count": change.added_count,
        "changed_count": change.changed_count,
        "removed_count": change.removed_count,
        "added": list(change.added),
        "changed": list(change.changed),
        "removed": list(change.removed),
    }


def _result(result: sources_pb2.RowResult, json_of: Callable[[bytes], Any]) -> RowResultView:
    return {
        "processor": result.processor,
        "version": result.version,
        "state": result.state,
        "confidence": result.confidence if result.HasField("confidence") else None,
        "cost_micros": result.cost_micros,
        "error": result.error or None,
        "run_id": result.run_id,
        "run_number": result.run_number,
        "end_time": time_text(result.end_time),
        "kind": result.kind or None,
        "seconds": result.seconds if result.HasField("seconds") else None,
        "tries": result.tries,
        "healed": result.healed,
        "value": json_of(result.value) if result.value else None,
    }
