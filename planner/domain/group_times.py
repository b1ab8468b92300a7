"""How long each group of a stage takes, from its first beginning to its last end, in their order. Pure.

A group takes over lanes as the items before it end, and leaves its own last ones to the next: its items begin within
its work / lanes, later by what was left of those before, earlier by what is left of its own; then its longest end.
"""

from __future__ import annotations

import numpy as np

from planner.domain.makespan import Shape, last_ones
from planner.domain.sketch import Floats
from planner.domain.sums import LOW, MIDDLE

__all__ = ["group_times"]

_POINTS = 80
_MOST_VARIED = 4.0
"""Of heavier tails the mean of what is left is far from what usually is."""
_LEFT_SPREAD = 0.77
"""What is left of an item varies by about its mean, and p10 and p90 lie so far from the middle of many of them."""


def group_times(
    items: Floats,
    work: tuple[Floats, Floats, Floats],
    units: Floats,
    takes: Shape,
    *,
    lanes: int,
    slower: float,
    varies: float,
) -> tuple[Floats, Floats, Floats]:
    """p10, p50 and p90 of each group.

    items, work (p10, p50, p90), units (of the shape that an item takes): of each group, in order; slower: how much
    later than by lanes alone limits let items begin; varies: variance of an item over its squared mean.
    """
    before, after = _left(items, work[1], lanes=lanes, varies=varies)
    if slower > 1.0:
        before = after = np.zeros(items.size)
    low, middle, high = (part * slower / lanes for part in work)
    some_items = items > 0
    span = np.where(some_items, np.maximum(middle + before - after, 0.0), 0.0)
    unsure = _LEFT_SPREAD * np.sqrt((before**2 + after**2) / lanes)
    points = np.append(0.0, np.geomspace(takes.amounts[-1] * 1e-4, takes.amounts[-1], _POINTS))
    within = last_ones(takes, (span / units)[:, None], at_once=np.array(0), later=items[:, None], points=points)
    soon, usual, late = (_first_above(within, np.log(share), points) * units for share in (LOW, MIDDLE, 1 - LOW))
    centre = np.where(some_items, span + usual, 0.0)
    # A run or group that is slower than thought is so to its last item.
    some = np.maximum(middle, 1e-300)
    down = np.sqrt((centre * (middle - low) / some) ** 2 + unsure**2 + (usual - soon) ** 2)
    up = np.sqrt((centre * (high - middle) / some) ** 2 + unsure**2 + (late - usual) ** 2)
    return np.maximum(centre - down, 0.0), centre, centre + np.where(some_items, up, 0.0)


def _left(items: Floats, work: Floats, *, lanes: int, varies: float) -> tuple[Floats, Floats]:
    """What a running item has left, on the mean, when each group begins, and when its last item has begun: of the last
    items that fill the lanes."""
    squares = work**2 / np.maximum(items, 1.0) * (1 + min(varies, _MOST_VARIED)) / 2
    places = np.append(0.0, np.cumsum(items))
    works, all_squares = np.append(0.0, np.cumsum(work)), np.append(0.0, np.cumsum(squares))
    earlier = np.maximum(places - lanes, 0.0)
    worked = works - np.interp(earlier, places, works)
    squared = all_squares - np.interp(earlier, places, all_squares)
    left = squared / np.maximum(worked, 1e-12) * np.minimum(places / lanes, 1.0)
    return left[:-1], left[1:]


def _first_above(rising: Floats, wanted: float, points: Floats) -> Floats:
    """Of each row where it reaches `wanted`, between points."""
    place = np.clip((rising < wanted).sum(axis=1), 1, points.size - 1)
    rows = np.arange(rising.shape[0])
    before, after = rising[rows, place - 1], rising[rows, place]
    part = np.clip((wanted - before) / np.maximum(after - before, 1e-12), 0.0, 1.0)
    return np.asarray(points[place - 1] + part * (points[place] - points[place - 1]))
