"""gRPC of plans that are removed: validate, call, translate."""

from __future__ import annotations

from penstock.runtime.logs import get_logger
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2
from planner.planner_calls import Context, PlannerCalls
from planner.translate import change_of, plan_message

__all__ = ["RemovalCalls"]

log = get_logger("planner")


class RemovalCalls(PlannerCalls):
    async def DeletePlan(
        self, request: planner_pb2.DeletePlanRequest, context: Context
    ) -> planner_pb2.DeletePlanResponse:
        plan_id, actor = await self._plan_id(request.plan_id), plain_text(request.actor, "actor")
        row, runs = await self._parts.removing.remove(
            plan_id, change=change_of(request.etag), force=request.force, look=request.validate_only
        )
        if not request.validate_only:
            self._parts.reader.forget()
            log.info("a plan was removed", plan=plan_id, name=row.name, runs=runs, force=request.force, actor=actor)
        return planner_pb2.DeletePlanResponse(plan=plan_message(row), run_count=runs)
