"""What all runs share: limits by key, prices by processor, and the switch that stops every retry in an incident."""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import scheduler_pb2

__all__ = ["FORGET", "Limits", "Prices", "RateOptions", "Retries"]

FORGET = -1
"""A price that is forgotten."""


@dataclass(frozen=True, kw_only=True)
class RateOptions:
    """So much a minute of one dimension (`requests`, or what processors report as used). Zero means the default."""

    dimension: str
    per_minute: float
    burst: float = 0.0
    estimate: float = 0.0

    def message(self) -> scheduler_pb2.Rate:
        return filled(
            scheduler_pb2.Rate,
            dimension=self.dimension,
            per_minute=self.per_minute,
            burst=self.burst,
            estimate=self.estimate,
        )


class Limits:
    """Rate, concurrency and closure of keys such as `provider:anthropic`; a key that ends with `*` is a pattern."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list_page(
        self, *, prefix: str = "", states: Sequence[str] = (), page_size: int = 100, page_token: str = ""
    ) -> scheduler_pb2.ListLimitsResponse:
        """states: open, closed, probing, ramping; none: all."""
        request = scheduler_pb2.ListLimitsRequest(
            page_size=page_size, page_token=page_token, prefix=prefix, states=states
        )
        return await self._connection.read(lambda: self._connection.limits.ListLimits(request))

    async def each(self, *, prefix: str = "", states: Sequence[str] = ()) -> AsyncIterator[scheduler_pb2.Limit]:
        """Every limit in order of its key, a page at a time."""
        token = ""
        while True:
            page = await self.list_page(prefix=prefix, states=states, page_size=1000, page_token=token)
            for limit in page.limits:
                yield limit
            token = page.next_page_token
            if not token:
                return

    async def list(self, *, prefix: str = "", states: Sequence[str] = ()) -> builtins.list[scheduler_pb2.Limit]:
        return [limit async for limit in self.each(prefix=prefix, states=states)]

    async def events_page(
        self, key: str = "", *, page_size: int = 100, page_token: str = ""
    ) -> scheduler_pb2.ListLimitEventsResponse:
        request = scheduler_pb2.ListLimitEventsRequest(key=key, page_size=page_size, page_token=page_token)
        return await self._connection.read(lambda: self._connection.limits.ListLimitEvents(request))

    async def events(self, key: str = "", *, limit: int = 100) -> builtins.list[scheduler_pb2.LimitEvent]:
        """Who set, closed and opened a key, or all of them, and what their valves did; the latest first."""
        found: builtins.list[scheduler_pb2.LimitEvent] = []
        token = ""
        while len(found) < limit:
            page = await self.events_page(key, page_size=min(limit - len(found), 1000), page_token=token)
            found += page.events
            token = page.next_page_token
            if not token:
                break
        return found

    async def get(self, key: str) -> scheduler_pb2.Limit:
        """Raises NotFound that names what exists nearby."""
        page = await self.list_page(prefix=key, page_size=1)
        if page.limits and page.limits[0].key == key:
            return page.limits[0]
        kind = key.partition(":")[0]
        near = (await self.list_page(prefix=f"{kind}:", page_size=5)).limits or (
            await self.list_page(page_size=5)
        ).limits
        names = ", ".join(limit.key for limit in near)
        raise NotFound(
            f"there is no limit {key!r}; " + (f"there is: {names}" if names else "there is none yet"),
            code="limit_not_found",
        )

    async def set(
        self,
        key: str,
        *,
        concurrency: int | None = None,
        rates: Sequence[RateOptions] = (),
        adaptive: bool = False,
        cooldown_seconds: float = 0.0,
        etag: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.Limit:
        """Makes or replaces a limit, whole; live at once. etag: only if it is still as it was read then."""
        limit = filled(
            scheduler_pb2.Limit,
            key=key,
            concurrency=concurrency,
            rates=[rate.message() for rate in rates],
            adaptive=adaptive,
            cooldown_seconds=cooldown_seconds,
            etag=etag,
        )
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self._connection.limits.SetLimit(
                scheduler_pb2.SetLimitRequest(limit=limit, actor=actor, reason=reason, request_id=chosen)
            ),
            request_id,
        )

    async def delete(self, key: str, *, reason: str = "", request_id: str = "") -> bool:
        """Whether there was one."""
        actor = self._connection.actor
        answer = await self._connection.idempotent(
            lambda chosen: self._connection.limits.DeleteLimit(
                scheduler_pb2.DeleteLimitRequest(key=key, actor=actor, reason=reason, request_id=chosen)
            ),
            request_id,
        )
        return answer.changed

    async def close(
        self, key: str, *, until: dt.datetime | None = None, reason: str = "", request_id: str = ""
    ) -> scheduler_pb2.Limit:
        """Nothing that names the key starts until then; without a time, until it is opened."""
        if until is not None and until.tzinfo is None:
            raise InvalidInput("a closure's end needs a time zone", code="bad_time")
        request = scheduler_pb2.CloseLimitRequest(key=key, actor=self._connection.actor, reason=reason)
        if until is not None:
            request.until_time.FromDatetime(until.astimezone(dt.UTC))

        async def call(chosen: str) -> scheduler_pb2.Limit:
            request.request_id = chosen
            return await self._connection.limits.CloseLimit(request)

        return await self._connection.idempotent(call, request_id)

    async def open(self, key: str, *, reason: str = "", request_id: str = "") -> scheduler_pb2.Limit:
        """Ends any closure of the key, and its valve's caution."""
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self._connection.limits.OpenLimit(
                scheduler_pb2.OpenLimitRequest(key=key, actor=actor, reason=reason, request_id=chosen)
            ),
            request_id,
        )


class Prices:
    """What an item of a processor costs: as set by operators, and as learned."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[scheduler_pb2.Price]:
        request = scheduler_pb2.ListPricesRequest()
        return list((await self._connection.read(lambda: self._connection.limits.ListPrices(request))).prices)

    async def set(self, processor: str, micros: int, *, reason: str = "", request_id: str = "") -> scheduler_pb2.Price:
        """micros: of one item, in millionths of a dollar; FORGET takes the operators' price away."""
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self._connection.limits.SetPrice(
                scheduler_pb2.SetPriceRequest(
                    processor=processor, micros=micros, actor=actor, reason=reason, request_id=chosen
                )
            ),
            request_id,
        )


class Retries:
    """The global switch: while retries are stopped, what would be tried again waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self) -> scheduler_pb2.Retries:
        request = scheduler_pb2.GetRetriesRequest()
        return await self._connection.read(lambda: self._connection.scheduler.GetRetries(request))

    async def set(self, *, allowed: bool, reason: str = "", request_id: str = "") -> scheduler_pb2.Retries:
        actor = self._connection.actor
        return await self._connection.idempotent(
            lambda chosen: self._connection.scheduler.SetRetries(
                scheduler_pb2.SetRetriesRequest(allowed=allowed, actor=actor, reason=reason, request_id=chosen)
            ),
            request_id,
        )
