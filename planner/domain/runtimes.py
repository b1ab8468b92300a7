"""How long a stage will take, drawn many times: items by their history, lanes by settings and limits. Pure.

Not told, since no history knows it: how long a person lets a gate wait, limits that close in the middle, and items that
wait for something outside without a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.domain.group_times import group_times
from planner.domain.history import History
from planner.domain.levels import Draws, Fit
from planner.domain.makespan import DIRECT_CELLS, DIRECT_ITEMS, Shape, finish, finish_directly
from planner.domain.sketch import Floats
from planner.domain.sums import CHANCES, LOW, MIDDLE, Rows, Sums, item_levels, sums, told_levels
from planner.domain.tries import Tries, tries_under
from planner.domain.work import Limit, StageWork

__all__ = ["DRAWS", "Runtimes", "runtimes"]

DRAWS = 1_024
DIRECT_DRAWS = 512
FACT_SPREAD = 0.3
"""Prior of how far start-ups and gaps differ from run to run, worth two runs."""
FACT_WORTH = 2.0
MAX_BOUNDS = 4
"""Limits that are looked at: those that alone would hold longest."""
SHARED = 0.8
"""Of the variance of executions: what all of one item have in common."""
TAIL_SHARE = 0.05
TAIL_LEVELS = 16
_MOST_RETRIES = 4
_QUARTERS = np.array([LOW, MIDDLE, 1 - LOW])


@dataclass(frozen=True)
class Runtimes:
    """total: seconds of the stage, for each draw; groups: of each group p10, p50 and p90 from its first beginning to
    its last end (None where groups are mixed); bound: what decides it."""

    total: Floats
    groups: tuple[Floats, Floats, Floats] | None
    bound: str


def runtimes(
    work: StageWork, history: History, fit: Fit, random: np.random.Generator, *, widened: float = 0.0
) -> Runtimes:
    """widened: variance of the doubt that it is another history than its own."""
    stage = _Stage(work, history, fit, random, widened)
    total, bound = stage.elapsed()
    startup = stage.facts([run.facts.startup_seconds for run in history.runs.values() if run.facts])
    total = total + startup[: total.size]
    if not work.grouped or len(work.items) < 2:
        few = np.quantile(total, _QUARTERS)
        alone = (few[:1], few[1:2], few[2:]) if len(work.items) == 1 else None
        return Runtimes(np.resize(total, DRAWS), alone, bound)
    return Runtimes(np.resize(total, DRAWS), stage.groups(), bound)


class _Stage:
    """The draws of one stage."""

    def __init__(
        self, work: StageWork, history: History, fit: Fit, random: np.random.Generator, widened: float
    ) -> None:
        self._work, self._fit, self._random, self._history = work, fit, random, history
        self._rows: Rows = np.array([fit.rows.get(name, fit.unknown) for name in work.items], np.int64)
        self._items = np.array(list(work.items.values()), np.float64)
        self._count = work.count
        self._tries: Tries = tries_under(history.ends, work.max_tries, heals=work.heals)
        self._draws: Draws = fit.draws(random, DRAWS, widened=widened, more_varied=self._tries.more_varied)
        self._sums: Sums = sums(fit, self._draws, self._rows, self._items, random)
        doubt = self._tries.variance * (1 / history.items + 1 / self._count)
        self._executed = np.maximum(self._tries.mean + np.sqrt(doubt) * random.standard_normal(DRAWS), 1.0)
        gaps = [run.facts.gap_seconds for run in history.runs.values() if run.facts]
        self._gap = self.facts([gap for gap in gaps if gap is not None])
        self._busy = self._sums.total * self._tries.scale + self._count * self._executed * self._gap
        whole = [limit for limit in work.limits if limit.items >= self._count]
        self._whole, self._partial = whole, [limit for limit in work.limits if 0 < limit.items < self._count]
        self._lanes, self._lanes_bound = _lanes(work, whole)
        self._chance = random.random(DRAWS)
        self._floor = self._floors(whole)
        self._scale = np.exp(self._draws.level + self._sums.doubt) * self._tries.scale
        own = max(1.0 - self._tries.log_variance / fit.spread, 0.2)
        self._narrow = float(np.sqrt(own))
        self._widest = np.exp(self._draws.spread * (1 - own) / 2)
        self._of_groups: Floats | None = None

    def facts(self, values: Sequence[float]) -> Floats:
        """What a next run's fact may be, from those of runs before; 0 where none told."""
        if not values:
            return np.zeros(DRAWS)
        logs = np.log(np.maximum(values, 1e-4))
        squared = float(((logs - logs.mean()) ** 2).sum())
        spread = (FACT_WORTH * FACT_SPREAD**2 + squared) / (FACT_WORTH + logs.size - 1)
        drawn = self._random.standard_t(FACT_WORTH + logs.size - 1, DRAWS)
        return np.asarray(np.exp(logs.mean() + drawn * np.sqrt(spread * (1 + 1 / logs.size))))

    def elapsed(self) -> tuple[Floats, str]:
        """Seconds until the last item has ended, and what decides them."""
        ends = [self._of_all()]
        names = [self._lanes_bound]
        if self._whole and np.median(self._floor) > np.median(self._busy) / self._lanes:
            names = [_named(max(self._whole, key=self._opens))]
        for limit in sorted(self._partial, key=self._alone, reverse=True)[:MAX_BOUNDS]:
            ends.append(self._of_limit(limit)[: ends[0].size])
            names.append(_named(limit))
        table = np.array(ends)
        return table.max(axis=0), names[int(np.median(table, axis=1).argmax())]

    def _of_all(self) -> Floats:
        if self._count <= DIRECT_ITEMS and self._count * self._lanes <= DIRECT_CELLS:
            begins, ends = self._directly()
            places = np.cumsum(self._items.astype(np.int64)) - self._items.astype(np.int64)
            if self._items.min() > 0:
                self._of_groups = np.maximum.reduceat(ends, places, axis=1) - begins[:, places]
            return np.asarray(ends.max(axis=1))
        return self._finished(self._busy, self._floor, self._count, self._lanes)

    def _of_limit(self, limit: Limit) -> Floats:
        """Of the items of one limit alone."""
        lanes = min(self._lanes, limit.concurrency or self._lanes)
        varies = np.median(self._draws.items) * (1 / limit.items - 1 / self._count)
        share = limit.items / self._count * np.exp(np.sqrt(varies) * self._random.standard_normal(DRAWS) - varies / 2)
        return self._finished(self._busy * share, self._floors([limit]), limit.items, lanes)

    def _finished(self, busy: Floats, floor: Floats, count: int, lanes: int) -> Floats:
        holds, takes = self._shapes(max(count * TAIL_SHARE, 4.0 * lanes))
        scale = self._scale
        ends = finish(
            busy / scale,
            floor / scale,
            self._chance,
            np.sqrt(self._draws.spread / self._fit.spread),
            items=count,
            lanes=lanes,
            holds=holds,
            takes=takes,
        )
        return np.asarray(ends * scale)

    def _directly(self) -> tuple[Floats, Floats]:
        draws, fit, random = self._draws, self._fit, self._random
        count = DIRECT_DRAWS
        size, some = (count, self._count), slice(0, count)
        groups = np.sqrt(fit.doubt[self._rows]) * random.standard_normal((count, self._rows.size))
        groups += fit.level[self._rows] + fit.lean[self._rows] * np.sqrt(fit.mean_doubt) * draws.lean[some, None]
        logs = np.sqrt(draws.spread[some, None]) * random.standard_normal(size)
        if draws.plain[some].any():
            told = random.choice(told_levels(fit, self._history.seconds), size, p=CHANCES)
            logs = np.where(draws.plain[some, None], told, logs)
        place = np.repeat(np.arange(self._rows.size), self._items.astype(np.int64))
        chances = self._tries.chances / self._tries.chances.sum()
        executed = random.choice(chances.size, size, p=chances) + 1.0 if chances[0] < 1 else np.ones(size)
        held = np.exp(logs * self._narrow + groups[:, place] + draws.level[some, None]) * self._widest[some, None]
        holds = held * executed * self._tries.scale / self._tries.mean + executed * self._gap[some, None]
        if fit.zero_items:
            holds *= random.random(size) < fit.above[self._rows][place]
        waits = self._work.backoff.waits(chances.size - 1)[executed.astype(np.int64) - 1]
        return finish_directly(holds, waits, self._opens_each(executed), self._lanes)

    def _opens_each(self, executed: Floats) -> Floats:
        """When rates let each item begin, where all before it were executed so often."""
        opens = np.zeros(executed.shape)
        for limit in self._whole:
            if limit.per_minute:
                asked = np.cumsum(executed, axis=1) * limit.uses - limit.filled_burst
                opens = np.maximum(opens, asked / limit.flow_per_second)
        return opens

    def _floors(self, limits: Sequence[Limit]) -> Floats:
        floor = np.zeros(DRAWS)
        for limit in limits:
            if limit.per_minute:
                asked = limit.items * self._executed * limit.uses - limit.filled_burst
                floor = np.maximum(floor, asked / limit.flow_per_second)
        return floor

    def _opens(self, limit: Limit) -> float:
        return limit.opens_seconds(limit.items * self._tries.mean)

    def _alone(self, limit: Limit) -> float:
        """How long a limit would hold its items if nothing else did, about."""
        lanes = limit.concurrency or self._lanes
        return max(self._opens(limit), float(np.median(self._busy)) * limit.items / self._count / lanes)

    def _shapes(self, last: float) -> tuple[Shape, Shape]:
        """What one of the `last` items holds, and takes, where the run's own level is 1."""
        counts = self._items
        if self._work.grouped:
            before = np.cumsum(counts[::-1])[::-1] - counts
            counts = np.clip(last - before, 0.0, counts)
        taken = counts > 0
        logs, weights = _fewer(self._fit.level[self._rows][taken], counts[taken])
        own, chances = item_levels(self._fit, self._history.seconds)
        gap = float(np.median(self._executed * self._gap) / np.median(self._scale))
        amounts = np.exp(logs[:, None] + own).ravel() + gap
        both = (weights[:, None] * chances).ravel()
        return Shape.of(amounts, both), self._waiting(amounts, both)

    def _waiting(self, amounts: Floats, chances: Floats) -> Shape:
        """The same where who is executed more often takes longer, and waits between the tries."""
        all_chances = self._tries.chances
        kept = np.flatnonzero(all_chances)[: _MOST_RETRIES + 1]
        again, executed = all_chances[kept], kept + 1
        waits = self._work.backoff.waits(all_chances.size - 1)[kept] / float(np.median(self._scale))
        longer = executed / self._tries.mean
        # Part of how far items differ is that some are executed more often; and many executions differ less than one.
        narrow = self._narrow * np.sqrt(SHARED + (1 - SHARED) / executed)
        logs = np.log(amounts)
        middle = float((logs * chances).sum() / chances.sum())
        narrowed = np.exp(middle + (logs - middle) * narrow[:, None])
        narrowed *= (float((amounts * chances).sum()) / (narrowed @ chances))[:, None]
        taken = narrowed * longer[:, None] + waits[:, None]
        return Shape.of(taken.ravel(), (chances * again[:, None]).ravel())

    def groups(self) -> tuple[Floats, Floats, Floats]:
        """Of each group p10, p50 and p90 of its seconds; after `elapsed`."""
        if self._of_groups is not None:
            low, middle, high = np.quantile(self._of_groups, _QUARTERS, axis=0)
            return low, middle, high
        held = max(float(np.median(self._floor)), *(self._alone(limit) for limit in self._partial), 0.0)
        idle = float(np.median(self._executed * self._gap))
        scale = self._tries.scale
        low, middle, high = (
            part * scale + self._items * idle for part in (self._sums.low, self._sums.middle, self._sums.high)
        )
        own, chances = item_levels(self._fit, self._history.seconds)
        return group_times(
            self._items,
            (low, middle, high),
            np.exp(self._fit.level[self._rows]) * float(np.median(self._scale)),
            self._waiting(np.exp(own), chances),
            lanes=self._lanes,
            slower=max(1.0, held * self._lanes / float(np.median(self._busy))),
            varies=float(np.median(self._draws.items)),
        )


def _fewer(levels: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """At most TAIL_LEVELS levels that stand for all."""
    if levels.size <= TAIL_LEVELS:
        return levels, counts
    order = np.argsort(levels, kind="stable")
    ahead = np.cumsum(counts[order]) / counts.sum()
    middles = (np.arange(TAIL_LEVELS) + 0.5) / TAIL_LEVELS
    return levels[order][np.searchsorted(ahead, middles)], np.ones(TAIL_LEVELS)


def _lanes(work: StageWork, whole: Sequence[Limit]) -> tuple[int, str]:
    """How many items run at once, and what says so."""
    bounds = [(work.concurrency, f"concurrency {work.concurrency:,}")]
    if work.slots is not None:
        bounds.append((work.slots, f"{work.slots:,} slots of workers"))
    bounds += [(limit.concurrency, _named(limit)) for limit in whole if limit.concurrency]
    lanes, name = min(bounds)
    return max(lanes, 1), name


def _named(limit: Limit) -> str:
    parts = [f"{limit.concurrency:,} at once"] if limit.concurrency else []
    parts += [f"{limit.per_minute:,g} {limit.dimension} a minute"] if limit.per_minute else []
    return f"limit {limit.key} ({', '.join(parts)})"
