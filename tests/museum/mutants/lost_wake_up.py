"""Nobody hears that a run was moved: its stage is never opened."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/watching.py",
            "        self.numbers.add(number)\n        self.some.set()\n",
            "        pass\n",
        ),
        Change(
            "scheduler/following.py",
            "self._moved.numbers |= await self._windows.astray() if self._engine.granting else set()",
            "pass",
        ),
    ),
)
