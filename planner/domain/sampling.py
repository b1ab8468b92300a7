"""Which items of a plan to run first, so that the rest can be told from them. Pure and deterministic.

A sample has its share of every group, and one of each group at least where it is large enough; within a group it is
spread evenly over the order, since what stands together is often alike. Where it begins is seeded with the plan's id:
a fixed place would meet every pattern of the order again.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["sample_seqs"]


def sample_seqs(plan_id: str, groups: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The seqs of the items to run first, rising. groups: a number for the group of each item, in order of seq. All
    items where `size` is not below their number."""
    if size >= groups.size:
        return np.arange(groups.size)
    random = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(plan_id.encode()).digest()[:16], "big")))
    order = np.argsort(groups, kind="stable")
    _, counts = np.unique(groups, return_counts=True)
    firsts = np.cumsum(counts) - counts
    if size < counts.size:
        return np.sort(order[_evenly(groups.size, size, random.random())])
    shares = 1 + _shared(counts - 1, size - counts.size)
    chosen = [
        first + _evenly(int(count), int(share), random.random())
        for first, count, share in zip(firsts, counts, shares, strict=True)
    ]
    return np.sort(order[np.concatenate(chosen)])


def _evenly(count: int, size: int, start: float) -> NDArray[np.int64]:
    """`size` different places below `count`, with equal steps."""
    return np.asarray(np.floor((np.arange(size) + start) * count / size), np.int64)


def _shared(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`size` dealt out in proportion, each at most its count: whole parts, then the largest remainders."""
    exact = counts * (size / max(counts.sum(), 1))
    parts = np.asarray(np.floor(exact), np.int64)
    left = size - int(parts.sum())
    parts[np.argsort(parts - exact, kind="stable")[:left]] += 1
    return parts
