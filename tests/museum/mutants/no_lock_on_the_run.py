"""The run's row is read without its lock."""

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
    pairs="report-pause or pause-report or report-sweep or sweep-report",
)
