"""Plans of a small catalog of mice, run by workers of the tests: what tests of plans share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Set

import orjson

from penstock.runtime.channel import calling
from penstock.v1 import planner_pb2, planner_pb2_grpc
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from tests.integration.scheduler.world import World, completed, failed

__all__ = ["BRANDS", "NOOP", "Plans", "rows"]

BRANDS = {"Razer": 5, "Acer": 2, "Logitech": 4}
NOOP = [planner_pb2.StageSpec(processor="noop")]


def rows(prices: dict[str, int] | None = None) -> bytes:
    lines = [
        {
            "product_id": f"{brand.lower()}-{number}",
            "brand": brand,
            "model": f"{brand} {number}",
            "price": (prices or {}).get(f"{brand.lower()}-{number}", number * 10),
            "limits": [],
        }
        for brand, count in BRANDS.items()
        for number in range(count, 0, -1)
    ]
    return b"\n".join(map(orjson.dumps, lines)) + b"\n"


class Plans:
    """The world's planner, by the calls of these tests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stub: planner_pb2_grpc.PlannerServiceAsyncStub = planner_pb2_grpc.PlannerServiceStub(
            world.channel(world.planner.address)
        )

    async def catalog(self, data: bytes, name: str = "mice", **header: object) -> planner_pb2.Source:
        parts = planner_pb2.CreateSourceRequest
        kind = planner_pb2.SOURCE_KIND_CATALOG

        async def sent() -> AsyncIterator[planner_pb2.CreateSourceRequest]:
            yield parts(header=parts.Header(kind=kind, name=name, actor="ann", **header))  # type: ignore[arg-type]
            yield parts(file=parts.File(name="mice.jsonl"))
            yield parts(chunk=data)

        with calling():
            return await self.stub.CreateSource(sent())

    async def plan(self, selection: sp.Selection | None = None, **fields: object) -> planner_pb2.Plan:
        fields = {"source_id": "mice", "stages": NOOP, "selection": selection or sp.Selection(), **fields}
        with calling():
            return await self.stub.CreatePlan(planner_pb2.CreatePlanRequest(**fields))  # type: ignore[arg-type]

    async def keys(self, plan: planner_pb2.Plan) -> list[str]:
        """In the order in which a run has them."""
        request = planner_pb2.ReadPlanItemsRequest(plan_id=plan.plan_id, after_seq=-1, limit=1_000)
        with calling():
            return [item.key for item in (await self.stub.ReadPlanItems(request)).items]

    async def run(
        self, plan: planner_pb2.Plan, *, wrong: Set[str] = frozenset(), confidence: float | None = 0.9
    ) -> str:
        """A run of it to its end, of which these keys fail; its id."""
        with calling():
            started = await self.world.runs.StartRun(
                pb.StartRunRequest(plan_id=plan.plan_id, actor="ann", confirm=True)
            )
        worker, left = self.world.worker(), plan.item_count
        while left:
            leases = await worker.leases(left)
            await worker.report(
                started.run_id,
                [
                    failed(lease, permanent=True)
                    if lease.key in wrong
                    else completed(lease, {"confidence": confidence} if confidence is not None else {})
                    for lease in leases
                ],
            )
            left -= len(leases)
        await worker.end()
        return started.run_id
