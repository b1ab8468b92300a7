"""The detector measured as users meet it: whole texts through `Detector.analyze`, by models that did not see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.detector import Detector
from analyzer.domain.model import Model
from analyzer.evaluation.calibration import carried_over
from analyzer.evaluation.corpus import Corpus
from analyzer.evaluation.folds import Fold, Folds
from analyzer.evaluation.metrics import Scores, measured
from analyzer.evaluation.tables import Value, printed

__all__ = ["LONG_WORDS", "evaluate_folds", "evaluate_human_only", "probabilities"]

LONG_WORDS = 120
"""Documents of so many words are what the headline numbers are about."""
BATCH = 64
_COLUMNS = [field.name for field in fields(Scores)]

Rows = list[dict[str, Value]]


def probabilities(model: Model, texts: Sequence[str]) -> NDArray[np.float64]:
    """The probability of each text; NaN where the detector abstains."""
    detector = Detector(model)
    found: list[float] = []
    for first in range(0, len(texts), BATCH):
        for analysis in detector.analyze(texts[first : first + BATCH], "paragraph"):
            found.append(np.nan if analysis.probability is None else analysis.probability)
    return np.array(found)


def evaluate_folds(corpus: Corpus, folds: Folds, shipped: Model) -> dict[str, Rows]:
    """Tables by name: unseen and known, each by domain and by generator."""
    tables: dict[str, Rows] = {}
    for name, title, kind in (
        ("unseen", "unseen domains (one left out at a time)", folds.unseen),
        ("known", "known domains (thirds by group)", folds.known),
    ):
        chance = _out_of_fold(corpus, kind, shipped)
        long = corpus.words >= LONG_WORDS
        by_domain = _by(corpus.domains, corpus.labels, chance, long)
        by_domain.append({"of": "mean", **_mean(by_domain)})
        by_domain.append({"of": "pooled", **asdict(measured(corpus.labels[long], chance[long]))})
        every = ~np.isnan(chance)
        by_domain.append({"of": "pooled, any length", **asdict(measured(corpus.labels[every], chance[every]))})
        tables[f"{name}_by_domain"] = _shown(f"Detector on {title}, documents of {LONG_WORDS} words or more", by_domain)
        tables[f"{name}_by_generator"] = _shown(
            f"Detector on {title}, by generator (against the human texts of its domains)",
            _by_generator(corpus, chance, long),
        )
    return tables


def evaluate_human_only(model: Model, sets: dict[str, Sequence[str]]) -> Rows:
    """False positives of the shipped model on human texts of sets that nothing was trained or set on."""
    rows: Rows = []
    for name, texts in sets.items():
        chance = probabilities(model, texts)
        rows.append({"of": name, **asdict(measured(np.zeros(len(texts), dtype=np.int64), chance))})
    wanted = ["of", "human", "abstained", "high_human", "medium_human"]
    printed("Shipped model on human texts of other sets", wanted, [[row[key] for key in wanted] for row in rows])
    return rows


def _out_of_fold(corpus: Corpus, folds: Sequence[Fold], shipped: Model) -> NDArray[np.float64]:
    chance = np.full(len(corpus), np.nan)
    for fold in folds:
        chance[fold.held_out] = probabilities(carried_over(fold.model, shipped), corpus.take(fold.held_out).texts)
    return chance


def _by(
    classes: NDArray[np.str_], labels: NDArray[np.int64], chance: NDArray[np.float64], usable: NDArray[np.bool_]
) -> Rows:
    return [
        {"of": name, **asdict(measured(labels[usable & (classes == name)], chance[usable & (classes == name)]))}
        for name in np.unique(classes).tolist()
    ]


def _by_generator(corpus: Corpus, chance: NDArray[np.float64], usable: NDArray[np.bool_]) -> Rows:
    rows: Rows = []
    for name in np.unique(corpus.generators[corpus.labels == 1]).tolist():
        own = corpus.generators == name
        human = np.isin(corpus.domains, np.unique(corpus.domains[own])) & (corpus.labels == 0)
        chosen = usable & (own | human)
        rows.append({"of": name, **asdict(measured(corpus.labels[chosen], chance[chosen]))})
    return rows


def _mean(rows: Rows) -> dict[str, Value]:
    mean: dict[str, Value] = {}
    for column in _COLUMNS:
        values = [row[column] for row in rows]
        numbers = [value for value in values if isinstance(value, float)]
        mean[column] = float(np.mean(numbers)) if len(numbers) == len(values) else None
    return mean


def _shown(title: str, rows: Rows) -> Rows:
    printed(title, ["of", *_COLUMNS], [[row["of"], *(row[column] for column in _COLUMNS)] for row in rows])
    return rows
