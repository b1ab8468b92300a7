"""Processors whose ways are known, and runs of them: a simulator of list scheduling, item by item.

It knows nothing of estimates. Items begin in order of rank as lanes fall free, retries at their rank when their
back-off is over; an item whose limit is closed is passed over. What it plays is the truth that estimates are held to.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from planner.domain.history import History, Outcomes
from planner.domain.moments import RunFacts
from planner.domain.sketch import Floats

__all__ = ["Bucket", "Played", "Processor", "measured", "play"]

OWN = 0.9
"""Part of the spread that all attempts of an item share: what is long is long again."""


@dataclass(frozen=True)
class Bucket:
    """A limit: `share` of items name it (the first of each thousand); flow of a second, burst; at once."""

    share: float = 1.0
    flow: float = float("inf")
    burst: float = 1.0
    at_once: int = 1_000_000


@dataclass(frozen=True)
class Processor:
    """Seconds of an attempt: exp(run + group + item); its cost, in micro-dollars, likewise, by chances of its own.

    spread: of items' logs, most of it an item's own and some of each attempt; modes: chance and median seconds of each
    kind of item; run_spread, group_spread: of runs (no two of anything are quite alike) and groups; drift: of the
    version that will run, beside the one that was measured; failing: chance of an attempt; free: share of items that
    cost nothing; startup, gap: seconds; facts_spread: of those, from run to run.
    """

    spread: float = 0.4
    modes: Sequence[tuple[float, float]] = ((1.0, 5.0),)
    run_spread: float = 0.02
    group_spread: float = 0.0
    drift: float = 0.0
    failing: float = 0.0
    max_tries: int = 5
    backoff_seconds: float = 1.0
    free: float = 0.0
    startup: float = 0.0
    gap: float = 0.0
    facts_spread: float = 0.25
    levels: Mapping[str, float] = field(default_factory=dict)

    def with_groups(self, random: np.random.Generator, names: Sequence[str]) -> Processor:
        drawn = random.normal(0.0, self.group_spread, len(names))
        return replace(self, levels=dict(zip(names, drawn.tolist(), strict=True)))

    def items(self, random: np.random.Generator, groups: Sequence[str]) -> Items:
        """A run's items: of each attempt of each its seconds and cost, and how many attempts it makes."""
        count = len(groups)
        group = np.array([self.levels.get(name, 0.0) for name in groups])
        whole = random.normal(0.0, self.run_spread, 2)
        kinds = random.choice(len(self.modes), count, p=[chance for chance, _ in self.modes])
        medians = np.log([seconds for _, seconds in self.modes])[kinds]
        fails = random.random((count, self.max_tries)) < self.failing
        attempts = np.where(fails.all(axis=1), self.max_tries, fails.argmin(axis=1) + 1)
        size = (count, int(attempts.max()))
        item = group + medians
        seconds = np.exp(item[:, None] + whole[0] + self._logs(random, size))
        cost = 1_000 * np.exp(item[:, None] + whole[1] + self._logs(random, size))
        cost[random.random(count) < self.free] = 0.0
        made = np.arange(size[1]) < attempts[:, None]
        facts = np.array([self.startup, self.gap]) * np.exp(random.normal(0.0, self.facts_spread, 2))
        failed = np.asarray(fails.all(axis=1))
        return Items(groups, seconds, made, failed, np.rint(cost * made).sum(axis=1), *facts.tolist())

    def _logs(self, random: np.random.Generator, size: tuple[int, int]) -> Floats:
        own = random.normal(0.0, self.spread * OWN, (size[0], 1))
        return np.asarray(own + random.normal(0.0, self.spread * np.sqrt(1 - OWN**2), size))


@dataclass(frozen=True)
class Items:
    groups: Sequence[str]
    attempts: Floats
    made: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    cost_micros: Floats
    startup: float
    gap: float

    def outcomes(self, run: str, run_ms: int, max_tries: int) -> Outcomes:
        return Outcomes(
            run=run,
            run_ms=run_ms,
            max_tries=max_tries,
            groups=self.groups,
            seconds=(self.attempts * self.made).sum(axis=1),
            cost_micros=self.cost_micros,
            tries=self.made.sum(axis=1) - ~self.failed,
            failed=self.failed,
        )


@dataclass(frozen=True)
class Played:
    """A run: seconds in all, and from first beginning to last end of each group; when attempts began and ended."""

    seconds: float
    of_groups: Mapping[str, float]
    begins: Floats
    ends: Floats
    cost_micros: float


