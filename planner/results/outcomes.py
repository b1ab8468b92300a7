"""The scheduler, as the copy of results sees it: how far runs have settled, and their outcomes in commit order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.tls import Proof
from penstock.v1 import scheduler_pb2, scheduler_pb2_grpc

__all__ = ["Outcomes"]

PAGE = 5_000
EVENT_PAGE = 1_000
MOST_CHANGES = 10_000


class Outcomes:
    """Raises the scheduler's errors as our own; Unavailable when it can't be reached."""

    def __init__(self, address: str, proof: Proof) -> None:
        self._channel = open_channel(address, proof, service="scheduler")
        self._stub = scheduler_pb2_grpc.SchedulerServiceStub(self._channel)

    async def settled(self, after_number: int) -> tuple[Sequence[scheduler_pb2.SettledRun], int, int]:
        """Runs with a higher number that have outcomes, in order; where the next page begins (0: that was all); and
        below which number no run changes any more."""
        request = scheduler_pb2.ListSettledRunsRequest(after_number=after_number, page_size=PAGE)
        with calling():
            answer = await self._stub.ListSettledRuns(request)
        return answer.runs, answer.next_after_number, answer.final_below

    async def read(self, run_id: str, stage: int, after: int) -> AsyncIterator[Sequence[scheduler_pb2.RunItem]]:
        """Completed and failed items of a stage after a settle number, some hundreds at a time."""
        request = scheduler_pb2.ReadOutcomesRequest(run_id=run_id, stage=stage, after_settle_number=after)
        with calling():
            async for answer in self._stub.ReadOutcomes(request):
                yield answer.items

    async def run(self, run_id: str) -> scheduler_pb2.Run:
        with calling():
            return await self._stub.GetRun(scheduler_pb2.GetRunRequest(run_id=run_id))

    async def states(self, run_id: str) -> Sequence[tuple[int, str]]:
        """When a run came into which state, in order."""
        found: list[tuple[int, str]] = []
        request = scheduler_pb2.ListEventsRequest(run_id=run_id, types=["run.state"], page_size=EVENT_PAGE)
        while len(found) < MOST_CHANGES:
            with calling():
                answer = await self._stub.ListEvents(request)
            found += [(event.time.ToMilliseconds(), event.new_state) for event in answer.events]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        return found

    async def close(self) -> None:
        await self._channel.close()
