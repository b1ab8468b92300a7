"""Proposals that SQL refused are not handed back."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/leases.py",
            "    if startable:\n        effects.ready",
            "    if False:\n        effects.ready",
        ),
    ),
)
