"""Why a window got its score, in a few words: the contributions that weighed most in the direction of its level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.levels import Level
from analyzer.domain.model import Model
from analyzer.domain.shapes import described
from analyzer.domain.windows import STYLE, Counts

__all__ = ["MOST_REASONS", "Reasons"]

MOST_REASONS = 3

_STYLE_WORDS = {
    "sentence_words": ("long sentences", "short sentences"),
    "sentence_words_sd": ("sentences of very different length", "uniform sentence length"),
    "sentence_words_variation": ("sentences of very different length", "uniform sentence length"),
    "sentence_step": ("sentence length jumps", "even rhythm of sentences"),
    "short_sentences": ("very short sentences", "no very short sentences"),
    "long_sentences": ("very long sentences", "no very long sentences"),
    "word_letters": ("long words", "short words"),
    "word_letters_sd": ("word length varies much", "word length varies little"),
    "long_words": ("many long words", "few long words"),
    "very_long_words": ("many very long words", "few very long words"),
    "short_words": ("many short words", "few short words"),
    "distinct_words": ("rich vocabulary", "repetitive vocabulary"),
    "words_used_once": ("many words used once", "words come back often"),
    "commas": ("many commas", "few commas"),
    "exclamations": ("exclamation marks", "no exclamation marks"),
    "questions": ("questions", "no questions"),
    "quotes": ("quotation marks", "no quotation marks"),
    "colons": ("colons", "no colons"),
    "semicolons": ("semicolons", "no semicolons"),
    "dashes": ("dashes", "few dashes"),
    "parentheses": ("parentheses", "no parentheses"),
    "ellipses": ("ellipses", "no ellipses"),
    "digits": ("numbers", "few numbers"),
    "contractions": ("contractions", "no contractions"),
    "all_caps": ("words in capitals", "no words in capitals"),
    "capitals": ("many names", "few names"),
    "sentence_starts_lower": ("sentences without a capital", "sentences begin with a capital"),
    "lower_i": ("'i' in lower case", "'I' in upper case"),
    "first_person": ("speaks in the first person", "little first person"),
    "second_person": ("speaks to the reader", "does not speak to the reader"),
    "repeated_words": ("a word doubled", "no word doubled"),
}
_LEAST_STYLE = 0.05
_LEAST_LEXICAL = 0.02


class Reasons:
    """Puts contributions into words; the words for n-grams are made once."""

    def __init__(self, model: Model) -> None:
        self._ngrams = [_phrase(ngram) for ngram in model.ngrams]
        self._readable = np.array([bool(phrase) for phrase in self._ngrams])

    def of(
        self,
        levels: list[Level],
        counts: Counts,
        lexical: NDArray[np.float64],
        stylistic: NDArray[np.float64],
        standard: NDArray[np.float64],
    ) -> list[tuple[str, ...]]:
        """For each window its reasons, strongest first; none where the level is UNCERTAIN.

        lexical: contribution of each of `counts`; stylistic: window x STYLE contributions; standard: the style
        values less their means (only the sign is used).
        """
        toward = np.array([-1.0 if level is Level.LOW else 1.0 for level in levels])
        weight = lexical * toward[counts.window]
        strong = np.flatnonzero((weight > _LEAST_LEXICAL) & self._readable[counts.feature])
        strong = strong[np.lexsort((-weight[strong], counts.window[strong]))]
        owner = counts.window[strong]
        first = np.searchsorted(owner, np.arange(len(levels)))
        last = np.searchsorted(owner, np.arange(len(levels)), side="right")
        style = stylistic * toward[:, None]
        best = np.argsort(-style, axis=1)[:, :MOST_REASONS]
        found: list[tuple[str, ...]] = []
        for window, level in enumerate(levels):
            if level is Level.UNCERTAIN:
                found.append(())
                continue
            chosen: list[tuple[float, str]] = []
            for at in strong[first[window] : min(last[window], first[window] + 2 * MOST_REASONS)]:
                chosen.append((float(weight[at]), self._ngrams[int(counts.feature[at])]))
            for column in best[window]:
                value = float(style[window, column])
                if value > _LEAST_STYLE:
                    high = standard[window, column] > 0
                    chosen.append((value, _STYLE_WORDS[STYLE[column]][0 if high else 1]))
            chosen.sort(reverse=True)
            found.append(tuple(dict.fromkeys(text for _, text in chosen))[:MOST_REASONS])
        return found


def _phrase(ngram: str) -> str:
    """`'such as'`, `pattern 'and · long word in -ly'`; empty where it would say nothing to a person."""
    symbols = ngram.split(" ")
    spelled = [name for name in symbols if name[0].isalpha()]
    if len(symbols) == len(spelled):
        return f"frequent '{ngram}'"
    if len(symbols) == 1:
        words = described(ngram)
        return f"many {words.replace('word', 'words', 1)}" if "word in" in words else ""
    return f"pattern '{' + '.join(described(name) for name in symbols)}'"
