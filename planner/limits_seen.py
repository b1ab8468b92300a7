"""Limits and prices, as estimates see them: what the scheduler would hold a plan's items to now.

Asked once a plan, never per item, within a short deadline: a plan does not wait for them. Raises Unavailable while the
scheduler can't be reached; the estimate then says that it was made without.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.tls import Proof
from penstock.v1 import scheduler_pb2, scheduler_pb2_grpc

__all__ = ["LimitsSeen"]

PAGE, MOST_PAGES = 1_000, 5
ASK_SECONDS = 2.0


class LimitsSeen:
    def __init__(self, address: str, proof: Proof) -> None:
        self._channel = open_channel(address, proof, service="scheduler")
        self._stub = scheduler_pb2_grpc.LimitServiceStub(self._channel)

    async def limits(self) -> tuple[Sequence[scheduler_pb2.Limit], bool]:
        """The first PAGE * MOST_PAGES in order of key, and whether these are all."""
        found: list[scheduler_pb2.Limit] = []
        request = scheduler_pb2.ListLimitsRequest(page_size=PAGE)
        for _ in range(MOST_PAGES):
            with calling():
                answer = await self._stub.ListLimits(request, timeout=ASK_SECONDS)
            found += answer.limits
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found, True
        return found, False

    async def prices(self) -> dict[str, int]:
        """What an item of a processor costs in micro-dollars, as an operator set it."""
        with calling():
            answer = await self._stub.ListPrices(scheduler_pb2.ListPricesRequest(), timeout=ASK_SECONDS)
        return {price.processor: price.micros for price in answer.prices if price.micros >= 0}

    async def close(self) -> None:
        await self._channel.close()
