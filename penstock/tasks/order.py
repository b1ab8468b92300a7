"""The order in which things can be done that wait for each other. Pure.

Always the first of the list that waits for nothing more: so the order of the list stands wherever it may. Those that
wait for each other in a cycle keep the order of the list among themselves, and what they wait for outside of the
cycle still holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["arrange"]


def arrange(waits_for: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The order, and the cycles that there are, each in the order of the list. `waits_for[n]`: places in the list."""
    if not any(waits_for):
        return list(range(len(waits_for))), []
    order = _sorted(waits_for)
    if len(order) == len(waits_for):
        return order, []
    cycles = _cycles(waits_for, sorted(set(range(len(waits_for))).difference(order)))
    cycle_of = {place: number for number, cycle in enumerate(cycles) for place in cycle}
    mended = [
        [other for other in others if place not in cycle_of or cycle_of.get(other) != cycle_of[place]]
        for place, others in enumerate(waits_for)
    ]
    for cycle in cycles:
        for earlier, later in pairwise(cycle):
            mended[later].append(earlier)
    return _sorted(mended), cycles


def _sorted(waits_for: Sequence[Sequence[int]]) -> list[int]:
    """As far as no cycle holds it up."""
    left = [len(set(others)) for others in waits_for]
    followers: list[list[int]] = [[] for _ in waits_for]
    for place, others in enumerate(waits_for):
        for other in set(others):
            followers[other].append(place)
    ready = [place for place, count in enumerate(left) if count == 0]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for follower in followers[place]:
            left[follower] -= 1
            if left[follower] == 0:
                heapq.heappush(ready, follower)
    return order


def _cycles(waits_for: Sequence[Sequence[int]], places: Sequence[int]) -> list[list[int]]:
    """Tarjan's strongly connected components that are cycles, without recursion: chains may be long."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_, is_open = list[int](), set[int]()
    cycles = []
    for start in places:
        if start in index:
            continue
        way = [(start, iter(waits_for[start]))]
        index[start] = low[start] = len(index)
        open_.append(start)
        is_open.add(start)
        while way:
            place, others = way[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    open_.append(other)
                    is_open.add(other)
                    way.append((other, iter(waits_for[other])))
                    break
                if other in is_open:
                    low[place] = min(low[place], index[other])
            else:
                way.pop()
                if way:
                    low[way[-1][0]] = min(low[way[-1][0]], low[place])
                if low[place] == index[place]:
                    cycle = [open_.pop()]
                    while cycle[-1] != place:
                        cycle.append(open_.pop())
                    is_open.difference_update(cycle)
                    if len(cycle) > 1 or place in waits_for[place]:
                        cycles.append(sorted(cycle))
    return sorted(cycles)
