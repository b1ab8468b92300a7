"""gRPC of plans that are removed: validate, call, translate."""

from __future__ import annotations

from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger
from penstock.runtime.paging import whole_number
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2
from planner.planner_calls import Context, PlannerCalls
from planner.translate import plan_message

__all__ = ["RemovalCalls"]

log = get_logger("planner")


class RemovalCalls(PlannerCalls):
    async def DeletePlan(
        self, request: planner_pb2.DeletePlanRequest, context: Context
    ) -> planner_pb2.DeletePlanResponse:
        plan_id, actor = await self._plan_id(request.plan_id), plain_text(request.actor, "actor")
        change = whole_number(request.etag) if request.etag else None
        if request.etag and change is None:
            raise InvalidInput(f"etag {request.etag[:80]!r} is none of ours: give it as it was", code="bad_etag")
        row, runs = await self._parts.removing.remove(
            plan_id, change=change, force=request.force, look=request.validate_only
        )
        if not request.validate_only:
            self._parts.reader.forget()
            log.info("a plan was removed", plan=plan_id, name=row.name, runs=runs, force=request.force, actor=actor)
        return planner_pb2.DeletePlanResponse(plan=plan_message(row), run_count=runs)
