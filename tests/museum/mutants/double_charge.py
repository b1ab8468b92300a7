"""A cost is entered into the run twice."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/money.py",
            "        self.unit.run.spent_micros += micros\n",
            "        self.unit.run.spent_micros += 2 * micros\n",
        ),
    ),
)
