"""The same grant number is granted anew instead of answered again."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/engine.py",
            "            if number and before == number:\n",
            "            if False:\n",
        ),
    ),
)
