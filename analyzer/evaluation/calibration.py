"""From raw scores to probabilities that keep their promise: few human documents pass 0.7, on subjects never seen.

Everything is set on texts that the scoring model did not see:
- 0.7 and 0.4 are the scores that two allowed shares of human texts pass when only their group (prompt) was left out;
- scholarly prose in words that the model hardly knows is of another kind, where these thresholds do not hold: above
  `most_unfamiliar` it is hedged, which keeps it at 0.7 or below (`Model.is_foreign`). That share is set so that, with
  whole domains left out, few human texts pass 0.7 all the same.

Segments have thresholds of their own, which fall with length, since short windows scatter more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.detector import Detector
from analyzer.domain.levels import HIGH_ABOVE, LOW_BELOW
from analyzer.domain.model import SCHOLARLY_LETTERS, Calibration, Model
from analyzer.evaluation.corpus import Corpus
from analyzer.evaluation.fitting import crops, score
from analyzer.evaluation.folds import Fold, Folds

__all__ = ["calibrated", "carried_over"]

HIGH_FALSE_POSITIVES, LOW_FALSE_POSITIVES = 0.008, 0.05
SEGMENT_HIGH_FALSE_POSITIVES, SEGMENT_LOW_FALSE_POSITIVES = 0.02, 0.10
UNSEEN_FALSE_POSITIVES = 0.008
SEGMENT_LENGTHS = (25, 40, 60, 90)
HEDGE_STEPS = np.arange(0.02, 0.2, 0.0025)
LEAST_GAP = 0.15
BATCH = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Documents:
    """Human texts that the detector does not abstain from: scores from the model's middle, shares of unfamiliar words,
    mean letters a word."""

    scores: Floats
    unfamiliar: Floats
    letters: Floats


def calibrated(model: Model, corpus: Corpus, folds: Folds, *, seed: int) -> Model:
    """The model with both calibrations and the share of unfamiliar words from which it hedges."""
    known, unseen = _documents(corpus, folds.known), _documents(corpus, folds.unseen)
    high = _passed_by(known.scores, HIGH_FALSE_POSITIVES)
    low = _passed_by(known.scores, LOW_FALSE_POSITIVES)
    above = unseen.scores > high

    def passing(step: float) -> float:
        foreign = (unseen.unfamiliar > step) & (unseen.letters >= SCHOLARLY_LETTERS)
        return float((above & ~foreign).mean())

    fitting = [float(step) for step in HEDGE_STEPS if passing(step) <= UNSEEN_FALSE_POSITIVES]
    return replace(
        model,
        document=_calibration(model, high, 0.0, high - low),
        segment=_segment_calibration(model, corpus, folds, seed),
        most_unfamiliar=max(fitting, default=0.0),
    )


def carried_over(model: Model, shipped: Model) -> Model:
    """A fold's model with the shipped model's thresholds, measured from its own middle."""
    shift = model.middle - shipped.middle
    return replace(
        model,
        document=replace(shipped.document, base=shipped.document.base + shift),
        segment=replace(shipped.segment, base=shipped.segment.base + shift),
        most_unfamiliar=shipped.most_unfamiliar,
    )


def _segment_calibration(model: Model, corpus: Corpus, folds: Folds, seed: int) -> Calibration:
    scores = [_crop_scores(corpus, folds.known, length, seed) for length in SEGMENT_LENGTHS]
    high = np.array([_passed_by(each, SEGMENT_HIGH_FALSE_POSITIVES) for each in scores])
    low = np.array([_passed_by(each, SEGMENT_LOW_FALSE_POSITIVES) for each in scores])
    shrink = 1 / np.sqrt(np.array(SEGMENT_LENGTHS, dtype=float))
    design = np.stack([np.ones(len(shrink)), shrink], axis=1)
    spread = max(0.0, float(np.linalg.lstsq(design, high, rcond=None)[0][1]))
    return _calibration(model, float(np.mean(high - spread * shrink)), spread, float(np.mean(high - low)))


def _calibration(model: Model, base: float, spread: float, gap: float) -> Calibration:
    slope = (_logit(HIGH_ABOVE) - _logit(LOW_BELOW)) / max(LEAST_GAP, gap)
    return Calibration(base=model.middle + base, spread=spread, slope=slope)


def _passed_by(scores: Floats, false_positives: float) -> float:
    return float(np.quantile(scores, 1 - false_positives, method="higher"))


def _documents(corpus: Corpus, folds: Sequence[Fold]) -> _Documents:
    found = []
    for fold in folds:
        detector = Detector(fold.model)
        texts = corpus.take(fold.held_out & (corpus.labels == 0)).texts
        for first in range(0, len(texts), BATCH):
            for analysis in detector.analyze(texts[first : first + BATCH], "paragraph"):
                if analysis.abstained is None:
                    features = analysis.features
                    found.append(
                        (analysis.score - fold.model.middle, features["unfamiliar_words"], features["letters_per_word"])
                    )
    values = np.array(found)
    return _Documents(values[:, 0], values[:, 1], values[:, 2])


def _crop_scores(corpus: Corpus, folds: Sequence[Fold], length: int, seed: int) -> Floats:
    """One crop of `length` words of every human text that is long enough, scored by the model that did not see it."""
    found = []
    for fold in folds:
        part = corpus.take(fold.held_out & (corpus.labels == 0) & (corpus.words >= length))
        random = np.random.default_rng(seed)
        found.append(score(fold.model, crops(part.tokens, part.words, random, (length, length))))
    return np.concatenate(found)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
