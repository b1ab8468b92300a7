"""Clusters, neighbours and near-duplicates of 10,000 and 50,000 documents, from their sketches to the analysis.

The documents are made up: each draws about 300 words from one of 40 subjects of a Zipf vocabulary, every fiftieth is
an earlier one with some words changed. Each size runs in a process of its own, so that its peak is its own; making the
documents is not timed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np

from analyzer.domain.collection import CollectionBuilder
from analyzer.domain.sketch import MAX_TERMS, Sketch, shingles
from tests.bench import report

SIZES = (10_000, 50_000)
BOUNDS = {10_000: (15.0, None), 50_000: (120.0, 2_048.0)}
QUICK_SIZES = (2_000, 10_000)
SUBJECTS = 40
VOCABULARY = 40_000
WORDS = 300
DUPLICATE_EVERY = 50
CHANGED_WORDS = 0.05


def main(*, quick: bool = False) -> int:
    rows: list[report.Row] = []
    for size in QUICK_SIZES if quick else SIZES:
        command = [sys.executable, "-m", "tests.bench.collection", str(size)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
        rows.append(json.loads(answer.stdout))
    report.write("collection", rows)
    return 0


def measure(size: int) -> report.Row:
    """Analyses `size` documents; in a process of its own."""
    sketches = made_up(size)
    began, cpu = time.perf_counter(), time.process_time()
    builder = CollectionBuilder()
    for key, sketch in enumerate(sketches):
        builder.add(key, sketch, 0.5)
    found = builder.analyze()
    seconds = time.perf_counter() - began
    bound_seconds, bound_mb = BOUNDS.get(size, (None, None))
    return {
        "system": "analyzer collection",
        "items": size,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "bound_seconds": bound_seconds,
        "bound_mb": bound_mb,
        "clusters": len(found.clusters),
        "duplicate_groups": len(found.duplicates.groups),
    }


def made_up(size: int) -> list[Sketch]:
    """Sketches of made-up documents; the same for the same size."""
    random = np.random.default_rng(size)
    names = [f"w{_letters(number)}" for number in range(VOCABULARY)]
    hashes = random.integers(1, 2**63, VOCABULARY, dtype=np.int64).astype(np.uint64)
    chance = 1 / np.arange(1, VOCABULARY + 1)
    steps = np.cumsum(chance / chance.sum())
    orders = [random.permutation(VOCABULARY) for _ in range(SUBJECTS)]
    earlier: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    sketches = []
    for number in range(size):
        if number % DUPLICATE_EVERY == DUPLICATE_EVERY - 1:
            words = earlier[int(random.integers(len(earlier)))].copy()
            changed = random.random(len(words)) < CHANGED_WORDS
            words[changed] = random.integers(0, VOCABULARY, int(changed.sum()))
        else:
            ranks = np.minimum(np.searchsorted(steps, random.random(WORDS)), VOCABULARY - 1)
            own = random.random(WORDS) < 0.6
            words = np.where(own, orders[number % SUBJECTS][ranks], ranks)
            if number % 7 == 0:
                earlier.append(words)
        terms, counts = np.unique(words, return_counts=True)
        sketches.append(
            Sketch(
                terms=[names[term] for term in terms[:MAX_TERMS].tolist()],
                counts=np.minimum(counts[:MAX_TERMS], 255).astype(np.uint8),
                hashes=np.unique(shingles(hashes[words])),
                scale=0,
                words=WORDS,
            )
        )
    return sketches


def _letters(number: int) -> str:
    digits = []
    while True:
        number, digit = divmod(number, 26)
        digits.append(chr(ord("a") + digit))
        if not number:
            return "".join(digits)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdecimal():
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        raise SystemExit(main(quick="--quick" in sys.argv))
