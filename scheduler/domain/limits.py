"""What a limit is where items are proposed: a bound of leases at once, rates, and a closure. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = [
    "LANE_VALVE",
    "OPEN",
    "REQUESTS",
    "RESERVED",
    "STAGE_VALVE",
    "LimitState",
    "RateState",
    "flow_of",
    "lane_keys",
    "pattern_of",
]

REQUESTS = "requests"
"""The dimension of which an item uses one."""
OPEN = 0
"""`closed_until_ms` of a limit that is open."""

STAGE_VALVE = "stage:{run}:{stage}"
LANE_VALVE = "lane:{run}:{stage}:{lane}"
"""Keys that no item names: the valves of a stage and of one of its lanes; `run` is the run's number."""
RESERVED = ("stage:", "lane:")
"""How those keys begin."""


@dataclass(frozen=True)
class RateState:
    """A token bucket: `per_minute` flows in, up to `burst`; an item takes `estimate` until its use is known."""

    dimension: str
    per_minute: float
    burst: float
    estimate: float


def flow_of(rate: RateState) -> RateState:
    """What must flow in so that no minute lets more than `per_minute` through, the burst included: less than is said by
    what the burst lets through at once. (Of whole requests the first needs no flow.) A burst of more than half a minute
    passes the rate by what is over: else nothing would flow."""
    first = 1.0 if rate.dimension == REQUESTS else 0.0
    flow = max(rate.per_minute - max(rate.burst - first, 0.0), rate.per_minute / 2)
    return replace(rate, per_minute=flow)


@dataclass(frozen=True)
class LimitState:
    """A limit as Redis holds it. concurrency: the least of what was declared and what its valve allows now; None: no
    bound. closed_until_ms: OPEN, a time, or None: until somebody opens it. A key that ends with `*` is a pattern."""

    key: str
    concurrency: int | None = None
    rates: tuple[RateState, ...] = ()
    closed_until_ms: int | None = OPEN


def lane_keys(lane: str) -> list[str]:
    return lane.split(" ") if lane else []


def pattern_of(key: str, patterns: Iterable[str]) -> str | None:
    """Of patterns (keys that end with `*`) the longest one that takes this key."""
    found = [pattern for pattern in patterns if key.startswith(pattern[:-1])]
    return max(found, key=len, default=None)
