"""A counter of the stage is not moved with its rows."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/due.py",
            "                stage.retry -= len(rows)\n",
            "                pass\n",
        ),
    ),
)
