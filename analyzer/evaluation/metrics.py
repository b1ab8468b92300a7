"""How well probabilities tell the two labels apart, by the measures that the documentation quotes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score, roc_curve

from analyzer.domain.levels import HIGH_ABOVE, LOW_BELOW

__all__ = ["Scores", "measured"]

FALSE_POSITIVES = 0.01
BINS = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """Of documents that got a probability. Shares are 0-1; None where one of the labels is absent.

    human, model: documents; abstained: documents left out; auroc; true_at_1: model documents above the threshold that
    1 % of these human documents pass; high_human, high_model: shares with p > 0.7; medium_human: p >= 0.4;
    accuracy, f1: of p >= 0.4; ece: expected calibration error in ten bins, both labels weighing the same.
    """

    human: int
    model: int
    abstained: int
    auroc: float | None
    true_at_1: float | None
    high_human: float | None
    high_model: float | None
    medium_human: float | None
    accuracy: float | None
    f1: float | None
    ece: float | None


def measured(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Scores:
    """`probabilities` hold NaN where the detector abstained."""
    known = ~np.isnan(probabilities)
    truth, chance = labels[known], probabilities[known]
    human, model = truth == 0, truth == 1
    both = bool(human.any() and model.any())
    flagged = chance >= LOW_BELOW

    def share(values: NDArray[np.bool_]) -> float | None:
        return float(values.mean()) if len(values) else None

    return Scores(
        human=int(human.sum()),
        model=int(model.sum()),
        abstained=int((~known).sum()),
        auroc=float(roc_auc_score(truth, chance)) if both else None,
        true_at_1=_true_positives(truth, chance) if both else None,
        high_human=share(chance[human] > HIGH_ABOVE),
        high_model=share(chance[model] > HIGH_ABOVE),
        medium_human=share(flagged[human]),
        accuracy=share(flagged == model),
        f1=float(f1_score(truth, flagged)) if both else None,
        ece=_calibration_error(model, chance) if both else None,
    )


def _true_positives(truth: NDArray[np.int64], chance: NDArray[np.float64]) -> float:
    false, true, _ = roc_curve(truth, chance)
    return float(true[false <= FALSE_POSITIVES].max())


def _calibration_error(model: NDArray[np.bool_], chance: NDArray[np.float64]) -> float:
    weight = np.where(model, 0.5 / model.sum(), 0.5 / (~model).sum())
    place = np.minimum((chance * BINS).astype(int), BINS - 1)
    total = np.bincount(place, weight, minlength=BINS)
    expected = np.bincount(place, weight * chance, minlength=BINS)
    observed = np.bincount(place, weight * model, minlength=BINS)
    return float(np.abs(expected - observed).sum() / total.sum())
