"""Clusters measured on news of five classes: the number of classes is not told."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import adjusted_rand_score

from analyzer.domain.collection import CollectionBuilder
from analyzer.domain.detector import Detector
from analyzer.domain.model import Model
from analyzer.domain.sketch import Sketch, decode
from analyzer.evaluation.tables import Value, printed

__all__ = ["evaluate_clusters"]

SIZES = (30, 60, 120, 500)
SAMPLES = 5
BATCH = 64


def evaluate_clusters(model: Model, texts: Sequence[str], labels: Sequence[str]) -> list[dict[str, Value]]:
    """ARI (unclustered documents count as one class), over random samples of several sizes and all."""
    detector = Detector(model)
    sketches: list[Sketch] = []
    for first in range(0, len(texts), BATCH):
        sketches += [decode(each.sketch) for each in detector.analyze(texts[first : first + BATCH], "paragraph")]
    rows: list[dict[str, Value]] = []
    truth = np.array(labels)
    for size in (*SIZES, len(texts)):
        scores, numbers, unclustered = [], [], []
        began = time.perf_counter()
        samples = SAMPLES if size < len(texts) else 1
        for seed in range(samples):
            chosen = np.random.default_rng(seed).permutation(len(texts))[:size]
            builder = CollectionBuilder()
            for key, at in enumerate(chosen.tolist()):
                builder.add(key, sketches[at], None)
            found = builder.analyze()
            scores.append(float(adjusted_rand_score(truth[chosen], found.labels)))
            numbers.append(len(found.clusters))
            unclustered.append(int((found.labels < 0).sum()))
        rows.append(
            {
                "documents": size,
                "samples": samples,
                "ari_mean": float(np.mean(scores)),
                "ari_least": min(scores),
                "clusters": float(np.mean(numbers)),
                "unclustered": float(np.mean(unclustered)),
                "seconds": (time.perf_counter() - began) / samples,
            }
        )
    printed("Clusters of news, number of classes (5) not told", list(rows[0]), [list(row.values()) for row in rows])
    return rows
