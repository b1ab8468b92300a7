"""More money for an item that runs: asked again, with the same id, until there is an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from penstock.processor import BudgetRefused, WorkItem
from penstock.runtime.channel import calling
from penstock.runtime.clock import random_id
from penstock.runtime.errors import Overloaded, PenstockError, Unavailable
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from penstock.words import dollars
from worker.runner import StageWork

__all__ = ["TopUps"]

CALL_SECONDS = 30.0

Pause = Callable[[int, str, PenstockError], Awaitable[int]]
"""Waits after so many failures in a row of what was tried; answers how many there are now."""


class TopUps:
    def __init__(self, session: pb.WorkerSession, stub: scheduler_pb2_grpc.LeaseServiceAsyncStub, pause: Pause) -> None:
        self._session = session
        self._stub = stub
        self._pause = pause

    async def __call__(self, work: StageWork, item: WorkItem, micros: int) -> int:
        """Reserves so many more for an item; what is reserved then. Raises BudgetRefused."""
        lease = pb.LeaseId(run_id=work.run_id, stage=work.stage, seq=item.seq, attempt=item.attempt)
        request = pb.TopUpRequest(session=self._session, lease=lease, micros=micros, request_id=random_id("top-up"))
        failures = 0
        while True:
            try:
                with calling():
                    response = await self._stub.TopUp(request, timeout=CALL_SECONDS)
            except (Unavailable, Overloaded) as error:
                failures = await self._pause(failures, "top up", error)
                continue
            except PenstockError as error:
                raise BudgetRefused(f"{dollars(micros)} more were refused: {error.message}") from error
            if not response.granted:
                raise BudgetRefused(
                    f"{dollars(micros)} more than {dollars(response.reserved_micros)} were refused: {response.reason}"
                )
            return response.reserved_micros
