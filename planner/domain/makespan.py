"""How long many items take when at most so many run at once, first come first served. Pure; nothing fails here.

With lanes and work alone the answer is work / lanes; what is missing is the end, when lanes fall empty one by one and
the longest of the last items decides. Two ways tell it. `finish`: items begin at a steady rate until the last one has
begun at t; then the chance that no item runs past t + y is a product over all items, told by the shape of what an item
takes, and what is still running at t is work that t need not hold. `finish_directly`: few items are drawn and put on
lanes one by one, many draws at a time.

A shape is what one item takes, in units that a draw scales; an item may hold its lane for less than it takes (it waits
between its tries without one).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.domain.sketch import Floats

__all__ = ["DIRECT_CELLS", "DIRECT_ITEMS", "Shape", "finish", "finish_directly", "last_ones"]

DIRECT_ITEMS = 100
DIRECT_CELLS = 16_384
"""Items, and items times lanes, up to which every item is put on a lane."""
_POINTS = 240
_ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """What an item takes: amounts, rising, and the chance of each."""

    amounts: Floats
    chances: Floats

    @classmethod
    def of(cls, amounts: Floats, chances: Floats) -> Shape:
        order = np.argsort(amounts, kind="stable")
        return cls(amounts[order], chances[order] / chances.sum())

    @cached_property
    def _tails(self) -> tuple[Floats, Floats, Floats]:
        """Sums of chances, amounts and squares from each place on."""
        parts = (self.chances, self.chances * self.amounts, self.chances * self.amounts**2)
        zero, one, two = (np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in parts)
        return zero, one, two

    def _at(self, y: Floats) -> tuple[Floats, Floats, Floats]:
        place = np.searchsorted(self.amounts, y, side="right")
        zero, one, two = self._tails
        return zero[place], one[place], two[place]

    @property
    def mean(self) -> float:
        return float(self._tails[1][0])

    @property
    def middle(self) -> float:
        """The geometric mean."""
        return float(np.exp((self.chances * np.log(np.maximum(self.amounts, 1e-12))).sum()))

    def passing(self, y: Floats) -> Floats:
        """The chance of an item that takes more than y."""
        return self._at(y)[0]

    def over(self, y: Floats) -> Floats:
        """What an item takes beyond y, on the mean."""
        zero, one, _ = self._at(y)
        return one - y * zero

    def squares_over(self, y: Floats) -> Floats:
        """Half of the mean square of that."""
        zero, one, two = self._at(y)
        return (two - 2 * y * one + y * y * zero) / 2


def last_ones(shape: Shape, span: Floats, *, at_once: Floats, later: Floats, points: Floats) -> Floats:
    """log of the chance that no item runs more than `points` past `span`: `at_once` items began at 0, `later` ones
    anywhere up to `span`, the last of these there. All broadcast."""
    some = np.maximum(span, 1e-9 * shape.mean)
    first = np.minimum(shape.passing(points + span), 1 - 1e-12)
    spread = np.clip((shape.over(points) - shape.over(points + some)) / some, 0.0, 1 - 1e-12)
    last = np.minimum(shape.passing(points), 1 - 1e-12)
    among = np.maximum(later - 1, 0) * np.log1p(-spread) + np.where(later > 0, np.log1p(-last), 0.0)
    return np.asarray(at_once * np.log1p(-first) + among)


def finish(
    work: Floats, floor: Floats, chance: Floats, tilt: Floats, *, items: int, lanes: int, holds: Shape, takes: Shape
) -> Floats:
    """When the last of `items` has ended, for each draw, in units of the shapes.

    work: what all hold lanes for together; floor: before which the last one can't begin (rates); chance: uniform draws
    of how long the last ones take; tilt: how much wider than the shape a draw takes items to spread.
    """
    top = float(takes.amounts[-1])
    points = np.append(0.0, np.geomspace(top * 1e-5, top, _POINTS))
    wall = np.zeros_like(work) if items <= lanes else work / lanes
    begun = np.maximum(wall, floor)
    past = np.zeros_like(work)
    for _ in range(_ROUNDS):
        span = float(np.median(begun))
        held = span <= 1.001 * float(np.median(floor)) and span > 0
        at_once = 0 if held else min(lanes, items)
        chances = last_ones(
            takes, np.array(span), at_once=np.array(at_once), later=np.array(items - at_once), points=points
        )
        past = np.interp(np.log(chance), chances, points)
        if items <= lanes:
            break
        # Long last items are part of the work: what a draw has left more of, it has more of in all.
        left = np.interp(past, points, _left(holds, span, at_once=at_once, later=items - at_once, points=points)).mean()
        begun = np.maximum(np.maximum(floor, (work - left) / lanes), 0.0)
    past = takes.middle * (np.maximum(past, 1e-12) / takes.middle) ** tilt
    return np.maximum(begun + past, wall)


def _left(shape: Shape, span: float, *, at_once: int, later: int, points: Floats) -> Floats:
    """The work that is still to do at `span` by all that run then, where the longest has `points` left."""
    some = np.array(max(span, 1e-9 * shape.mean))
    ends = points + some
    of_first = shape.over(some) - shape.over(ends) - points * shape.passing(ends)
    of_later = shape.squares_over(np.array(0.0)) - shape.squares_over(points)
    of_later = of_later - shape.squares_over(some) + shape.squares_over(ends)
    of_later = of_later - points * (shape.over(points) - shape.over(ends))
    return np.asarray(np.maximum(at_once * of_first + later * of_later / some, 0.0) + points)


def finish_directly(holds: Floats, waits: Floats, not_before: Floats, lanes: int) -> tuple[Floats, Floats]:
    """When each item begins and ends. All have a row for each draw and a column for each item, in their order; waits:
    what each takes beside; not_before: when each may begin at the earliest."""
    draws, items = holds.shape
    if items <= lanes:
        return not_before, not_before + holds + waits
    begins = np.empty((items, draws))
    free = np.zeros((draws, lanes))
    rows = np.arange(draws)
    for item in range(items):
        lane = free.argmin(axis=1)
        begin = np.maximum(free[rows, lane], not_before[:, item])
        begins[item] = begin
        free[rows, lane] = begin + holds[:, item]
    return begins.T, begins.T + holds + waits
