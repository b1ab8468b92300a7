"""The features of a document as its reader sees them: the model's inputs (windows.py) in plain units.

The model is fitted to logarithms and to measures that hold for windows of any length; people are shown words a
sentence, shares, and numbers in 100 words. docs/detector.md lists every name with its unit.
"""

from __future__ import annotations

import numpy as np

from analyzer.domain.windows import DISTINCT_POWER, STYLE, Floats

__all__ = ["SHOWN", "shown"]

_RATES = (
    "commas", "exclamations", "questions", "quotes", "colons", "semicolons", "dashes", "parentheses", "ellipses",
    "digits", "contractions", "all_caps", "capitals", "lower_i", "first_person", "second_person", "repeated_words",
)  # fmt: skip
SHOWN = {
    "sentence_words": "words_per_sentence",
    "sentence_words_sd": "words_per_sentence_deviation",
    "sentence_words_variation": "sentence_length_variation",
    "sentence_step": "sentence_length_step",
    "short_sentences": "short_sentences_share",
    "long_sentences": "long_sentences_share",
    "word_letters": "letters_per_word",
    "word_letters_sd": "letters_per_word_deviation",
    "long_words": "long_words_share",
    "very_long_words": "very_long_words_share",
    "short_words": "short_words_share",
    "distinct_words": "distinct_words_share",
    "words_used_once": "words_used_once_share",
    "sentence_starts_lower": "sentences_without_capital_share",
    **{name: f"{name}_per_100_words" for name in _RATES},
}
"""Input of the model -> the name under which it is shown."""


def shown(style: Floats, words: Floats) -> dict[str, float]:
    """The mean of a document's windows, by shown name. style: windows x STYLE; words: of each window."""
    plain = style.copy()
    plain[:, STYLE.index("sentence_words")] = np.exp(style[:, STYLE.index("sentence_words")]) * (words > 0)
    plain[:, STYLE.index("sentence_words_sd")] = np.expm1(style[:, STYLE.index("sentence_words_sd")])
    plain[:, STYLE.index("distinct_words")] *= np.maximum(words, 1.0) ** (DISTINCT_POWER - 1)
    return {SHOWN[name]: round(value, 4) for name, value in zip(STYLE, plain.mean(axis=0).tolist(), strict=True)}
