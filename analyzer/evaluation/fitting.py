"""One pipeline that turns labelled texts into a model, used for the shipped model and for every fold alike.

What makes it carry over to subjects that it never saw:
- words that not every training domain uses become shapes, and n-grams must be frequent in two domains or more;
- every domain, and within it human text and each generator, weighs the same;
- each domain has its own intercept while weights are fitted, so that a domain's level is not learned as evidence, and
  a penalty draws the levels of the domains together, so that one threshold can serve them all;
- strong L2, and random crops of 50-300 words instead of whole texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from analyzer.domain.familiar import FamiliarWords
from analyzer.domain.lexicon import Lexicon
from analyzer.domain.model import STYLE_CLIP, Calibration, Model
from analyzer.domain.shapes import symbol
from analyzer.domain.tokens import is_word
from analyzer.domain.windows import Encoded, NgramIndex, encode, ngram_counts, stylometry
from analyzer.evaluation.corpus import Corpus

__all__ = ["crops", "fit", "score", "weights"]

KEPT_SHARE = 0.03  # of the texts of every domain
NGRAM_SHARE = 0.004  # of the texts of at least NGRAM_DOMAINS domains
NGRAM_DOMAINS = 2
MAX_NGRAMS = 6_000
CROP_WORDS = (50, 300)
LOSS_WEIGHT = 0.1  # against the L2 penalty
LEVEL_PENALTY = 0.005
STYLE_SCALE = 0.03
BLOCK_TEXTS = 500
FAMILIAR_SHARE = 0.0005  # of the texts
MAX_STEPS = 200

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Texts = Sequence[list[str]]


def fit(corpus: Corpus, *, seed: int) -> Model:
    """A model without calibration (both are the identity around 0). Deterministic for a corpus and a seed."""
    texts = crops(corpus.tokens, corpus.words, np.random.default_rng(seed), CROP_WORDS)
    kept = _kept_words(texts, corpus.domains)
    symbols = tuple(sorted({symbol(token, kept) for token in {token for tokens in texts for token in tokens}}))
    lexicon = Lexicon(kept, {name: number for number, name in enumerate(symbols, start=1)})
    ngrams = _choose_ngrams(lexicon, texts, corpus.domains, len(symbols))
    lexical, style = _features(lexicon, NgramIndex(ngrams, len(symbols)), texts, len(ngrams))
    mean, sd = style.mean(axis=0), style.std(axis=0) + 1e-9
    styled = np.clip((style - mean) / sd, -STYLE_CLIP, STYLE_CLIP) * STYLE_SCALE
    features = sparse.hstack([lexical, sparse.csr_matrix(styled)]).tocsr()
    coefficients, level = _minimum(features, corpus)
    used = {number for ngram in ngrams for number in ngram}
    identity = Calibration(base=0.0, spread=0.0, slope=1.0)
    return Model(
        name="shapes",
        version=1,
        kept=kept,
        symbols=tuple(name for number, name in enumerate(symbols, start=1) if number in used),
        ngrams=tuple(" ".join(symbols[number - 1] for number in ngram) for ngram in ngrams),
        weights=coefficients[: len(ngrams)],
        style_mean=mean,
        style_sd=sd,
        style_weights=coefficients[len(ngrams) :] * STYLE_SCALE,
        document=identity,
        segment=identity,
        middle=level,
        familiar=FamiliarWords.of(_familiar_words(texts)),
    )


def score(model: Model, texts: Texts) -> Floats:
    """The score of each text as one window, less the model's own middle between human and model text."""
    lexicon = Lexicon(model.kept, model.symbol_ids())
    index = NgramIndex(model.numbered(), len(model.symbols))
    found = [np.zeros(0)]
    for encoded in _blocks(lexicon, texts):
        begin, end = encoded.starts[:-1], encoded.starts[1:] - 1
        _, lexical = model.lexical(ngram_counts(encoded, index, begin, end), len(begin))
        found.append(lexical + model.stylistic(stylometry(encoded, begin, end)).sum(axis=1) - model.middle)
    return np.concatenate(found)


