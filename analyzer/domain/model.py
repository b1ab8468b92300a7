"""The shipped detector as plain numbers: what it looks at, with which weights, and how scores become probabilities.

The file is JSON (`analyzer/models/*.json`, at most 500 kB) with its provenance; it holds n-grams of word shapes and of
words that every training domain uses, never a text. A file that does not fit its own sizes is refused with ModelError:
a detector that guesses at its weights would be worse than none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.familiar import FamiliarWords
from analyzer.domain.levels import HIGH_ABOVE
from analyzer.domain.lexicon import Lexicon
from analyzer.domain.windows import STYLE, Counts

__all__ = ["Calibration", "Model", "ModelError", "default_path", "hedged", "load", "save"]

FORMAT = 1
STYLE_CLIP = 3.0
HEDGE_FROM = 0.55
SCHOLARLY_LETTERS = 5.0
"""Mean letters a word from which prose is of the scholarly kind: human abstracts have 5.1-6.2, news 4.3-5.1."""
Floats = NDArray[np.float64]


class ModelError(Exception):
    """A model file that can't be used."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = sigmoid(slope * (score - threshold(words)) + logit(0.7)).

    threshold(words) = base + spread / sqrt(words): the score that the stated share of human windows of that length
    passes, since short windows scatter more.
    """

    base: float
    spread: float
    slope: float

    def probability(self, scores: Floats, words: Floats) -> Floats:
        threshold = self.base + self.spread / np.sqrt(np.maximum(words, 1.0))
        logit = self.slope * (scores - threshold) + math.log(HIGH_ABOVE / (1 - HIGH_ABOVE))
        result: Floats = 1.0 / (1.0 + np.exp(-np.clip(logit, -30, 30)))
        return result


@dataclass(frozen=True, slots=True)
class Model:
    """A linear model over n-grams of symbols and standardised stylometry.

    ngrams: symbols joined by spaces; weights: one per n-gram; style_*: one per STYLE; document, segment: calibrations;
    middle: the score half-way between human and model text, from which the thresholds of another fit are carried over;
    familiar, most_unfamiliar: see `is_foreign`.
    """

    name: str
    version: int
    kept: frozenset[str]
    symbols: tuple[str, ...]
    ngrams: tuple[str, ...]
    weights: Floats
    style_mean: Floats
    style_sd: Floats
    style_weights: Floats
    document: Calibration
    segment: Calibration
    middle: float = 0.0
    familiar: FamiliarWords = field(default_factory=FamiliarWords)
    most_unfamiliar: float = 1.0
    provenance: Mapping[str, object] = field(default_factory=dict)

    def symbol_ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.symbols, start=1)}

    def numbered(self) -> list[tuple[int, ...]]:
        """The n-grams as symbol numbers. Raises ModelError for a symbol that the model does not list."""
        ids = self.symbol_ids()
        try:
            return [tuple(ids[name] for name in ngram.split(" ")) for ngram in self.ngrams]
        except KeyError as error:
            raise ModelError(f"the model's n-grams use the symbol {error}, which it does not list") from None

    def lexical(self, counts: Counts, windows: int) -> tuple[Floats, Floats]:
        """The contribution of every count, and their sum per window."""
        norm = np.sqrt(np.maximum(np.bincount(counts.window, counts.count, minlength=windows), 1e-9))
        parts = self.weights[counts.feature] * np.sqrt(counts.count) / norm[counts.window]
        return parts, np.bincount(counts.window, parts, minlength=windows).astype(np.float64)

    def lexicon(self) -> Lexicon:
        return Lexicon(self.kept, self.symbol_ids(), self.familiar)

    def is_foreign(self, unfamiliar: float, letters: float) -> bool:
        """Whether the thresholds may not hold for a text, so that it must not pass 0.7 (`hedged`): scholarly prose in
        words that the model does not know. Measured: of human abstracts, 9 in 10 pass the threshold of a model that
        has seen no abstracts; of human news, essays, reviews and stories next to none, however many words are new."""
        return unfamiliar > self.most_unfamiliar and letters >= SCHOLARLY_LETTERS

    def stylistic(self, style: Floats) -> Floats:
        """The contribution of every style feature, one row per window."""
        standard = np.clip((style - self.style_mean) / self.style_sd, -STYLE_CLIP, STYLE_CLIP)
        result: Floats = standard * self.style_weights
        return result


def hedged(probabilities: Floats) -> Floats:
    """The same probabilities drawn together above HEDGE_FROM so that none passes 0.7; their order stays."""
    over = np.maximum(probabilities - HEDGE_FROM, 0.0) / (1.0 - HEDGE_FROM)
    result: Floats = np.where(over > 0, HEDGE_FROM + over * (HIGH_ABOVE - HEDGE_FROM), probabilities)
    return result


def default_path() -> Path:
    return Path(__file__).parent.parent / "models" / "shapes.json"


def save(model: Model, path: Path) -> None:
    """Writes the model; weights are rounded to 8 bits, the rest to 6 digits. The same model gives the same bytes."""
    scale = float(np.abs(model.weights).max()) / 127.0
    document = {
        "format": FORMAT,
        "name": model.name,
        "version": model.version,
        "provenance": dict(model.provenance),
        "calibration": {
            name: {"base": _six(each.base), "spread": _six(each.spread), "slope": _six(each.slope)}
            for name, each in (("document", model.document), ("segment", model.segment))
        },
        "style": {
            name: [_six(values[0]), _six(values[1]), _six(values[2])]
            for name, *values in zip(STYLE, model.style_mean, model.style_sd, model.style_weights, strict=True)
        },
        "kept": sorted(model.kept),
        "symbols": list(model.symbols),
        "middle": _six(model.middle),
        "most_unfamiliar": _six(model.most_unfamiliar),
        "scale": float(f"{scale:.9g}"),
        "weights": [round(float(weight) / scale) for weight in model.weights],
        "ngrams": list(model.ngrams),
        "familiar": model.familiar.to_text(),
    }
    parts = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=True)}" for key, value in document.items())
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def load(path: Path) -> Model:
    """Reads a model. Raises ModelError, naming the file."""
    try:
        raw = json.loads(path.read_text())
        if raw["format"] != FORMAT:
            raise ModelError(f"{path}: format {raw['format']}, this program reads {FORMAT}")
        if list(raw["style"]) != list(STYLE) or len(raw["weights"]) != len(raw["ngrams"]):
            raise ModelError(f"{path}: its sizes do not fit each other")
        style = np.array(list(raw["style"].values()), dtype=np.float64)
        model = Model(
            name=raw["name"],
            version=raw["version"],
            kept=frozenset(raw["kept"]),
            symbols=tuple(raw["symbols"]),
            ngrams=tuple(raw["ngrams"]),
            weights=np.array(raw["weights"], dtype=np.float64) * raw["scale"],
            style_mean=style[:, 0],
            style_sd=style[:, 1],
            style_weights=style[:, 2],
            document=Calibration(**raw["calibration"]["document"]),
            segment=Calibration(**raw["calibration"]["segment"]),
            middle=raw["middle"],
            familiar=FamiliarWords.from_text(raw["familiar"]),
            most_unfamiliar=raw["most_unfamiliar"],
            provenance=raw["provenance"],
        )
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: {type(error).__name__}: {error}") from error
    model.numbered()
    return model


def _six(value: float) -> float:
    return float(f"{float(value):.6g}")
