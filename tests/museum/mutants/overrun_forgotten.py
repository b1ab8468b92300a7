"""What passed its own reservation counts against no cap: new items start though nothing is left for them."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/money.py",
            "else row.budget_micros - row.spent_micros - row.reserved_micros\n",
            "else row.budget_micros - row.spent_micros - row.reserved_micros + row.overrun_micros\n",
        ),
    ),
)
