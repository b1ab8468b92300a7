"""The attempt does not rise with a grant: an older lease's fence holds again."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/items.py",
            "attempt = items.attempt + 1,",
            "attempt = items.attempt,",
        ),
    ),
)
