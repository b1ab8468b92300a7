"""What was reserved for an attempt stays reserved after its end."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/money.py",
            "            self.unit.run.reserved_micros -= reserved\n"
            "            self.stage.reserved_micros -= reserved\n",
            "            pass\n",
        ),
        Change(
            "scheduler/store/money.py",
            "        self.unit.run.reserved_micros -= freed\n        self.stage.reserved_micros -= freed\n",
            "",
        ),
    ),
)
