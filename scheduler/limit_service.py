"""gRPC of limits and prices: validate, call, translate; nothing is decided here.

Changes are idempotent by their request id: the same request gets the answer of the first. While Redis is away all of it
works, but for how many leases a key has out: none are told then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa

from penstock.runtime.clock import milliseconds_of, to_timestamp
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.paging import MOST, page_position
from penstock.runtime.plain_text import plain_text
from penstock.runtime.sql import Database
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import scheduler_pb2_grpc
from scheduler.commands import MAX_BUDGET_MICROS
from scheduler.domain.limit_settings import LimitSettings
from scheduler.domain.limits import RateState
from scheduler.domain.valve import ValveState
from scheduler.engine import Engine
from scheduler.giving_way import give_way
from scheduler.limits import Limits, etag_of
from scheduler.ready import Ready
from scheduler.run_calls import Context, actor_of, page_size, reason_of
from scheduler.store import price_table
from scheduler.store.effects import Effects
from scheduler.store.limit_reads import EventRow, Place, events_of, page_in_states, page_of
from scheduler.store.limit_rows import LimitRow
from scheduler.store.requests import Request, digest_of, known, once, remember

__all__ = ["LimitService"]

Call = pb.SetLimitRequest | pb.DeleteLimitRequest | pb.CloseLimitRequest | pb.OpenLimitRequest | pb.SetPriceRequest
M = TypeVar("M", pb.Limit, pb.DeleteLimitResponse, pb.Price)

TOKEN_CHARACTERS = 300
"""A time, a number and the longest key."""


class LimitService(scheduler_pb2_grpc.LimitServiceServicer):
    """`ready` tells how many leases hold a key."""

    def __init__(self, limits: Limits, engine: Engine, database: Database, ready: Ready) -> None:
        self._limits = limits
        self._engine = engine
        self._database = database
        self._ready = ready

    async def ListLimits(self, request: pb.ListLimitsRequest, context: Context) -> pb.ListLimitsResponse:
        most = page_size(request.page_size, 100, 1_000)
        after = plain_text(request.page_token, "page_token")
        prefix = plain_text(request.prefix, "prefix")
        states = _states(request.states)
        held = await _told(self._ready.in_use())

        def read() -> tuple[list[LimitRow], str]:
            with self._database.read() as connection:
                if states:
                    return page_in_states(connection, states, after=after, prefix=prefix, most=most)
                rows = page_of(connection, after=after, prefix=prefix, most=most + 1, in_use=held)
                return rows[:most], rows[most - 1].key if len(rows) > most else ""

        rows, token = await asyncio.to_thread(read)
        found = [limit_message(row, held.get(row.key, 0)) for row in rows]
        return pb.ListLimitsResponse(limits=found, next_page_token=token)

    async def ListLimitEvents(self, request: pb.ListLimitEventsRequest, context: Context) -> pb.ListLimitEventsResponse:
        most = page_size(request.page_size, 100, 1_000)
        key = plain_text(request.key, "key")
        before = _place(plain_text(request.page_token, "page_token", most=TOKEN_CHARACTERS))

        def read() -> list[EventRow]:
            with self._database.read() as connection:
                return events_of(connection, key, before=before, most=most + 1)

        rows = await asyncio.to_thread(read)
        last = rows[most - 1] if len(rows) > most else None
        return pb.ListLimitEventsResponse(
            events=[event_message(row) for row in rows[:most]],
            next_page_token=f"{last.time_ms} {last.number} {last.key}" if last else "",
        )

    async def SetLimit(self, request: pb.SetLimitRequest, context: Context) -> pb.Limit:
        said = request.limit
        if not said.key:
            raise InvalidInput("the limit has no key; e.g. provider:anthropic, or domain:* for all", code="bad_limit")
        settings = LimitSettings(
            key=plain_text(said.key, "key"),
            concurrency=said.concurrency if said.HasField("concurrency") else None,
            rates=[RateState(rate.dimension, rate.per_minute, rate.burst, rate.estimate) for rate in said.rates],
            adaptive=said.adaptive,
            cooldown_seconds=said.cooldown_seconds,
        )
        etag = plain_text(said.etag, "etag")

        def work(connection: sa.Connection, effects: Effects) -> pb.Limit:
            actor, reason = actor_of(request.actor), reason_of(request.reason)
            row = self._limits.set(connection, effects, settings, etag=etag, actor=actor, reason=reason)
            return limit_message(row, 0)

        return await self._with_held(await self._once(request, pb.Limit(), work))

    async def DeleteLimit(self, request: pb.DeleteLimitRequest, context: Context) -> pb.DeleteLimitResponse:
        key = _key(request.key)

        def work(connection: sa.Connection, effects: Effects) -> pb.DeleteLimitResponse:
            actor, reason = actor_of(request.actor), reason_of(request.reason)
            return pb.DeleteLimitResponse(
                changed=self._limits.delete(connection, effects, key, actor=actor, reason=reason)
            )

        return await self._once(request, pb.DeleteLimitResponse(), work)

    async def CloseLimit(self, request: pb.CloseLimitRequest, context: Context) -> pb.Limit:
        key = _key(request.key)
        until_ms = milliseconds_of(request.until_time, "until_time") if request.HasField("until_time") else None

        def work(connection: sa.Connection, effects: Effects) -> pb.Limit:
            actor, reason = actor_of(request.actor), reason_of(request.reason)
            return limit_message(self._limits.close(connection, effects, key, until_ms, actor=actor, reason=reason), 0)

        return await self._with_held(await self._once(request, pb.Limit(), work))

    async def OpenLimit(self, request: pb.OpenLimitRequest, context: Context) -> pb.Limit:
        key = _key(request.key)

        def work(connection: sa.Connection, effects: Effects) -> pb.Limit:
            actor, reason = actor_of(request.actor), reason_of(request.reason)
            return limit_message(self._limits.open(connection, effects, key, actor=actor, reason=reason), 0)

        return await self._with_held(await self._once(request, pb.Limit(), work))

    async def ListPrices(self, request: pb.ListPricesRequest, context: Context) -> pb.ListPricesResponse:
        def read() -> list[price_table.PriceRow]:
            with self._database.read() as connection:
                return price_table.all_prices(connection)

        return pb.ListPricesResponse(prices=[price_message(row) for row in await asyncio.to_thread(read)])

    async def SetPrice(self, request: pb.SetPriceRequest, context: Context) -> pb.Price:
        processor = plain_text(request.processor, "processor")
        if not processor:
            raise InvalidInput("processor is missing: whose price is it?", code="bad_price")
        if not -1 <= request.micros <= MAX_BUDGET_MICROS:
            raise InvalidInput(
                f"micros {request.micros:,} is no price: 0 to {MAX_BUDGET_MICROS:,} millionths of a dollar; "
                "-1 forgets it",
                code="bad_price",
            )
        actor, reason = actor_of(request.actor), reason_of(request.reason)

        def work(connection: sa.Connection, effects: Effects) -> pb.Price:
            now_ms = self._engine.now_ms()
            return price_message(
                price_table.set_price(
                    connection, effects, processor, request.micros, now_ms, actor=actor, reason=reason
                )
            )

        return await self._once(request, pb.Price(), work)

    # -- inside

    async def _once(self, request: Call, answer: M, work: Callable[[sa.Connection, Effects], M]) -> M:
        """The answer of `work`, or the one that was given under the same request id."""
        request_id = plain_text(request.request_id, "request_id")
        actor_of(request.actor)
        method = request.DESCRIPTOR.name
        asked = Request(request_id, method, digest_of(request))

        def noted(connection: sa.Connection, effects: Effects) -> bytes:
            before = known(connection, asked)
            if before is not None:
                return before.answer
            given = work(connection, effects).SerializeToString()
            remember(connection, asked, run_id="", changed=True, now_ms=self._engine.now_ms(), answer=given)
            return given

        answer.ParseFromString(await self._engine.commits.run(once(asked, noted)))
        self._engine.wake()
        await give_way()
        return answer

    async def _with_held(self, limit: pb.Limit) -> pb.Limit:
        limit.held = (await _told(self._ready.held([limit.key]))).get(limit.key, 0)
        return limit


async def _told(leases: Awaitable[Mapping[str, int]]) -> Mapping[str, int]:
    """None are told while Redis is away: a limit can be seen and changed all the same."""
    try:
        return await leases
    except Unavailable:
        return {}


def limit_message(row: LimitRow, held: int) -> pb.Limit:
    """A limit as people see it; of a key that nobody declared, with what its pattern says."""
    said, state = row.settings, row.state()
    closed = state.closed_until_ms != 0
    limit = pb.Limit(
        key=row.key,
        concurrency=said.concurrency,
        rates=[
            pb.Rate(dimension=r.dimension, per_minute=r.per_minute, burst=r.burst, estimate=r.estimate)
            for r in said.rates
        ],
        adaptive=said.adaptive,
        cooldown_seconds=said.cooldown_ms / 1000,
        state=row.seen_state,
        cap=row.valve.concurrency(row.bounds) or 0,
        reason=row.reason,
        held=held,
        etag=etag_of(row) if row.stored else "",
        pattern=row.pattern.key if row.pattern is not None and not row.declared else "",
    )
    if row.change_ms:
        limit.change_time.FromMilliseconds(row.change_ms)
    if closed and state.closed_until_ms is not None:
        limit.closed_until_time.FromMilliseconds(state.closed_until_ms)
    return limit


def event_message(row: EventRow) -> pb.LimitEvent:
    return pb.LimitEvent(
        key=row.key,
        number=row.number,
        time=to_timestamp(row.time_ms),
        type=row.type,
        actor=row.actor,
        old_state=row.old_state,
        new_state=row.new_state,
        reason=row.reason,
        data=row.data,
    )


def price_message(row: price_table.PriceRow) -> pb.Price:
    return pb.Price(
        processor=row.processor,
        micros=-1 if row.micros is None else row.micros,
        learned_micros=row.learned_micros,
        samples=row.samples,
    )


def _states(names: Sequence[str]) -> list[str]:
    unknown = next((name for name in names if name not in list(ValveState)), None)
    if unknown is not None:
        raise InvalidInput(
            f"no limit state {plain_text(unknown, 'states')!r}: one of {', '.join(ValveState)}", code="bad_state"
        )
    return list(names)


def _place(token: str) -> Place:
    """Where a page of events begins. Raises InvalidInput."""
    if not token:
        return MOST, "", MOST
    time_ms, number, key = (*token.split(" ", 2), "", "")[:3]
    numbers = [page_position(part) for part in (time_ms, number)]
    if None in numbers:
        page_position(token)
    return numbers[0] or 0, key, numbers[1] or 0


def _key(key: str) -> str:
    if not key:
        raise InvalidInput("the key is missing, e.g. provider:anthropic", code="bad_limit")
    return plain_text(key, "key")
