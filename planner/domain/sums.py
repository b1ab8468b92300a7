"""What many items take together, drawn many times: their number, how large one is, how sure that is. Pure.

The sum of many amounts is close to lognormal, whatever the amounts are, once its mean and variance are right; so no
item is drawn, and a million of them cost what a thousand do.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from planner.domain.levels import Draws, Fit
from planner.domain.sketch import Floats, Sketch

__all__ = ["CHANCES", "LOW", "MIDDLE", "Rows", "Sums", "item_levels", "sums", "told_levels"]

Rows = NDArray[np.int64]

LOW, MIDDLE = 0.1, 0.5
_Z = 1.2815515655446004
"""Standard deviations from the middle to p10 or p90 of a normal curve."""


@dataclass(frozen=True)
class Sums:
    """total: of all items, for each draw; doubt: log of what it owes to the doubt about groups; low, middle, high: of
    each group (p10, p50, p90)."""

    total: Floats
    doubt: Floats
    low: Floats
    middle: Floats
    high: Floats


def sums(fit: Fit, draws: Draws, rows: Rows, items: Floats, random: np.random.Generator) -> Sums:
    """rows, items: of each group its row in the fit and how many of its items there are."""
    doubt, above, lean = fit.doubt[rows], fit.above[rows], fit.lean[rows]
    each = np.exp(fit.level[rows] + doubt / 2)
    means = items * above * each
    whole = float(means.sum())
    if not whole:
        nothing = np.zeros(rows.size)
        return Sums(np.zeros(draws.mean.size), np.zeros(draws.mean.size), nothing, nothing, nothing)
    of_groups = float((means**2 * np.expm1(doubt)).sum()) / whole**2
    of_items = float((items * above * each**2).sum()) / whole**2
    certain = float((items * (above * each) ** 2).sum()) / whole**2
    doubted = draws.scale * of_groups
    varies = np.log1p(doubted + np.maximum(of_items * (1 + draws.items) - certain, 0.0))
    of_doubt = np.log1p(doubted)
    leaning = float((means * lean).sum()) / whole * np.sqrt(fit.mean_doubt) * draws.lean
    leaning = leaning + np.sqrt(of_doubt) * random.standard_normal(draws.mean.size)
    noise = np.sqrt(varies - of_doubt) * random.standard_normal(draws.mean.size)
    total = whole * np.exp(draws.mean + leaning + noise - varies / 2)

    low, middle, high = np.quantile(draws.mean, [LOW, MIDDLE, 1 - LOW])
    item = (above * (1 + np.median(draws.items)) - above**2) / np.maximum(items * above**2, 1e-12)
    varies = np.log1p(np.maximum(np.median(draws.scale) * np.expm1(doubt) + item, 0.0))
    own = varies + lean**2 * fit.mean_doubt
    centre = middle - varies / 2
    return Sums(
        total,
        leaning,
        means * np.exp(centre - np.sqrt((middle - low) ** 2 + _Z**2 * own)),
        means * np.exp(centre),
        means * np.exp(centre + np.sqrt((high - middle) ** 2 + _Z**2 * own)),
    )


def item_levels(fit: Fit, sketch: Sketch) -> tuple[Floats, Floats]:
    """Logs of what items of one group take beside its level, and their chances: lognormal, or as the sketch has it, as
    far as the fit believes in each."""
    values = np.concatenate((_NORMAL * np.sqrt(fit.spread), told_levels(fit, sketch)))
    return values, np.concatenate((CHANCES * (1 - fit.plain), CHANCES * fit.plain))


def told_levels(fit: Fit, sketch: Sketch) -> Floats:
    """The same as the sketch has it, with the chances `CHANCES`: its shape, with the spread and the mean of the fit."""
    amounts, counts = sketch.points()
    logs = np.log(amounts)
    mean = float((logs * counts).sum() / counts.sum())
    spread = float(np.sqrt((counts * (logs - mean) ** 2).sum() / counts.sum()))
    shares = (np.cumsum(counts) - counts / 2) / counts.sum()
    told = (np.interp(_SHARES, shares, logs) - mean) * (np.sqrt(fit.spread) / spread if spread else 0.0)
    return np.asarray(told + fit.ratio - np.log((CHANCES * np.exp(told)).sum()))


def _normal(share: float) -> float:
    return NormalDist().inv_cdf(share)


_EDGES = np.concatenate(([0.0, 0.01], np.arange(0.025, 0.98, 0.025), 1 - np.geomspace(0.01, 1e-6, 12), [1.0]))
CHANCES = np.diff(_EDGES)
"""Of an item: even in the body, finer where it takes long."""
_SHARES = (_EDGES[1:] + _EDGES[:-1]) / 2
_NORMAL = np.array([_normal(float(share)) for share in _SHARES])
