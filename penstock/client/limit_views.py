"""Limits and prices as plain JSON objects, in the dialect of `penstock.client.views`."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from penstock.client.views import json_value, time_text
from penstock.v1 import scheduler_pb2

__all__ = ["LimitEventView", "LimitView", "PriceView", "RateView", "limit_event_view", "limit_view", "price_view"]


class RateView(TypedDict):
    dimension: str
    per_minute: float
    burst: float
    estimate: float


class LimitView(TypedDict):
    """concurrency: None for no bound; cap: what the valve allows now, None for no bound of its own; closed_until_time:
    None while closed means until it is opened; pattern: what speaks for a key that nobody declared."""

    key: str
    concurrency: int | None
    rates: list[RateView]
    adaptive: bool
    cooldown_seconds: float
    state: str
    closed_until_time: str | None
    cap: int | None
    reason: str | None
    change_time: str | None
    held: int
    etag: str
    pattern: str | None


class PriceView(TypedDict):
    """micros: None where nobody set it; learned_micros: None with too little history."""

    processor: str
    micros: int | None
    learned_micros: int | None
    samples: int


def limit_view(limit: scheduler_pb2.Limit) -> LimitView:
    return {
        "key": limit.key,
        "concurrency": limit.concurrency if limit.HasField("concurrency") else None,
        "rates": [
            {
                "dimension": rate.dimension,
                "per_minute": rate.per_minute,
                "burst": rate.burst,
                "estimate": rate.estimate,
            }
            for rate in limit.rates
        ],
        "adaptive": limit.adaptive,
        "cooldown_seconds": limit.cooldown_seconds,
        "state": limit.state,
        "closed_until_time": time_text(limit.closed_until_time),
        "cap": limit.cap or None,
        "reason": limit.reason or None,
        "change_time": time_text(limit.change_time),
        "held": limit.held,
        "etag": limit.etag,
        "pattern": limit.pattern or None,
    }


class LimitEventView(TypedDict):
    """The same as an event of a run, with the key for a subject."""

    key: str
    number: int
    time: str | None
    type: str
    actor: str
    old_state: str | None
    new_state: str | None
    reason: str | None
    data: Any


def limit_event_view(event: scheduler_pb2.LimitEvent) -> LimitEventView:
    return {
        "key": event.key,
        "number": event.number,
        "time": time_text(event.time),
        "type": event.type,
        "actor": event.actor,
        "old_state": event.old_state or None,
        "new_state": event.new_state or None,
        "reason": event.reason or None,
        "data": json_value(event.data),
    }


def price_view(price: scheduler_pb2.Price) -> PriceView:
    return {
        "processor": price.processor,
        "micros": price.micros if price.micros >= 0 else None,
        "learned_micros": price.learned_micros if price.HasField("learned_micros") else None,
        "samples": price.samples,
    }
