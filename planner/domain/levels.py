"""How large the next items' amounts will be, and how sure that is: a fit of a history, and draws from it.

An amount (seconds, or micro-dollars, where above 0) is taken to be exp(run + group + item): a run is slower or dearer
as a whole, groups differ, items differ. What is known of each part comes from the history by ordinary statistics:

- items: their spread, with a chi-square doubt about it. Whether logarithms tell the mean is tested (Hausman): the mean
  that a lognormal shape implies, which sees a heavy tail in few samples, against the plain mean, which is right for any
  shape and needs many. The less they agree, the more draws use the plain one.
- groups: each is drawn towards the mean of all as far as its own items are few; an unknown group is one more of them.
- runs: how far they differ is a distribution (a grid over its standard deviation: prior times likelihood). One run
  cannot tell; then the prior does, and it is stated here.

Pure; a fit of nothing is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.domain.moments import Level, Mean
from planner.domain.sketch import Floats

__all__ = ["RUN_SPREAD", "Draws", "Fit", "fit"]

RUN_SPREAD = 0.25
"""Prior of how far runs of one processor differ as wholes, where a single run can't tell: half of all processors' by
less than a twelfth, few by more than a third."""
RUNS_SPREAD, RUNS_FALL = 0.5, 1.0
"""The same where several can: as likely within each doubling, since it must not speak louder than they do."""
GROUP_SPREAD = 0.5
ITEM_SPREAD = 0.6
ITEM_WORTH = 2.0
"""Prior of the spread of items, and how many items it counts for."""
MOST_SPREAD = 20.0
"""Of variances: a mean of twenty thousand times the middle is none that a few items could tell."""
ZEROS_WORTH = 5.0
"""How many items the share of zeros over all groups counts for in a group."""
ROUNDS = 8
SEEN_ELSEWHERE = 5.0
"""Items of a group in other runs from which a run may be compared with them."""
FALL = 0.5
_GRID = np.geomspace(0.004, 2.0, 40)


@dataclass(frozen=True)
class Fit:
    """The parts of one amount.

    rows: groups' places. Of each group, and last of one that is not known, level: the mean of logarithms; doubt: the
    variance of that; above: the share of items whose amount is above 0; lean, mean_doubt: how far its level follows
    the mean of all, and the variance of that mean. spread, degrees: of items, and how many of them tell it. plain:
    share of draws that use plain means; ratio: log of the mean over exp(level), as the plain mean says; plain_spread:
    variance of amounts over their squared mean. above_items, zero_items: of all. runs: (level, variance, chance) of a
    next run, on the grid.
    """

    rows: Mapping[str, int]
    level: Floats
    doubt: Floats
    above: Floats
    lean: Floats
    mean_doubt: float
    spread: float
    degrees: float
    plain: float
    ratio: float
    plain_spread: float
    above_items: int
    zero_items: int
    runs: tuple[Floats, Floats, Floats]

    @property
    def unknown(self) -> int:
        """The row of what is not known by name."""
        return self.level.size - 1

    def draws(
        self, random: np.random.Generator, count: int, *, widened: float = 0.0, more_varied: float = 0.0
    ) -> Draws:
        """What all items of a run share, drawn. widened: variance of a doubt besides (of another version); more_varied:
        by how much items will vary more than they did (under another bound of tries)."""
        level, variance, weight = self.runs
        at = random.choice(weight.size, size=count, p=weight)
        shared = level[at] + np.sqrt(variance[at] + widened) * random.standard_normal(count)
        known = np.maximum(random.chisquare(self.degrees, count), 1e-6)
        spread = np.minimum(self.spread * self.degrees / known, MOST_SPREAD)
        plain = random.random(count) < self.plain
        ratio = np.where(plain, self.ratio, spread / 2)
        above = np.zeros(count)
        if self.zero_items:
            share = self.above_items / (self.above_items + self.zero_items)
            above = np.log(random.beta(self.above_items + 0.5, self.zero_items + 0.5, count) / share)
        items = np.where(plain, self.plain_spread, np.expm1(spread))
        items = np.maximum(items + more_varied * (1 + items), 0.1 * items)
        scale = np.where(plain, self.plain_spread / self.spread, 1.0)
        lean = random.standard_normal(count)
        return Draws(shared + ratio + above, items, scale, lean, shared, np.where(plain, self.spread, spread), plain)


@dataclass(frozen=True)
class Draws:
    """mean: log of the mean over exp(group level); items: variance of an item over its squared mean; scale: of the
    doubt about groups; lean: standard draws of the mean of all groups; level: what the run shares of the logs; spread:
    of items' logs; plain: whether it uses plain means."""

    mean: Floats
    items: Floats
    scale: Floats
    lean: Floats
    level: Floats
    spread: Floats
    plain: NDArray[np.bool_]


