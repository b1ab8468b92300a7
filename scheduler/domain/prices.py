"""What items cost: a histogram that learns, and what is reserved for the next one. Micro-dollars, always whole.

Buckets grow by a tenth, so that a learned price is at most a tenth above what items did cost, and a histogram stays a
few hundred numbers whatever the number of items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["ENOUGH", "Histogram", "Use", "price_of"]

ENOUGH = 20
"""Samples from which history is believed."""
SHARE = 0.95
GROWTH = math.log(1.1)
STEADY = 1_000
"""Samples after which the mean of a use follows what is new."""


@lru_cache(maxsize=16_384)
def _bucket(micros: int) -> int:
    return 0 if micros <= 0 else 1 + math.ceil(math.log(micros) / GROWTH)


def _upper(bucket: int) -> int:
    return 0 if bucket == 0 else math.floor(math.exp((bucket - 1) * GROWTH) + 1e-6)


@dataclass
class Histogram:
    """bucket -> items that cost so much."""

    counts: dict[int, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(self.counts.values())

    def add(self, micros: int, count: int = 1) -> None:
        bucket = _bucket(micros)
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def merged(self, other: Histogram) -> Histogram:
        both = dict(self.counts)
        for bucket, count in other.counts.items():
            both[bucket] = both.get(bucket, 0) + count
        return Histogram(both)

    def price(self) -> int | None:
        """What 95 of 100 such items did not pass; None while there are too few to tell."""
        samples = self.samples
        if samples < ENOUGH:
            return None
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= SHARE * samples:
                return _upper(bucket)
        raise AssertionError(self.counts)

    def pairs(self) -> list[tuple[int, int]]:
        """As it is kept."""
        return sorted(self.counts.items())

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Histogram:
        return cls({int(bucket): int(count) for bucket, count in pairs})


@dataclass
class Use:
    """The mean use of one dimension of a rate."""

    samples: int = 0
    mean: float = 0.0

    def add(self, amount: float, count: int = 1) -> None:
        """`amount`: of all `count` together."""
        self.samples = min(self.samples + count, STEADY)
        self.mean += (amount / count - self.mean) * min(count / self.samples, 1.0)


def price_of(*, paid: bool, history: Iterable[Histogram], listed: int | None) -> int | None:
    """What is reserved for an item: nothing where nothing is paid; else what history tells, the first that knows
    enough; else what the operator says; None: nobody knows."""
    if not paid:
        return 0
    for known in history:
        price = known.price()
        if price is not None:
            return price
    return listed


def mean_uses(kept: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """Means by dimension of which enough is known."""
    return {dimension: mean for dimension, (samples, mean) in kept.items() if samples >= ENOUGH}
