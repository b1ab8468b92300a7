"""gRPC of the planner: a plan is about to be removed. Validate, call, translate.

What it answers is durable: a plan that was let go of stays so, and a planner that dies before it removes the plan asks
again and gets the same answer. Nothing is let go of by halves.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger
from penstock.runtime.plain_text import plain_text
from penstock.v1 import scheduler_pb2 as pb
from scheduler.domain.states import RunState
from scheduler.run_calls import Context, RunCalls
from scheduler.store.effects import Effects
from scheduler.store.plan_uses import Needs, needs_of, release
from scheduler.translate import RUN_STATES

__all__ = ["ReleaseCalls"]

log = get_logger("scheduler")


class ReleaseCalls(RunCalls):
    async def ReleasePlan(self, request: pb.ReleasePlanRequest, context: Context) -> pb.ReleasePlanResponse:
        plan_id, uid = plain_text(request.plan_id, "plan_id"), plain_text(request.uid, "uid")
        if not plan_id or not uid:
            raise InvalidInput("plan_id and uid say which plan is removed; one is missing", code="plan_id_missing")

        def look() -> Needs:
            with self._database.read() as connection:
                return needs_of(connection, plan_id, force=request.force)

        def work(connection: sa.Connection, effects: Effects) -> Needs:
            return release(connection, plan_id, uid, force=request.force)

        # Most that are refused are refused here, without a lock.
        needs = await asyncio.to_thread(look)
        if not needs.count and not request.validate_only:
            needs = await self._engine.commits.run(work)
            if not needs.count:
                log.info("a plan was let go of", plan=plan_id, runs=needs.runs, force=request.force)
        return _answer(needs)


def _answer(needs: Needs) -> pb.ReleasePlanResponse:
    answer = pb.ReleasePlanResponse(more_needs=needs.count - len(needs.newest), run_count=needs.runs)
    for need in needs.newest:
        answer.needs.add(
            run_id=need.run_id,
            number=need.number,
            name=need.name,
            state=RUN_STATES[RunState(need.state)],
            left=need.left,
        )
    return answer
