"""Features of windows of tokens, for many windows of many texts at once.

A window is a range of tokens of one text. Two kinds of features come out: counts of n-grams of symbols (shapes.py) as
a sparse list of (window, feature, count), and a dense row of stylometry. Training, scoring of documents and scoring of
segments all go through these two functions, so that they cannot drift apart.

Bounds: the caller keeps windows to MAX_WINDOW_WORDS; memory is about 500 bytes per token and 100 per token of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.lexicon import FLAGS, Lexicon

__all__ = [
    "DISTINCT_POWER",
    "MAX_WINDOW_WORDS",
    "STYLE",
    "Counts",
    "Encoded",
    "NgramIndex",
    "encode",
    "ngram_counts",
    "stylometry",
]

MAX_WINDOW_WORDS = 300
NGRAMS = 3
DISTINCT_POWER = 0.85
"""Distinct words grow with about this power of all words, so that their quotient hardly depends on the length."""

STYLE = (
    "sentence_words", "sentence_words_sd", "sentence_words_variation", "sentence_step", "short_sentences",
    "long_sentences", "word_letters", "word_letters_sd", "long_words", "very_long_words", "short_words",
    "distinct_words", "words_used_once", "commas", "exclamations", "questions", "quotes", "colons", "semicolons",
    "dashes", "parentheses", "ellipses", "digits", "contractions", "all_caps", "capitals", "sentence_starts_lower",
    "lower_i", "first_person", "second_person", "repeated_words",
)  # fmt: skip

_FLAG = {name: index for index, name in enumerate(FLAGS)}
_EXTRA = (
    "capital_inside",
    "start",
    "start_lower",
    "ends",
    "ended",
    "ended2",
    "step",
    "short_end",
    "long_end",
    "repeat",
)
_EXTRA_AT = {name: len(FLAGS) + index for index, name in enumerate(_EXTRA)}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as one array of lexicon rows, one after the other, each ended by row -1."""

    rows: NDArray[np.int32]
    starts: Ints
    """First token of each text; the last entry is the length of `rows`."""
    lexicon: Lexicon


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each window holds each feature: three arrays side by side, ordered by window."""

    window: Ints
    feature: Ints
    count: Floats


class NgramIndex:
    """Finds features by the numbers of up to three symbols. Features keep the order of `ngrams`."""

    def __init__(self, ngrams: list[tuple[int, ...]], symbols: int) -> None:
        self._base = symbols + 1
        keys = np.array([self._key(ngram) for ngram in ngrams], dtype=np.int64)
        order = np.argsort(keys)
        self._keys = keys[order]
        self._features = order.astype(np.int64)

    def _key(self, ngram: tuple[int, ...]) -> int:
        key = 0
        for number in ngram:
            key = key * self._base + number
        return key

    def find(self, symbols: NDArray[np.int32]) -> list[Ints]:
        """For n = 1, 2, 3: the feature that begins at each position, or -1."""
        base = self._base
        wide = symbols.astype(np.int64)
        found = []
        key = wide.copy()
        known = wide > 0
        for n in range(1, NGRAMS + 1):
            if n > 1:
                shifted = np.zeros_like(wide)
                shifted[: len(wide) - n + 1] = wide[n - 1 :]
                key = key * base + shifted
                known = known & (shifted > 0)
            at = np.searchsorted(self._keys, key)
            at[at == len(self._keys)] = 0
            hit = known & (self._keys[at] == key) if len(self._keys) else np.zeros(len(key), dtype=bool)
            found.append(np.where(hit, self._features[at] if len(self._keys) else -1, -1))
        return found


def encode(lexicon: Lexicon, texts: list[list[str]]) -> Encoded:
    """Encodes tokenised texts; a text's tokens are `rows[starts[i] : starts[i + 1] - 1]`."""
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(tokens) + 1 for tokens in texts], out=starts[1:])
    rows = np.full(int(starts[-1]), -1, dtype=np.int32)
    for index, tokens in enumerate(texts):
        rows[starts[index] : starts[index + 1] - 1] = lexicon.rows(tokens)
    return Encoded(rows, starts, lexicon)


