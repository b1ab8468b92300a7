"""Documents as vectors: TF-IDF of their terms, and from it LSA (a truncated SVD), fitted on the collection itself.

Documents of a page group better by LSA than by small sentence models, at a hundredth of the time; for a handful of
documents an SVD has nothing to learn from, and TF-IDF itself is the vector. Rows have length 1, or are all zero for a
document without usable terms. Deterministic: the SVD's start is seeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.sketch import Sketch

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["MAX_DIMENSIONS", "TINY", "TermTable", "embedding", "lsa", "tfidf", "unit_rows"]

MAX_DIMENSIONS = 50
TINY = 12
"""Below so many documents TF-IDF is used as it is."""
MAX_VOCABULARY = 30_000
OVERSAMPLING = 10
POWER_STEPS = 3
SEED = 20_240_229

Floats = NDArray[np.float32]


class TermTable:
    """Term counts of documents as they arrive: compact arrays, one dictionary for all terms."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._columns: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.uint8]] = []

    def __len__(self) -> int:
        return len(self._columns)

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Puts the documents into another order, and the terms into that of the alphabet: arrival leaves no trace."""
        names = sorted(self._ids)
        renumbered = np.empty(len(names), dtype=np.int32)
        renumbered[[self._ids[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        self._ids = {name: number for number, name in enumerate(names)}
        columns, counts = [], []
        for at in order:
            mapped = renumbered[self._columns[at]]
            alphabetical = np.argsort(mapped)
            columns.append(mapped[alphabetical])
            counts.append(self._counts[at][alphabetical])
        self._columns, self._counts = columns, counts

    def add(self, sketch: Sketch) -> None:
        ids = self._ids
        self._columns.append(np.array([ids.setdefault(term, len(ids)) for term in sketch.terms], dtype=np.int32))
        self._counts.append(sketch.counts.copy())

    def matrix(self) -> tuple[sparse.csr_matrix, list[str]]:
        """Counts (documents x terms) of the terms that tell something, and these terms.

        Kept: terms of at least two documents and, in collections of 20 or more, of at most half of them; of these the
        MAX_VOCABULARY most frequent. Collections that would keep nothing keep all.
        """
        from scipy import sparse

        number = len(self._columns)
        lengths = np.array([len(columns) for columns in self._columns], dtype=np.int64)
        columns = np.concatenate(self._columns) if number else np.zeros(0, dtype=np.int32)
        data = np.concatenate(self._counts).astype(np.float32) if number else np.zeros(0, dtype=np.float32)
        frequency = np.bincount(columns, minlength=len(self._ids))
        keep = frequency >= (2 if number > 2 else 1)
        if number >= 20:
            keep &= frequency <= number / 2
        if not keep.any():
            keep = frequency > 0
        if keep.sum() > MAX_VOCABULARY:
            order = np.argsort(-np.where(keep, frequency, 0), kind="stable")
            keep = np.zeros(len(keep), dtype=bool)
            keep[order[:MAX_VOCABULARY]] = True
        renumbered = np.cumsum(keep) - 1
        good = keep[columns] if len(columns) else np.zeros(0, dtype=bool)
        owner = np.repeat(np.arange(number), lengths)[good]
        names = [term for term, kept in zip(self._ids, keep.tolist(), strict=True) if kept]
        matrix = sparse.csr_matrix((data[good], (owner, renumbered[columns[good]])), shape=(number, len(names)))
        return matrix, names


def tfidf(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log(1 + count) * smooth idf, rows of length 1."""
    number = counts.shape[0]
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = (np.log((1 + number) / (1 + frequency)) + 1).astype(np.float32)
    weighted = counts.copy().astype(np.float32)
    weighted.data = np.log1p(weighted.data) * idf[weighted.indices]
    norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    weighted.data *= np.repeat(scale, np.diff(weighted.indptr)).astype(np.float32)
    return weighted


def lsa(weighted: sparse.csr_matrix, dimensions: int) -> Floats:
    """The documents in the space of the strongest singular vectors, rows of length 1.

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4), in float32.
    """
    size = min(dimensions + OVERSAMPLING, *weighted.shape)
    random = np.random.default_rng(SEED)
    transposed = weighted.T.tocsr()
    basis = weighted @ random.standard_normal((weighted.shape[1], size), dtype=np.float32)
    basis, _ = np.linalg.qr(basis)
    for _ in range(POWER_STEPS):
        other, _ = np.linalg.qr(transposed @ basis)
        basis, _ = np.linalg.qr(weighted @ other)
    small = (transposed @ basis).T
    left, strength, _ = np.linalg.svd(small, full_matrices=False)
    return unit_rows((basis @ left[:, :dimensions]) * strength[:dimensions])


def embedding(weighted: sparse.csr_matrix) -> tuple[Floats, str]:
    """Unit vectors of the documents, and the name of what made them."""
    number, terms = weighted.shape
    dimensions = min(MAX_DIMENSIONS, max(4, number // 5), terms - 1)
    if number < TINY or dimensions < 2:
        return unit_rows(weighted.toarray().astype(np.float32)), "tf-idf"
    return lsa(weighted, dimensions), f"lsa-{dimensions}"


def unit_rows(values: NDArray[np.float32]) -> Floats:
    """Rows scaled to length 1; zero rows (and rows that hold no number) become zero."""
    clean = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    norm = np.linalg.norm(clean, axis=1, keepdims=True)
    result: Floats = np.divide(clean, norm, out=np.zeros_like(clean), where=norm > 1e-6)
    return result
