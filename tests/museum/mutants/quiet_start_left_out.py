"""Leases are declared lost though nobody could renew them for a while."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/sweeps.py",
            "            self._engine.quiet_until_ms = now + self._engine.term_ms",
            "            self._engine.quiet_until_ms = 0",
        ),
    ),
    seeds=0,
    pairs="grant-stood_still",
)
