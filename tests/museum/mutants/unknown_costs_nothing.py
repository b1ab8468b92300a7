"""A lost lease's reservation is given back as if it had cost nothing, and the ledger is not told."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/money.py",
            '        self._enter("unknown", row, row.reserved_micros)\n',
            '        self._enter("unknown", row, 0)\n',
        ),
    ),
)
