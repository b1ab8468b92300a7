"""A set of documents seen as one: clusters, neighbours, near-duplicates, passages, similarity.

Works from sketches alone (or from a provider's vectors), in float32 and in blocks; holds no text. Everything is
deterministic, so that a second execution gives the same collection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.clusters import UNCLUSTERED, cluster_terms, edges_of, find_clusters
from analyzer.domain.duplicates import Duplicates, Shingles, find_duplicates
from analyzer.domain.neighbours import Neighbours, nearest
from analyzer.domain.sketch import Sketch
from analyzer.domain.vectors import TermTable, embedding, tfidf, unit_rows

__all__ = ["MAX_MATRIX_DOCUMENTS", "ClusterSummary", "CollectionAnalysis", "CollectionBuilder"]

MAX_MATRIX_DOCUMENTS = 1_000
MAX_MATRIX_CLUSTERS = 200
NEIGHBOURS = 10
SIMILAR_PAIRS = 100
CLUSTER_TERMS = 8

Floats = NDArray[np.float32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    cluster_id: int
    document_count: int
    avg_probability: float | None
    avg_similarity: float
    terms: tuple[str, ...]


@dataclass(frozen=True)
class CollectionAnalysis:
    """`order` lists positions in cluster order: clusters by number, unclustered last; ties by position.

    matrix: documents x documents in that order, or None above MAX_MATRIX_DOCUMENTS; then cluster_matrix holds the mean
    similarity between clusters (the first MAX_MATRIX_CLUSTERS). Both rounded to 3 decimals.
    """

    order: NDArray[np.int64]
    labels: NDArray[np.int32]
    clusters: tuple[ClusterSummary, ...]
    matrix: Floats | None
    cluster_matrix: Floats | None
    near: Neighbours
    duplicates: Duplicates
    similar_pairs: tuple[tuple[int, int, float], ...]
    model: str


class CollectionBuilder:
    """Takes documents one by one (keeping only compact arrays), then analyses them together, in the order of their
    keys: in what order they came leaves no trace."""

    def __init__(self) -> None:
        self._terms = TermTable()
        self._shingles: list[Shingles] = []
        self._probabilities: list[float] = []
        self._vectors: list[Floats] = []
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int, sketch: Sketch, probability: float | None) -> None:
        self._keys.append(key)
        self._terms.add(sketch)
        self._shingles.append(Shingles.of(sketch))
        self._probabilities.append(np.nan if probability is None else probability)

    def add_vectors(self, vectors: Floats) -> None:
        """A provider's vectors of the documents added last; either all documents get one, or none does."""
        self._vectors.append(vectors)

    def analyze(self, progress: Progress = lambda _share, _phase: None, *, model: str = "") -> CollectionAnalysis:
        """Analyses what was added; positions in the answer count documents by ascending key. `model` names what made
        the provider's vectors; without any, the offline embedding is fitted. `progress` gets shares of 0-1."""
        sort = np.argsort(np.array(self._keys, dtype=np.int64), kind="stable")
        self._terms.reorder(sort)
        self._shingles = [self._shingles[at] for at in sort]
        probabilities = np.array(self._probabilities)[sort]
        counts, names = self._terms.matrix()
        progress(0.05, "embedding")
        if self._vectors:
            vectors = unit_rows(np.concatenate(self._vectors)[sort])
        else:
            vectors, model = embedding(tfidf(counts))
        progress(0.35, "neighbours")
        near = nearest(vectors, max(NEIGHBOURS, edges_of(len(vectors))))
        progress(0.65, "clusters")
        labels = find_clusters(near)
        near = Neighbours(near.index[:, :NEIGHBOURS].copy(), near.similarity[:, :NEIGHBOURS].copy())
        progress(0.75, "duplicates")
        duplicates = find_duplicates(self._shingles, vectors)
        progress(0.95, "similarity")
        number = int(labels.max(initial=UNCLUSTERED)) + 1
        sums = _sums(labels, vectors, number)
        sizes = np.bincount(labels[labels >= 0], minlength=number)
        squares = np.bincount(
            labels[labels >= 0], (vectors[labels >= 0] ** 2).sum(axis=1).astype(np.float64), minlength=number
        )
        inside = ((sums**2).sum(axis=1) - squares) / np.maximum(sizes * (sizes - 1), 1)
        terms = cluster_terms(_cluster_counts(labels, counts, number), names, CLUSTER_TERMS)
        order = np.lexsort((np.arange(len(labels)), np.where(labels < 0, number, labels)))
        small = len(labels) <= MAX_MATRIX_DOCUMENTS
        return CollectionAnalysis(
            order=order,
            labels=labels,
            clusters=tuple(
                ClusterSummary(
                    at,
                    int(sizes[at]),
                    _mean(probabilities[labels == at]),
                    round(float(np.clip(inside[at], -1, 1)), 4),
                    tuple(terms[at]),
                )
                for at in range(number)
            ),
            matrix=_matrix(vectors[order]) if small else None,
            cluster_matrix=None if small else _cluster_matrix(sums, sizes, inside),
            near=near,
            duplicates=duplicates,
            similar_pairs=_similar_pairs(near),
            model=model,
        )


def _mean(probabilities: NDArray[np.float64]) -> float | None:
    known = probabilities[~np.isnan(probabilities)]
    return round(float(known.mean()), 4) if len(known) else None


def _sums(labels: NDArray[np.int32], vectors: Floats, number: int) -> NDArray[np.float64]:
    sums = np.zeros((number, vectors.shape[1]))
    good = labels >= 0
    np.add.at(sums, labels[good], vectors[good])
    return sums


def _cluster_counts(labels: NDArray[np.int32], counts: object, number: int) -> NDArray[np.float64]:
    from scipy import sparse

    good = np.flatnonzero(labels >= 0)
    member = sparse.csr_matrix((np.ones(len(good)), (labels[good], good)), shape=(number, len(labels)))
    result: NDArray[np.float64] = np.asarray((member @ counts).todense(), dtype=np.float64)
    return result


def _matrix(vectors: Floats) -> Floats:
    matrix = np.clip(vectors @ vectors.T, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    result: Floats = np.round(matrix, 3).astype(np.float32)
    return result


def _cluster_matrix(sums: NDArray[np.float64], sizes: NDArray[np.int64], inside: NDArray[np.float64]) -> Floats:
    sums, sizes, inside = sums[:MAX_MATRIX_CLUSTERS], sizes[:MAX_MATRIX_CLUSTERS], inside[:MAX_MATRIX_CLUSTERS]
    matrix = (sums @ sums.T) / np.maximum(np.outer(sizes, sizes), 1)
    np.fill_diagonal(matrix, inside)
    result: Floats = np.round(np.clip(matrix, -1.0, 1.0), 3).astype(np.float32)
    return result


def _similar_pairs(near: Neighbours) -> tuple[tuple[int, int, float], ...]:
    number, width = near.index.shape
    if width == 0:
        return ()
    source = np.repeat(np.arange(number), width)
    target = near.index.ravel().astype(np.int64)
    good = target >= 0
    low, high = np.minimum(source, target)[good], np.maximum(source, target)[good]
    keys, first = np.unique(low * number + high, return_index=True)
    values = near.similarity.ravel()[good][first]
    best = np.lexsort((keys, -values))[:SIMILAR_PAIRS]
    return tuple((int(keys[at] // number), int(keys[at] % number), round(float(values[at]), 4)) for at in best)