def crops(texts: Texts, words: Ints, random: np.random.Generator, bounds: tuple[int, int]) -> list[list[str]]:
    """One random stretch of bounds[0]-bounds[1] words of each text; all of it where it is shorter."""
    sizes = random.integers(bounds[0], bounds[1] + 1, len(texts))
    places = random.random(len(texts))
    found = []
    for tokens, total, size, place in zip(texts, words, sizes, places, strict=True):
        if total <= size:
            found.append(tokens)
            continue
        at = [position for position, token in enumerate(tokens) if is_word(token)]
        first = int(place * (total - size + 1))
        stop = at[first + size] if first + size < total else len(tokens)
        found.append(tokens[at[first] if first else 0 : stop])
    return found


def weights(corpus: Corpus) -> Floats:
    """Sample weights: every domain the same, in it human = model, among models every generator the same."""
    result = np.zeros(len(corpus))
    for domain in np.unique(corpus.domains):
        inside = corpus.domains == domain
        generators = np.unique(corpus.generators[inside & (corpus.labels == 1)])
        for generator in np.unique(corpus.generators[inside]):
            chosen = inside & (corpus.generators == generator)
            human = corpus.labels[chosen][0] == 0
            result[chosen] = (1.0 if human else 1.0 / len(generators)) / chosen.sum()
    scaled: Floats = result * (len(corpus) / result.sum())
    return scaled


@dataclass(frozen=True)
class _Loss:
    """Logistic loss with L2, one free intercept a domain, and a penalty on how far apart the domains' levels lie."""

    features: sparse.csr_matrix
    transposed: sparse.csr_matrix
    signs: Floats
    share: Floats
    domain: Ints
    levels: Floats  # domain x feature: the domain's middle less the mean of the middles, times sqrt(penalty)

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        size = self.features.shape[1]
        weight, intercept = values[:size], values[size:]
        margin = self.signs * (self.features @ weight + intercept[self.domain])
        apart = self.levels @ weight
        loss = LOSS_WEIGHT * float((self.share * np.logaddexp(0, -margin)).sum())
        loss += 0.5 * float(weight @ weight) + 0.5 * float(apart @ apart) + 5e-4 * float(intercept @ intercept)
        slope = -LOSS_WEIGHT * self.share * self.signs / (1 + np.exp(np.clip(margin, -500, 500)))
        gradient = np.concatenate(
            [
                self.transposed @ slope + weight + self.levels.T @ apart,
                np.bincount(self.domain, slope, minlength=len(intercept)) + 1e-3 * intercept,
            ]
        )
        return loss, gradient


def _minimum(features: sparse.csr_matrix, corpus: Corpus) -> tuple[Floats, float]:
    """The weights, and the score half-way between human and model text (the mean over domains)."""
    names, domain = np.unique(corpus.domains, return_inverse=True)
    share: Floats = weights(corpus).astype(np.float64)
    transposed = features.T.tocsr()
    middles = []
    for number in range(len(names)):
        sides = []
        for label in (0, 1):
            chosen = share * ((domain == number) & (corpus.labels == label))
            sides.append((transposed @ chosen) / chosen.sum())
        middles.append((sides[0] + sides[1]) / 2)
    middle = np.array(middles)
    levels = (middle - middle.mean(axis=0)) * float(np.sqrt(LEVEL_PENALTY * len(corpus)))
    signs: Floats = 2.0 * corpus.labels.astype(np.float64) - 1.0
    loss = _Loss(features, transposed, signs, share, domain, levels)
    start = np.zeros(features.shape[1] + len(names))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS, "ftol": 1e-8})
    coefficients: Floats = found.x[: features.shape[1]]
    return coefficients, float(middle.mean(axis=0) @ coefficients)


