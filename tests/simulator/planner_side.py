"""The planner of the simulation: plans in memory behind the stub that the scheduler calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.runtime.errors import NotFound, Unavailable
from penstock.v1 import common_pb2, planner_pb2
from scheduler.plans import Plans
from tests.simulator.loop import VirtualLoop

__all__ = ["PlannerWorld", "SimPlans"]

PAGE = 64
"""Items of a page at most: windows are read in pieces."""


@dataclass
class _Kept:
    plan: planner_pb2.Plan
    items: list[list[common_pb2.Item]]


class PlannerWorld:
    def __init__(self, loop: VirtualLoop, fired: Callable[[str], None]) -> None:
        self.loop = loop
        self.fired = fired
        self.down_until = 0.0
        self._plans: dict[str, _Kept] = {}

    def add(self, plan: planner_pb2.Plan, items: list[list[common_pb2.Item]]) -> str:
        plan.plan_id = plan.plan_id or f"plan-{len(self._plans)}"
        plan.item_count = len(items[0])
        for stage, found in zip(plan.stages, items, strict=True):
            stage.item_count = len(found)
        self._plans[plan.plan_id] = _Kept(plan, items)
        return plan.plan_id

    def items(self, plan_id: str, stage: int) -> list[common_pb2.Item]:
        return self._plans[plan_id].items[stage]

    async def _kept(self, plan_id: str) -> _Kept:
        await asyncio.sleep(self.loop.hop())
        if self.loop.now < self.down_until:
            self.fired("planner_down")
            raise Unavailable("the planner can't be reached (simulated)")
        if plan_id not in self._plans:
            raise NotFound(f"no plan {plan_id}", code="plan_not_found")
        return self._plans[plan_id]

    # -- the stub

    async def KeepPlan(self, request: planner_pb2.KeepPlanRequest, **_: Any) -> planner_pb2.Plan:
        kept = await self._kept(request.plan_id)
        await asyncio.sleep(self.loop.hop())
        return kept.plan

    async def GetPlan(self, request: planner_pb2.GetPlanRequest, **_: Any) -> planner_pb2.Plan:
        return (await self._kept(request.plan_id)).plan

    async def ReadPlanItems(
        self, request: planner_pb2.ReadPlanItemsRequest, **_: Any
    ) -> planner_pb2.ReadPlanItemsResponse:
        items = (await self._kept(request.plan_id)).items[request.stage]
        answer = planner_pb2.ReadPlanItemsResponse(last_seq=-1)
        if request.seqs:
            answer.items.extend(items[seq] for seq in request.seqs if seq < len(items))
        else:
            limit = min(request.limit or 1000, PAGE)
            only, without = set(request.only_lanes), set(request.without_lanes)
            answer.end = True
            for item in items[request.after_seq + 1 :]:
                if (only and item.lane not in only) or item.lane in without:
                    answer.last_seq = item.seq
                    continue
                if len(answer.items) == limit:
                    answer.end = False
                    break
                answer.items.append(item)
                answer.last_seq = item.seq
        await asyncio.sleep(self.loop.hop())
        return answer

    async def ListPlanLanes(
        self, request: planner_pb2.ListPlanLanesRequest, **_: Any
    ) -> planner_pb2.ListPlanLanesResponse:
        items = (await self._kept(request.plan_id)).items[request.stage]
        lanes: dict[str, planner_pb2.PlanLane] = {}
        for item in items:
            lane = lanes.setdefault(item.lane, planner_pb2.PlanLane(lane=item.lane, first_seq=item.seq))
            lane.count += 1
        return planner_pb2.ListPlanLanesResponse(lanes=lanes.values())

    async def DerivePlan(self, requests: AsyncIterator[planner_pb2.DerivePlanRequest], **_: Any) -> planner_pb2.Plan:
        header: planner_pb2.DerivePlanRequest.Header | None = None
        seqs: list[int] = []
        async for request in requests:
            if request.HasField("header"):
                header = request.header
            else:
                seqs += request.seqs.seqs
        assert header is not None
        kept = await self._kept(header.plan_id)
        plan = planner_pb2.Plan()
        plan.CopyFrom(kept.plan)
        plan.plan_id = f"{header.plan_id}-{header.stage}-{len(seqs)}-{hash(tuple(seqs)) & 0xFFFF:x}"
        del plan.stages[: header.stage]
        for number, stage in enumerate(plan.stages):
            stage.stage = number
        self.add(plan, [_chosen(kept.items[header.stage], seqs), *kept.items[header.stage + 1 :]])
        return plan


def _chosen(items: Sequence[common_pb2.Item], seqs: Sequence[int]) -> list[common_pb2.Item]:
    found = []
    for place, seq in enumerate(seqs):
        item = common_pb2.Item()
        item.CopyFrom(items[seq])
        item.seq = place
        found.append(item)
    return found


class _NoChannel:
    async def close(self) -> None:
        pass


class SimPlans(Plans):
    """The scheduler's own client of the planner, over a stub in memory."""

    def __init__(self, world: PlannerWorld) -> None:
        self._channel = _NoChannel()  # type: ignore[assignment]
        self._stub = world  # type: ignore[assignment]
