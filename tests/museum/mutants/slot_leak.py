"""An ended lease keeps its slot."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/lua/apply.lua",
            "(slots[name] or 0) - by end",
            "(slots[name] or 0) end",
        ),
    ),
)