def _blocks(lexicon: Lexicon, texts: Texts) -> Iterator[Encoded]:
    for first in range(0, len(texts), BLOCK_TEXTS):
        yield encode(lexicon, list(texts[first : first + BLOCK_TEXTS]))


def _features(lexicon: Lexicon, index: NgramIndex, texts: Texts, size: int) -> tuple[sparse.csr_matrix, Floats]:
    lexical, style = [], []
    for encoded in _blocks(lexicon, texts):
        begin, end = encoded.starts[:-1], encoded.starts[1:] - 1
        counts = ngram_counts(encoded, index, begin, end)
        norm = np.sqrt(np.maximum(np.bincount(counts.window, counts.count, minlength=len(begin)), 1e-9))
        values = np.sqrt(counts.count) / norm[counts.window]
        lexical.append(sparse.csr_matrix((values, (counts.window, counts.feature)), shape=(len(begin), size)))
        style.append(stylometry(encoded, begin, end))
    return sparse.vstack(lexical).tocsr(), np.concatenate(style)


def _kept_words(texts: Texts, domains: NDArray[np.str_]) -> frozenset[str]:
    spread: Counter[str] = Counter()
    names = np.unique(domains)
    for name in names:
        inside = np.flatnonzero(domains == name).tolist()
        seen: Counter[str] = Counter()
        for index in inside:
            seen.update({token.lower() for token in texts[index] if is_word(token)})
        spread.update(word for word, count in seen.items() if count >= KEPT_SHARE * len(inside) and word.isascii())
    return frozenset(word for word, count in spread.items() if count == len(names))


def _familiar_words(texts: Texts) -> list[str]:
    seen: Counter[str] = Counter()
    for tokens in texts:
        seen.update({token.lower() for token in tokens if is_word(token)})
    return sorted(word for word, count in seen.items() if count >= max(2, FAMILIAR_SHARE * len(texts)))


def _choose_ngrams(lexicon: Lexicon, texts: Texts, domains: NDArray[np.str_], symbols: int) -> list[tuple[int, ...]]:
    """The n-grams of 1-3 symbols that are frequent in NGRAM_DOMAINS domains, the most frequent first kept."""
    names, domain = np.unique(domains, return_inverse=True)
    base = symbols + 1
    keys, tallies = [], []
    first = 0
    for encoded in _blocks(lexicon, texts):
        count = len(encoded.starts) - 1
        owner = np.repeat(np.arange(count), np.diff(encoded.starts))
        wide = np.where(encoded.rows >= 0, lexicon.symbols[encoded.rows], 0).astype(np.int64)
        key = np.zeros(len(wide), dtype=np.int64)
        pairs = []
        for n in range(3):
            shifted = np.append(wide[n:], np.zeros(n, dtype=np.int64))
            key = np.where((key > 0) | (n == 0), key * base + shifted, 0) * (shifted > 0)
            pairs.append(key[key > 0] * count + owner[key > 0])
        found = np.unique(np.concatenate(pairs))
        unique, tally = np.unique(
            (found // count) * len(names) + domain[first : first + count][found % count], return_counts=True
        )
        keys.append(unique)
        tallies.append(tally)
        first += count
    unique, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(tallies))
    share = total / np.bincount(domain)[unique % len(names)]
    ngram, owner = np.unique(unique // len(names), return_inverse=True)
    spread = np.bincount(owner, share >= NGRAM_SHARE)
    mean = np.bincount(owner, share)
    wanted = np.flatnonzero(spread >= min(NGRAM_DOMAINS, len(names)))
    best = wanted[np.argsort(-mean[wanted], kind="stable")][:MAX_NGRAMS]
    chosen = []
    for key_of in sorted(int(ngram[index]) for index in best):
        numbers = []
        while key_of:
            key_of, number = divmod(key_of, base)
            numbers.append(number)
        chosen.append(tuple(reversed(numbers)))
    return chosen
