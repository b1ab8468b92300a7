"""The counters of the stages are read outside what the lock of the run holds together."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/locking.py",
            '[(_LOCK, {"n": number}), (_STAGES, {"n": number}), *last]',
            '[(_STAGES, {"n": number}), (_LOCK, {"n": number}), *last]',
        ),
        Change(
            "scheduler/store/locking.py",
            "    rows, found = next(answers), next(answers)\n",
            "    found, rows = next(answers), next(answers)\n",
        ),
    ),
    pairs="report-sweep,report-skip",
    seeds=30,
    only_interleaved=True,
)
