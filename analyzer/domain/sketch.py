"""What the collection needs of one document, in a few hundred bytes to a few kB: term counts and shingle hashes.

Layout (little endian): version u8, flags u8, terms u16, hashes u16, scale u8, pad u8, words u32; one u8 count per
term; the u32 hashes in ascending order; then the terms, UTF-8, joined by newlines.

Shingles are five words in a row. Of their hashes those below 2^32 / 2^scale are kept, with the smallest scale that
leaves at most MAX_HASHES: so two sketches can always be compared at the larger of their scales, and short documents
keep every shingle.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.windows import Encoded

__all__ = ["MAX_HASHES", "MAX_TERMS", "SHINGLE_WORDS", "Sketch", "SketchError", "decode", "shingles", "sketches"]

VERSION = 1
MAX_TERMS = 160
MAX_HASHES = 512
SHINGLE_WORDS = 5
_HEADER = struct.Struct("<BBHHBBI")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class SketchError(Exception):
    """Bytes that are no sketch."""


@dataclass(frozen=True, slots=True)
class Sketch:
    terms: list[str]
    counts: NDArray[np.uint8]
    hashes: NDArray[np.uint32]
    scale: int
    words: int


def sketches(encoded: Encoded) -> list[bytes]:
    """The sketch of every text of a batch."""
    lexicon = encoded.lexicon
    word_flag = lexicon.flags[:, 0] > 0
    found = []
    for start, stop in zip(encoded.starts[:-1], encoded.starts[1:] - 1, strict=True):
        rows = encoded.rows[start:stop]
        rows_of, tally = np.unique(lexicon.lowers[rows[lexicon.term[rows]]], return_counts=True)
        # By name: the numbers of rows tell what this process has read before.
        terms = sorted(
            zip([lexicon.lower_names[row] for row in rows_of.tolist()], np.minimum(tally, 255).tolist(), strict=True)
        )
        if len(terms) > MAX_TERMS:
            terms = sorted(sorted(terms, key=lambda term: -term[1])[:MAX_TERMS])
        words = rows[word_flag[rows]]
        hashes, scale = _scaled(np.unique(shingles(lexicon.hashes[words])))
        names = "\n".join([name for name, _ in terms]).encode()
        header = _HEADER.pack(VERSION, 0, len(terms), len(hashes), scale, 0, len(words))
        found.append(header + bytes([count for _, count in terms]) + hashes.astype("<u4").tobytes() + names)
    return found


def shingles(word_hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The hash of every five words in a row; one of all words if there are fewer (none for none)."""
    size = min(SHINGLE_WORDS, len(word_hashes))
    if size == 0:
        return np.zeros(0, dtype=np.uint32)
    count = len(word_hashes) - size + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        mixed = mixed * _MULTIPLIER + word_hashes[offset : offset + count]
        mixed ^= mixed >> np.uint64(29)
    return ((mixed * _MULTIPLIER) >> np.uint64(32)).astype(np.uint32)


def decode(data: bytes) -> Sketch:
    """Raises SketchError for bytes that `sketches` did not make."""
    try:
        version, _, terms, hashes, scale, _, words = _HEADER.unpack_from(data)
        if version != VERSION:
            raise SketchError(f"sketch of version {version}, this program reads {VERSION}")
        at = _HEADER.size
        counts = np.frombuffer(data, dtype=np.uint8, count=terms, offset=at)
        values = np.frombuffer(data, dtype="<u4", count=hashes, offset=at + terms)
        names = data[at + terms + 4 * hashes :].decode()
    except (struct.error, ValueError) as error:
        raise SketchError(f"these {len(data)} bytes are no sketch: {error}") from error
    split = names.split("\n") if names else []
    if len(split) != terms:
        raise SketchError(f"a sketch names {len(split)} terms and counts {terms}")
    return Sketch(split, counts, values, scale, words)


def _scaled(hashes: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], int]:
    scale = 0
    while len(hashes) > MAX_HASHES:
        scale += 1
        hashes = hashes[: np.searchsorted(hashes, np.uint32(1 << (32 - scale)))]
    return hashes, scale
