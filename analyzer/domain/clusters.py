"""Groups of documents, without being told how many: a graph of nearest neighbours, cut by modularity.

Edges join near documents, weighted by cosine; those under a similarity that the collection itself suggests are left
out, so that documents that resemble nothing stay unclustered. The Leiden algorithm is seeded: the same collection
gives the same clusters. Clusters are numbered from 0, largest first (ties: the earliest document first).
"""

from __future__ import annotations

import math
import random
import threading

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.neighbours import Neighbours

__all__ = ["UNCLUSTERED", "cluster_terms", "edges_of", "find_clusters"]

UNCLUSTERED = -1
LEAST_EDGES, MOST_EDGES = 10, 60
LEAST_SIMILARITY = 0.25
RESOLUTION = 0.7
ITERATIONS = 10
SEED = 7
_seeding = threading.Lock()  # igraph's random source belongs to the process


def edges_of(number: int) -> int:
    """How many nearest neighbours a document is joined to: more in larger collections, so that subjects hold
    together and do not fall into their parts."""
    return min(MOST_EDGES, max(LEAST_EDGES, int(1.5 * math.sqrt(number))))


def find_clusters(near: Neighbours, *, least_similarity: float = LEAST_SIMILARITY) -> NDArray[np.int32]:
    """The cluster of each document, or UNCLUSTERED. A cluster has at least two documents."""
    number = len(near.index)
    labels = np.full(number, UNCLUSTERED, dtype=np.int32)
    edges = min(edges_of(number), near.index.shape[1])
    if edges == 0:
        return labels
    source = np.repeat(np.arange(number), edges)
    target = near.index[:, :edges].ravel().astype(np.int64)
    weight = near.similarity[:, :edges].ravel()
    good = (target >= 0) & (weight >= least_similarity)
    source, target, weight = source[good], target[good], weight[good]
    if not len(source):
        return labels
    low, high = np.minimum(source, target), np.maximum(source, target)
    unique, place = np.unique(low * number + high, return_inverse=True)
    strength: NDArray[np.float64] = np.bincount(place, weight).astype(np.float64)
    pairs = np.stack([unique // number, unique % number], axis=1)
    return _numbered(_communities(number, pairs, strength))


def _communities(number: int, pairs: NDArray[np.int64], strength: NDArray[np.float64]) -> NDArray[np.int64]:
    import igraph

    graph = igraph.Graph(n=number, edges=pairs)
    with _seeding:
        igraph.set_random_number_generator(random.Random(SEED))
        found = graph.community_leiden(
            objective_function="modularity",
            weights=strength.tolist(),
            resolution=RESOLUTION,
            n_iterations=ITERATIONS,
        )
    return np.array(found.membership, dtype=np.int64)


def _numbered(membership: NDArray[np.int64]) -> NDArray[np.int32]:
    names, first, place, sizes = np.unique(membership, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(names), dtype=np.int32)
    rank[order] = np.arange(len(names))
    rank[sizes < 2] = UNCLUSTERED
    return rank[place]


def cluster_terms(counts_by_cluster: NDArray[np.float64], names: list[str], most: int) -> list[list[str]]:
    """The terms that name each cluster: class-based TF-IDF over the clusters' summed counts (clusters x terms)."""
    if not len(counts_by_cluster):
        return []
    total = counts_by_cluster.sum(axis=0)
    size = counts_by_cluster.sum(axis=1, keepdims=True)
    average = float(size.mean()) or 1.0
    score = counts_by_cluster / np.maximum(size, 1.0) * np.log1p(average / np.maximum(total, 1e-9))
    found = []
    for row in score:
        best = np.argsort(-row, kind="stable")[:most]
        found.append([names[at] for at in best if row[at] > 0])
    return found