def fit(groups: Mapping[str, Level], others: Level, runs: Sequence[Mapping[str, Mean]]) -> Fit | None:
    """The fit of an amount. groups: moments by group; others: of what has no name; runs: of each its mean levels by
    group. None where no amount is above 0."""
    known = [(name, level) for name, level in groups.items() if level.above or level.zeros]
    rows = {name: at for at, (name, _) in enumerate(known)}
    levels = [level for _, level in known] + ([others] if others.above or others.zeros else [])
    table = np.array(
        [(one.above, one.zeros, one.log_sum, one.log_squares, one.total, one.squares) for one in levels]
    ).reshape(-1, 6)
    above, zeros, log_sum, log_squares, total, squares = table.T
    if not above.sum():
        return None
    cells = _cells(rows, runs)
    run, group, count, _ = cells
    some = np.maximum(above, 1.0)
    own, of_run = _parts(log_sum, above, cells, len(runs))

    within = log_squares - log_sum**2 / some
    in_group = np.bincount(group, count * of_run[run], above.size) / some
    moved = np.bincount(group, count * of_run[run] ** 2, above.size) - above * in_group**2
    degrees = max(above.sum() - (above > 0).sum() - max((np.bincount(run, minlength=1) > 0).sum() - 1, 0), 0.0)
    squared = max(float((within - moved)[above > 0].sum()), 0.0) if degrees else 0.0
    spread = min((ITEM_WORTH * ITEM_SPREAD**2 + squared) / (ITEM_WORTH + degrees), MOST_SPREAD)

    # A group of nothing but zeros has no level of its own.
    seen = above > 0
    sampling = np.where(seen, spread / some, np.inf)
    between, centre, centre_doubt = _between(own[seen], sampling[seen])
    keep = np.where(seen, between / (between + sampling), 0.0) if seen.sum() > 1 else np.where(seen, 1.0, 0.0)
    level = np.where(seen, keep * own + (1 - keep) * centre, centre)
    doubt = np.where(seen, keep * np.where(seen, sampling, 0.0), between)

    share = (above.sum() + 0.5 * (zeros.sum() > 0)) / (above.sum() + zeros.sum() + (zeros.sum() > 0))
    positive = (above + ZEROS_WORTH * share) / (above + zeros + ZEROS_WORTH)

    told = np.exp(level + doubt / 2)
    weight = np.bincount(group, count * np.expm1(of_run[run]), above.size) + above
    squares_told = np.bincount(group, count * np.expm1(2 * of_run[run]), above.size) + above
    ratio = float(np.log(total.sum() / (weight * told).sum()))
    second = float(squares.sum() / (squares_told * told**2).sum()) * np.exp(-2 * ratio)
    plain_spread = max(second - 1.0, 0.02 * spread)
    return Fit(
        rows=rows,
        level=np.append(level, centre),
        doubt=np.append(doubt, between),
        above=np.append(positive, share),
        lean=np.append(1 - keep, 1.0),
        mean_doubt=centre_doubt,
        spread=spread,
        degrees=ITEM_WORTH + degrees,
        plain=_plain(ratio, spread, float(above.sum()), ITEM_WORTH + degrees),
        ratio=ratio,
        plain_spread=plain_spread,
        above_items=int(above.sum()),
        zero_items=int(zeros.sum()),
        runs=_run_levels(cells, of_run, above, spread),
    )


