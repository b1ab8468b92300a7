"""Each document's nearest others by cosine, exactly, in blocks of float32.

The largest values of a long row are found in two steps: the maxima of chunks of it (one fast pass), then a partial
sort of the few chunks that can hold them. Memory: one block of BLOCK_BYTES.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "nearest"]

BLOCK_BYTES = 96 << 20
CHUNK = 64


@dataclass(frozen=True, slots=True)
class Neighbours:
    """index[i, j] is the j-th nearest of document i (-1: there is none), similarity[i, j] their cosine."""

    index: NDArray[np.int32]
    similarity: NDArray[np.float32]


def nearest(vectors: NDArray[np.float32], count: int) -> Neighbours:
    """The `count` nearest other documents of each, nearest first; ties by position. Zero vectors have none."""
    number = len(vectors)
    count = max(0, min(count, number - 1))
    index = np.full((number, count), -1, dtype=np.int32)
    similarity = np.zeros((number, count), dtype=np.float32)
    if count == 0:
        return Neighbours(index, similarity)
    width = -(-number // CHUNK) * CHUNK
    padded = np.zeros((width, vectors.shape[1]), dtype=np.float32)
    padded[:number] = vectors
    rows = max(1, BLOCK_BYTES // (4 * width))
    for first in range(0, number, rows):
        block = vectors[first : first + rows] @ padded.T
        size = len(block)
        block[:, number:] = -2.0
        block[np.arange(size), np.arange(first, first + size)] = -2.0
        chunks = block.reshape(size, width // CHUNK, CHUNK)
        if chunks.shape[1] > 2 * count:
            best = np.argpartition(-chunks.max(axis=2), count - 1, axis=1)[:, :count]
            best.sort(axis=1)
            values = np.take_along_axis(chunks, best[:, :, None], axis=1).reshape(size, -1)
            places = (best[:, :, None] * CHUNK + np.arange(CHUNK)).reshape(size, -1)
        else:
            values = block
            places = np.broadcast_to(np.arange(width), block.shape)
        top = np.argpartition(-values, count - 1, axis=1)[:, :count]
        top_values = np.take_along_axis(values, top, axis=1)
        top_places = np.take_along_axis(places, top, axis=1)
        order = np.lexsort((top_places, -top_values), axis=1)
        index[first : first + size] = np.take_along_axis(top_places, order, axis=1)
        similarity[first : first + size] = np.take_along_axis(top_values, order, axis=1)
    empty = ~vectors.any(axis=1)
    index[empty] = -1
    index[np.isin(index, np.flatnonzero(empty))] = -1
    similarity[index < 0] = 0.0
    return Neighbours(index, np.clip(similarity, -1.0, 1.0))
