"""The planner, as the scheduler sees it: a plan's head, windows of its items, and plans that are derived from others.

Nothing is kept here: plans never change, and what is read of them is `windows`'s to keep. Every call has the channel's
deadline; a planner that is away is Unavailable, and the caller tries again or passes it on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.clock import to_timestamp
from penstock.runtime.errors import NotFound
from penstock.runtime.tls import Proof
from penstock.v1 import common_pb2, planner_pb2, planner_pb2_grpc

__all__ = ["PLAN", "Plans"]

PLAN = "plan-"
"""What ids of plans begin with."""

READ_LIMIT = 10_000
DERIVE_SEQS = 100_000


class Plans:
    """Raises the planner's errors as our own; `Unavailable` when it can't be reached."""

    def __init__(self, address: str, proof: Proof) -> None:
        self._channel = open_channel(address, proof, service="planner")
        self._stub = planner_pb2_grpc.PlannerServiceStub(self._channel)

    async def keep(
        self, plan_id: str, *, confirm: bool, now_ms: int, budget_micros: int | None = None
    ) -> planner_pb2.Plan:
        """The plan's head; a draft is one no longer, so that it outlives its run. Raises Conflict (`confirm_required`)
        for one that asks before it runs, as it does where the run's budget is too small, unless it is confirmed."""
        request = planner_pb2.KeepPlanRequest(
            plan_id=plan_id, confirm=confirm, budget_micros=budget_micros, start_time=to_timestamp(now_ms)
        )
        with calling():
            return await self._stub.KeepPlan(request)

    async def window(
        self,
        plan_id: str,
        stage: int,
        after_seq: int,
        limit: int,
        *,
        only_lanes: Sequence[str] | None = None,
        without_lanes: Sequence[str] = (),
    ) -> planner_pb2.ReadPlanItemsResponse:
        """Items with seq > `after_seq`, at most `limit`, in order: of some lanes alone, or of all but some."""
        request = planner_pb2.ReadPlanItemsRequest(
            plan_id=plan_id,
            stage=stage,
            after_seq=after_seq,
            limit=min(limit, READ_LIMIT),
            only_lanes=only_lanes or (),
            without_lanes=without_lanes,
        )
        with calling():
            return await self._stub.ReadPlanItems(request)

    async def items(self, plan_id: str, stage: int, seqs: Sequence[int]) -> list[common_pb2.Item]:
        """Exactly these items, in order of `seqs`."""
        found: list[common_pb2.Item] = []
        while len(found) < len(seqs):
            # Where payloads are large an answer ends early.
            request = planner_pb2.ReadPlanItemsRequest(
                plan_id=plan_id, stage=stage, seqs=list(seqs[len(found) : len(found) + READ_LIMIT])
            )
            with calling():
                items = (await self._stub.ReadPlanItems(request)).items
            if not items:
                raise NotFound(f"plan {plan_id} has no item {seqs[len(found)]} in stage {stage}", code="item_not_found")
            found += items
        return found

    async def derive(
        self, plan_id: str, stage: int, pages: AsyncIterator[list[int]], *, name: str, actor: str, request_id: str
    ) -> planner_pb2.Plan:
        """A new plan of these items of a plan's stage (seqs in rising order), and of the stages after it. actor: who
        makes it."""

        async def parts() -> AsyncIterator[planner_pb2.DerivePlanRequest]:
            header = planner_pb2.DerivePlanRequest.Header(
                plan_id=plan_id, stage=stage, name=name, actor=actor, request_id=request_id
            )
            yield planner_pb2.DerivePlanRequest(header=header)
            async for page in pages:
                for first in range(0, len(page), DERIVE_SEQS):
                    seqs = planner_pb2.DerivePlanRequest.Seqs(seqs=page[first : first + DERIVE_SEQS])
                    yield planner_pb2.DerivePlanRequest(seqs=seqs)

        with calling():
            return await self._stub.DerivePlan(parts())

    async def close(self) -> None:
        await self._channel.close()