_Cells = tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]
"""Of each run and group: the run, the group's row, how many amounts, the mean of their logarithms."""


def _cells(rows: Mapping[str, int], runs: Sequence[Mapping[str, Mean]]) -> _Cells:
    found = [
        (at, rows[name], mean.count, mean.log_sum / mean.count)
        for at, groups in enumerate(runs)
        for name, mean in groups.items()
        if mean.count and name in rows
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 4)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3]


def _parts(log_sum: Floats, above: Floats, cells: _Cells, runs: int) -> tuple[Floats, Floats]:
    """Levels of groups and of runs that tell the means of all cells best, by turns. Runs average to 0."""
    run, group, count, mean = cells
    some = np.maximum(above, 1.0)
    of_group, of_run = log_sum / some, np.zeros(runs)
    weight = np.maximum(np.bincount(run, count, runs), 1.0)
    for _ in range(ROUNDS if runs > 1 else 0):
        of_run = np.bincount(run, count * (mean - of_group[group]), runs) / weight
        of_run -= (of_run * weight).sum() / weight.sum()
        of_group = (log_sum - np.bincount(group, count * of_run[run], above.size)) / some
    return of_group, of_run


def _chances(values: Floats, variances: Floats, spread: float, fall: float = FALL) -> tuple[Floats, Floats, Floats]:
    """For each standard deviation of the grid: how likely it is that of what the values vary around their mean beside
    their own variances, that mean, and its variance."""
    inverse = 1.0 / (_GRID[:, None] ** 2 + variances)
    known = inverse.sum(axis=1)
    centre = (inverse * values).sum(axis=1) / known
    misfit = (inverse * (values - centre[:, None]) ** 2).sum(axis=1)
    log = (np.log(inverse).sum(axis=1) - np.log(known) - misfit) / 2 + _prior(spread, fall)
    weight = np.exp(log - log.max())
    return weight / weight.sum(), centre, 1.0 / known


def _prior(spread: float, fall: float = FALL) -> Floats:
    """Half a normal curve, higher towards 0."""
    return np.asarray(np.log(np.gradient(_GRID)) - (_GRID / spread) ** 2 / 2 - fall * np.log(_GRID))


def _between(own: Floats, sampling: Floats) -> tuple[float, float, float]:
    """How far groups differ (a variance), the mean of all, and the variance of that."""
    weight, centre, doubt = _chances(own, sampling, GROUP_SPREAD)
    return float((weight * _GRID**2).sum()), float((weight * centre).sum()), float((weight * doubt).sum())


def _run_levels(cells: _Cells, of_run: Floats, above: Floats, spread: float) -> tuple[Floats, Floats, Floats]:
    """The level of a next run: its mean, its variance and the chance of both, for each spread of runs of the grid.

    A run tells how runs differ by the groups that others had too.
    """
    run, group, count, _ = cells
    elsewhere = np.minimum(1.0, (above[group] - count) / SEEN_ELSEWHERE)
    telling = np.bincount(run, count * elsewhere, of_run.size)
    share = np.bincount(run, count, of_run.size) / max(count.sum(), 1.0)
    compared = telling >= 1.0
    if compared.sum() < 2:
        weight = np.exp(_prior(RUN_SPREAD))
        shared = float((share**2).sum()) if count.size else 1.0
        return np.zeros(_GRID.size), _GRID**2 * (1.0 + shared), weight / weight.sum()
    weight, centre, doubt = _chances(of_run[compared], spread / telling[compared], RUNS_SPREAD, RUNS_FALL)
    # What the first of the grid doubts is the sampling of items alone, which is counted with the groups.
    return centre, np.maximum(doubt - doubt[0], 0.0) + _GRID**2, weight


def _plain(ratio: float, spread: float, items: float, degrees: float) -> float:
    """The share of draws that use plain means: how sure it is that the lognormal one is another."""
    doubt = max((np.expm1(spread) - spread) / items - spread**2 / (2 * degrees), 1e-12)
    return float(1 / (1 + np.exp(min(4.0 - (ratio - spread / 2) ** 2 / doubt, 500.0))))
