"""The scheduler, as the removal of plans sees it: which runs need a plan, and that it is let go of.

Asked once a removal. Raises Unavailable while it can't be reached, or where nobody said where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.tls import Proof
from penstock.v1 import scheduler_pb2, scheduler_pb2_grpc
from planner.store import PlanRow

__all__ = ["PlanUses", "Uses"]


@dataclass(frozen=True)
class Uses:
    """needs: runs that need the plan, the newest first, and `more`; runs: how many it ever had."""

    needs: Sequence[scheduler_pb2.PlanNeed]
    more: int
    runs: int


class PlanUses:
    def __init__(self, address: str, proof: Proof) -> None:
        self._channel = open_channel(address, proof, service="scheduler")
        self._stub = scheduler_pb2_grpc.SchedulerServiceStub(self._channel)

    async def release(self, plan: PlanRow, *, force: bool, look: bool = False) -> Uses:
        """Lets go of the plan unless a run needs it. look: asks, and lets go of nothing."""
        request = scheduler_pb2.ReleasePlanRequest(plan_id=plan.plan_id, uid=plan.uid, force=force, validate_only=look)
        with calling():
            answer = await self._stub.ReleasePlan(request)
        return Uses(answer.needs, answer.more_needs, answer.run_count)

    async def close(self) -> None:
        await self._channel.close()
