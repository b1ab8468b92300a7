"""The models of a cross-validation: for each part held out, the pipeline fitted afresh on the rest.

Two kinds of parts: whole domains ("unseen": what the detector must do on subjects that it does not know) and random
thirds by group ("known": texts of one prompt are never on both sides). Fits run in two processes; the result does not
depend on how many.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.model import Model
from analyzer.evaluation.corpus import Corpus
from analyzer.evaluation.fitting import fit

__all__ = ["GROUP_FOLDS", "Fold", "Folds", "fitted_folds"]

GROUP_FOLDS = 3
PROCESSES = 2

_corpus: Corpus | None = None  # handed to the forked processes


@dataclass(frozen=True)
class Fold:
    """What was held out, and the model that did not see it."""

    name: str
    held_out: NDArray[np.bool_]
    model: Model


@dataclass(frozen=True)
class Folds:
    unseen: tuple[Fold, ...]
    known: tuple[Fold, ...]


def fitted_folds(corpus: Corpus, *, seed: int) -> Folds:
    """Fits every fold. Takes about 5 s of CPU each."""
    global _corpus
    names = np.unique(corpus.domains).tolist()
    masks = [corpus.domains == name for name in names] + _group_masks(corpus)
    _corpus = corpus
    try:
        processes = max(1, min(PROCESSES, os.cpu_count() or 1))
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
            models = list(pool.map(_fit_without, masks, [seed] * len(masks)))
    finally:
        _corpus = None
    folds = [
        Fold(name, mask, model)
        for name, mask, model in zip(
            [*names, *(f"third {number}" for number in range(1, GROUP_FOLDS + 1))], masks, models, strict=True
        )
    ]
    return Folds(tuple(folds[: len(names)]), tuple(folds[len(names) :]))


def _fit_without(held_out: NDArray[np.bool_], seed: int) -> Model:
    assert _corpus is not None, "set before the processes fork"
    return fit(_corpus.take(~held_out), seed=seed)


def _group_masks(corpus: Corpus) -> list[NDArray[np.bool_]]:
    names, place = np.unique(corpus.groups, return_inverse=True)
    fold = np.random.default_rng(GROUP_FOLDS).permutation(len(names)) % GROUP_FOLDS
    return [fold[place] == number for number in range(GROUP_FOLDS)]
