"""A cap is read before the lock and written after it."""

from __future__ import annotations

from tests.museum.mutant import INTERLEAVED, Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/unit.py",
            "WHERE number = :n FOR UPDATE",
            "WHERE number = :n",
        ),
    ),
    by=INTERLEAVED,
    pairs="raise_budget-report or report-raise_budget or lower_budget-report",
)
