"""A report is acknowledged whatever becomes of its transaction."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/commit.py",
            "    def _fail(self, call: _Call[Any], error: Exception) -> None:\n",
            "    def _fail(self, call: _Call[Any], error: Exception) -> None:\n"
            "        if not call.future.done():\n            call.future.set_result([])\n            return\n",
        ),
    ),
)
