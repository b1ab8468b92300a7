"""A grant does not look at the state of the run."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change(
            "scheduler/store/leases.py",
            "run.state == RunState.RUNNING and not run.waiting and",
            "not run.waiting and",
        ),
    ),
)
