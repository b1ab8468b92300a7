"""Which limits a stage's items name: by their lanes, exactly or by the longest pattern, as the scheduler takes them.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.domain.work import REQUESTS, Limit

__all__ = ["GivenLimit", "limits_of"]


@dataclass(frozen=True)
class GivenLimit:
    """A limit as it is set. key: one that ends with `*` is a pattern; rates: (dimension, per minute, burst, what is
    reserved for an item; 0: not known)."""

    key: str
    concurrency: int | None
    rates: Sequence[tuple[str, float, float, float]] = ()


def limits_of(lanes: Iterable[tuple[str, int]], given: Sequence[GivenLimit]) -> list[Limit]:
    """lanes: (keys with a space between, how many items). Of a rate whose use nobody knows nothing is told."""
    counts: dict[str, int] = {}
    for lane, count in lanes:
        for key in lane.split():
            counts[key] = counts.get(key, 0) + count
    exact = {limit.key: limit for limit in given if not limit.key.endswith("*")}
    patterns = sorted((limit for limit in given if limit.key.endswith("*")), key=lambda limit: -len(limit.key))
    found: list[Limit] = []
    for key, items in counts.items():
        limit = exact.get(key) or next((one for one in patterns if key.startswith(one.key[:-1])), None)
        if limit is None:
            continue
        rates = [
            Limit(
                key=key,
                items=items,
                concurrency=limit.concurrency,
                dimension=dimension,
                per_minute=per_minute,
                burst=burst,
                uses=1.0 if dimension == REQUESTS else uses,
            )
            for dimension, per_minute, burst, uses in limit.rates
            if dimension == REQUESTS or uses > 0
        ]
        if not rates and limit.concurrency is not None:
            rates = [Limit(key=key, items=items, concurrency=limit.concurrency)]
        found += rates
    return found
