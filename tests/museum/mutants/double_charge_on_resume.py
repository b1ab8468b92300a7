"""What a lost or stopped attempt is known to have cost is charged in full when its report comes, and its reservation
stays charged too."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(Change("scheduler/store/money.py", "        more = cost - reserved\n", "        more = cost\n"),),
    pairs="sweep-report",
)
