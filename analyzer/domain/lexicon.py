"""Everything that is known of a token from its spelling alone, worked out once per distinct token of the process.

A batch of texts becomes one array of row numbers; all further work is numpy on these rows. The tables only grow, up
to `MAX_ROWS`, after which the owner starts a new lexicon (`full`). Growing is guarded by a lock; rows never change
once they are visible, so readers need none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.familiar import FamiliarWords, word_hash
from analyzer.domain.shapes import symbol
from analyzer.domain.tokens import ELLIPSIS, is_word
from analyzer.domain.words import ENGLISH, FIRST_PERSON, SECOND_PERSON, STOP_WORDS

__all__ = ["FLAGS", "MAX_ROWS", "Lexicon"]

MAX_ROWS = 200_000

FLAGS = (
    "word", "letters", "letters2", "long", "very_long", "short", "comma", "period", "exclaim", "question", "quote",
    "colon", "semicolon", "dash", "paren", "ellipsis", "digit", "contraction", "all_caps", "capital", "lower_i",
    "first_person", "second_person", "english", "end", "lower_word", "unfamiliar",
)  # fmt: skip
"""Columns of `flags`; sums of them over a window are what stylometry is made of."""

_MARKS = {
    ",": "comma", ".": "period", "!": "exclaim", "?": "question", '"': "quote", ":": "colon", ";": "semicolon",
    "(": "paren", ")": "paren", ELLIPSIS: "ellipsis",
}  # fmt: skip
_ENDS = frozenset({".", "!", "?", ELLIPSIS})
_COLUMN = {name: index for index, name in enumerate(FLAGS)}


class Lexicon:
    """Rows of tokens: `symbols`, `lowers`, `hashes`, `flags`, `term` (usable as a term of the collection)."""

    def __init__(self, kept: frozenset[str], symbol_ids: dict[str, int], familiar: FamiliarWords | None = None) -> None:
        """`kept` words keep their spelling as symbols; `symbol_ids` numbers the model's symbols from 1."""
        self._kept = kept
        self._familiar = familiar or FamiliarWords()
        self._symbol_ids = symbol_ids
        self._rows: dict[str, int] = {}
        self._lower_rows: dict[str, int] = {}
        self._lock = threading.Lock()
        self.names: list[str] = []
        self.lower_names: list[str] = []
        self.symbols: NDArray[np.int32] = np.zeros(4_096, dtype=np.int32)
        self.lowers: NDArray[np.int32] = np.zeros(4_096, dtype=np.int32)
        self.hashes: NDArray[np.uint64] = np.zeros(4_096, dtype=np.uint64)
        self.term: NDArray[np.bool_] = np.zeros(4_096, dtype=np.bool_)
        self.flags: NDArray[np.float32] = np.zeros((4_096, len(FLAGS)), dtype=np.float32)

    @property
    def full(self) -> bool:
        return len(self.names) >= MAX_ROWS

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """The row of each token; new tokens get new rows."""
        get = self._rows.get
        found = [get(token, -1) for token in tokens]
        if -1 in found:
            with self._lock:
                for index, row in enumerate(found):
                    if row < 0:
                        found[index] = self._add(tokens[index])
        return np.array(found, dtype=np.int32)

    def _grow(self, size: int) -> None:
        more = size - len(self.symbols)
        self.symbols = np.concatenate([self.symbols, np.zeros(more, dtype=np.int32)])
        self.lowers = np.concatenate([self.lowers, np.zeros(more, dtype=np.int32)])
        self.hashes = np.concatenate([self.hashes, np.zeros(more, dtype=np.uint64)])
        self.term = np.concatenate([self.term, np.zeros(more, dtype=np.bool_)])
        self.flags = np.concatenate([self.flags, np.zeros((more, len(FLAGS)), dtype=np.float32)])

    def _add(self, token: str) -> int:
        row = self._rows.get(token)
        if row is not None:
            return row
        row = len(self.names)
        if row >= len(self.symbols):
            self._grow(2 * len(self.symbols))
        lower = token.lower()
        lower_row = self._lower_rows.setdefault(lower, len(self._lower_rows))
        if lower_row == len(self.lower_names):
            self.lower_names.append(lower)
        self.symbols[row] = self._symbol_ids.get(symbol(token, self._kept), 0)
        self.lowers[row] = lower_row
        hashed = word_hash(lower)
        self.hashes[row] = hashed
        self.term[row] = _is_term(lower)
        for name, value in _spelled(token, lower).items():
            self.flags[row, _COLUMN[name]] = value
        self.flags[row, _COLUMN["unfamiliar"]] = float(is_word(token) and not self._familiar.has(hashed))
        self.names.append(token)
        self._rows[token] = row
        return row


def _is_term(lower: str) -> bool:
    return 3 <= len(lower) <= 30 and lower.isalpha() and lower not in STOP_WORDS


def _spelled(token: str, lower: str) -> dict[str, float]:
    flags: dict[str, float] = {}
    if is_word(token):
        letters = float(min(len(token), 30))
        flags |= {
            "word": 1.0,
            "letters": letters,
            "letters2": letters * letters,
            "long": float(letters > 6),
            "very_long": float(letters > 9),
            "short": float(letters <= 3),
            "contraction": float("'" in token),
            "all_caps": float(len(token) > 1 and token.isupper()),
            "capital": float(token[0].isupper()),
            "lower_word": float(token[0].islower()),
            "lower_i": float(token == "i"),
            "first_person": float(lower in FIRST_PERSON),
            "second_person": float(lower in SECOND_PERSON),
            "english": float(lower in ENGLISH),
        }
    elif token[0].isdigit():
        flags["digit"] = 1.0
    elif token in _MARKS:
        flags[_MARKS[token]] = 1.0
    elif token[0] == "-":
        flags["dash"] = 1.0
    elif token.startswith(".."):
        flags["ellipsis"] = 1.0
    if token in _ENDS or token.startswith(".."):
        flags["end"] = 1.0
    return flags
