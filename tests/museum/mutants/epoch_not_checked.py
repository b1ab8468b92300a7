"""What was proposed before a pause is granted after the run went on."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(Change("scheduler/store/leases.py", "unit.run.epoch == offer.epoch and _gives_out", "_gives_out"),),
    seeds=0,
    pairs="grant-go_round",
)
