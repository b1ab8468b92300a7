"""Calls about sources by name, plans of tables, and starts that are confirmed: one function a call, typed, with the
retry that is safe for it.

What only reads is tried again while a service is away; so is what carries a request id, which is answered once. Adding,
refreshing and removing a source are never sent twice: a second try would meet its own first one. Failures come out as
classes of `penstock.runtime.errors`. No rules and no JSON here: routes and views have those.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.v1 import planner_pb2, scheduler_pb2

__all__ = [
    "add_source",
    "compare_plans",
    "create_plan",
    "delete_source",
    "describe_source",
    "list_plans",
    "list_sources",
    "name_plan",
    "refresh_source",
    "source_versions",
    "start_run",
]

READ_SECONDS = 900.0
"""A table of ten million rows is read within the call."""
PLAN_SECONDS = 300.0
"""So is a plan of as many written."""


async def add_source(connection: Connection, request: planner_pb2.AddSourceRequest) -> planner_pb2.Source:
    request.actor = connection.actor
    return await connection.once(lambda: connection.planner.AddSource(request, timeout=READ_SECONDS))


async def refresh_source(connection: Connection, name: str, *, request_id: str) -> planner_pb2.Source:
    request = filled(planner_pb2.RefreshSourceRequest, name=name, actor=connection.actor, request_id=request_id)
    return await connection.once(lambda: connection.planner.RefreshSource(request, timeout=READ_SECONDS))


async def delete_source(connection: Connection, name: str) -> planner_pb2.DeleteSourceResponse:
    request = filled(planner_pb2.DeleteSourceRequest, name=name, actor=connection.actor)
    return await connection.once(lambda: connection.planner.DeleteSource(request))


async def describe_source(connection: Connection, source: str) -> planner_pb2.SourceDescription:
    request = filled(planner_pb2.GetSourceRequest, source_id=source)
    return await connection.read(lambda: connection.planner.DescribeSource(request))


async def list_sources(
    connection: Connection,
    *,
    page_size: int,
    page_token: str,
    search: str,
    kind: planner_pb2.SourceKind.ValueType,
) -> planner_pb2.ListSourcesResponse:
    request = filled(
        planner_pb2.ListSourcesRequest, page_size=page_size, page_token=page_token, search=search, kind=kind
    )
    return await connection.read(lambda: connection.planner.ListSources(request))


async def source_versions(
    connection: Connection, name: str, *, page_size: int, page_token: str
) -> planner_pb2.ListSourceVersionsResponse:
    request = filled(planner_pb2.ListSourceVersionsRequest, name=name, page_size=page_size, page_token=page_token)
    return await connection.read(lambda: connection.planner.ListSourceVersions(request))


async def create_plan(
    connection: Connection, request: planner_pb2.CreatePlanRequest, *, request_id: str = ""
) -> planner_pb2.Plan:
    request.actor = connection.actor

    async def call(chosen: str) -> planner_pb2.Plan:
        request.request_id = chosen
        return await connection.planner.CreatePlan(request, timeout=PLAN_SECONDS)

    return await connection.idempotent(call, request_id)


async def list_plans(
    connection: Connection, *, page_size: int, page_token: str, search: str, source: str
) -> planner_pb2.ListPlansResponse:
    request = filled(
        planner_pb2.ListPlansRequest, page_size=page_size, page_token=page_token, search=search, source=source
    )
    return await connection.read(lambda: connection.planner.ListPlans(request))


async def name_plan(connection: Connection, plan_id: str, name: str, *, etag: str) -> planner_pb2.Plan:
    request = filled(planner_pb2.UpdatePlanRequest, plan_id=plan_id, name=name, etag=etag, actor=connection.actor)
    return await connection.once(lambda: connection.planner.UpdatePlan(request))


async def compare_plans(connection: Connection, plan_id: str, other: str) -> planner_pb2.PlanComparison:
    request = filled(planner_pb2.ComparePlansRequest, plan_id=plan_id, other_plan_id=other)
    return await connection.read(lambda: connection.planner.ComparePlans(request))


async def start_run(
    connection: Connection,
    plan_id: str,
    *,
    confirm: bool,
    name: str = "",
    owner: str = "",
    priority: int = 0,
    budget_micros: int | None = None,
    exclusive_keys: Sequence[str] = (),
    reason: str = "",
    request_id: str = "",
) -> scheduler_pb2.Run:
    """As `penstock.client.runs.Runs.start`, and confirmed: raises Conflict `confirm_required` where it should be."""
    request = filled(
        scheduler_pb2.StartRunRequest,
        plan_id=plan_id,
        name=name,
        actor=connection.actor,
        owner=owner,
        priority=priority,
        budget_micros=budget_micros,
        exclusive_keys=exclusive_keys,
        reason=reason,
        confirm=confirm,
    )

    async def call(chosen: str) -> scheduler_pb2.Run:
        request.request_id = chosen
        return await connection.scheduler.StartRun(request)

    return await connection.idempotent(call, request_id)
