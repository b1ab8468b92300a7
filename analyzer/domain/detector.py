"""Tells model-written text from human text, for batches of documents, or says that it does not know.

A document is scored by the mean over windows of at most 300 words; a segment by a window of itself and, if it is
short, one neighbour on each side. It abstains (probability None, level UNCERTAIN) from texts under `MIN_WORDS` words
and from what does not read as English prose; segments of such a document are UNCERTAIN too.

Deterministic; CPU only; never raises on any string. Work per document is bounded: of a longer text the first
`MAX_WORDS_ANALYSED` words and `MAX_SEGMENTS` segments are analysed, and `features` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.features import shown
from analyzer.domain.levels import Level, level_of
from analyzer.domain.lexicon import FLAGS, Lexicon
from analyzer.domain.model import Model, hedged
from analyzer.domain.reasons import Reasons
from analyzer.domain.segmentation import Span, split
from analyzer.domain.sketch import sketches
from analyzer.domain.tokens import flattened, is_word, tokenize
from analyzer.domain.windows import (
    MAX_WINDOW_WORDS,
    STYLE,
    Counts,
    Encoded,
    NgramIndex,
    encode,
    ngram_counts,
    stylometry,
)

__all__ = ["MIN_WORDS", "Analysis", "Detector", "Segment"]

MIN_WORDS = 80
"""Below it the detector knows little: see docs/detector.md."""
MIN_SEGMENT_WORDS = 25
WIDE_SEGMENT_WORDS = 60
"""A segment of so many words is scored alone, a shorter one with its neighbours."""
MIN_ENGLISH = 0.16
"""Share of frequent English function words; English prose has 0.25-0.45, other languages under 0.08."""
MAX_DOCUMENT_WINDOWS = 4
MAX_SEGMENTS = 5_000
MAX_WORDS_ANALYSED = 100_000
BLOCK_TOKENS = 60_000
_LETTERS = STYLE.index("word_letters")

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the text; `start` and `end` count code points of the text as given."""

    start: int
    end: int
    probability: float | None
    level: Level
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one document is. `abstained` is None, or the reason why there is no probability; `score` is the raw score
    that the probability is made of, also where it abstained."""

    word_count: int
    score: float
    probability: float | None
    level: Level
    segments: tuple[Segment, ...]
    features: dict[str, float]
    abstained: str | None
    sketch: bytes

    def count(self, level: Level) -> int:
        return sum(segment.level is level for segment in self.segments)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text cut up: its tokens, its segments, and the token at which each segment begins (one more at the end)."""

    tokens: list[str]
    spans: list[Span]
    bounds: Ints
    words: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Sums:
    """Running counts over a block's tokens: what stands before token i is at i."""

    words: Ints
    unfamiliar: NDArray[np.float64]
    english: NDArray[np.float64]
    word_places: Ints
    """The token of each word; one more at the end."""

    @classmethod
    def of(cls, encoded: Encoded) -> _Sums:
        flags = encoded.lexicon.flags[encoded.rows] * (encoded.rows >= 0)[:, None]
        word = flags[:, FLAGS.index("word")] > 0
        return cls(
            words=np.concatenate([[0], np.cumsum(word)]).astype(np.int64),
            unfamiliar=np.concatenate([[0], np.cumsum(flags[:, FLAGS.index("unfamiliar")])]),
            english=np.concatenate([[0], np.cumsum(flags[:, FLAGS.index("english")])]),
            word_places=np.append(np.flatnonzero(word), len(encoded.rows)),
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a document lies in its block: its tokens from `start` to `stop`, its windows, its segments' windows."""

    start: int
    stop: int
    windows: slice
    segments: slice


@dataclass(frozen=True, slots=True)
class _Scored:
    """What is known of every window of a block, documents' and segments' alike."""

    counts: Counts
    lexical: NDArray[np.float64]
    style: NDArray[np.float64]
    stylistic: NDArray[np.float64]
    scores: NDArray[np.float64]
    words: NDArray[np.float64]
    chances: NDArray[np.float64]
    """The probability of each window, were it a segment."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is said of a document; `chances` are its segments' probabilities."""

    score: float
    probability: float | None
    abstained: str | None
    features: dict[str, float]
    chances: list[float | None]


class Detector:
    """Scores texts with one model. May be used from several threads."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._index = NgramIndex(model.numbered(), len(model.symbols))
        self._reasons = Reasons(model)
        self._lexicon = self._new_lexicon()

    def _new_lexicon(self) -> Lexicon:
        return self.model.lexicon()

    def analyze(self, texts: Sequence[str], granularity: str) -> list[Analysis]:
        """One Analysis per text, in order. Raises ValueError for an unknown granularity."""
        found: list[Analysis] = []
        block: list[_Cut] = []
        size = 0
        for text in texts:
            cut = _cut(text, granularity)
            if block and size + len(cut.tokens) > BLOCK_TOKENS:
                found.extend(self._analyze_block(block))
                block, size = [], 0
            block.append(cut)
            size += len(cut.tokens)
        if block:
            found.extend(self._analyze_block(block))
        return found

    def _analyze_block(self, cuts: list[_Cut]) -> Iterator[Analysis]:
        if self._lexicon.full:
            self._lexicon = self._new_lexicon()
        encoded = encode(self._lexicon, [cut.tokens for cut in cuts])
        sums = _Sums.of(encoded)
        places, begin, end = _placed(cuts, encoded, sums)
        scored = self._scored(encoded, sums, begin, end)
        verdicts = [self._verdict(cut, place, sums, scored) for cut, place in zip(cuts, places, strict=True)]
        levels = [Level.UNCERTAIN] * len(begin)  # only segments are explained
        for place, verdict in zip(places, verdicts, strict=True):
            levels[place.segments] = [level_of(chance) for chance in verdict.chances]
        reasons = self._reasons.of(
            levels, scored.counts, scored.lexical, scored.stylistic, scored.style - self.model.style_mean
        )
        for cut, place, verdict, sketch in zip(cuts, places, verdicts, sketches(encoded), strict=True):
            yield _analysis(cut, verdict, reasons[place.segments], sketch)

    def _scored(self, encoded: Encoded, sums: _Sums, begin: Ints, end: Ints) -> _Scored:
        counts = ngram_counts(encoded, self._index, begin, end)
        lexical, lexical_scores = self.model.lexical(counts, len(begin))
        style = stylometry(encoded, begin, end)
        stylistic = self.model.stylistic(style)
        scores = lexical_scores + stylistic.sum(axis=1)
        words = (sums.words[end] - sums.words[begin]).astype(np.float64)
        chances = self.model.segment.probability(scores, words)
        return _Scored(counts, lexical, style, stylistic, scores, words, chances)

    def _verdict(self, cut: _Cut, place: _Place, sums: _Sums, scored: _Scored) -> _Verdict:
        words = int(sums.words[place.stop] - sums.words[place.start])
        english = float(sums.english[place.stop] - sums.english[place.start]) / max(1, words)
        unfamiliar = float(sums.unfamiliar[place.stop] - sums.unfamiliar[place.start]) / max(1, words)
        abstained = _abstains(cut.words, english)
        score = float(scored.scores[place.windows].mean())
        letters = float(scored.style[place.windows, _LETTERS].mean())
        chance = self.model.document.probability(np.array([score]), np.array([float(MAX_WINDOW_WORDS)]))
        chances = scored.chances[place.segments]
        if self.model.is_foreign(unfamiliar, letters):
            chance, chances = hedged(chance), hedged(chances)
        features = shown(scored.style[place.windows], scored.words[place.windows])
        features["unfamiliar_words"] = round(unfamiliar, 4)
        features["english_words"] = round(english, 4)
        features["sentences_or_paragraphs"] = len(cut.spans)
        if cut.truncated:
            features["words_analysed"] = words
        return _Verdict(
            score=score,
            probability=None if abstained else float(chance[0]),
            abstained=abstained,
            features=features,
            chances=[
                None if abstained or count < MIN_SEGMENT_WORDS else each
                for each, count in zip(chances.tolist(), scored.words[place.segments].tolist(), strict=True)
            ],
        )


def _analysis(cut: _Cut, verdict: _Verdict, reasons: list[tuple[str, ...]], sketch: bytes) -> Analysis:
    return Analysis(
        word_count=cut.words,
        score=verdict.score,
        probability=_rounded(verdict.probability),
        level=level_of(verdict.probability),
        segments=tuple(
            Segment(span.start, span.end, _rounded(chance), level_of(chance), why)
            for span, chance, why in zip(cut.spans, verdict.chances, reasons, strict=True)
        ),
        features=verdict.features,
        abstained=verdict.abstained,
        sketch=sketch,
    )


def _placed(cuts: list[_Cut], encoded: Encoded, sums: _Sums) -> tuple[list[_Place], Ints, Ints]:
    """Where each document's tokens and windows lie, and the begins and ends of all windows."""
    places: list[_Place] = []
    begins: list[Ints] = []
    ends: list[Ints] = []
    first = 0
    for cut, start in zip(cuts, encoded.starts.tolist(), strict=False):
        stop = start + len(cut.tokens)
        windows = _document_windows(start, stop, sums.words, sums.word_places)
        segments = _segment_windows(cut.bounds + start, sums.words, sums.word_places)
        begins += [windows[0], segments[0]]
        ends += [windows[1], segments[1]]
        own = first + len(windows[0])
        places.append(_Place(start, stop, slice(first, own), slice(own, own + len(cut.spans))))
        first = own + len(cut.spans)
    return places, np.concatenate(begins), np.concatenate(ends)


def _rounded(probability: float | None) -> float | None:
    """Four decimals, never across a level's border."""
    if probability is None:
        return None
    rounded = round(probability, 4)
    return rounded if level_of(rounded) is level_of(probability) else probability


def _abstains(words: int, english: float) -> str | None:
    if words == 0:
        return "no words"
    if english < MIN_ENGLISH:
        return "not English prose"
    if words < MIN_WORDS:
        return f"too short: {words} words, {MIN_WORDS} are needed"
    return None


def _cut(text: str, granularity: str) -> _Cut:
    flat = flattened(text)
    spans = split(flat, granularity)
    tokens: list[str] = []
    bounds = [0]
    words = 0
    kept: list[Span] = []
    truncated = False
    for span in spans:
        found = tokenize(flat[span.start : span.end])
        if len(kept) < MAX_SEGMENTS and words < MAX_WORDS_ANALYSED:
            kept.append(span)
            tokens += found
            bounds.append(len(tokens))
        else:
            truncated = True
        words += sum(map(is_word, found))
    return _Cut(tokens, kept, np.array(bounds, dtype=np.int64), words, truncated)


def _document_windows(start: int, stop: int, word_sums: Ints, word_places: Ints) -> tuple[Ints, Ints]:
    """Up to MAX_DOCUMENT_WINDOWS windows of at most MAX_WINDOW_WORDS words, spread evenly over the text."""
    first, last = int(word_sums[start]), int(word_sums[stop])
    if last - first <= MAX_WINDOW_WORDS:
        return np.array([start]), np.array([stop])
    number = min(MAX_DOCUMENT_WINDOWS, -(-(last - first) // MAX_WINDOW_WORDS))
    begins = np.linspace(first, last - MAX_WINDOW_WORDS, number).astype(np.int64)
    begin = word_places[begins]
    begin[0] = start
    return begin, np.minimum(word_places[begins + MAX_WINDOW_WORDS], stop)


def _segment_windows(bounds: Ints, word_sums: Ints, word_places: Ints) -> tuple[Ints, Ints]:
    """The window in which each segment is scored."""
    begin, end = bounds[:-1].copy(), bounds[1:].copy()
    if not len(begin):
        return begin, end
    narrow = word_sums[end] - word_sums[begin] < WIDE_SEGMENT_WORDS
    before = np.maximum(np.arange(len(begin)) - 1, 0)
    after = np.minimum(np.arange(len(begin)) + 1, len(begin) - 1)
    wide_begin = np.where(narrow, bounds[:-1][before], begin)
    wide_end = np.where(narrow, bounds[1:][after], end)
    # neighbours may be huge: no window passes MAX_WINDOW_WORDS, and it keeps the segment's own beginning
    long_before = word_sums[begin] - word_sums[wide_begin] > MAX_WINDOW_WORDS // 3
    wide_begin = np.where(long_before, word_places[np.maximum(word_sums[begin] - MAX_WINDOW_WORDS // 3, 0)], wide_begin)
    limit = word_places[np.minimum(word_sums[wide_begin] + MAX_WINDOW_WORDS, len(word_places) - 1)]
    return wide_begin, np.maximum(np.minimum(wide_end, limit), wide_begin)
