"""From raw scores to probabilities that keep their promise: few human documents pass 0.7, on subjects never seen.

Two thresholds, each a function of length because short texts scatter more:
- 0.7 is the score that the allowed share of human crops passes when their whole domain was left out of training;
- 0.4 is the score that the same share passes when only their group (prompt) was left out.
So MEDIUM means "rare among human texts of kinds that the model knows", HIGH "rare even on kinds that it does not".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.levels import HIGH_ABOVE, LOW_BELOW
from analyzer.domain.model import Calibration, Model
from analyzer.evaluation.corpus import Corpus
from analyzer.evaluation.fitting import crops, fit, score

__all__ = ["calibrated", "group_folds"]

DOCUMENT_LENGTHS = (80, 120, 180, 300)
SEGMENT_LENGTHS = (25, 40, 60, 90)
LENGTHS = SEGMENT_LENGTHS + DOCUMENT_LENGTHS
DOCUMENT_FALSE_POSITIVES = 0.009
SEGMENT_FALSE_POSITIVES = 0.03
GROUP_FOLDS = 3
LEAST_GAP = 0.15

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def calibrated(corpus: Corpus, *, seed: int, model: Model | None = None) -> Model:
    """A model of the whole corpus (fitted here unless given) with both calibrations."""
    unseen = _scores(corpus, [corpus.domains == name for name in np.unique(corpus.domains)], seed)
    known = _scores(corpus, list(group_folds(corpus, GROUP_FOLDS)), seed)
    model = model or fit(corpus, seed=seed)
    middle = model.document.base
    cut = len(SEGMENT_LENGTHS)
    return replace(
        model,
        document=_calibration(corpus, middle, LENGTHS[cut:], unseen[cut:], known[cut:], DOCUMENT_FALSE_POSITIVES),
        segment=_calibration(corpus, middle, LENGTHS[:cut], unseen[:cut], known[:cut], SEGMENT_FALSE_POSITIVES),
    )


def group_folds(corpus: Corpus, folds: int) -> Iterator[Mask]:
    """Masks of the held-out texts; texts of one group are always together."""
    names, place = np.unique(corpus.groups, return_inverse=True)
    fold = np.random.default_rng(folds).permutation(len(names)) % folds
    for number in range(folds):
        yield fold[place] == number


def _scores(corpus: Corpus, held_out: list[Mask], seed: int) -> list[Floats]:
    """For each of LENGTHS a score per text by the model that did not see it, relative to that model's middle; NaN
    where the text is shorter."""
    found = [np.full(len(corpus), np.nan) for _ in LENGTHS]
    for inside in held_out:
        model = fit(corpus.take(~inside), seed=seed)
        human = inside & (corpus.labels == 0)
        part = corpus.take(human)
        random = np.random.default_rng(seed)
        for length, place in zip(LENGTHS, found, strict=True):
            values = score(model, crops(part.tokens, part.words, random, (length, length))) - model.document.base
            place[human] = np.where(part.words >= length, values, np.nan)
    return found


def _calibration(
    corpus: Corpus,
    middle: float,
    lengths: tuple[int, ...],
    unseen: list[Floats],
    known: list[Floats],
    false_positives: float,
) -> Calibration:
    human = corpus.labels == 0
    high = np.array([np.nanquantile(scores[human], 1 - false_positives) for scores in unseen])
    low = np.array([np.nanquantile(scores[human], 1 - false_positives) for scores in known])
    shrink = 1 / np.sqrt(np.array(lengths, dtype=float))
    design = np.stack([np.ones(len(lengths)), shrink], axis=1)
    spread = max(0.0, float(np.linalg.lstsq(design, high, rcond=None)[0][1]))
    base = float(np.max(high - spread * shrink))
    gap = max(LEAST_GAP, float(np.mean(base + spread * shrink - low)))
    return Calibration(base=middle + base, spread=spread, slope=(_logit(HIGH_ABOVE) - _logit(LOW_BELOW)) / gap)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
