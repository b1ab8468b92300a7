"""A renewal that Redis hears after the end of its lease makes the lease anew."""

from __future__ import annotations

from tests.museum.mutant import Change, Mutant

MUTANT = Mutant(
    changes=(Change("scheduler/ready.py", '("extend", effects.renew)', '("renew", effects.renew)'),),
    pairs="renew-sweep",
    seeds=30,
    only_interleaved=True,
)
