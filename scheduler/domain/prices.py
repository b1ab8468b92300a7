"""What items cost: a histogram that learns, and what is reserved for the next one. Micro-dollars, always whole.

Buckets grow by a tenth, so that a histogram stays a few hundred numbers whatever the number of items. Each keeps the
most that one of its items did cost: a learned price is one that was paid, not a bound of a bucket.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["ENOUGH", "Histogram", "Use", "mean_uses", "price_of"]

ENOUGH = 20
"""Samples from which history is believed."""
SHARE = 0.95
GROWTH = math.log(1.1)
STEADY = 1_000
"""Samples after which the mean of a use follows what is new."""


@lru_cache(maxsize=16_384)
def _bucket(micros: int) -> int:
    return 0 if micros <= 0 else 1 + math.ceil(math.log(micros) / GROWTH)


@dataclass
class Histogram:
    """bucket -> items that cost so much, and the most that one of them did cost."""

    counts: dict[int, int] = field(default_factory=dict)
    most: dict[int, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(self.counts.values())

    def add(self, micros: int, count: int = 1) -> None:
        bucket = _bucket(micros)
        self.counts[bucket] = self.counts.get(bucket, 0) + count
        if micros > self.most.get(bucket, 0):
            self.most[bucket] = micros

    def merged(self, other: Histogram) -> Histogram:
        both = Histogram(dict(self.counts), dict(self.most))
        for bucket, count in other.counts.items():
            both.add(other.most.get(bucket, 0), count)
        return both

    def price(self) -> int | None:
        """What 95 of 100 such items did not pass; None while there are too few to tell."""
        samples = self.samples
        if samples < ENOUGH:
            return None
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= SHARE * samples:
                return self.most.get(bucket, 0)
        raise AssertionError(self.counts)

    def rows(self) -> list[tuple[int, int]]:
        """As it is kept: of each bucket the most that was paid, and how many items."""
        return [(self.most.get(bucket, 0), count) for bucket, count in sorted(self.counts.items())]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int]]) -> Histogram:
        known = cls()
        for micros, count in rows:
            known.add(micros, count)
        return known


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