def measured(processor: Processor, random: np.random.Generator, runs: Sequence[Sequence[str]]) -> History:
    """The history of runs of these items."""
    found = History()
    for number, groups in enumerate(runs):
        items = processor.items(random, groups)
        facts = RunFacts(items.startup, items.gap) if processor.startup or processor.gap else None
        found += History.of(items.outcomes(f"run-{number}", number, processor.max_tries), facts)
    return found


def play(
    items: Items,
    *,
    lanes: int,
    buckets: Sequence[Bucket] = (),
    backoff_seconds: float = 1.0,
    max_seconds: float = 300.0,
) -> Played:
    """Runs the items. An item has at most one bucket: those of the first one's share, then of the second's, …"""
    if not buckets and items.made.shape[1] == 1:
        return _simply(items, lanes)
    attempts = [row[:count].tolist() for row, count in zip(items.attempts, items.made.sum(axis=1), strict=True)]
    lane_of = [_bucket(rank, buckets) for rank in range(len(attempts))]
    ready: list[list[int]] = [[] for _ in range(len(buckets) + 1)]
    for rank, lane in enumerate(lane_of):
        ready[lane].append(rank)  # rising: a heap already
    tokens = [bucket.burst for bucket in buckets] + [float("inf")]
    filled = [0.0] * len(tokens)
    room = [bucket.at_once for bucket in buckets] + [len(attempts)]
    done = [0] * len(attempts)
    events: list[tuple[float, int, int]] = []  # (when, what: 0 an end, 1 due again, 2 a bucket opens; rank or bucket)
    begins, ends, ranks = [], [], []
    free, now, asleep = lanes, 0.0, [False] * len(tokens)
    while True:
        while free:
            best, least = -1, len(attempts)
            for lane, queue in enumerate(ready):
                if not queue or queue[0] >= least or not room[lane]:
                    continue
                if lane < len(buckets):
                    bucket = buckets[lane]
                    tokens[lane] = min(bucket.burst, tokens[lane] + (now - filled[lane]) * bucket.flow)
                    filled[lane] = now
                    if tokens[lane] < 1 - 1e-9:
                        if not asleep[lane]:
                            heapq.heappush(events, (now + (1 - tokens[lane]) / bucket.flow, 2, lane))
                            asleep[lane] = True
                        continue
                best, least = lane, queue[0]
            if best < 0:
                break
            heapq.heappop(ready[best])
            tokens[best] -= 1
            room[best] -= 1
            free -= 1
            end = now + attempts[least][done[least]]
            begins.append(now)
            ends.append(end)
            ranks.append(least)
            heapq.heappush(events, (end + items.gap, 0, least))
        if not events:
            break
        now, what, which = heapq.heappop(events)
        if what == 2:
            asleep[which] = False
        elif what == 1:
            heapq.heappush(ready[lane_of[which]], which)
        else:
            free += 1
            room[lane_of[which]] += 1
            done[which] += 1
            if done[which] < len(attempts[which]):
                wait = min(backoff_seconds * 2.0 ** (done[which] - 1), max_seconds)
                heapq.heappush(events, (now + wait * (0.5 + (which * 0.618) % 1 / 2), 1, which))
    return _told(items, np.array(begins), np.array(ends), np.array(ranks))


def _simply(items: Items, lanes: int) -> Played:
    """The same where nothing is tried again and nothing is limited."""
    free = [0.0] * lanes
    begins, ends = [], []
    for seconds in items.attempts[:, 0].tolist():
        begins.append(free[0])
        ends.append(free[0] + seconds)
        heapq.heapreplace(free, ends[-1] + items.gap)
    return _told(items, np.array(begins), np.array(ends), np.arange(len(begins)))


def _bucket(rank: int, buckets: Sequence[Bucket]) -> int:
    """Which bucket an item names, by its place in its thousand; the last number stands for none."""
    place = (rank * 0.6180339887) % 1.0
    for number, bucket in enumerate(buckets):
        if place < bucket.share:
            return number
        place -= bucket.share
    return len(buckets)


def _told(items: Items, begins: Floats, ends: Floats, ranks: NDArray[np.int64]) -> Played:
    of_groups: dict[str, float] = {}
    names = np.array(items.groups)[ranks]
    for name in dict.fromkeys(items.groups):
        own = names == name
        of_groups[name] = float(ends[own].max() - begins[own].min())
    cost = float(items.cost_micros.sum())
    return Played(items.startup + float(ends.max()), of_groups, begins, ends, cost)
