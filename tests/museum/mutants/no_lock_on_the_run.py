"""The run's row is read without its lock."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/locking.py",
            "WHERE number = :n FOR UPDATE",
            "WHERE number = :n",
        ),
    ),
    pairs="report-pause,report-sweep",
    seeds=30,
    only_interleaved=True,
)
