"""A grant looks neither at the state of the run nor at whether it was proposed before a pause."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(
        Change("scheduler/store/leases.py", "unit.run.epoch == offer.epoch and _gives_out", "_gives_out"),
        Change(
            "scheduler/store/leases.py",
            "run.state == RunState.RUNNING and not run.waiting and",
            "not run.waiting and",
        ),
    ),
    seeds=0,
    pairs="grant-pause",
)
