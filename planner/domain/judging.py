"""How good estimates were: each one beside what happened, and the last of them together. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.words import counted
from planner.domain.estimates import Range

__all__ = ["Comparison", "Goodness", "compare", "goodness"]


@dataclass(frozen=True)
class Comparison:
    """A range and what happened, in the same unit. within: it held; off: how many times beyond the nearer end it was,
    below 1 for less than p10, above 1 for more than p90, 1.0 within; ratio: what happened beside p50. None where that
    has no number: something happened, and nothing was told."""

    low: float
    middle: float
    high: float
    actual: float
    within: bool
    off: float | None
    ratio: float | None


@dataclass(frozen=True)
class Goodness:
    """Of `count` estimates: the share that held, the median of the ratios (above 1: more happened than was told), and
    how many told nothing where something happened. No share where there are none; no median where those are half or
    more."""

    count: int
    within_share: float | None
    median_ratio: float | None
    told_nothing: int = 0

    @property
    def sentence(self) -> str:
        if self.within_share is None:
            return "no estimate has been compared with a run yet"
        held = round(self.within_share * self.count)
        told = f"{held} of the last {counted(self.count, 'estimate')} held (8 of 10 should)"
        if self.median_ratio is None:
            share = "most" if 2 * self.told_nothing > self.count else "half"
            return f"{told}; {share} told of nothing where something happened"
        return f"{told}; what happened was {self.median_ratio:.2f} times the middle, by the median"


def compare(told: Range, actual: float) -> Comparison:
    """What was told beside what happened (not negative)."""
    within = told.low <= actual <= told.high
    off = 1.0 if within else _times(actual, told.high if actual > told.high else told.low)
    return Comparison(told.low, told.middle, told.high, actual, within, off, _times(actual, told.middle))


def _times(actual: float, told: float) -> float | None:
    """No infinity: JSON has none. Numbers so far apart that a double can't tell are none as well."""
    if not told:
        return None if actual else 1.0
    times = actual / told
    return times if math.isfinite(times) else None


def goodness(comparisons: Sequence[Comparison]) -> Goodness:
    """Of the comparisons given, e.g. the last twenty."""
    if not comparisons:
        return Goodness(0, None, None)
    held = sum(one.within for one in comparisons) / len(comparisons)
    told_nothing = sum(one.ratio is None for one in comparisons)
    middle = None
    if 2 * told_nothing < len(comparisons):
        ratios = [math.inf if one.ratio is None else one.ratio for one in comparisons]
        low, high = statistics.median_low(ratios), statistics.median_high(ratios)
        middle = low + (high - low) / 2  # a sum of both may be no number
    return Goodness(len(comparisons), held, middle, told_nothing)
