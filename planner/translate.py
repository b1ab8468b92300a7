"""Rows of the planner as messages, and requests as what the rest of the planner takes."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from google.protobuf import json_format

from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import whole_number
from penstock.runtime.plain_text import plain_text
from penstock.v1 import common_pb2, planner_pb2, sources_pb2
from planner.domain.rows import TOO_DEEP, too_deep
from planner.domain.schema import Column, ColumnKind, Schema
from planner.domain.stages import StageRequest
from planner.estimate_faces import budget_notices
from planner.grid import GridPage
from planner.naming import Version
from planner.rules import as_message
from planner.store import PlanRow, SourceRow, StageRow

__all__ = [
    "change_of",
    "column_message",
    "plan_message",
    "schema_of",
    "source_message",
    "stage_request",
    "stage_requests",
    "statistics_messages",
    "table_page",
]

_KINDS = {
    ColumnKind.TEXT: sources_pb2.COLUMN_KIND_TEXT,
    ColumnKind.WHOLE: sources_pb2.COLUMN_KIND_WHOLE,
    ColumnKind.NUMBER: sources_pb2.COLUMN_KIND_NUMBER,
    ColumnKind.BOOLEAN: sources_pb2.COLUMN_KIND_BOOLEAN,
    ColumnKind.TIME: sources_pb2.COLUMN_KIND_TIME,
    ColumnKind.JSON: sources_pb2.COLUMN_KIND_JSON,
}


def change_of(etag: str) -> int | None:
    """The change of a plan's name that an etag of ours tells (`plan_message`); None where none is given. Raises
    InvalidInput."""
    change = whole_number(etag) if etag else None
    if etag and change is None:
        raise InvalidInput(f"etag {etag[:80]!r} is none of ours: give it as it was", code="bad_etag")
    return change


def stage_requests(stages: Iterable[planner_pb2.StageSpec]) -> list[StageRequest]:
    """Raises InvalidInput with what is wrong with any of them."""
    found, problems = [], []
    for number, stage in enumerate(stages):
        try:
            found.append(stage_request(number, stage))
        except InvalidInput as error:
            problems.append(error)
    if problems:
        raise InvalidInput("; ".join(error.message for error in problems), code=problems[0].code)
    return found


def stage_request(number: int, stage: planner_pb2.StageSpec) -> StageRequest:
    """Raises InvalidInput for parameters that are no JSON object."""
    try:
        parameters = orjson.loads(stage.parameters) if stage.parameters else {}
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise InvalidInput(f"stage {number}: parameters are not a JSON object", code="bad_parameters")
    if too_deep(parameters):
        raise InvalidInput(f"stage {number}: parameters are {TOO_DEEP}", code="bad_parameters")
    return StageRequest(
        processor=plain_text(stage.processor, f"stage {number}: processor"),
        parameters=parameters,
        concurrency=stage.concurrency,
        max_tries=stage.max_tries,
        max_run_seconds=stage.max_run_seconds,
        worker_class=plain_text(stage.worker_class, f"stage {number}: worker_class", most=63),
        rules=stage.rules.SerializeToString(),
    )


def schema_of(row: SourceRow) -> Schema:
    """Raises InvalidInput for a source that is no table."""
    if not row.table_schema:
        raise InvalidInput(
            f"source {row.source_id} has no columns: catalogs and tables have", code="source_without_columns"
        )
    return Schema.of(orjson.loads(row.table_schema))


def source_message(row: SourceRow, version: Version | None = None) -> planner_pb2.Source:
    """A version; `version`: as it stands under a name."""
    message = planner_pb2.Source(
        source_id=row.source_id,
        kind=planner_pb2.SourceKind.ValueType(row.kind),
        item_count=row.item_count,
        size_bytes=row.size_bytes,
        ignored_count=row.ignored_count,
        snapshot=common_pb2.BlobRef(sha256=row.snapshot_sha256, size_bytes=row.snapshot_bytes),
        create_time=to_timestamp(row.create_ms),
        notices=[sources_pb2.Notice(**notice) for notice in orjson.loads(row.notices)],
    )
    if row.table_schema:
        schema = schema_of(row)
        message.columns.extend(map(column_message, schema.columns))
        message.key.extend(schema.key)
        message.group = schema.group
        message.sort.extend(schema.sort)
    if version is not None:
        message.name, message.version = version.name, version.version
        message.latest_version = version.latest
        json_format.ParseDict(dict(version.change), message.change)
        message.create_time.FromMilliseconds(version.create_ms)
    return message


def column_message(column: Column) -> sources_pb2.SourceColumn:
    return sources_pb2.SourceColumn(name=column.name, kind=_KINDS[column.kind])


def statistics_messages(row: SourceRow) -> Iterable[sources_pb2.ColumnStatistics]:
    """In the order of the columns."""
    for column, told in zip(schema_of(row).columns, orjson.loads(row.statistics), strict=True):
        yield sources_pb2.ColumnStatistics(
            column=column_message(column),
            null_count=told["nulls"],
            distinct_count=told["distinct"],
            distinct_exact=told["distinct_exact"],
            least=told["least"] or "",
            most=told["most"] or "",
            frequent=[sources_pb2.ValueCount(value=value, count=count) for value, count in told["frequent"]],
        )


def plan_message(row: PlanRow, *, source_moved: bool = False, told: planner_pb2.Plan | None = None) -> planner_pb2.Plan:
    """told: its estimate, as a Plan message that has nothing else."""
    message = planner_pb2.Plan(
        plan_id=row.plan_id,
        source_id=row.source_id,
        kind=planner_pb2.SourceKind.ValueType(row.kind),
        name=row.name,
        stages=[_stage(number, stage) for number, stage in enumerate(row.stages)],
        item_count=row.stages[0].item_count,
        granularity=row.granularity,
        draft=row.draft,
        create_time=to_timestamp(row.create_ms),
        source_name=row.source_name,
        source_version=row.source_version,
        uid=row.uid,
        etag=str(row.change),
        source_moved=source_moved,
    )
    json_format.ParseDict(dict(row.details), message, ignore_unknown_fields=True)
    if told is not None:
        message.MergeFrom(told)
        notices = list(budget_notices(row, message.estimate))
        message.warnings.extend(notices)
        message.needs_confirm |= any(notice.code == "budget_too_small" for notice in notices)
    return message


def _stage(number: int, row: StageRow) -> planner_pb2.PlanStage:
    settings = row.settings
    return planner_pb2.PlanStage(
        stage=number,
        processor=settings.processor,
        processor_version=settings.processor_version,
        parameters=orjson.dumps(settings.parameters),
        concurrency=settings.concurrency,
        max_tries=settings.max_tries,
        max_run_seconds=settings.max_run_seconds,
        worker_class=settings.worker_class,
        item_count=row.item_count,
        rules=as_message(settings.rules) if settings.rules else None,
        paid=settings.paid,
        repeatable=settings.repeatable,
    )


def table_page(schema: Schema, page: GridPage) -> sources_pb2.RowPage:
    """A grid's page; a row's values as one JSON object, null where there is none."""
    return sources_pb2.RowPage(
        rows=[
            sources_pb2.TableRow(
                position=row.row if row.seq is None else row.seq,
                key=row.key,
                group=row.group,
                values=orjson.dumps(
                    {
                        column.name: _told(column, value)
                        for column, value in zip(schema.columns, row.values, strict=True)
                    }
                ),
            )
            for row in page.rows
        ],
        total=page.total,
        groups=[sources_pb2.GroupCount(group=group, count=count) for group, count in page.groups],
        more_groups=max(0, page.group_count - len(page.groups)),
    )


def _told(column: Column, value: object) -> object:
    """A value as JSON: objects and lists as they are, unless they were cut."""
    if column.kind is ColumnKind.JSON and isinstance(value, str):
        try:
            return orjson.Fragment(value) if orjson.loads(value) is not None else None
        except ValueError:
            return value
    return value