def ngram_counts(encoded: Encoded, index: NgramIndex, begin: Ints, end: Ints) -> Counts:
    """Counts of the index's n-grams that lie wholly in each window [begin, end)."""
    symbols = np.where(encoded.rows >= 0, encoded.lexicon.symbols[encoded.rows], 0)
    at, window = _expanded(begin, end)
    limit = end[window]
    width = max(1, len(index._keys))
    keys = []
    for n, feature in enumerate(index.find(symbols.astype(np.int32)), start=1):
        chosen = feature[at]
        good = (chosen >= 0) & (at + n <= limit)
        keys.append(window[good] * width + chosen[good])
    unique, count = np.unique(np.concatenate(keys), return_counts=True)
    return Counts(unique // width, unique % width, count.astype(np.float64))


def stylometry(encoded: Encoded, begin: Ints, end: Ints) -> Floats:
    """One row of STYLE per window, in the model's units (features.py has plain ones). Without words it is all zeros."""
    table = np.concatenate([np.zeros((1, len(FLAGS) + len(_EXTRA))), np.cumsum(_token_table(encoded), axis=0)])
    sums = table[end] - table[begin]

    def flag(name: str) -> Floats:
        column: Floats = sums[:, _FLAG[name]]
        return column

    def extra(name: str) -> Floats:
        column: Floats = sums[:, _EXTRA_AT[name]]
        return column

    words = flag("word")
    per = 1.0 / np.maximum(words, 1.0)
    ends = np.maximum(extra("ends"), 1.0)
    mean = np.where(extra("ends") > 0, extra("ended") / ends, words)
    spread = np.sqrt(np.maximum(extra("ended2") / ends - (extra("ended") / ends) ** 2, 0.0))
    letters = flag("letters") * per
    distinct, once = _distinct(encoded, begin, end)
    starts = np.maximum(extra("start"), 1.0)
    columns = [
        np.log(np.maximum(mean, 1.0)),
        np.log1p(spread),
        spread / np.maximum(mean, 1.0),
        extra("step") / ends / np.maximum(mean, 1.0),
        extra("short_end") / ends,
        extra("long_end") / ends,
        letters,
        np.sqrt(np.maximum(flag("letters2") * per - letters**2, 0.0)),
        flag("long") * per,
        flag("very_long") * per,
        flag("short") * per,
        distinct / np.maximum(words, 1.0) ** DISTINCT_POWER,
        once * per,
        *(100 * flag(name) * per for name in ("comma", "exclaim", "question", "quote", "colon", "semicolon", "dash",
          "paren", "ellipsis", "digit", "contraction", "all_caps")),
        100 * extra("capital_inside") * per,
        extra("start_lower") / starts,
        *(100 * flag(name) * per for name in ("lower_i", "first_person", "second_person")),
        100 * extra("repeat") * per,
    ]  # fmt: skip
    return np.where(words[:, None] > 0, np.stack(columns, axis=1), 0.0)


def _token_table(encoded: Encoded) -> Floats:
    rows = encoded.rows
    real = rows >= 0
    table = np.zeros((len(rows), len(FLAGS) + len(_EXTRA)))
    table[:, : len(FLAGS)] = encoded.lexicon.flags[rows] * real[:, None]
    word = table[:, _FLAG["word"]] > 0
    ending = (table[:, _FLAG["end"]] > 0) | ~real
    place = np.arange(len(rows))
    last_end = np.maximum.accumulate(np.where(ending, place, -1))
    last_word = np.maximum.accumulate(np.where(word, place, -1))
    before_word = np.concatenate([[-1], last_word[:-1]])
    before_end = np.concatenate([[-1], last_end[:-1]])
    start = word & (before_word <= before_end)
    capital = table[:, _FLAG["capital"]] > 0
    words = np.cumsum(word)
    closing = np.flatnonzero(ending & (last_word > before_end))
    length = np.diff(words[closing], prepend=0).astype(float) if len(closing) else np.zeros(0)
    step = np.abs(np.diff(length, prepend=length[:1]))
    text = np.searchsorted(encoded.starts, closing, side="right")
    step[np.diff(text, prepend=-1) != 0] = 0.0
    lower = np.where(real, encoded.lexicon.lowers[rows], -1)
    columns = {
        "capital_inside": capital & ~start,
        "start": start,
        "start_lower": start & (table[:, _FLAG["lower_word"]] > 0),
        "repeat": word & (lower == np.concatenate([[-2], lower[:-1]])),
    }
    for name, column in columns.items():
        table[:, _EXTRA_AT[name]] = column
    sentence = {
        "ends": np.ones(len(closing)),
        "ended": length,
        "ended2": length**2,
        "step": step,
        "short_end": length <= 5,
        "long_end": length >= 30,
    }
    for name, values in sentence.items():
        table[closing, _EXTRA_AT[name]] = values
    return table


def _distinct(encoded: Encoded, begin: Ints, end: Ints) -> tuple[Floats, Floats]:
    """Distinct words of each window, and words that it uses once."""
    at, window = _expanded(begin, end)
    rows = encoded.rows[at]
    word = (rows >= 0) & (encoded.lexicon.flags[rows, _FLAG["word"]] > 0)
    width = len(encoded.lexicon.names) + 1
    unique, count = np.unique(window[word] * width + encoded.lexicon.lowers[rows[word]], return_counts=True)
    owner = unique // width
    return (
        np.bincount(owner, minlength=len(begin)).astype(float),
        np.bincount(owner[count == 1], minlength=len(begin)).astype(float),
    )


def _expanded(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Every position of every window, and which window it belongs to."""
    size = end - begin
    window = np.repeat(np.arange(len(begin)), size)
    offset = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    return begin[window] + offset, window
