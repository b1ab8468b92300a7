"""What many positive amounts looked like, in a few hundred numbers whatever their count.

Bins grow by a twentieth and each keeps count and sum, so that counts, sums and means are exact, and any quantile is off
by less than 5 % (an amount is told as the mean of its bin; alone in its bin it is exact). Sketches add up, in any
order, to the sketch of all. Pure; what is no positive number is refused by ValueError, since it would poison every sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROWTH", "Floats", "Sketch"]

Floats = NDArray[np.float64]

GROWTH = 1.05
_STEP = math.log(GROWTH)
_LEAST, _MOST = -400, 600
"""Bins outside fall together: below 3e-9 and above 5e12 nothing that is measured here lies."""


@dataclass
class Sketch:
    """bin -> how many amounts, and their sum."""

    bins: dict[int, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, amounts: Floats) -> Sketch:
        """All of these, each above 0 and finite."""
        if not amounts.size:
            return cls()
        if not (np.isfinite(amounts).all() and amounts.min() > 0):
            raise ValueError("an amount is not above 0 and finite")
        numbers = np.clip(np.floor(np.log(amounts) / _STEP), _LEAST, _MOST).astype(np.int64)
        first = int(numbers.min())
        counts = np.bincount(numbers - first)
        sums = np.bincount(numbers - first, weights=amounts)
        there = np.flatnonzero(counts)
        rows = zip((there + first).tolist(), counts[there].tolist(), sums[there].tolist(), strict=True)
        return cls({number: (count, total) for number, count, total in rows})

    def __add__(self, other: Sketch) -> Sketch:
        both = dict(self.bins)
        for number, (count, total) in other.bins.items():
            mine = both.get(number, (0, 0.0))
            both[number] = (mine[0] + count, mine[1] + total)
        return Sketch(both)

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.bins.values())

    def points(self) -> tuple[Floats, Floats]:
        """Amounts, rising, and how many there were of each."""
        ordered = [self.bins[number] for number in sorted(self.bins)]
        counts = np.array([count for count, _ in ordered], dtype=np.float64)
        return np.array([total for _, total in ordered], dtype=np.float64) / np.maximum(counts, 1.0), counts

    def quantile(self, share: float) -> float:
        """What `share` of all amounts did not pass; 0 where there are none."""
        amounts, counts = self.points()
        if not amounts.size:
            return 0.0
        at = int(np.searchsorted(np.cumsum(counts), share * counts.sum() - 1e-9))
        return float(amounts[min(at, amounts.size - 1)])

    def rows(self) -> list[list[float]]:
        """As it is kept: bin, count, sum."""
        return [[number, *self.bins[number]] for number in sorted(self.bins)]

    @classmethod
    def of_rows(cls, rows: Iterable[Iterable[float]]) -> Sketch:
        return cls({int(number): (int(count), float(total)) for number, count, total in rows})
