"""The labelled texts that the detector is trained and measured on, read from a folder that is not part of the project.

`texts.jsonl.gz`: id, corpus, domain, generator, group, label (1 = model), text. `news.jsonl.gz`: label, text.
Absent data is MissingData, a sentence for the user: nothing is made up in its place.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.tokens import flattened, is_word, tokenize

__all__ = ["Corpus", "MissingData", "fingerprint", "news", "texts"]


class MissingData(Exception):
    """A data file that is needed and not there."""


@dataclass(frozen=True)
class Corpus:
    """Texts, their tokens and their labels, all of one length."""

    texts: Sequence[str]
    tokens: Sequence[list[str]]
    labels: NDArray[np.int64]
    domains: NDArray[np.str_]
    generators: NDArray[np.str_]
    groups: NDArray[np.str_]
    words: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, chosen: NDArray[np.bool_]) -> Corpus:
        at = np.flatnonzero(chosen)
        return Corpus(
            [self.texts[index] for index in at.tolist()],
            [self.tokens[index] for index in at.tolist()],
            self.labels[at],
            self.domains[at],
            self.generators[at],
            self.groups[at],
            self.words[at],
        )


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        raise MissingData(f"{path} is missing: give the folder of texts.jsonl.gz and news.jsonl.gz by --data") from None


def texts(folder: Path) -> Corpus:
    """The human and model-written texts. Raises MissingData."""
    rows = _lines(folder / "texts.jsonl.gz")
    tokens = [tokenize(flattened(row["text"])) for row in rows]
    return Corpus(
        [row["text"] for row in rows],
        tokens,
        np.array([int(row["label"]) for row in rows]),
        np.array([row["domain"] for row in rows]),
        np.array([row["generator"] for row in rows]),
        np.array([row["group"] for row in rows]),
        np.array([sum(map(is_word, each)) for each in tokens]),
    )


def news(folder: Path) -> tuple[list[str], list[str]]:
    """News articles written by people, and their classes. Raises MissingData."""
    rows = _lines(folder / "news.jsonl.gz")
    return [row["text"] for row in rows], [row["label"] for row in rows]


def fingerprint(folder: Path) -> str:
    """SHA-256 of the training file, for a model's provenance."""
    return hashlib.sha256((folder / "texts.jsonl.gz").read_bytes()).hexdigest()
