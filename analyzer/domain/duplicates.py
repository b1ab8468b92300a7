"""Documents that repeat each other: near-duplicates as groups, and shared passages as pairs.

Candidates come from an index of shingle hashes: documents that share one are joined, all pairs of a short list, only
neighbours along a long one, so work stays linear where a boilerplate sentence is everywhere. Candidates that share
enough are then compared exactly, at the coarser of their two scales.

    near-duplicate   Jaccard >= 0.4, or Jaccard >= 0.2 and cosine >= 0.85
    shared passage   not that, and the smaller document's shingles lie in the larger one: containment >= 0.25
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.sketch import Sketch

__all__ = ["DuplicateGroup", "Duplicates", "Overlap", "find_duplicates", "overlap"]

NEAR_JACCARD = 0.4
LIKELY_JACCARD = 0.2
LIKELY_COSINE = 0.85
PASSAGE_CONTAINMENT = 0.25
PASSAGE_SHINGLES = 8
ALL_PAIRS = 6
LEAST_SHARED = 3
MAX_CANDIDATES_PER_DOCUMENT = 20
MAX_PASSAGES = 100

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shingles:
    """The kept shingle hashes of a document, ascending, and their scale (see sketch.py)."""

    hashes: NDArray[np.uint32]
    scale: int

    @classmethod
    def of(cls, sketch: Sketch) -> Shingles:
        return cls(sketch.hashes.copy(), sketch.scale)


@dataclass(frozen=True, slots=True)
class Overlap:
    first: int
    second: int
    jaccard: float
    containment: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    members: tuple[int, ...]
    min_similarity: float
    """The least Jaccard of the pairs that joined them."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    groups: tuple[DuplicateGroup, ...]
    passages: tuple[Overlap, ...]


def overlap(first: Shingles, second: Shingles) -> tuple[float, float, int]:
    """Jaccard, containment of the smaller in the larger, and the number of shared shingles seen."""
    left, right = first.hashes, second.hashes
    if first.scale != second.scale:
        limit = np.uint32(1 << (32 - max(first.scale, second.scale)))
        left, right = left[: np.searchsorted(left, limit)], right[: np.searchsorted(right, limit)]
    if not len(left) or not len(right):
        return 0.0, 0.0, 0
    both = np.concatenate([left, right])
    both.sort()
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared), shared / min(len(left), len(right)), shared


def find_duplicates(shingles: Sequence[Shingles], vectors: NDArray[np.float32]) -> Duplicates:
    """Groups and passages of a collection; `vectors` are the documents' unit vectors."""
    parent = np.arange(len(shingles))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = int(parent[at])
        return at

    least: dict[int, float] = {}
    passages: list[Overlap] = []
    for first, second in _candidates(shingles):
        jaccard, containment, shared = overlap(shingles[first], shingles[second])
        near = jaccard >= NEAR_JACCARD
        if not near and jaccard >= LIKELY_JACCARD:
            near = float(vectors[first] @ vectors[second]) >= LIKELY_COSINE
        if near:
            left, right = root(first), root(second)
            value = min(jaccard, least.get(left, 1.0), least.get(right, 1.0))
            low, high = min(left, right), max(left, right)
            parent[high] = low
            least[low] = value
        elif containment >= PASSAGE_CONTAINMENT and shared >= PASSAGE_SHINGLES:
            passages.append(Overlap(first, second, jaccard, containment))
    members: dict[int, list[int]] = {}
    for at in np.flatnonzero(_joined(parent)):
        members.setdefault(root(int(at)), []).append(int(at))
    groups = [DuplicateGroup(tuple(each), round(least[top], 4)) for top, each in members.items()]
    groups.sort(key=lambda group: (-len(group.members), group.members))
    passages.sort(key=lambda each: (-each.containment, each.first, each.second))
    return Duplicates(tuple(groups), tuple(passages[:MAX_PASSAGES]))


def _joined(parent: Ints) -> NDArray[np.bool_]:
    moved: NDArray[np.bool_] = parent != np.arange(len(parent))
    joined = moved.copy()
    joined[parent[moved]] = True
    return joined


def _candidates(shingles: Sequence[Shingles]) -> list[tuple[int, int]]:
    """Pairs worth comparing, ascending. Identical sketches are chained; the rest comes from the index."""
    number = len(shingles)
    chains: dict[bytes, int] = {}
    pairs: list[Ints] = []
    alike: list[int] = []
    unique: list[int] = []
    for at, each in enumerate(shingles):
        if not len(each.hashes):
            continue
        key = each.hashes.tobytes()
        before = chains.get(key)
        if before is None:
            unique.append(at)
        else:
            alike.append(before * number + at)
        chains[key] = at
    if unique:
        pairs = _index_pairs(shingles, np.array(unique), number)
    keys = np.unique(np.concatenate([np.array(alike, dtype=np.int64), *pairs]))
    return list(zip((keys // number).tolist(), (keys % number).tolist(), strict=True))


def _index_pairs(shingles: Sequence[Shingles], unique: Ints, number: int) -> list[Ints]:
    lengths = np.array([len(shingles[at].hashes) for at in unique])
    hashes = np.concatenate([shingles[at].hashes for at in unique]).astype(np.uint64)
    entries = (hashes << np.uint64(32)) | np.repeat(unique, lengths).astype(np.uint64)
    del hashes
    entries.sort()
    values, owner = entries >> np.uint64(32), (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    del entries
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    sizes = np.diff(np.append(starts, len(values)))
    del values
    found = []
    repeated = sizes > 1
    starts, sizes = starts[repeated], sizes[repeated]
    small = sizes <= ALL_PAIRS
    for gap in range(1, ALL_PAIRS):
        for offset in range(ALL_PAIRS - gap):
            fits = small & (offset + gap < sizes)
            at = starts[fits] + offset
            found.append(owner[at] * number + owner[at + gap])
    long = np.flatnonzero(~small)
    if len(long):
        at = np.concatenate([np.arange(starts[each], starts[each] + sizes[each] - 1) for each in long])
        found.append(owner[at] * number + owner[at + 1])
    keys, shared = np.unique(np.concatenate(found), return_counts=True) if found else (np.zeros(0, np.int64),) * 2
    enough = np.minimum(LEAST_SHARED, np.minimum(_count(shingles, keys // number), _count(shingles, keys % number)))
    keys, shared = keys[shared >= enough], shared[shared >= enough]
    limit = MAX_CANDIDATES_PER_DOCUMENT * number
    if len(keys) > limit:
        keys = keys[np.argsort(-shared, kind="stable")[:limit]]
    return [keys]


def _count(shingles: Sequence[Shingles], at: Ints) -> Ints:
    sizes = np.array([len(each.hashes) for each in shingles], dtype=np.int64)
    result: Ints = sizes[at]
    return result
