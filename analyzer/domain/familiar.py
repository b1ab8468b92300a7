"""Which words a model has met often enough in training, as a set of bits: enough to say that a text is not of its kind.

A word's bit is taken from its hash, so the set names no word, and about one foreign word in fifteen counts as
familiar by accident.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FamiliarWords", "word_hash"]

BITS = 1 << 18


def word_hash(lower: str) -> int:
    """64 bits of a lower-case word, the same in every process."""
    return int.from_bytes(hashlib.blake2b(lower.encode(), digest_size=8).digest(), "little")


class FamiliarWords:
    """A set of words; without any, every word counts as familiar."""

    def __init__(self, bits: NDArray[np.bool_] | None = None) -> None:
        self._bits = np.zeros(BITS, dtype=np.bool_) if bits is None else bits
        self._empty = not self._bits.any()

    @classmethod
    def of(cls, words: Iterable[str]) -> FamiliarWords:
        bits = np.zeros(BITS, dtype=np.bool_)
        bits[[word_hash(word) % BITS for word in words]] = True
        return cls(bits)

    @classmethod
    def from_text(cls, text: str) -> FamiliarWords:
        """Raises ValueError for what `to_text` did not make."""
        bits = np.unpackbits(np.frombuffer(base64.b85decode(text), dtype=np.uint8)).astype(np.bool_)
        if len(bits) != BITS:
            raise ValueError(f"{len(bits)} bits of familiar words, {BITS} are expected")
        return cls(bits)

    def to_text(self) -> str:
        return base64.b85encode(np.packbits(self._bits).tobytes()).decode()

    def has(self, hashed: int) -> bool:
        return self._empty or bool(self._bits[hashed % BITS])
