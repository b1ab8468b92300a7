"""`/api/v1/limits`, `/prices` and `/retries`: what all runs share.

A key may hold anything but white space and `*` elsewhere than at its end, slashes too: it is the rest of the path.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AwareDatetime, Field
from typing_extensions import TypedDict

from gateway.bodies import Body, CommandBody, Token, Truth, resource_router
from gateway.wiring import Wired
from penstock.client.limit_views import (
    LimitEventView,
    LimitView,
    PriceView,
    limit_event_view,
    limit_view,
    price_view,
)
from penstock.client.limits import RateOptions
from penstock.client.operator_views import RetriesView, retries_view
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["router"]

router = resource_router()

Key = Annotated[str, Path(max_length=MAX_CHARACTERS, description="As provider:anthropic, or the pattern domain:*.")]
Processor = Annotated[str, Path(max_length=MAX_CHARACTERS)]
INT32 = 2**31 - 1


class RateBody(Body):
    dimension: str = Field(max_length=MAX_CHARACTERS, description="requests, or what processors report as used.")
    per_minute: float
    burst: float = Field(0.0, description="Most at once; 0: a tenth of per_minute, at least 1.")
    estimate: float = Field(0.0, description="Reserved for an item until there is history; 0: the default.")


class LimitBody(CommandBody):
    concurrency: int | None = Field(None, ge=-INT32, le=INT32, description="null: unbounded.")
    rates: list[RateBody] = Field(default_factory=list, max_length=100)
    adaptive: Truth = Field(False, description="Concurrency is found: slow start, one cut an episode of throttling.")
    cooldown_seconds: float = Field(0.0, description="Closure after a throttle that names no time; 0: 30.")
    etag: str = Field("", max_length=MAX_CHARACTERS, description="Only if it is still as it was read then.")


class CloseBody(CommandBody):
    until_time: AwareDatetime | None = Field(None, description="null: until it is opened.")


class PriceBody(CommandBody):
    micros: int = Field(ge=-1, le=2**63 - 1, description="Of one item, in millionths of a dollar; -1: forget it.")


class RetriesBody(CommandBody):
    allowed: bool


class LimitPage(TypedDict):
    limits: list[LimitView]
    next_page_token: str | None


class LimitEventPage(TypedDict):
    events: list[LimitEventView]
    next_page_token: str | None


class Changed(TypedDict):
    changed: bool


@router.get("/limits", tags=["limits"])
async def list_limits(
    parts: Wired,
    prefix: Annotated[str, Query(max_length=MAX_CHARACTERS, description="Only keys that begin so.")] = "",
    state: Annotated[
        list[str], Query(description="Only open, closed, probing or ramping ones; repeat it. A page may be short.")
    ] = [],  # noqa: B006
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    page_token: Token = "",
) -> LimitPage:
    """The limits, and the keys that a valve has closed, in order of their key."""
    page = await parts.client.limits.list_page(prefix=prefix, states=state, page_size=page_size, page_token=page_token)
    return {"limits": [limit_view(limit) for limit in page.limits], "next_page_token": page.next_page_token or None}


@router.get("/limits/events", tags=["limits"])
async def list_all_limit_events(
    parts: Wired, page_size: Annotated[int, Query(ge=1, le=1_000)] = 100, page_token: Token = ""
) -> LimitEventPage:
    """Of all keys: who set, closed and opened what, and what valves did by themselves; the latest first."""
    return await _events("", parts, page_size, page_token)


@router.get("/limits/{key:path}/events", tags=["limits"])
async def list_limit_events(
    key: Key, parts: Wired, page_size: Annotated[int, Query(ge=1, le=1_000)] = 100, page_token: Token = ""
) -> LimitEventPage:
    """Of one key, also when there is no limit of it any more."""
    return await _events(key, parts, page_size, page_token)


async def _events(key: str, parts: Wired, page_size: int, page_token: str) -> LimitEventPage:
    page = await parts.client.limits.events_page(key, page_size=page_size, page_token=page_token)
    return {
        "events": [limit_event_view(event) for event in page.events],
        "next_page_token": page.next_page_token or None,
    }


@router.post("/limits/{key:path}/close", tags=["limits"])
async def close_limit(key: Key, parts: Wired, body: CloseBody = CloseBody()) -> LimitView:  # noqa: B008
    """Nothing that names the key starts until then; what runs finishes."""
    until: datetime | None = body.until_time
    return limit_view(await parts.client.limits.close(key, until=until, reason=body.reason, request_id=body.request_id))


@router.post("/limits/{key:path}/open", tags=["limits"])
async def open_limit(key: Key, parts: Wired, body: CommandBody = CommandBody()) -> LimitView:  # noqa: B008
    """Ends any closure, and the valve's caution."""
    return limit_view(await parts.client.limits.open(key, reason=body.reason, request_id=body.request_id))


@router.get("/limits/{key:path}", tags=["limits"])
async def get_limit(key: Key, parts: Wired) -> LimitView:
    return limit_view(await parts.client.limits.get(key))


@router.put("/limits/{key:path}", tags=["limits"])
async def set_limit(key: Key, body: LimitBody, parts: Wired) -> LimitView:
    """Makes or replaces a limit, whole; live at once."""
    limit = await parts.client.limits.set(
        key,
        concurrency=body.concurrency,
        rates=[RateOptions(**rate.model_dump()) for rate in body.rates],
        adaptive=body.adaptive,
        cooldown_seconds=body.cooldown_seconds,
        etag=body.etag,
        reason=body.reason,
        request_id=body.request_id,
    )
    return limit_view(limit)


@router.delete("/limits/{key:path}", tags=["limits"])
async def delete_limit(
    key: Key,
    parts: Wired,
    reason: Annotated[str, Query(max_length=2_000)] = "",
    request_id: Annotated[str, Query(max_length=MAX_CHARACTERS)] = "",
) -> Changed:
    """`changed` is false where there was none."""
    return {"changed": await parts.client.limits.delete(key, reason=reason, request_id=request_id)}


@router.get("/prices", tags=["prices"])
async def list_prices(parts: Wired) -> dict[str, list[PriceView]]:
    """What an item of each processor costs: as set, and as learned."""
    return {"prices": [price_view(price) for price in await parts.client.prices.list()]}


@router.put("/prices/{processor}", tags=["prices"])
async def set_price(processor: Processor, body: PriceBody, parts: Wired) -> PriceView:
    """Until there is history, this is what is reserved for an item."""
    return price_view(
        await parts.client.prices.set(processor, body.micros, reason=body.reason, request_id=body.request_id)
    )


@router.get("/retries", tags=["retries"])
async def get_retries(parts: Wired) -> RetriesView:
    """Whether failed items are tried again, and who changed that last."""
    return retries_view(await parts.client.retries.get())


@router.put("/retries", tags=["retries"])
async def set_retries(body: RetriesBody, parts: Wired) -> RetriesView:
    """Stops or allows all retries of all runs, in an incident. What would be retried waits meanwhile."""
    return retries_view(
        await parts.client.retries.set(allowed=body.allowed, reason=body.reason, request_id=body.request_id)
    )
